//! The backward, cut in one of two ways that give the same bits.

use rayon::prelude::*;
use std::ops::Range;

use super::vectors::{Gradients, dots, gradients, scaled, write_rows};
use super::{Form, KEYS, LANES, Layout, NO_MASK, Packed, Pieces, Queries, Shape, Visible, with_packed};
use crate::attention::backward::Saved;
use crate::attention::tile::{Shared, with_scratch};
use crate::gemm::amx_strips::{ROWS, STEP, Source, multiply, pack_right};
use crate::gemm::{self, Precision};

const FORMS: [Form; 3] = [Form::KeyRows, Form::ValueRows, Form::KeyColumns];

/// Blocks of keys of a task that has the gradients of keys and values alone.
const KEY_BLOCKS: usize = 2;
/// Scores are computed twice where tasks are cut, seven products instead of five and twice the exponentials.
const CUT_COSTS: f64 = 1.5;

/// As [`crate::attention::backward`].
///
/// A task has all of a sequence and a key/value head. Where there are so few that threads would wait, one task has some of
/// its keys, and another some of its queries, and both compute the scores. Gradients of keys and values are summed over
/// tiles of queries in order, those of queries over blocks of keys in order, so the bits are the same both ways.
pub(in crate::attention) fn backward(dqkv: &mut [f32], saved: Saved, seq_len: usize, shape: Shape) {
    let layout = Layout::new(shape);
    let jobs = saved.document_starts.len() / seq_len * shape.kv_heads;
    let dqkv = Shared::new(dqkv);
    with_packed(saved.qkv, seq_len, layout, &FORMS, |packed| {
        let job = |job: usize| {
            let (sequence, kv_head) = (job / shape.kv_heads, job % shape.kv_heads);
            Job { layout, saved, dqkv, packed, sequence, kv_head, seq_len }
        };
        let (tile, blocks) = (layout.tile_rows(), packed.blocks);
        if whole(jobs, rayon::current_num_threads()) {
            (0..jobs).into_par_iter().for_each(|index| job(index).run(0..seq_len, 0..blocks, Wanted::All));
            return;
        }
        let (parts, tiles) = (blocks.div_ceil(KEY_BLOCKS), seq_len.div_ceil(tile));
        (0..jobs * (parts + tiles)).into_par_iter().for_each(|index| {
            let (job, part) = (job(index / (parts + tiles)), index % (parts + tiles));
            if part < parts {
                let first = part * KEY_BLOCKS;
                job.run(0..seq_len, first..(first + KEY_BLOCKS).min(blocks), Wanted::KeysAndValues);
            } else {
                let query = (part - parts) * tile;
                job.run(query..(query + tile).min(seq_len), 0..blocks, Wanted::Queries);
            }
        });
    });
}

/// Whether `jobs` keep the threads busy enough to stay whole.
fn whole(jobs: usize, threads: usize) -> bool {
    (jobs.div_ceil(threads) * threads) as f64 <= CUT_COSTS * jobs as f64
}

/// Which gradients a task computes.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    All,
    KeysAndValues,
    Queries,
}

/// One sequence and one key/value head.
struct Job<'a> {
    layout: Layout,
    saved: Saved<'a>,
    dqkv: Shared,
    packed: Packed,
    sequence: usize,
    kv_head: usize,
    seq_len: usize,
}

/// The memory of a task. All but the last three belong to one tile after the other.
struct Places {
    /// A panel's scores and the gradients of its weights, as [`Gradients`].
    scores: *mut f32,
    dscores: *mut f32,
    /// Queries and the output's gradients, lane by lane, in f32.
    queries: *mut f32,
    douts: *mut f32,
    /// The same as right operands, panel by panel, channels as K.
    queries_right: *mut u32,
    douts_right: *mut u32,
    /// And with the lanes as K: 32 channels of all panels, then the next 32.
    queries_summed: *mut u32,
    douts_summed: *mut u32,
    /// For each lane the log of its denominator, and the product of output and gradient.
    log_sums: *mut f32,
    along: *mut f32,
    /// Weights and the scores' gradients, panel by panel, a row a key.
    weight_rows: *mut u32,
    dscore_rows: *mut u32,
    /// Gradients of queries, panel by panel, a row a channel.
    dqueries: *mut f32,
    /// Gradients of keys and values, block by block: 32 channels of all keys, then the next 32.
    dkeys: *mut f32,
    dvalues: *mut f32,
}

