//! Products by vectors of processors that have AVX2 alone: eight outputs a register.
//!
//! `vpmaddubsw` multiplies bytes without a sign by bytes with one and adds two products in 16 bits, where it saturates. It
//! never does here: codes of 4 bits leave room for the 32 products of a part, sixteen in each half of a lane's word
//! (15 · 127 · 16 = 30,480), those of 6 bits for four (63 · 127 · 4 = 32,004), and what has 8 bits is multiplied without its
//! sign, which the activation takes over (128 · 127 · 2 = 32,512). One `vpmaddwd` then multiplies with the part's scale, and goes
//! on in 32 bits.
//!
//! Up to four rows go with a panel at once, so that its codes are unpacked for all of them: eight sums of sixteen registers. One
//! row goes with two panels, two streams through memory.

#![allow(clippy::needless_range_loop)] // Of arrays of registers, the same place of several.

use std::arch::x86_64::*;

use super::activations::{Row, Rows};
use super::layout::{Halves, Kind, LANES, LINE, Q4KScales, Q6KScales};
use super::matrix::{Matrix, Panel};
use super::{share, store};
use crate::gemm::ViewMut;
use crate::isa::{self, Isa};

/// Rows that are multiplied at once, at most.
const ROWS: usize = 4;
/// Panels that they are multiplied with, at most.
const PANELS: usize = 2;
/// Lanes of a register: a panel takes two.
const WIDTH: usize = LANES / 2;

/// Sums of some rows and panels.
type Sums = [[[f32; LANES]; ROWS]; PANELS];
/// Registers of `R` rows for each of `V` halves of panels.
type Cells<const R: usize, const V: usize> = [[__m256i; R]; V];

/// Whether this thread may use these instructions.
pub(super) fn available() -> bool {
    isa::current() >= Isa::Avx2 && std::is_x86_feature_detected!("f16c")
}

/// The product of rows that lie one after the other.
///
/// # Safety
/// [`available`] has returned true.
pub(super) unsafe fn product(y: &ViewMut, rows: &Rows, weights: &Matrix, add: bool) {
    let threads = rayon::current_num_threads();
    let at_once = if rows.count() == 1 && weights.panels() >= PANELS * threads { PANELS } else { 1 };
    share::run(threads, weights.panels().div_ceil(at_once), &|| (), &|(), item| {
        let first = item * at_once;
        let panels = at_once.min(weights.panels() - first);
        // SAFETY: the caller's contract; each item's columns are written by one thread.
        unsafe {
            match panels {
                PANELS => one_row(y, rows, weights, first, add),
                _ => all_rows(y, rows, weights, first, add),
            }
        }
    });
}

/// One row times the panels from `first` on.
///
/// # Safety
/// The processor has the instructions, and nobody else writes these columns.
unsafe fn one_row(y: &ViewMut, rows: &Rows, weights: &Matrix, first: usize, add: bool) {
    let panels: [Panel; PANELS] = std::array::from_fn(|panel| weights.panel(first + panel));
    let mut sums: Sums = [[[0.0; LANES]; ROWS]; PANELS];
    // SAFETY: the caller's contract; a panel and a row hold as many blocks as the matrix says.
    unsafe {
        multiply::<1, { 2 * PANELS }>(weights, &panels, &[rows.row(0); ROWS], &mut sums);
        for (panel, sums) in sums.iter().enumerate() {
            store(y, 0, first + panel, &sums[0], add);
        }
    }
}

/// All rows times a panel. Groups of rows are as equal as can be, so that none is left with one.
///
/// # Safety
/// The processor has the instructions, and nobody else writes these columns.
unsafe fn all_rows(y: &ViewMut, rows: &Rows, weights: &Matrix, panel: usize, add: bool) {
    let groups = rows.count().div_ceil(ROWS);
    let panels = [weights.panel(panel); PANELS];
    let mut sums: Sums = [[[0.0; LANES]; ROWS]; PANELS];
    for group in 0..groups {
        let (from, to) = (group * rows.count() / groups, (group + 1) * rows.count() / groups);
        let row: [Row; ROWS] = std::array::from_fn(|row| rows.row(from + row.min(to - from - 1)));
        // SAFETY: the caller's contract; a panel and a row hold as many blocks as the matrix says.
        unsafe {
            match to - from {
                1 => multiply::<1, 2>(weights, &panels, &row, &mut sums),
                2 => multiply::<2, 2>(weights, &panels, &row, &mut sums),
                3 => multiply::<3, 2>(weights, &panels, &row, &mut sums),
                _ => multiply::<4, 2>(weights, &panels, &row, &mut sums),
            }
            for (row, sums) in sums[0][..to - from].iter().enumerate() {
                store(y, from + row, panel, sums, add);
            }
        }
    }
}

