//! Adapters that answer: packed once beside a model, and added to the rows of the sequences that ask for them.
//!
//! A pass may hold sequences of many adapters and of none. Its rows are laid out so that those of one adapter lie next to
//! each other, a [`Run`]: one small product for all of them. The model's own products take all rows at once and never see
//! an adapter, so the others' results are what they would be without.

use std::ops::Range;

use kernels::gemm::{Accumulate, Packed, Precision, View, ViewMut, gemm_packed};
use kernels::meter::{self, Pass};
use rayon::prelude::*;

use super::Segment;
use crate::adapters::Adapters;
use crate::low_rank::{self, LowRank};
use crate::{Config, Error};

/// The adapters of one folder, packed for a model that serves.
pub struct Adapter {
    config: Config,
    /// Layer after layer, beside each of a block's four matrices.
    layers: Vec<[Option<Beside>; 4]>,
}

/// What is added to the outputs of one matrix `[out, in]`: `s (x Aᵀ) Bᵀ`.
struct Beside {
    scale: f32,
    /// The `A`s of all its modules, `[n r, in]`.
    down: Packed,
    /// Each module's first output, and its `B`, `[its outputs, r]`.
    up: Vec<(usize, Packed)>,
}

impl Adapter {
    /// Packs adapters for products in `precision`, which is the model's.
    pub(super) fn new(adapters: &Adapters, precision: Precision) -> Self {
        let layers = adapters.layers().map(|layer| layer.map(|one| Beside::new(one, precision))).collect();
        Self { config: adapters.config().clone(), layers }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.layers.iter().flatten().flatten().map(Beside::bytes).sum()
    }

    /// Refuses the adapter of another model.
    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        if self.config == *config {
            return Ok(());
        }
        Err(Error::Adapter(vec!["they were made for a model of another shape".into()]))
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Adapter").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Beside {
    /// `None` where the matrix has no adapters.
    fn new(adapters: LowRank, precision: Precision) -> Option<Self> {
        let (rank, width) = (adapters.rank, adapters.outputs.len() * adapters.rank);
        let first = adapters.modules().next()?.2.start;
        let pack =
            |values, rows, cols| Packed::new(precision, View::new(values, rows, cols, cols).transposed());
        let up = adapters
            .modules()
            .map(|(outputs, _, b)| (outputs.start, pack(&adapters.values[b], outputs.len(), rank)));
        Some(Self {
            scale: adapters.scale,
            down: pack(&adapters.values[..first], width, first / width),
            up: up.collect(),
        })
    }

    fn bytes(&self) -> usize {
        self.down.bytes() + self.up.iter().map(|(_, b)| b.bytes()).sum::<usize>()
    }

    /// Adds to the rows of `y [T, out]`, from `x [T, in]`. Operation by operation what [`LowRank::forward`] does, so the
    /// same bits.
    fn forward(&self, y: &mut [f32], x: &[f32], out: usize) {
        let (tokens, width, input) = (y.len() / out, self.down.cols(), self.down.rows());
        low_rank::with_inner(tokens * width, |inner| {
            let to = ViewMut::new(inner, tokens, width, width);
            gemm_packed(to, View::new(x, tokens, input, input), &self.down, Accumulate::Overwrite);
            inner.iter_mut().for_each(|value| *value *= self.scale);
            for (index, (first, b)) in self.up.iter().enumerate() {
                let inner = View::new(&inner[index * b.rows()..], tokens, b.rows(), width);
                let y = ViewMut::new(&mut y[*first..], tokens, b.cols(), out);
                gemm_packed(y, inner, b, Accumulate::Add);
            }
        });
    }
}

/// Rows of a pass that lie next to each other and share an adapter.
pub struct Run<'a> {
    rows: Range<usize>,
    adapter: &'a Adapter,
}

/// What the runs of a pass add to the outputs of one matrix.
#[derive(Clone, Copy)]
pub struct Added<'a> {
    runs: &'a [Run<'a>],
    layer: usize,
    matrix: usize,
}

impl<'a> Added<'a> {
    /// Nothing, whatever the rows.
    pub(crate) const NONE: Self = Self { runs: &[], layer: 0, matrix: 0 };

    /// To the outputs of a layer's four matrices, in the order of [`crate::forward::BlockWeights`].
    pub(super) fn beside(runs: &'a [Run<'a>], layer: usize) -> [Self; 4] {
        std::array::from_fn(|matrix| Self { runs, layer, matrix })
    }

    /// Adds it to `y [T, out]`, from `x [T, in]`.
    pub(crate) fn forward(&self, y: &mut [f32], x: &[f32], out: usize) {
        if self.runs.is_empty() {
            return;
        }
        let input = x.len() / (y.len() / out);
        let (mut work, mut rest, mut end) = (Vec::with_capacity(self.runs.len()), y, 0);
        for Run { rows, adapter } in self.runs {
            let (own, after) = rest[(rows.start - end) * out..].split_at_mut(rows.len() * out);
            (rest, end) = (after, rows.end);
            if let Some(beside) = &adapter.layers[self.layer][self.matrix] {
                work.push((beside, own, &x[rows.start * input..rows.end * input]));
            }
        }
        // One run's products are too small for two threads to share one, so different runs go to different threads.
        let add = |(beside, y, x): (&Beside, &mut [f32], &[f32])| {
            let _metered = meter::label(low_rank::ROLE, Pass::Forward);
            beside.forward(y, x, out);
        };
        match work.len() {
            1 => work.into_iter().for_each(add),
            _ => work.into_par_iter().for_each(add),
        }
    }
}

/// Puts segments of one adapter next to each other, those of none first: the place of each in a pass, by its number. Segments
/// of one adapter stay in their order.
pub(super) fn arrange(segments: &[Segment], order: &mut Vec<usize>) {
    order.clear();
    let mut adapters: Vec<*const Adapter> = vec![std::ptr::null()];
    let mut group = |segment: &Segment| {
        let adapter = segment.adapter.map_or(std::ptr::null(), std::ptr::from_ref);
        adapters.iter().position(|known| *known == adapter).unwrap_or_else(|| {
            adapters.push(adapter);
            adapters.len() - 1
        })
    };
    let groups: Vec<usize> = segments.iter().map(&mut group).collect();
    order.extend(0..segments.len());
    order.sort_by_key(|&index| groups[index]);
}

/// The runs of segments that were put in this order.
pub(super) fn runs<'a>(segments: &[Segment<'a>], order: &[usize]) -> Vec<Run<'a>> {
    let mut runs: Vec<Run> = Vec::new();
    let mut end = 0;
    for segment in order.iter().map(|&index| &segments[index]) {
        let start = end;
        end += segment.tokens.len();
        let Some(adapter) = segment.adapter else { continue };
        match runs.last_mut() {
            Some(run) if std::ptr::eq(run.adapter, adapter) => run.rows.end = end,
            _ => runs.push(Run { rows: start..end, adapter }),
        }
    }
    runs
}
