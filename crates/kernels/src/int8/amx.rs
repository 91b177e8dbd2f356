//! Many rows by tiles of integers (AMX): sixteen rows times a panel in one instruction.
//!
//! A thread takes a few panels and unpacks a stretch of K of them to signed bytes, which stay in its level-2 cache while all
//! rows go by; sums stay beside them between stretches. What tiles give is exact in integers; vectors make floats of it
//! while the next tiles are multiplied ([`super::amx_short`], [`super::amx_long`]).

use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;

use super::activations::{Row, Rows, TILE};
use super::layout::{Kind, LANES};
use super::matrix::Matrix;
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
        let scales = PANELS * shape.stretch * shape.scales;
        // Two tiles of rows are multiplied together, although there may be one.
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
    let (panels, tiles) = (weights.panels(), rows.count().div_ceil(TILE));
    let shape = match weights.kind() {
        Kind::Q8_0 | Kind::Q4_0 => Shape {
            stretch: amx_short::STRETCH.min(weights.blocks()),
            codes: amx_short::CODE_BYTES,
            scales: amx_short::SCALES,
        },
        Kind::Q4K | Kind::Q6K => Shape {
            stretch: amx_long::STRETCH.min(weights.blocks()),
            codes: amx_long::CODE_BYTES,
            scales: amx_long::SCALES,
        },
    };
    let configuration = if weights.kind().block() == 32 { &amx_short::TILES } else { &amx_long::TILES };
    // SAFETY: the caller's contract.
    let scratch = || unsafe { Scratch::new(shape, tiles, configuration) };
    share::run(rayon::current_num_threads(), panels.div_ceil(PANELS), &scratch, &|scratch, item| {
        let item = Item {
            rows,
            weights,
            panels: item * PANELS..panels.min((item + 1) * PANELS),
            tiles: 0..0,
            shape,
        };
        for first in (0..tiles).step_by(TILES) {
            let item = Item { tiles: first..tiles.min(first + TILES), ..item.clone() };
            // SAFETY: the caller's contract; the scratch is configured and has room for the shape.
            unsafe {
                match weights.kind() {
                    Kind::Q8_0 | Kind::Q4_0 => item.short(scratch),
                    Kind::Q4K => item.long::<true>(scratch),
                    Kind::Q6K => item.long::<false>(scratch),
                }
                item.store(y, scratch.parts().2, add);
            }
        }
    });
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

    fn stretches(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (stretch, blocks) = (self.shape.stretch, self.weights.blocks());
        (0..blocks).step_by(stretch).map(move |start| start..blocks.min(start + stretch))
    }

    /// The tiles of rows by twos, a single last one twice.
    fn pairs(&self) -> impl Iterator<Item = (usize, [Row<'_>; 2])> {
        let last = self.tiles.len() - 1;
        let tile = |tile: usize| self.rows.tile(self.tiles.start + tile);
        (0..=last).step_by(2).map(move |at| (at, [tile(at), tile(last.min(at + 1))]))
    }

    /// # Safety
    /// The processor has the instructions; the tiles are configured for short blocks; the scratch has room.
    #[target_feature(enable = "avx512f,avx512bw,f16c")]
    unsafe fn short(&self, scratch: &mut Scratch) {
        let Shape { stretch, codes: code_bytes, scales: places } = self.shape;
        let (codes, scales, sums) = scratch.parts();
        sums[..self.panels.len() * self.sums()].fill(0.0);
        for blocks in self.stretches() {
            let to =
                codes.chunks_exact_mut(stretch * code_bytes).zip(scales.chunks_exact_mut(stretch * places));
            for (panel, (codes, scales)) in self.panels.clone().zip(to) {
                // SAFETY: the caller's contract.
                unsafe {
                    let panel = self.weights.panel(panel);
                    amx_short::unpack(self.weights.kind(), panel, blocks.clone(), codes, scales);
                }
            }
            for (at, pair) in self.pairs() {
                let both = if at + 1 < self.tiles.len() { 2 } else { 1 };
                for panel in 0..self.panels.len() {
                    let codes = codes[panel * stretch * code_bytes..].as_ptr();
                    let scales = scales[panel * stretch * places..].as_ptr();
                    let sums = &mut sums[panel * self.sums() + at * SUMS..][..both * SUMS];
                    for (row, sums) in pair.iter().zip(sums.chunks_exact_mut(SUMS)) {
                        // SAFETY: the caller's contract.
                        unsafe { amx_short::multiply(*row, blocks.clone(), codes, scales, sums.as_mut_ptr()) }
                    }
                }
            }
        }
    }

    /// # Safety
    /// The processor has the instructions; the tiles are configured for long blocks; the scratch has room.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,f16c")]
    unsafe fn long<const MINIMA: bool>(&self, scratch: &mut Scratch) {
        let Shape { stretch, codes: code_bytes, scales: places } = self.shape;
        let (codes, scales, sums) = scratch.parts();
        sums[..self.panels.len() * self.sums()].fill(0.0);
        let mut pipeline = amx_long::Pipeline::new();
        for blocks in self.stretches() {
            let to =
                codes.chunks_exact_mut(stretch * code_bytes).zip(scales.chunks_exact_mut(stretch * places));
            for (panel, (codes, scales)) in self.panels.clone().zip(to) {
                // SAFETY: the caller's contract.
                unsafe {
                    let panel = self.weights.panel(panel);
                    amx_long::unpack(self.weights.kind(), panel, blocks.clone(), codes, scales);
                }
            }
            for (at, pair) in self.pairs() {
                for panel in 0..self.panels.len() {
                    let codes = codes[panel * stretch * code_bytes..].as_ptr();
                    let scales = scales[panel * stretch * places..].as_ptr();
                    let sums = sums[panel * self.sums() + at * SUMS..][..2 * SUMS].as_mut_ptr();
                    // SAFETY: the caller's contract; nothing moves before the pipeline is finished.
                    unsafe { pipeline.add::<MINIMA>(pair, blocks.clone(), codes, scales, sums) }
                }
            }
            // SAFETY: as above.
            unsafe { pipeline.finish::<MINIMA>() }
        }
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
