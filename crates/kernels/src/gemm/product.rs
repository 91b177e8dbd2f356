//! One product: how C is cut, what is packed when, and in which order tiles are multiplied.
//!
//! C is cut into items, each done by one thread on its own. In an item one operand is resident: its rows (or
//! columns), as many values of K as fit, are packed into the level-2 cache and stay. The other one streams: each
//! of its strips is packed when its turn comes, and multiplied with all that is resident. An operand that several
//! items would pack each for itself is packed by all threads first, if it is not too large. Which one is resident
//! and what is packed first depends on the shape; the bits do not depend on it.

use super::ahead::{Ahead, Unit};
use super::crew;
use super::cut::{Cut, Tiles, block_range, part};
use super::kernel::{Format, Kernel, Session, Strip, Tile, Words};
use super::packed::Panels;
use super::scratch::{Kind, Loan};
use super::view::Element;
use super::{Accumulate, View, ViewMut};
use std::ops::Range;

/// Rows, or columns, of the streaming operand that are packed together.
const GROUP: usize = 128;
/// So few panels are multiplied with left strips where they lie, if that is possible: packing would cost more.
const FEW_PANELS: usize = 4;
/// C of so few values lies in the level-2 cache, so tiles may as well be summed where they belong.
const NEAR: usize = 32 * 1024;
/// Below so many multiplications a second thread costs more than it saves.
const SERIAL: usize = 96 * 96 * 96;

/// The right operand.
#[derive(Clone, Copy)]
pub(super) enum Right<'a> {
    Unpacked(View<'a>),
    /// Packed before: the panels, K and the columns.
    Packed(Panels, usize, usize),
}

/// C = A B or C += A B by a certain kernel.
pub(super) struct Product<'a> {
    pub kernel: &'static Kernel,
    pub c: ViewMut<'a>,
    pub a: View<'a>,
    pub right: Right<'a>,
    pub columns: usize,
    pub add: bool,
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
            Right::Packed(_, depth, columns) => (*depth, *columns),
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
        #[cfg(target_arch = "x86_64")]
        if self.kernel.needs_session && rows * self.columns > NEAR {
            return super::grouped::run(&self, threads);
        }
        let packed = matches!(self.right, Right::Packed(..));
        let cut = Cut::new(self.kernel, [rows, self.columns, depth], packed, threads);
        let (mut left, mut right) = (Loan::take(Kind::SharedLeft), Loan::take(Kind::SharedRight));
        let shared = self.pack_shared(&cut, threads, &mut left, &mut right);
        crew::run(
            threads,
            cut.row_parts * cut.panel_parts,
            &|| Worker::new(self.kernel),
            &|worker, index| {
                for chunk in 0..cut.chunks {
                    let item = Item {
                        product: &self,
                        tiles: &cut.tiles,
                        shared: &shared,
                        rows: part(cut.tiles.count, cut.row_parts, index / cut.panel_parts),
                        panels: part(cut.panels, cut.panel_parts, index % cut.panel_parts),
                        blocks: part(cut.blocks, cut.chunks, chunk),
                    };
                    match (self.right, shared.right) {
                        (Right::Unpacked(b), None) if !cut.left_resident => {
                            item.with_right_resident(b, worker)
                        }
                        _ => item.with_left_resident(worker),
                    }
                }
            },
        );
    }

    /// Packs, on all threads, what the cut says is packed once for all items.
    fn pack_shared(&self, cut: &Cut, threads: usize, left: &mut Loan, right: &mut Loan) -> SharedPacks {
        let kernel = self.kernel;
        let depth = self.a.cols();
        let nothing = SharedPacks { left: None, right: None };
        let whole = |rows: Range<usize>, panels: Range<usize>| Item {
            product: self,
            tiles: &cut.tiles,
            shared: &nothing,
            rows,
            panels,
            blocks: 0..cut.blocks,
        };
        let mut packs = SharedPacks { left: None, right: None };
        if let (Right::Unpacked(b), true) = (self.right, cut.share_right) {
            let start = right.reserve(cut.panels * kernel.columns * kernel.right.words(depth));
            let panels = Panels::new(kernel, start, depth);
            let size = (GROUP / kernel.columns).max(1);
            crew::run(threads, cut.panels.div_ceil(size), &|| (), &|(), index| {
                let group = index * size..((index + 1) * size).min(cut.panels);
                whole(0..1, group.clone()).pack_right(b, group.clone(), panels.at(group.start, 0).cast_mut());
            });
            packs.right = Some(panels);
        }
        if cut.share_left {
            let start = Start(left.reserve(self.a.rows() * kernel.left.words(depth)));
            let size = (GROUP / kernel.rows).max(1);
            crew::run(threads, cut.tiles.count.div_ceil(size), &|| (), &|(), index| {
                let group = index * size..((index + 1) * size).min(cut.tiles.count);
                let offset = cut.tiles.start(group.start) * kernel.left.words(depth);
                whole(group.clone(), 0..1).pack_left(group, start.at(offset));
            });
            packs.left = Some(start);
        }
        packs
    }

    fn clear(&self) {
        for row in 0..self.c.rows() {
            // SAFETY: the row belongs to C, which is borrowed exclusively.
            unsafe { self.c.at(row, 0).write_bytes(0, self.columns) }
        }
    }
}

