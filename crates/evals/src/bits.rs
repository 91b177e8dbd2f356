//! Bits per byte on held-out documents: how well the model foretells text, independent of its vocabulary.
//!
//! Every token of a document but its `<|begin_of_text|>` is predicted exactly once, its `<|end_of_text|>` included; the
//! bits are divided by the bytes of its text. A document longer than a row is measured in disjoint stretches, each of
//! which begins without what came before, except for the one token that leads to its first prediction. That costs a
//! little (a sliding window would show more context) and is the same for every model measured with the same row.

use crate::{Error, Settings};
use ledger::progress::{Progress, Unit};
use model::{Batch, Weights, Workspace};
use serde::{Deserialize, Serialize};
use tokenizer::Tokenizer;
use train::packed::Documents;

/// How well text was foretold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BitsPerByte {
    /// Bits of all predicted tokens over the bytes of the documents.
    pub bits_per_byte: f64,
    /// Mean loss of a token, in nats.
    pub nats_per_token: f64,
    /// Documents measured.
    pub documents: u64,
    /// Tokens predicted.
    pub tokens: u64,
    /// Bytes of their text.
    pub bytes: u64,
}

/// Measures bits per byte on the first documents, as many as hold `settings.held_out_tokens`.
///
/// # Errors
/// Where there is no document with text, or one holds a token outside the vocabulary.
pub fn bits_per_byte(
    weights: &Weights,
    tokenizer: &Tokenizer,
    documents: &dyn Documents,
    settings: &Settings,
    precision: train::settings::Precision,
    progress: &dyn Progress,
) -> Result<BitsPerByte, Error> {
    settings.validate()?;
    let (mut chosen, mut tokens) = (0, 0);
    while chosen < documents.len()
        && (chosen == 0 || tokens + documents.size(chosen) as u64 <= settings.held_out_tokens)
    {
        tokens += documents.size(chosen) as u64;
        chosen += 1;
    }
    let task = progress.begin("bits per byte", Some(tokens), Unit::Tokens);
    let seq_len = settings.seq_len.min(weights.config.max_seq_len);
    let mut workspace = Workspace::forward_only(&weights.config, settings.rows, seq_len);
    let mut filler = Filler { batch: Batch::new(settings.rows, seq_len), row: 0, column: 0 };
    let (mut nats, mut predicted, mut bytes) = (0.0f64, 0u64, 0u64);
    let mut measure = |filler: &mut Filler| -> Result<(), Error> {
        filler.pad();
        let sums = model::forward::loss(weights, &filler.batch, &mut workspace, precision.resolve())?;
        nats += sums.weighted;
        predicted += sums.weight as u64;
        filler.clear();
        Ok(())
    };
    let mut document = Vec::new();
    for index in 0..chosen {
        document.resize(documents.size(index), 0);
        documents.read(index, 0, &mut document);
        let text = document.iter().filter(|&&token| !tokenizer.is_special(token));
        bytes += text
            .filter_map(|&token| tokenizer.token_bytes(token))
            .map(|bytes| bytes.len() as u64)
            .sum::<u64>();
        // A stretch of n predictions takes n + 1 tokens; the last of them leads to the next stretch.
        let mut first = 0;
        while first + 1 < document.len() {
            if filler.is_full() {
                measure(&mut filler)?;
            }
            let end = document.len().min(first + filler.room() + 1);
            filler.push(&document[first..end]);
            task.advance((end - first - 1) as u64);
            first = end - 1;
        }
    }
    if filler.row > 0 || filler.column > 0 {
        measure(&mut filler)?;
    }
    if predicted == 0 || bytes == 0 {
        return Err(Error::NoDocuments);
    }
    Ok(BitsPerByte {
        bits_per_byte: nats / std::f64::consts::LN_2 / bytes as f64,
        nats_per_token: nats / predicted as f64,
        documents: chosen as u64,
        tokens: predicted,
        bytes,
    })
}

/// Lays stretches of documents into the rows of a batch.
struct Filler {
    batch: Batch,
    row: usize,
    column: usize,
}

