//! The specification: one output after the other, in plain loops. Also what processors without better instructions run.

use rayon::prelude::*;

use half::f16;

use super::activations::Rows;
use super::layout::{Halves, Kind, LANES, LINE, LONGEST, Q2KScales, Q4_1Scales, Q4KScales, Q6KScales};
use super::matrix::{Matrix, Panel};
use super::pack::unpack;
use super::store;
use crate::gemm::ViewMut;
use crate::isa;

/// Rows that are multiplied with an unpacked block before the next one is unpacked.
const ROWS: usize = 16;

/// The product on any processor.
pub(super) fn product(y: &ViewMut, rows: &Rows, weights: &Matrix, add: bool) {
    (0..weights.panels()).into_par_iter().for_each(|panel| {
        for first in (0..rows.count()).step_by(ROWS) {
            let count = ROWS.min(rows.count() - first);
            let mut sums = [[0.0; LANES]; ROWS];
            multiply(weights, panel, rows, first, &mut sums[..count]);
            for (row, sums) in sums[..count].iter().enumerate() {
                // SAFETY: each panel's columns are written by one task, and each row once.
                unsafe { store(y, first + row, panel, sums, add) }
            }
        }
    });
}

isa::dispatch! {
    /// Adds the products of a panel and of rows from `first` on.
    fn multiply<FMA>(weights: &Matrix, panel: usize, rows: &Rows, first: usize, sums: &mut [[f32; LANES]]) {
        let (kind, panel) = (weights.kind(), weights.panel(panel));
        let mut codes = [[0; LINE]; LONGEST / 4];
        for block in 0..weights.blocks() {
            let bytes = kind.code_lines() * LINE;
            unpack(kind, &panel.codes[block * bytes..][..bytes], &mut codes);
            for (row, sums) in sums.iter_mut().enumerate() {
                let (a, scale) = (rows.codes(first + row, block), rows.scale(first + row, block));
                match kind {
                    Kind::Q8_0 | Kind::Q5_0 | Kind::Q4_0 => {
                        let scales = bytemuck::cast_slice::<_, Halves>(panel.scales)[block];
                        let dot = dot(&codes, &a[..32], kind.offset());
                        for lane in 0..LANES {
                            let scale = float(scales[lane]) * scale;
                            sums[lane] = (dot[lane] as f32).mul_add(scale, sums[lane]);
                        }
                    }
                    Kind::Q5_1 | Kind::Q4_1 => {
                        let scales = &bytemuck::cast_slice::<_, Q4_1Scales>(panel.scales)[block];
                        let (dot, sum) = (dot(&codes, &a[..32], 0), sum(&a[..32]));
                        for lane in 0..LANES {
                            let own = dot[lane] as f32 * float(scales.scale[lane]);
                            let both = (sum as f32).mul_add(float(scales.minimum[lane]), own);
                            sums[lane] = both.mul_add(scale, sums[lane]);
                        }
                    }
                    Kind::Q6K | Kind::Q3K => {
                        let scales = &bytemuck::cast_slice::<_, Q6KScales>(panel.scales)[block];
                        let mut total = [0; LANES];
                        for part in 0..16 {
                            let dot = dot(&codes[4 * part..], &a[16 * part..][..16], kind.offset());
                            for lane in 0..LANES {
                                total[lane] += i32::from(scales.scales[part][lane]) * dot[lane];
                            }
                        }
                        for lane in 0..LANES {
                            let scale = float(scales.scale[lane]) * scale;
                            sums[lane] = (total[lane] as f32).mul_add(scale, sums[lane]);
                        }
                    }
                    Kind::Q5K | Kind::Q4K => {
                        let scales = &bytemuck::cast_slice::<_, Q4KScales>(panel.scales)[block];
                        let (mut total, mut minima) = ([0; LANES], [0; LANES]);
                        for part in 0..8 {
                            let a = &a[32 * part..][..32];
                            let (dot, sum) = (dot(&codes[8 * part..], a, 0), sum(a));
                            for lane in 0..LANES {
                                total[lane] += i32::from(scales.scales[part][lane]) * dot[lane];
                                minima[lane] += i32::from(scales.minima[part / 2][lane][part % 2]) * sum;
                            }
                        }
                        add_both(sums, (total, minima), (scales.scale, scales.minimum), scale);
                    }
                    Kind::Q2K => {
                        let scales = &bytemuck::cast_slice::<_, Q2KScales>(panel.scales)[block];
                        let (mut total, mut minima) = ([0; LANES], [0; LANES]);
                        for part in 0..16 {
                            let a = &a[16 * part..][..16];
                            let (dot, sum) = (dot(&codes[4 * part..], a, 0), sum(a));
                            for lane in 0..LANES {
                                total[lane] += i32::from(scales.scales[part][lane] & 15) * dot[lane];
                                minima[lane] += i32::from(scales.scales[part][lane] >> 4) * sum;
                            }
                        }
                        add_both(sums, (total, minima), (scales.scale, scales.minimum), scale);
                    }
                }
            }
        }
    }
}