impl Places {
    const COUNT: usize = 15;

    fn sizes(layout: Layout, blocks: usize) -> [usize; Self::COUNT] {
        let (panels, head_dim, channels) =
            (layout.panels(layout.tile_rows()), layout.shape.head_dim, layout.channels);
        let (scores, stack, along) = (KEYS * LANES, panels * LANES * head_dim, panels * LANES);
        let (right, rows) = (panels * LANES * channels / 2, panels * KEYS * LANES / 2);
        let (dqueries, dkeys) = (panels * channels * LANES, blocks * KEYS * channels);
        [
            scores, scores, stack, stack, right, right, right, right, along, along, rows, rows, dqueries,
            dkeys, dkeys,
        ]
    }

    fn new(start: *mut f32, sizes: [usize; Self::COUNT]) -> Self {
        let mut pieces = Pieces(start);
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = sizes.map(|size| pieces.take(size));
        Self {
            scores: a,
            dscores: b,
            queries: c,
            douts: d,
            queries_right: e.cast(),
            douts_right: f.cast(),
            queries_summed: g.cast(),
            douts_summed: h.cast(),
            log_sums: i,
            along: j,
            weight_rows: k.cast(),
            dscore_rows: l.cast(),
            dqueries: m,
            dkeys: n,
            dvalues: o,
        }
    }
}

