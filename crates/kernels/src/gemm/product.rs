//! One product: how C is cut, what is packed when, and in which order tiles are multiplied.
//!
//! The right operand is packed in chunks, once for all threads. Then each thread takes blocks of C, packs the rows
//! of the left operand that belong to it, and goes through its panels: a panel's block of K stays in the level-1
//! cache while the strips of the left operand pass by from level 2, and a tile of C is finished before it leaves
//! the caches.

use super::crew::{self, Phases};
use super::kernel::{K_BLOCK, Kernel, Strip, Tile};
use super::packed::Packed;
use super::scratch::{Kind, Loan};
use super::{Accumulate, View, ViewMut};
use std::ops::Range;

/// Words of the left operand that a thread packs at once: half of a level-2 cache of 1 MiB and more.
const LEFT_WORDS: usize = 144 * 1024;
/// Words of the right operand that are packed at once for all threads.
const RIGHT_WORDS: usize = 2048 * 1024;
/// Blocks of K that are packed at once, unless the right operand is packed already.
const DEPTH_BLOCKS: usize = 4;
/// Below so many multiplications a second thread costs more than it saves.
const SERIAL: usize = 96 * 96 * 96;

/// The right operand.
pub(super) enum Right<'a> {
    Unpacked(View<'a>),
    Packed(&'a Packed),
}

/// C = A B or C += A B, cut for a kernel and a number of threads.
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
        let plan = Plan::new(&self, threads);
        let mut loan = Loan::take(Kind::Right);
        let shared = match self.right {
            Right::Unpacked(_) => Shared(loan.reserve(plan.right_words(self.kernel))),
            Right::Packed(_) => Shared(std::ptr::null_mut()),
        };
        crew::run(threads, &plan.phases, &|| Worker::new(), &|worker, phase, index| {
            let chunk = plan.chunk(phase / 2);
            if phase.is_multiple_of(2) {
                self.pack_right(&chunk, shared, index);
            } else {
                self.multiply(&plan, &chunk, shared, worker, phase, index);
            }
        });
    }

    fn clear(&self) {
        for row in 0..self.c.rows() {
            // SAFETY: the row belongs to C, which is borrowed exclusively.
            unsafe { self.c.at(row, 0).write_bytes(0, self.columns) }
        }
    }

    /// Packs one block of K of one panel of the chunk.
    fn pack_right(&self, chunk: &Chunk, shared: Shared, index: usize) {
        let Right::Unpacked(b) = self.right else { return };
        let (block, panel) = (index / chunk.stride, index % chunk.stride);
        if block >= chunk.blocks.len() || panel >= chunk.panels.len() {
            return;
        }
        let first = (chunk.panels.start + panel) * self.kernel.columns;
        let depth = block_range(chunk.blocks.start + block, b.rows());
        let strip = right_strip(self.kernel, b, first, depth);
        let target = shared.at(chunk.offset(self.kernel, block, panel));
        // SAFETY: the strip lies in B; the place is this item's own, and `right_words` counted it.
        unsafe { (self.kernel.pack)(target, self.kernel.columns, &strip, self.kernel.right) }
    }

    /// Multiplies one block of C: some tiles' rows, some panels, the chunk's part of K.
    fn multiply(
        &self,
        plan: &Plan,
        chunk: &Chunk,
        shared: Shared,
        worker: &mut Worker,
        phase: usize,
        index: usize,
    ) {
        let (row_block, group) = (index / plan.groups, index % plan.groups);
        let tiles = part(plan.tiles.count, plan.row_blocks, row_block);
        let panels = part(chunk.panels.len(), plan.groups, group);
        if panels.is_empty() {
            return;
        }
        let rows = plan.tiles.start(tiles.start)..plan.tiles.start(tiles.end);
        let left = worker.loan.reserve(rows.len() * chunk.blocks.len() * K_BLOCK);
        if worker.packed != Some((phase, row_block)) {
            self.pack_left(plan, chunk, &tiles, left);
            worker.packed = Some((phase, row_block));
        }
        for panel in panels {
            let first = (chunk.panels.start + panel) * self.kernel.columns;
            let columns = self.kernel.columns.min(self.columns - first);
            for block in 0..chunk.blocks.len() {
                let number = chunk.blocks.start + block;
                let depth = block_range(number, self.a.cols()).len();
                let words = self.kernel.left.words(depth);
                let right = match self.right {
                    Right::Unpacked(_) => shared.at(chunk.offset(self.kernel, block, panel)).cast_const(),
                    Right::Packed(b) => b.at(chunk.panels.start + panel, number * K_BLOCK),
                };
                let mut left = left.wrapping_add(rows.len() * block * K_BLOCK).cast_const();
                for tile in tiles.clone() {
                    let start = plan.tiles.start(tile);
                    let height = plan.tiles.start(tile + 1) - start;
                    let job = Tile {
                        left,
                        right,
                        depth,
                        c: self.c.at(start, first),
                        c_stride: self.c.row_stride(),
                        columns,
                        add: self.add || number > 0,
                    };
                    // SAFETY: both strips were packed for this kernel; the rows and columns lie in C and belong
                    // to this item alone; `select` chose a kernel that the processor can run.
                    unsafe { self.kernel.tile(height, columns)(&job) }
                    left = left.wrapping_add(height * words);
                }
            }
        }
    }

    /// Packs the rows of some tiles, block of K after block of K, strip after strip.
    fn pack_left(&self, plan: &Plan, chunk: &Chunk, tiles: &Range<usize>, left: *mut u32) {
        let rows = plan.tiles.start(tiles.end) - plan.tiles.start(tiles.start);
        for (block, number) in chunk.blocks.clone().enumerate() {
            let depth = block_range(number, self.a.cols());
            let mut target = left.wrapping_add(rows * block * K_BLOCK);
            for tile in tiles.clone() {
                let start = plan.tiles.start(tile);
                let height = plan.tiles.start(tile + 1) - start;
                let strip = Strip {
                    data: self.a.at(start, depth.start),
                    lane_stride: self.a.row_stride(),
                    depth_stride: self.a.col_stride(),
                    lanes: height,
                    padded_lanes: height,
                    depth: depth.len(),
                };
                // SAFETY: the strip lies in A; the worker reserved room for all its rows and blocks.
                unsafe { (self.kernel.pack)(target, height, &strip, self.kernel.left) }
                target = target.wrapping_add(height * self.kernel.left.words(depth.len()));
            }
        }
    }
}

