//! The forward: for training over packed sequences, for inference over kept keys and values.

use rayon::prelude::*;

use super::vectors::{finish, scaled, softmax, write_rows};
use super::{
    CachedQueries, Form, KEYS, KeysAndValues, LANES, Layout, Pieces, Queries, Shape, Visible, with_memory,
    with_packed,
};
use crate::attention::tile::{Shared, with_scratch};
use crate::gemm::amx_strips::{ROWS, STEP, Source, multiply, pack_right};
use crate::gemm::{self, Precision};

const FORMS: [Form; 2] = [Form::KeyRows, Form::ValueColumns];

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
            unsafe { task.run(|block, _| packed.at(sequence, kv_head, block)) };
        });
    });
}

/// As [`crate::attention::forward_cached`], for one sequence.
pub(in crate::attention) fn forward_cached(sequence: &mut CachedQueries, shape: Shape) {
    let layout = Layout::new(shape);
    let (kv_width, out_width) = (shape.kv_heads * shape.head_dim, shape.heads * shape.head_dim);
    let tokens = sequence.out.len() / out_width;
    let count = sequence.first + tokens;
    let tile = layout.tile_rows();
    let tiles = tokens.div_ceil(tile);
    let out = Shared::new(sequence.out);
    let sequence = &*sequence;
    let kept = |kv_head: usize| KeysAndValues {
        keys: sequence.keys[kv_head * shape.head_dim..].as_ptr(),
        values: sequence.values[kv_head * shape.head_dim..].as_ptr(),
        stride: kv_width,
        count,
    };
    let task = |task: usize| {
        let (kv_head, query) = (task / tiles, task % tiles * tile);
        let column = kv_head * shape.group() * shape.head_dim;
        let seen = move |i: usize| (0, sequence.first + query + i + 1);
        let tile = Tile {
            layout,
            queries: Queries { rows: tile.min(tokens - query), group: shape.group(), seen },
            data: &sequence.queries[query * sequence.stride + column..],
            stride: sequence.stride,
            out: out.at(query * out_width + column),
            log_sums: None,
        };
        (kv_head, tile)
    };
    let blocks = count.div_ceil(KEYS);
    let words = FORMS.len() * layout.part();
    if tiles <= 1 {
        (0..shape.kv_heads * tiles).into_par_iter().for_each(|index| {
            let (kv_head, tile) = task(index);
            let pack = |block, spare: *mut u32| {
                // They come while the keys are packed.
                kept(kv_head).bring_values(layout, block);
                // SAFETY: keys and values reach to `count`, as the caller has checked; the tile gives its scratch.
                unsafe { kept(kv_head).pack(layout, block, &FORMS, spare) }
                spare.cast_const()
            };
            // SAFETY: the tile's rows and the group's columns of `out` belong to this task alone.
            unsafe { tile.run(pack) };
        });
        return;
    }
    with_memory(shape.kv_heads * blocks * words, |memory| {
        (0..shape.kv_heads * blocks).into_par_iter().for_each(|index| {
            let target = memory.at(index * words).cast();
            // SAFETY: as above; each block has words of its own.
            unsafe { kept(index / blocks).pack(layout, index % blocks, &FORMS, target) }
        });
        (0..shape.kv_heads * tiles).into_par_iter().for_each(|index| {
            let (kv_head, tile) = task(index);
            let packed = |block, _| memory.at((kv_head * blocks + block) * words).cast_const().cast();
            // SAFETY: all blocks are packed; for `out` as above.
            unsafe { tile.run(packed) };
        });
    });
}

/// Queries of all heads of a group, on their way through the blocks of keys.
struct Tile<'a, F> {
    layout: Layout,
    queries: Queries<F>,
    /// First query's first head; row `i`, head `h` begins at `i * stride + h * C`.
    data: &'a [f32],
    stride: usize,
    /// Where the first row's first head is written; rows are `H C` apart.
    out: *mut f32,
    /// The same for the logs of denominators, `H` apart.
    log_sums: Option<*mut f32>,
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
    /// Attends and writes. `block` gives a block packed as [`FORMS`], for which it may use the words that it gets.
    ///
    /// # Safety
    /// The blocks are packed, and the places to write to are nobody else's.
    unsafe fn run(&self, block: impl Fn(usize, *mut u32) -> *const u32) {
        let _session = gemm::session(Precision::Bf16);
        let Shape { heads, head_dim, .. } = self.layout.shape;
        let (queries, channels) = (&self.queries, self.layout.channels);
        let (lanes, panels) = (queries.lanes(), self.layout.panels(queries.rows));
        let right = channels / 2 * LANES;
        let sizes =
            [lanes * head_dim, panels * right, KEYS * LANES, panels * channels * LANES, panels * 2 * LANES];
        let spare = FORMS.len() * self.layout.part();
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
        data: *const u32,
    ) {
        let channels = self.layout.channels;
        let (from, to) = (visible.keys.start, visible.keys.end);
        let lanes = VECTORS * LANES / 2;
        let first = self.queries.span(panel).any.start / KEYS == block;
        let values = data.wrapping_add(self.layout.part());
        // SAFETY: the caller's contract; ranges end within the block.
        unsafe {
            for key in (from..to).step_by(ROWS) {
                let (c, rows) = (places.scores.add(key * lanes), data.add(key * STEP / 2));
                multiply::<VECTORS>(c, rows, KEYS * STEP / 2, places.right, channels / STEP, false);
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
            let weights = places.scores.add(from / 2 * lanes).cast_const().cast();
            for channel in (0..channels).step_by(ROWS) {
                let rows = values.add((from / STEP * channels + channel) * STEP / 2);
                let c = places.sums.add(channel * lanes);
                multiply::<VECTORS>(c, rows, channels * STEP / 2, weights, (to - from) / STEP, !first);
            }
        }
    }
}

/// Lanes of a panel's rows: one vector where that is enough.
fn stride(lanes: usize) -> usize {
    lanes.next_multiple_of(LANES / 2)
}
