//! The backward: scores are computed again from queries and keys, never kept.

use rayon::prelude::*;

use super::Shape;
#[cfg(target_arch = "x86_64")]
use super::amx;
use super::forward::stack;
use super::tile::{KEYS, Seen, Shared, with_scratch};
use crate::gemm::{self, Accumulate, Precision, View, ViewMut, gemm_serial};
use crate::isa;
use crate::math::{exp, map_lanes_of, sum_lanes};
use crate::meter::{self, Operation, Pass};

/// What the forward read and wrote, and the gradient of its output.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// `[T, (H+2K) C]`, rotated.
    pub qkv: &'a [f32],
    /// `[T, H C]`.
    pub out: &'a [f32],
    /// `[T, H]`.
    pub log_sums: &'a [f32],
    /// Gradient of `out`, `[T, H C]`.
    pub dout: &'a [f32],
    /// `[T]`.
    pub document_starts: &'a [u32],
}

/// Writes `dqkv [T, (H+2K) C]`, the gradient of the rotated queries, keys and values.
///
/// One task takes all tiles of one sequence and one key/value head in order, so the sums over queries that give
/// the gradients of keys and values have one order for any number of threads.
pub fn backward(dqkv: &mut [f32], saved: Saved, seq_len: usize, shape: Shape, precision: Precision) {
    let tokens = saved.document_starts.len();
    assert!(dqkv.len() == tokens * shape.width() && saved.qkv.len() == dqkv.len());
    assert!(saved.out.len() == tokens * shape.heads * shape.head_dim && saved.dout.len() == saved.out.len());
    assert!(saved.log_sums.len() == tokens * shape.heads && tokens.is_multiple_of(seq_len));
    let _metered = meter::span(Operation::Attention, Pass::Backward, || {
        shape.cost(saved.document_starts, seq_len, Pass::Backward)
    });
    #[cfg(target_arch = "x86_64")]
    if amx::serves(precision) {
        return amx::backward(dqkv, saved, seq_len, shape);
    }
    let dqkv = Shared::new(dqkv);
    (0..tokens / seq_len * shape.kv_heads).into_par_iter().for_each(|task| {
        let (sequence, kv_head) = (task / shape.kv_heads, task % shape.kv_heads);
        Task { dqkv, saved, sequence, kv_head, seq_len, shape, precision }.run();
    });
}

struct Task<'a> {
    dqkv: Shared,
    saved: Saved<'a>,
    sequence: usize,
    kv_head: usize,
    seq_len: usize,
    shape: Shape,
    precision: Precision,
}

