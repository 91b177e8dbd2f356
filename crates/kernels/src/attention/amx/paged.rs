//! Keys and values that were kept in pages: how they are packed when they come, and how queries meet them.

use rayon::prelude::*;

use super::forward::{FORMS, Tile};
use super::{KEYS, Layout, Parts, Queries, Shape, with_memory};
use crate::attention::PagedQueries;
use crate::attention::pages::{Form, Pages, Run, bf16_bits};
use crate::attention::tile::Shared;
use crate::gemm::amx_strips::{STEP, Source, pack_left};

/// Packs a run of new keys and values into a part of a page of `tokens` tokens.
pub(in crate::attention) fn keep(part: &mut [f32], run: &Run, tokens: usize, head_dim: usize) {
    let channels = head_dim.next_multiple_of(STEP);
    assert!(part.len() == tokens * channels && run.slot + run.count <= tokens);
    assert!(run.count > 0 && run.keys.len().min(run.values.len()) >= (run.count - 1) * run.stride + head_dim);
    let (keys, values) = part.split_at_mut(tokens * channels / 2);
    let source = |data: &[f32], lane_stride, depth_stride, lanes, depth| Source {
        data: data.as_ptr(),
        lane_stride,
        depth_stride,
        lanes,
        depth,
    };
    // SAFETY: pages in this form exist only where the processor has tiles; the rows were checked above, and a key has a
    // row of 16 words for every 32 channels, the next 32 `tokens` rows further on.
    unsafe {
        let target = keys.as_mut_ptr().add(run.slot * STEP / 2).cast();
        pack_left(target, tokens, &source(run.keys, run.stride, 1, run.count, head_dim));
    }
    let mut token = 0;
    while token < run.count {
        // Values are rows of 32 tokens. The first of them makes the rows, with zeros for those that will follow, so that
        // nothing of a page's earlier use is left; the others come one by one.
        let (row, slot) = ((run.slot + token) / STEP, (run.slot + token) % STEP);
        let count = (STEP - slot).min(run.count - token);
        let rows = &mut values[row * channels * STEP / 2..][..channels * STEP / 2];
        if slot == 0 {
            let source = source(&run.values[token * run.stride..], 1, run.stride, head_dim, count);
            // SAFETY: as above, for a row of 16 words a channel.
            unsafe { pack_left(rows.as_mut_ptr().cast(), channels, &source) }
        } else {
            let rows = bytemuck::cast_slice_mut::<f32, u16>(rows);
            for next in 0..count {
                let value = run.value(token + next, head_dim);
                for (row, &value) in rows.chunks_exact_mut(STEP).zip(value) {
                    row[slot + next] = bf16_bits(value);
                }
            }
        }
        token += count;
    }
}

/// As [`crate::attention::forward_paged`], for one sequence whose new tokens are in the pages already.
pub(in crate::attention) fn forward_paged(pages: &Pages, layer: usize, sequence: &mut PagedQueries) {
    let shape = pages.shape;
    let layout = Layout::new(shape);
    let (width, out_width) = (shape.width(), shape.heads * shape.head_dim);
    let tokens = sequence.out.len() / out_width;
    let count = sequence.first + tokens;
    let tile = layout.tile_rows();
    let tiles = tokens.div_ceil(tile);
    let out = Shared::new(sequence.out);
    let sequence = &*sequence;
    let task = |task: usize| {
        let (kv_head, query) = (task / tiles, task % tiles * tile);
        let column = kv_head * shape.group() * shape.head_dim;
        let seen = move |i: usize| (0, sequence.first + query + i + 1);
        let tile = Tile {
            layout,
            queries: Queries { rows: tile.min(tokens - query), group: shape.group(), seen },
            data: &sequence.qkv[query * width + column..],
            stride: width,
            out: out.at(query * out_width + column),
            log_sums: None,
        };
        (kv_head, tile)
    };
    let kept = |kv_head: usize| Kept { pages, table: sequence.pages, place: (layer, kv_head), layout, count };
    let tasks = shape.kv_heads * tiles;
    if pages.form == Form::Packed {
        (0..tasks).into_par_iter().for_each(|index| {
            let (kv_head, tile) = task(index);
            let kept = kept(kv_head);
            // SAFETY: the tile's rows and the group's columns of `out` belong to this task alone; all that it sees is kept.
            unsafe { tile.run(0, |block, _| kept.parts(block)) };
        });
        return;
    }
    let words = FORMS.len() * layout.part();
    let spare = kept(0).spare();
    if tiles <= 1 {
        (0..tasks).into_par_iter().for_each(|index| {
            let (kv_head, tile) = task(index);
            let kept = kept(kv_head);
            let pack = |block, target: *mut u32| {
                // SAFETY: the tile gives as much scratch as is asked for.
                unsafe { kept.pack(block, target, target.add(words).cast()) }
                Parts::one(target)
            };
            // SAFETY: as above.
            unsafe { tile.run(words + spare, pack) };
        });
        return;
    }
    let blocks = count.div_ceil(KEYS);
    let block_words = words + spare;
    with_memory(shape.kv_heads * blocks * block_words, |memory| {
        (0..shape.kv_heads * blocks).into_par_iter().for_each(|index| {
            let target = memory.at(index * block_words);
            // SAFETY: each block has words of its own, and its own scratch behind them.
            unsafe { kept(index / blocks).pack(index % blocks, target.cast(), target.add(words)) }
        });
        (0..tasks).into_par_iter().for_each(|index| {
            let (kv_head, tile) = task(index);
            let packed = |block, _| {
                Parts::one(memory.at((kv_head * blocks + block) * block_words).cast_const().cast())
            };
            // SAFETY: all blocks are packed; for `out` as above.
            unsafe { tile.run(0, packed) };
        });
    });
}