macro_rules! kernel {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$attribute])*
        ///
        /// # Safety
        /// The processor has the instructions; a panel and a row hold as many blocks as the matrix says.
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn $name<const R: usize, const V: usize>($($argument: $type),*) {
            // SAFETY: the caller's contract.
            unsafe { $body }
        }
    };
}

kernel! {
    /// Writes the sums of `R` rows with the first `V / 2` panels.
    fn multiply(weights: &Matrix, panels: &[Panel; PANELS], rows: &[Row; ROWS], sums: &mut Sums) {
        *sums = [[[0.0; LANES]; ROWS]; PANELS];
        // Of a loop whose end it knows, the compiler makes one piece, adds in an order of its own and runs out of registers.
        let eight = std::hint::black_box(8);
        for block in 0..weights.blocks() {
            match weights.kind() {
                Kind::Q8_0 => q8_0::<R, V>(panels, block, rows, sums, eight),
                Kind::Q4_0 => q4_0::<R, V>(panels, block, rows, sums, eight),
                Kind::Q4K => q4_k::<R, V>(panels, block, rows, sums, eight),
                Kind::Q6K if R * V <= 2 => q6_k_whole::<R, V>(panels, block, rows, sums, eight),
                Kind::Q6K => q6_k::<R, V>(panels, block, rows, sums, eight),
            }
        }
    }
}

// Not functions: where the compiler calls one, all sums go through memory.

/// Adds a word's products to 16-bit sums.
macro_rules! add_products {
    ($sums:expr, $codes:expr, $rows:ident, $from:expr) => {
        let (codes, from): ([__m256i; V], usize) = ($codes, $from);
        for r in 0..R {
            let a = four($rows[r].codes.as_ptr().add(from));
            for v in 0..V {
                $sums[v][r] = _mm256_add_epi16($sums[v][r], _mm256_maddubs_epi16(codes[v], a));
            }
        }
    };
}

/// One link of each sum's chain: integers, times the block's scales.
macro_rules! add_scaled {
    ($sums:ident, $dots:expr, $scales:expr, $rows:ident, $block:ident) => {
        for v in 0..V {
            let (panel, half) = (v / 2, v % 2);
            let own = floats($scales(panel), half);
            for r in 0..R {
                let scale = _mm256_mul_ps(own, _mm256_set1_ps(*$rows[r].scales.as_ptr().add($block)));
                let sum = $sums[panel][r].as_mut_ptr().add(WIDTH * half);
                let dot = _mm256_cvtepi32_ps($dots[v][r]);
                _mm256_storeu_ps(sum, _mm256_fmadd_ps(dot, scale, _mm256_loadu_ps(sum)));
            }
        }
    };
}

/// A cell of zeros for each row and half.
macro_rules! zeros {
    () => {{
        let zeros: Cells<R, V> = [[_mm256_setzero_si256(); R]; V];
        zeros
    }};
}

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
        add_scaled!(sums, dots, |panel: usize| halves(&panels[panel], block), rows, block);
    }
}

kernel! {
    /// A block of 32: lower halves of four lines, then their upper halves.
    fn q4_0(panels: &[Panel; PANELS], block: usize, rows: &[Row; ROWS], sums: &mut Sums, eight: usize) {
        let mut dots = zeros!();
        for group in 0..eight / 2 {
            let mut digits = [[_mm256_setzero_si256(); V]; 2];
            for v in 0..V {
                let (panel, half) = (v / 2, v % 2);
                let codes = codes(&panels[panel], half, 4 * block + group);
                (digits[0][v], digits[1][v]) = nibbles(codes);
            }
            add_products!(dots, digits[0], rows, 32 * block + 4 * group);
            add_products!(dots, digits[1], rows, 32 * block + 16 + 4 * group);
        }
        let ones = _mm256_set1_epi16(1);
        for r in 0..R {
            let offset = _mm256_set1_epi32(-Kind::Q4_0.offset() * *rows[r].sums.as_ptr().add(block));
            for v in 0..V {
                dots[v][r] = _mm256_add_epi32(offset, _mm256_madd_epi16(dots[v][r], ones));
            }
        }
        add_scaled!(sums, dots, |panel: usize| halves(&panels[panel], block), rows, block);
    }
}

