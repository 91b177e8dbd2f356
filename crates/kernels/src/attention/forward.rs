//! The forward over packed sequences, and the online softmax of one tile.

use rayon::prelude::*;

use super::Shape;
#[cfg(target_arch = "x86_64")]
use super::amx;
use super::tile::{KEYS, Seen, Shared, with_scratch};
use crate::gemm::{self, Accumulate, Precision, View, ViewMut, gemm_serial};
use crate::isa;
use crate::math::{exp, map_lanes, max_lanes, sum_lanes};
use crate::meter::{self, Operation, Pass};

/// Writes `out [T, H C]` and the log of each softmax's denominator, `log_sums [T, H]`, from `qkv [T, (H+2K) C]`,
/// which is rotated already. `T` is any number of rows of `seq_len` tokens; `document_starts [T]` counts within
/// a row. A token sees the tokens of its own document up to itself.
///
/// A task has one tile of queries of one key/value head, and takes its blocks of keys in order.
pub fn forward(
    out: &mut [f32],
    log_sums: &mut [f32],
    qkv: &[f32],
    document_starts: &[u32],
    seq_len: usize,
    shape: Shape,
    precision: Precision,
) {
    let (width, out_width) = (shape.width(), shape.heads * shape.head_dim);
    let tokens = document_starts.len();
    assert!(qkv.len() == tokens * width && out.len() == tokens * out_width, "attention: shapes do not fit");
    assert!(log_sums.len() == tokens * shape.heads && tokens.is_multiple_of(seq_len));
    let _metered = meter::span(Operation::Attention, Pass::Forward, || {
        shape.cost(document_starts, seq_len, Pass::Forward)
    });
    #[cfg(target_arch = "x86_64")]
    if amx::serves(precision) {
        return amx::forward(out, log_sums, qkv, document_starts, seq_len, shape);
    }
    let tile = shape.tile_rows();
    let tiles = seq_len.div_ceil(tile);
    let (out, log_sums) = (Shared::new(out), Shared::new(log_sums));
    let tasks = tokens / seq_len * shape.kv_heads * tiles;
    (0..tasks).into_par_iter().for_each(|task| {
        // The long tiles of the end come first, so that threads finish together.
        let (sequence, rest) = (task / (shape.kv_heads * tiles), task % (shape.kv_heads * tiles));
        let (kv_head, query) = (rest / tiles, (tiles - 1 - rest % tiles) * tile);
        let rows = tile.min(seq_len - query);
        let starts = &document_starts[sequence * seq_len..(sequence + 1) * seq_len];
        let row = |token: usize| (sequence * seq_len + token) * width;
        let group = kv_head * shape.group();
        let task = Tile {
            queries: &qkv[row(query) + group * shape.head_dim..],
            query_stride: width,
            blocks: Rows {
                keys: &qkv[row(0) + (shape.heads + kv_head) * shape.head_dim..],
                values: &qkv[row(0) + (shape.heads + shape.kv_heads + kv_head) * shape.head_dim..],
                stride: width,
                head_dim: shape.head_dim,
            },
            rows,
            first_key: starts[query] as usize,
            shape,
            precision,
        };
        // A document's start is where the first of a tile's keys lies; later rows see fewer.
        let seen = |i: usize| (starts[query + i] as usize, query + i + 1);
        let place = (sequence * seq_len + query) * out_width + group * shape.head_dim;
        let sums = (sequence * seq_len + query) * shape.heads + group;
        // SAFETY: the rows of this tile and the columns of this group belong to this task alone.
        unsafe { task.run(seen, out.at(place), out_width, Some((log_sums.at(sums), shape.heads))) };
    });
}

/// Where a tile finds its keys and values, one block after the other.
pub(super) trait Blocks {
    /// Values of scratch that a block of `keys` keys takes.
    fn spare(&self, keys: usize) -> usize;

    /// Keys `[C, count]` and values `[count, C]` of the `count` keys from `first` on.
    fn block<'a>(&'a self, first: usize, count: usize, spare: &'a mut [f32]) -> (View<'a>, View<'a>);
}

/// Keys and values that lie where a forward has just written them.
struct Rows<'a> {
    /// Those of key 0; key `j` begins at `j * stride`.
    keys: &'a [f32],
    values: &'a [f32],
    stride: usize,
    head_dim: usize,
}

impl Blocks for Rows<'_> {
    fn spare(&self, _: usize) -> usize {
        0
    }

    fn block<'a>(&'a self, first: usize, count: usize, _: &'a mut [f32]) -> (View<'a>, View<'a>) {
        let rows =
            |from: &'a [f32]| View::new(&from[first * self.stride..], count, self.head_dim, self.stride);
        (rows(self.keys).transposed(), rows(self.values))
    }
}

/// One tile: `rows` queries of all heads of a group against the keys `first_key..`.
pub(super) struct Tile<'a, B> {
    /// First query's first head; row `i`, head `h` begins at `i * query_stride + h * C`.
    pub(super) queries: &'a [f32],
    pub(super) query_stride: usize,
    pub(super) blocks: B,
    pub(super) rows: usize,
    /// Where the first block of keys begins.
    pub(super) first_key: usize,
    pub(super) shape: Shape,
    pub(super) precision: Precision,
}

