//! The forward of a tile of queries, and of a training batch.

use rayon::prelude::*;

use super::vectors::{finish, scaled, softmax, write_rows};
use super::{Form, KEYS, LANES, Layout, Parts, Pieces, Queries, Shape, Visible, with_packed};
use crate::attention::tile::{Shared, with_scratch};
use crate::gemm::amx_strips::{ROWS, STEP, Source, multiply, pack_right};
use crate::gemm::{self, Precision};

pub(super) const FORMS: [Form; 2] = [Form::KeyRows, Form::ValueColumns];

/// As [`crate::attention::forward`]. A task has one tile of one key/value head.
pub(in crate::attention) fn forward(
    out: &mut [f32],
    log_sums: &mut [f32],
    qkv: &[f32],
    document_starts: &[u32],
    seq_len: usize,
    shape: Shape,
) {
    let layout = Layout::new(shape);
    let (width, out_width) = (shape.width(), shape.heads * shape.head_dim);
    let tile = layout.tile_rows();
    let tiles = seq_len.div_ceil(tile);
    let tasks = document_starts.len() / seq_len * shape.kv_heads * tiles;
    let (out, log_sums) = (Shared::new(out), Shared::new(log_sums));
    with_packed(qkv, seq_len, layout, &FORMS, |packed| {
        (0..tasks).into_par_iter().for_each(|task| {
            // The long tiles of the end come first, so that threads finish together.
            let (sequence, rest) = (task / (shape.kv_heads * tiles), task % (shape.kv_heads * tiles));
            let (kv_head, query) = (rest / tiles, (tiles - 1 - rest % tiles) * tile);
            let starts = &document_starts[sequence * seq_len..][query..seq_len.min(query + tile)];
            let (token, head) = (sequence * seq_len + query, kv_head * shape.group());
            let column = head * shape.head_dim;
            let task = Tile {
                layout,
                queries: Queries {
                    rows: starts.len(),
                    group: shape.group(),
                    seen: |i: usize| (starts[i] as usize, query + i + 1),
                },
                data: &qkv[token * width + column..],
                stride: width,
                out: out.at(token * out_width + column),
                log_sums: Some(log_sums.at(token * shape.heads + head)),
            };
            // SAFETY: all blocks are packed; the rows of this tile and the columns of this group are this task's alone.
            unsafe { task.run(0, |block, _| Parts::one(packed.at(sequence, kv_head, block))) };
        });
    });
}

/// Queries of all heads of a group, on their way through the blocks of keys.
pub(super) struct Tile<'a, F> {
    pub(super) layout: Layout,
    pub(super) queries: Queries<F>,
    /// First query's first head; row `i`, head `h` begins at `i * stride + h * C`.
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    /// Where the first row's first head is written; rows are `H C` apart.
    pub(super) out: *mut f32,
    /// The same for the logs of denominators, `H` apart.
    pub(super) log_sums: Option<*mut f32>,
}

/// A tile's memory; each panel has a part of all but the scores.
struct Places {
    /// Queries as a right operand, channels as K.
    right: *const u32,
    scores: *mut f32,
    /// Weighted sums of values, a row a channel.
    sums: *mut f32,
    /// Largest score and sum of the weights of each lane.
    state: *mut f32,
}

