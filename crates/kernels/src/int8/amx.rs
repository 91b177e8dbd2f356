//! Many rows by tiles of integers (AMX): sixteen rows times a panel in one instruction.
//!
//! A thread takes a few panels and unpacks a stretch of K of them to signed bytes, which stay in its level-2 cache while all
//! rows go by; sums stay beside them between stretches. What tiles give is exact in integers; vectors make floats of it
//! while the next tiles are multiplied ([`super::amx_short`], [`super::amx_long`]).

use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;

use super::activations::{Row, Rows, TILE};
use super::ahead::Ahead;
use super::layout::{Kind, LANES, LINE};
use super::matrix::{Matrix, Panel};
use super::{amx_long, amx_short, share, store};
use crate::buffer::Buffer;
use crate::gemm::ViewMut;
use crate::gemm::amx::{Configuration, Configured};
use crate::isa::{self, Isa};

/// Rows from which on tiles are faster than vectors, although some of theirs stay empty.
pub(super) const FEWEST: usize = 7;
/// Panels of an item: for each stretch of K a tile of rows is brought near once for all of them.
///
/// What is unpacked of them, 16 KiB, stays in the level-1 cache.
const PANELS: usize = 2;
/// Tiles of rows whose sums are kept at once: 256 KiB with those panels.
const TILES: usize = 128;
/// How many stretches ahead weights are asked for. They come from memory, in some hundred nanoseconds.
const AHEAD: usize = 4;
/// Bytes of rows that go by while panels change, about half of a level-2 cache; and tiles that are not fewer whatever they
/// take, so that unpacking stays a small part.
const RESIDENT: usize = 1 << 20;
const FEWEST_TILES: usize = 8;
/// Sums of a tile and a panel.
pub(super) const SUMS: usize = TILE * LANES;

/// Whether this thread may use tiles of integers.
pub(super) fn available() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    // Leaf 7 EDX: bit 25 AMX-INT8. That the system permits tiles is part of the level.
    isa::current() == Isa::Amx
        && *HAS.get_or_init(|| {
            std::arch::x86_64::__cpuid_count(7, 0).edx >> 25 & 1 == 1
                && std::is_x86_feature_detected!("avx512vnni")
        })
}

/// What a thread needs beside its registers. The memory is kept for its next product.
struct Scratch {
    memory: Buffer,
    /// Places of the panels' codes, a signed byte each, and of their scales; sums are behind them.
    codes: usize,
    scales: usize,
    _tiles: Configured,
}

thread_local! {
    static KEPT: Cell<Buffer> = Cell::default();
}

impl Scratch {
    /// # Safety
    /// [`available`] has returned true.
    unsafe fn new(shape: Shape, tiles: usize, configuration: &'static Configuration) -> Self {
        let codes = PANELS * shape.stretch * shape.codes / size_of::<f32>();
        // Long blocks' scales are still read while the next ones are unpacked.
        let scales = 2 * PANELS * shape.stretch * shape.scales;
        // As many for an even number of tiles.
        let needed = codes + scales + PANELS * TILES.min(tiles).next_multiple_of(2) * SUMS;
        let kept = KEPT.take();
        let memory = if kept.len() < needed { Buffer::zeros(needed) } else { kept };
        // SAFETY: the caller's contract.
        Self { memory, codes, scales, _tiles: unsafe { Configured::begin(configuration) } }
    }

    fn parts(&mut self) -> (&mut [i8], &mut [f32], &mut [f32]) {
        let (codes, rest) = self.memory.split_at_mut(self.codes);
        let (scales, sums) = rest.split_at_mut(self.scales);
        (bytemuck::cast_slice_mut(codes), scales, sums)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        KEPT.set(std::mem::take(&mut self.memory));
    }
}

/// The product of rows that lie in tiles.
///
/// # Safety
/// [`available`] has returned true.
pub(super) unsafe fn product(y: &ViewMut, rows: &Rows, weights: &Matrix, add: bool) {
    // SAFETY: the caller's contract.
    unsafe {
        match rows.count() {
            0..=8 => product_of::<8>(y, rows, weights, add),
            _ => product_of::<TILE>(y, rows, weights, add),
        }
    }
}

