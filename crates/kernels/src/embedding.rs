//! The token embedding: a gather of rows forward, a scatter of gradients backward.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::meter::{self, Cost, Operation, Pass};

/// Writes `x [T, D]`: the rows of `table [V, D]` that `tokens [T]` name.
pub fn forward(x: &mut [f32], table: &[f32], tokens: &[u32], dim: usize) {
    let cost = || Cost::of(0, x.len() + tokens.len(), x.len());
    let _metered = meter::span(Operation::Embedding, Pass::Forward, cost);
    x.par_chunks_mut(dim).zip(tokens).with_min_len(64).for_each(|(row, &token)| {
        row.copy_from_slice(&table[token as usize * dim..(token as usize + 1) * dim]);
    });
}

/// Adds each row of `dx [T, D]` to the row of `dtable [V, D]` that its token names, in the order of the tokens.
///
/// In the calling thread: tokens repeat, so each sum has one order only when one thread walks them all.
pub fn backward(dtable: &mut [f32], dx: &[f32], tokens: &[u32], dim: usize) {
    let cost = || Cost::of(dx.len(), 2 * dx.len() + tokens.len(), dx.len());
    let _metered = meter::span(Operation::Embedding, Pass::Backward, cost);
    // A few hundred kilobytes are moved; cutting columns for threads would cost more than the sum itself.
    for (row, &token) in dx.chunks_exact(dim).zip(tokens) {
        let sums = &mut dtable[token as usize * dim..(token as usize + 1) * dim];
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

/// The gradient of an embedding `[V, D]` as the rows of the tokens that occurred; all others are zero. A batch names few of
/// a large vocabulary, so this takes a fraction of the table's memory, and of the time to clear it and to read it again.
///
/// Rows stand in the order in which their tokens first occurred, and each is summed in the order of the tokens, so the
/// bits depend on the tokens alone.
#[derive(Debug)]
pub struct RowGradients {
    dim: usize,
    /// `[V]`: which row a token has, counted from 1; 0 where it has none.
    places: Vec<u32>,
    /// The token of each row.
    tokens: Vec<u32>,
    /// Room for all rows, of which the system gives the pages that are written.
    values: Buffer,
}

impl RowGradients {
    /// Of a table `[vocab_size, dim]`, all zero.
    pub fn new(vocab_size: usize, dim: usize) -> Self {
        Self {
            dim,
            places: vec![0; vocab_size],
            tokens: Vec::with_capacity(vocab_size),
            values: Buffer::zeros(vocab_size * dim),
        }
    }

    /// All zero again.
    pub fn clear(&mut self) {
        for token in self.tokens.drain(..) {
            self.places[token as usize] = 0;
        }
    }

    /// Adds each row of `dx [T, D]` to that of its token, as [`backward`] does.
    pub fn add(&mut self, dx: &[f32], tokens: &[u32]) {
        let cost = || Cost::of(dx.len(), 2 * dx.len() + tokens.len(), dx.len());
        let _metered = meter::span(Operation::Embedding, Pass::Backward, cost);
        let dim = self.dim;
        for (row, &token) in dx.chunks_exact(dim).zip(tokens) {
            let place = &mut self.places[token as usize];
            if *place == 0 {
                let number = self.tokens.len();
                self.tokens.push(token);
                *place = self.tokens.len() as u32;
                self.values[number * dim..(number + 1) * dim].copy_from_slice(row);
                continue;
            }
            let number = *place as usize - 1;
            for (sum, value) in self.values[number * dim..(number + 1) * dim].iter_mut().zip(row) {
                *sum += value;
            }
        }
    }

    /// The row of a token, unless it is zero because the token did not occur.
    pub fn row(&self, token: usize) -> Option<&[f32]> {
        let number = (self.places[token] as usize).checked_sub(1)?;
        Some(&self.values[number * self.dim..(number + 1) * self.dim])
    }

    /// The rows that there are, one after the other.
    pub fn rows(&self) -> &[f32] {
        &self.values[..self.tokens.len() * self.dim]
    }

    /// `D`.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `V D`, the size of the table.
    pub fn table_len(&self) -> usize {
        self.places.len() * self.dim
    }

    /// Bytes of the rows that there are, and of what finds them.
    pub fn bytes(&self) -> usize {
        size_of::<u32>() * (self.places.len() + self.tokens.capacity()) + size_of_val(self.rows())
    }
}
