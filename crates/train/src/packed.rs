//! Batches of pretraining: documents in random order, packed back to back and cut into rows.
//!
//! Any step can be asked for at any time. An epoch's order follows from the seed and the epoch's number alone, so
//! nothing has to be replayed and nothing remembered over a resume.

use std::sync::{Arc, Mutex, PoisonError};

use corpus::blend::Blend;
use corpus::indexed::Dataset;
use ledger::seed::Seed;
use model::Batch;

use crate::{Batches, Error};

/// Tokenised documents, by index.
pub trait Documents: Sync {
    /// Number of documents.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of a document.
    fn size(&self, document: usize) -> usize;

    /// Copies the tokens of `document` from `offset` on into `tokens`, all of it.
    fn read(&self, document: usize, offset: usize, tokens: &mut [u32]);
}

impl Documents for Vec<Vec<u32>> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn size(&self, document: usize) -> usize {
        self[document].len()
    }

    fn read(&self, document: usize, offset: usize, tokens: &mut [u32]) {
        tokens.copy_from_slice(&self[document][offset..offset + tokens.len()]);
    }
}

impl Documents for Dataset {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn size(&self, document: usize) -> usize {
        self.sizes()[document] as usize
    }

    fn read(&self, document: usize, offset: usize, tokens: &mut [u32]) {
        let copied = self.document(document).copy_to(offset, tokens);
        assert_eq!(copied, tokens.len(), "document {document} ends before the place that its size names");
    }
}

impl Documents for Blend<'_> {
    fn len(&self) -> usize {
        Self::len(self)
    }

    fn size(&self, document: usize) -> usize {
        Self::size(self, document) as usize
    }

    fn read(&self, document: usize, offset: usize, tokens: &mut [u32]) {
        let copied = self.document(document).copy_to(offset, tokens);
        assert_eq!(copied, tokens.len(), "document {document} ends before the place that its size names");
    }
}

/// The batches of a set of documents.
///
/// In each epoch the documents are put in random order and laid back to back; each row takes `seq_len + 1` tokens, the
/// last of which is the first of the next row, so that every token is predicted once. Then the rows are put in random
/// order too: a long document would otherwise fill whole batches by itself. Up to `seq_len` tokens at the end of an
/// epoch's order are left out, others in each epoch.
///
/// A document that a row cuts goes on in another row as if it began there.
pub struct PackedBatches<D> {
    documents: D,
    seq_len: usize,
    rows: usize,
    accumulation: u32,
    seed: Seed,
    rows_per_epoch: u64,
    /// The epochs in use: two around the border between them.
    epochs: Mutex<Vec<Arc<Epoch>>>,
}

struct Epoch {
    number: u64,
    /// Documents in this epoch's order.
    order: Vec<u32>,
    /// For each of them, the place in the epoch's tokens at which it ends.
    ends: Vec<u64>,
    /// Rows in this epoch's order.
    rows: Vec<u32>,
}

/// A stretch of a row that comes from one document.
struct Piece {
    document: usize,
    offset: usize,
    column: usize,
    length: usize,
}

impl<D: Documents> PackedBatches<D> {
    /// Batches of `rows` rows of `seq_len` tokens, `accumulation` of them a step. Errors when the documents do not fill a
    /// single row.
    pub fn new(
        documents: D,
        seq_len: usize,
        rows: usize,
        accumulation: u32,
        seed: Seed,
    ) -> Result<Self, Error> {
        let tokens: u64 = (0..documents.len()).map(|document| documents.size(document) as u64).sum();
        let rows_per_epoch = tokens.saturating_sub(1) / seq_len.max(1) as u64;
        if seq_len == 0 || rows == 0 || accumulation == 0 || rows_per_epoch == 0 {
            return Err(Error::TooFewTokens { tokens, documents: documents.len(), row: seq_len as u64 + 1 });
        }
        Ok(Self { documents, seq_len, rows, accumulation, seed, rows_per_epoch, epochs: Mutex::default() })
    }