/// The strip of a panel of B that begins at column `first`.
pub(super) fn right_strip(kernel: &Kernel, b: View, first: usize, depth: Range<usize>) -> Strip {
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

/// How C is cut.
struct Plan {
    tiles: Tiles,
    /// Blocks of rows in a chunk, and groups of panels; each pair is an item.
    row_blocks: usize,
    groups: usize,
    panels: usize,
    blocks: usize,
    chunk_panels: usize,
    chunk_blocks: usize,
    phases: Phases,
}

/// A part of the right operand that is packed at once.
struct Chunk {
    panels: Range<usize>,
    blocks: Range<usize>,
    /// Panels from one block of K to the next in memory.
    stride: usize,
}

impl Plan {
    fn new(product: &Product, threads: usize) -> Self {
        let kernel = product.kernel;
        let rows = product.a.rows();
        let tiles = Tiles { rows, count: rows.div_ceil(kernel.rows) };
        let panels = product.columns.div_ceil(kernel.columns);
        let blocks = product.a.cols().div_ceil(K_BLOCK);
        let packed = matches!(product.right, Right::Packed(_));

        let most = if packed { LEFT_WORDS / (rows.min(kernel.rows) * K_BLOCK) } else { DEPTH_BLOCKS };
        let chunk_blocks = blocks.min(most.max(1));
        let depth_chunks = blocks.div_ceil(chunk_blocks);
        let chunk_blocks = blocks.div_ceil(depth_chunks);
        let most = if packed { panels } else { RIGHT_WORDS / (chunk_blocks * K_BLOCK * kernel.columns) };
        let column_chunks = panels.div_ceil(most.max(1));
        let chunk_panels = panels.div_ceil(column_chunks);

        let tallest = (LEFT_WORDS / (chunk_blocks * K_BLOCK * kernel.rows)).max(1);
        let row_blocks = tiles.count.div_ceil(tallest);
        let wanted = if threads > 1 { 4 * threads } else { 1 };
        let (row_blocks, groups) = if row_blocks >= wanted {
            (row_blocks, 1)
        } else {
            let row_blocks = row_blocks.max(tiles.count.min(wanted).min(tiles.count / 4));
            (row_blocks, wanted.div_ceil(row_blocks).min(chunk_panels))
        };
        let pack_items = if packed { 0 } else { chunk_blocks * chunk_panels };
        let phases =
            Phases { count: 2 * depth_chunks * column_chunks, items: [pack_items, row_blocks * groups] };
        Self { tiles, row_blocks, groups, panels, blocks, chunk_panels, chunk_blocks, phases }
    }

    /// Chunks run through K first: C is finished column by column.
    fn chunk(&self, number: usize) -> Chunk {
        let depth_chunks = self.blocks.div_ceil(self.chunk_blocks);
        let (column, depth) = (number / depth_chunks, number % depth_chunks);
        let panel = column * self.chunk_panels;
        let block = depth * self.chunk_blocks;
        Chunk {
            panels: panel..(panel + self.chunk_panels).min(self.panels),
            blocks: block..(block + self.chunk_blocks).min(self.blocks),
            stride: self.chunk_panels,
        }
    }

    fn right_words(&self, kernel: &Kernel) -> usize {
        self.chunk_blocks * self.chunk_panels * kernel.right.words(K_BLOCK) * kernel.columns
    }
}

impl Chunk {
    fn offset(&self, kernel: &Kernel, block: usize, panel: usize) -> usize {
        (block * self.stride + panel) * kernel.right.words(K_BLOCK) * kernel.columns
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
pub(super) fn block_range(number: usize, depth: usize) -> Range<usize> {
    let start = number * K_BLOCK;
    start..(start + K_BLOCK).min(depth)
}

/// Where the packed chunk of the right operand lies.
#[derive(Clone, Copy)]
struct Shared(*mut u32);

// SAFETY: items write to places of their own, and read them only in a later phase.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(self, offset: usize) -> *mut u32 {
        self.0.wrapping_add(offset)
    }
}

/// What a thread keeps from item to item.
struct Worker {
    loan: Loan,
    /// The phase and the block of rows that are packed in the loan.
    packed: Option<(usize, usize)>,
}

impl Worker {
    fn new() -> Self {
        Self { loan: Loan::take(Kind::Left), packed: None }
    }
}
