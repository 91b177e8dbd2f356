//! Few rows at a time by vectors (`vpdpbusd`): sixteen outputs a register, four values of K of each in one instruction.
//! Weights are read once for up to [`ROWS`] rows; what they were packed to is unpacked in registers.
//!
//! A single row is bound by memory, so a thread goes through its panels in the order of memory and asks for lines that it
//! will need some hundred nanoseconds later.

#![allow(clippy::needless_range_loop)] // Of arrays of registers, the first `R` are used.

use std::arch::x86_64::*;

use super::activations::{Row, Rows};
use super::layout::{Halves, Kind, LANES, LINE, Q4KScales, Q6KScales};
use super::matrix::{Matrix, Panel};
use super::{share, store};
use crate::gemm::ViewMut;
use crate::isa::{self, Isa};

/// Rows that share what was unpacked.
const ROWS: usize = 4;
/// How far ahead lines are asked for, in bytes.
const AHEAD: usize = 4096;

/// Whether this thread may use these instructions.
pub(super) fn available() -> bool {
    isa::current() >= Isa::Avx512 && std::is_x86_feature_detected!("avx512vnni")
}

/// The product of rows that lie one after the other.
///
/// # Safety
/// [`available`] has returned true.
pub(super) unsafe fn product(y: &ViewMut, rows: &Rows, weights: &Matrix, add: bool) {
    share::run(rayon::current_num_threads(), weights.panels(), &|| (), &|(), panel| {
        for first in (0..rows.count()).step_by(ROWS) {
            let count = ROWS.min(rows.count() - first);
            let row: [Row; ROWS] = std::array::from_fn(|row| rows.row(first + row.min(count - 1)));
            let mut sums = [[0.0; LANES]; ROWS];
            // SAFETY: the caller's contract.
            unsafe {
                match count {
                    1 => multiply::<1>(weights, panel, &row, &mut sums),
                    2 => multiply::<2>(weights, panel, &row, &mut sums),
                    3 => multiply::<3>(weights, panel, &row, &mut sums),
                    _ => multiply::<4>(weights, panel, &row, &mut sums),
                }
            }
            for (row, sums) in sums[..count].iter().enumerate() {
                // SAFETY: each panel's columns are written by one thread, and each row once.
                unsafe { store(y, first + row, panel, sums, add) }
            }
        }
    });
}

/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn multiply<const R: usize>(
    weights: &Matrix,
    panel: usize,
    rows: &[Row; ROWS],
    sums: &mut [[f32; LANES]; ROWS],
) {
    let (panel, blocks) = (weights.panel(panel), weights.blocks());
    // SAFETY: the processor has the instructions; a panel and a row hold as many blocks as the matrix says.
    let found = unsafe {
        match weights.kind() {
            Kind::Q8_0 => q8_0::<R>(panel, blocks, rows),
            Kind::Q4_0 => q4_0::<R>(panel, blocks, rows),
            Kind::Q4K => q4_k::<R>(panel, blocks, rows),
            Kind::Q6K => q6_k::<R>(panel, blocks, rows),
        }
    };
    for (sums, found) in sums.iter_mut().zip(found) {
        // SAFETY: sixteen places.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), found) }
    }
}

