//! GGUF's Q4_K: 256 values in eight parts of 32, four bits each. A part has a scale and a minimum in six bits; the block
//! has a scale for the scales and one for the minima, in f16. The layout is that of the file.
//!
//! The format fixes what a block means, not how a scale is found. Here each part takes, of 16 grids between its
//! smallest and its largest value, the one whose least-squares line through the codes leaves the smallest error;
//! larger values weigh more, as in ggml. Every sum has a fixed order, so the bytes are the same on every processor.

use half::f16;

use super::encoding::whole_blocks;
use crate::isa;

/// Values of a block.
pub const LEN: usize = 256;
/// Values that share a scale and a minimum.
const PART: usize = 32;
const PARTS: usize = LEN / PART;
/// Grids that are tried for a part: a vector of them.
const GRIDS: usize = 16;

/// One block: value `i` of part `p` is `scale * scales[p] * code - minimum * minima[p]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// f16, little-endian: a block may begin at any byte of a file.
    pub scale: [u8; 2],
    /// f16, little-endian.
    pub minimum: [u8; 2],
    /// Eight scales and eight minima of six bits; [`Block::part`] takes them apart.
    pub packed: [u8; 12],
    /// For each two parts 32 bytes: the first part's codes in the lower halves, the second's in the upper ones.
    pub codes: [u8; LEN / 2],
}

whole_blocks!(Block, 144);

impl Block {
    /// Scale and minimum of a part, each 0 to 63.
    #[inline(always)]
    pub fn part(&self, part: usize) -> (u8, u8) {
        let packed = &self.packed;
        match part {
            0..4 => (packed[part] & 63, packed[part + 4] & 63),
            _ => (
                packed[part + 4] & 15 | packed[part - 4] >> 6 << 4,
                packed[part + 4] >> 4 | packed[part] >> 6 << 4,
            ),
        }
    }

    fn pack(scales: &[u8; PARTS], minima: &[u8; PARTS]) -> [u8; 12] {
        std::array::from_fn(|at| match at {
            0..4 => scales[at] | scales[at + 4] >> 4 << 6,
            4..8 => minima[at - 4] | minima[at] >> 4 << 6,
            _ => scales[at - 4] & 15 | minima[at - 4] << 4,
        })
    }
}

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
            let (scale, minimum) = (f16::from_le_bytes(block.scale).to_f32(), f16::from_le_bytes(block.minimum).to_f32());
            let pairs = out.as_chunks_mut::<{ 2 * PART }>().0.iter_mut().zip(block.codes.as_chunks::<PART>().0);
            for (pair, (out, codes)) in pairs.enumerate() {
                let [first, second] = [2 * pair, 2 * pair + 1].map(|part| {
                    let (step, offset) = block.part(part);
                    (scale * f32::from(step), minimum * f32::from(offset))
                });
                let (low, high) = out.split_at_mut(PART);
                for ((low, high), byte) in low.iter_mut().zip(high).zip(codes) {
                    *low = first.0 * f32::from(byte & 15) - first.1;
                    *high = second.0 * f32::from(byte >> 4) - second.1;
                }
            }
        }
    }
}