    /// Steps in which every row is seen once, the last one rounded up.
    pub fn steps_per_epoch(&self) -> u64 {
        self.rows_per_epoch.div_ceil(self.rows as u64 * u64::from(self.accumulation))
    }

    fn epoch(&self, number: u64) -> Arc<Epoch> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(epoch) = epochs.iter().find(|epoch| epoch.number == number) {
            return epoch.clone();
        }
        let mut order: Vec<u32> = (0..self.documents.len() as u32).collect();
        self.seed.stream("train.packed.documents", number).shuffle(&mut order);
        let mut end = 0;
        let ends = order
            .iter()
            .map(|&document| {
                end += self.documents.size(document as usize) as u64;
                end
            })
            .collect();
        let mut rows: Vec<u32> = (0..self.rows_per_epoch as u32).collect();
        self.seed.stream("train.packed.rows", number).shuffle(&mut rows);
        let epoch = Arc::new(Epoch { number, order, ends, rows });
        if epochs.len() == 2 {
            epochs.remove(0);
        }
        epochs.push(epoch.clone());
        epoch
    }

    /// The stretches of the `row`th row since the beginning of training, its last target included.
    fn pieces(&self, row: u64) -> Vec<Piece> {
        let epoch = self.epoch(row / self.rows_per_epoch);
        let mut place = u64::from(epoch.rows[(row % self.rows_per_epoch) as usize]) * self.seq_len as u64;
        let mut next = epoch.ends.partition_point(|&end| end <= place);
        let mut pieces = Vec::new();
        let mut column = 0;
        while column <= self.seq_len {
            let document = epoch.order[next] as usize;
            let size = self.documents.size(document);
            let offset = size - (epoch.ends[next] - place) as usize;
            let length = (size - offset).min(self.seq_len + 1 - column);
            if length > 0 {
                pieces.push(Piece { document, offset, column, length });
            }
            column += length;
            place += length as u64;
            next += 1;
        }
        pieces
    }

    fn first_row(&self, step: u64, micro: u32) -> u64 {
        (step * u64::from(self.accumulation) + u64::from(micro)) * self.rows as u64
    }
}

impl<D: Documents> Batches for PackedBatches<D> {
    fn fill(&self, step: u64, micro: u32, batch: &mut Batch) {
        assert_eq!(
            (batch.rows, batch.seq_len),
            (self.rows, self.seq_len),
            "the batch has another shape than its source"
        );
        let mut tokens = vec![0; self.seq_len + 1];
        for row in 0..self.rows {
            let here = row * self.seq_len..(row + 1) * self.seq_len;
            let weights = &mut batch.loss_weights[here.clone()];
            let starts = &mut batch.document_starts[here.clone()];
            weights.fill(1.0);
            for piece in self.pieces(self.first_row(step, micro) + row as u64) {
                let Piece { document, offset, column, length } = piece;
                self.documents.read(document, offset, &mut tokens[column..column + length]);
                if column < self.seq_len {
                    starts[column..(column + length).min(self.seq_len)].fill(column as u32);
                }
                // What a document begins with cannot be told from the one before it.
                if column > 0 {
                    weights[column - 1] = 0.0;
                }
            }
            batch.inputs[here.clone()].copy_from_slice(&tokens[..self.seq_len]);
            batch.targets[here].copy_from_slice(&tokens[1..]);
        }
    }

    fn describe(&self, step: u64, micro: u32) -> String {
        const SHOWN: usize = 12;
        let first = self.first_row(step, micro);
        let mut documents: Vec<usize> = (first..first + self.rows as u64)
            .flat_map(|row| self.pieces(row))
            .map(|piece| piece.document)
            .collect();
        documents.sort_unstable();
        documents.dedup();
        let mut text = format!("{} training documents: ", documents.len());
        let shown: Vec<String> = documents.iter().take(SHOWN).map(usize::to_string).collect();
        text += &shown.join(", ");
        if documents.len() > SHOWN {
            text += ", ...";
        }
        text
    }
}

#[cfg(test)]
mod tests;
