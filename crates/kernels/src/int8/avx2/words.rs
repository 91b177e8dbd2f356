//! What products of all blocks are made of: lines, scales, and the steps of a sum.

use std::arch::x86_64::*;

use super::WIDTH;
use crate::int8::layout::{Halves, LINE};
use crate::int8::matrix::Panel;

macro_rules! kernel {
    ($(#[$attribute:meta])* fn $name:ident $(<$(const $constant:ident: $of:ty),*>)? ($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$attribute])*
        ///
        /// # Safety
        /// The processor has the instructions; a panel and a row hold as many blocks as the matrix says.
        #[inline]
        #[target_feature(enable = "avx2,fma,f16c")]
        pub(super) unsafe fn $name<const R: usize, const V: usize $($(, const $constant: $of)*)?>($($argument: $type),*) {
            // SAFETY: the caller's contract.
            unsafe { $body }
        }
    };
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

/// Keeps the compiler from adding products of several words among each other first, which takes more registers than there are:
/// what it cannot look into it takes in order. No instruction comes of it.
macro_rules! in_order {
    ($sums:expr) => {
        for v in 0..V {
            for r in 0..R {
                std::arch::asm!(
                    "/* {0} */",
                    inout(ymm_reg) $sums[v][r],
                    options(pure, nomem, nostack, preserves_flags)
                );
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

/// One link of a sum's chain, where its integers were made floats and minima were added or taken away.
macro_rules! add_both {
    ($sums:ident, $both:expr, $panel:ident, $half:ident, $rows:ident, $r:ident, $block:ident) => {
        let sum = $sums[$panel][$r].as_mut_ptr().add(WIDTH * $half);
        let scale = _mm256_set1_ps(*$rows[$r].scales.as_ptr().add($block));
        _mm256_storeu_ps(sum, _mm256_fmadd_ps($both, scale, _mm256_loadu_ps(sum)));
    };
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

/// A cell of zeros for each row and half.
macro_rules! zeros {
    () => {{
        let zeros: Cells<R, V> = [[_mm256_setzero_si256(); R]; V];
        zeros
    }};
}

/// A half of a line.
///
/// # Safety
/// The panel has the line.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn codes(panel: &Panel, half: usize, line: usize) -> __m256i {
    // SAFETY: the caller's contract.
    unsafe { _mm256_loadu_si256(panel.codes.as_ptr().add(line * LINE + LINE / 2 * half).cast()) }
}

/// The scales of a block.
///
/// # Safety
/// The panel has the block, and `T` are its scales.
#[inline(always)]
pub(super) unsafe fn scales<'a, T: bytemuck::Pod>(panel: &Panel<'a>, block: usize) -> &'a T {
    const { assert!(align_of::<T>() == 1) };
    // SAFETY: the caller's contract; arrays of bytes lie anywhere.
    unsafe { &*panel.scales.as_ptr().cast::<T>().add(block) }
}

/// Four codes of an activation, for every lane.
///
/// # Safety
/// They are readable.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn four(codes: *const i8) -> __m256i {
    // SAFETY: the caller's contract.
    _mm256_set1_epi32(unsafe { codes.cast::<i32>().read_unaligned() })
}

/// The f16 of half the lanes.
///
/// # Safety
/// The processor has the instruction.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn floats(halves: &Halves, half: usize) -> __m256 {
    // SAFETY: 16 bytes of 32.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(halves[WIDTH * half..].as_ptr().cast()) })
}

/// Sums of a row's sixteens, two of them beside each other in 16 bits.
///
/// # Safety
/// Sixteen sums.
#[inline(always)]
pub(super) unsafe fn pairs_of_sums(sums: *const i32) -> [i32; 8] {
    // SAFETY: the caller's contract.
    let sums = unsafe { &*sums.cast::<[[i32; 2]; 8]>() };
    sums.map(|[first, second]| first & 0xffff | second << 16)
}
