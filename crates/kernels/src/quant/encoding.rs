//! How the values of a tensor lie in a model's file, plain or in blocks, and the way from and to f32.
//!
//! A row of a matrix is a whole number of blocks, so rows can be read and multiplied alone, from a memory map as well.
//! Each kind of block has a file of its own beside this one; its struct is its layout on the disk.

use half::{bf16, f16};
use rayon::prelude::*;

use super::{q4_0, q4_k, q6_k, q8_0};

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
    /// 4.5 bits: blocks of 256, with minima.
    Q4K,
    /// 4.5 bits: blocks of 32.
    Q4_0,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::F32, Self::F16, Self::Bf16, Self::Q8_0, Self::Q6K, Self::Q4K, Self::Q4_0];

    /// The name in the field: `F32`, `BF16`, `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q6K => "Q6_K",
            Self::Q4K => "Q4_K",
            Self::Q4_0 => "Q4_0",
        }
    }

    /// Values of a block; 1 for plain values.
    pub fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 => q8_0::LEN,
            Self::Q6K => q6_k::LEN,
            Self::Q4K => q4_k::LEN,
            Self::Q4_0 => q4_0::LEN,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => size_of::<q8_0::Block>(),
            Self::Q6K => size_of::<q6_k::Block>(),
            Self::Q4K => size_of::<q4_k::Block>(),
            Self::Q4_0 => size_of::<q4_0::Block>(),
        }
    }

    /// Bytes of so many values; `None` if they are no whole number of blocks, or more bytes than can be counted.
    pub fn bytes(self, values: usize) -> Option<usize> {
        let blocks = values / self.block_values();
        values.is_multiple_of(self.block_values()).then(|| blocks.checked_mul(self.block_bytes()))?
    }

    /// Writes values, all of them finite, as bytes, on all threads.
    ///
    /// # Panics
    /// When `out` is not [`Self::bytes`] long.
    pub fn encode(self, values: &[f32], out: &mut [u8]) {
        assert_eq!(self.bytes(values.len()), Some(out.len()), "{} values as {}", values.len(), self.name());
        let task_bytes = TASK / self.block_values() * self.block_bytes();
        out.par_chunks_mut(task_bytes).zip(values.par_chunks(TASK)).for_each(|(out, values)| match self {
            Self::F32 => each(out, values, f32::to_le_bytes),
            Self::F16 => each(out, values, |value| f16::from_f32(value).to_le_bytes()),
            Self::Bf16 => each(out, values, |value| bf16::from_f32(value).to_le_bytes()),
            Self::Q8_0 => q8_0::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q6K => q6_k::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q4K => q4_k::quantise(bytemuck::cast_slice_mut(out), values),
            Self::Q4_0 => q4_0::quantise(bytemuck::cast_slice_mut(out), values),
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
            Self::Q4K => q4_k::dequantise(out, bytemuck::cast_slice(bytes)),
            Self::Q4_0 => q4_0::dequantise(out, bytemuck::cast_slice(bytes)),
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
