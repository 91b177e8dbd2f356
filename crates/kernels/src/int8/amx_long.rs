//! Tiles of Q4_K and Q6_K, over whole blocks of 256 values: a code times its part's scale is an integer of two digits, the
//! lower one a byte without a sign. Two tiles of sums, one for each digit, take all of a block; floats are made once for 256
//! values of K, where a tile for each part would make them 8 or 16 times.
//!
//! For Q6_K, of 13 bits and a sign, the digits are the product's bytes. For Q4_K they are those of the scale, three bits each,
//! times the code: a byte holds such a product, so no product has to be taken apart.

#![allow(clippy::needless_range_loop)] // An index that is known counts registers.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::activations::{Row, TILE};
use super::amx::SUMS;
use super::layout::{Halves, Kind, LANES, LINE, Q4KScales, Q6KScales};
use super::matrix::Panel;
/// Sums are in registers 0 to 3, rows in 4 and 5, digits in 6 and 7.
pub(super) use crate::gemm::amx::ALL_FULL as TILES;
use crate::gemm::amx::Configuration;
/// The same for a single tile with no more than eight rows.
pub(super) static EIGHT_ROWS: Configuration = Configuration::new([64; 8], [8, 8, 8, 8, 8, 16, 16, 16]);

/// Blocks that are unpacked at a time.
pub(super) const STRETCH: usize = 1;
/// Tiles deep of 64 values of K in a block.
pub(super) const STEPS: usize = 4;
/// Bytes of an unpacked block: for each 64 values of K the lower digits and then the upper ones.
pub(super) const CODE_BYTES: usize = 2 * 64 * LINE;
/// What is unpacked of a block's scales, in places of four bytes: scale, minimum, and four lines of pairs of minima.
pub(super) const SCALES: usize = 6 * LANES;
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
    let places = codes.chunks_exact_mut(CODE_BYTES).zip(scales.chunks_exact_mut(SCALES));
    for (block, (codes, scales)) in blocks.zip(places) {
        let from = panel.codes[block * kind.code_lines() * LINE..][..kind.code_lines() * LINE].as_ptr();
        // SAFETY: the caller's contract; the lines of a block.
        unsafe {
            if kind == Kind::Q4K {
                unpack_q4_k(
                    from,
                    &bytemuck::cast_slice(panel.scales)[block],
                    codes.as_mut_ptr(),
                    scales.as_mut_ptr(),
                );
            } else {
                unpack_q6_k(
                    from,
                    &bytemuck::cast_slice(panel.scales)[block],
                    codes.as_mut_ptr(),
                    scales.as_mut_ptr(),
                );
            }
        }
    }
}

/// # Safety
/// As [`unpack`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,f16c")]
unsafe fn unpack_q4_k(from: *const u8, own: &Q4KScales, codes: *mut i8, scales: *mut f32) {
    // SAFETY: the caller's contract.
    unsafe {
        put_floats(&own.scale, scales);
        put_floats(&own.minimum, scales.add(LANES));
        for (pair, minima) in own.minima.iter().enumerate() {
            let minima = _mm512_cvtepu8_epi16(_mm256_loadu_si256(minima.as_ptr().cast()));
            _mm512_storeu_si512(scales.add((2 + pair) * LANES).cast(), minima);
        }
        let mask = _mm512_set1_epi8(15);
        for pair in 0..4 {
            // Three bits of a scale times four of a code fill no byte, so one multiplication of 16 bits makes two products.
            let steps = [0, 1].map(|half| {
                let steps = own.scales[2 * pair + half].as_ptr();
                let steps = twice(_mm512_cvtepu8_epi32(_mm_loadu_si128(steps.cast())));
                [_mm512_and_si512(steps, _mm512_set1_epi16(7)), _mm512_srli_epi16::<3>(steps)]
            });
            for group in 0..8 {
                let line = _mm512_loadu_si512(from.add((8 * pair + group) * LINE).cast());
                let halves =
                    [_mm512_and_si512(line, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(line), mask)];
                for half in 0..2 {
                    let digits = steps[half].map(|steps| _mm512_mullo_epi16(halves[half], steps));
                    put_digits(digits, codes, 16 * pair + 8 * half + group);
                }
            }
        }
    }
}

