//! What a kernel is: the functions of one instruction set and precision, and how its packed operands lie.

use super::ahead::Unit;
use super::view::Element;
use super::{Precision, portable, widening_pack};
#[cfg(target_arch = "x86_64")]
use super::{amx, avx2, avx512};
use crate::isa::{self, Isa};

/// How values lie in the 32-bit words of a packed operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One f32 a word.
    F32,
    /// One f32 a word, rounded to the nearest bf16.
    Rounded,
    /// Two consecutive values of K a word, as bf16, the first in the lower half. K is padded with a zero.
    Pairs,
    /// As [`Format::Pairs`], with K padded to 32 values.
    PaddedPairs,
    /// The same pairs with 16 words of K of one lane side by side, then those of the next lane:
    /// word (k, lane) at `k / 16 * 16 * width + lane * 16 + k % 16`. K is padded to 32 values.
    RowsOfPairs,
}

impl Format {
    /// Words that hold `depth` values of K.
    pub fn words(self, depth: usize) -> usize {
        match self {
            Self::F32 | Self::Rounded => depth,
            Self::Pairs => depth.div_ceil(2),
            Self::PaddedPairs | Self::RowsOfPairs => depth.div_ceil(32) * 16,
        }
    }
}

/// One tile: C (rows x columns) gets the product of two packed strips of `depth` values of K.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    /// Rows of the left strip.
    pub left: Words,
    /// Columns of the right panel.
    pub right: Words,
    pub depth: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Columns to be stored, at most the vectors' of the tile function.
    pub columns: usize,
    /// Whether C is added to, or overwritten.
    pub add: bool,
    /// What to bring near for later.
    pub ahead: Unit,
    /// What to bring near to be written, two lines of each row: where it begins, and values from row to row.
    pub goal: (*mut f32, usize),
}

/// Where the words of a strip lie: those of one word of K side by side, `step` words from there to the next ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub start: *const u32,
    pub step: usize,
}

impl Words {
    /// From another word of K on.
    pub fn advanced(self, words: usize) -> Self {
        Self { start: self.start.wrapping_add(words * self.step), ..self }
    }
}

/// # Safety
/// The strips hold what the kernel's formats say, the rows of C are writable and belong to nobody else, and the
/// processor has the kernel's instruction set.
pub(super) type TileFunction = unsafe fn(&Tile);

/// # Safety
/// All values of the strip are readable, `target` has room for its words at pitch `width`, and the processor has
/// the kernel's instruction set.
pub(super) type PackFunction = unsafe fn(target: *mut u32, width: usize, strip: &Strip, format: Format);

/// A few rows of the left operand, or columns of the right one, about to be packed: word (k, lane).
#[derive(Clone, Copy, Debug)]
pub(super) struct Strip {
    /// Of bf16 too, as `element` says.
    pub data: *const f32,
    pub element: Element,
    /// One of the two strides is 1.
    pub lane_stride: usize,
    pub depth_stride: usize,
    pub lanes: usize,
    /// Lanes that are written, with zeros from `lanes` on.
    pub padded_lanes: usize,
    pub depth: usize,
}

impl Strip {
    /// The address of a lane's value of K.
    #[inline(always)]
    pub fn at(&self, lane: usize, depth: usize) -> *const f32 {
        self.element.after(self.data, lane * self.lane_stride + depth * self.depth_stride)
    }
}

/// An instruction set's way to multiply in one precision.
pub(super) struct Kernel {
    /// Values of K that are summed in registers before they are added to C: a panel of so many, and a strip, lie in
    /// the level-1 cache. It is even, so pairs never straddle it. Sums are cut here and nowhere else: changing it
    /// changes the last bits of results, and kernels of one instruction set and precision share it.
    pub block: usize,
    /// Tallest tile.
    pub rows: usize,
    /// Width of a panel of the right operand.
    pub columns: usize,
    /// Width of one vector.
    pub lanes: usize,
    pub left: Format,
    pub right: Format,
    /// By vectors of columns, then by rows, both less one.
    pub tiles: &'static [&'static [TileFunction]],
    pub packer: PackFunction,
    /// Whether it packs bf16 too; if not, that is made f32 before.
    pub packs_bf16: bool,
    /// Whether tile functions run within a [`Session`] only.
    pub needs_session: bool,
}

