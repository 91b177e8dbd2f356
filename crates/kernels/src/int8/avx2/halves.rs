//! Bytes that are codes, and halves of bytes that are, with or without fifth bits: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K.

use std::arch::x86_64::*;

use super::words::{codes, floats, four, scales};
use super::{Cells, PANELS, ROWS, Sums, WIDTH};
use crate::int8::activations::Row;
use crate::int8::layout::{Halves, Kind, Q4_1Scales, Q4KScales};
use crate::int8::matrix::Panel;

kernel! {
    /// A block of 32: codes without their sign, and activations with it.
    fn q8_0(panels: &[Panel; PANELS], block: usize, rows: &[Row; ROWS], sums: &mut Sums, eight: usize) {
        let (offset, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
        let mut dots = zeros!();
        for group in 0..eight {
            let (mut values, mut sizes) = ([_mm256_setzero_si256(); V], [_mm256_setzero_si256(); V]);
            for v in 0..V {
                let (panel, half) = (v / 2, v % 2);
                values[v] = _mm256_xor_si256(codes(&panels[panel], half, 8 * block + group), offset);
                sizes[v] = _mm256_abs_epi8(values[v]);
            }
            for r in 0..R {
                let a = four(rows[r].codes.as_ptr().add(32 * block + 4 * group));
                for v in 0..V {
                    let two = _mm256_maddubs_epi16(sizes[v], _mm256_sign_epi8(a, values[v]));
                    dots[v][r] = _mm256_add_epi32(dots[v][r], _mm256_madd_epi16(two, ones));
                }
            }
        }
        add_scaled!(sums, dots, |panel: usize| scales::<Halves>(&panels[panel], block), rows, block);
    }
}

kernel! {
    /// A block of 32: lower halves of four lines, then their upper halves. Where codes have five bits, a line before those has
    /// the fifth ones, and half as many products are added in 16 bits.
    fn block_of_32<const FIVE: bool, const MINIMUM: bool>(
        panels: &[Panel; PANELS],
        block: usize,
        rows: &[Row; ROWS],
        sums: &mut Sums,
        eight: usize,
    ) {
        let (ones, mask, fifth) = (_mm256_set1_epi16(1), _mm256_set1_epi8(15), _mm256_set1_epi8(16));
        let (first, stages) = if FIVE { (5 * block + 1, 2) } else { (4 * block, 1) };
        let mut totals = zeros!();
        for stage in 0..stages {
            let mut dots = zeros!();
            for group in eight / 2 / stages * stage..eight / 2 / stages * (stage + 1) {
                let (mut digits, mut bits) = ([_mm256_setzero_si256(); V], [_mm256_setzero_si256(); V]);
                for v in 0..V {
                    let (panel, half) = (v / 2, v % 2);
                    digits[v] = _mm256_and_si256(codes(&panels[panel], half, first + group), mask);
                    if FIVE {
                        let all = codes(&panels[panel], half, 5 * block);
                        bits[v] = _mm256_srl_epi16(all, _mm_cvtsi32_si128(group as i32));
                        let fifths = _mm256_and_si256(_mm256_slli_epi16::<4>(bits[v]), fifth);
                        digits[v] = _mm256_or_si256(digits[v], fifths);
                    }
                }
                add_products!(dots, digits, rows, 32 * block + 4 * group);
                in_order!(dots);
                for v in 0..V {
                    let (panel, half) = (v / 2, v % 2);
                    let line = codes(&panels[panel], half, first + group);
                    digits[v] = _mm256_and_si256(_mm256_srli_epi16::<4>(line), mask);
                    if FIVE {
                        digits[v] = _mm256_or_si256(digits[v], _mm256_and_si256(bits[v], fifth));
                    }
                }
                add_products!(dots, digits, rows, 32 * block + 16 + 4 * group);
            }
            for v in 0..V {
                for r in 0..R {
                    totals[v][r] = _mm256_add_epi32(totals[v][r], _mm256_madd_epi16(dots[v][r], ones));
                }
            }
        }
        if MINIMUM {
            for v in 0..V {
                let (panel, half) = (v / 2, v % 2);
                let own = scales::<Q4_1Scales>(&panels[panel], block);
                let (scale, minimum) = (floats(&own.scale, half), floats(&own.minimum, half));
                for r in 0..R {
                    let own = _mm256_mul_ps(_mm256_cvtepi32_ps(totals[v][r]), scale);
                    let sum = _mm256_set1_ps(*rows[r].sums.as_ptr().add(block) as f32);
                    let both = _mm256_fmadd_ps(sum, minimum, own);
                    add_both!(sums, both, panel, half, rows, r, block);
                }
            }
            return;
        }
        let offset = if FIVE { Kind::Q5_0.offset() } else { Kind::Q4_0.offset() };
        for r in 0..R {
            let offset = _mm256_set1_epi32(-offset * *rows[r].sums.as_ptr().add(block));
            for v in 0..V {
                totals[v][r] = _mm256_add_epi32(offset, totals[v][r]);
            }
        }
        add_scaled!(sums, totals, |panel: usize| scales::<Halves>(&panels[panel], block), rows, block);
    }
}

kernel! {
    /// A block of 256: eight lines hold two parts, of which one after the other is multiplied. Where codes have five bits,
    /// eight lines before them have the fifth ones of all parts, and half as many products are added in 16 bits.
    fn parts_of_32<const FIVE: bool>(
        panels: &[Panel; PANELS],
        block: usize,
        rows: &[Row; ROWS],
        sums: &mut Sums,
        eight: usize,
    ) {
        let (mask, fifth) = (_mm256_set1_epi8(15), _mm256_set1_epi8(16));
        let (lines, first, stages) = if FIVE { (40 * block, 40 * block + 8, 2) } else { (0, 32 * block, 1) };
        let scales: [&Q4KScales; PANELS] = std::array::from_fn(|panel| scales(&panels[panel], block));
        let mut totals = zeros!();
        for pair in 0..eight / 2 {
            macro_rules! part {
                ($odd:literal, |$line:ident| $digit:expr, |$bits:ident| $fifth:expr) => {
                    for stage in 0..stages {
                        let mut dots = zeros!();
                        for group in eight / stages * stage..eight / stages * (stage + 1) {
                            let mut digits = [_mm256_setzero_si256(); V];
                            for v in 0..V {
                                let (panel, half) = (v / 2, v % 2);
                                let $line = codes(&panels[panel], half, first + 8 * pair + group);
                                digits[v] = _mm256_and_si256($digit, mask);
                                if FIVE {
                                    let bits = codes(&panels[panel], half, lines + group);
                                    let $bits = _mm256_srl_epi16(bits, _mm_cvtsi32_si128(pair as i32));
                                    digits[v] = _mm256_or_si256(digits[v], _mm256_and_si256($fifth, fifth));
                                }
                            }
                            add_products!(dots, digits, rows, 256 * block + 64 * pair + 32 * $odd + 4 * group);
                        }
                        add_part!(totals, dots, scales, 2 * pair + $odd, _mm256_cvtepu8_epi16);
                    }
                };
            }
            part!(0, |line| line, |bits| _mm256_slli_epi16::<4>(bits));
            part!(1, |line| _mm256_srli_epi16::<4>(line), |bits| bits);
        }
        for v in 0..V {
            let (panel, half) = (v / 2, v % 2);
            let (scale, minimum) = (floats(&scales[panel].scale, half), floats(&scales[panel].minimum, half));
            for r in 0..R {
                let mut minima = _mm256_setzero_si256();
                for pair in 0..4 {
                    let least = scales[panel].minima[pair].as_ptr().add(WIDTH * half);
                    let least = _mm256_cvtepu8_epi16(_mm_loadu_si128(least.cast()));
                    let pairs = four(rows[r].pairs.as_ptr().add(8 * block + 2 * pair).cast());
                    minima = _mm256_add_epi32(minima, _mm256_madd_epi16(least, pairs));
                }
                let own = _mm256_mul_ps(_mm256_cvtepi32_ps(totals[v][r]), scale);
                let both = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(minima), minimum, own);
                add_both!(sums, both, panel, half, rows, r, block);
            }
        }
    }
}
