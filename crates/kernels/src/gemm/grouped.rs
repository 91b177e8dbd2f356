//! A large product by tiles: C is summed in the level-1 cache, a few panels' columns of a tile's rows at a time, and
//! written once for many values of K.
//!
//! A tile of C is 128 bytes of each of 32 rows. Where such pieces lie a power of two apart they compete for a few places
//! in the caches, and one by one memory gives and takes them slowly: with C far away, tiles ran at a quarter of their
//! rate. So each item keeps its rows of the left operand packed, takes the panels of the right one in groups, and sums
//! into a scratch from which rows go to C in longer pieces.

use super::ahead::{Ahead, Unit};
use super::amx_sums::{self, Place};
use super::crew;
use super::cut::{ENOUGH_TILES, ITEMS, SHARED_WORDS, Tiles, block_range, part};
use super::kernel::{Session, Strip, Tile, Words};
use super::packed::Panels;
use super::product::{Item, Product, Right, SharedPacks, Start, right_strip};
use super::scratch::{Kind, Loan};
use std::ops::Range;

/// Panels whose sums are kept at once: with a strip's block of K they stay in the level-1 cache.
const GROUP: usize = 2;
/// Words of an item's rows and of a group of panels: most of a level-2 cache of 2 MiB, which all processors with tiles
/// have. K is cut into chunks to keep within; between two of them C is written and read again.
const NEAR_WORDS: usize = 400_000;
/// Rows of an item: as many as fit with all of K, but not fewer and not more.
const ROWS: usize = 288;
const MOST_ROWS: usize = 1024;
/// A right operand of so few words, 16 MiB, is read again from a cache for every item: then each item has its own rows,
/// which it packs when it needs them.
const CACHED_WORDS: usize = 4 << 20;
/// Words of a slab of K that are not too many for any product: 4 MiB.
const SLAB_WORDS: usize = 1 << 20;
/// Values of K of all strips that a thread packs at a time, where those of one value of K lie side by side.
const SLICE: usize = 32;
/// From so many values on, C goes past the caches when it is complete: it would push everything else out of them.
const LARGE: usize = 1 << 22;

/// How a product is cut.
struct Cut {
    tiles: Tiles,
    panels: usize,
    blocks: usize,
    row_parts: usize,
    /// Parts of the panels, in whole groups.
    group_parts: usize,
    /// Parts of K that are packed at a time, and of each of them those that are multiplied at a time.
    slabs: usize,
    chunks: usize,
    share_left: bool,
    share_right: bool,
}

impl Cut {
    fn new(product: &Product, threads: usize) -> Self {
        let kernel = product.kernel;
        let (rows, columns, depth) = (product.a.rows(), product.columns, product.a.cols());
        let (tiles, panels) = (Tiles::new(rows, kernel.rows), columns.div_ceil(kernel.columns));
        let blocks = depth.div_ceil(kernel.block);
        let packed = matches!(product.right, Right::Packed(..));
        let wanted = if threads > 1 { ITEMS * threads } else { 1 };

        // An item has as many rows as fit: for each of its rows the right operand is read once less.
        let group = GROUP * kernel.columns;
        let words = kernel.left.words(depth);
        let most = (NEAR_WORDS / words).saturating_sub(group).clamp(ROWS, MOST_ROWS);
        let mut row_parts = rows.div_ceil(most);
        let right_words = panels * kernel.columns * words;
        if right_words <= CACHED_WORDS {
            row_parts = row_parts.max(wanted.min(tiles.count / ENOUGH_TILES));
        }
        let group_parts = wanted.div_ceil(row_parts).min(panels.div_ceil(GROUP));

        let (share_left, share_right) = (group_parts > 1, !packed && row_parts > 1);
        let left = if share_left { rows * words } else { 0 };
        let right = if share_right { right_words } else { 0 };
        // An operand that is packed for all items is cut into slabs of K, where it is too large to be packed whole.
        // So it is where C is small: to read and write that again costs less than the memory.
        let most = SHARED_WORDS.min((2 * rows * columns).max(SLAB_WORDS));
        let slabs = left.max(right).div_ceil(most).clamp(1, blocks);
        let lanes = rows.div_ceil(row_parts).next_multiple_of(kernel.rows) + group;
        let chunks = (lanes * words.div_ceil(slabs)).div_ceil(NEAR_WORDS).min(blocks.div_ceil(slabs));
        Self { tiles, panels, blocks, row_parts, group_parts, slabs, chunks, share_left, share_right }
    }
}

