//! Products by vectors (`vpdpbusd`): sixteen outputs a register, four values of K of each in one instruction.
//!
//! Up to six rows go with two panels at once, up to three with four ([`panels_for`]). What four values of K of a row are
//! broadcast to serves all panels, what a line is unpacked to serves all rows, and the sums do not wait for each other. Four
//! panels are four streams through memory, which bounds few rows. The panels stay in the level-2 cache while all rows go by,
//! so weights are read from memory once.

#![allow(clippy::needless_range_loop)] // Of arrays of registers, the first `R` of the first `P` are used.

use std::arch::x86_64::*;

use super::activations::{Row, Rows};
use super::layout::{Halves, Kind, LANES, LINE, Q4KScales, Q6KScales};
use super::matrix::{Matrix, Panel};
use super::{share, store};
use crate::gemm::ViewMut;
use crate::isa::{self, Isa};

/// Rows that are multiplied at once, at most.
const ROWS: usize = 6;
/// Panels that they are multiplied with, at most.
const PANELS: usize = 4;

/// Sums up to which a half of a block of Q6_K is multiplied at once.
const FEW: usize = 4;

/// How far ahead lines are asked for, in bytes.
const AHEAD: usize = 4096;

/// Sums of some rows and panels.
type Sums = [[[f32; LANES]; ROWS]; PANELS];
/// A register for each of them.
type Cells<T> = [[T; ROWS]; PANELS];

/// Whether this thread may use these instructions.
pub(super) fn available() -> bool {
    isa::current() >= Isa::Avx512 && std::is_x86_feature_detected!("avx512vnni")
}

/// Panels that so many rows are multiplied with at once: as many as there are registers for, and fewer where not every thread
/// would have some. On Intel's processors one stream, with its lines asked for in time, reads 80 to 90 % of what memory gives;
/// on Zen 4 it reads 60 to 75 % of what four do.
fn panels_for(rows: usize, panels: usize, threads: usize) -> usize {
    let most = match rows {
        0..=3 if isa::is_intel() => 1,
        0..=3 => 4,
        _ => 2,
    };
    if panels < most * threads { 1 } else { most }
}

/// The product of rows that lie one after the other.
///
/// # Safety
/// [`available`] has returned true.
pub(super) unsafe fn product(y: &ViewMut, rows: &Rows, weights: &Matrix, add: bool) {
    let threads = rayon::current_num_threads();
    let at_once = panels_for(rows.count(), weights.panels(), threads);
    share::run(threads, weights.panels().div_ceil(at_once), &|| (), &|(), item| {
        let first = item * at_once;
        let panels = at_once.min(weights.panels() - first);
        // SAFETY: the caller's contract; each item's columns are written by one thread.
        unsafe {
            match panels {
                4 => all_rows::<4>(y, rows, weights, first, add),
                2 => all_rows::<2>(y, rows, weights, first, add),
                _ => (first..first + panels).for_each(|panel| all_rows::<1>(y, rows, weights, panel, add)),
            }
        }
    });
}

/// All rows times `P` panels from `first` on. Groups of rows are as equal as can be, so that none is left with one.
///
/// # Safety
/// The processor has the instructions, nobody else writes these columns, and for four panels there are at most three rows.
unsafe fn all_rows<const P: usize>(y: &ViewMut, rows: &Rows, weights: &Matrix, first: usize, add: bool) {
    let groups = rows.count().div_ceil(ROWS);
    let panels: [Panel; PANELS] = std::array::from_fn(|panel| weights.panel(first + panel.min(P - 1)));
    let mut sums: Sums = [[[0.0; LANES]; ROWS]; PANELS];
    for group in 0..groups {
        let (from, to) = (group * rows.count() / groups, (group + 1) * rows.count() / groups);
        let row: [Row; ROWS] = std::array::from_fn(|row| rows.row(from + row.min(to - from - 1)));
        // SAFETY: the caller's contract; a panel and a row hold as many blocks as the matrix says.
        unsafe {
            match (to - from, P) {
                (1, _) => multiply::<1, P>(weights, &panels, &row, &mut sums),
                (2, _) => multiply::<2, P>(weights, &panels, &row, &mut sums),
                (3, _) => multiply::<3, P>(weights, &panels, &row, &mut sums),
                (4, 1) => multiply::<4, 1>(weights, &panels, &row, &mut sums),
                (5, 1) => multiply::<5, 1>(weights, &panels, &row, &mut sums),
                (_, 1) => multiply::<6, 1>(weights, &panels, &row, &mut sums),
                (4, _) => multiply::<4, 2>(weights, &panels, &row, &mut sums),
                (5, _) => multiply::<5, 2>(weights, &panels, &row, &mut sums),
                (_, _) => multiply::<6, 2>(weights, &panels, &row, &mut sums),
            }
            for (panel, sums) in sums[..P].iter().enumerate() {
                for (row, sums) in sums[..to - from].iter().enumerate() {
                    store(y, from + row, first + panel, sums, add);
                }
            }
        }
    }
}

