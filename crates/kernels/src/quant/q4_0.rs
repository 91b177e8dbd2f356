//! GGUF's Q4_0: 32 values, one scale in f16 and four bits each. The layout is that of the file.
//!
//! The scale makes the value that is farthest from zero the code 0, which means -8. Rounding is that of ggml's
//! reference (`quantize_row_q4_0_ref`) with a fused multiplication and addition, so the bytes are the same.

use half::f16;

use super::encoding::whole_blocks;
use crate::isa;

/// Values of a block.
pub const LEN: usize = 32;

/// One block: value `i` is `scale * (code - 8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// f16, little-endian: a block may begin at any byte of a file.
    pub scale: [u8; 2],
    /// The codes of the first 16 values in the lower halves, of the others in the upper ones.
    pub codes: [u8; LEN / 2],
}

whole_blocks!(Block, 18);

isa::dispatch! {
    /// Writes the blocks of as many values.
    pub(super) fn quantise<FMA>(blocks: &mut [Block], values: &[f32]) {
        for (block, values) in blocks.iter_mut().zip(values.as_chunks::<LEN>().0) {
            let farthest = values.iter().fold(0.0f32, |far, &value| if value.abs() > far.abs() { value } else { far });
            let scale = farthest / -8.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            block.scale = f16::from_f32(scale).to_le_bytes();
            // The product of two f32 is exact in f64; what is cut off is the sum rounded to f32, as a fused one is.
            let code = |value: f32| ((f64::from(value) * f64::from(inverse) + 8.5) as f32).min(15.0) as u8;
            for (at, byte) in block.codes.iter_mut().enumerate() {
                *byte = code(values[at]) | code(values[at + LEN / 2]) << 4;
            }
        }
    }

    /// Writes the values of whole blocks.
    pub(super) fn dequantise<FMA>(out: &mut [f32], blocks: &[Block]) {
        for (out, block) in out.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let scale = f16::from_le_bytes(block.scale).to_f32();
            let (first, second) = out.split_at_mut(LEN / 2);
            for ((first, second), byte) in first.iter_mut().zip(second).zip(block.codes) {
                *first = (f32::from(byte & 15) - 8.0) * scale;
                *second = (f32::from(byte >> 4) - 8.0) * scale;
            }
        }
    }
}