/// # Safety
/// As [`unpack`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,f16c")]
unsafe fn unpack_q6_k(from: *const u8, own: &Q6KScales, codes: *mut i8, scales: *mut f32) {
    // SAFETY: the caller's contract.
    unsafe {
        put_floats(&own.scale, scales);
        let (mask, upper) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
        let offset = _mm512_set1_epi16(Kind::Q6K.offset() as i16);
        for half in 0..2 {
            let from = from.add(24 * LINE * half);
            for odd in 0..2 {
                // For bytes at even places, for those at odd ones, and what the offset makes of them.
                let steps: [[__m512i; 3]; 4] = std::array::from_fn(|quarter| {
                    let steps = own.scales[8 * half + 2 * quarter + odd].as_ptr();
                    let steps = twice(_mm512_cvtepi8_epi32(_mm_loadu_si128(steps.cast())));
                    let even = _mm512_and_si512(steps, _mm512_set1_epi16(0xff));
                    [even, _mm512_slli_epi16::<8>(steps), _mm512_mullo_epi16(steps, offset)]
                });
                for group in 4 * odd..4 * odd + 4 {
                    let line = |line: usize| _mm512_loadu_si512(from.add(line * LINE).cast());
                    let (first, second, high) = (line(3 * group), line(3 * group + 1), line(3 * group + 2));
                    // low | high & upper
                    let join = |high, low| _mm512_ternarylogic_epi32::<0xf8>(low, high, upper);
                    let whole = [
                        join(_mm512_slli_epi16::<4>(high), _mm512_and_si512(first, mask)),
                        join(_mm512_slli_epi16::<2>(high), _mm512_and_si512(second, mask)),
                        join(high, _mm512_and_si512(_mm512_srli_epi16::<4>(first), mask)),
                        join(
                            _mm512_srli_epi16::<2>(high),
                            _mm512_and_si512(_mm512_srli_epi16::<4>(second), mask),
                        ),
                    ];
                    for quarter in 0..4 {
                        let [even, odd, offset] = steps[quarter];
                        let [even, odd] = [even, odd].map(|steps| {
                            _mm512_sub_epi16(_mm512_maddubs_epi16(whole[quarter], steps), offset)
                        });
                        let odd_bytes = 0xaaaa_aaaa_aaaa_aaaa;
                        let lower = _mm512_mask_blend_epi8(odd_bytes, even, _mm512_slli_epi16::<8>(odd));
                        let upper = _mm512_mask_blend_epi8(odd_bytes, _mm512_srli_epi16::<8>(even), odd);
                        put_digits([lower, upper], codes, 32 * half + 8 * quarter + group);
                    }
                }
            }
        }
    }
}

/// # Safety
/// Sixteen places.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
unsafe fn put_floats(halves: &Halves, to: *mut f32) {
    // SAFETY: the caller's contract.
    unsafe { _mm512_storeu_ps(to, _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast()))) }
}

/// Each lane's integer in both of its halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn twice(lanes: __m512i) -> __m512i {
    _mm512_mask_blend_epi16(0xaaaa_aaaa, lanes, _mm512_slli_epi32::<16>(lanes))
}

/// Writes a line of lower digits and one of upper ones; 16 lines of one follow 16 of the other.
///
/// # Safety
/// The lines have room.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn put_digits([lower, upper]: [__m512i; 2], codes: *mut i8, line: usize) {
    let to = codes.wrapping_add((line / 16 * 32 + line % 16) * LINE);
    // SAFETY: the caller's contract.
    unsafe {
        _mm512_storeu_si512(to.cast(), lower);
        _mm512_storeu_si512(to.add(16 * LINE).cast(), upper);
    }
}

/// What comes of a block: of each half of the work the lower digits' sums and the upper ones'.
#[repr(C, align(64))]
struct Dots([[[i32; SUMS]; 2]; 2]);

/// Blocks on their way: while tiles multiply one, vectors make floats of the one before it. The work has two halves: two tiles
/// of rows times a panel, or one tile times two panels.
///
/// `ROWS` of a tile are there, 8 or all 16.
pub(super) struct Pipeline<const MINIMA: bool, const ROWS: usize> {
    dots: [Dots; 2],
    /// Which of them is written next.
    next: usize,
    before: Option<[Half; 2]>,
}

/// Where what tiles gave last belongs.
#[derive(Clone, Copy)]
struct Half {
    /// Of the tile of rows: a block's sums of parts, and scales.
    pairs: *const i16,
    scales_a: *const f32,
    scales: *const f32,
    sums: *mut f32,
}

/// A panel's unpacked block.
#[derive(Clone, Copy)]
pub(super) struct Unpacked {
    pub codes: *const i8,
    pub scales: *const f32,
}

impl<const MINIMA: bool, const ROWS: usize> Pipeline<MINIMA, ROWS> {
    pub fn new() -> Self {
        Self { dots: [const { Dots([[[0; SUMS]; 2]; 2]) }; 2], next: 0, before: None }
    }