macro_rules! kernel {
    ($(#[$attribute:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$attribute])*
        ///
        /// # Safety
        /// The processor has the instructions; a panel and a row hold as many blocks as the matrix says.
        #[inline]
        #[allow(unused_unsafe)] // Some bodies hold nothing else that is.
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
        unsafe fn $name<const R: usize, const P: usize>($($argument: $type),*) $(-> $result)? {
            // SAFETY: the caller's contract.
            unsafe { $body }
        }
    };
}

// Not functions: the compiler would call some of them, with all sums in memory, for half of the speed.

/// Adds the products of four values of K from `from` on.
macro_rules! add_products {
    ($dots:expr, $weights:expr, $rows:ident, $from:expr) => {
        let (weights, from): ([__m512i; PANELS], usize) = ($weights, $from);
        for r in 0..R {
            let a = four($rows[r].codes.as_ptr().add(from));
            for panel in 0..P {
                $dots[panel][r] = _mm512_dpbusd_epi32($dots[panel][r], weights[panel], a);
            }
        }
    };
}

/// Adds a part's products, times its scales.
macro_rules! add_parts {
    ($totals:ident, $dots:expr, $panel:ident, $parts:expr) => {
        let parts: __m512i = $parts;
        for r in 0..R {
            let scaled = _mm512_mullo_epi32($dots[$panel][r], parts);
            $totals[$panel][r] = _mm512_add_epi32($totals[$panel][r], scaled);
        }
    };
}

/// What the weights' offset adds to each dot product, taken away.
macro_rules! offsets {
    ($dots:expr, $rows:ident, $sum:expr, $kind:expr) => {
        for r in 0..R {
            let offset = _mm512_set1_epi32(-$kind.offset() * *$rows[r].sums.as_ptr().add($sum));
            for panel in 0..P {
                $dots[panel][r] = offset;
            }
        }
    };
}

/// One link of each sum's chain.
macro_rules! add_scaled {
    ($sums:ident, $dots:ident, $panels:ident, $rows:ident, $block:ident) => {
        for panel in 0..P {
            let own = floats(&*$panels[panel].scales.as_ptr().cast::<Halves>().add($block));
            for r in 0..R {
                let scale = _mm512_mul_ps(own, _mm512_set1_ps(*$rows[r].scales.as_ptr().add($block)));
                $sums[panel][r] =
                    _mm512_fmadd_ps(_mm512_cvtepi32_ps($dots[panel][r]), scale, $sums[panel][r]);
            }
        }
    };
}

/// The registers to memory.
macro_rules! keep {
    ($found:ident, $sums:ident) => {
        for panel in 0..P {
            for r in 0..R {
                _mm512_storeu_ps($sums[panel][r].as_mut_ptr(), $found[panel][r]);
            }
        }
    };
}

/// # Safety
/// The processor has the instructions; a panel and a row hold as many blocks as the matrix says.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn multiply<const R: usize, const P: usize>(
    weights: &Matrix,
    panels: &[Panel; PANELS],
    rows: &[Row; ROWS],
    sums: &mut Sums,
) {
    let blocks = weights.blocks();
    // SAFETY: the caller's contract.
    unsafe {
        match weights.kind() {
            Kind::Q8_0 => q8_0::<R, P>(panels, blocks, rows, sums),
            Kind::Q4_0 => q4_0::<R, P>(panels, blocks, rows, sums),
            Kind::Q4K => q4_k::<R, P>(panels, blocks, rows, sums),
            Kind::Q6K => q6_k::<R, P>(panels, blocks, rows, sums),
            kind => unreachable!("blocks of {kind:?} are not taken"),
        }
    }
}