macro_rules! kernel {
    ($(#[$attribute:meta])* fn $name:ident<const $r:ident: usize>($($argument:ident: $type:ty),* $(,)?) -> $result:ty $body:block) => {
        $(#[$attribute])*
        ///
        /// # Safety
        /// The processor has the instructions; a panel and a row hold as many blocks as the matrix says.
        #[inline]
        #[allow(unused_unsafe)] // Some bodies hold nothing else that is.
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
        unsafe fn $name<const $r: usize>($($argument: $type),*) -> $result {
            // SAFETY: the caller's contract.
            unsafe { $body }
        }
    };
}

/// A line, and the one far behind it asked for.
///
/// # Safety
/// The line is readable.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn line(codes: *const u8) -> __m512i {
    _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(AHEAD).cast());
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

kernel! {
    /// A row of the panel is a line, so one load and one instruction for each four values of K.
    fn q8_0<const R: usize>(panel: Panel, blocks: usize, rows: &[Row; ROWS]) -> [__m512; ROWS] {
        let mut sums = [_mm512_setzero_ps(); ROWS];
        let scales: &[Halves] = bytemuck::cast_slice(panel.scales);
        for block in 0..blocks {
            let codes = panel.codes.as_ptr().add(block * 8 * LINE);
            let mut dots = offsets::<R>(rows, block, Kind::Q8_0);
            for group in 0..8 {
                let weights = line(codes.add(group * LINE));
                for r in 0..R {
                    let a = four(rows[r].codes.as_ptr().add(32 * block + 4 * group));
                    dots[r] = _mm512_dpbusd_epi32(dots[r], weights, a);
                }
            }
            add_scaled::<R>(&mut sums, &dots, floats(&scales[block]), rows, block);
        }
        sums
    }
}

kernel! {
    /// Lower halves of four lines, then their upper halves.
    fn q4_0<const R: usize>(panel: Panel, blocks: usize, rows: &[Row; ROWS]) -> [__m512; ROWS] {
        let mut sums = [_mm512_setzero_ps(); ROWS];
        let scales: &[Halves] = bytemuck::cast_slice(panel.scales);
        for block in 0..blocks {
            let codes = panel.codes.as_ptr().add(block * 4 * LINE);
            let mut dots = offsets::<R>(rows, block, Kind::Q4_0);
            for group in 0..4 {
                let [low, high] = nibbles(line(codes.add(group * LINE)));
                for r in 0..R {
                    let a = rows[r].codes.as_ptr().add(32 * block + 4 * group);
                    dots[r] = _mm512_dpbusd_epi32(dots[r], low, four(a));
                    dots[r] = _mm512_dpbusd_epi32(dots[r], high, four(a.add(16)));
                }
            }
            add_scaled::<R>(&mut sums, &dots, floats(&scales[block]), rows, block);
        }
        sums
    }
}

kernel! {
    /// Eight lines hold two parts.
    fn q4_k<const R: usize>(panel: Panel, blocks: usize, rows: &[Row; ROWS]) -> [__m512; ROWS] {
        let mut sums = [_mm512_setzero_ps(); ROWS];
        let scales: &[Q4KScales] = bytemuck::cast_slice(panel.scales);
        for block in 0..blocks {
            let scales = &scales[block];
            let mut totals = [_mm512_setzero_si512(); ROWS];
            let mut minima = [_mm512_setzero_si512(); ROWS];
            for pair in 0..4 {
                let codes = panel.codes.as_ptr().add((block * 4 + pair) * 8 * LINE);
                let mut dots = [[_mm512_setzero_si512(); 2]; ROWS];
                for group in 0..8 {
                    let [low, high] = nibbles(line(codes.add(group * LINE)));
                    for r in 0..R {
                        let a = rows[r].codes.as_ptr().add(256 * block + 64 * pair + 4 * group);
                        dots[r][0] = _mm512_dpbusd_epi32(dots[r][0], low, four(a));
                        dots[r][1] = _mm512_dpbusd_epi32(dots[r][1], high, four(a.add(32)));
                    }
                }
                let parts = [0, 1].map(|half| {
                    _mm512_cvtepu8_epi32(_mm_loadu_si128(scales.scales[2 * pair + half].as_ptr().cast()))
                });
                let least = _mm512_cvtepu8_epi16(_mm256_loadu_si256(scales.minima[pair].as_ptr().cast()));
                for r in 0..R {
                    for half in 0..2 {
                        let scaled = _mm512_mullo_epi32(dots[r][half], parts[half]);
                        totals[r] = _mm512_add_epi32(totals[r], scaled);
                    }
                    let pairs = rows[r].pairs.as_ptr().add(8 * block + 2 * pair).cast::<i8>();
                    minima[r] = _mm512_dpwssd_epi32(minima[r], least, four(pairs));
                }
            }
            let (scale, minimum) = (floats(&scales.scale), floats(&scales.minimum));
            for r in 0..R {
                let own = _mm512_mul_ps(_mm512_cvtepi32_ps(totals[r]), scale);
                let both = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(minima[r]), minimum, own);
                sums[r] = _mm512_fmadd_ps(both, _mm512_set1_ps(rows[r].scales[block]), sums[r]);
            }
        }
        sums
    }
}