impl<F: Fn(usize) -> (usize, usize)> Tile<'_, F> {
    /// Attends and writes. `block` gives a block packed as [`FORMS`], for which it may use the `spare` words that it gets.
    ///
    /// # Safety
    /// The blocks are packed, and the places to write to are nobody else's.
    pub(super) unsafe fn run(&self, spare: usize, block: impl Fn(usize, *mut u32) -> Parts) {
        let _session = gemm::session(Precision::Bf16);
        let Shape { heads, head_dim, .. } = self.layout.shape;
        let (queries, channels) = (&self.queries, self.layout.channels);
        let (lanes, panels) = (queries.lanes(), self.layout.panels(queries.rows));
        let right = channels / 2 * LANES;
        let sizes =
            [lanes * head_dim, panels * right, KEYS * LANES, panels * channels * LANES, panels * 2 * LANES];
        with_scratch(sizes.map(Pieces::size).iter().sum::<usize>() + spare, |scratch| {
            let mut pieces = Pieces(scratch.as_mut_ptr());
            let [stack, rights, scores, sums, state] = sizes.map(|size| pieces.take(size));
            let spare = pieces.take(spare);
            let places = |panel: usize| Places {
                right: rights.wrapping_add(panel * right).cast_const().cast(),
                scores,
                sums: sums.wrapping_add(panel * channels * LANES),
                state: state.wrapping_add(panel * 2 * LANES),
            };
            // SAFETY: each piece has the size that was asked for; the caller vouches for blocks and targets.
            unsafe {
                let row = queries.group * head_dim;
                for i in 0..queries.rows {
                    let stack = std::slice::from_raw_parts_mut(stack.add(i * row), row);
                    scaled(stack, &self.data[i * self.stride..][..row], self.layout.shape.scale());
                }
                for panel in 0..panels {
                    let (data, lanes) = (stack.add(panel * LANES * head_dim), queries.width(panel));
                    let source =
                        Source { data, lane_stride: head_dim, depth_stride: 1, lanes, depth: head_dim };
                    pack_right(places(panel).right.cast_mut(), stride(lanes), &source);
                    std::slice::from_raw_parts_mut(places(panel).state, LANES).fill(f32::MIN);
                    std::slice::from_raw_parts_mut(places(panel).state.add(LANES), LANES).fill(0.0);
                }
                let keys = queries.keys();
                for number in keys.start / KEYS..keys.end.div_ceil(KEYS) {
                    let data = block(number, spare.cast());
                    for panel in 0..panels {
                        if let Some(visible) = queries.visible(panel, number) {
                            match (stride(queries.width(panel)) == LANES, visible.masked) {
                                (true, true) => {
                                    self.meet::<2, true>(panel, number, visible, &places(panel), data)
                                }
                                (true, false) => {
                                    self.meet::<2, false>(panel, number, visible, &places(panel), data)
                                }
                                (false, true) => {
                                    self.meet::<1, true>(panel, number, visible, &places(panel), data)
                                }
                                (false, false) => {
                                    self.meet::<1, false>(panel, number, visible, &places(panel), data)
                                }
                            }
                        }
                    }
                }
                for panel in 0..panels {
                    let Places { sums, state, .. } = places(panel);
                    finish(state);
                    let lanes = queries.width(panel);
                    let place = |lane: usize| {
                        let stacked = panel * LANES + lane;
                        (stacked / queries.group, stacked % queries.group)
                    };
                    write_rows(sums, stride(lanes), state, lanes, head_dim, |lane| {
                        let (i, head) = place(lane);
                        self.out.wrapping_add((i * heads + head) * head_dim)
                    });
                    if let Some(log_sums) = self.log_sums {
                        for lane in 0..lanes {
                            let (i, head) = place(lane);
                            *log_sums.add(i * heads + head) = *state.add(LANES + lane);
                        }
                    }
                }
            }
        });
    }

    /// One panel and one block.
    ///
    /// # Safety
    /// As [`Tile::run`], for the panel's places and a packed block.
    unsafe fn meet<const VECTORS: usize, const MASKED: bool>(
        &self,
        panel: usize,
        block: usize,
        visible: Visible,
        places: &Places,
        data: Parts,
    ) {
        let channels = self.layout.channels;
        let (from, to) = (visible.keys.start, visible.keys.end);
        let lanes = VECTORS * LANES / 2;
        let first = self.queries.span(panel).any.start / KEYS == block;
        // SAFETY: the caller's contract; ranges end within the block.
        unsafe {
            for key in (from..to).step_by(ROWS) {
                let rows = data.starts[key / data.keys].add(key % data.keys * STEP / 2);
                let (c, step) = (places.scores.add(key * lanes), data.keys * STEP / 2);
                multiply::<VECTORS>(c, rows, step, places.right, channels / STEP, false);
            }
            // What stood in the sums of a first block is not read.
            let summed = if first { 0 } else { channels };
            let mask = if MASKED { &self.queries.mask(panel) } else { &super::NO_MASK };
            softmax::<VECTORS, MASKED>(
                places.scores,
                [from, to],
                block * KEYS,
                mask,
                places.state,
                places.sums,
                summed,
            );
            let weights = places.scores.add(from / 2 * lanes).cast_const().cast::<u32>();
            // From one part to the next the sums wait in memory, which changes no bit of them.
            let mut key = from;
            while key < to {
                let (part, within) = (key / data.keys, key % data.keys);
                let end = to.min((part + 1) * data.keys);
                let values = data.starts[part].add(data.keys * channels / 2);
                let weights = weights.add((key - from) / 2 * lanes);
                for channel in (0..channels).step_by(ROWS) {
                    let rows = values.add((within / STEP * channels + channel) * STEP / 2);
                    let (c, steps) = (places.sums.add(channel * lanes), (end - key) / STEP);
                    multiply::<VECTORS>(c, rows, channels * STEP / 2, weights, steps, !first || key > from);
                }
                key = end;
            }
        }
    }
}

/// Lanes of a panel's rows: one vector where that is enough.
fn stride(lanes: usize) -> usize {
    lanes.next_multiple_of(LANES / 2)
}