/// One link of each lane's chain where parts have minima.
#[inline(always)]
fn add_both(
    sums: &mut [f32; LANES],
    (total, minima): ([i32; LANES], [i32; LANES]),
    (scales, minimum): (Halves, Halves),
    scale: f32,
) {
    for lane in 0..LANES {
        let own = total[lane] as f32 * float(scales[lane]);
        let both = (-(minima[lane] as f32)).mul_add(float(minimum[lane]), own);
        sums[lane] = both.mul_add(scale, sums[lane]);
    }
}

#[inline(always)]
fn float(half: [u8; 2]) -> f32 {
    f16::from_le_bytes(half).to_f32()
}

#[inline(always)]
fn sum(a: &[i8]) -> i32 {
    a.iter().map(|&a| i32::from(a)).sum()
}

/// The dot products of each lane's values with some activations.
#[inline(always)]
fn dot(codes: &[[u8; LINE]], a: &[i8], offset: i32) -> [i32; LANES] {
    let mut dot = [0; LANES];
    for (line, a) in codes.iter().zip(a.as_chunks::<4>().0) {
        for (dot, codes) in dot.iter_mut().zip(line.as_chunks::<4>().0) {
            for (code, a) in codes.iter().zip(a) {
                *dot += (i32::from(*code) - offset) * i32::from(*a);
            }
        }
    }
    dot
}

/// The values of a lane's block.
pub(super) fn values(kind: Kind, panel: Panel, block: usize, lane: usize, out: &mut [f32]) {
    let bytes = kind.code_lines() * LINE;
    let mut codes = [[0; LINE]; LONGEST / 4];
    unpack(kind, &panel.codes[block * bytes..][..bytes], &mut codes);
    let value = |place: usize| f32::from(codes[place / 4][4 * lane + place % 4]) - kind.offset() as f32;
    let half = |halves: &Halves| float(halves[lane]);
    // A part's values: step times integer, less its minimum.
    let part = |out: &mut [f32], first: usize, step: f32, minimum: f32| {
        out.iter_mut().enumerate().for_each(|(at, out)| *out = step * value(first + at) - minimum);
    };
    match kind {
        Kind::Q8_0 | Kind::Q5_0 | Kind::Q4_0 => {
            let scale = half(&bytemuck::cast_slice(panel.scales)[block]);
            out.iter_mut().enumerate().for_each(|(place, out)| *out = value(place) * scale);
        }
        Kind::Q5_1 | Kind::Q4_1 => {
            let scales = &bytemuck::cast_slice::<_, Q4_1Scales>(panel.scales)[block];
            part(out, 0, half(&scales.scale), -half(&scales.minimum));
        }
        Kind::Q5K | Kind::Q4K => {
            let scales = &bytemuck::cast_slice::<_, Q4KScales>(panel.scales)[block];
            for (index, out) in out.chunks_exact_mut(32).enumerate() {
                let step = half(&scales.scale) * f32::from(scales.scales[index][lane]);
                let minimum = half(&scales.minimum) * f32::from(scales.minima[index / 2][lane][index % 2]);
                part(out, 32 * index, step, minimum);
            }
        }
        Kind::Q2K => {
            let scales = &bytemuck::cast_slice::<_, Q2KScales>(panel.scales)[block];
            for (index, out) in out.chunks_exact_mut(16).enumerate() {
                let both = scales.scales[index][lane];
                let step = half(&scales.scale) * f32::from(both & 15);
                part(out, 16 * index, step, half(&scales.minimum) * f32::from(both >> 4));
            }
        }
        Kind::Q6K | Kind::Q3K => {
            let scales = &bytemuck::cast_slice::<_, Q6KScales>(panel.scales)[block];
            for (index, out) in out.chunks_exact_mut(16).enumerate() {
                let step = half(&scales.scale) * f32::from(scales.scales[index][lane]);
                out.iter_mut().enumerate().for_each(|(at, out)| *out = step * value(16 * index + at));
            }
        }
    }
}
