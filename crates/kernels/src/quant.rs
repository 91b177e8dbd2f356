//! Matrices that are read and never trained, in few bytes a value: f32, bf16, 8-bit integers or 4-bit NormalFloat, and
//! the products of activations with them.
//!
//! Blocks of [`BLOCK`] values, counted over the whole matrix row after row as in bitsandbytes, share one scale, their
//! largest absolute value. A product dequantises a bounded strip of rows at a time and hands it to [`crate::gemm`], so a
//! matrix is never whole in f32. Files have blocks of their own ([`Encoding`]). Not here: what is packed for serving
//! (`gemm::Packed`, `int8::Matrix`).

mod double;
mod encoding;
mod int8;
mod k_quants;
mod nf4;
mod product;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;

#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::meter::{self, Cost, Operation, Pass};

pub use encoding::Encoding;
pub use nf4::CODE as NF4_CODE;
pub(crate) use product::strips;
pub use product::{forward, input_gradient};

use double::Scales;

/// Values that share a scale. 64 is QLoRA's (Dettmers et al. 2023, section 3), for 8 bits too.
pub const BLOCK: usize = 64;
/// Values that one task quantises or dequantises; a multiple of [`BLOCK`].
const TASK: usize = 1 << 14;
/// Values of the strip of rows that is in f32 at once: 16 MiB.
const STRIP: usize = 1 << 22;

/// How the values of a [`Matrix`] are stored. Bits are those of a value, scales included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32 bits, exact.
    F32,
    /// 16 bits, rounded to nearest even.
    Bf16,
    /// 8.5 bits: -127 to 127 times the block's largest absolute value.
    Int8,
    /// 4-bit NormalFloat of QLoRA: 4.5 bits, or 4.127 with `double`, where the scales are quantised once more.
    Nf4 {
        /// Double quantisation (Dettmers et al. 2023, section 3).
        double: bool,
    },
}

/// A matrix `[rows, cols]` in one of the formats, row after row.
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: usize,
    cols: usize,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    F32(Vec<f32>),
    /// The upper half of each f32.
    Bf16(Vec<u16>),
    Int8 {
        codes: Vec<i8>,
        absmax: Vec<f32>,
    },
    /// Two codes a byte, the first in the upper half, as bitsandbytes has them.
    Nf4 {
        codes: Vec<u8>,
        scales: Scales,
    },
}

impl Matrix {
    /// Quantises `[rows, cols]` values, all of them finite.
    ///
    /// # Panics
    /// When there are not `rows * cols` values.
    pub fn new(format: Format, rows: usize, cols: usize, values: &[f32]) -> Self {
        assert_eq!(values.len(), rows * cols, "{} values are not {rows} rows of {cols}", values.len());
        Self::from_strips(format, rows, cols, |start, strip| {
            strip.copy_from_slice(&values[start..start + strip.len()]);
        })
    }

    /// Quantises a matrix that is never whole in f32: `fill` is asked for its values strip after strip, in order, and is
    /// told how many came before.
    pub fn from_strips(
        format: Format,
        rows: usize,
        cols: usize,
        mut fill: impl FnMut(usize, &mut [f32]),
    ) -> Self {
        let len = rows * cols;
        let blocks = len.div_ceil(BLOCK);
        let mut values = match format {
            Format::F32 => Values::F32(vec![0.0; len]),
            Format::Bf16 => Values::Bf16(vec![0; len]),
            Format::Int8 => Values::Int8 { codes: vec![0; len], absmax: vec![0.0; blocks] },
            Format::Nf4 { .. } => {
                Values::Nf4 { codes: vec![0; len.div_ceil(2)], scales: Scales::Plain(vec![0.0; blocks]) }
            }
        };
        let mut strip = vec![0.0; len.min(STRIP)];
        for start in (0..len).step_by(STRIP) {
            let strip = &mut strip[..STRIP.min(len - start)];
            fill(start, strip);
            values.quantise(start, strip);
        }
        if let (Format::Nf4 { double: true }, Values::Nf4 { scales, .. }) = (format, &mut values) {
            scales.quantise();
        }
        Self { rows, cols, values }
    }