/// Multiplies on up to `threads` threads of the current pool.
pub(super) fn run(product: &Product, threads: usize) {
    let cut = Cut::new(product, threads);
    let groups = cut.panels.div_ceil(GROUP);
    let (mut left, mut right) = (Loan::take(Kind::SharedLeft), Loan::take(Kind::SharedRight));
    for slab in 0..cut.slabs {
        let slab = part(cut.blocks, cut.slabs, slab);
        let shared = pack_shared(product, &cut, &slab, threads, &mut left, &mut right);
        crew::run(threads, cut.row_parts * cut.group_parts, &|| Worker::new(product), &|worker, index| {
            let groups = part(groups, cut.group_parts, index % cut.group_parts);
            let chunks = cut.chunks.min(slab.len());
            for chunk in 0..chunks {
                let blocks = part(slab.len(), chunks, chunk);
                let item = Item {
                    product,
                    tiles: &cut.tiles,
                    shared: &shared.packs,
                    rows: part(cut.tiles.count, cut.row_parts, index / cut.group_parts),
                    panels: groups.start * GROUP..(groups.end * GROUP).min(cut.panels),
                    blocks: slab.start + blocks.start..slab.start + blocks.end,
                };
                multiply(&item, &shared.depth, worker);
            }
        });
    }
}

/// What was packed for all items of a slab, and the values of K that it holds.
struct Shared {
    packs: SharedPacks,
    depth: Range<usize>,
}

fn pack_shared(
    product: &Product,
    cut: &Cut,
    slab: &Range<usize>,
    threads: usize,
    left: &mut Loan,
    right: &mut Loan,
) -> Shared {
    let Product { kernel, a, .. } = product;
    let range = |block| block_range(block, kernel.block, a.cols());
    let slab = range(slab.start).start..range(slab.end - 1).end;
    let mut packs = SharedPacks { left: None, right: None };
    if let (Right::Unpacked(b), true) = (product.right, cut.share_right) {
        let words = kernel.right.words(slab.len());
        let panels = Panels::new(kernel, right.reserve(cut.panels * kernel.columns * words), slab.len());
        pack_all(threads, b.row_stride(), cut.panels, slab.clone(), &|some, depth| {
            for panel in some {
                let strip = right_strip(kernel, b, panel..panel + 1, depth.clone());
                let target = panels.at(panel, depth.start - slab.start).cast_mut();
                // SAFETY: the strip lies in B, and there is room for all panels.
                unsafe { kernel.pack(target, kernel.columns, &strip, kernel.right) }
            }
        });
        packs.right = Some(panels);
    }
    if cut.share_left {
        let start = Start(left.reserve(a.rows() * kernel.left.words(slab.len())));
        pack_all(threads, a.col_stride(), cut.tiles.count, slab.clone(), &|some, depth| {
            for tile in some {
                let (first, height) = (cut.tiles.start(tile), cut.tiles.height(tile));
                let strip = Strip {
                    data: a.at(first, depth.start),
                    element: a.element(),
                    lane_stride: a.row_stride(),
                    depth_stride: a.col_stride(),
                    lanes: height,
                    padded_lanes: height,
                    depth: depth.len(),
                };
                let before = kernel.left.words(depth.start - slab.start) * height;
                let target = start.at(first * kernel.left.words(slab.len()) + before);
                // SAFETY: the strip lies in A, and there is room for all rows.
                unsafe { kernel.pack(target, height, &strip, kernel.left) }
            }
        });
        packs.left = Some(start);
    }
    Shared { packs, depth: slab }
}

/// Packs strips on all threads, in the order in which they lie in memory: all of K of one strip, or a few values of K
/// of all strips.
fn pack_all(
    threads: usize,
    depth_stride: usize,
    strips: usize,
    depth: Range<usize>,
    pack: &(impl Fn(Range<usize>, Range<usize>) + Sync),
) {
    if depth_stride == 1 {
        crew::run(threads, strips, &|| (), &|(), strip| pack(strip..strip + 1, depth.clone()));
    } else {
        crew::run(threads, depth.len().div_ceil(SLICE), &|| (), &|(), slice| {
            let start = depth.start + slice * SLICE;
            pack(0..strips, start..(start + SLICE).min(depth.end));
        });
    }
}

/// What a thread packs into, and sums in.
struct Worker {
    left: Loan,
    right: Loan,
    sums: Loan,
    _session: Session,
}

impl Worker {
    fn new(product: &Product) -> Self {
        Self {
            left: Loan::take(Kind::Left),
            right: Loan::take(Kind::Right),
            sums: Loan::take(Kind::Sums),
            _session: product.kernel.session(),
        }
    }
}

