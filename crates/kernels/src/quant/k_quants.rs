//! What the blocks of Q4_K and Q5_K share: eight parts of 32 values, each with a scale and a minimum in six bits, and the
//! search for both.
//!
//! The format fixes what a block means, not how a scale is found. Here each part takes, of 16 grids between its
//! smallest and its largest value, the one whose least-squares line through the codes leaves the smallest error;
//! larger values weigh more, as in ggml. Every sum has a fixed order, so the bytes are the same on every processor.

use half::f16;

/// Values that share a scale and a minimum.
pub(super) const PART: usize = 32;
/// Parts of a block.
pub(super) const PARTS: usize = 8;
/// Grids that are tried for a part: a vector of them.
const GRIDS: usize = 16;

/// Scale and minimum of a part, each 0 to 63, out of twelve bytes that hold those of eight parts.
#[inline(always)]
pub(super) fn unpack(packed: &[u8; 12], part: usize) -> (u8, u8) {
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

/// The lines of a block: value = `scale * scales[p] * code - minimum * minima[p]`.
pub(super) struct Lines {
    pub(super) scale: f16,
    pub(super) minimum: f16,
    pub(super) packed: [u8; 12],
    /// One over each part's step, and each part's offset.
    inverse: [f32; PARTS],
    offset: [f32; PARTS],
    top: f32,
}

impl Lines {
    /// The lines that describe the parts best with the codes 0 to `top`.
    #[inline(always)]
    pub(super) fn fit(parts: &[[f32; PART]], top: f32) -> Self {
        let (mut scales, mut minima) = ([0.0f32; PARTS], [0.0f32; PARTS]);
        for (part, values) in parts.iter().enumerate() {
            (scales[part], minima[part]) = fit(values, top);
        }
        let largest = |values: &[f32; PARTS]| values.iter().fold(0.0f32, |a, &b| a.max(b));
        let (scale, minimum) =
            (f16::from_f32(largest(&scales) / 63.0), f16::from_f32(largest(&minima) / 63.0));
        let six_bits = |values: &[f32; PARTS], unit: f16| {
            let inverse = inverse(unit.to_f32());
            values.map(|value| (value * inverse).round_ties_even().clamp(0.0, 63.0) as u8)
        };
        let (scales, minima) = (six_bits(&scales, scale), six_bits(&minima, minimum));
        Self {
            scale,
            minimum,
            packed: pack(&scales, &minima),
            inverse: scales.map(|step| inverse(scale.to_f32() * f32::from(step))),
            offset: minima.map(|offset| minimum.to_f32() * f32::from(offset)),
            top,
        }
    }

    /// The code of a value of a part.
    #[inline(always)]
    pub(super) fn code(&self, part: usize, value: f32) -> u8 {
        ((value + self.offset[part]) * self.inverse[part]).round_ties_even().clamp(0.0, self.top) as u8
    }
}

/// One over a step; zero for steps so small that it would not be finite.
#[inline(always)]
fn inverse(step: f32) -> f32 {
    if step > f32::MIN_POSITIVE { 1.0 / step } else { 0.0 }
}

/// The step and the (negated) minimum, neither below zero, with which the codes 0 to `top` describe a part best.
#[inline(always)]
fn fit(values: &[f32; PART], top: f32) -> (f32, f32) {
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
    let steps: [f32; GRIDS] = std::array::from_fn(|grid| grid_codes(grid, top) * inverse_range);
    let mut sums = [[0.0f32; GRIDS]; 3];
    for at in 0..PART {
        let (distance, weight, weighted) = (values[at] - least, weights[at], weighted[at]);
        for grid in 0..GRIDS {
            let code = (distance * steps[grid]).round_ties_even().min(top);
            sums[0][grid] += weight * code;
            sums[1][grid] += weight * code * code;
            sums[2][grid] += weighted * code;
        }
    }
    // What remains where no grid tells the values apart.
    let mut best = ((most - least) / top, -least);
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

/// By how many codes the range of a part is divided in a grid: from 1.1 below the top code to 1 above it.
fn grid_codes(grid: usize, top: f32) -> f32 {
    top - 1.1 + 0.14 * grid as f32
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