/// Adds what a part's 16-bit sums are, times its scales, which are as `widened` makes them 16 bits of 8.
macro_rules! add_part {
    ($totals:ident, $dots:expr, $scales:ident, $part:expr, $widened:ident) => {
        for v in 0..V {
            let (panel, half) = (v / 2, v % 2);
            let parts = $scales[panel].scales[$part].as_ptr().add(WIDTH * half);
            let parts = _mm_loadl_epi64(parts.cast());
            // One for each of a lane's two sums.
            let parts = $widened(_mm_unpacklo_epi8(parts, parts));
            for r in 0..R {
                let scaled = _mm256_madd_epi16($dots[v][r], parts);
                $totals[v][r] = _mm256_add_epi32($totals[v][r], scaled);
            }
        }
    };
}

kernel! {
    /// A block of 256: eight lines hold two parts, of which one after the other is multiplied.
    fn q4_k(panels: &[Panel; PANELS], block: usize, rows: &[Row; ROWS], sums: &mut Sums, eight: usize) {
        let mask = _mm256_set1_epi8(15);
        let scales: [&Q4KScales; PANELS] =
            std::array::from_fn(|panel| &*panels[panel].scales.as_ptr().cast::<Q4KScales>().add(block));
        let mut totals = zeros!();
        for pair in 0..eight / 2 {
            let mut dots = zeros!();
            for group in 0..eight {
                let mut digits = [_mm256_setzero_si256(); V];
                for v in 0..V {
                    let (panel, half) = (v / 2, v % 2);
                    let codes = codes(&panels[panel], half, 32 * block + 8 * pair + group);
                    digits[v] = _mm256_and_si256(codes, mask);
                }
                add_products!(dots, digits, rows, 256 * block + 64 * pair + 4 * group);
            }
            add_part!(totals, dots, scales, 2 * pair, _mm256_cvtepu8_epi16);
            let mut dots = zeros!();
            for group in 0..eight {
                let mut digits = [_mm256_setzero_si256(); V];
                for v in 0..V {
                    let (panel, half) = (v / 2, v % 2);
                    let codes = codes(&panels[panel], half, 32 * block + 8 * pair + group);
                    digits[v] = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
                }
                add_products!(dots, digits, rows, 256 * block + 64 * pair + 32 + 4 * group);
            }
            add_part!(totals, dots, scales, 2 * pair + 1, _mm256_cvtepu8_epi16);
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
                let sum = sums[panel][r].as_mut_ptr().add(WIDTH * half);
                let scale = _mm256_set1_ps(*rows[r].scales.as_ptr().add(block));
                _mm256_storeu_ps(sum, _mm256_fmadd_ps(both, scale, _mm256_loadu_ps(sum)));
            }
        }
    }
}

/// What the offset of Q6_K's codes adds to each total, taken away, and the totals' link of the chain.
macro_rules! end_q6_k {
    ($totals:ident, $scales:ident, $block:ident, $rows:ident, $sums:ident) => {
        let mut pairs = [[0i32; 8]; R];
        for r in 0..R {
            let sums = &*$rows[r].sums.as_ptr().add(16 * $block).cast::<[[i32; 2]; 8]>();
            for (pair, sums) in pairs[r].iter_mut().zip(sums) {
                *pair = sums[0] & 0xffff | sums[1] << 16;
            }
        }
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
                $totals[v][r] = _mm256_sub_epi32($totals[v][r], _mm256_slli_epi32::<5>(offsets[r]));
            }
        }
        add_scaled!($sums, $totals, |panel: usize| &$scales[panel].scale, $rows, $block);
    };
}

