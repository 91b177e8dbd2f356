//! RMSNorm, forward and backward. `y = x / sqrt(mean(x²) + eps) * w`, row by row.
//!
//! Follows `RMSNorm` of the Llama 3 reference model, in f32 throughout.

use rayon::prelude::*;

use crate::isa;
use crate::math::sum_lanes;
use crate::meter::{self, Cost, Operation, Pass};

/// Rows that one task takes; fixed, so that sums over rows never depend on the number of threads.
pub const ROWS: usize = 64;

/// Writes the normalised rows `y [T, D]` of `x [T, D]` under `weight [D]`, and each row's `1 / rms` in
/// `inverse_rms [T]` for the backward.
pub fn forward(y: &mut [f32], inverse_rms: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) {
    let dim = weight.len();
    check(x.len(), dim, inverse_rms.len());
    // The square and its sum, and two multiplications.
    let cost = || Cost::of(4 * x.len(), x.len() + dim, y.len() + inverse_rms.len());
    let _metered = meter::span(Operation::RmsNorm, Pass::Forward, cost);
    y.par_chunks_mut(ROWS * dim)
        .zip(inverse_rms.par_chunks_mut(ROWS))
        .zip(x.par_chunks(ROWS * dim))
        .for_each(|((y, inverse_rms), x)| forward_rows(y, inverse_rms, x, weight, epsilon));
}

/// Writes `y [T, D]` again from `x` and the `inverse_rms` that [`forward`] kept: the same bits, without the sum.
pub fn again(y: &mut [f32], x: &[f32], inverse_rms: &[f32], weight: &[f32]) {
    let dim = weight.len();
    check(x.len(), dim, inverse_rms.len());
    let _again = meter::again();
    let cost = || Cost::of(2 * x.len(), x.len() + inverse_rms.len() + dim, y.len());
    let _metered = meter::span(Operation::RmsNorm, Pass::Forward, cost);
    y.par_chunks_mut(ROWS * dim)
        .zip(inverse_rms.par_chunks(ROWS))
        .zip(x.par_chunks(ROWS * dim))
        .for_each(|((y, inverse_rms), x)| again_rows(y, inverse_rms, x, weight));
}

/// Floats that [`backward`] needs as `partial`: one `[D]` for each block of rows.
pub fn partial_len(tokens: usize, dim: usize) -> usize {
    tokens.div_ceil(ROWS) * dim
}

/// Adds the gradient of `x` to `dx [T, D]` and that of the weight to `dweight [D]`.
///
/// `dy [T, D]` is the gradient of the output; `partial` is scratch of [`partial_len`]. The sums over tokens run
/// block by block of [`ROWS`], in order.
pub fn backward(
    dx: &mut [f32],
    dweight: &mut [f32],
    dy: &[f32],
    x: &[f32],
    inverse_rms: &[f32],
    weight: &[f32],
    partial: &mut [f32],
) {
    let dim = weight.len();
    check(x.len(), dim, inverse_rms.len());
    // Three for the sum along the row, five for what is added to `dx`, three for what is added to `dweight`.
    let cost = || Cost::of(11 * x.len(), 3 * x.len() + inverse_rms.len() + 2 * dim, dx.len() + dim);
    let _metered = meter::span(Operation::RmsNorm, Pass::Backward, cost);
    let partial = &mut partial[..partial_len(inverse_rms.len(), dim)];
    dx.par_chunks_mut(ROWS * dim)
        .zip(partial.par_chunks_mut(dim))
        .zip(dy.par_chunks(ROWS * dim))
        .zip(x.par_chunks(ROWS * dim))
        .zip(inverse_rms.par_chunks(ROWS))
        .for_each(|((((dx, partial), dy), x), inverse_rms)| {
            backward_rows(dx, partial, dy, x, inverse_rms, weight);
        });
    for block in partial.chunks_exact(dim) {
        for (sum, value) in dweight.iter_mut().zip(block) {
            *sum += value;
        }
    }
}

fn check(values: usize, dim: usize, rows: usize) {
    assert_eq!(values, rows * dim, "RMSNorm: {values} values are not {rows} rows of {dim}");
}

isa::dispatch! {
    fn forward_rows<FMA>(y: &mut [f32], inverse_rms: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) {
        let dim = weight.len();
        for ((y, inverse), x) in
            y.chunks_exact_mut(dim).zip(inverse_rms).zip(x.chunks_exact(dim))
        {
            let squares = sum_lanes([x], |[x]| x * x);
            *inverse = 1.0 / (squares / dim as f32 + epsilon).sqrt();
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * *inverse * weight;
            }
        }
    }
}

isa::dispatch! {
    fn again_rows<FMA>(y: &mut [f32], inverse_rms: &[f32], x: &[f32], weight: &[f32]) {
        let dim = weight.len();
        for ((y, inverse), x) in
            y.chunks_exact_mut(dim).zip(inverse_rms).zip(x.chunks_exact(dim))
        {
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * *inverse * weight;
            }
        }
    }
}

isa::dispatch! {
    fn backward_rows<FMA>(dx: &mut [f32], dweight: &mut [f32], dy: &[f32], x: &[f32], inverse_rms: &[f32], weight: &[f32]) {
        let dim = weight.len();
        dweight.fill(0.0);
        for (((dx, dy), x), &inverse) in dx
            .chunks_exact_mut(dim)
            .zip(dy.chunks_exact(dim))
            .zip(x.chunks_exact(dim))
            .zip(inverse_rms)
        {
            let along = sum_lanes([dy, weight, x], |[dy, weight, x]| dy * weight * x);
            let mean = along * inverse * inverse * inverse / dim as f32;
            for (((dx, dy), x), weight) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
                *dx += dy * weight * inverse - x * mean;
            }
            for ((dweight, dy), x) in dweight.iter_mut().zip(dy).zip(x) {
                *dweight += dy * x * inverse;
            }
        }
    }
}
