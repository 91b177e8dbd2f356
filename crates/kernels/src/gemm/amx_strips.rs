//! Products of operands that another operation has packed itself and keeps near: one block of C at a time, nothing cut,
//! nothing brought from afar. [`super::product`] does all of that for a whole matrix; attention's tiles do it themselves.
//!
//! A value of C is one chain of `tdpbf16ps` in the order of K, as in [`super::amx`]: it does not depend on what else
//! is in the block, nor on where K is interrupted to keep C in memory.

use super::amx::SIDE;
use super::amx_pack;
use super::kernel::{Format, Strip};
use super::view::Element;
use std::arch::asm;

pub(crate) use super::avx512_bf16_pack::{interleaved, rounded};
pub(crate) use super::avx512_pack::{first_lanes, transposed};

/// Rows of a block of C: two tile registers.
pub(crate) const ROWS: usize = 2 * SIDE;
/// Values of K in a step of a product.
pub(crate) const STEP: usize = 2 * SIDE;

/// The operand of a product: lane `l`, value `k` of K stand at `l * lane_stride + k * depth_stride`. The lanes are rows of
/// a left operand or columns of a right one. One of the strides is 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub data: *const f32,
    pub lane_stride: usize,
    pub depth_stride: usize,
    pub lanes: usize,
    pub depth: usize,
}

/// Packs rows: 16 words of each of `width` lanes for every 32 values of K, padded with zeros. Lanes from `lanes` on are
/// left as they are.
///
/// # Safety
/// The processor has tiles; `source` is readable; `target` has room for `width * depth / 2` words, the depth rounded
/// up to [`STEP`].
pub(crate) unsafe fn pack_left(target: *mut u32, width: usize, source: &Source) {
    // SAFETY: the caller's contract; a processor with tiles has the vectors too.
    unsafe { amx_pack::pack(target, width, &source.strip(source.lanes), Format::RowsOfPairs) }
}

/// Packs columns: a row of `width` words for every two values of K. K is padded with zeros to [`STEP`], and lanes to
/// `width`.
///
/// # Safety
/// As [`pack_left`].
pub(crate) unsafe fn pack_right(target: *mut u32, width: usize, source: &Source) {
    // SAFETY: as above.
    unsafe { amx_pack::pack(target, width, &source.strip(width), Format::PaddedPairs) }
}

impl Source {
    fn strip(&self, padded_lanes: usize) -> Strip {
        Strip {
            data: self.data,
            element: Element::F32,
            lane_stride: self.lane_stride,
            depth_stride: self.depth_stride,
            lanes: self.lanes,
            padded_lanes,
            depth: self.depth,
        }
    }
}

/// C (32 x 16 `VECTORS`, its rows one after the other) = A B or C += A B over `steps` times 32 values of K. `left` is
/// where 32 rows of [`pack_left`] begin, `left_step` words apart from one step to the next; `right` is a packed operand of
/// 16 `VECTORS` lanes.
///
/// # Safety
/// Within a session of bf16 on a processor with tiles; the operands are readable, C is writable and nobody else's.
#[inline(always)]
pub(crate) unsafe fn multiply<const VECTORS: usize>(
    c: *mut f32,
    left: *const u32,
    left_step: usize,
    right: *const u32,
    steps: usize,
    add: bool,
) {
    const { assert!(VECTORS == 1 || VECTORS == 2) };
    debug_assert!(steps > 0);
    macro_rules! multiply {
        ($zero:literal, $load:literal, $step:literal, $store:literal) => {
            asm!(
                "test {add:l}, {add:l}",
                "jnz 3f",
                $zero,
                "jmp 2f",
                "3:",
                $load,
                "2:",
                $step,
                "add {left}, {left_step}",
                "add {right}, {right_step}",
                "dec {steps}",
                "jnz 2b",
                $store,
                add = in(reg) usize::from(add),
                c = in(reg) c,
                left = inout(reg) left => _,
                left_step = in(reg) 4 * left_step,
                right = inout(reg) right => _,
                right_step = const 1024 * VECTORS,
                row = in(reg) 64usize,
                wide = in(reg) 64 * VECTORS,
                steps = inout(reg) steps => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }
    // SAFETY: the caller's contract.
    unsafe {
        if VECTORS == 2 {
            multiply!(
                "tilezero tmm0\ntilezero tmm1\ntilezero tmm2\ntilezero tmm3",
                "tileloadd tmm0, [{c} + {wide}]\ntileloadd tmm1, [{c} + {wide} + 64]
                 tileloadd tmm2, [{c} + {wide} + 2048]\ntileloadd tmm3, [{c} + {wide} + 2112]",
                "tileloadd tmm4, [{left} + {row}]\ntileloadd tmm6, [{right} + {wide}]
                 tdpbf16ps tmm0, tmm4, tmm6
                 tileloadd tmm7, [{right} + {wide} + 64]
                 tdpbf16ps tmm1, tmm4, tmm7
                 tileloadd tmm5, [{left} + {row} + 1024]
                 tdpbf16ps tmm2, tmm5, tmm6\ntdpbf16ps tmm3, tmm5, tmm7",
                "tilestored [{c} + {wide}], tmm0\ntilestored [{c} + {wide} + 64], tmm1
                 tilestored [{c} + {wide} + 2048], tmm2\ntilestored [{c} + {wide} + 2112], tmm3"
            )
        } else {
            multiply!(
                "tilezero tmm0\ntilezero tmm2",
                "tileloadd tmm0, [{c} + {wide}]\ntileloadd tmm2, [{c} + {wide} + 1024]",
                "tileloadd tmm4, [{left} + {row}]\ntileloadd tmm6, [{right} + {wide}]
                 tdpbf16ps tmm0, tmm4, tmm6
                 tileloadd tmm5, [{left} + {row} + 1024]
                 tdpbf16ps tmm2, tmm5, tmm6",
                "tilestored [{c} + {wide}], tmm0\ntilestored [{c} + {wide} + 1024], tmm2"
            )
        }
    }
}
