//! Packing pairs of bf16 with the instructions that round them: a third of the work of [`super::avx512_pack`], with
//! the same products. (The instruction takes numbers below 2^-126 for zero, as `vdpbf16ps` does in any case.)

use super::avx512_pack::{LANES, first_lanes, transposed};
use super::kernel::{Format, Strip};
use super::view::Element;
use std::arch::x86_64::*;

/// Values in a vector of bf16.
const VALUES: usize = 2 * LANES;

/// Packs a strip into pairs.
///
/// # Safety
/// As [`super::kernel::PackFunction`], for [`Format::Pairs`] alone.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn pack(target: *mut u32, width: usize, strip: &Strip, format: Format) {
    debug_assert_eq!(format, Format::Pairs);
    for lane in (0..strip.padded_lanes).step_by(LANES) {
        let part = Strip {
            data: strip.at(lane, 0),
            lanes: strip.lanes.saturating_sub(lane).min(LANES),
            padded_lanes: (strip.padded_lanes - lane).min(LANES),
            ..*strip
        };
        // SAFETY: the caller's contract, for 16 of the lanes.
        unsafe {
            let target = target.add(lane);
            match (strip.depth_stride == 1, strip.element) {
                (true, Element::F32) => transpose::<false>(target, width, &part),
                (true, Element::Bf16) => transpose::<true>(target, width, &part),
                (false, Element::F32) => copy::<false>(target, width, &part),
                (false, Element::Bf16) => copy::<true>(target, width, &part),
            }
        }
    }
}

/// Lanes that are contiguous in memory: a word of K is made of two vectors.
///
/// # Safety
/// As [`super::kernel::PackFunction`], for at most 16 lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn copy<const HALF: bool>(target: *mut u32, width: usize, strip: &Strip) {
    let (loaded, stored) = (first_lanes(strip.lanes), first_lanes(strip.padded_lanes));
    let row = |depth: usize| Part { start: strip.at(0, depth), mask: loaded };
    let mut target = target;
    for depth in (0..strip.depth).step_by(2) {
        let second = if depth + 1 < strip.depth { row(depth + 1) } else { Part::NOTHING };
        // SAFETY: these are values of K of the strip, and the mask has its lanes; there is room for the strip's padded
        // lanes of every word at this pitch. A prefetch touches nothing.
        unsafe {
            let pairs = shuffled(halves::<HALF>(row(depth), second));
            _mm512_mask_storeu_epi32(target.cast(), stored, pairs);
            _mm_prefetch::<_MM_HINT_T0>(strip.at(0, depth + 8).cast());
            _mm_prefetch::<_MM_HINT_T0>(strip.at(0, depth + 9).cast());
        }
        target = target.wrapping_add(width);
    }
}

/// Lanes along which K is contiguous: 32 values of 16 lanes become 16 words, and rows and columns are exchanged.
///
/// # Safety
/// As [`super::kernel::PackFunction`], for at most 16 lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn transpose<const HALF: bool>(target: *mut u32, width: usize, strip: &Strip) {
    let stored = first_lanes(strip.padded_lanes);
    let words = strip.depth.div_ceil(2);
    for depth in (0..strip.depth).step_by(VALUES) {
        let rest = strip.depth - depth;
        let mut block = [_mm512_setzero_si512(); LANES];
        for (lane, row) in block.iter_mut().enumerate().take(strip.lanes) {
            let near = Part { start: strip.at(lane, depth), mask: first_lanes(rest) };
            let mask = first_lanes(rest.saturating_sub(LANES));
            let far = Part { start: strip.at(lane, depth + LANES), mask };
            // SAFETY: the values of the masks lie in the strip.
            *row = unsafe { halves::<HALF>(near, far) };
        }
        let word = depth / 2;
        for (next, column) in transposed(block).into_iter().enumerate().take(words - word) {
            // SAFETY: there is room for the strip's padded lanes of every word at this pitch.
            unsafe { _mm512_mask_storeu_epi32(target.add((word + next) * width).cast(), stored, column) }
        }
    }
}

/// 32 values as bf16: those of `near`, then those of `far`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
#[inline]
pub(crate) fn rounded(near: __m512, far: __m512) -> __m512i {
    let values = _mm512_cvtne2ps_pbh(far, near);
    // SAFETY: both types are 512 bits of plain values.
    unsafe { std::mem::transmute(values) }
}

/// Up to 16 values that lie side by side.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub start: *const f32,
    /// Which of them are read; the others are zero.
    pub mask: __mmask16,
}

impl Part {
    pub const NOTHING: Self = Self { start: std::ptr::null(), mask: 0 };
}

/// 32 values as bf16, of f32 or, if `HALF` says so, of bf16: those of `near`, then those of `far`.
///
/// # Safety
/// The masks' values are readable.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
#[inline]
pub(super) unsafe fn halves<const HALF: bool>(near: Part, far: Part) -> __m512i {
    // SAFETY: the caller's contract.
    unsafe {
        if HALF {
            let load = |part: Part| _mm256_maskz_loadu_epi16(part.mask, part.start.cast());
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(near)), load(far))
        } else {
            let load = |part: Part| _mm512_maskz_loadu_ps(part.mask, part.start);
            rounded(load(near), load(far))
        }
    }
}

/// Lane by lane, a value of `first` in the lower half and one of `second` in the upper.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
#[inline]
pub(crate) fn interleaved(first: __m512, second: __m512) -> __m512i {
    shuffled(rounded(first, second))
}

/// Of 16 values and then 16 others, pairs of one and one.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
#[inline]
pub(super) fn shuffled(values: __m512i) -> __m512i {
    let order = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18,
        2, 17, 1, 16, 0,
    );
    _mm512_permutexvar_epi16(order, values)
}

#[cfg(test)]
mod tests {
    use super::super::avx512_pack;
    use super::*;
    use crate::isa::{self, Isa};

    #[test]
    fn packs_what_the_plain_rounding_packs() {
        if isa::detected() < Isa::Avx512Bf16 {
            return;
        }
        let mut bits = 1u32;
        let values: Vec<f32> = (0..80 * 80)
            .map(|_| {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Ties, infinities and every exponent but that of the numbers below the normal ones.
                let value = f32::from_bits(bits & 0xffff_8000);
                if value.is_subnormal() || value.is_nan() { 1.5 } else { value }
            })
            .collect();
        for (lanes, depth) in [(1, 1), (14, 64), (16, 33), (3, 17), (30, 31), (32, 70), (7, 2)] {
            for (lane_stride, depth_stride) in [(80, 1), (1, 80)] {
                let data = values.as_ptr();
                let padded_lanes = lanes + lanes % 2;
                let element = Element::F32;
                let strip = Strip { data, element, lane_stride, depth_stride, lanes, padded_lanes, depth };
                let width = padded_lanes + 1;
                let mut packed =
                    [vec![7u32; depth.div_ceil(2) * width], vec![7u32; depth.div_ceil(2) * width]];
                // SAFETY: the processor has the instructions; values and targets have room for these strips.
                unsafe {
                    pack(packed[0].as_mut_ptr(), width, &strip, Format::Pairs);
                    avx512_pack::pack(packed[1].as_mut_ptr(), width, &strip, Format::Pairs);
                }
                assert_eq!(packed[0], packed[1], "{lanes} lanes of {depth} at {lane_stride}");
            }
        }
    }
}