    /// Adds the products of two tiles of rows and a panel over a block to the sums of each, once the next are added.
    ///
    /// # Safety
    /// Within [`TILES`], with vectors of integers (`avx512vnni`); the rows hold the block, and what was unpacked is of it. All
    /// but its codes stays where it is until the end of [`Pipeline::finish`], or the next block is added.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub unsafe fn add_two_tiles(
        &mut self,
        rows: [Row; 2],
        block: usize,
        panel: Unpacked,
        sums: [*mut f32; 2],
        between: impl FnMut(),
    ) {
        let a = rows.map(|row| row.codes[block * 256 * TILE..][..256 * TILE].as_ptr());
        let halves = [half(rows[0], block, panel, sums[0]), half(rows[1], block, panel, sums[1])];
        // SAFETY: the caller's contract.
        unsafe {
            self.add(halves, between, |step| {
                issue_two_tiles(a.map(|a| a.add(step * 64 * TILE)), panel.codes.add(step * 32 * LINE));
            });
        }
    }

    /// The same for one tile of rows and two panels.
    ///
    /// # Safety
    /// That of [`Pipeline::add_two_tiles`]; [`EIGHT_ROWS`] if no more are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub unsafe fn add_two_panels(
        &mut self,
        row: Row,
        block: usize,
        panels: [Unpacked; 2],
        sums: [*mut f32; 2],
        between: impl FnMut(),
    ) {
        let a = row.codes[block * 256 * TILE..][..256 * TILE].as_ptr();
        let halves = [half(row, block, panels[0], sums[0]), half(row, block, panels[1], sums[1])];
        // SAFETY: the caller's contract.
        unsafe {
            self.add(halves, between, |step| {
                let b = panels.map(|panel| panel.codes.add(step * 32 * LINE));
                issue_two_panels(a.add(step * 64 * TILE), b);
            });
        }
    }

    /// # Safety
    /// That of [`Pipeline::add_two_tiles`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    unsafe fn add(&mut self, halves: [Half; 2], mut between: impl FnMut(), issue: impl Fn(usize)) {
        let [first, second] = &mut self.dots;
        let (to, from) = if self.next == 0 { (first, second) } else { (second, first) };
        // SAFETY: the caller's contract.
        unsafe {
            zero();
            for step in 0..STEPS {
                issue(step);
                between();
                if let Some(before) = self.before {
                    take::<MINIMA, ROWS>(before, from, step);
                }
            }
            store(to);
        }
        self.next = 1 - self.next;
        self.before = Some(halves);
    }

    /// Adds what is left.
    ///
    /// # Safety
    /// That of [`Pipeline::add_two_tiles`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub unsafe fn finish(&mut self) {
        if let Some(before) = self.before.take() {
            for step in 0..STEPS {
                // SAFETY: the caller's contract.
                unsafe { take::<MINIMA, ROWS>(before, &self.dots[1 - self.next], step) }
            }
        }
    }
}

fn half(row: Row, block: usize, panel: Unpacked, sums: *mut f32) -> Half {
    Half {
        pairs: row.pairs[block * 8 * TILE..][..8 * TILE].as_ptr(),
        scales_a: row.scales[block * TILE..][..TILE].as_ptr(),
        scales: panel.scales,
        sums,
    }
}

/// One link of the chains of a quarter of the rows.
///
/// # Safety
/// That of [`Pipeline::add_two_tiles`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn take<const MINIMA: bool, const ROWS: usize>(before: [Half; 2], dots: &Dots, step: usize) {
    let Half { pairs, scales_a, scales, sums } = before[step / 2];
    let first = step % 2 * (ROWS / 2);
    let [lower, upper] = &dots.0[step / 2];
    // SAFETY: the caller's contract.
    unsafe {
        let (scale, minimum) = (_mm512_loadu_ps(scales), _mm512_loadu_ps(scales.add(LANES)));
        let minima: [__m512i; 4] =
            std::array::from_fn(|pair| _mm512_loadu_si512(scales.add((2 + pair) * LANES).cast()));
        for row in first..first + ROWS / 2 {
            let lower = _mm512_load_si512(lower.as_ptr().add(row * LANES).cast());
            let upper = _mm512_load_si512(upper.as_ptr().add(row * LANES).cast());
            let upper = if MINIMA { _mm512_slli_epi32::<3>(upper) } else { _mm512_slli_epi32::<8>(upper) };
            let total = _mm512_cvtepi32_ps(_mm512_add_epi32(lower, upper));
            let to = sums.add(row * LANES);
            let scale_a = _mm512_set1_ps(*scales_a.add(row));
            let before = _mm512_loadu_ps(to);
            let after = if MINIMA {
                let mut least = _mm512_setzero_si512();
                for (pair, minima) in minima.into_iter().enumerate() {
                    let both = pairs.add(8 * row + 2 * pair).cast::<i32>().read_unaligned();
                    least = _mm512_dpwssd_epi32(least, minima, _mm512_set1_epi32(both));
                }
                let own = _mm512_mul_ps(total, scale);
                let both = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(least), minimum, own);
                _mm512_fmadd_ps(both, scale_a, before)
            } else {
                _mm512_fmadd_ps(total, _mm512_mul_ps(scale, scale_a), before)
            };
            _mm512_storeu_ps(to, after);
        }
    }
}