/// What a thread holds while it multiplies with a kernel that needs it. Sessions nest, and only the outermost costs.
pub struct Session {
    #[cfg(target_arch = "x86_64")]
    _tiles: Option<amx::Session>,
}

impl Kernel {
    /// Makes the calling thread ready for this kernel's tile functions.
    pub fn session(&self) -> Session {
        Session {
            // SAFETY: `select` gives out such a kernel only where the system permits tiles.
            #[cfg(target_arch = "x86_64")]
            _tiles: self.needs_session.then(|| unsafe { amx::Session::begin() }),
        }
    }

    /// Packs a strip.
    ///
    /// # Safety
    /// As [`PackFunction`].
    pub unsafe fn pack(&self, target: *mut u32, width: usize, strip: &Strip, format: Format) {
        // SAFETY: the caller's contract.
        unsafe {
            if strip.element == Element::F32 || self.packs_bf16 {
                (self.packer)(target, width, strip, format);
            } else {
                widening_pack::pack(self.packer, target, width, strip, format);
            }
        }
    }

    /// The function for a tile of `rows` x `columns`.
    pub fn tile(&self, rows: usize, columns: usize) -> TileFunction {
        self.tiles[columns.div_ceil(self.lanes) - 1][rows - 1]
    }

    /// Values of K of several strips that are packed together where cache lines are shared: few, and whole words.
    pub fn portion(&self) -> usize {
        if self.left == Format::RowsOfPairs { 32 } else { 8 }
    }

    /// At this stride from one value of K to the next, strips that lie side by side are packed together, a few values
    /// of K at a time. Vector kernels do so from a page of memory on, where one value of K and the next compete for the
    /// same few places in a cache and a line that two strips share would be fetched twice. Tiles, for which packing
    /// weighs more, read memory in its order wherever they can.
    pub fn far(&self) -> usize {
        if self.needs_session { 2 } else { 1024 }
    }

    /// Columns that are packed for a panel of which `columns` are used.
    pub fn padded(&self, columns: usize) -> usize {
        columns.next_multiple_of(self.lanes)
    }
}

/// The kernel for this thread's instruction set.
pub(super) fn select(precision: Precision) -> &'static Kernel {
    match (isa::current(), precision) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Amx, Precision::Bf16) => &amx::TILES,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512Bf16, Precision::Bf16) => &avx512::PAIRS,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, Precision::F32) => &avx512::F32,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, Precision::Bf16) => &avx512::ROUNDED,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Precision::F32) => &avx2::F32,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Precision::Bf16) => &avx2::ROUNDED,
        (_, Precision::F32) => &portable::F32,
        (_, Precision::Bf16) => &portable::ROUNDED,
    }
}

/// The kernel for a right operand that is packed once: the bits are [`select`]'s, bf16 takes half the memory.
pub(super) fn select_packed(precision: Precision) -> &'static Kernel {
    match (isa::current(), precision) {
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx512, Precision::Bf16) => &avx512::WIDENING,
        #[cfg(target_arch = "x86_64")]
        (Isa::Avx2, Precision::Bf16) => &avx2::WIDENING,
        (Isa::Portable, Precision::Bf16) => &portable::WIDENING,
        _ => select(precision),
    }
}

/// The tile functions of one step for every height, from one row on: `tiles!(function, vectors, 1 2 3)`.
macro_rules! tiles {
    ($function:ident, $vectors:literal, $($rows:literal)+) => {
        &[$($function::<$rows, $vectors> as $crate::gemm::kernel::TileFunction),+]
    };
}
pub(super) use tiles;
