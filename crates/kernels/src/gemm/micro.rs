//! The micro-kernel: a tile of C held in registers while K runs. One text for every instruction set and format.
//!
//! Each element of a tile is its own chain of fused additions in the order of K, whatever the tile's shape. So a
//! result has the same bits in a full tile, in an edge tile, and in the one-row tile of a generation step.

use super::ahead;
use super::kernel::{Tile, Words};
use std::marker::PhantomData;

/// Steps of K for each cache line that is brought near.
const UNROLLED: usize = 4;

/// A vector of f32, as an instruction set has it.
///
/// # Safety
/// All functions may be called only where the processor has the instruction set, on pointers with room for what
/// they load and store.
pub(super) trait Vector: Copy {
    const LANES: usize;

    unsafe fn zero() -> Self;
    unsafe fn load(words: *const u32) -> Self;
    /// The same word in all lanes.
    unsafe fn broadcast(word: *const u32) -> Self;
    /// `self + left * right`, rounded once if the instruction set can.
    unsafe fn add_product(self, left: Self, right: Self) -> Self;
    /// Of pairs of bf16, the first of each as f32.
    unsafe fn first(self) -> Self;
    /// Of pairs of bf16, the second of each as f32.
    unsafe fn second(self) -> Self;
    /// C = self, or C += self, in the first `columns` lanes.
    unsafe fn store(self, c: *mut f32, columns: usize, add: bool);
    /// Brings a cache line near, to be written soon.
    unsafe fn prefetch_to_write(address: *const f32);
    /// Brings a cache line to the level-2 cache, to be read in a while.
    unsafe fn prefetch(address: *const u32);
}

/// How words of the two operands become products: one step of the micro-kernel along K.
///
/// # Safety
/// As [`Vector`].
pub(super) trait Step {
    /// Values of K in a step.
    const DEPTH: usize;
    /// Words of each row of the left strip in a step.
    const LEFT_WORDS: usize;
    type Vector: Vector;
    type Left: Copy;
    type Right: Copy;

    /// One row's word, and the second one, if there are two, `step` further on.
    unsafe fn left(left: *const u32, step: usize) -> Self::Left;
    unsafe fn right(right: *const u32) -> Self::Right;
    unsafe fn add(sums: Self::Vector, left: Self::Left, right: Self::Right) -> Self::Vector;
    /// A last step of one value, for a left strip without a second one.
    unsafe fn add_last(sums: Self::Vector, _left: *const u32, _right: Self::Right) -> Self::Vector {
        sums
    }
}

/// The micro-kernel, to be inlined into a function that enables `S`'s instruction set.
///
/// # Safety
/// As [`super::kernel::TileFunction`].
#[inline(always)]
#[allow(clippy::needless_range_loop)] // Rows and vectors index several things at once.
pub(super) unsafe fn multiply<S: Step, const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
    // SAFETY: the caller keeps to `TileFunction`; each address below lies in a strip or in a row of C.
    unsafe {
        let mut sums = [[S::Vector::zero(); VECTORS]; ROWS];
        let mut strips = Strips { left: tile.left, right: tile.right };
        // Where both operands hold pairs, a last single value is one too, with a zero.
        let pairs_only = S::LEFT_WORDS < S::DEPTH;
        let mut steps = if pairs_only { tile.depth.div_ceil(S::DEPTH) } else { tile.depth / S::DEPTH };
        let (mut ahead_row, mut line) = (tile.ahead.start, 0);
        while steps >= UNROLLED * ahead::ROWS {
            let (mut ahead, mut c) = (ahead_row, tile.c.wrapping_add(line.min(tile.columns - 1)));
            for _ in 0..ahead::ROWS {
                S::Vector::prefetch(ahead);
                S::Vector::prefetch_to_write(c);
                ahead = ahead.wrapping_add(tile.ahead.step);
                c = c.wrapping_add(tile.c_stride);
                for _ in 0..UNROLLED {
                    strips.step::<S, ROWS, VECTORS>(&mut sums);
                }
            }
            ahead_row = ahead_row.wrapping_add(tile.ahead.jump);
            line += ahead::LINE;
            steps -= UNROLLED * ahead::ROWS;
        }
        for _ in 0..steps {
            strips.step::<S, ROWS, VECTORS>(&mut sums);
        }
        if !pairs_only && !tile.depth.is_multiple_of(S::DEPTH) {
            for vector in 0..VECTORS {
                let column = S::right(strips.right.start.add(vector * S::Vector::LANES));
                for row in 0..ROWS {
                    sums[row][vector] = S::add_last(sums[row][vector], strips.left.start.add(row), column);
                }
            }
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                let start = vector * S::Vector::LANES;
                let c = tile.c.add(row * tile.c_stride + start);
                sums[row][vector].store(c, tile.columns - start, tile.add);
            }
        }
    }
}

