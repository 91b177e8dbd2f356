//! The products of low-rank adapters beside one frozen matrix (Hu et al. 2021, "LoRA"): `y += s (x Aᵀ) Bᵀ`, and back.
//! In training `x` may pass through dropout first.
//!
//! Several modules may share the matrix, as queries, keys and values do; their `A`s are one matrix, so that `x Aᵀ` is one
//! product for all of them. Shapes: `T` tokens, `n` modules of rank `r`, `in` and `out` of the whole matrix.

use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;

use kernels::buffer::Buffer;
use kernels::dropout::Dropout;
use kernels::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use kernels::kept::Values;
use kernels::meter::{self, Pass};

thread_local! {
    /// `[T, n r]`, for whichever adapter is at work; grows to the largest and stays.
    static INNER: Cell<Buffer> = Cell::new(Buffer::default());
    /// `[T, in]`: an input after dropout, or its gradient before; grows to the largest and stays.
    static DROPPED: Cell<Buffer> = Cell::new(Buffer::default());
}

/// What a meter calls the products of all adapters together.
pub(crate) const ROLE: &str = "adapters";

/// The adapters beside one matrix `[out, in]`.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// `r`.
    pub(crate) rank: usize,
    /// `s`: alpha over rank, or over its root.
    pub(crate) scale: f32,
    /// What is dropped of `x` in this pass.
    pub(crate) dropout: Option<Dropout>,
    /// The matrix's outputs that each module, in order, adds to; nothing where the matrix has no adapters.
    pub(crate) outputs: &'a [Range<usize>],
    /// The `A`s `[n r, in]`, then each module's `B [its outputs, r]`.
    pub(crate) values: &'a [f32],
}