kernel! {
    /// Blocks of 32: the sums stay in registers.
    fn q8_0(panels: &[Panel; PANELS], blocks: usize, rows: &[Row; ROWS], sums: &mut Sums) {
        let mut found: Cells<__m512> = [[_mm512_setzero_ps(); ROWS]; PANELS];
        for block in 0..blocks {
            let mut dots: Cells<__m512i> = [[_mm512_setzero_si512(); ROWS]; PANELS];
            offsets!(dots, rows, block, Kind::Q8_0);
            for group in 0..8 {
                let at = (8 * block + group) * LINE;
                let mut weights: [__m512i; PANELS] = [_mm512_setzero_si512(); PANELS];
                for panel in 0..P {
                    weights[panel] = line::<P>(panels[panel].codes.as_ptr().add(at));
                }
                add_products!(dots, weights, rows, 32 * block + 4 * group);
            }
            add_scaled!(found, dots, panels, rows, block);
        }
        keep!(found, sums);
    }
}

kernel! {
    /// Lower halves of four lines, then their upper halves.
    fn q4_0(panels: &[Panel; PANELS], blocks: usize, rows: &[Row; ROWS], sums: &mut Sums) {
        let mut found: Cells<__m512> = [[_mm512_setzero_ps(); ROWS]; PANELS];
        for block in 0..blocks {
            let mut dots: Cells<__m512i> = [[_mm512_setzero_si512(); ROWS]; PANELS];
            offsets!(dots, rows, block, Kind::Q4_0);
            for group in 0..4 {
                let at = (4 * block + group) * LINE;
                let mut low: [__m512i; PANELS] = [_mm512_setzero_si512(); PANELS];
                let mut high: [__m512i; PANELS] = [_mm512_setzero_si512(); PANELS];
                for panel in 0..P {
                    [low[panel], high[panel]] = nibbles(line::<P>(panels[panel].codes.as_ptr().add(at)));
                }
                add_products!(dots, low, rows, 32 * block + 4 * group);
                add_products!(dots, high, rows, 32 * block + 16 + 4 * group);
            }
            add_scaled!(found, dots, panels, rows, block);
        }
        keep!(found, sums);
    }
}

kernel! {
    /// Eight lines hold two parts, of which one after the other is multiplied: registers hold the part's products and the
    /// block's totals, memory the sums.
    fn q4_k(panels: &[Panel; PANELS], blocks: usize, rows: &[Row; ROWS], sums: &mut Sums) {
        *sums = [[[0.0; LANES]; ROWS]; PANELS];
        let scales: [&[Q4KScales]; PANELS] = std::array::from_fn(|panel| bytemuck::cast_slice(panels[panel].scales));
        for block in 0..blocks {
            let mut totals: Cells<__m512i> = [[_mm512_setzero_si512(); ROWS]; PANELS];
            for pair in 0..4 {
                q4_k_half::<R, P, 0>(&mut totals, panels, &scales, rows, block, pair);
                q4_k_half::<R, P, 1>(&mut totals, panels, &scales, rows, block, pair);
            }
            for panel in 0..P {
                let scales = &scales[panel][block];
                let (scale, minimum) = (floats(&scales.scale), floats(&scales.minimum));
                for r in 0..R {
                    let mut minima = _mm512_setzero_si512();
                    for pair in 0..4 {
                        let least = _mm512_cvtepu8_epi16(_mm256_loadu_si256(scales.minima[pair].as_ptr().cast()));
                        let pairs = rows[r].pairs.as_ptr().add(8 * block + 2 * pair).cast::<i8>();
                        minima = _mm512_dpwssd_epi32(minima, least, four(pairs));
                    }
                    let own = _mm512_mul_ps(_mm512_cvtepi32_ps(totals[panel][r]), scale);
                    let both = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(minima), minimum, own);
                    let sum = sums[panel][r].as_mut_ptr();
                    let scale = _mm512_set1_ps(rows[r].scales[block]);
                    _mm512_storeu_ps(sum, _mm512_fmadd_ps(both, scale, _mm512_loadu_ps(sum)));
                }
            }
        }
    }
}