#[inline(always)]
fn quantise_block(values: &[f32; LEN]) -> Block {
    let (parts, _) = values.as_chunks::<PART>();
    let (mut scales, mut minima) = ([0.0f32; PARTS], [0.0f32; PARTS]);
    for (part, values) in parts.iter().enumerate() {
        (scales[part], minima[part]) = fit(values);
    }
    let largest = |values: &[f32; PARTS]| values.iter().fold(0.0f32, |a, &b| a.max(b));
    let (scale, minimum) = (f16::from_f32(largest(&scales) / 63.0), f16::from_f32(largest(&minima) / 63.0));
    let six_bits = |values: &[f32; PARTS], unit: f16| {
        let inverse = inverse(unit.to_f32());
        values.map(|value| (value * inverse).round_ties_even().clamp(0.0, 63.0) as u8)
    };
    let (scales, minima) = (six_bits(&scales, scale), six_bits(&minima, minimum));

    let mut codes = [0; LEN / 2];
    for (part, values) in parts.iter().enumerate() {
        let step = inverse(scale.to_f32() * f32::from(scales[part]));
        let offset = minimum.to_f32() * f32::from(minima[part]);
        let shift = 4 * (part % 2);
        for (byte, value) in codes[part / 2 * PART..].iter_mut().zip(values) {
            let code = ((value + offset) * step).round_ties_even().clamp(0.0, 15.0);
            *byte |= (code as u8) << shift;
        }
    }
    Block {
        scale: scale.to_le_bytes(),
        minimum: minimum.to_le_bytes(),
        packed: Block::pack(&scales, &minima),
        codes,
    }
}

/// One over a step; zero for steps so small that it would not be finite.
#[inline(always)]
fn inverse(step: f32) -> f32 {
    if step > f32::MIN_POSITIVE { 1.0 / step } else { 0.0 }
}

/// The step and the (negated) minimum, neither below zero, that 16 codes describe a part with best.
#[inline(always)]
fn fit(values: &[f32; PART]) -> (f32, f32) {
    let least = values.iter().fold(0.0f32, |a, &b| a.min(b));
    let most = values.iter().fold(least, |a, &b| a.max(b));
    let inverse_range = inverse(most - least);
    if inverse_range == 0.0 {
        return (0.0, -least);
    }
    let mean_square = sum(values, |value| value * value) / PART as f32;
    let average = mean_square.sqrt();
    let weights = values.map(|value| average + value.abs());
    let weighted: [f32; PART] = std::array::from_fn(|at| weights[at] * values[at]);
    let (w, wx) = (sum(&weights, |x| x), sum(&weighted, |x| x));

    // One grid a lane, so that no sum crosses lanes.
    let steps: [f32; GRIDS] = std::array::from_fn(|grid| grid_codes(grid) * inverse_range);
    let mut sums = [[0.0f32; GRIDS]; 3];
    for at in 0..PART {
        let (distance, weight, weighted) = (values[at] - least, weights[at], weighted[at]);
        for grid in 0..GRIDS {
            let code = (distance * steps[grid]).round_ties_even().min(15.0);
            sums[0][grid] += weight * code;
            sums[1][grid] += weight * code * code;
            sums[2][grid] += weighted * code;
        }
    }
    // What remains where no grid tells the values apart.
    let mut best = ((most - least) / 15.0, -least);
    let mut best_gain = f32::NEG_INFINITY;
    let [wq, wqq, wxq] = sums;
    for ((wq, wqq), wxq) in wq.into_iter().zip(wqq).zip(wxq) {
        // The line `step * code + start` of least squares; `gain` is what it takes off the sum of weighted squares.
        let determinant = w * wqq - wq * wq;
        let mut step = (w * wxq - wx * wq) / determinant;
        let mut start = (wqq * wx - wq * wxq) / determinant;
        if start > 0.0 {
            (step, start) = (wxq / wqq, 0.0);
        }
        let gain = step * wxq + start * wx;
        if determinant > 0.0 && step > 0.0 && gain > best_gain {
            best_gain = gain;
            best = (step, -start);
        }
    }
    best
}

/// By how many codes the range of a part is divided in a grid: 13.9 to 16.
fn grid_codes(grid: usize) -> f32 {
    13.9 + 0.14 * grid as f32
}

#[inline(always)]
fn sum(values: &[f32; PART], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    for half in values.as_chunks::<16>().0 {
        for (lane, value) in lanes.iter_mut().zip(half) {
            *lane += of(*value);
        }
    }
    total(&lanes)
}

/// Halves added to halves: one order on every processor.
#[inline(always)]
fn total(lanes: &[f32; 16]) -> f32 {
    let mut lanes = *lanes;
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}