/// The product of tiles with so many rows.
///
/// # Safety
/// [`available`] has returned true.
unsafe fn product_of<const ROWS: usize>(y: &ViewMut, rows: &Rows, weights: &Matrix, add: bool) {
    let (panels, tiles) = (weights.panels(), rows.count().div_ceil(TILE));
    let (shape, configuration) = match weights.kind().block() {
        32 => (
            Shape {
                stretch: amx_short::STRETCH.min(weights.blocks()),
                codes: amx_short::CODE_BYTES,
                scales: amx_short::SCALES,
            },
            if ROWS == TILE { &amx_short::TILES } else { &amx_short::EIGHT_ROWS },
        ),
        _ => (
            Shape {
                stretch: amx_long::STRETCH.min(weights.blocks()),
                codes: amx_long::CODE_BYTES,
                scales: amx_long::SCALES,
            },
            if ROWS == TILE { &amx_long::TILES } else { &amx_long::EIGHT_ROWS },
        ),
    };
    let chunk = tiles_at_once(rows, tiles);
    // SAFETY: the caller's contract.
    let scratch = || unsafe { Scratch::new(shape, chunk, configuration) };
    // All panels with some tiles of rows before all with the next.
    let (items, chunks) = (panels.div_ceil(PANELS), tiles.div_ceil(chunk));
    share::run(rayon::current_num_threads(), chunks * items, &scratch, &|scratch, item| {
        let (first, panel) = (item / items * chunk, item % items * PANELS);
        let item = Item {
            rows,
            weights,
            panels: panel..panels.min(panel + PANELS),
            tiles: first..tiles.min(first + chunk),
            shape,
        };
        // SAFETY: the caller's contract; the scratch is configured and has room for the shape.
        unsafe {
            match weights.kind() {
                Kind::Q8_0 | Kind::Q4_0 => item.short::<ROWS>(scratch),
                Kind::Q4K => item.long::<true, ROWS>(scratch),
                Kind::Q6K => item.long::<false, ROWS>(scratch),
                kind => unreachable!("blocks of {kind:?} are not rounded for tiles"),
            }
            item.store(y, scratch.parts().2, add);
        }
    });
}

/// Tiles of rows that meet all panels before others do: so many that a thread's level-2 cache keeps them, and evenly cut.
fn tiles_at_once(rows: &Rows, tiles: usize) -> usize {
    let most = (RESIDENT / rows.tile(0).bytes()).clamp(FEWEST_TILES, TILES);
    tiles.div_ceil(tiles.div_ceil(most)).next_multiple_of(2).min(tiles)
}

/// Blocks that are unpacked at a time, and what each takes: bytes of codes and places of scales.
#[derive(Clone, Copy)]
struct Shape {
    stretch: usize,
    codes: usize,
    scales: usize,
}

/// Some panels and tiles of rows.
#[derive(Clone)]
struct Item<'a> {
    rows: &'a Rows,
    weights: &'a Matrix,
    panels: Range<usize>,
    tiles: Range<usize>,
    shape: Shape,
}

