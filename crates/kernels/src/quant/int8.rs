//! Blockwise 8-bit integers: a value is its code times the block's largest absolute value, over 127.
//!
//! Evenly spaced, unlike the optimizer states of Dettmers et al. 2022 ("8-bit Optimizers via Block-wise Quantization"),
//! whose blocks these are: weights have no long tails within 64 values. The error is half a step, absmax / 254, at most.

use super::BLOCK;
use crate::isa;
use crate::math::max_lanes;

const LARGEST: f32 = 127.0;

isa::dispatch! {
    /// Writes the codes and each block's largest absolute value.
    pub(super) fn quantise<FMA>(codes: &mut [i8], absmax: &mut [f32], from: &[f32]) {
        for ((codes, absmax), from) in codes.chunks_mut(BLOCK).zip(absmax).zip(from.chunks(BLOCK)) {
            *absmax = largest(from);
            let scale = if *absmax > 0.0 { LARGEST / *absmax } else { 0.0 };
            for (code, value) in codes.iter_mut().zip(from) {
                // A subnormal block has an infinite scale; the clamp keeps its codes in range.
                *code = (value * scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8;
            }
        }
    }

    /// Writes the values of whole blocks; the last may be cut short.
    pub(super) fn dequantise<FMA>(out: &mut [f32], codes: &[i8], absmax: &[f32]) {
        for ((out, codes), absmax) in out.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)).zip(absmax) {
            let step = absmax / LARGEST;
            for (out, code) in out.iter_mut().zip(codes) {
                *out = f32::from(*code) * step;
            }
        }
    }
}

/// The largest absolute value.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    let mut sizes = [0.0; BLOCK];
    for (size, value) in sizes.iter_mut().zip(values) {
        *size = value.abs();
    }
    max_lanes(&sizes)
}
