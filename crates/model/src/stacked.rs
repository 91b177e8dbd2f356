//! The weights of a linear layer that serves: matrices one under the other, each as its file has it. Queries, keys and values
//! are one layer, and a file may store values in more bits than the others.

use std::cell::Cell;

use kernels::gemm::{Accumulate, Packed, View, ViewMut, gemm_packed};
use kernels::int8::{self, Activations};

/// A weight matrix `[out, in]` of one or several parts.
pub struct Stacked {
    parts: Vec<Part>,
}

/// Some of the rows.
pub enum Part {
    /// Packed for products in floats.
    Floats(Packed),
    /// In the blocks of a file, for products in integers.
    Blocks(int8::Matrix),
}

thread_local! {
    /// Activations that were rounded for the layer before: their memory.
    static KEPT: Cell<Activations> = Cell::default();
}

impl Stacked {
    /// One under the other, in order.
    pub fn new(parts: Vec<Part>) -> Self {
        Self { parts }
    }

    /// The only part, where it is one of blocks.
    pub(crate) fn blocks(&self) -> Option<&int8::Matrix> {
        match self.parts.as_slice() {
            [Part::Blocks(matrix)] => Some(matrix),
            _ => None,
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// `y [T, out]` (=, or +=) `x [T, in] Wᵀ`.
    pub(crate) fn forward(&self, y: &mut [f32], x: View, values: &[f32], accumulate: Accumulate) {
        let out: usize = self.parts.iter().map(Part::rows).sum();
        let blocks = || {
            self.parts.iter().filter_map(|part| match part {
                Part::Blocks(matrix) => Some(matrix),
                Part::Floats(_) => None,
            })
        };
        let mut rounded = KEPT.take();
        rounded.round(values, x.cols(), blocks());
        let mut first = 0;
        for part in &self.parts {
            let end = first + part.rows();
            // Rows of the result are `out` long, and this part's columns begin at `first`.
            let y = if y.is_empty() { &mut [][..] } else { &mut y[first..] };
            let mut y = ViewMut::new(y, x.rows(), part.rows(), out);
            match part {
                Part::Floats(weights) => gemm_packed(y, x, weights, accumulate),
                Part::Blocks(weights) => int8::product(&mut y, &rounded, weights, accumulate),
            }
            first = end;
        }
        KEPT.set(rounded);
    }
}

impl From<Packed> for Stacked {
    fn from(weights: Packed) -> Self {
        Self { parts: vec![Part::Floats(weights)] }
    }
}

impl Part {
    fn rows(&self) -> usize {
        match self {
            Self::Floats(weights) => weights.cols(),
            Self::Blocks(weights) => weights.rows(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Floats(weights) => weights.bytes(),
            Self::Blocks(weights) => weights.bytes(),
        }
    }
}
