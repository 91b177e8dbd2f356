//! SwiGLU, forward and backward. `y = silu(gate) * up`, with gate and up side by side in one row.

use rayon::prelude::*;

use crate::isa;
use crate::kept::{bf16, nearest, widened};
use crate::math::{map_lanes_of, sigmoid};
use crate::meter::{self, Cost, Operation, Pass};

const ROWS: usize = 32;

/// Writes `y [T, F]` from `gate_up [T, 2F]` (gate first).
pub fn forward(y: &mut [f32], gate_up: &[f32], ffn_dim: usize) {
    assert_eq!(gate_up.len(), 2 * y.len(), "SwiGLU: gate and up together are twice the output");
    // Three for the sigmoid, two multiplications.
    let cost = || Cost::of(5 * y.len(), gate_up.len(), y.len());
    let _metered = meter::span(Operation::SwiGlu, Pass::Forward, cost);
    y.par_chunks_mut(ROWS * ffn_dim)
        .zip(gate_up.par_chunks(ROWS * 2 * ffn_dim))
        .for_each(|(y, gate_up)| forward_rows(y, gate_up, ffn_dim));
}

/// [`forward`], which also keeps `gate_up` rounded for [`backward_kept`]. Where `kept` is empty, nothing is kept.
pub fn forward_keeping(y: &mut [f32], kept: &mut [bf16], gate_up: &[f32], ffn_dim: usize) {
    if kept.is_empty() {
        return forward(y, gate_up, ffn_dim);
    }
    assert!(
        gate_up.len() == 2 * y.len() && kept.len() == gate_up.len(),
        "SwiGLU: what is kept has another size"
    );
    let cost = || Cost::of(5 * y.len(), gate_up.len(), y.len() + kept.len() / 2);
    let _metered = meter::span(Operation::SwiGlu, Pass::Forward, cost);
    y.par_chunks_mut(ROWS * ffn_dim)
        .zip(gate_up.par_chunks(ROWS * 2 * ffn_dim))
        .zip(kept.par_chunks_mut(ROWS * 2 * ffn_dim))
        .for_each(|((y, gate_up), kept)| forward_rows_keeping(y, kept, gate_up, ffn_dim));
}

/// Turns `gate_up [T, 2F]` into its own gradient in place and writes the forward's output once more to
/// `y_and_dy [T, F]`, which on entry holds the gradient of the output.
///
/// The backward needs both in the same pass: the output for the gradient of the down projection, which is
/// cheaper to compute again than to keep, and the gradient for what came before.
pub fn backward(gate_up: &mut [f32], y_and_dy: &mut [f32], ffn_dim: usize) {
    assert_eq!(gate_up.len(), 2 * y_and_dy.len(), "SwiGLU: gate and up together are twice the output");
    let cost = || Cost::of(11 * y_and_dy.len(), 3 * y_and_dy.len(), 3 * y_and_dy.len());
    let _metered = meter::span(Operation::SwiGlu, Pass::Backward, cost);
    gate_up
        .par_chunks_mut(ROWS * 2 * ffn_dim)
        .zip(y_and_dy.par_chunks_mut(ROWS * ffn_dim))
        .for_each(|(gate_up, y_and_dy)| backward_rows(gate_up, y_and_dy, ffn_dim));
}

/// [`backward`] of what [`forward_keeping`] kept. The gradient is rounded too: products alone read it.
pub fn backward_kept(gate_up: &mut [bf16], y_and_dy: &mut [f32], ffn_dim: usize) {
    assert_eq!(gate_up.len(), 2 * y_and_dy.len(), "SwiGLU: gate and up together are twice the output");
    let cost = || Cost::of(11 * y_and_dy.len(), 2 * y_and_dy.len(), 2 * y_and_dy.len());
    let _metered = meter::span(Operation::SwiGlu, Pass::Backward, cost);
    gate_up
        .par_chunks_mut(ROWS * 2 * ffn_dim)
        .zip(y_and_dy.par_chunks_mut(ROWS * ffn_dim))
        .for_each(|(gate_up, y_and_dy)| backward_rows_kept(gate_up, y_and_dy, ffn_dim));
}

/// What one value's gradient and its output become.
#[inline(always)]
fn gradient<const FMA: bool>(gate: f32, up: f32, dy: f32) -> [f32; 3] {
    let s = sigmoid::<FMA>(gate);
    let silu = gate * s;
    [dy * up * (s + silu * (1.0 - s)), dy * silu, silu * up]
}

isa::dispatch! {
    fn forward_rows<FMA>(y: &mut [f32], gate_up: &[f32], ffn_dim: usize) {
        for (y, row) in y.chunks_exact_mut(ffn_dim).zip(gate_up.chunks_exact(2 * ffn_dim))
        {
            let (gate, up) = row.split_at(ffn_dim);
            for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate * sigmoid::<FMA>(gate) * up;
            }
        }
    }
}

isa::dispatch! {
    fn backward_rows<FMA>(gate_up: &mut [f32], y_and_dy: &mut [f32], ffn_dim: usize) {
        for (row, y_and_dy) in
            gate_up.chunks_exact_mut(2 * ffn_dim).zip(y_and_dy.chunks_exact_mut(ffn_dim))
        {
            let (gates, ups) = row.split_at_mut(ffn_dim);
            map_lanes_of([gates, ups, y_and_dy], |[gate, up, dy]| gradient::<FMA>(gate, up, dy));
        }
    }
}

/// Values that are made f32 together, worked on, and rounded again.
const PIECE: usize = 256;

isa::dispatch! {
    fn forward_rows_keeping<FMA>(y: &mut [f32], kept: &mut [bf16], gate_up: &[f32], ffn_dim: usize) {
        for ((y, row), kept) in y
            .chunks_exact_mut(ffn_dim)
            .zip(gate_up.chunks_exact(2 * ffn_dim))
            .zip(kept.chunks_exact_mut(2 * ffn_dim))
        {
            let (gate, up) = row.split_at(ffn_dim);
            for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate * sigmoid::<FMA>(gate) * up;
            }
            for (kept, &value) in kept.iter_mut().zip(row) {
                *kept = nearest(value);
            }
        }
    }

    fn backward_rows_kept<FMA>(gate_up: &mut [bf16], y_and_dy: &mut [f32], ffn_dim: usize) {
        let mut wide = [[0.0f32; PIECE]; 2];
        for (row, y_and_dy) in
            gate_up.chunks_exact_mut(2 * ffn_dim).zip(y_and_dy.chunks_exact_mut(ffn_dim))
        {
            let (gates, ups) = row.split_at_mut(ffn_dim);
            for ((gates, ups), y_and_dy) in
                gates.chunks_mut(PIECE).zip(ups.chunks_mut(PIECE)).zip(y_and_dy.chunks_mut(PIECE))
            {
                let [gate, up] = &mut wide;
                let (gate, up) = (&mut gate[..gates.len()], &mut up[..gates.len()]);
                for (wide, &kept) in gate.iter_mut().zip(&*gates) {
                    *wide = widened(kept);
                }
                for (wide, &kept) in up.iter_mut().zip(&*ups) {
                    *wide = widened(kept);
                }
                map_lanes_of([&mut *gate, &mut *up, y_and_dy], |[gate, up, dy]| gradient::<FMA>(gate, up, dy));
                for (kept, &wide) in gates.iter_mut().zip(&*gate) {
                    *kept = nearest(wide);
                }
                for (kept, &wide) in ups.iter_mut().zip(&*up) {
                    *kept = nearest(wide);
                }
            }
        }
    }
}
