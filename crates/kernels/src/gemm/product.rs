//! One product: how C is cut, what is packed when, and in which order tiles are multiplied.
//!
//! C is cut into items, each done by one thread on its own. In an item one operand is resident: its rows (or
//! columns), as many values of K as fit, are packed into the level-2 cache and stay. The other one streams: each
//! of its strips is packed when its turn comes, and multiplied with all that is resident. Which one is resident
//! depends on the shape; the bits do not depend on it.

use super::ahead::{Ahead, Unit};
use super::crew;
use super::kernel::{K_BLOCK, Kernel, Strip, Tile};
use super::packed::Packed;
use super::scratch::{Kind, Loan};
use super::{Accumulate, View, ViewMut};
use std::ops::Range;

/// Words of the resident operand: half of a level-2 cache of 1 MiB and more.
const RESIDENT_WORDS: usize = 144 * 1024;
/// Rows, or columns, of the resident operand in an item. The other operand is packed once for so many.
const RESIDENT: usize = 288;
/// Below so many multiplications a second thread costs more than it saves.
const SERIAL: usize = 96 * 96 * 96;
/// Items for each thread, so that one that is held up leaves its work to others.
const ITEMS: usize = 4;

/// The right operand.
pub(super) enum Right<'a> {
    Unpacked(View<'a>),
    Packed(&'a Packed),
}

/// C = A B or C += A B by a certain kernel.
pub(super) struct Product<'a> {
    kernel: &'static Kernel,
    c: ViewMut<'a>,
    a: View<'a>,
    right: Right<'a>,
    columns: usize,
    add: bool,
}

impl<'a> Product<'a> {
    /// # Panics
    /// When the shapes do not fit together.
    pub fn new(
        kernel: &'static Kernel,
        c: ViewMut<'a>,
        a: View<'a>,
        right: Right<'a>,
        accumulate: Accumulate,
    ) -> Self {
        let (depth, columns) = match &right {
            Right::Unpacked(b) => (b.rows(), b.cols()),
            Right::Packed(b) => (b.rows(), b.cols()),
        };
        assert!(
            c.rows() == a.rows() && a.cols() == depth && c.cols() == columns,
            "the product of {} x {} and {depth} x {columns} is not {} x {}",
            a.rows(),
            a.cols(),
            c.rows(),
            c.cols()
        );
        Self { kernel, c, a, right, columns, add: accumulate == Accumulate::Add }
    }

    /// Multiplies on up to `threads` threads of the current pool.
    pub fn run(self, threads: usize) {
        let (rows, depth) = (self.a.rows(), self.a.cols());
        if rows == 0 || self.columns == 0 {
            return;
        }
        if depth == 0 {
            if !self.add {
                self.clear();
            }
            return;
        }
        let work = rows.saturating_mul(self.columns).saturating_mul(depth);
        let threads = if work < SERIAL { 1 } else { threads };
        let cut = Cut::new(&self, threads);
        crew::run(threads, cut.row_parts * cut.panel_parts, &Worker::new, &|worker, index| {
            let tiles = part(cut.tiles.count, cut.row_parts, index / cut.panel_parts);
            let panels = part(cut.panels, cut.panel_parts, index % cut.panel_parts);
            for chunk in 0..cut.chunks {
                let item = Item {
                    product: &self,
                    tiles: &cut.tiles,
                    rows: tiles.clone(),
                    panels: panels.clone(),
                    blocks: part(cut.blocks, cut.chunks, chunk),
                };
                if cut.resident_left {
                    item.with_left_resident(worker);
                } else {
                    item.with_right_resident(worker);
                }
            }
        });
    }

    fn clear(&self) {
        for row in 0..self.c.rows() {
            // SAFETY: the row belongs to C, which is borrowed exclusively.
            unsafe { self.c.at(row, 0).write_bytes(0, self.columns) }
        }
    }
}

/// Some tiles' rows, some panels' columns, some blocks of K.
struct Item<'a> {
    product: &'a Product<'a>,
    tiles: &'a Tiles,
    rows: Range<usize>,
    panels: Range<usize>,
    blocks: Range<usize>,
}

