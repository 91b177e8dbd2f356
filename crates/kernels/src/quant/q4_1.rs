//! GGUF's Q4_1: 32 values, a scale and a minimum in f16 and four bits each. The layout is that of the file.
//!
//! Rounding is that of ggml's reference (`quantize_row_q4_1_ref`), so the bytes are the same.

use half::f16;

use super::encoding::whole_blocks;
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
    /// The codes of the first 16 values in the lower halves, of the others in the upper ones.
    pub codes: [u8; LEN / 2],
}

whole_blocks!(Block, 20);

isa::dispatch! {
    /// Writes the blocks of as many values.
    pub(super) fn quantise<FMA>(blocks: &mut [Block], values: &[f32]) {
        for (block, values) in blocks.iter_mut().zip(values.as_chunks::<LEN>().0) {
            let (scale, minimum) = range(values, 15.0);
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            block.scale = f16::from_f32(scale).to_le_bytes();
            block.minimum = f16::from_f32(minimum).to_le_bytes();
            let code = |value: f32| ((value - minimum) * inverse + 0.5).min(15.0) as u8;
            for (at, byte) in block.codes.iter_mut().enumerate() {
                *byte = code(values[at]) | code(values[at + LEN / 2]) << 4;
            }
        }
    }

    /// Writes the values of whole blocks.
    pub(super) fn dequantise<FMA>(out: &mut [f32], blocks: &[Block]) {
        for (out, block) in out.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let (scale, minimum) = (f16::from_le_bytes(block.scale).to_f32(), f16::from_le_bytes(block.minimum).to_f32());
            let (first, second) = out.split_at_mut(LEN / 2);
            for ((first, second), byte) in first.iter_mut().zip(second).zip(block.codes) {
                *first = f32::from(byte & 15) * scale + minimum;
                *second = f32::from(byte >> 4) * scale + minimum;
            }
        }
    }
}

/// The step with which the codes 0 to `top` reach from the smallest value to the largest, and the smallest.
#[inline(always)]
pub(super) fn range(values: &[f32; LEN], top: f32) -> (f32, f32) {
    let least = values.iter().fold(f32::INFINITY, |a, &b| a.min(b));
    let most = values.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    ((most - least) / top, least)
}
