//! The vector, the tiles and the packing in plain Rust: the specification of the others.

use super::kernel::{Format, Kernel, Strip, Tile, tiles};
use super::micro::{Single, Vector, Widening, multiply};
use crate::isa::{self, BASELINE_FUSES};

const LANES: usize = 8;

/// Products of f32.
pub(super) static F32: Kernel = Kernel {
    block: 256,
    rows: 4,
    columns: LANES,
    lanes: LANES,
    left: Format::F32,
    right: Format::F32,
    tiles: &[tiles!(single, 1, 1 2 3 4)],
    packer: pack,
    packs_bf16: false,
    needs_session: false,
};

/// Products of bf16 values, each held in an f32.
pub(super) static ROUNDED: Kernel = Kernel { left: Format::Rounded, right: Format::Rounded, ..F32 };

/// The same products with the right operand in half the memory.
pub(super) static WIDENING: Kernel =
    Kernel { left: Format::Rounded, right: Format::Pairs, tiles: &[tiles!(widening, 1, 1 2 3 4)], ..F32 };

/// Packs a strip, one value after the other.
///
/// # Safety
/// As [`super::kernel::PackFunction`].
#[inline(always)]
pub(super) unsafe fn pack(target: *mut u32, width: usize, strip: &Strip, format: Format) {
    for word in 0..format.words(strip.depth) {
        for lane in 0..strip.padded_lanes {
            let value = |depth: usize| {
                if lane >= strip.lanes || depth >= strip.depth {
                    return 0.0;
                }
                // SAFETY: lane and depth lie in the strip, all of whose values are readable.
                unsafe { *strip.data.add(lane * strip.lane_stride + depth * strip.depth_stride) }
            };
            let packed = match format {
                Format::F32 => value(word).to_bits(),
                Format::Rounded => round(value(word)) << 16,
                Format::Pairs | Format::PaddedPairs | Format::RowsOfPairs => {
                    round(value(2 * word)) | round(value(2 * word + 1)) << 16
                }
            };
            let place = match format {
                Format::RowsOfPairs => word / 16 * 16 * width + lane * 16 + word % 16,
                _ => word * width + lane,
            };
            // SAFETY: there is room for all words of the format at this pitch.
            unsafe { *target.add(place) = packed }
        }
    }
}

/// The nearest bf16, ties to even, in the lower half. A NaN stays one.
#[inline(always)]
fn round(value: f32) -> u32 {
    let bits = value.to_bits();
    if value.is_nan() { bits >> 16 | 0x40 } else { (bits + 0x7fff + (bits >> 16 & 1)) >> 16 }
}

/// # Safety
/// As [`super::kernel::TileFunction`].
unsafe fn single<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's contract is the same; every processor has the baseline.
    unsafe { multiply::<Single<Plain>, ROWS, VECTORS>(tile) }
}

/// # Safety
/// As [`super::kernel::TileFunction`].
unsafe fn widening<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller's contract is the same; every processor has the baseline.
    unsafe { multiply::<Widening<Plain>, ROWS, VECTORS>(tile) }
}

/// A vector that the compiler makes of whatever the baseline has.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn map_bits(self, change: impl Fn(u32) -> u32) -> Self {
        Self(self.0.map(|value| f32::from_bits(change(value.to_bits()))))
    }
}

impl Vector for Plain {
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(words: *const u32) -> Self {
        // SAFETY: the caller promises a vector of words.
        Self(unsafe { words.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn broadcast(word: *const u32) -> Self {
        // SAFETY: the caller promises a word.
        Self([f32::from_bits(unsafe { *word }); LANES])
    }

    #[inline(always)]
    unsafe fn add_product(mut self, left: Self, right: Self) -> Self {
        for lane in 0..LANES {
            self.0[lane] = isa::mul_add::<BASELINE_FUSES>(left.0[lane], right.0[lane], self.0[lane]);
        }
        self
    }

    #[inline(always)]
    unsafe fn first(self) -> Self {
        self.map_bits(|pair| pair << 16)
    }

    #[inline(always)]
    unsafe fn second(self) -> Self {
        self.map_bits(|pair| pair & 0xffff_0000)
    }

    #[inline(always)]
    unsafe fn store(self, c: *mut f32, columns: usize, add: bool) {
        for lane in 0..LANES.min(columns) {
            // SAFETY: the caller promises that many writable values.
            unsafe { *c.add(lane) = if add { *c.add(lane) + self.0[lane] } else { self.0[lane] } }
        }
    }

    #[inline(always)]
    unsafe fn prefetch_to_write(_address: *const f32) {}

    #[inline(always)]
    unsafe fn prefetch(_address: *const u32) {}
}