impl<B: Blocks> Tile<'_, B> {
    /// Attends and writes row `i`, head `h` of the group to `out + i * out_stride + h * C`.
    ///
    /// `seen(i)` is the range of keys that query `i` sees; its end grows with `i`.
    ///
    /// # Safety
    /// The places under `out` and `log_sums` are writable and nobody else's.
    pub(super) unsafe fn run(
        &self,
        seen: impl Fn(usize) -> (usize, usize),
        out: *mut f32,
        out_stride: usize,
        log_sums: Option<(*mut f32, usize)>,
    ) {
        let _session = gemm::session(self.precision);
        let Shape { head_dim, .. } = self.shape;
        let (group, rows) = (self.shape.group(), self.rows);
        let height = group * rows;
        let last_key = seen(rows - 1).1;
        let keys = KEYS.min(last_key - self.first_key);
        let spare = self.blocks.spare(keys);
        with_scratch(height * (2 * head_dim + keys + 2) + spare, |scratch| {
            let (spare, scratch) = scratch.split_at_mut(spare);
            let (queries, scratch) = scratch.split_at_mut(height * head_dim);
            let (sums, scratch) = scratch.split_at_mut(height * head_dim);
            let (scores, state) = scratch.split_at_mut(height * keys);
            let (largest, total) = state.split_at_mut(height);
            stack(queries, self.queries, self.query_stride, rows, group, head_dim, self.shape.scale());
            largest.fill(f32::NEG_INFINITY);
            total.fill(0.0);
            for block in (self.first_key..last_key).step_by(KEYS) {
                let count = KEYS.min(last_key - block);
                let scores = &mut scores[..height * count];
                let (block_keys, block_values) = self.blocks.block(block, count, spare);
                gemm_serial(
                    self.precision,
                    ViewMut::new(scores, height, count, count),
                    View::new(queries, height, head_dim, head_dim),
                    block_keys,
                    Accumulate::Overwrite,
                );
                let first = block == self.first_key;
                for head in 0..group {
                    for i in 0..rows {
                        let stacked = head * rows + i;
                        let (first_seen, end) = seen(i);
                        let seen = Seen::in_block(first_seen, end, block, count);
                        let rescale = softmax_block(
                            &mut scores[stacked * count..(stacked + 1) * count],
                            seen,
                            &mut largest[stacked],
                            &mut total[stacked],
                        );
                        if !first && rescale != 1.0 {
                            for sum in &mut sums[stacked * head_dim..(stacked + 1) * head_dim] {
                                *sum *= rescale;
                            }
                        }
                    }
                }
                gemm_serial(
                    self.precision,
                    ViewMut::new(sums, height, head_dim, head_dim),
                    View::new(scores, height, count, count),
                    block_values,
                    if first { Accumulate::Overwrite } else { Accumulate::Add },
                );
            }
            for head in 0..group {
                for i in 0..rows {
                    let stacked = head * rows + i;
                    let inverse = 1.0 / total[stacked];
                    // SAFETY: the caller gives this tile the rows and columns under `out` and `log_sums`.
                    unsafe {
                        let row = std::slice::from_raw_parts_mut(
                            out.add(i * out_stride + head * head_dim),
                            head_dim,
                        );
                        for (to, sum) in row.iter_mut().zip(&sums[stacked * head_dim..]) {
                            *to = sum * inverse;
                        }
                        if let Some((log_sums, stride)) = log_sums {
                            *log_sums.add(i * stride + head) = largest[stacked] + total[stacked].ln();
                        }
                    }
                }
            }
        });
    }
}

/// Copies `rows` rows of `group` heads into a stack, head by head, each value times `scale`.
pub(super) fn stack(
    to: &mut [f32],
    from: &[f32],
    stride: usize,
    rows: usize,
    group: usize,
    head_dim: usize,
    scale: f32,
) {
    for (stacked, to) in to.chunks_exact_mut(head_dim).enumerate().take(group * rows) {
        let place = stacked % rows * stride + stacked / rows * head_dim;
        for (to, from) in to.iter_mut().zip(&from[place..place + head_dim]) {
            *to = from * scale;
        }
    }
}

isa::dispatch! {
    /// Turns a row of scores into weights relative to the largest score so far, zero where not seen, and returns
    /// the factor that brings what was summed before to the new scale.
    fn softmax_block<FMA>(scores: &mut [f32], seen: Seen, largest: &mut f32, total: &mut f32) -> f32 {
        scores[..seen.first].fill(0.0);
        scores[seen.end..].fill(0.0);
        if seen.first == seen.end {
            return 1.0;
        }
        let visible = &mut scores[seen.first..seen.end];
        let before = *largest;
        let block_largest = max_lanes(visible);
        let now = if block_largest > before { block_largest } else { before };
        map_lanes(visible, |score| exp::<FMA>(score - now));
        // Over the whole block: zeros change nothing, and each key keeps its lane whatever is masked.
        let sum = sum_lanes([scores], |[score]| score);
        let rescale = if before == f32::NEG_INFINITY { 0.0 } else { exp::<FMA>(before - now) };
        *largest = now;
        *total = *total * rescale + sum;
        if before == now { 1.0 } else { rescale }
    }
}