/// What was packed for all items before they begin.
pub(super) struct SharedPacks {
    pub left: Option<Start>,
    pub right: Option<Panels>,
}

/// Where memory begins that all threads pack into, each its own part, and then read.
#[derive(Clone, Copy)]
pub(super) struct Start(pub *mut u32);

// SAFETY: only addresses are given out; parts are written by one thread each, and read when all are written.
unsafe impl Sync for Start {}

impl Start {
    pub fn at(self, offset: usize) -> *mut u32 {
        self.0.wrapping_add(offset)
    }
}

/// Some tiles' rows, some panels' columns, some blocks of K.
pub(super) struct Item<'a> {
    pub product: &'a Product<'a>,
    pub tiles: &'a Tiles,
    pub shared: &'a SharedPacks,
    pub rows: Range<usize>,
    pub panels: Range<usize>,
    pub blocks: Range<usize>,
}

impl Item<'_> {
    /// All strips of the left operand are packed, then the panels of the right one meet them, a few at a time.
    fn with_left_resident(&self, worker: &mut Worker) {
        let kernel = self.product.kernel;
        let depth = self.depth();
        let in_place = self.shared.left.is_none() && self.left_in_place();
        let mut left = std::ptr::null_mut();
        if !in_place && self.shared.left.is_none() {
            left = worker.left.reserve(self.left_offset(self.rows.end));
            self.pack_left(self.rows.clone(), left);
        }
        let strip = |tile: usize| {
            let step = self.tiles.height(tile);
            match self.shared.left {
                Some(all) => {
                    let rows = self.tiles.start(tile) * kernel.left.words(self.product.a.cols());
                    Words { start: all.at(rows + kernel.left.words(depth.start) * step), step }
                }
                None if in_place => self.left_words(tile),
                None => Words { start: left.wrapping_add(self.left_offset(tile)), step },
            }
        };
        let panels = match self.product.right {
            Right::Packed(panels, ..) => Some(panels),
            Right::Unpacked(_) => self.shared.right,
        };
        match (panels, self.product.right) {
            (Some(b), _) => {
                for panel in self.panels.clone() {
                    let right = Words { start: b.at(panel, depth.start), step: kernel.columns };
                    let following = next(panel..panel + 1, &self.panels).start;
                    let words = self.right_words(1, depth.len());
                    self.meet_panel(
                        panel,
                        strip,
                        right,
                        &mut Ahead::words(b.at(following, depth.start), words),
                    );
                }
            }
            (None, Right::Packed(..)) => unreachable!("panels were packed before"),
            (None, Right::Unpacked(b)) => {
                let in_place = b.element() == Element::F32
                    && kernel.right == Format::F32
                    && self.rows.len() <= super::cut::FEW_TILES
                    && b.col_stride() == 1
                    && b.row_stride() < kernel.far();
                // Vectors are read whole, so the last columns are packed, with zeros beside them.
                let usable = if in_place { b.cols() / kernel.columns } else { 0 };
                for panel in self.panels.start..usable.min(self.panels.end) {
                    let start = b.at(depth.start, panel * kernel.columns).cast();
                    self.meet_panel(
                        panel,
                        strip,
                        Words { start, step: b.row_stride() },
                        &mut Ahead::nothing(),
                    );
                }
                let panels = self.panels.start.max(usable)..self.panels.end;
                let size = group(kernel, kernel.columns, b.row_stride());
                let right = worker.right.reserve(self.right_words(size, depth.len()));
                for first in panels.clone().step_by(size) {
                    let group = first..(first + size).min(panels.end);
                    self.pack_right(b, group.clone(), right);
                    let mut ahead =
                        Ahead::strip(&right_strip(kernel, b, next(group.clone(), &panels), depth.clone()));
                    for (index, panel) in group.enumerate() {
                        let start = right.wrapping_add(self.right_words(index, depth.len()));
                        self.meet_panel(panel, strip, Words { start, step: kernel.columns }, &mut ahead);
                    }
                }
            }
        }
    }

    /// One panel, and all of the left strips.
    fn meet_panel(&self, panel: usize, strip: impl Fn(usize) -> Words, right: Words, ahead: &mut Ahead) {
        for block in self.blocks.clone() {
            for tile in self.rows.clone() {
                self.multiply(tile, panel, block, strip(tile), right, ahead);
            }
        }
    }

    /// All panels of the right operand are packed, then the strips of the left one meet them, a few at a time.
    fn with_right_resident(&self, b: View, worker: &mut Worker) {
        let Product { kernel, a, .. } = self.product;
        let depth = self.depth();
        let right = worker.right.reserve(self.right_words(self.panels.len(), depth.len()));
        self.pack_right(b, self.panels.clone(), right);
        let in_place = self.left_in_place();
        let size = group(kernel, kernel.rows, a.col_stride());
        let left = worker.left.reserve(size * kernel.rows * kernel.left.words(depth.len()));
        for first in self.rows.clone().step_by(size) {
            let group = first..(first + size).min(self.rows.end);
            let mut ahead = Ahead::nothing();
            if !in_place {
                self.pack_left(group.clone(), left);
                ahead = Ahead::strip(&self.left_strip(next(group.clone(), &self.rows), depth.clone()));
            }
            let before = self.left_offset(first);
            for tile in group {
                let start = left.wrapping_add(self.left_offset(tile) - before);
                let packed = Words { start, step: self.tiles.height(tile) };
                let strip = if in_place { self.left_words(tile) } else { packed };
                for (index, panel) in self.panels.clone().enumerate() {
                    let start = right.wrapping_add(self.right_words(index, depth.len()));
                    for block in self.blocks.clone() {
                        self.multiply(
                            tile,
                            panel,
                            block,
                            strip,
                            Words { start, step: kernel.columns },
                            &mut ahead,
                        );
                    }
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
        left: Words,
        right: Words,
        ahead: &mut Ahead,
    ) {
        let Product { kernel, c, a, .. } = self.product;
        let (first_row, height) = (self.tiles.start(tile), self.tiles.height(tile));
        let first_column = panel * kernel.columns;
        let columns = kernel.columns.min(self.product.columns - first_column);
        let before = (block - self.blocks.start) * kernel.block;
        let tile = Tile {
            left: left.advanced(kernel.left.words(before)),
            right: right.advanced(kernel.right.words(before)),
            depth: block_range(block, kernel.block, a.cols()).len(),
            c: c.at(first_row, first_column),
            c_stride: c.row_stride(),
            columns,
            add: self.product.add || block > 0,
            ahead: ahead.next().unwrap_or(Unit::nothing(right.start)),
            goal: (c.at(first_row, first_column), c.row_stride()),
        };
        // SAFETY: both strips were packed for this kernel, or lie in A or B as it wants them; the rows and columns
        // lie in C and belong to this item alone; `select` chose a kernel that the processor can run.
        unsafe { kernel.tile(height, columns)(&tile) }
    }

    /// Whether the rows of A lie as a strip does, and packing them would not pay.
    fn left_in_place(&self) -> bool {
        let Product { kernel, a, .. } = self.product;
        let few = self.panels.len() <= FEW_PANELS;
        few && a.element() == Element::F32
            && kernel.left == Format::F32
            && a.row_stride() == 1
            && a.col_stride() < kernel.far()
    }

    /// A tile's rows where they lie.
    fn left_words(&self, tile: usize) -> Words {
        let a = self.product.a;
        Words { start: a.at(self.tiles.start(tile), self.depth().start).cast(), step: a.col_stride() }
    }

    /// Packs some tiles' rows, each tile's strip after the one before.
    pub fn pack_left(&self, tiles: Range<usize>, target: *mut u32) {
        let Product { kernel, a, .. } = self.product;
        let start = self.left_offset(tiles.start);
        for depth in self.portions(tiles.len(), a.col_stride()) {
            let before = kernel.left.words(depth.start - self.depth().start);
            for tile in tiles.clone() {
                let strip = self.left_strip(tile..tile + 1, depth.clone());
                let target = target.wrapping_add(self.left_offset(tile) - start + before * strip.lanes);
                // SAFETY: the strip lies in A; the caller's loan has room for these tiles.
                unsafe { kernel.pack(target, strip.lanes, &strip, kernel.left) }
            }
        }
    }

    /// Packs some panels of B one after the other.
    pub fn pack_right(&self, b: View, panels: Range<usize>, target: *mut u32) {
        let kernel = self.product.kernel;
        for depth in self.portions(panels.len(), b.row_stride()) {
            let before = self.right_words(1, depth.start - self.depth().start);
            for (index, panel) in panels.clone().enumerate() {
                let strip = right_strip(kernel, b, panel..panel + 1, depth.clone());
                let target = target.wrapping_add(self.right_words(index, self.depth().len()) + before);
                // SAFETY: the strip lies in B; the caller's loan has room for these panels.
                unsafe { kernel.pack(target, kernel.columns, &strip, kernel.right) }
            }
        }
    }

    /// The item's values of K, all at once, or few enough that a cache line which two strips share is still near
    /// when the second one is packed.
    fn portions(&self, strips: usize, depth_stride: usize) -> impl Iterator<Item = Range<usize>> {
        let Range { start, end } = self.depth();
        let kernel = self.product.kernel;
        let size = if strips > 1 && depth_stride >= kernel.far() { kernel.portion() } else { end - start };
        (start..end).step_by(size).map(move |first| first..(first + size).min(end))
    }

    /// The item's values of K.
    pub fn depth(&self) -> Range<usize> {
        let (block, depth) = (self.product.kernel.block, self.product.a.cols());
        block_range(self.blocks.start, block, depth).start..block_range(self.blocks.end - 1, block, depth).end
    }

    /// Words from the item's first left strip to that of `tile`.
    pub fn left_offset(&self, tile: usize) -> usize {
        let rows = self.tiles.start(tile) - self.tiles.start(self.rows.start);
        rows * self.product.kernel.left.words(self.depth().len())
    }

    /// Words of so many panels.
    pub fn right_words(&self, panels: usize, depth: usize) -> usize {
        panels * self.product.kernel.columns * self.product.kernel.right.words(depth)
    }

    fn left_strip(&self, tiles: Range<usize>, depth: Range<usize>) -> Strip {
        let a = self.product.a;
        let first = self.tiles.start(tiles.start);
        let lanes = self.tiles.start(tiles.end) - first;
        Strip {
            data: a.at(first, depth.start),
            element: a.element(),
            lane_stride: a.row_stride(),
            depth_stride: a.col_stride(),
            lanes,
            padded_lanes: lanes,
            depth: depth.len(),
        }
    }
}

/// The strip of some panels of B.
pub(super) fn right_strip(kernel: &Kernel, b: View, panels: Range<usize>, depth: Range<usize>) -> Strip {
    let first = panels.start * kernel.columns;
    let columns = (panels.len() * kernel.columns).min(b.cols() - first);
    Strip {
        data: b.at(depth.start, first),
        element: b.element(),
        lane_stride: b.col_stride(),
        depth_stride: b.row_stride(),
        lanes: columns,
        padded_lanes: kernel.padded(columns),
        depth: depth.len(),
    }
}

/// Strips of the streaming operand that are packed together.
fn group(kernel: &Kernel, width: usize, depth_stride: usize) -> usize {
    if depth_stride >= kernel.far() { (GROUP / width).max(1) } else { 1 }
}

/// The group after `group`; after the last one, the first.
fn next(group: Range<usize>, all: &Range<usize>) -> Range<usize> {
    let first = if group.end < all.end { group.end } else { all.start };
    first..(first + group.len()).min(all.end)
}

/// What a thread packs into.
struct Worker {
    left: Loan,
    right: Loan,
    _session: Session,
}

impl Worker {
    fn new(kernel: &Kernel) -> Self {
        Self { left: Loan::take(Kind::Left), right: Loan::take(Kind::Right), _session: kernel.session() }
    }
}
