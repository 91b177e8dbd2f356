//! GGUF's Q5_0: 32 values, one scale in f16 and five bits each. The layout is that of the file.
//!
//! The scale makes the value that is farthest from zero the code 0, which means -16. Rounding is that of ggml's
//! reference (`quantize_row_q5_0_ref`) with a fused multiplication and addition, so the bytes are the same.

use half::f16;

use super::encoding::whole_blocks;
use crate::isa;

/// Values of a block.
pub const LEN: usize = 32;

/// One block: value `i` is `scale * (code - 16)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// f16, little-endian: a block may begin at any byte of a file.
    pub scale: [u8; 2],
    /// The fifth bit of value `i` is bit `i`, little-endian.
    pub high: [u8; 4],
    /// The lower four bits of the first 16 values in the lower halves, of the others in the upper ones.
    pub low: [u8; LEN / 2],
}

whole_blocks!(Block, 22);

isa::dispatch! {
    /// Writes the blocks of as many values.
    pub(super) fn quantise<FMA>(blocks: &mut [Block], values: &[f32]) {
        for (block, values) in blocks.iter_mut().zip(values.as_chunks::<LEN>().0) {
            let farthest = values.iter().fold(0.0f32, |far, &value| if value.abs() > far.abs() { value } else { far });
            let scale = farthest / -16.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            block.scale = f16::from_f32(scale).to_le_bytes();
            // The product of two f32 is exact in f64; what is cut off is the sum rounded to f32, as a fused one is.
            let code = |value: f32| ((f64::from(value) * f64::from(inverse) + 16.5) as f32).min(31.0) as u8;
            (block.low, block.high) = pack(&values.map(code));
        }
    }

    /// Writes the values of whole blocks.
    pub(super) fn dequantise<FMA>(out: &mut [f32], blocks: &[Block]) {
        for (out, block) in out.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let scale = f16::from_le_bytes(block.scale).to_f32();
            let codes = unpack(&block.low, block.high);
            for (out, code) in out.iter_mut().zip(codes) {
                *out = (f32::from(code) - 16.0) * scale;
            }
        }
    }
}

/// Codes of five bits as their lower four and their fifth ones.
#[inline(always)]
pub(super) fn pack(codes: &[u8; LEN]) -> ([u8; LEN / 2], [u8; 4]) {
    let low = std::array::from_fn(|at| codes[at] & 15 | codes[at + LEN / 2] << 4);
    let high = codes.iter().enumerate().fold(0u32, |high, (at, code)| high | u32::from(code >> 4) << at);
    (low, high.to_le_bytes())
}

/// The codes again.
#[inline(always)]
pub(super) fn unpack(low: &[u8; LEN / 2], high: [u8; 4]) -> [u8; LEN] {
    let high = u32::from_le_bytes(high);
    std::array::from_fn(|at| {
        let shift = if at < LEN / 2 { 0 } else { 4 };
        (low[at % (LEN / 2)] >> shift & 15) | ((high >> at & 1) as u8) << 4
    })
}