impl Task<'_> {
    fn run(&self) {
        let _session = gemm::session(self.precision);
        let Shape { head_dim, .. } = self.shape;
        for token in 0..self.seq_len {
            for column in [self.key_column(), self.value_column()] {
                // SAFETY: this sequence's columns of this key/value head belong to this task alone.
                unsafe {
                    std::slice::from_raw_parts_mut(self.dqkv.at(self.row(token) + column), head_dim)
                        .fill(0.0);
                }
            }
        }
        let tile = self.shape.tile_rows();
        for query in (0..self.seq_len).step_by(tile) {
            self.tile(query, tile.min(self.seq_len - query));
        }
    }

    fn tile(&self, query: usize, rows: usize) {
        let (shape, width) = (self.shape, self.shape.width());
        let (group, head_dim) = (shape.group(), shape.head_dim);
        let (height, heads) = (group * rows, self.kv_head * group);
        let starts = &self.saved.document_starts[self.sequence * self.seq_len..][..self.seq_len];
        let first_key = starts[query] as usize;
        let last_key = query + rows;
        let keys = KEYS.min(last_key - first_key);
        let out_width = shape.heads * head_dim;
        let token = self.sequence * self.seq_len + query;
        let out_place = token * out_width + heads * head_dim;
        with_scratch(height * (3 * head_dim + 2 * keys + 1), |scratch| {
            let (queries, scratch) = scratch.split_at_mut(height * head_dim);
            let (dqueries, scratch) = scratch.split_at_mut(height * head_dim);
            let (dout, scratch) = scratch.split_at_mut(height * head_dim);
            let (all_scores, scratch) = scratch.split_at_mut(height * keys);
            let (all_dscores, along) = scratch.split_at_mut(height * keys);
            let qkv_place = self.row(query) + heads * head_dim;
            stack(queries, &self.saved.qkv[qkv_place..], width, rows, group, head_dim, shape.scale());
            stack(dout, &self.saved.dout[out_place..], out_width, rows, group, head_dim, 1.0);
            for (stacked, along) in along.iter_mut().enumerate() {
                let place = out_place + stacked % rows * out_width + stacked / rows * head_dim;
                let row = place..place + head_dim;
                *along = dot(&self.saved.out[row.clone()], &self.saved.dout[row]);
            }
            for block in (first_key..last_key).step_by(KEYS) {
                let count = KEYS.min(last_key - block);
                let (scores, dscores) =
                    (&mut all_scores[..height * count], &mut all_dscores[..height * count]);
                let place = |column: usize| self.row(block) + column;
                let kv = |column: usize| View::new(&self.saved.qkv[place(column)..], count, head_dim, width);
                let (keys, values) = (kv(self.key_column()), kv(self.value_column()));
                let product = |c: ViewMut, a: View, b: View, accumulate: Accumulate| {
                    gemm_serial(self.precision, c, a, b, accumulate);
                };
                let queries = View::new(queries, height, head_dim, head_dim);
                let dout = View::new(dout, height, head_dim, head_dim);
                let first = if block == first_key { Accumulate::Overwrite } else { Accumulate::Add };
                product(
                    ViewMut::new(scores, height, count, count),
                    queries,
                    keys.transposed(),
                    Accumulate::Overwrite,
                );
                product(
                    ViewMut::new(dscores, height, count, count),
                    dout,
                    values.transposed(),
                    Accumulate::Overwrite,
                );
                for (stacked, &along) in along.iter().enumerate() {
                    let (head, i) = (stacked / rows, stacked % rows);
                    let row = stacked * count..(stacked + 1) * count;
                    let seen = Seen::in_block(starts[query + i] as usize, query + i + 1, block, count);
                    let log_sum = self.saved.log_sums[(token + i) * shape.heads + heads + head];
                    score_gradients(&mut scores[row.clone()], &mut dscores[row], seen, log_sum, along);
                }
                let scores = View::new(scores, height, count, count);
                let dscores = View::new(dscores, height, count, count);
                product(ViewMut::new(dqueries, height, head_dim, head_dim), dscores, keys, first);
                // SAFETY: this sequence's columns of this key/value head belong to this task alone.
                let gradient = |column: usize| unsafe {
                    ViewMut::from_raw(self.dqkv.at(place(column)), count, head_dim, width)
                };
                product(gradient(self.key_column()), dscores.transposed(), queries, Accumulate::Add);
                product(gradient(self.value_column()), scores.transposed(), dout, Accumulate::Add);
            }
            for (stacked, from) in dqueries.chunks_exact(head_dim).enumerate() {
                let place = qkv_place + stacked % rows * width + stacked / rows * head_dim;
                // SAFETY: the query columns of this group belong to this task alone.
                let to = unsafe { std::slice::from_raw_parts_mut(self.dqkv.at(place), head_dim) };
                for (to, from) in to.iter_mut().zip(from) {
                    *to = from * shape.scale();
                }
            }
        });
    }

    fn row(&self, token: usize) -> usize {
        (self.sequence * self.seq_len + token) * self.shape.width()
    }

    fn key_column(&self) -> usize {
        (self.shape.heads + self.kv_head) * self.shape.head_dim
    }

    fn value_column(&self) -> usize {
        (self.shape.heads + self.shape.kv_heads + self.kv_head) * self.shape.head_dim
    }
}

isa::dispatch! {
    fn dot<FMA>(a: &[f32], b: &[f32]) -> f32 {
        sum_lanes([a, b], |[a, b]| a * b)
    }

    /// Scores become softmax weights; the weights' gradients become the scores' gradients.
    fn score_gradients<FMA>(scores: &mut [f32], dscores: &mut [f32], seen: Seen, log_sum: f32, along: f32) {
        for row in [&mut *scores, &mut *dscores] {
            row[..seen.first].fill(0.0);
            row[seen.end..].fill(0.0);
        }
        let visible = seen.first..seen.end;
        map_lanes_of([&mut scores[visible.clone()], &mut dscores[visible]], |[score, dscore]| {
            let score = exp::<FMA>(score - log_sum);
            [score, score * (dscore - along)]
        });
    }
}
