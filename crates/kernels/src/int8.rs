//! Products in 8-bit integers: activations rounded to 8 bits, times matrices in the blocks of a model's file ([`Matrix`]),
//! which are packed once for serving and never unpacked to floats.
//!
//! One result has one definition, [`plain`], whatever computes it. Within a block of K all is exact in integers; between
//! blocks there is one chain of fused multiplications and additions in f32, in the order of K. So a row of the result has
//! the same bits alone and in any batch, on any number of threads, and on every instruction set. For one output, with
//! activations `scale_a * a` and the weights' block as [`crate::quant`] describes it:
//!
//! | blocks of | | sum over the blocks of K |
//! |---|---|---|
//! | Q8_0, Q5_0, Q4_0 | 32 | `sum += Σ a code * (scale_w * scale_a)` |
//! | Q5_1, Q4_1 | 32 | `sum += (Σ a code * scale_w + Σ a * minimum_w) * scale_a` |
//! | Q6_K, Q3_K | 256 | `sum += Σ part_scale Σ a code * (scale_w * scale_a)` |
//! | Q5_K, Q4_K, Q2_K | 256 | `sum += (Σ part_scale Σ a code * scale_w - Σ part_minimum Σ a * minimum_w) * scale_a` |
//!
//! Activations share a scale over as many values as the weights' blocks have, as in llama.cpp (its Q8_0 and Q8_K). Not
//! here: matrices that training reads ([`crate::quant`]), and products in floats ([`crate::gemm`]).

mod activations;
#[cfg(target_arch = "x86_64")]
mod ahead;
#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_long;
#[cfg(target_arch = "x86_64")]
mod amx_short;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod layout;
mod matrix;
mod memory;
mod pack;
mod plain;
mod share;
#[cfg(target_arch = "x86_64")]
mod vnni;

pub use activations::Activations;
pub use matrix::{Matrix, Unpackable};
pub use memory::Arena;

use layout::{Kind, LANES};

use crate::gemm::{Accumulate, ViewMut};
use crate::meter::{self, Cost};

/// `y [T, rows]` (=, or +=) `x [T, cols] Wᵀ`, on the threads of rayon's current pool.
///
/// A row of `x` with a value that is not finite gives a row of NaN.
///
/// # Panics
/// When the shapes do not fit together, or `x` was not rounded for such a matrix.
pub fn product(y: &mut ViewMut, x: &Activations, weights: &Matrix, accumulate: Accumulate) {
    let _metered = meter::product(|| cost(y, weights, accumulate));
    let rows = x.rows_for(weights.kind());
    assert_eq!(
        (y.rows(), y.cols(), rows.cols()),
        (rows.count(), weights.rows(), weights.cols()),
        "rows of the result, its columns, and columns of both operands"
    );
    if y.rows() == 0 || y.cols() == 0 {
        return;
    }
    let add = accumulate == Accumulate::Add;
    #[cfg(target_arch = "x86_64")]
    {
        if rows.tiled() && amx::available() {
            // SAFETY: the processor has tiles of integers, and the system lets this process use them.
            return unsafe { amx::product(y, rows, weights, add) };
        }
        if !rows.tiled() && has_wide_kernels(weights.kind()) && vnni::available() {
            // SAFETY: the processor has these instructions.
            return unsafe { vnni::product(y, rows, weights, add) };
        }
        if !rows.tiled() && avx2::available() {
            // SAFETY: the processor has these instructions.
            return unsafe { avx2::product(y, rows, weights, add) };
        }
    }
    plain::product(y, rows, weights, add);
}

fn cost(y: &ViewMut, weights: &Matrix, accumulate: Accumulate) -> Cost {
    let (rows, cols, depth) = (y.rows(), y.cols(), weights.cols());
    let sums = if accumulate == Accumulate::Add { rows * cols } else { 0 };
    let Cost { flops, read, written } = Cost::of(2 * rows * cols * depth, sums, rows * cols);
    Cost { flops, read: read + (rows * depth + weights.bytes()) as u64, written }
}

/// Whether so many rows are rounded for tiles: those of fewer are multiplied by vectors, which read the weights once and
/// lose nothing to rows that are not there.
fn wants_tiles(kind: Kind, rows: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        rows >= amx::FEWEST && has_wide_kernels(kind) && amx::available()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (kind, rows);
        false
    }
}

/// Whether there are kernels for VNNI and for tiles. Other blocks are multiplied by AVX2 there, however many the rows.
fn has_wide_kernels(kind: Kind) -> bool {
    matches!(kind, Kind::Q8_0 | Kind::Q4_0 | Kind::Q6K | Kind::Q4K)
}

/// Writes the sums of one row and one panel to the result, of which the last panel's columns may be fewer.
///
/// # Safety
/// The columns from `panel * LANES` on, and that row, lie in `y`, and nobody else writes there.
#[inline(always)]
unsafe fn store(y: &ViewMut, row: usize, panel: usize, sums: &[f32; LANES], add: bool) {
    let first = panel * LANES;
    let count = LANES.min(y.cols() - first);
    // SAFETY: the caller's contract.
    let out = unsafe { std::slice::from_raw_parts_mut(y.at(row, first), count) };
    // A length that is known is a vector, not a call.
    match <&mut [f32; LANES]>::try_from(&mut *out) {
        Ok(out) => put(out, sums, add),
        Err(_) => put(out, sums, add),
    }
}

#[inline(always)]
fn put(out: &mut [f32], sums: &[f32; LANES], add: bool) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = if add { *out + sum } else { *sum };
    }
}
