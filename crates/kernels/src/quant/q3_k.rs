//! GGUF's Q3_K: 256 values in sixteen parts of 16, three bits each. A part has a scale of six bits; the block has a scale
//! for the scales, in f16. The layout is that of the file. It is read, not written.

use half::f16;

use super::encoding::whole_blocks;
use crate::isa;

/// Values of a block.
pub const LEN: usize = 256;
/// Values that share a scale.
const PART: usize = 16;

/// One block: value `i` of part `p` is `scale * (scales[p] - 32) * (code - 4)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// The third bits: bit `q` of byte `i` belongs to value `32 q + i`.
    pub high: [u8; LEN / 8],
    /// The lower two bits: for each 128 values 32 bytes, of which byte `i` holds values `i`, `i + 32`, `i + 64` and
    /// `i + 96`, the first lowest.
    pub low: [u8; LEN / 4],
    /// Sixteen scales of six bits; [`Block::part`] takes them apart.
    pub packed: [u8; 12],
    /// f16, little-endian: a block may begin at any byte of a file.
    pub scale: [u8; 2],
}

whole_blocks!(Block, 110);

impl Block {
    /// The scale of a part, -32 to 31.
    #[inline(always)]
    pub fn part(&self, part: usize) -> i8 {
        let low = self.packed[part % 8] >> (4 * (part / 8)) & 15;
        let high = self.packed[8 + part % 4] >> (2 * (part / 4)) & 3;
        (low | high << 4).cast_signed() - 32
    }
}

isa::dispatch! {
    /// Writes the values of whole blocks.
    pub(super) fn dequantise<FMA>(out: &mut [f32], blocks: &[Block]) {
        for (out, block) in out.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let scale = f16::from_le_bytes(block.scale).to_f32();
            for (part, out) in out.as_chunks_mut::<PART>().0.iter_mut().enumerate() {
                let step = scale * f32::from(block.part(part));
                let (half, quarter, side) = (part / 8, part % 8 / 2, part % 2);
                let low = &block.low[half * 32 + side * PART..][..PART];
                let high = &block.high[side * PART..][..PART];
                for at in 0..PART {
                    let code = low[at] >> (2 * quarter) & 3 | (high[at] >> (part / 2) & 1) << 2;
                    out[at] = step * (f32::from(code) - 4.0);
                }
            }
        }
    }
}