/// The kept keys and values of one sequence, layer and key/value head.
struct Kept<'a> {
    pages: &'a Pages,
    table: &'a [u32],
    /// Layer and key/value head.
    place: (usize, usize),
    layout: Layout,
    /// Tokens that are kept.
    count: usize,
}

impl Kept<'_> {
    /// The parts of a block, where they are packed.
    fn parts(&self, block: usize) -> Parts {
        let keys = self.pages.tokens();
        let mut parts = Parts { starts: [std::ptr::null(); KEYS / STEP], keys };
        let first = block * KEYS / keys;
        for (start, &page) in parts.starts.iter_mut().take(KEYS / keys).zip(&self.table[first..]) {
            if self.pages.is_written(page) {
                *start = self.pages.part(page, self.place.0, self.place.1).as_ptr().cast();
            }
        }
        parts
    }

    /// Words of scratch that [`Kept::pack`] takes.
    fn spare(&self) -> usize {
        let Shape { head_dim, .. } = self.pages.shape;
        if self.pages.form == Form::Single { 0 } else { 2 * KEYS * head_dim }
    }

    /// Packs a block as [`FORMS`].
    ///
    /// # Safety
    /// `target` has room for the forms of a block, `spare` for as much as said; both are nobody else's.
    unsafe fn pack(&self, block: usize, target: *mut u32, spare: *mut f32) {
        let (first, head_dim, channels) = (block * KEYS, self.pages.shape.head_dim, self.layout.channels);
        let count = KEYS.min(self.count - first);
        let tokens = self.pages.tokens();
        // SAFETY: the caller's contract; keys and values of a piece lie as f32 in a page or were just written to scratch.
        unsafe {
            let pack = |piece: usize, count: usize, keys: *const f32, values: *const f32, stride: usize| {
                let source = Source {
                    data: keys,
                    lane_stride: 1,
                    depth_stride: stride,
                    lanes: count,
                    depth: head_dim,
                };
                pack_left(target.add(piece * STEP / 2), KEYS, &source);
                let source = Source {
                    data: values,
                    lane_stride: 1,
                    depth_stride: head_dim,
                    lanes: head_dim,
                    depth: count,
                };
                pack_left(target.add(self.layout.part() + piece * channels / 2), channels, &source);
            };
            if self.pages.form == Form::Single {
                for piece in (0..count).step_by(tokens) {
                    let (layer, kv_head) = self.place;
                    let part = self.pages.part(self.table[(first + piece) / tokens], layer, kv_head);
                    let (keys, values) = part.split_at(tokens * head_dim);
                    pack(piece, tokens.min(count - piece), keys.as_ptr(), values.as_ptr(), tokens);
                }
            } else {
                let places = KEYS * head_dim;
                let keys = std::slice::from_raw_parts_mut(spare, places);
                let values = std::slice::from_raw_parts_mut(spare.add(places), count * head_dim);
                self.pages.gather(self.table, self.place, (first, count), (keys, KEYS), values);
                pack(0, count, keys.as_ptr(), values.as_ptr(), KEYS);
            }
        }
    }
}