kernel! {
    /// A block of 256: a line of upper bits completes the halves of two lines of lower ones, which belong to four parts; one
    /// part after the other is multiplied, two words at a time.
    fn q6_k(panels: &[Panel; PANELS], block: usize, rows: &[Row; ROWS], sums: &mut Sums, eight: usize) {
        let (mask, upper) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
        let scales: [&Q6KScales; PANELS] =
            std::array::from_fn(|panel| &*panels[panel].scales.as_ptr().cast::<Q6KScales>().add(block));
        let mut totals = zeros!();
        for eighth in 0..eight / 2 {
            let (side, odd) = (eighth / 2, eighth % 2);
            macro_rules! quarter {
                ($quarter:literal, |$low:ident, $high:ident| $joined:expr) => {
                    for two in 0..eight / 4 {
                        let mut dots = zeros!();
                        for group in [0, 1].map(|one| 4 * odd + 2 * two + one) {
                            let mut joined = [_mm256_setzero_si256(); V];
                            for v in 0..V {
                                let (panel, half) = (v / 2, v % 2);
                                let line = 48 * block + 24 * side + 3 * group;
                                let $low = codes(&panels[panel], half, line + $quarter % 2);
                                let $high = codes(&panels[panel], half, line + 2);
                                let (low, high): (__m256i, __m256i) = $joined;
                                joined[v] =
                                    _mm256_or_si256(_mm256_and_si256(low, mask), _mm256_and_si256(high, upper));
                            }
                            let from = 256 * block + 128 * side + 32 * $quarter + 4 * group;
                            add_products!(dots, joined, rows, from);
                        }
                        let part = 8 * side + 2 * $quarter + odd;
                        add_part!(totals, dots, scales, part, _mm256_cvtepi8_epi16);
                    }
                };
            }
            quarter!(0, |low, high| (low, _mm256_slli_epi16::<4>(high)));
            quarter!(1, |low, high| (low, _mm256_slli_epi16::<2>(high)));
            quarter!(2, |low, high| (_mm256_srli_epi16::<4>(low), high));
            quarter!(3, |low, high| (_mm256_srli_epi16::<4>(low), _mm256_srli_epi16::<2>(high)));
        }
        end_q6_k!(totals, scales, block, rows, sums);
    }
}

kernel! {
    /// [`q6_k`] for few rows: every line is read once, which takes registers for four times as many sums.
    fn q6_k_whole(panels: &[Panel; PANELS], block: usize, rows: &[Row; ROWS], sums: &mut Sums, eight: usize) {
        let (mask, upper) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
        let scales: [&Q6KScales; PANELS] =
            std::array::from_fn(|panel| &*panels[panel].scales.as_ptr().cast::<Q6KScales>().add(block));
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
                    let join =
                        |low, high| _mm256_or_si256(_mm256_and_si256(low, mask), _mm256_and_si256(high, upper));
                    joined[0][v] = join(first, _mm256_slli_epi16::<4>(high));
                    joined[1][v] = join(second, _mm256_slli_epi16::<2>(high));
                    joined[2][v] = join(_mm256_srli_epi16::<4>(first), high);
                    joined[3][v] = join(_mm256_srli_epi16::<4>(second), _mm256_srli_epi16::<2>(high));
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
        end_q6_k!(totals, scales, block, rows, sums);
    }
}

/// A half of a line.
///
/// # Safety
/// The panel has the line.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn codes(panel: &Panel, half: usize, line: usize) -> __m256i {
    // SAFETY: the caller's contract.
    unsafe { _mm256_loadu_si256(panel.codes.as_ptr().add(line * LINE + LINE / 2 * half).cast()) }
}

/// The scales of a block of 32.
///
/// # Safety
/// The panel has the block.
#[inline(always)]
unsafe fn halves<'a>(panel: &Panel<'a>, block: usize) -> &'a Halves {
    // SAFETY: the caller's contract; arrays of bytes lie anywhere.
    unsafe { &*panel.scales.as_ptr().cast::<Halves>().add(block) }
}

/// Four codes of an activation, for every lane.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four(codes: *const i8) -> __m256i {
    // SAFETY: the caller's contract.
    _mm256_set1_epi32(unsafe { codes.cast::<i32>().read_unaligned() })
}

/// The f16 of half the lanes.
///
/// # Safety
/// The processor has the instruction.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn floats(halves: &Halves, half: usize) -> __m256 {
    // SAFETY: 16 bytes of 32.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves[WIDTH * half..].as_ptr().cast()) })
}

/// Lower and upper halves of each byte.
///
/// # Safety
/// The processor has the instructions.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibbles(bytes: __m256i) -> (__m256i, __m256i) {
    let mask = _mm256_set1_epi8(15);
    (_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask))
}
