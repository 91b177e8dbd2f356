//! Parts of 16 values, whose codes lie in quarters of bytes, or in halves that other bits complete: Q6_K, Q3_K, Q2_K.

use std::arch::x86_64::*;

use super::words::{codes, floats, four, pairs_of_sums, scales};
use super::{Cells, PANELS, ROWS, Sums, WIDTH};
use crate::int8::activations::Row;
use crate::int8::layout::{Kind, Q2KScales, Q6KScales};
use crate::int8::matrix::Panel;

/// What the codes' offset, a power of two, adds to each total, taken away, and the totals' link of the chain.
macro_rules! end_offset {
    ($totals:ident, $kind:expr, $scales:ident, $block:ident, $rows:ident, $sums:ident) => {
        let pairs: [[i32; 8]; R] =
            std::array::from_fn(|r| pairs_of_sums($rows[r].sums.as_ptr().add(16 * $block)));
        for v in 0..V {
            let (panel, half) = (v / 2, v % 2);
            let mut offsets = [_mm256_setzero_si256(); R];
            for pair in 0..8 {
                let [first, second] = [0, 1].map(|odd| {
                    let parts = $scales[panel].scales[2 * pair + odd].as_ptr().add(WIDTH * half);
                    _mm_loadl_epi64(parts.cast())
                });
                let parts = _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(first, second));
                for r in 0..R {
                    let scaled = _mm256_madd_epi16(parts, _mm256_set1_epi32(pairs[r][pair]));
                    offsets[r] = _mm256_add_epi32(offsets[r], scaled);
                }
            }
            for r in 0..R {
                $totals[v][r] = _mm256_sub_epi32(
                    $totals[v][r],
                    _mm256_slli_epi32::<{ $kind.offset().ilog2() as i32 }>(offsets[r]),
                );
            }
        }
        add_scaled!($sums, $totals, |panel: usize| &$scales[panel].scale, $rows, $block);
    };
}

kernel! {
    /// A block of 256: a line of upper bits completes the halves of two lines of lower ones, which belong to four parts; one
    /// part after the other is multiplied, two words at a time.
    fn q6_k(panels: &[Panel; PANELS], block: usize, rows: &[Row; ROWS], sums: &mut Sums, eight: usize) {
        let scales: [&Q6KScales; PANELS] =
            std::array::from_fn(|panel| scales(&panels[panel], block));
        let mut totals = zeros!();
        for eighth in 0..eight / 2 {
            let (side, odd) = (eighth / 2, eighth % 2);
            macro_rules! quarter {
                ($quarter:literal) => {
                    for two in 0..eight / 4 {
                        let mut dots = zeros!();
                        for group in [0, 1].map(|one| 4 * odd + 2 * two + one) {
                            let mut joined = [_mm256_setzero_si256(); V];
                            for v in 0..V {
                                let (panel, half) = (v / 2, v % 2);
                                let line = 48 * block + 24 * side + 3 * group;
                                let low = codes(&panels[panel], half, line + $quarter % 2);
                                let high = codes(&panels[panel], half, line + 2);
                                joined[v] = six_bits::<$quarter>(low, high);
                            }
                            let from = 256 * block + 128 * side + 32 * $quarter + 4 * group;
                            add_products!(dots, joined, rows, from);
                        }
                        let part = 8 * side + 2 * $quarter + odd;
                        add_part!(totals, dots, scales, part, _mm256_cvtepi8_epi16);
                    }
                };
            }
            quarter!(0);
            quarter!(1);
            quarter!(2);
            quarter!(3);
        }
        end_offset!(totals, Kind::Q6K, scales, block, rows, sums);
    }
}

kernel! {
    /// [`q6_k`] for few rows: every line is read once, which takes registers for four times as many sums.
    fn q6_k_whole(panels: &[Panel; PANELS], block: usize, rows: &[Row; ROWS], sums: &mut Sums, eight: usize) {
        let scales: [&Q6KScales; PANELS] =
            std::array::from_fn(|panel| scales(&panels[panel], block));
        let mut totals = zeros!();
        for two in 0..eight {
            let (side, odd) = (two / 4, two % 4 / 2);
            let mut dots = [zeros!(), zeros!(), zeros!(), zeros!()];
            for group in 2 * (two % 4)..2 * (two % 4) + 2 {
                let mut joined = [[_mm256_setzero_si256(); V]; 4];
                for v in 0..V {
                    let (panel, half) = (v / 2, v % 2);
                    let line = 48 * block + 24 * side + 3 * group;
                    let [first, second, high] = [0, 1, 2].map(|at| codes(&panels[panel], half, line + at));
                    joined[0][v] = six_bits::<0>(first, high);
                    joined[1][v] = six_bits::<1>(second, high);
                    joined[2][v] = six_bits::<2>(first, high);
                    joined[3][v] = six_bits::<3>(second, high);
                }
                for quarter in 0..4 {
                    let from = 256 * block + 128 * side + 32 * quarter + 4 * group;
                    add_products!(dots[quarter], joined[quarter], rows, from);
                }
            }
            for quarter in 0..4 {
                add_part!(totals, dots[quarter], scales, 8 * side + 2 * quarter + odd, _mm256_cvtepi8_epi16);
            }
        }
        end_offset!(totals, Kind::Q6K, scales, block, rows, sums);
    }
}