kernel! {
    /// A line of upper bits completes the halves of two lines of lower ones, which belong to four parts.
    fn q6_k<const R: usize>(panel: Panel, blocks: usize, rows: &[Row; ROWS]) -> [__m512; ROWS] {
        let mut sums = [_mm512_setzero_ps(); ROWS];
        let scales: &[Q6KScales] = bytemuck::cast_slice(panel.scales);
        let upper = _mm512_set1_epi8(0x30);
        for block in 0..blocks {
            let scales = &scales[block];
            let mut totals = [_mm512_setzero_si512(); ROWS];
            for half in 0..2 {
                let codes = panel.codes.as_ptr().add((block * 2 + half) * 24 * LINE);
                for odd in 0..2 {
                    // Parts `odd`, `odd + 2`, `odd + 4` and `odd + 6` of the half.
                    let mut dots = [[_mm512_setzero_si512(); 4]; ROWS];
                    for r in 0..R {
                        for (quarter, dot) in dots[r].iter_mut().enumerate() {
                            let sum = rows[r].sums[16 * block + 8 * half + 2 * quarter + odd];
                            *dot = _mm512_set1_epi32(-Kind::Q6K.offset() * sum);
                        }
                    }
                    for group in 4 * odd..4 * odd + 4 {
                        let high = line(codes.add((16 + group) * LINE));
                        let first = line(codes.add(group * LINE));
                        let second = line(codes.add((8 + group) * LINE));
                        let ([low0, low2], [low1, low3]) = (nibbles(first), nibbles(second));
                        // low | high & upper
                        let join = |high, low| _mm512_ternarylogic_epi32::<0xf8>(low, high, upper);
                        let weights = [
                            join(_mm512_slli_epi16::<4>(high), low0),
                            join(_mm512_slli_epi16::<2>(high), low1),
                            join(high, low2),
                            join(_mm512_srli_epi16::<2>(high), low3),
                        ];
                        for r in 0..R {
                            let a = rows[r].codes.as_ptr().add(256 * block + 128 * half + 4 * group);
                            for quarter in 0..4 {
                                let a = four(a.add(32 * quarter));
                                dots[r][quarter] = _mm512_dpbusd_epi32(dots[r][quarter], weights[quarter], a);
                            }
                        }
                    }
                    for quarter in 0..4 {
                        let part = scales.scales[8 * half + 2 * quarter + odd].as_ptr();
                        let part = _mm512_cvtepi8_epi32(_mm_loadu_si128(part.cast()));
                        for r in 0..R {
                            let scaled = _mm512_mullo_epi32(dots[r][quarter], part);
                            totals[r] = _mm512_add_epi32(totals[r], scaled);
                        }
                    }
                }
            }
            add_scaled::<R>(&mut sums, &totals, floats(&scales.scale), rows, block);
        }
        sums
    }
}

kernel! {
    /// What the weights' offset adds to each dot product, taken away.
    fn offsets<const R: usize>(rows: &[Row; ROWS], block: usize, kind: Kind) -> [__m512i; ROWS] {
        let mut dots = [_mm512_setzero_si512(); ROWS];
        for r in 0..R {
            dots[r] = _mm512_set1_epi32(-kind.offset() * rows[r].sums[block]);
        }
        dots
    }
}

kernel! {
    /// One link of each row's chain.
    fn add_scaled<const R: usize>(
        sums: &mut [__m512; ROWS],
        dots: &[__m512i; ROWS],
        scale: __m512,
        rows: &[Row; ROWS],
        block: usize,
    ) -> () {
        for r in 0..R {
            let scale = _mm512_mul_ps(scale, _mm512_set1_ps(rows[r].scales[block]));
            sums[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[r]), scale, sums[r]);
        }
    }
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
