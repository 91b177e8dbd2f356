//! GGUF's Q2_K: 256 values in sixteen parts of 16, two bits each. A part has a scale and a minimum in four bits; the block
//! has a scale for the scales and one for the minima, in f16. The layout is that of the file. It is read, not written.

use half::f16;

use super::encoding::whole_blocks;
use crate::isa;

/// Values of a block.
pub const LEN: usize = 256;
/// Values that share a scale and a minimum.
const PART: usize = 16;

/// One block: value `i` of part `p` is `scale * (parts[p] & 15) * code - minimum * (parts[p] >> 4)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// A scale in the lower half and a minimum in the upper one, for each part.
    pub parts: [u8; LEN / PART],
    /// For each 128 values 32 bytes; byte `i` holds values `i`, `i + 32`, `i + 64` and `i + 96`, the first lowest.
    pub codes: [u8; LEN / 4],
    /// f16, little-endian: a block may begin at any byte of a file.
    pub scale: [u8; 2],
    /// f16, little-endian.
    pub minimum: [u8; 2],
}

whole_blocks!(Block, 84);

isa::dispatch! {
    /// Writes the values of whole blocks.
    pub(super) fn dequantise<FMA>(out: &mut [f32], blocks: &[Block]) {
        for (out, block) in out.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let (scale, minimum) = (f16::from_le_bytes(block.scale).to_f32(), f16::from_le_bytes(block.minimum).to_f32());
            for (part, out) in out.as_chunks_mut::<PART>().0.iter_mut().enumerate() {
                let step = scale * f32::from(block.parts[part] & 15);
                let offset = minimum * f32::from(block.parts[part] >> 4);
                // Two parts a quarter of 32 values, four quarters of two bits in each 32 bytes.
                let (half, quarter, side) = (part / 8, part % 8 / 2, part % 2);
                let codes = &block.codes[half * 32 + side * PART..][..PART];
                for (out, code) in out.iter_mut().zip(codes) {
                    *out = step * f32::from(code >> (2 * quarter) & 3) - offset;
                }
            }
        }
    }
}