kernel! {
    /// A block of 256: three lines hold two parts, six words in halves of bytes, the other two in the fourth bits of those.
    fn q3_k(panels: &[Panel; PANELS], block: usize, rows: &[Row; ROWS], sums: &mut Sums, eight: usize) {
        let (mask, spare) = (_mm256_set1_epi8(7), _mm256_set1_epi8(0x88_u8.cast_signed()));
        let scales: [&Q6KScales; PANELS] = std::array::from_fn(|panel| scales(&panels[panel], block));
        let mut totals = zeros!();
        for pair in 0..eight {
            let first = 24 * block + 3 * pair;
            let from = 256 * block + 32 * pair;
            // The two words that halves of bytes are.
            macro_rules! halves {
                ($dots:ident, $from:expr, |$panel:ident, $half:ident| $bytes:expr) => {
                    let (mut bytes, mut digits) = ([_mm256_setzero_si256(); V], [_mm256_setzero_si256(); V]);
                    for v in 0..V {
                        let ($panel, $half) = (&panels[v / 2], v % 2);
                        bytes[v] = $bytes;
                        digits[v] = _mm256_and_si256(bytes[v], mask);
                    }
                    add_products!($dots, digits, rows, $from);
                    in_order!($dots);
                    for v in 0..V {
                        digits[v] = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes[v]), mask);
                    }
                    add_products!($dots, digits, rows, $from + 4);
                    in_order!($dots);
                };
            }
            let mut dots = zeros!();
            halves!(dots, from, |panel, half| codes(panel, half, first));
            halves!(dots, from + 8, |panel, half| codes(panel, half, first + 1));
            add_part!(totals, dots, scales, 2 * pair, _mm256_cvtepi8_epi16);
            let mut dots = zeros!();
            halves!(dots, from + 16, |panel, half| codes(panel, half, first + 2));
            halves!(dots, from + 24, |panel, half| {
                let [low, middle, high] =
                    [0, 1, 2].map(|third| _mm256_and_si256(codes(panel, half, first + third), spare));
                let two = _mm256_or_si256(_mm256_srli_epi16::<3>(low), _mm256_srli_epi16::<2>(middle));
                _mm256_or_si256(two, _mm256_srli_epi16::<1>(high))
            });
            add_part!(totals, dots, scales, 2 * pair + 1, _mm256_cvtepi8_epi16);
        }
        end_offset!(totals, Kind::Q3K, scales, block, rows, sums);
    }
}

kernel! {
    /// A block of 256: a line holds a part, two bits a code.
    fn q2_k(panels: &[Panel; PANELS], block: usize, rows: &[Row; ROWS], sums: &mut Sums, eight: usize) {
        let mask = _mm256_set1_epi8(3);
        let scales: [&Q2KScales; PANELS] = std::array::from_fn(|panel| scales(&panels[panel], block));
        let mut totals = zeros!();
        for part in 0..2 * eight {
            let mut dots = zeros!();
            macro_rules! word {
                ($word:literal, |$line:ident| $bytes:expr) => {
                    let mut digits = [_mm256_setzero_si256(); V];
                    for v in 0..V {
                        let $line = codes(&panels[v / 2], v % 2, 16 * block + part);
                        digits[v] = _mm256_and_si256($bytes, mask);
                    }
                    add_products!(dots, digits, rows, 256 * block + 16 * part + 4 * $word);
                    in_order!(dots);
                };
            }
            word!(0, |line| line);
            word!(1, |line| _mm256_srli_epi16::<2>(line));
            word!(2, |line| _mm256_srli_epi16::<4>(line));
            word!(3, |line| _mm256_srli_epi16::<6>(line));
            add_part!(totals, dots, scales, part, lower_halves);
        }
        let pairs: [[i32; 8]; R] = std::array::from_fn(|r| pairs_of_sums(rows[r].sums.as_ptr().add(16 * block)));
        for v in 0..V {
            let (panel, half) = (v / 2, v % 2);
            let (scale, minimum) = (floats(&scales[panel].scale, half), floats(&scales[panel].minimum, half));
            let mut minima = [_mm256_setzero_si256(); R];
            for pair in 0..8 {
                let [first, second] = [0, 1].map(|odd| {
                    let parts = scales[panel].scales[2 * pair + odd].as_ptr().add(WIDTH * half);
                    _mm_loadl_epi64(parts.cast())
                });
                let least = _mm256_srli_epi16::<4>(_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(first, second)));
                for r in 0..R {
                    let scaled = _mm256_madd_epi16(least, _mm256_set1_epi32(pairs[r][pair]));
                    minima[r] = _mm256_add_epi32(minima[r], scaled);
                }
            }
            for r in 0..R {
                let own = _mm256_mul_ps(_mm256_cvtepi32_ps(totals[v][r]), scale);
                let both = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(minima[r]), minimum, own);
                add_both!(sums, both, panel, half, rows, r, block);
            }
        }
    }
}

/// Codes of Q6_K: a quarter's halves of bytes of a line, and what completes them of the line of upper bits.
///
/// # Safety
/// The processor has the instructions.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn six_bits<const QUARTER: usize>(low: __m256i, high: __m256i) -> __m256i {
    let (mask, upper) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    let (low, high) = match QUARTER {
        0 => (low, _mm256_slli_epi16::<4>(high)),
        1 => (low, _mm256_slli_epi16::<2>(high)),
        2 => (_mm256_srli_epi16::<4>(low), high),
        _ => (_mm256_srli_epi16::<4>(low), _mm256_srli_epi16::<2>(high)),
    };
    _mm256_or_si256(_mm256_and_si256(low, mask), _mm256_and_si256(high, upper))
}

/// The lower halves of bytes, in 16 bits each.
///
/// # Safety
/// The processor has the instructions.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn lower_halves(bytes: __m128i) -> __m256i {
    _mm256_and_si256(_mm256_cvtepu8_epi16(bytes), _mm256_set1_epi16(15))
}
