//! GGUF's Q8_0: 32 values, one scale in f16 and a byte each. The layout is that of the file.
//!
//! Rounding is that of ggml's reference (`quantize_row_q8_0_ref`), halves away from zero, so the bytes are the same.

use half::f16;

use super::encoding::whole_blocks;
use crate::isa;

/// Values of a block.
pub const LEN: usize = 32;

/// One block: value `i` is `scale * codes[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// f16, little-endian: a block may begin at any byte of a file.
    pub scale: [u8; 2],
    /// -127 to 127.
    pub codes: [i8; LEN],
}

whole_blocks!(Block, 34);

isa::dispatch! {
    /// Writes the blocks of as many values.
    pub(super) fn quantise<FMA>(blocks: &mut [Block], values: &[f32]) {
        for (block, values) in blocks.iter_mut().zip(values.as_chunks::<LEN>().0) {
            let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let scale = largest / 127.0;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            block.scale = f16::from_f32(scale).to_le_bytes();
            for (code, value) in block.codes.iter_mut().zip(values) {
                *code = (value * inverse).round() as i8;
            }
        }
    }

    /// Writes the values of whole blocks.
    pub(super) fn dequantise<FMA>(out: &mut [f32], blocks: &[Block]) {
        for (out, block) in out.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let scale = f16::from_le_bytes(block.scale).to_f32();
            for (out, code) in out.iter_mut().zip(block.codes) {
                *out = f32::from(code) * scale;
            }
        }
    }
}
