//! Packs operands that are kept in bf16 with a packing function that reads f32: a few values of K at a time are made f32
//! nearby. Their rounding has nothing left to do, so the words are those of the values themselves.

use super::kernel::{Format, PackFunction, Strip};
use super::view::Element;
use crate::kept::{bf16, widened};

/// Lanes of the widest panel, and values of K that are widened together: an even number, as pairs need it.
const LANES: usize = 64;
const DEPTH: usize = 32;

/// # Safety
/// As [`PackFunction`], for a strip of bf16 and a format whose words of one value of K, or of two, lie side by side.
pub(super) unsafe fn pack(
    packer: PackFunction,
    target: *mut u32,
    width: usize,
    strip: &Strip,
    format: Format,
) {
    debug_assert!(matches!(format, Format::F32 | Format::Rounded | Format::Pairs));
    assert!(
        strip.element == Element::Bf16 && strip.padded_lanes <= LANES,
        "a strip of {}",
        strip.padded_lanes
    );
    let mut values = [0.0f32; LANES * DEPTH];
    for start in (0..strip.depth).step_by(DEPTH) {
        let depth = DEPTH.min(strip.depth - start);
        for lane in 0..strip.lanes {
            for k in 0..depth {
                // SAFETY: the lane and the value of K lie in the strip.
                let value = unsafe { strip.at(lane, start + k).cast::<bf16>().read() };
                values[if strip.depth_stride == 1 { lane * DEPTH + k } else { k * LANES + lane }] =
                    widened(value);
            }
        }
        let (lane_stride, depth_stride) = if strip.depth_stride == 1 { (DEPTH, 1) } else { (1, LANES) };
        let part = Strip {
            data: values.as_ptr(),
            element: Element::F32,
            lane_stride,
            depth_stride,
            depth,
            ..*strip
        };
        // SAFETY: the part lies in `values`; for the target the caller's contract.
        unsafe { packer(target.add(format.words(start) * width), width, &part, format) }
    }
}