/// One item, whose values of K lie in the slab of K that was packed for all.
fn multiply(item: &Item, slab: &Range<usize>, worker: &mut Worker) {
    let Product { kernel, a, columns, .. } = *item.product;
    let depth = item.depth();
    let in_slab = depth.start - slab.start;
    let mut left = std::ptr::null_mut();
    if item.shared.left.is_none() {
        left = worker.left.reserve(item.left_offset(item.rows.end));
        item.pack_left(item.rows.clone(), left);
    }
    let strip = |tile: usize| {
        let step = item.tiles.height(tile);
        let start = match item.shared.left {
            Some(all) => {
                let before = item.tiles.start(tile) * kernel.left.words(slab.len());
                all.at(before + kernel.left.words(in_slab) * step)
            }
            None => left.wrapping_add(item.left_offset(tile)),
        };
        Words { start, step }
    };
    let last = item.blocks.end * kernel.block >= a.cols();
    let sums = Sums {
        start: worker.sums.reserve(GROUP * kernel.rows * kernel.columns).cast(),
        add: item.product.add || item.blocks.start > 0,
        stream: last && a.rows() * columns >= LARGE,
    };
    for first in item.panels.clone().step_by(GROUP) {
        let panels = first..(first + GROUP).min(item.panels.end);
        let following = panels.end..(panels.end + GROUP).min(item.panels.end);
        let words = item.right_words(1, depth.len());
        let (right, step, mut ahead) = match (item.product.right, item.shared.right) {
            (Right::Unpacked(b), None) => {
                let right = worker.right.reserve(GROUP * words);
                item.pack_right(b, panels.clone(), right);
                let ahead = if following.is_empty() {
                    Ahead::nothing()
                } else {
                    Ahead::strip(&right_strip(kernel, b, following, depth.clone()))
                };
                (right.cast_const(), words, ahead)
            }
            (Right::Packed(all, ..), _) => near(all, depth.start, &panels, &following, words),
            (_, Some(all)) => near(all, in_slab, &panels, &following, words),
        };
        for tile in item.rows.clone() {
            meet(item, tile, strip(tile), &panels, Words { start: right, step }, &sums, &mut ahead);
        }
    }
}

/// Panels that were packed before: where a group begins, the words from one to the next, and the following group to be
/// brought near.
fn near(
    all: Panels,
    depth: usize,
    panels: &Range<usize>,
    following: &Range<usize>,
    words: usize,
) -> (*const u32, usize, Ahead) {
    let step = all.step();
    let ahead = Ahead::panels(all.at(following.start, depth), words, step, following.len());
    (all.at(panels.start, depth), step, ahead)
}

/// Where a group is summed, whether C is added to, and whether it then goes past the caches.
struct Sums {
    start: *mut f32,
    add: bool,
    stream: bool,
}

/// One tile's rows and a group of panels, the step of `right` being that from panel to panel.
fn meet(
    item: &Item,
    tile: usize,
    left: Words,
    panels: &Range<usize>,
    right: Words,
    sums: &Sums,
    ahead: &mut Ahead,
) {
    let Product { kernel, c, a, columns, .. } = item.product;
    let (first_row, height) = (item.tiles.start(tile), item.tiles.height(tile));
    let first_column = panels.start * kernel.columns;
    let place = Place {
        c: c.at(first_row, first_column),
        c_stride: c.row_stride(),
        rows: height,
        columns: (panels.end * kernel.columns).min(*columns) - first_column,
    };
    if sums.add {
        // SAFETY: the rows and columns lie in C and belong to this item alone; the scratch holds a group's sums.
        unsafe { amx_sums::load(sums.start, &place) }
    }
    for block in item.blocks.clone() {
        let before = (block - item.blocks.start) * kernel.block;
        let first = block == item.blocks.start;
        for (index, panel) in panels.clone().enumerate() {
            let width = kernel.columns.min(columns - panel * kernel.columns);
            let panel = Words { start: right.start.wrapping_add(index * right.step), step: kernel.columns };
            let goal = place.c.wrapping_add(index * kernel.columns);
            let tile = Tile {
                left: left.advanced(kernel.left.words(before)),
                right: panel.advanced(kernel.right.words(before)),
                depth: block_range(block, kernel.block, a.cols()).len(),
                c: sums.start.wrapping_add(index * kernel.rows * kernel.columns),
                c_stride: kernel.columns,
                columns: width.next_multiple_of(kernel.lanes),
                add: sums.add || !first,
                ahead: ahead.next().unwrap_or(Unit::nothing(left.start)),
                goal: if first && !sums.stream { (goal, place.c_stride) } else { (sums.start, 0) },
            };
            // SAFETY: both strips were packed for this kernel; the scratch has room for whole registers.
            unsafe { kernel.tile(height, width)(&tile) }
        }
    }
    // SAFETY: as for `load`.
    unsafe { amx_sums::store(sums.start, &place, sums.stream) }
}
