//! Packing for tiles: pairs of bf16, with K padded to what a tile register holds. On the right as for `vdpbf16ps`; on
//! the left with 32 values of one row side by side, which is how they lie in most matrices already.

use super::amx::SIDE;
use super::avx512_bf16_pack::{self, Part, halves, shuffled};
use super::avx512_pack::{LANES, first_lanes, transposed};
use super::kernel::{Format, Strip};
use super::view::Element;
use std::arch::x86_64::*;

/// Values of K in a row of a tile register.
const VALUES: usize = 2 * SIDE;

/// Packs a strip.
///
/// # Safety
/// As [`super::kernel::PackFunction`], for [`Format::RowsOfPairs`] and [`Format::PaddedPairs`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn pack(target: *mut u32, width: usize, strip: &Strip, format: Format) {
    // SAFETY: the caller's contract is the same.
    unsafe {
        if format == Format::RowsOfPairs {
            match (strip.depth_stride == 1, strip.element) {
                (true, Element::F32) => rows::<false>(target, width, strip),
                (true, Element::Bf16) => rows::<true>(target, width, strip),
                (false, Element::F32) => columns::<false>(target, width, strip),
                (false, Element::Bf16) => columns::<true>(target, width, strip),
            }
            return;
        }
        avx512_bf16_pack::pack(target, width, strip, Format::Pairs);
        let (words, padded) = (Format::Pairs.words(strip.depth), format.words(strip.depth));
        for word in words..padded {
            target.add(word * width).write_bytes(0, strip.padded_lanes);
        }
    }
}

/// Rows along which K is contiguous: 32 values at a time are rounded, and keep their order.
///
/// # Safety
/// As [`super::kernel::PackFunction`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn rows<const HALF: bool>(target: *mut u32, width: usize, strip: &Strip) {
    for lane in 0..strip.lanes {
        let mut target = target.wrapping_add(lane * SIDE);
        for depth in (0..strip.depth).step_by(VALUES) {
            let rest = strip.depth - depth;
            let near = Part { start: strip.at(lane, depth), mask: first_lanes(rest) };
            let mask = first_lanes(rest.saturating_sub(LANES));
            let far = Part { start: strip.at(lane, depth + LANES), mask };
            // SAFETY: the masks hold what is left of the lane; the words are written whole, zeros after the last.
            unsafe { _mm512_storeu_si512(target.cast(), halves::<HALF>(near, far)) }
            target = target.wrapping_add(SIDE * width);
        }
    }
}

/// Rows that lie side by side: 32 values of K of 16 rows are rounded, and rows and columns of the pairs exchanged.
///
/// # Safety
/// As [`super::kernel::PackFunction`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn columns<const HALF: bool>(target: *mut u32, width: usize, strip: &Strip) {
    for depth in (0..strip.depth).step_by(VALUES) {
        let rest = (strip.depth - depth).min(VALUES);
        for lane in (0..strip.lanes).step_by(LANES) {
            let lanes = (strip.lanes - lane).min(LANES);
            let mask = first_lanes(lanes);
            let row = |k: usize| match k < rest {
                true => Part { start: strip.at(lane, depth + k), mask },
                false => Part::NOTHING,
            };
            let mut pairs = [_mm512_setzero_si512(); LANES];
            for (word, pair) in pairs.iter_mut().enumerate() {
                // SAFETY: the mask holds lanes of the strip, and none beyond its last value of K.
                *pair = shuffled(unsafe { halves::<HALF>(row(2 * word), row(2 * word + 1)) });
            }
            let target = target.wrapping_add(depth / 2 * width + lane * SIDE);
            for (row, words) in transposed(pairs).into_iter().enumerate().take(lanes) {
                // SAFETY: there is room for the 16 words of each of the strip's lanes.
                unsafe { _mm512_storeu_si512(target.add(row * SIDE).cast(), words) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::portable;
    use super::*;
    use crate::isa::{self, Isa};
    use crate::kept::bf16;

    #[test]
    fn packs_what_the_plain_packing_packs() {
        if isa::detected() < Isa::Amx {
            return;
        }
        let mut state = 1u32;
        let values: Vec<f32> = (0..80 * 80)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        let kept: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
        for (lanes, depth) in [(1, 1), (14, 64), (16, 33), (3, 17), (30, 31), (32, 70), (7, 2), (31, 80)] {
            for (lane_stride, depth_stride) in [(80, 1), (1, 80)] {
                for format in [Format::RowsOfPairs, Format::PaddedPairs] {
                    let strip = Strip {
                        data: values.as_ptr(),
                        element: Element::F32,
                        lane_stride,
                        depth_stride,
                        lanes,
                        padded_lanes: lanes,
                        depth,
                    };
                    let half = Strip { data: kept.as_ptr().cast(), element: Element::Bf16, ..strip };
                    let mut packed = [(); 3].map(|()| vec![7u32; format.words(depth) * lanes]);
                    // SAFETY: the processor has the instructions; values and targets have room for these strips.
                    unsafe {
                        pack(packed[0].as_mut_ptr(), lanes, &strip, format);
                        portable::pack(packed[1].as_mut_ptr(), lanes, &strip, format);
                        pack(packed[2].as_mut_ptr(), lanes, &half, format);
                    }
                    assert_eq!(packed[0], packed[1], "{format:?} {lanes} lanes of {depth} at {lane_stride}");
                    assert_eq!(packed[0], packed[2], "{format:?} {lanes} lanes of {depth} at {lane_stride}");
                }
            }
        }
    }
}