impl Filler {
    /// A stretch goes on in the current row where at least a quarter of the row is left, so that short documents share
    /// rows and long ones are not cut into slivers.
    fn room(&mut self) -> usize {
        let left = self.batch.seq_len - self.column;
        if left * 4 < self.batch.seq_len && self.row + 1 < self.batch.rows {
            self.next_row();
            return self.batch.seq_len;
        }
        left
    }

    fn is_full(&self) -> bool {
        let last = self.row + 1 >= self.batch.rows;
        self.row >= self.batch.rows || last && (self.batch.seq_len - self.column) * 4 < self.batch.seq_len
    }

    fn push(&mut self, tokens: &[u32]) {
        let count = tokens.len() - 1;
        let first = self.row * self.batch.seq_len + self.column;
        let here = first..first + count;
        self.batch.inputs[here.clone()].copy_from_slice(&tokens[..count]);
        self.batch.targets[here.clone()].copy_from_slice(&tokens[1..]);
        self.batch.loss_weights[here.clone()].fill(1.0);
        self.batch.document_starts[here].fill(self.column as u32);
        self.column += count;
        if self.column == self.batch.seq_len {
            self.row += 1;
            self.column = 0;
        }
    }

    /// Fills what is left of the current row with a document of its own that is not predicted.
    fn next_row(&mut self) {
        let first = self.row * self.batch.seq_len + self.column;
        let rest = first..(self.row + 1) * self.batch.seq_len;
        self.batch.inputs[rest.clone()].fill(0);
        self.batch.targets[rest.clone()].fill(0);
        self.batch.loss_weights[rest.clone()].fill(0.0);
        self.batch.document_starts[rest].fill(self.column as u32);
        self.row += 1;
        self.column = 0;
    }

    fn pad(&mut self) {
        while self.row < self.batch.rows {
            self.next_row();
        }
    }

    fn clear(&mut self) {
        (self.row, self.column) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lays out documents and returns, for each batch, which (input, target) pairs are predicted.
    fn laid_out(sizes: &[usize], rows: usize, seq_len: usize) -> Vec<(u32, u32)> {
        let mut filler = Filler { batch: Batch::new(rows, seq_len), row: 0, column: 0 };
        let config = model::Config { vocab_size: 1000 * sizes.len(), ..train::Size::Nano.plan().model };
        let mut pairs = Vec::new();
        let mut take = |filler: &mut Filler| {
            filler.pad();
            filler.batch.validate(&config).unwrap();
            let batch = &filler.batch;
            let predicted = (0..batch.tokens()).filter(|&place| batch.loss_weights[place] > 0.0);
            pairs.extend(predicted.map(|place| (batch.inputs[place], batch.targets[place])));
            filler.clear();
        };
        for (document, &size) in sizes.iter().enumerate() {
            let tokens: Vec<u32> = (0..size).map(|place| (document * 1000 + place) as u32).collect();
            let mut first = 0;
            while first + 1 < tokens.len() {
                if filler.is_full() {
                    take(&mut filler);
                }
                let end = tokens.len().min(first + filler.room() + 1);
                filler.push(&tokens[first..end]);
                first = end - 1;
            }
        }
        take(&mut filler);
        pairs
    }

    #[test]
    fn every_token_but_the_first_is_predicted_once() {
        for (sizes, rows, seq_len) in [
            (&[1, 2, 3][..], 1, 4),
            (&[17, 33, 1, 64, 5], 2, 16),
            (&[400], 3, 8),
            (&[9, 9, 9, 9, 9, 9], 2, 8),
        ] {
            let pairs = laid_out(sizes, rows, seq_len);
            assert!(pairs.iter().all(|(input, target)| *target == input + 1), "{pairs:?}");
            let mut targets: Vec<u32> = pairs.iter().map(|pair| pair.1).collect();
            targets.sort_unstable();
            let expected: Vec<u32> = sizes
                .iter()
                .enumerate()
                .flat_map(|(document, &size)| (1..size).map(move |place| (document * 1000 + place) as u32))
                .collect();
            assert_eq!(targets, expected, "{sizes:?}");
        }
    }
}
