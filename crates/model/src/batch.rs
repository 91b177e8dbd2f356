//! What one pass of training reads: tokens, targets, loss weights and the borders of the documents.

use crate::{Config, Error};

/// `rows` sequences of `seq_len` tokens; every vector holds `rows * seq_len` values, row after row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of sequences.
    pub rows: usize,
    /// Tokens in each.
    pub seq_len: usize,
    /// Input tokens.
    pub inputs: Vec<u32>,
    /// The token that follows each input. Ignored where the loss weight is 0.
    pub targets: Vec<u32>,
    /// How much each prediction counts; 0 leaves it out.
    pub loss_weights: Vec<f32>,
    /// Place in its row of the first token of each token's document. Attention stays inside a document, and
    /// positions count from its start.
    pub document_starts: Vec<u32>,
}

impl Batch {
    /// A batch of zeros; one document a row.
    pub fn new(rows: usize, seq_len: usize) -> Self {
        let tokens = rows * seq_len;
        Self {
            rows,
            seq_len,
            inputs: vec![0; tokens],
            targets: vec![0; tokens],
            loss_weights: vec![1.0; tokens],
            document_starts: vec![0; tokens],
        }
    }

    /// Number of tokens, `T`.
    pub fn tokens(&self) -> usize {
        self.rows * self.seq_len
    }

    /// Sum of the loss weights, in a fixed order.
    pub fn weight(&self) -> f64 {
        self.loss_weights.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// Checks sizes, tokens and document borders.
    pub fn validate(&self, config: &Config) -> Result<(), Error> {
        let tokens = self.tokens();
        for (name, length) in [
            ("inputs", self.inputs.len()),
            ("targets", self.targets.len()),
            ("loss_weights", self.loss_weights.len()),
            ("document_starts", self.document_starts.len()),
        ] {
            if length != tokens {
                return Err(Error::Batch(format!(
                    "{name} holds {length} values, not rows {} x seq_len {}",
                    self.rows, self.seq_len
                )));
            }
        }
        for (place, &token) in self.inputs.iter().enumerate() {
            let unusable_target =
                self.loss_weights[place] != 0.0 && self.targets[place] as usize >= config.vocab_size;
            if token as usize >= config.vocab_size || unusable_target {
                return Err(Error::Batch(format!(
                    "row {}, place {}: token {} is outside the vocabulary of {}",
                    place / self.seq_len,
                    place % self.seq_len,
                    if unusable_target { self.targets[place] } else { token },
                    config.vocab_size
                )));
            }
            let (start, column) = (self.document_starts[place] as usize, place % self.seq_len);
            let before = if column == 0 { 0 } else { self.document_starts[place - 1] as usize };
            if start > column || start < before || (start != before && start != column) {
                return Err(Error::Batch(format!(
                    "row {}, place {column}: document start {start} does not fit (before it: {before})",
                    place / self.seq_len
                )));
            }
        }
        Ok(())
    }
}
