//! GGUF's Q6_K: 256 values in sixteen parts of 16, six bits each. A part has a scale of eight bits; the block has a scale
//! for the scales, in f16. The layout is that of the file.
//!
//! A part's scale is the one of 16 that leaves the smallest error, its own least-squares scale for each set of codes;
//! values weigh by their squares, as in ggml. Every sum has a fixed order, so the bytes are the same on every processor.

use half::f16;

use super::encoding::whole_blocks;
use crate::isa;

/// Values of a block.
pub const LEN: usize = 256;
/// Values that share a scale.
const PART: usize = 16;
const PARTS: usize = LEN / PART;
/// Grids that are tried for a part: a vector of them.
const GRIDS: usize = 16;
/// Values whose codes lie in one stretch of `low` and `high`.
const HALF: usize = LEN / 2;

/// One block: value `i` of part `p` is `scale * scales[p] * (code - 32)`.
///
/// Of each 128 values, `low` holds in its 64 bytes the lower four bits of values 0 to 63 in the lower halves and of
/// values 64 to 127 in the upper ones; `high` holds in its 32 bytes the upper two bits of values `i`, `i + 32`, `i + 64`
/// and `i + 96`, the first lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// Lower four bits.
    pub low: [u8; LEN / 2],
    /// Upper two bits.
    pub high: [u8; LEN / 4],
    /// One for each part.
    pub scales: [i8; PARTS],
    /// f16, little-endian: a block may begin at any byte of a file.
    pub scale: [u8; 2],
}

whole_blocks!(Block, 210);

isa::dispatch! {
    /// Writes the blocks of as many values.
    pub(super) fn quantise<FMA>(blocks: &mut [Block], values: &[f32]) {
        for (block, values) in blocks.iter_mut().zip(values.as_chunks::<LEN>().0) {
            *block = quantise_block(values);
        }
    }

    /// Writes the values of whole blocks.
    pub(super) fn dequantise<FMA>(out: &mut [f32], blocks: &[Block]) {
        for (out, block) in out.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let scale = f16::from_le_bytes(block.scale).to_f32();
            for (half, out) in out.as_chunks_mut::<HALF>().0.iter_mut().enumerate() {
                let low = &block.low[half * 64..][..64];
                let high = &block.high[half * 32..][..32];
                for (quarter, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                    let low = &low[quarter % 2 * 32..][..32];
                    let (low_shift, high_shift) = (quarter / 2 * 4, quarter * 2);
                    let parts = &block.scales[half * 8 + quarter * 2..][..2];
                    let steps = [scale * f32::from(parts[0]), scale * f32::from(parts[1])];
                    for at in 0..32 {
                        let code = low[at] >> low_shift & 15 | (high[at] >> high_shift & 3) << 4;
                        out[at] = steps[at / PART] * (f32::from(code) - 32.0);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn quantise_block(values: &[f32; LEN]) -> Block {
    let (parts, _) = values.as_chunks::<PART>();
    let mut steps = [0.0f32; PARTS];
    for (step, values) in steps.iter_mut().zip(parts) {
        *step = fit(values);
    }
    // The scale that is farthest from zero becomes -128: one step more than the other side has.
    let farthest = steps.iter().fold(0.0f32, |far, &step| if step.abs() > far.abs() { step } else { far });
    let scale = f16::from_f32(farthest / -128.0);
    let unit = inverse(scale.to_f32());
    let scales = steps.map(|step| (step * unit).round_ties_even().clamp(-128.0, 127.0) as i8);

    let mut block = Block { low: [0; LEN / 2], high: [0; LEN / 4], scales, scale: scale.to_le_bytes() };
    for (part, values) in parts.iter().enumerate() {
        let step = inverse(scale.to_f32() * f32::from(scales[part]));
        for (at, value) in values.iter().enumerate() {
            let code = ((value * step).round_ties_even().clamp(-32.0, 31.0) + 32.0) as u8;
            let place = part * PART + at;
            let (half, within) = (place / HALF, place % HALF);
            block.low[half * 64 + within % 64] |= (code & 15) << (within / 64 * 4);
            block.high[half * 32 + within % 32] |= (code >> 4) << (within / 32 * 2);
        }
    }
    block
}

/// One over a step of either sign; zero for steps so small that it would not be finite.
#[inline(always)]
fn inverse(step: f32) -> f32 {
    if step.abs() > f32::MIN_POSITIVE { 1.0 / step } else { 0.0 }
}

/// The step that the codes -32 to 31 describe a part with best.
#[inline(always)]
fn fit(values: &[f32; PART]) -> f32 {
    let farthest =
        values.iter().fold(0.0f32, |far, &value| if value.abs() > far.abs() { value } else { far });
    let inverse_farthest = inverse(farthest);
    // Weights are squares relative to the largest value, so that neither they nor their sums leave the range of f32.
    let relative = values.map(|value| value * inverse_farthest);
    // One grid a lane, so that no sum crosses lanes.
    let steps: [f32; GRIDS] = std::array::from_fn(|grid| -(31.1 + 0.12 * grid as f32));
    let mut sums = [[0.0f32; GRIDS]; 2];
    for value in relative {
        let weight = value * value;
        for grid in 0..GRIDS {
            let code = (value * steps[grid]).round_ties_even().clamp(-32.0, 31.0);
            sums[0][grid] += weight * value * code;
            sums[1][grid] += weight * code * code;
        }
    }
    let (mut best, mut best_gain) = (0.0, 0.0);
    let [wxq, wqq] = sums;
    for (wxq, wqq) in wxq.into_iter().zip(wqq) {
        // What the codes take off the sum of weighted squares, with their own least-squares step.
        if wqq > 0.0 && wxq * wxq > best_gain * wqq {
            best_gain = wxq * wxq / wqq;
            best = wxq / wqq;
        }
    }
    best * farthest
}