impl Item<'_> {
    /// All strips of the left operand are packed, then each panel of the right one meets them.
    fn with_left_resident(&self, worker: &mut Worker) {
        let kernel = self.product.kernel;
        let depth = self.depth();
        let rows = self.tiles.start(self.rows.end) - self.tiles.start(self.rows.start);
        let left = worker.left.reserve(rows * self.blocks.len() * K_BLOCK);
        let mut strips = left;
        for tile in self.rows.clone() {
            self.pack_left(tile, strips);
            strips = strips.wrapping_add(self.height(tile) * kernel.left.words(depth.len()));
        }
        for panel in self.panels.clone() {
            let following = self.panels.start.max((panel + 1) % self.panels.end);
            let (right, mut ahead) = match self.product.right {
                Right::Unpacked(b) => {
                    let right = worker.right.reserve(kernel.columns * kernel.right.words(depth.len()));
                    let strip = right_strip(kernel, b, panel, depth.clone());
                    // SAFETY: the strip lies in B, and the loan has room for a panel of the chunk.
                    unsafe { (kernel.pack)(right, kernel.columns, &strip, kernel.right) }
                    (right.cast_const(), Ahead::strip(&right_strip(kernel, b, following, depth.clone())))
                }
                Right::Packed(b) => {
                    let words = kernel.columns * kernel.right.words(depth.len());
                    (b.at(panel, depth.start), Ahead::words(b.at(following, depth.start), words))
                }
            };
            for block in self.blocks.clone() {
                let mut left = left.cast_const();
                for tile in self.rows.clone() {
                    self.multiply(tile, panel, block, left, right, &mut ahead);
                    left = left.wrapping_add(self.height(tile) * kernel.left.words(depth.len()));
                }
            }
        }
    }

    /// All panels of the right operand are packed, then each strip of the left one meets them.
    fn with_right_resident(&self, worker: &mut Worker) {
        let kernel = self.product.kernel;
        let depth = self.depth();
        let Right::Unpacked(b) = self.product.right else { return };
        let panel_words = kernel.columns * kernel.right.words(depth.len());
        let right = worker.right.reserve(self.panels.len() * panel_words);
        for (index, panel) in self.panels.clone().enumerate() {
            let strip = right_strip(kernel, b, panel, depth.clone());
            // SAFETY: the strip lies in B, and the loan has room for all panels of the chunk.
            unsafe { (kernel.pack)(right.add(index * panel_words), kernel.columns, &strip, kernel.right) }
        }
        for tile in self.rows.clone() {
            let left = worker.left.reserve(kernel.rows * self.blocks.len() * K_BLOCK);
            self.pack_left(tile, left);
            let following = self.rows.start.max((tile + 1) % self.rows.end);
            let mut ahead = Ahead::strip(&self.left_strip(following));
            for (index, panel) in self.panels.clone().enumerate() {
                let right = right.wrapping_add(index * panel_words).cast_const();
                for block in self.blocks.clone() {
                    self.multiply(tile, panel, block, left, right, &mut ahead);
                }
            }
        }
    }

    /// One tile, one block of K. `left` and `right` begin with the item's first block.
    fn multiply(
        &self,
        tile: usize,
        panel: usize,
        block: usize,
        left: *const u32,
        right: *const u32,
        ahead: &mut Ahead,
    ) {
        let Product { kernel, c, a, .. } = self.product;
        let first_row = self.tiles.start(tile);
        let height = self.height(tile);
        let first_column = panel * kernel.columns;
        let columns = kernel.columns.min(self.product.columns - first_column);
        let before = (block - self.blocks.start) * K_BLOCK;
        let tile = Tile {
            left: left.wrapping_add(height * kernel.left.words(before)),
            right: right.wrapping_add(kernel.columns * kernel.right.words(before)),
            depth: block_range(block, a.cols()).len(),
            c: c.at(first_row, first_column),
            c_stride: c.row_stride(),
            columns,
            add: self.product.add || block > 0,
            ahead: ahead.next().unwrap_or(Unit::nothing(right)),
        };
        // SAFETY: both strips were packed for this kernel; the rows and columns lie in C and belong to this item
        // alone; `select` chose a kernel that the processor can run.
        unsafe { kernel.tile(height, columns)(&tile) }
    }

    fn height(&self, tile: usize) -> usize {
        self.tiles.start(tile + 1) - self.tiles.start(tile)
    }

    /// The item's values of K.
    fn depth(&self) -> Range<usize> {
        let depth = self.product.a.cols();
        block_range(self.blocks.start, depth).start..block_range(self.blocks.end - 1, depth).end
    }

    fn left_strip(&self, tile: usize) -> Strip {
        let depth = self.depth();
        let lanes = self.height(tile);
        Strip {
            data: self.product.a.at(self.tiles.start(tile), depth.start),
            lane_stride: self.product.a.row_stride(),
            depth_stride: self.product.a.col_stride(),
            lanes,
            padded_lanes: lanes,
            depth: depth.len(),
        }
    }

    fn pack_left(&self, tile: usize, target: *mut u32) {
        let kernel = self.product.kernel;
        let strip = self.left_strip(tile);
        // SAFETY: the strip lies in A; the worker reserved room for it.
        unsafe { (kernel.pack)(target, strip.lanes, &strip, kernel.left) }
    }
}