/// One part of a pair: the lower or the upper halves of its lines.
///
/// # Safety
/// The processor has the instructions; a panel and a row hold as many blocks as the matrix says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn q4_k_half<const R: usize, const P: usize, const HALF: usize>(
    totals: &mut Cells<__m512i>,
    panels: &[Panel; PANELS],
    scales: &[&[Q4KScales]; PANELS],
    rows: &[Row; ROWS],
    block: usize,
    pair: usize,
) {
    let mask = _mm512_set1_epi8(15);
    // SAFETY: the caller's contract.
    unsafe {
        let mut dots: Cells<__m512i> = [[_mm512_setzero_si512(); ROWS]; PANELS];
        for group in 0..8 {
            let at = ((block * 4 + pair) * 8 + group) * LINE;
            let mut weights: [__m512i; PANELS] = [_mm512_setzero_si512(); PANELS];
            for panel in 0..P {
                let codes = line::<P>(panels[panel].codes.as_ptr().add(at));
                let codes = if HALF == 0 { codes } else { _mm512_srli_epi16::<4>(codes) };
                weights[panel] = _mm512_and_si512(codes, mask);
            }
            add_products!(dots, weights, rows, 256 * block + 64 * pair + 32 * HALF + 4 * group);
        }
        for panel in 0..P {
            let parts = scales[panel][block].scales[2 * pair + HALF].as_ptr();
            let parts = _mm512_cvtepu8_epi32(_mm_loadu_si128(parts.cast()));
            add_parts!(totals, dots, panel, parts);
        }
    }
}

kernel! {
    /// A line of upper bits completes the halves of two lines of lower ones, which belong to four parts; one part after the
    /// other is multiplied.
    fn q6_k(panels: &[Panel; PANELS], blocks: usize, rows: &[Row; ROWS], sums: &mut Sums) {
        *sums = [[[0.0; LANES]; ROWS]; PANELS];
        let scales: [&[Q6KScales]; PANELS] = std::array::from_fn(|panel| bytemuck::cast_slice(panels[panel].scales));
        for block in 0..blocks {
            let mut totals: Cells<__m512i> = [[_mm512_setzero_si512(); ROWS]; PANELS];
            for half in 0..2 {
                let mut codes: [*const u8; PANELS] = [std::ptr::null(); PANELS];
                for panel in 0..P {
                    codes[panel] = panels[panel].codes.as_ptr().add((block * 2 + half) * 24 * LINE);
                }
                if R * P <= FEW {
                    q6_k_half::<R, P>(&mut totals, codes, &scales, rows, block, half);
                    continue;
                }
                q6_k_quarter::<R, P, 0>(&mut totals, codes, &scales, rows, block, half);
                q6_k_quarter::<R, P, 1>(&mut totals, codes, &scales, rows, block, half);
                q6_k_quarter::<R, P, 2>(&mut totals, codes, &scales, rows, block, half);
                q6_k_quarter::<R, P, 3>(&mut totals, codes, &scales, rows, block, half);
            }
            for panel in 0..P {
                let scale = floats(&scales[panel][block].scale);
                for r in 0..R {
                    let scale = _mm512_mul_ps(scale, _mm512_set1_ps(rows[r].scales[block]));
                    let sum = sums[panel][r].as_mut_ptr();
                    let total = _mm512_cvtepi32_ps(totals[panel][r]);
                    _mm512_storeu_ps(sum, _mm512_fmadd_ps(total, scale, _mm512_loadu_ps(sum)));
                }
            }
        }
    }
}

/// Half a block at once: every line is read once, which takes registers for four times as many sums.
///
/// # Safety
/// The processor has the instructions; a panel and a row hold as many blocks as the matrix says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn q6_k_half<const R: usize, const P: usize>(
    totals: &mut Cells<__m512i>,
    codes: [*const u8; PANELS],
    scales: &[&[Q6KScales]; PANELS],
    rows: &[Row; ROWS],
    block: usize,
    half: usize,
) {
    let (mask, upper) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    // SAFETY: the caller's contract.
    unsafe {
        for odd in 0..2 {
            let mut dots: [Cells<__m512i>; 4] = [[[_mm512_setzero_si512(); ROWS]; PANELS]; 4];
            for quarter in 0..4 {
                offsets!(dots[quarter], rows, 16 * block + 8 * half + 2 * quarter + odd, Kind::Q6K);
            }
            for group in 4 * odd..4 * odd + 4 {
                let mut weights: [[__m512i; PANELS]; 4] = [[_mm512_setzero_si512(); PANELS]; 4];
                for panel in 0..P {
                    let at = codes[panel].add(3 * group * LINE);
                    let (first, second) = (line::<P>(at), line::<P>(at.add(LINE)));
                    let high = line::<P>(at.add(2 * LINE));
                    // low & mask | high & upper, as the masks do not meet.
                    let join = |low, high| {
                        _mm512_ternarylogic_epi32::<0xf8>(_mm512_and_si512(low, mask), high, upper)
                    };
                    weights[0][panel] = join(first, _mm512_slli_epi16::<4>(high));
                    weights[1][panel] = join(second, _mm512_slli_epi16::<2>(high));
                    weights[2][panel] = join(_mm512_srli_epi16::<4>(first), high);
                    weights[3][panel] = join(_mm512_srli_epi16::<4>(second), _mm512_srli_epi16::<2>(high));
                }
                for quarter in 0..4 {
                    let from = 256 * block + 128 * half + 32 * quarter + 4 * group;
                    add_products!(dots[quarter], weights[quarter], rows, from);
                }
            }
            for quarter in 0..4 {
                for panel in 0..P {
                    let parts = scales[panel][block].scales[8 * half + 2 * quarter + odd].as_ptr();
                    let parts = _mm512_cvtepi8_epi32(_mm_loadu_si128(parts.cast()));
                    add_parts!(totals, dots[quarter], panel, parts);
                }
            }
        }
    }
}

