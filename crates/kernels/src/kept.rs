//! Values that are kept in bf16: half the memory of f32 for what only a product, which rounds its operands to bf16 anyway,
//! or a gradient reads again. Arithmetic stays in f32.

use std::fmt;
use std::ops::{Deref, DerefMut};

use half::slice::HalfBitsSliceExt;
use rayon::prelude::*;

pub use half::bf16;

use crate::buffer::Buffer;
use crate::isa;
use crate::meter::{self, Cost, Operation, Pass};

const BLOCK: usize = 1 << 14;

/// `len` values of bf16 from the beginning of a cache line on.
#[derive(Clone, Default)]
pub struct Bf16Buffer {
    pairs: Buffer,
    len: usize,
}

impl Bf16Buffer {
    /// All zeros.
    pub fn zeros(len: usize) -> Self {
        Self { pairs: Buffer::zeros(len.div_ceil(2)), len }
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.pairs[..])
    }
}

impl Deref for Bf16Buffer {
    type Target = [bf16];

    fn deref(&self) -> &[bf16] {
        bytemuck::cast_slice::<f32, u16>(&self.pairs)[..self.len].reinterpret_cast()
    }
}

impl DerefMut for Bf16Buffer {
    fn deref_mut(&mut self) -> &mut [bf16] {
        bytemuck::cast_slice_mut::<f32, u16>(&mut self.pairs)[..self.len].reinterpret_cast_mut()
    }
}

impl fmt::Debug for Bf16Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self[..].fmt(formatter)
    }
}

/// Values to read, however they are kept.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// As they are.
    F32(&'a [f32]),
    /// Rounded.
    Bf16(&'a [bf16]),
}

impl Values<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those from a place on.
    pub fn from(self, start: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[start..]),
            Self::Bf16(values) => Self::Bf16(&values[start..]),
        }
    }
}

/// The memory of f32 values as that of twice as many bf16.
pub(crate) fn as_bf16(memory: &mut [f32]) -> &mut [bf16] {
    bytemuck::cast_slice_mut::<f32, u16>(memory).reinterpret_cast_mut()
}

/// To the nearest bf16, ties to even; a NaN stays one.
#[inline(always)]
pub fn nearest(value: f32) -> bf16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    bf16::from_bits(if value.is_nan() { (bits >> 16 | 0x40) as u16 } else { rounded as u16 })
}

/// The same value.
#[inline(always)]
pub fn widened(value: bf16) -> f32 {
    f32::from_bits(u32::from(value.to_bits()) << 16)
}

/// Rounds on all threads. Where there is no room at all, nothing is kept.
pub fn round(to: &mut [bf16], from: &[f32]) {
    if to.is_empty() {
        return;
    }
    assert_eq!(to.len(), from.len(), "as many values as there is room for");
    let cost = || Cost::of(0, from.len(), to.len() / 2);
    let _metered = meter::span(Operation::Copy, Pass::Whole, cost);
    to.par_chunks_mut(BLOCK).zip(from.par_chunks(BLOCK)).for_each(|(to, from)| round_block(to, from));
}

/// Rounds in place on all threads: what [`widen`] would give of what [`round`] keeps.
pub fn round_in_place(values: &mut [f32]) {
    let cost = || Cost::of(0, values.len(), values.len());
    let _metered = meter::span(Operation::Copy, Pass::Whole, cost);
    values.par_chunks_mut(BLOCK).for_each(round_block_in_place);
}

/// The kept values as f32, on all threads.
pub fn widen(to: &mut [f32], from: &[bf16]) {
    assert_eq!(to.len(), from.len(), "as many values as there is room for");
    let cost = || Cost::of(0, from.len() / 2, to.len());
    let _metered = meter::span(Operation::Copy, Pass::Whole, cost);
    to.par_chunks_mut(BLOCK).zip(from.par_chunks(BLOCK)).for_each(|(to, from)| widen_block(to, from));
}

isa::dispatch! {
    /// [`round`] in the calling thread.
    pub(crate) fn round_block<FMA>(to: &mut [bf16], from: &[f32]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = nearest(from);
        }
    }

    fn round_block_in_place<FMA>(values: &mut [f32]) {
        for value in values.iter_mut() {
            *value = widened(nearest(*value));
        }
    }

    fn widen_block<FMA>(to: &mut [f32], from: &[bf16]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = widened(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::available;

    #[test]
    fn rounding_is_that_of_the_crate_half() {
        let mut bits = 1u32;
        let mut values: Vec<f32> = (0..100_000)
            .map(|_| {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Every second one is a tie, or close to one.
                f32::from_bits(if bits & 1 == 0 { bits } else { bits & 0xffff_0000 | 0x8000 })
            })
            .collect();
        values.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN_POSITIVE]);
        let expected: Vec<u16> = values.iter().map(|&value| bf16::from_f32(value).to_bits()).collect();
        for isa in available() {
            let (mut kept, mut wide, mut places) =
                (Bf16Buffer::zeros(values.len()), vec![0.0; values.len()], values.clone());
            isa::with(isa, 2, || {
                round(&mut kept, &values);
                widen(&mut wide, &kept);
                round_in_place(&mut places);
            });
            for ((&kept, &expected), (&wide, &place)) in
                kept.iter().zip(&expected).zip(wide.iter().zip(&places))
            {
                assert_eq!(kept.to_bits(), expected, "{isa:?}");
                assert!(wide.to_bits() == u32::from(expected) << 16 && place.to_bits() == wide.to_bits());
            }
        }
        round(&mut [], &values);
    }
}
