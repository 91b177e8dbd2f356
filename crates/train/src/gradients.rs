//! The gradients of a step: a flat vector with the places of what is trained, and before it, where that pays, an embedding's
//! as the rows of the tokens that occurred.

use kernels::buffer::Buffer;
use kernels::embedding::RowGradients;
use kernels::reduce;

/// Gradients of a flat vector of parameters.
#[derive(Debug)]
pub struct Gradients {
    /// Of the embedding that the parameters begin with; `None` where they begin otherwise, or where it is the output layer
    /// too and every row has a gradient.
    pub embedding: Option<RowGradients>,
    /// Of all parameters that follow.
    pub flat: Buffer,
}

impl Gradients {
    /// Of `parameters` parameters, all in the flat vector, all zero.
    pub fn flat(parameters: usize) -> Self {
        Self { embedding: None, flat: Buffer::zeros(parameters) }
    }

    /// The same behind an embedding `[vocab_size, dim]`.
    pub fn with_embedding(parameters: usize, vocab_size: usize, dim: usize) -> Self {
        let embedding = RowGradients::new(vocab_size, dim);
        let flat = Buffer::zeros(parameters - embedding.table_len());
        Self { embedding: Some(embedding), flat }
    }

    /// Sum of the squares of all gradients: those of the embedding's rows first, then the flat vector's.
    pub fn sum_of_squares(&self) -> f64 {
        let rows = self.embedding.as_ref().map_or(0.0, |embedding| reduce::sum_of_squares(embedding.rows()));
        rows + reduce::sum_of_squares(&self.flat)
    }

    /// Bytes held after the last step.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.flat[..]) + self.embedding.as_ref().map_or(0, RowGradients::bytes)
    }
}