/// Parts `2 * QUARTER` and the next of half a block.
///
/// # Safety
/// The processor has the instructions; a panel and a row hold as many blocks as the matrix says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn q6_k_quarter<const R: usize, const P: usize, const QUARTER: usize>(
    totals: &mut Cells<__m512i>,
    codes: [*const u8; PANELS],
    scales: &[&[Q6KScales]; PANELS],
    rows: &[Row; ROWS],
    block: usize,
    half: usize,
) {
    let (mask, upper) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
    // SAFETY: the caller's contract.
    unsafe {
        for odd in 0..2 {
            let part = 8 * half + 2 * QUARTER + odd;
            let mut dots: Cells<__m512i> = [[_mm512_setzero_si512(); ROWS]; PANELS];
            offsets!(dots, rows, 16 * block + part, Kind::Q6K);
            for group in 4 * odd..4 * odd + 4 {
                let mut weights: [__m512i; PANELS] = [_mm512_setzero_si512(); PANELS];
                for panel in 0..P {
                    let low = line::<P>(codes[panel].add((3 * group + QUARTER % 2) * LINE));
                    let high = _mm512_loadu_si512(codes[panel].add((3 * group + 2) * LINE).cast());
                    let low = if QUARTER < 2 { low } else { _mm512_srli_epi16::<4>(low) };
                    let high = match QUARTER {
                        0 => _mm512_slli_epi16::<4>(high),
                        1 => _mm512_slli_epi16::<2>(high),
                        2 => high,
                        _ => _mm512_srli_epi16::<2>(high),
                    };
                    // low & mask | high & upper, as the masks do not meet.
                    weights[panel] =
                        _mm512_ternarylogic_epi32::<0xf8>(_mm512_and_si512(low, mask), high, upper);
                }
                add_products!(dots, weights, rows, 256 * block + 128 * half + 32 * QUARTER + 4 * group);
            }
            for panel in 0..P {
                let parts = scales[panel][block].scales[part].as_ptr();
                let parts = _mm512_cvtepi8_epi32(_mm_loadu_si128(parts.cast()));
                add_parts!(totals, dots, panel, parts);
            }
        }
    }
}

/// A line. Where fewer than four streams of lines are read, the one far behind it is asked for: the processor itself does not
/// go far enough ahead. Where there are four, that only costs time.
///
/// # Safety
/// The line is readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn line<const P: usize>(codes: *const u8) -> __m512i {
    if P < PANELS {
        _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(AHEAD).cast());
    }
    // SAFETY: the caller's contract.
    unsafe { _mm512_loadu_si512(codes.cast()) }
}

/// Four codes of an activation, for every lane.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn four(codes: *const i8) -> __m512i {
    // SAFETY: the caller's contract.
    _mm512_set1_epi32(unsafe { codes.cast::<i32>().read_unaligned() })
}

/// # Safety
/// The processor has the instruction.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
unsafe fn floats(halves: &Halves) -> __m512 {
    // SAFETY: 32 bytes.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) })
}

/// Lower and upper halves of each byte.
///
/// # Safety
/// The processor has the instructions.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn nibbles(bytes: __m512i) -> [__m512i; 2] {
    let mask = _mm512_set1_epi8(15);
    [_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), mask)]
}
