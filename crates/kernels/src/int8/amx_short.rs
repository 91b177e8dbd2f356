//! Tiles of Q8_0 and Q4_0, whose blocks are half as deep as a tile is: one instruction a block, and its sixteen rows of
//! sums made floats right after.
//!
//! The vectors work longer than the tiles: for each row of a block they convert, multiply the scales, and multiply and add.
//! So sums of floats stay in sixteen registers, and two blocks are given to the tiles before two others are taken.

#![allow(clippy::needless_range_loop)] // An index that is known counts registers.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::activations::{Row, TILE};
use super::amx::SUMS;
use super::layout::{Halves, Kind, LANES, LINE};
use super::matrix::Panel;
use crate::gemm::amx::Configuration;

/// Blocks that are unpacked at a time.
pub(super) const STRETCH: usize = 16;
/// Bytes of an unpacked block.
pub(super) const CODE_BYTES: usize = 8 * LINE;
/// Scales of a block.
pub(super) const SCALES: usize = LANES;
/// Sums in registers 0 and 1, rows of 32 bytes in 4 and 5, eight lines of a panel in 6 and 7.
pub(super) static TILES: Configuration =
    Configuration::new([64, 64, 64, 64, 32, 32, 64, 64], [16, 16, 16, 16, 16, 16, 8, 8]);
/// The same for a single tile with no more than eight rows.
pub(super) static EIGHT_ROWS: Configuration = Configuration::new([64, 64, 64, 64, 32, 32, 64, 64], [8; 8]);

/// # Safety
/// The processor has the instructions; the slices have room for the blocks.
#[target_feature(enable = "avx512f,avx512bw,f16c")]
pub(super) unsafe fn unpack(
    kind: Kind,
    panel: Panel,
    blocks: Range<usize>,
    codes: &mut [i8],
    scales: &mut [f32],
) {
    let halves = &bytemuck::cast_slice::<_, Halves>(panel.scales)[blocks.clone()];
    for (half, scales) in halves.iter().zip(scales.chunks_exact_mut(LANES)) {
        // SAFETY: 32 bytes, and places for as many floats.
        unsafe {
            _mm512_storeu_ps(scales.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(half.as_ptr().cast())))
        }
    }
    let lines = kind.code_lines();
    let from = &panel.codes[blocks.start * lines * LINE..blocks.end * lines * LINE];
    let offset = _mm512_set1_epi8(kind.offset() as i8);
    for (from, to) in from.chunks_exact(lines * LINE).zip(codes.chunks_exact_mut(CODE_BYTES)) {
        let (from, to) = (from.as_ptr(), to.as_mut_ptr());
        // SAFETY: the lines of a block, packed and unpacked.
        unsafe {
            let put = |line: usize, codes| {
                _mm512_storeu_si512(to.add(line * LINE).cast(), _mm512_sub_epi8(codes, offset));
            };
            for line in 0..lines {
                let codes = _mm512_loadu_si512(from.add(line * LINE).cast());
                if kind == Kind::Q8_0 {
                    put(line, codes);
                } else {
                    let mask = _mm512_set1_epi8(15);
                    put(line, _mm512_and_si512(codes, mask));
                    put(line + 4, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask));
                }
            }
        }
    }
}

/// What comes of two blocks.
#[repr(C, align(64))]
struct Dots([[i32; SUMS]; 2]);

/// Adds the products of a tile of rows, of which the first `ROWS` are there, and a panel over some blocks. `between` is called
/// once for every two of them.
///
/// # Safety
/// Within [`TILES`], or [`EIGHT_ROWS`] if no more are there; the row holds the blocks, `b` and `scales_b` what was unpacked of them; there are [`SUMS`] sums.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn multiply<const ROWS: usize>(
    row: Row,
    blocks: Range<usize>,
    b: *const i8,
    scales_b: *const f32,
    sums: *mut f32,
    mut between: impl FnMut(),
) {
    let a = row.codes[blocks.start * 32 * TILE..blocks.end * 32 * TILE].as_ptr();
    let scales_a = row.scales[blocks.start * TILE..blocks.end * TILE].as_ptr();
    let blocks = blocks.len();
    let mut dots = [const { Dots([[0; SUMS]; 2]) }; 2];
    // SAFETY: the caller's contract.
    unsafe {
        let mut rows: [__m512; ROWS] = std::array::from_fn(|row| _mm512_loadu_ps(sums.add(row * LANES)));
        let pairs = blocks / 2;
        for pair in 0..pairs {
            let at = 2 * pair;
            issue_two(a.add(at * 512), b.add(at * CODE_BYTES), &mut dots[pair % 2]);
            between();
            if pair > 0 {
                for block in at - 2..at {
                    let dots = &dots[(pair - 1) % 2].0[block % 2];
                    take(&mut rows, dots, scales_a.add(block * TILE), scales_b.add(block * LANES));
                }
            }
        }
        if pairs > 0 {
            for block in 2 * pairs - 2..2 * pairs {
                let dots = &dots[(pairs - 1) % 2].0[block % 2];
                take(&mut rows, dots, scales_a.add(block * TILE), scales_b.add(block * LANES));
            }
        }
        if blocks % 2 == 1 {
            let last = blocks - 1;
            issue_one(a.add(last * 512), b.add(last * CODE_BYTES), &mut dots[0]);
            take(&mut rows, &dots[0].0[0], scales_a.add(last * TILE), scales_b.add(last * LANES));
        }
        for (row, values) in rows.into_iter().enumerate() {
            _mm512_storeu_ps(sums.add(row * LANES), values);
        }
    }
}

/// One link of the rows' chains.
///
/// # Safety
/// Sixteen scales each.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn take<const ROWS: usize>(
    rows: &mut [__m512; ROWS],
    dots: &[i32; SUMS],
    scales_a: *const f32,
    scales_b: *const f32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let scales_b = _mm512_loadu_ps(scales_b);
        for row in 0..ROWS {
            let dot = _mm512_cvtepi32_ps(_mm512_load_si512(dots.as_ptr().add(row * LANES).cast()));
            let scale = _mm512_mul_ps(scales_b, _mm512_set1_ps(*scales_a.add(row)));
            rows[row] = _mm512_fmadd_ps(dot, scale, rows[row]);
        }
    }
}

/// # Safety
/// Within [`TILES`]; two blocks each can be read.
#[inline(always)]
unsafe fn issue_two(a: *const i8, b: *const i8, dots: &mut Dots) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!(
            "tileloadd tmm4, [{a} + {short}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tilezero tmm0",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {short} + 512]",
            "tileloadd tmm7, [{b} + {line} + 512]",
            "tilezero tmm1",
            "tdpbssd tmm1, tmm5, tmm7",
            "tilestored [{dots} + {line}], tmm0",
            "tilestored [{dots} + {line} + 1024], tmm1",
            a = in(reg) a,
            b = in(reg) b,
            dots = in(reg) dots,
            short = in(reg) 32usize,
            line = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// Within [`TILES`]; a block each can be read.
#[inline(always)]
unsafe fn issue_one(a: *const i8, b: *const i8, dots: &mut Dots) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!(
            "tileloadd tmm4, [{a} + {short}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tilezero tmm0",
            "tdpbssd tmm0, tmm4, tmm6",
            "tilestored [{dots} + {line}], tmm0",
            a = in(reg) a,
            b = in(reg) b,
            dots = in(reg) dots,
            short = in(reg) 32usize,
            line = in(reg) 64usize,
            out("tmm0") _, out("tmm4") _, out("tmm6") _,
            options(nostack, preserves_flags),
        );
    }
}
