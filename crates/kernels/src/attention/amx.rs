//! Attention in bf16 where the processor has tiles. The same sums as [`super::forward`] and [`super::backward`], in
//! another layout: scores lie with keys as rows and queries as lanes. So an operand is always packed from rows, or
//! comes out of the exponentials in the order that the next product wants; the softmax of 16 queries is one vector,
//! without a sum across its lanes; and what is worked on stays in the level-1 cache.
//!
//! Words of this folder: a *block* is [`KEYS`] keys, counted from the first of the sequence; a *panel* is [`LANES`] lanes,
//! each one query of one head, all heads of a group beside each other; a *tile* is a few panels that meet a block together.

mod backward;
mod forward;
mod paged;
mod vectors;

use super::Shape;
use super::tile::Shared;
use crate::buffer::Buffer;
use crate::gemm::Precision;
use crate::gemm::amx_strips::{ROWS, STEP, Source, pack_left};
use crate::isa::{self, Isa};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;

pub(super) use backward::backward;
pub(super) use forward::forward;
pub(super) use paged::{forward_paged, keep};

/// Keys of a block: their scores for one panel are 16 KiB. Sums over keys are cut here.
const KEYS: usize = 128;
/// Lanes of a panel: two vectors, and one step of K where a product runs over them.
const LANES: usize = 32;
/// Lanes of a tile, about: a packed block is read once for so many.
const TILE: usize = 128;

/// Whether this path is the one to take.
pub(super) fn serves(precision: Precision) -> bool {
    precision == Precision::Bf16 && isa::current() == Isa::Amx
}

/// Sizes that follow from the shape.
#[derive(Clone, Copy)]
struct Layout {
    shape: Shape,
    /// Width of a head, padded to whole tile registers of both operands.
    channels: usize,
}

impl Layout {
    fn new(shape: Shape) -> Self {
        const { assert!(ROWS == STEP && KEYS.is_multiple_of(STEP)) };
        Self { shape, channels: shape.head_dim.next_multiple_of(STEP) }
    }

    /// Queries of a tile.
    fn tile_rows(&self) -> usize {
        (TILE / self.shape.group()).max(1)
    }

    /// Panels of a tile of `rows` queries.
    fn panels(&self, rows: usize) -> usize {
        (rows * self.shape.group()).div_ceil(LANES)
    }

    /// Words of one part of a packed block.
    fn part(&self) -> usize {
        KEYS * self.channels / 2
    }
}

/// A form in which a block is packed.
#[derive(Clone, Copy)]
enum Form {
    /// A row a key, K along the channels: word (channel / 32, key, channel % 32 / 2).
    KeyRows,
    ValueRows,
    /// A row a channel, K along the keys: word (key / 32, channel, key % 32 / 2), zeros after the last key.
    KeyColumns,
    ValueColumns,
}

/// Keys and values of one sequence and key/value head: number `j` begins `j * stride` after the first.
#[derive(Clone, Copy)]
struct KeysAndValues {
    keys: *const f32,
    values: *const f32,
    stride: usize,
    count: usize,
}

impl KeysAndValues {
    /// Packs a block in each of the forms, one part after the other.
    ///
    /// # Safety
    /// Keys and values are readable, `target` has room for the parts and is nobody else's; a processor with tiles.
    unsafe fn pack(self, layout: Layout, block: usize, forms: &[Form], target: *mut u32) {
        let (first, head_dim) = (block * KEYS, layout.shape.head_dim);
        let count = KEYS.min(self.count - first);
        for (index, form) in forms.iter().enumerate() {
            let target = target.wrapping_add(index * layout.part());
            let data = match form {
                Form::KeyRows | Form::KeyColumns => self.keys,
                Form::ValueRows | Form::ValueColumns => self.values,
            };
            let data = data.wrapping_add(first * self.stride);
            let (rows, source) = match form {
                Form::KeyRows | Form::ValueRows => {
                    let (lane_stride, depth_stride) = (self.stride, 1);
                    (KEYS, Source { data, lane_stride, depth_stride, lanes: count, depth: head_dim })
                }
                Form::KeyColumns | Form::ValueColumns => {
                    let (lane_stride, depth_stride) = (1, self.stride);
                    (
                        layout.channels,
                        Source { data, lane_stride, depth_stride, lanes: head_dim, depth: count },
                    )
                }
            };
            // SAFETY: the caller's contract.
            unsafe { pack_left(target, rows, &source) }
        }
    }
}