/// Where the micro-kernel stands in the two strips.
struct Strips {
    left: Words,
    right: Words,
}

impl Strips {
    /// # Safety
    /// There is a step left in both strips.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // As above.
    unsafe fn step<S: Step, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        sums: &mut [[S::Vector; VECTORS]; ROWS],
    ) {
        // SAFETY: the words of one step lie in the strips.
        unsafe {
            let mut columns = [S::right(self.right.start); VECTORS];
            for vector in 1..VECTORS {
                columns[vector] = S::right(self.right.start.add(vector * S::Vector::LANES));
            }
            for row in 0..ROWS {
                let value = S::left(self.left.start.add(row), self.left.step);
                for vector in 0..VECTORS {
                    sums[row][vector] = S::add(sums[row][vector], value, columns[vector]);
                }
            }
            self.left.start = self.left.start.add(self.left.step * S::LEFT_WORDS);
            self.right.start = self.right.start.add(self.right.step);
        }
    }
}

/// One f32 a word in both operands.
pub(super) struct Single<V>(PhantomData<V>);

impl<V: Vector> Step for Single<V> {
    const DEPTH: usize = 1;
    const LEFT_WORDS: usize = 1;
    type Vector = V;
    type Left = V;
    type Right = V;

    #[inline(always)]
    unsafe fn left(left: *const u32, _step: usize) -> V {
        // SAFETY: the caller's contract is the same.
        unsafe { V::broadcast(left) }
    }

    #[inline(always)]
    unsafe fn right(right: *const u32) -> V {
        // SAFETY: the caller's contract is the same.
        unsafe { V::load(right) }
    }

    #[inline(always)]
    unsafe fn add(sums: V, left: V, right: V) -> V {
        // SAFETY: the caller's contract is the same.
        unsafe { sums.add_product(left, right) }
    }
}

/// One f32 a word on the left, a pair of bf16 a word on the right: half the memory to stream for a generation step.
/// The additions run as in [`Single`], so the bits do not tell which of the two was used.
pub(super) struct Widening<V>(PhantomData<V>);

impl<V: Vector> Step for Widening<V> {
    const DEPTH: usize = 2;
    const LEFT_WORDS: usize = 2;
    type Vector = V;
    type Left = [V; 2];
    type Right = [V; 2];

    #[inline(always)]
    unsafe fn left(left: *const u32, step: usize) -> [V; 2] {
        // SAFETY: the caller promises two words, `step` apart.
        unsafe { [V::broadcast(left), V::broadcast(left.add(step))] }
    }

    #[inline(always)]
    unsafe fn right(right: *const u32) -> [V; 2] {
        // SAFETY: the caller's contract is the same.
        unsafe {
            let pairs = V::load(right);
            [pairs.first(), pairs.second()]
        }
    }

    #[inline(always)]
    unsafe fn add(sums: V, left: [V; 2], right: [V; 2]) -> V {
        // SAFETY: the caller's contract is the same.
        unsafe { sums.add_product(left[0], right[0]).add_product(left[1], right[1]) }
    }

    #[inline(always)]
    unsafe fn add_last(sums: V, left: *const u32, right: [V; 2]) -> V {
        // SAFETY: the caller's contract is the same.
        unsafe { sums.add_product(V::broadcast(left), right[0]) }
    }
}

/// Pairs of bf16 in both operands, multiplied without the instruction for it. Only tests use it: it runs what
/// surrounds `vdpbf16ps`, packing and tiling, where the processor lacks that instruction.
#[cfg(test)]
pub(super) struct EmulatedPairs<V>(PhantomData<V>);

#[cfg(test)]
impl<V: Vector> Step for EmulatedPairs<V> {
    const DEPTH: usize = 2;
    const LEFT_WORDS: usize = 1;
    type Vector = V;
    type Left = [V; 2];
    type Right = [V; 2];

    #[inline(always)]
    unsafe fn left(left: *const u32, _step: usize) -> [V; 2] {
        // SAFETY: the caller's contract is the same.
        unsafe {
            let pair = V::broadcast(left);
            [pair.first(), pair.second()]
        }
    }

    #[inline(always)]
    unsafe fn right(right: *const u32) -> [V; 2] {
        // SAFETY: the caller's contract is the same.
        unsafe {
            let pairs = V::load(right);
            [pairs.first(), pairs.second()]
        }
    }

    #[inline(always)]
    unsafe fn add(sums: V, left: [V; 2], right: [V; 2]) -> V {
        // SAFETY: the caller's contract is the same.
        unsafe { sums.add_product(left[0], right[0]).add_product(left[1], right[1]) }
    }
}