impl LowRank<'_> {
    /// No adapters.
    pub(crate) const NONE: Self = Self { rank: 0, scale: 0.0, dropout: None, outputs: &[], values: &[] };

    /// Adds the adapters' part to `y [T, out]`, from `x [T, in]`.
    pub(crate) fn forward(&self, y: &mut [f32], x: &[f32], out: usize, precision: Precision) {
        if self.outputs.is_empty() {
            return;
        }
        let tokens = y.len() / out;
        let _metered = meter::label(ROLE, Pass::Forward);
        self.after_dropout(x, |x| {
            self.inner(tokens, |inner| {
                self.inner_from_input(inner, x, tokens, precision);
                for (outputs, part, b) in self.modules() {
                    let (inner, b) = (
                        self.part(inner, part, tokens),
                        View::new(&self.values[b], outputs.len(), self.rank, self.rank),
                    );
                    let y = ViewMut::new(&mut y[outputs.start..], tokens, outputs.len(), out);
                    gemm(precision, y, inner, b.transposed(), Accumulate::Add);
                }
            })
        });
    }

    /// Adds the adapters' part to `dx [T, in]`, from `dy [T, out]`.
    pub(crate) fn input_gradient(&self, dx: &mut [f32], dy: Values, out: usize, precision: Precision) {
        if self.outputs.is_empty() {
            return;
        }
        let tokens = dy.len() / out;
        let _metered = meter::label(ROLE, Pass::InputGradient);
        let input = dx.len() / tokens.max(1);
        self.inner(tokens, |inner| {
            self.inner_from_gradient(inner, dy, out, tokens, precision);
            let inner = View::new(inner, tokens, self.width(), self.width());
            let a = View::new(self.values, self.width(), input, input);
            let product = |dx: &mut [f32], accumulate| {
                gemm(precision, ViewMut::new(dx, tokens, input, input), inner, a, accumulate);
            };
            match self.dropout {
                None => product(dx, Accumulate::Add),
                Some(dropout) => lend(&DROPPED, dx.len(), |dropped| {
                    product(dropped, Accumulate::Overwrite);
                    dropout.backward(dx, dropped);
                }),
            }
        });
    }

    /// The gradients of the `A`s and `B`s, in the order of the values, from `dy [T, out]` and `x [T, in]`.
    pub(crate) fn weight_gradient(
        &self,
        gradient: &mut [f32],
        dy: Values,
        x: &[f32],
        out: usize,
        accumulate: Accumulate,
        precision: Precision,
    ) {
        if self.outputs.is_empty() {
            return;
        }
        let tokens = dy.len() / out;
        let _metered = meter::label(ROLE, Pass::WeightGradient);
        let input = x.len() / tokens.max(1);
        self.after_dropout(x, |x| {
            self.inner(tokens, |inner| {
                self.inner_from_input(inner, x, tokens, precision);
                for (outputs, part, b) in self.modules() {
                    let (count, inner) = (outputs.len(), self.part(inner, part, tokens));
                    let dy = View::of(dy.from(outputs.start), tokens, count, out);
                    let db = ViewMut::new(&mut gradient[b], count, self.rank, self.rank);
                    gemm(precision, db, dy.transposed(), inner, accumulate);
                }
                self.inner_from_gradient(inner, dy, out, tokens, precision);
                let inner = View::new(inner, tokens, self.width(), self.width());
                let da = ViewMut::new(gradient, self.width(), input, input);
                gemm(precision, da, inner.transposed(), View::new(x, tokens, input, input), accumulate);
            })
        });
    }

    /// `n r`.
    fn width(&self) -> usize {
        self.outputs.len() * self.rank
    }

    /// Each module's outputs, its first column of the inner matrix, and the place of its `B` among the values.
    pub(crate) fn modules(&self) -> impl Iterator<Item = (Range<usize>, usize, Range<usize>)> {
        let outputs: usize = self.outputs.iter().map(Range::len).sum();
        let mut end = self.values.len() - outputs * self.rank;
        self.outputs.iter().enumerate().map(move |(index, outputs)| {
            let b = end..end + outputs.len() * self.rank;
            end = b.end;
            (outputs.clone(), index * self.rank, b)
        })
    }

    /// One module's columns of the inner matrix: `[T, r]`.
    fn part<'i>(&self, inner: &'i [f32], first: usize, tokens: usize) -> View<'i> {
        View::new(&inner[first..], tokens, self.rank, self.width())
    }

    /// `inner [T, n r] = s x Aᵀ`.
    fn inner_from_input(&self, inner: &mut [f32], x: &[f32], tokens: usize, precision: Precision) {
        let (width, input) = (self.width(), x.len() / tokens.max(1));
        let a = View::new(self.values, width, input, input);
        let x = View::new(x, tokens, input, input);
        let to = ViewMut::new(inner, tokens, width, width);
        gemm(precision, to, x, a.transposed(), Accumulate::Overwrite);
        self.scale(inner);
    }

    /// `inner [T, n r] = s dy B`, each module with its own outputs.
    fn inner_from_gradient(
        &self,
        inner: &mut [f32],
        dy: Values,
        out: usize,
        tokens: usize,
        precision: Precision,
    ) {
        for (outputs, part, b) in self.modules() {
            let b = View::new(&self.values[b], outputs.len(), self.rank, self.rank);
            let dy = View::of(dy.from(outputs.start), tokens, outputs.len(), out);
            let to = ViewMut::new(&mut inner[part..], tokens, self.rank, self.width());
            gemm(precision, to, dy, b, Accumulate::Overwrite);
        }
        self.scale(inner);
    }

    /// In the calling thread: a few thousand values.
    fn scale(&self, inner: &mut [f32]) {
        inner.iter_mut().for_each(|value| *value *= self.scale);
    }

    fn inner(&self, tokens: usize, work: impl FnOnce(&mut [f32])) {
        with_inner(tokens * self.width(), work);
    }

    /// `x` as the adapters see it in this pass.
    fn after_dropout(&self, x: &[f32], work: impl FnOnce(&[f32])) {
        match self.dropout {
            None => work(x),
            Some(dropout) => lend(&DROPPED, x.len(), |dropped| {
                dropout.forward(dropped, x);
                work(dropped);
            }),
        }
    }
}

/// Lends this thread's inner matrix, `len` values of whatever it held.
pub(crate) fn with_inner(len: usize, work: impl FnOnce(&mut [f32])) {
    lend(&INNER, len, work);
}

/// Lends this thread's buffer, at least `len` long.
fn lend(kept: &'static LocalKey<Cell<Buffer>>, len: usize, work: impl FnOnce(&mut [f32])) {
    let mut buffer = kept.take();
    if buffer.len() < len {
        buffer = Buffer::zeros(len);
    }
    work(&mut buffer[..len]);
    kept.set(buffer);
}
