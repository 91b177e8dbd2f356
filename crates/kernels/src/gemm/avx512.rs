//! Tiles of up to 14 x 32 with AVX-512: 28 of the 32 registers hold sums, so that both multipliers are
//! busy for the four cycles of a fused addition's latency and each loaded value is used often enough.

use super::avx512_pack::pack;
use super::kernel::{Format, Kernel, Tile, tiles};
use super::micro::{Single, Step, Vector, Widening, multiply};
use std::arch::x86_64::*;

const LANES: usize = 16;
const COLUMNS: usize = 32;

/// Products of f32.
pub(super) static F32: Kernel = Kernel {
    block: 256,
    rows: 14,
    columns: COLUMNS,
    lanes: LANES,
    left: Format::F32,
    right: Format::F32,
    tiles: &[
        tiles!(single, 1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        tiles!(single, 2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    ],
    packer: pack,
    packs_bf16: false,
    needs_session: false,
};

/// Products of bf16 values, each held in an f32.
pub(super) static ROUNDED: Kernel = Kernel { left: Format::Rounded, right: Format::Rounded, ..F32 };

/// The same products with the right operand in half the memory. Widened, its vectors take four registers.
pub(super) static WIDENING: Kernel = Kernel {
    rows: 12,
    left: Format::Rounded,
    right: Format::Pairs,
    tiles: &[
        tiles!(widening, 1, 1 2 3 4 5 6 7 8 9 10 11 12),
        tiles!(widening, 2, 1 2 3 4 5 6 7 8 9 10 11 12),
    ],
    ..F32
};

/// Products of pairs of bf16 by the instruction for them.
pub(super) static PAIRS: Kernel = Kernel {
    block: 512,
    left: Format::Pairs,
    right: Format::Pairs,
    tiles: &[
        tiles!(pairs, 1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        tiles!(pairs, 2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    ],
    packer: super::avx512_bf16_pack::pack,
    packs_bf16: true,
    ..F32
};

/// [`PAIRS`] without the instructions, for tests.
#[cfg(test)]
pub(super) static EMULATED_PAIRS: Kernel = Kernel {
    tiles: &[
        tiles!(emulated_pairs, 1, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
        tiles!(emulated_pairs, 2, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    ],
    packer: pack,
    packs_bf16: false,
    ..PAIRS
};

/// # Safety
/// As [`super::kernel::TileFunction`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn single<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's contract is the same.
    unsafe { multiply::<Single<__m512>, ROWS, VECTORS>(tile) }
}

/// # Safety
/// As [`super::kernel::TileFunction`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn widening<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's contract is the same.
    unsafe { multiply::<Widening<__m512>, ROWS, VECTORS>(tile) }
}

/// # Safety
/// As [`super::kernel::TileFunction`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn pairs<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's contract is the same.
    unsafe { multiply::<DotPairs, ROWS, VECTORS>(tile) }
}

/// # Safety
/// As [`super::kernel::TileFunction`].
#[cfg(test)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn emulated_pairs<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's contract is the same.
    unsafe { multiply::<super::micro::EmulatedPairs<__m512>, ROWS, VECTORS>(tile) }
}

impl Vector for __m512 {
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> Self {
        // SAFETY: the caller has the instruction set and promises a vector of words.
        unsafe { _mm512_loadu_ps(words.cast()) }
    }

    #[inline(always)]
    unsafe fn broadcast(word: *const u32) -> Self {
        // SAFETY: the caller has the instruction set and promises a word.
        unsafe { _mm512_set1_ps(*word.cast()) }
    }

    #[inline(always)]
    unsafe fn add_product(self, left: Self, right: Self) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm512_fmadd_ps(left, right, self) }
    }

    #[inline(always)]
    unsafe fn first(self) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(self))) }
    }

    #[inline(always)]
    unsafe fn second(self) -> Self {
        // SAFETY: the caller has the instruction set.
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(self), upper))
        }
    }

    #[inline(always)]
    unsafe fn store(self, c: *mut f32, columns: usize, add: bool) {
        let mask = first_lanes(columns);
        // SAFETY: the caller has the instruction set; lanes outside the mask are not touched.
        unsafe {
            let sum = if add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), self) } else { self };
            _mm512_mask_storeu_ps(c, mask, sum);
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

/// Pairs of bf16 in both operands.
struct DotPairs;

impl Step for DotPairs {
    const DEPTH: usize = 2;
    const LEFT_WORDS: usize = 1;
    type Vector = __m512;
    type Left = __m512bh;
    type Right = __m512bh;

    #[inline(always)]
    unsafe fn left(left: *const u32, _step: usize) -> __m512bh {
        // SAFETY: both types are 512 bits; the caller promises a word.
        unsafe { std::mem::transmute(__m512::broadcast(left)) }
    }

    #[inline(always)]
    unsafe fn right(right: *const u32) -> __m512bh {
        // SAFETY: both types are 512 bits; the caller promises a vector of words.
        unsafe { std::mem::transmute(__m512::load(right)) }
    }

    #[inline(always)]
    unsafe fn add(sums: __m512, left: __m512bh, right: __m512bh) -> __m512 {
        // SAFETY: the caller has the instruction set.
        unsafe { _mm512_dpbf16_ps(sums, left, right) }
    }
}

/// The mask of the first `count` lanes, or of all.
#[inline(always)]
fn first_lanes(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}
