//! The token embedding: a gather of rows forward, a scatter of gradients backward.

use rayon::prelude::*;

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