/// All keys and values of a training batch, packed by all threads, before `body` gets the words: those of the blocks of a
/// sequence and key/value head one after the other, heads and sequences likewise.
fn with_packed(qkv: &[f32], seq_len: usize, layout: Layout, forms: &[Form], body: impl FnOnce(Packed)) {
    let Shape { heads, kv_heads, head_dim } = layout.shape;
    let width = layout.shape.width();
    let blocks = seq_len.div_ceil(KEYS);
    let block = forms.len() * layout.part();
    let tasks = qkv.len() / width / seq_len * kv_heads * blocks;
    with_memory(tasks * block, |words| {
        (0..tasks).into_par_iter().for_each(|task| {
            let (sequence, kv_head) = (task / (kv_heads * blocks), task / blocks % kv_heads);
            let row = sequence * seq_len * width;
            let values = KeysAndValues {
                keys: qkv[row + (heads + kv_head) * head_dim..].as_ptr(),
                values: qkv[row + (heads + kv_heads + kv_head) * head_dim..].as_ptr(),
                stride: width,
                count: seq_len,
            };
            // SAFETY: the sequence lies in `qkv`; each block has words of its own.
            unsafe { values.pack(layout, task % blocks, forms, words.at(task * block).cast()) }
        });
        body(Packed { words, block, blocks, kv_heads });
    });
}

/// Where the packed keys and values of a block lie: in one part, or in several that follow one another, each with
/// the forms of so many keys.
#[derive(Clone, Copy)]
struct Parts {
    starts: [*const u32; KEYS / STEP],
    keys: usize,
}

impl Parts {
    fn one(start: *const u32) -> Self {
        Self { starts: [start; KEYS / STEP], keys: KEYS }
    }
}

/// What [`with_packed`] packed.
#[derive(Clone, Copy)]
struct Packed {
    words: Shared,
    /// Words of a block, blocks of a sequence.
    block: usize,
    blocks: usize,
    kv_heads: usize,
}

impl Packed {
    fn at(&self, sequence: usize, kv_head: usize, block: usize) -> *const u32 {
        self.words
            .at(((sequence * self.kv_heads + kv_head) * self.blocks + block) * self.block)
            .cast_const()
            .cast()
    }
}

thread_local! {
    static MEMORY: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Lends this thread's memory for packed keys and values, which grows once and stays. It is taken while it is lent, so
/// that other work of this thread, taken up while it waits for others, gets some of its own.
fn with_memory(length: usize, body: impl FnOnce(Shared)) {
    let mut memory =
        MEMORY.take().filter(|memory| memory.len() >= length).unwrap_or_else(|| Buffer::zeros(length));
    body(Shared::new(&mut memory));
    MEMORY.set(Some(memory));
}

/// What the lanes of one panel see.
#[repr(align(64))]
struct Seen {
    /// First key of each lane, and how many from there on; none for lanes that are not used.
    first: [i32; LANES],
    count: [i32; LANES],
}

/// Where all lanes see all that is asked about.
const NO_MASK: Seen = Seen { first: [0; LANES], count: [0; LANES] };

/// The keys of a panel: those that any of its lanes sees, and those that all of them see.
struct Span {
    any: Range<usize>,
    all: Range<usize>,
}

/// The part of a panel's keys that lies in one block, as keys of the block in whole registers of rows.
struct Visible {
    keys: Range<usize>,
    masked: bool,
}

/// The queries of one tile and what they see.
struct Queries<F> {
    rows: usize,
    group: usize,
    /// Which keys the query of a row sees; neither end falls from row to row.
    seen: F,
}

impl<F: Fn(usize) -> (usize, usize)> Queries<F> {
    fn lanes(&self) -> usize {
        self.rows * self.group
    }

    /// Used lanes of a panel.
    fn width(&self, panel: usize) -> usize {
        (self.lanes() - panel * LANES).min(LANES)
    }

    /// The keys that the tile sees.
    fn keys(&self) -> Range<usize> {
        (self.seen)(0).0..(self.seen)(self.rows - 1).1
    }

    fn span(&self, panel: usize) -> Span {
        let first = panel * LANES;
        let (start, end) = (self.seen)(first / self.group);
        let (last_start, last_end) = (self.seen)((first + self.width(panel) - 1) / self.group);
        Span { any: start..last_end, all: last_start..end }
    }

    /// Of a block, what a panel sees.
    fn visible(&self, panel: usize, block: usize) -> Option<Visible> {
        let Span { any, all } = self.span(panel);
        let (start, end) = (block * KEYS, (block + 1) * KEYS);
        let (first, last) = (any.start.max(start), any.end.min(end));
        (first < last).then(|| {
            let keys = (first - start) / STEP * STEP..(last - start).next_multiple_of(STEP);
            let masked = start + keys.start < all.start || start + keys.end > all.end;
            Visible { keys, masked }
        })
    }

    /// The mask of a panel.
    fn mask(&self, panel: usize) -> Seen {
        let mut mask = Seen { first: [0; LANES], count: [0; LANES] };
        for lane in 0..self.width(panel) {
            let (start, end) = (self.seen)((panel * LANES + lane) / self.group);
            (mask.first[lane], mask.count[lane]) = (start as i32, (end - start) as i32);
        }
        mask
    }
}

/// Takes pieces of this thread's scratch, each beginning at a cache line.
struct Pieces(*mut f32);

impl Pieces {
    fn take(&mut self, length: usize) -> *mut f32 {
        let piece = self.0;
        self.0 = self.0.wrapping_add(Self::size(length));
        piece
    }

    fn size(length: usize) -> usize {
        length.next_multiple_of(16)
    }
}
