//! A right operand that is packed once and used many times: the weights of a model that serves.

use super::kernel::{self, Kernel};
use super::product::{Product, Right, right_strip};
use super::scratch::Words;
use super::{Accumulate, Precision, View, ViewMut};
use crate::meter::{self, Cost};

/// A matrix B in the order in which the kernel of this processor reads it: f32, or bf16 in half the memory.
pub struct Packed {
    kernel: &'static Kernel,
    words: Words,
    rows: usize,
    cols: usize,
}

impl Packed {
    /// Packs B (K x N), whichever way it lies: W of a linear layer, [out, in], is given as its transposed view.
    pub fn new(precision: Precision, b: View) -> Self {
        let kernel = kernel::select_packed(precision);
        let depth = kernel.right.words(b.rows());
        let words = Words::new(depth * kernel.columns * b.cols().div_ceil(kernel.columns));
        let packed = Self { kernel, words, rows: b.rows(), cols: b.cols() };
        for panel in 0..b.cols().div_ceil(kernel.columns) {
            let strip = right_strip(kernel, b, panel..panel + 1, 0..b.rows());
            // SAFETY: the strip lies in B; the panel has room for all of its words.
            unsafe {
                kernel.pack(packed.panels().at(panel, 0).cast_mut(), kernel.columns, &strip, kernel.right)
            }
        }
        packed
    }

    /// K, the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// N, the number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.words.len() * size_of::<u32>()
    }

    fn panels(&self) -> Panels {
        Panels::new(self.kernel, self.words.start(), self.rows)
    }
}

/// Where the packed panels of a right operand lie: all of K for one panel, then the next.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    kernel: &'static Kernel,
    start: *const u32,
    depth: usize,
}

// SAFETY: only addresses are given out; who reads there vouches for it.
unsafe impl Sync for Panels {}

impl Panels {
    /// Panels of `depth` values of K that were packed for `kernel` from `start` on.
    pub fn new(kernel: &'static Kernel, start: *const u32, depth: usize) -> Self {
        Self { kernel, start, depth }
    }

    /// Words from one panel to the next.
    pub fn step(self) -> usize {
        self.kernel.right.words(self.depth) * self.kernel.columns
    }

    /// Where a panel's words begin from a value of K on, which is the first of a block.
    pub fn at(self, panel: usize, depth: usize) -> *const u32 {
        let words = self.kernel.right.words(self.depth);
        let offset = (panel * words + self.kernel.right.words(depth)) * self.kernel.columns;
        self.start.wrapping_add(offset)
    }
}

/// C = A B or C += A B with B packed before, on the threads of rayon's current pool. The bits are those of
/// [`super::gemm`] in B's precision.
///
/// # Panics
/// When the three shapes do not fit together.
pub fn gemm_packed(c: ViewMut, a: View, b: &Packed, accumulate: Accumulate) {
    let _metered = meter::product(|| Cost::product(&c, &a, b.bytes(), accumulate));
    let right = Right::Packed(b.panels(), b.rows(), b.cols());
    Product::new(b.kernel, c, a, right, accumulate).run(rayon::current_num_threads());
}
