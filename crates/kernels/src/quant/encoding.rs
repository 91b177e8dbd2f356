//! How the values of a tensor lie in a model's file, plain or in blocks, and the way from and to f32.
//!
//! A row of a matrix is a whole number of blocks, so rows can be read and multiplied alone, from a memory map as well.
//! Each kind of block has a file of its own beside this one; its struct is its layout on the disk.

use std::mem::offset_of;

use half::{bf16, f16};
use rayon::prelude::*;

use super::{q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};

/// Values that one task converts; a multiple of every block.
const TASK: usize = 1 << 14;

/// How values are stored in a file. Names are those of safetensors and GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// 32 bits, exact.
    F32,
    /// 16 bits, rounded to nearest even, as IEEE 754 has them.
    F16,
    /// The upper 16 bits of an f32, rounded to nearest even.
    Bf16,
    /// 8.5 bits: blocks of 32.
    Q8_0,
    /// 6.5625 bits: blocks of 256.
    Q6K,
    /// 5.5 bits: blocks of 256, with minima.
    Q5K,
    /// 6 bits: blocks of 32, with minima.
    Q5_1,
    /// 5.5 bits: blocks of 32.
    Q5_0,
    /// 4.5 bits: blocks of 256, with minima.
    Q4K,
    /// 5 bits: blocks of 32, with minima.
    Q4_1,
    /// 4.5 bits: blocks of 32.
    Q4_0,
    /// 3.4375 bits: blocks of 256. Read, not written.
    Q3K,
    /// 2.625 bits: blocks of 256, with minima. Read, not written.
    Q2K,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q6K,
        Self::Q5K,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4K,
        Self::Q4_1,
        Self::Q4_0,
        Self::Q3K,
        Self::Q2K,
    ];

    /// The name in the field: `F32`, `BF16`, `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q6K => "Q6_K",
            Self::Q5K => "Q5_K",
            Self::Q5_1 => "Q5_1",
            Self::Q5_0 => "Q5_0",
            Self::Q4K => "Q4_K",
            Self::Q4_1 => "Q4_1",
            Self::Q4_0 => "Q4_0",
            Self::Q3K => "Q3_K",
            Self::Q2K => "Q2_K",
        }
    }

    /// Values of a block; 1 for plain values.
    pub fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 => q8_0::LEN,
            Self::Q6K => q6_k::LEN,
            Self::Q5K => q5_k::LEN,
            Self::Q5_1 => q5_1::LEN,
            Self::Q5_0 => q5_0::LEN,
            Self::Q4K => q4_k::LEN,
            Self::Q4_1 => q4_1::LEN,
            Self::Q4_0 => q4_0::LEN,
            Self::Q3K => q3_k::LEN,
            Self::Q2K => q2_k::LEN,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => size_of::<q8_0::Block>(),
            Self::Q6K => size_of::<q6_k::Block>(),
            Self::Q5K => size_of::<q5_k::Block>(),
            Self::Q5_1 => size_of::<q5_1::Block>(),
            Self::Q5_0 => size_of::<q5_0::Block>(),
            Self::Q4K => size_of::<q4_k::Block>(),
            Self::Q4_1 => size_of::<q4_1::Block>(),
            Self::Q4_0 => size_of::<q4_0::Block>(),
            Self::Q3K => size_of::<q3_k::Block>(),
            Self::Q2K => size_of::<q2_k::Block>(),
        }
    }

    /// Whether [`Self::encode`] makes it; the others are read, and copied as they are.
    pub fn is_written(self) -> bool {
        !matches!(self, Self::Q3K | Self::Q2K)
    }

    /// Bytes of so many values; `None` if they are no whole number of blocks, or more bytes than can be counted.
    pub fn bytes(self, values: usize) -> Option<usize> {
        let blocks = values / self.block_values();
        values.is_multiple_of(self.block_values()).then(|| blocks.checked_mul(self.block_bytes()))?
    }

    /// Whether the values of whole blocks of integers are finite, which their scales say; of plain values, every one of them.
    pub fn is_finite(self, bytes: &[u8]) -> bool {
        // Where a block has an f16, by its upper byte, which holds all of the exponent.
        let places: &[usize] = match self {
            Self::F32 => {
                return bytes.as_chunks::<4>().0.iter().all(|value| f32::from_le_bytes(*value).is_finite());
            }
            Self::Bf16 => {
                return bytes.as_chunks::<2>().0.iter().all(|value| bf16::from_le_bytes(*value).is_finite());
            }
            Self::F16 | Self::Q8_0 | Self::Q5_0 | Self::Q4_0 => &[1],
            Self::Q5_1 | Self::Q4_1 | Self::Q5K | Self::Q4K => &[1, 3],
            Self::Q2K => &[offset_of!(q2_k::Block, scale) + 1, offset_of!(q2_k::Block, minimum) + 1],
            Self::Q3K => &[offset_of!(q3_k::Block, scale) + 1],
            Self::Q6K => &[offset_of!(q6_k::Block, scale) + 1],
        };
        let blocks = bytes.chunks_exact(self.block_bytes());
        places.iter().all(|&place| blocks.clone().all(|block| block[place] & 0x7c != 0x7c))
    }

    /// Writes values, all of them finite, as bytes, on all threads.
    ///
    /// # Panics
    /// When `out` is not [`Self::bytes`] long, and where the encoding is not [written](Self::is_written).
    pub fn encode(self, values: &[f32], out: &mut [u8]) {
        assert_eq!(self.bytes(values.len()), Some(out.len()), "{} values as {}", values.len(), self.name());
        let task_bytes = TASK / self.block_values() * self.block_bytes();
        out.par_chunks_mut(task_bytes).zip(values.par_chunks(TASK)).for_each(|(out, values)| match self {
            Self::F32 => each(out, values, f32::to_le_bytes),
            Self::F16 => each(out, values, |value| f16::from_f32(value).to_le_bytes()),
            Self::Bf16 => each(out, values, |value| bf16::from_f32(value).to_le_bytes()),
            Self::Q8_0 => q8_0::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q6K => q6_k::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q5K => q5_k::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q5_1 => q5_1::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q5_0 => q5_0::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q4K => q4_k::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q4_1 => q4_1::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q4_0 => q4_0::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q3K | Self::Q2K => panic!("{} is read, not written", self.name()),
        });
    }

    /// Writes to `out` the values from place `start` of what `bytes` hold, on all threads.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn decode(self, bytes: &[u8], start: usize, out: &mut [f32]) {
        let block = self.block_values();
        // The values before the next whole block, and what comes of the last one if it is cut.
        let head = (start.next_multiple_of(block) - start).min(out.len());
        let (head, rest) = out.split_at_mut(head);
        self.decode_within(bytes, start, head);
        let start = start + head.len();
        let whole = rest.len() / block * block;
        let (rest, tail) = rest.split_at_mut(whole);
        rest.par_chunks_mut(TASK).enumerate().for_each(|(task, out)| {
            self.decode_blocks(self.blocks(bytes, start + task * TASK, out.len()), out);
        });
        self.decode_within(bytes, start + whole, tail);
    }

    /// Some values of one block.
    fn decode_within(self, bytes: &[u8], start: usize, out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let block = self.block_values();
        let within = start % block;
        let mut values = [0.0; 256];
        let values = &mut values[..block];
        self.decode_blocks(self.blocks(bytes, start - within, block), values);
        out.copy_from_slice(&values[within..within + out.len()]);
    }

    /// The bytes of whole blocks.
    fn blocks(self, bytes: &[u8], start: usize, values: usize) -> &[u8] {
        let first = start / self.block_values() * self.block_bytes();
        &bytes[first..first + values / self.block_values() * self.block_bytes()]
    }

    fn decode_blocks(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => every(bytes, out, f32::from_le_bytes),
            Self::F16 => every(bytes, out, |pair| f16::from_le_bytes(pair).to_f32()),
            Self::Bf16 => every(bytes, out, |[low, high]: [u8; 2]| f32::from_le_bytes([0, 0, low, high])),
            Self::Q8_0 => q8_0::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q6K => q6_k::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q5K => q5_k::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q5_1 => q5_1::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q5_0 => q5_0::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q4K => q4_k::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q4_1 => q4_1::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q4_0 => q4_0::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q3K => q3_k::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q2K => q2_k::dequantise(out, bytemuck::cast_slice(bytes)),
        }
    }
}

fn each<const N: usize>(out: &mut [u8], values: &[f32], bytes: impl Fn(f32) -> [u8; N]) {
    for (out, value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *out = bytes(*value);
    }
}

fn every<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *out = value(*bytes);
    }
}

/// Lets bytes be read as blocks where they lie.
macro_rules! whole_blocks {
    ($block:ty, $bytes:literal) => {
        const _: () = assert!(size_of::<$block>() == $bytes && align_of::<$block>() == 1);
        // SAFETY: arrays of bytes, without padding (asserted above), for which every pattern of bits is a value.
        unsafe impl bytemuck::Zeroable for $block {}
        // SAFETY: as above.
        unsafe impl bytemuck::Pod for $block {}
    };
}
pub(super) use whole_blocks;

#[cfg(test)]
mod tests;
