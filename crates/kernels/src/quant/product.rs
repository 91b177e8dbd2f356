//! Products with a quantised matrix, both ways: strips of its rows are dequantised into memory that the thread keeps,
//! and multiplied by [`crate::gemm`].

use std::cell::Cell;
use std::ops::Range;

use super::{BLOCK, Matrix, STRIP, Values};
use crate::buffer::Buffer;
use crate::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use crate::kept;

thread_local! {
    /// Grows to one strip and stays.
    static MEMORY: Cell<Buffer> = Cell::new(Buffer::default());
}

/// `y [T, rows] = x [T, cols] Wᵀ`, or `+=`: the bits of [`gemm`] with the dequantised matrix.
pub fn forward(y: &mut [f32], x: &[f32], weights: &Matrix, precision: Precision, accumulate: Accumulate) {
    let (outputs, inputs) = (weights.rows, weights.cols);
    let tokens = y.len() / outputs;
    let x = View::new(x, tokens, inputs, inputs);
    strips(weights, 0..outputs, |rows, strip| {
        let (first, count) = (rows.start, rows.len());
        let y = ViewMut::new(&mut y[first..], tokens, count, outputs);
        gemm(precision, y, x, View::new(strip, count, inputs, inputs).transposed(), accumulate);
    });
}

/// `dx [T, cols] = dy [T, rows] W`, or `+=`. The sum over the rows goes strip after strip, in order.
pub fn input_gradient(
    dx: &mut [f32],
    dy: kept::Values,
    weights: &Matrix,
    precision: Precision,
    mut accumulate: Accumulate,
) {
    let (outputs, inputs) = (weights.rows, weights.cols);
    let tokens = dy.len() / outputs;
    strips(weights, 0..outputs, |rows, strip| {
        let (first, count) = (rows.start, rows.len());
        gemm(
            precision,
            ViewMut::new(dx, tokens, inputs, inputs),
            View::of(dy.from(first), tokens, count, outputs),
            View::new(strip, count, inputs, inputs),
            accumulate,
        );
        accumulate = Accumulate::Add;
    });
}

/// Calls `work` with the values of some of the rows, strip after strip. A thread that works on two matrices at once
/// allocates for the second.
pub(crate) fn strips(weights: &Matrix, rows: Range<usize>, mut work: impl FnMut(Range<usize>, &[f32])) {
    let cols = weights.cols;
    if let Values::F32(values) = &weights.values {
        return work(rows.clone(), &values[rows.start * cols..rows.end * cols]);
    }
    // A multiple of a block, so that a strip begins where a block does.
    let height = (STRIP / cols.max(1) / BLOCK * BLOCK).max(BLOCK).min(rows.len());
    let mut memory = MEMORY.take();
    if memory.len() < height * cols {
        memory = Buffer::zeros(height * cols);
    }
    for first in rows.clone().step_by(height.max(1)) {
        let part = first..(first + height).min(rows.end);
        let strip = &mut memory[..part.len() * cols];
        weights.dequantise(first * cols, strip);
        work(part, strip);
    }
    MEMORY.set(memory);
}
