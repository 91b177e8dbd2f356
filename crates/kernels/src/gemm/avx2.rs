//! Tiles of up to 6 x 16 with AVX2: 12 of the 16 registers hold sums.

use super::avx2_pack::pack;
use super::kernel::{Format, Kernel, Tile, tiles};
use super::micro::{Single, Vector, Widening, multiply};
use std::arch::x86_64::*;

const LANES: usize = 8;
const COLUMNS: usize = 16;

/// Products of f32.
pub(super) static F32: Kernel = Kernel {
    block: 256,
    rows: 6,
    columns: COLUMNS,
    lanes: LANES,
    left: Format::F32,
    right: Format::F32,
    tiles: &[tiles!(single, 1, 1 2 3 4 5 6), tiles!(single, 2, 1 2 3 4 5 6)],
    packer: pack,
    packs_bf16: false,
    needs_session: false,
};

/// Products of bf16 values, each held in an f32.
pub(super) static ROUNDED: Kernel = Kernel { left: Format::Rounded, right: Format::Rounded, ..F32 };

/// The same products with the right operand in half the memory.
pub(super) static WIDENING: Kernel = Kernel {
    left: Format::Rounded,
    right: Format::Pairs,
    tiles: &[tiles!(widening, 1, 1 2 3 4 5 6), tiles!(widening, 2, 1 2 3 4 5 6)],
    ..F32
};

/// # Safety
/// As [`super::kernel::TileFunction`].
#[target_feature(enable = "avx2,fma")]
unsafe fn single<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's contract is the same.
    unsafe { multiply::<Single<__m256>, ROWS, VECTORS>(tile) }
}

/// # Safety
/// As [`super::kernel::TileFunction`].
#[target_feature(enable = "avx2,fma")]
unsafe fn widening<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's contract is the same.
    unsafe { multiply::<Widening<__m256>, ROWS, VECTORS>(tile) }
}

impl Vector for __m256 {
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> Self {
        // SAFETY: the caller has the instruction set and promises a vector of words.
        unsafe { _mm256_loadu_ps(words.cast()) }
    }

    #[inline(always)]
    unsafe fn broadcast(word: *const u32) -> Self {
        // SAFETY: the caller has the instruction set and promises a word.
        unsafe { _mm256_set1_ps(*word.cast()) }
    }

    #[inline(always)]
    unsafe fn add_product(self, left: Self, right: Self) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm256_fmadd_ps(left, right, self) }
    }

    #[inline(always)]
    unsafe fn first(self) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(self))) }
    }

    #[inline(always)]
    unsafe fn second(self) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(self), upper))
        }
    }

    #[inline(always)]
    unsafe fn store(self, c: *mut f32, columns: usize, add: bool) {
        // SAFETY: the caller has the instruction set; lanes outside the mask are not touched.
        unsafe {
            if columns >= LANES {
                let sum = if add { _mm256_add_ps(_mm256_loadu_ps(c), self) } else { self };
                _mm256_storeu_ps(c, sum);
            } else {
                let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
                let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(columns as i32), lanes);
                let sum = if add { _mm256_add_ps(_mm256_maskload_ps(c, mask), self) } else { self };
                _mm256_maskstore_ps(c, mask, sum);
            }
        }
    }

    #[inline(always)]
    unsafe fn prefetch_to_write(address: *const f32) {
        // SAFETY: a prefetch touches nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u32) {
        // SAFETY: a prefetch touches nothing, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }
}