/// # Safety
/// Within [`TILES`].
#[inline(always)]
unsafe fn zero() {
    // SAFETY: the caller's contract.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem, preserves_flags),
        );
    }
}

/// Sixty-four values of K of two tiles of rows and of both digits. Sums stay in registers that only this file names.
///
/// # Safety
/// Within [`TILES`]; the operands can be read.
#[inline(always)]
unsafe fn issue_two_tiles(a: [*const i8; 2], b: *const i8) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!(
            "tileloadd tmm4, [{first} + {line}]",
            "tileloadd tmm6, [{b} + {line}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {line} + 1024]",
            "tdpbssd tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{second} + {line}]",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            first = in(reg) a[0],
            second = in(reg) a[1],
            b = in(reg) b,
            line = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags),
        );
    }
}

/// Sixty-four values of K of a tile of rows and of both digits of two panels.
///
/// # Safety
/// Within [`TILES`] or [`EIGHT_ROWS`]; the operands can be read.
#[inline(always)]
unsafe fn issue_two_panels(a: *const i8, b: [*const i8; 2]) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!(
            "tileloadd tmm4, [{a} + {line}]",
            "tileloadd tmm6, [{first} + {line}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{first} + {line} + 1024]",
            "tdpbssd tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{second} + {line}]",
            "tdpbsud tmm2, tmm4, tmm5",
            "tileloadd tmm6, [{second} + {line} + 1024]",
            "tdpbssd tmm3, tmm4, tmm6",
            a = in(reg) a,
            first = in(reg) b[0],
            second = in(reg) b[1],
            line = in(reg) 64usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags),
        );
    }
}

/// # Safety
/// Within [`TILES`].
#[inline(always)]
unsafe fn store(dots: &mut Dots) {
    // SAFETY: the caller's contract.
    unsafe {
        asm!(
            "tilestored [{dots} + {line}], tmm0",
            "tilestored [{dots} + {line} + 1024], tmm1",
            "tilestored [{dots} + {line} + 2048], tmm2",
            "tilestored [{dots} + {line} + 3072], tmm3",
            dots = in(reg) dots,
            line = in(reg) 64usize,
            options(nostack, preserves_flags),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int8::{layout, pack};

    /// Needs no tiles, so processors without them test it too.
    #[test]
    fn digits_are_the_codes_times_their_scales() {
        if !(std::is_x86_feature_detected!("avx512bw") && std::is_x86_feature_detected!("f16c")) {
            return;
        }
        let mut state = 1u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        for kind in [Kind::Q4K, Kind::Q6K] {
            let lines: Vec<u8> = (0..kind.code_lines() * LINE).map(|_| byte()).collect();
            // Scales of Q4_K have six bits.
            let mask = if kind == Kind::Q4K { 63 } else { 255 };
            let own: Vec<u8> = (0..kind.scale_bytes()).map(|_| byte() & mask).collect();
            let mut plain = [[0; LINE]; layout::LONGEST / 4];
            pack::unpack(kind, &lines, &mut plain);
            let (mut codes, mut scales) = (vec![0; CODE_BYTES], vec![0.0; SCALES]);
            let panel = Panel { codes: &lines, scales: &own };
            // SAFETY: the processor has the instructions.
            unsafe { unpack(kind, panel, 0..1, &mut codes, &mut scales) };
            for (line, bytes) in plain.iter().enumerate() {
                let at = (line / 16 * 32 + line % 16) * LINE;
                for (place, code) in bytes.iter().enumerate() {
                    let (lower, upper) = (codes[at + place], codes[at + 16 * LINE + place]);
                    let (scale, found) = match kind {
                        Kind::Q4K => {
                            let own: &[Q4KScales] = bytemuck::cast_slice(&own);
                            let scale = i32::from(own[0].scales[line / 8][place / 4]);
                            (scale, i32::from(lower as u8) + 8 * i32::from(upper as u8))
                        }
                        _ => {
                            let own: &[Q6KScales] = bytemuck::cast_slice(&own);
                            let scale = i32::from(own[0].scales[line / 4][place / 4]);
                            (scale, i32::from(lower as u8) + 256 * i32::from(upper))
                        }
                    };
                    let wanted = (i32::from(*code) - kind.offset()) * scale;
                    assert_eq!(found, wanted, "{kind:?}, line {line}, byte {place}");
                }
            }
        }
    }
}