impl Job<'_> {
    /// The wanted gradients of these queries (whole tiles) and blocks of keys.
    fn run(&self, queries: Range<usize>, blocks: Range<usize>, wanted: Wanted) {
        let _session = gemm::session(Precision::Bf16);
        let summed = if wanted == Wanted::Queries { 0 } else { blocks.len() };
        let sizes = Places::sizes(self.layout, summed);
        with_scratch(sizes.map(Pieces::size).iter().sum(), |scratch| {
            let places = Places::new(scratch.as_mut_ptr(), sizes);
            // SAFETY: the places have the sizes that were asked for; the rows and columns that are written belong to
            // this sequence and key/value head, and among its tasks to the one that has these keys, or these queries.
            unsafe {
                for sums in [places.dkeys, places.dvalues] {
                    sums.write_bytes(0, summed * KEYS * self.layout.channels);
                }
                let tile = self.layout.tile_rows();
                for query in queries.step_by(tile) {
                    self.tile(query, tile.min(self.seq_len - query), blocks.clone(), wanted, &places);
                }
                if wanted != Wanted::Queries {
                    self.write_keys(blocks, &places);
                }
            }
        });
    }

    /// # Safety
    /// As said in [`Job::run`], and so for the functions below.
    unsafe fn tile(&self, query: usize, rows: usize, blocks: Range<usize>, wanted: Wanted, places: &Places) {
        let head_dim = self.layout.shape.head_dim;
        let starts = &self.saved.document_starts[self.sequence * self.seq_len..][query..query + rows];
        let queries = Queries {
            rows,
            group: self.layout.shape.group(),
            seen: |i: usize| (starts[i] as usize, query + i + 1),
        };
        let keys = queries.keys();
        let seen = (keys.start / KEYS).max(blocks.start)..keys.end.div_ceil(KEYS).min(blocks.end);
        if seen.is_empty() {
            return;
        }
        // SAFETY: the caller's contract.
        unsafe {
            self.pack(query, &queries, places);
            for block in seen {
                self.block(&queries, block, block - blocks.start, wanted, places);
            }
            if wanted == Wanted::KeysAndValues {
                return;
            }
            // The factor of all lanes; the logs are not needed any more.
            std::slice::from_raw_parts_mut(places.log_sums, LANES).fill(self.layout.shape.scale());
            for panel in 0..self.layout.panels(rows) {
                let sums = places.dqueries.add(panel * self.layout.channels * LANES);
                write_rows(sums, LANES, places.log_sums, queries.width(panel), head_dim, |lane| {
                    let stacked = panel * LANES + lane;
                    let (i, head) = (stacked / queries.group, stacked % queries.group);
                    self.dqkv.at(self.row(query + i) + (self.kv_head * queries.group + head) * head_dim)
                });
            }
        }
    }

    /// Packs queries and the output's gradients of a tile.
    unsafe fn pack<F: Fn(usize) -> (usize, usize)>(
        &self,
        query: usize,
        queries: &Queries<F>,
        places: &Places,
    ) {
        let Shape { heads, head_dim, .. } = self.layout.shape;
        let (group, channels) = (queries.group, self.layout.channels);
        let (panels, row) = (self.layout.panels(queries.rows), group * head_dim);
        let head = self.kv_head * group;
        let saved = &self.saved;
        // SAFETY: the caller's contract.
        unsafe {
            for lane in queries.lanes()..panels * LANES {
                (*places.log_sums.add(lane), *places.along.add(lane)) = (0.0, 0.0);
            }
            for i in 0..queries.rows {
                let token = self.sequence * self.seq_len + query + i;
                let stack = |data: *mut f32| std::slice::from_raw_parts_mut(data.add(i * row), row);
                let from = &saved.qkv[self.row(query + i) + head * head_dim..][..row];
                scaled(stack(places.queries), from, self.layout.shape.scale());
                let place = (token * heads + head) * head_dim;
                let (out, dout) = (&saved.out[place..][..row], &saved.dout[place..][..row]);
                stack(places.douts).copy_from_slice(dout);
                dots(places.along.add(i * group), out, dout, head_dim);
                let log_sums = &saved.log_sums[token * heads + head..][..group];
                std::slice::from_raw_parts_mut(places.log_sums.add(i * group), group)
                    .copy_from_slice(log_sums);
            }
            let right = LANES * channels / 2;
            for panel in 0..panels {
                let lanes = queries.width(panel);
                for (stack, target, summed) in [
                    (places.queries, places.queries_right, places.queries_summed),
                    (places.douts, places.douts_right, places.douts_summed),
                ] {
                    let data = stack.add(panel * LANES * head_dim).cast_const();
                    let source =
                        Source { data, lane_stride: head_dim, depth_stride: 1, lanes, depth: head_dim };
                    pack_right(target.add(panel * right), LANES, &source);
                    for channel in (0..head_dim).step_by(LANES) {
                        let source = Source {
                            data: data.add(channel),
                            lane_stride: 1,
                            depth_stride: head_dim,
                            lanes: LANES.min(head_dim - channel),
                            depth: lanes,
                        };
                        let place = (channel / LANES * panels + panel) * STEP / 2 * LANES;
                        pack_right(summed.add(place), LANES, &source);
                    }
                }
            }
        }
    }

    /// A tile and a block, the `number`th of the task.
    unsafe fn block<F: Fn(usize) -> (usize, usize)>(
        &self,
        queries: &Queries<F>,
        block: usize,
        number: usize,
        wanted: Wanted,
        places: &Places,
    ) {
        let (layout, channels) = (self.layout, self.layout.channels);
        let panels = layout.panels(queries.rows);
        let data = self.packed.at(self.sequence, self.kv_head, block);
        let [keys, values, key_columns] = [0, 1, 2].map(|part| data.wrapping_add(part * layout.part()));
        let panel_rows = KEYS * LANES / 2;
        // SAFETY: the caller's contract; ranges end within the block.
        unsafe {
            let (mut first, mut last) = (KEYS, 0);
            for panel in 0..panels {
                let Some(Visible { keys: range, masked }) = queries.visible(panel, block) else { continue };
                (first, last) = (first.min(range.start), last.max(range.end));
                let right = panel * LANES * channels / 2;
                for (c, left, right) in [
                    (places.scores, keys, places.queries_right.add(right)),
                    (places.dscores, values, places.douts_right.add(right)),
                ] {
                    for key in range.clone().step_by(ROWS) {
                        let rows = left.add(key * STEP / 2);
                        multiply::<2>(
                            c.add(key * LANES),
                            rows,
                            KEYS * STEP / 2,
                            right,
                            channels / STEP,
                            false,
                        );
                    }
                }
                let gradient = Gradients {
                    scores: places.scores,
                    dscores: places.dscores,
                    weight_rows: places.weight_rows.add(panel * panel_rows),
                    dscore_rows: places.dscore_rows.add(panel * panel_rows),
                    log_sums: places.log_sums.add(panel * LANES),
                    along: places.along.add(panel * LANES),
                };
                let ends = [range.start, range.end];
                if masked {
                    gradients::<true>(&gradient, ends, block * KEYS, &queries.mask(panel));
                } else {
                    gradients::<false>(&gradient, ends, block * KEYS, &NO_MASK);
                }
                if wanted != Wanted::KeysAndValues {
                    let add = queries.span(panel).any.start / KEYS != block;
                    let dscores = places.scores.add(range.start / 2 * LANES).cast_const().cast();
                    for channel in (0..channels).step_by(ROWS) {
                        let rows = key_columns.add((range.start / STEP * channels + channel) * STEP / 2);
                        let c = places.dqueries.add((panel * channels + channel) * LANES);
                        let steps = range.len() / STEP;
                        multiply::<2>(c, rows, channels * STEP / 2, dscores, steps, add);
                    }
                }
            }
            if wanted == Wanted::Queries {
                return;
            }
            for key in (first..last).step_by(ROWS) {
                // Those that see a key lie side by side, since neither end of what they see falls.
                let sees = |panel: &usize| {
                    queries.visible(*panel, block).is_some_and(|visible| visible.keys.contains(&key))
                };
                let from = (0..panels).find(sees).unwrap_or(panels);
                let steps = (from..panels).take_while(sees).count();
                if steps == 0 {
                    continue;
                }
                for channel in (0..channels).step_by(LANES) {
                    let c = (number * channels + channel) * KEYS + key * LANES;
                    let right = (channel / LANES * panels + from) * STEP / 2 * LANES;
                    for (c, rows, right) in [
                        (places.dvalues.add(c), places.weight_rows, places.douts_summed.add(right)),
                        (places.dkeys.add(c), places.dscore_rows, places.queries_summed.add(right)),
                    ] {
                        let rows = rows.add(from * panel_rows + key * STEP / 2);
                        multiply::<2>(c, rows, panel_rows, right, steps, true);
                    }
                }
            }
        }
    }

    /// Writes the gradients of keys and values of these blocks.
    unsafe fn write_keys(&self, blocks: Range<usize>, places: &Places) {
        let Shape { heads, kv_heads, head_dim } = self.layout.shape;
        let first = blocks.start * KEYS;
        for key in first..(blocks.end * KEYS).min(self.seq_len) {
            let (block, row) = ((key - first) / KEYS, (key - first) % KEYS);
            for (sums, column) in [(places.dkeys, heads), (places.dvalues, heads + kv_heads)] {
                let target = self.dqkv.at(self.row(key) + (column + self.kv_head) * head_dim);
                for channel in (0..head_dim).step_by(LANES) {
                    let place = (block * self.layout.channels + channel) * KEYS + row * LANES;
                    let count = LANES.min(head_dim - channel);
                    // SAFETY: the caller's contract.
                    unsafe { std::ptr::copy_nonoverlapping(sums.add(place), target.add(channel), count) }
                }
            }
        }
    }

    fn row(&self, token: usize) -> usize {
        (self.sequence * self.seq_len + token) * self.layout.shape.width()
    }
}
