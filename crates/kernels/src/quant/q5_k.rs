//! GGUF's Q5_K: 256 values in eight parts of 32, five bits each. A part has a scale and a minimum in six bits; the block
//! has a scale for the scales and one for the minima, in f16. The layout is that of the file; how scales are found is in
//! [`super::k_quants`].

use half::f16;

use super::encoding::whole_blocks;
use super::k_quants::{Lines, PART, unpack};
use crate::isa;

/// Values of a block.
pub const LEN: usize = 256;

/// One block: value `i` of part `p` is `scale * scales[p] * code - minimum * minima[p]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Block {
    /// f16, little-endian: a block may begin at any byte of a file.
    pub scale: [u8; 2],
    /// f16, little-endian.
    pub minimum: [u8; 2],
    /// Eight scales and eight minima of six bits; [`Block::part`] takes them apart.
    pub packed: [u8; 12],
    /// The fifth bits: bit `p` of byte `i` belongs to value `i` of part `p`.
    pub high: [u8; PART],
    /// The lower four bits: for each two parts 32 bytes, the first part's in the lower halves, the second's in the upper
    /// ones.
    pub low: [u8; LEN / 2],
}

whole_blocks!(Block, 176);

impl Block {
    /// Scale and minimum of a part, each 0 to 63.
    #[inline(always)]
    pub fn part(&self, part: usize) -> (u8, u8) {
        unpack(&self.packed, part)
    }
}

isa::dispatch! {
    /// Writes the blocks of as many values.
    pub(super) fn quantise<FMA>(blocks: &mut [Block], values: &[f32]) {
        for (block, values) in blocks.iter_mut().zip(values.as_chunks::<LEN>().0) {
            *block = quantise_block(values);
        }
    }

    /// Writes the values of whole blocks.
    pub(super) fn dequantise<FMA>(out: &mut [f32], blocks: &[Block]) {
        for (out, block) in out.as_chunks_mut::<LEN>().0.iter_mut().zip(blocks) {
            let (scale, minimum) = (f16::from_le_bytes(block.scale).to_f32(), f16::from_le_bytes(block.minimum).to_f32());
            for (part, out) in out.as_chunks_mut::<PART>().0.iter_mut().enumerate() {
                let (step, offset) = block.part(part);
                let (step, offset) = (scale * f32::from(step), minimum * f32::from(offset));
                let (shift, low) = (4 * (part % 2), &block.low[part / 2 * PART..][..PART]);
                for at in 0..PART {
                    let code = low[at] >> shift & 15 | (block.high[at] >> part & 1) << 4;
                    out[at] = step * f32::from(code) - offset;
                }
            }
        }
    }
}

#[inline(always)]
fn quantise_block(values: &[f32; LEN]) -> Block {
    let (parts, _) = values.as_chunks::<PART>();
    let lines = Lines::fit(parts, 31.0);
    let (mut low, mut high) = ([0; LEN / 2], [0; PART]);
    for (part, values) in parts.iter().enumerate() {
        let shift = 4 * (part % 2);
        for (at, value) in values.iter().enumerate() {
            let code = lines.code(part, *value);
            low[part / 2 * PART + at] |= (code & 15) << shift;
            high[at] |= (code >> 4) << part;
        }
    }
    let Lines { scale, minimum, packed, .. } = lines;
    Block { scale: scale.to_le_bytes(), minimum: minimum.to_le_bytes(), packed, high, low }
}