    /// Rows: the outputs of a linear layer.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: its inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// What it costs to make `values` of its values f32: to read them as they are kept, and to write them.
    fn cost_of(&self, values: usize) -> Cost {
        let kept = self.bytes() as u64 * values as u64 / (self.rows * self.cols).max(1) as u64;
        Cost { flops: values as u64, read: kept, written: 4 * values as u64 }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::F32(values) => size_of_val(&values[..]),
            Values::Bf16(values) => size_of_val(&values[..]),
            Values::Int8 { codes, absmax } => codes.len() + size_of_val(&absmax[..]),
            Values::Nf4 { codes, scales } => codes.len() + scales.bytes(),
        }
    }

    /// Writes the values from place `start` of the matrix on, row after row, to `out`, on all threads.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn dequantise(&self, start: usize, out: &mut [f32]) {
        let _metered = meter::span(Operation::Dequantise, Pass::Whole, || self.cost_of(out.len()));
        assert!(start + out.len() <= self.rows * self.cols, "places beyond the end of the matrix");
        // Tasks begin at blocks, so that none reads a scale that belongs to half of it.
        let first = (start.next_multiple_of(BLOCK) - start).min(out.len());
        let (head, rest) = out.split_at_mut(first);
        self.values.dequantise(start, head);
        rest.par_chunks_mut(TASK).enumerate().for_each(|(index, task)| {
            self.values.dequantise(start + first + index * TASK, task);
        });
    }
}

/// Writes `x [T, cols]`: the rows of `table` that `tokens [T]` name.
pub fn embedding(x: &mut [f32], table: &Matrix, tokens: &[u32]) {
    let _metered = meter::span(Operation::Embedding, Pass::Forward, || table.cost_of(x.len()));
    x.par_chunks_mut(table.cols).zip(tokens).for_each(|(row, &token)| {
        table.values.dequantise(token as usize * table.cols, row);
    });
}

impl Values {
    /// Quantises values from place `start` on, which is a multiple of [`BLOCK`].
    fn quantise(&mut self, start: usize, from: &[f32]) {
        let (end, block) = (start + from.len(), start / BLOCK);
        let blocks = block..end.div_ceil(BLOCK);
        match self {
            Self::F32(values) => values[start..end].copy_from_slice(from),
            Self::Bf16(values) => {
                let rounded = values[start..end].par_chunks_mut(TASK).zip(from.par_chunks(TASK));
                rounded.for_each(|(to, from)| {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = half::bf16::from_f32(*from).to_bits();
                    }
                });
            }
            Self::Int8 { codes, absmax } => codes[start..end]
                .par_chunks_mut(TASK)
                .zip(absmax[blocks].par_chunks_mut(TASK / BLOCK))
                .zip(from.par_chunks(TASK))
                .for_each(|((codes, absmax), from)| int8::quantise(codes, absmax, from)),
            Self::Nf4 { codes, scales } => codes[start / 2..end.div_ceil(2)]
                .par_chunks_mut(TASK / 2)
                .zip(scales.plain_mut()[blocks].par_chunks_mut(TASK / BLOCK))
                .zip(from.par_chunks(TASK))
                .for_each(|((codes, absmax), from)| nf4::quantise(codes, absmax, from)),
        }
    }

    /// Writes the values from place `start` on.
    fn dequantise(&self, start: usize, out: &mut [f32]) {
        let within = start % BLOCK;
        let head = if within == 0 { 0 } else { (BLOCK - within).min(out.len()) };
        let (head, rest) = out.split_at_mut(head);
        if !head.is_empty() {
            let mut block = [0.0; BLOCK];
            let block = &mut block[..within + head.len()];
            self.dequantise_blocks(start - within, block);
            head.copy_from_slice(&block[within..]);
        }
        self.dequantise_blocks(start + head.len(), rest);
    }

    /// Writes the values from place `start` on, where a block begins.
    fn dequantise_blocks(&self, start: usize, out: &mut [f32]) {
        let (end, block) = (start + out.len(), start / BLOCK);
        match self {
            Self::F32(values) => out.copy_from_slice(&values[start..end]),
            Self::Bf16(values) => widen(out, &values[start..end]),
            Self::Int8 { codes, absmax } => int8::dequantise(out, &codes[start..end], &absmax[block..]),
            Self::Nf4 { codes, scales } => {
                nf4::dequantise(out, &codes[start / 2..end.div_ceil(2)], scales, block);
            }
        }
    }
}

crate::isa::dispatch! {
    fn widen<FMA>(out: &mut [f32], values: &[u16]) {
        for (out, value) in out.iter_mut().zip(values) {
            *out = f32::from_bits(u32::from(*value) << 16);
        }
    }
}