impl Item<'_> {
    /// Places of a panel's sums.
    fn sums(&self) -> usize {
        self.tiles.len().next_multiple_of(2) * SUMS
    }

    fn stretches(&self) -> usize {
        self.weights.blocks().div_ceil(self.shape.stretch)
    }

    fn stretch(&self, index: usize) -> Range<usize> {
        let start = index * self.shape.stretch;
        start..self.weights.blocks().min(start + self.shape.stretch)
    }

    /// What will be unpacked [`AHEAD`] stretches after this one, asked for at so many times: of each panel codes and scales.
    fn weights_ahead(&self, stretch: usize, times: usize) -> Ahead<'_, { 2 * PANELS }> {
        let (kind, stretch) = (self.weights.kind(), stretch + AHEAD);
        let (items, blocks) = (stretch / self.stretches(), self.stretch(stretch % self.stretches()));
        let mut parts = [&[][..]; 2 * PANELS];
        let panels = self.panels.start + items * PANELS..self.weights.panels();
        for (panel, parts) in panels.zip(parts.chunks_exact_mut(2)) {
            let Panel { codes, scales } = self.weights.panel(panel);
            parts[0] = &codes[blocks.start * kind.code_lines() * LINE..blocks.end * kind.code_lines() * LINE];
            parts[1] = &scales[blocks.start * kind.scale_bytes()..blocks.end * kind.scale_bytes()];
        }
        Ahead::new(parts, times)
    }

    /// Rows of a tile, or after the last one of the first one in the next stretch, asked for at so many times.
    fn rows_ahead(&self, tile: usize, stretch: usize, times: usize) -> Ahead<'_, 2> {
        let block = self.weights.kind().block();
        let (tile, stretch) = if tile < self.tiles.len() { (tile, stretch) } else { (0, stretch + 1) };
        let mut parts = [&[][..]; 2];
        if stretch < self.stretches() {
            let blocks = self.stretch(stretch);
            let Row { codes, scales, .. } = self.rows.tile(self.tiles.start + tile);
            let codes = &codes[blocks.start * block * TILE..blocks.end * block * TILE];
            let scales = &scales[blocks.start * TILE..blocks.end * TILE];
            parts = [bytemuck::cast_slice(codes), bytemuck::cast_slice(scales)];
        }
        Ahead::new(parts, times)
    }

    /// # Safety
    /// The processor has the instructions; the tiles are configured for short blocks and these rows; the scratch has room.
    #[target_feature(enable = "avx512f,avx512bw,f16c")]
    unsafe fn short<const ROWS: usize>(&self, scratch: &mut Scratch) {
        let Shape { stretch, codes: code_bytes, scales: places } = self.shape;
        let (codes, scales, sums) = scratch.parts();
        sums[..self.panels.len() * self.sums()].fill(0.0);
        for index in 0..self.stretches() {
            let blocks = self.stretch(index);
            let to = codes
                .chunks_exact_mut(stretch * code_bytes)
                .zip(scales[..PANELS * stretch * places].chunks_exact_mut(stretch * places));
            for (panel, (codes, scales)) in self.panels.clone().zip(to) {
                // SAFETY: the caller's contract.
                unsafe {
                    let panel = self.weights.panel(panel);
                    amx_short::unpack(self.weights.kind(), panel, blocks.clone(), codes, scales);
                }
            }
            let times = self.panels.len() * (blocks.len() / 2);
            let mut weights = self.weights_ahead(index, times * self.tiles.len());
            for at in 0..self.tiles.len() {
                let mut rows = self.rows_ahead(at + 1, index, times);
                for panel in 0..self.panels.len() {
                    let codes = codes[panel * stretch * code_bytes..].as_ptr();
                    let scales = scales[panel * stretch * places..].as_ptr();
                    let sums = sums[panel * self.sums() + at * SUMS..][..SUMS].as_mut_ptr();
                    let between = || {
                        rows.ask_near();
                        weights.ask();
                    };
                    let row = self.rows.tile(self.tiles.start + at);
                    // SAFETY: the caller's contract.
                    unsafe {
                        amx_short::multiply::<ROWS>(row, blocks.clone(), codes, scales, sums, between);
                    }
                }
            }
        }
    }

    /// # Safety
    /// The processor has the instructions; the tiles are configured for long blocks and these rows; the scratch has room.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,f16c")]
    unsafe fn long<const MINIMA: bool, const ROWS: usize>(&self, scratch: &mut Scratch) {
        let Shape { stretch, codes: code_bytes, scales: places } = self.shape;
        let (codes, scales, sums) = scratch.parts();
        sums[..self.panels.len() * self.sums()].fill(0.0);
        let mut pipeline = amx_long::Pipeline::<MINIMA, ROWS>::new();
        for index in 0..self.stretches() {
            let blocks = self.stretch(index);
            // Those of the stretch before are still needed.
            let scales = &mut scales[index % 2 * PANELS * stretch * places..][..PANELS * stretch * places];
            let to =
                codes.chunks_exact_mut(stretch * code_bytes).zip(scales.chunks_exact_mut(stretch * places));
            for (panel, (codes, scales)) in self.panels.clone().zip(to) {
                // SAFETY: the caller's contract.
                unsafe {
                    let panel = self.weights.panel(panel);
                    amx_long::unpack(self.weights.kind(), panel, blocks.clone(), codes, scales);
                }
            }
            let unpacked = |panel: usize, block: usize| amx_long::Unpacked {
                codes: codes[(panel * stretch + block) * code_bytes..][..code_bytes].as_ptr(),
                scales: scales[(panel * stretch + block) * places..][..places].as_ptr(),
            };
            let places = self.sums();
            let mut sum =
                |panel: usize, tile: usize| sums[panel * places + tile * SUMS..][..SUMS].as_mut_ptr();
            let tile = |tile: usize| self.rows.tile(self.tiles.start + tile);
            let times = amx_long::STEPS * blocks.len();
            let two_tiles = self.panels.len() * (self.tiles.len() / 2);
            let mut weights = self.weights_ahead(index, times * (two_tiles + self.tiles.len() % 2));
            for at in (0..self.tiles.len()).step_by(2) {
                let single = at + 1 == self.tiles.len();
                // Asking for rows too made it slower: they fill the level-1 cache.
                let mut between = || weights.ask();
                if single {
                    for (index, block) in blocks.clone().enumerate() {
                        let panels = [unpacked(0, index), unpacked(1, index)];
                        let sums = [sum(0, at), sum(1, at)];
                        // SAFETY: the caller's contract. Of a second panel that is not there nobody reads the sums.
                        unsafe { pipeline.add_two_panels(tile(at), block, panels, sums, &mut between) }
                    }
                    continue;
                }
                for panel in 0..self.panels.len() {
                    for (index, block) in blocks.clone().enumerate() {
                        let (rows, sums) = ([tile(at), tile(at + 1)], [sum(panel, at), sum(panel, at + 1)]);
                        // SAFETY: the caller's contract.
                        unsafe {
                            pipeline.add_two_tiles(rows, block, unpacked(panel, index), sums, &mut between);
                        }
                    }
                }
            }
        }
        // SAFETY: the caller's contract.
        unsafe { pipeline.finish() }
    }

    /// # Safety
    /// The processor has the instructions; nobody else writes these columns.
    #[target_feature(enable = "avx512f")]
    unsafe fn store(&self, y: &ViewMut, sums: &[f32], add: bool) {
        let rows = self.tiles.start * TILE..self.rows.count().min(self.tiles.end * TILE);
        for (panel, sums) in self.panels.clone().zip(sums.chunks_exact(self.sums())) {
            for (row, sums) in rows.clone().zip(sums.as_chunks().0) {
                // SAFETY: each panel's columns are written by one thread, and each row once.
                unsafe { store(y, row, panel, sums, add) }
            }
        }
    }
}