/// The strip of a panel of B.
pub(super) fn right_strip(kernel: &Kernel, b: View, panel: usize, depth: Range<usize>) -> Strip {
    let first = panel * kernel.columns;
    let columns = kernel.columns.min(b.cols() - first);
    Strip {
        data: b.at(depth.start, first),
        lane_stride: b.col_stride(),
        depth_stride: b.row_stride(),
        lanes: columns,
        padded_lanes: kernel.padded(columns),
        depth: depth.len(),
    }
}

/// How C is cut into items, and K into chunks that fit the resident operand.
struct Cut {
    tiles: Tiles,
    panels: usize,
    blocks: usize,
    row_parts: usize,
    panel_parts: usize,
    chunks: usize,
    resident_left: bool,
}

impl Cut {
    fn new(product: &Product, threads: usize) -> Self {
        let kernel = product.kernel;
        let (rows, columns) = (product.a.rows(), product.columns);
        let tiles = Tiles { rows, count: rows.div_ceil(kernel.rows) };
        let panels = columns.div_ceil(kernel.columns);
        let blocks = product.a.cols().div_ceil(K_BLOCK);
        let packed = matches!(product.right, Right::Packed(_));

        let resident_left = packed || rows <= columns;
        let most = if blocks == 1 { 2 * RESIDENT } else { RESIDENT };
        let wanted = if threads > 1 { ITEMS * threads } else { 1 };
        let (resident, resident_parts, other_count) = if resident_left {
            let parts = rows.div_ceil(most);
            (rows.div_ceil(parts), parts, panels)
        } else {
            let parts = columns.div_ceil(most);
            (columns.div_ceil(parts), parts, tiles.count)
        };
        let other_parts = wanted.div_ceil(resident_parts).min(other_count);
        let (row_parts, panel_parts) =
            if resident_left { (resident_parts, other_parts) } else { (other_parts, resident_parts) };
        let chunk = (RESIDENT_WORDS / (resident.max(kernel.rows) * K_BLOCK)).max(1);
        Self { tiles, panels, blocks, row_parts, panel_parts, chunks: blocks.div_ceil(chunk), resident_left }
    }
}

/// Rows cut into tiles whose heights differ by one at most.
struct Tiles {
    rows: usize,
    count: usize,
}

impl Tiles {
    fn start(&self, tile: usize) -> usize {
        part(self.rows, self.count, tile).start
    }
}

/// The `index`th of `parts` parts of `0..total`, as equal as can be.
fn part(total: usize, parts: usize, index: usize) -> Range<usize> {
    let (size, rest) = (total / parts, total % parts);
    let start = index * size + index.min(rest);
    start..start + size + usize::from(index < rest)
}

/// The values of K that the `number`th block holds.
fn block_range(number: usize, depth: usize) -> Range<usize> {
    let start = number * K_BLOCK;
    start..(start + K_BLOCK).min(depth)
}

/// What a thread packs into.
struct Worker {
    left: Loan,
    right: Loan,
}

impl Worker {
    fn new() -> Self {
        Self { left: Loan::take(Kind::Left), right: Loan::take(Kind::Right) }
    }
}
