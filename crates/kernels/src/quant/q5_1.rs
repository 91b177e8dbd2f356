//! GGUF's Q5_1: 32 values, a scale and a minimum in f16 and five bits each. The layout is that of the file.
//!
//! Rounding is that of ggml's reference (`quantize_row_q5_1_ref`), so the bytes are the same.

use half::f16;

use super::encoding::whole_blocks;
use super::q4_1::range;
use super::q5_0::{pack, unpack};
use crate::isa;

/// Values of a block.
pub const LEN: usize = 32;

/// One block: value `i` is `scale * code + minimum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// f16, little-endian: a block may begin at any byte of a file.
    pub scale: [u8; 2],
    /// f16, little-endian.
    pub minimum: [u8; 2],
    /// The fifth bit of value `i` is bit `i`, little-endian.
    pub high: [u8; 4],
    /// The lower four bits of the first 16 values in the lower halves, of the others in the upper ones.
    pub low: [u8; LEN / 2],
}

whole_blocks!(Block, 24);

isa::dispatch! {
    /// Writes the blocks of as many values.
    pub(super) fn quantise<FMA>(blocks: &mut [Block], values: &[f32]) {
        for (block, values) in blocks.iter_mut().zip(values.as_chunks::<LEN>().0) {
            let (scale, minimum) = range(values, 31.0);
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            block.scale = f16::from_f32(scale).to_le_bytes();
            block.minimum = f16::from_f32(minimum).to_le_bytes();
            let code = |value: f32| ((value - minimum) * inverse + 0.5).min(31.0) as u8;
            (block.low, block.high) = pack(&values.map(code));
        }
    }

    /// Writes the values of whole blocks.
    pub(super) fn dequantise<FMA>(out: &mut [f32], blocks: &[Block]) {
        for (out, block) in out.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let (scale, minimum) = (f16::from_le_bytes(block.scale).to_f32(), f16::from_le_bytes(block.minimum).to_f32());
            let codes = unpack(&block.low, block.high);
            for (out, code) in out.iter_mut().zip(codes) {
                *out = f32::from(code) * scale + minimum;
            }
        }
    }
}
