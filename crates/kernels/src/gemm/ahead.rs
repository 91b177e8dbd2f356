//! What the micro-kernel brings near while it multiplies: the memory that will be packed, or read packed, next.
//!
//! Beyond the level-2 cache a core gets a value of f32 in about the time of 40 multiplications, and hardware does
//! not foresee strips that begin a row's stride apart. So each tile carries one [`Unit`] of 64 cache lines, which
//! the micro-kernel touches one line every few steps of K.

use super::kernel::Strip;

/// f32 values in a cache line.
pub(super) const LINE: usize = 16;
/// Lines of a unit: [`ROWS`] at a stride, [`JUMPS`] times.
pub(super) const ROWS: usize = 16;
const JUMPS: usize = 4;

/// 64 cache lines, in four rows of 16.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    pub start: *const u32,
    /// Words from a line to the next.
    pub step: usize,
    /// Words from a row of lines to the next.
    pub jump: usize,
}

impl Unit {
    /// One line that is near already.
    pub fn nothing(near: *const u32) -> Self {
        Self { start: near, step: 0, jump: 0 }
    }
}

/// The units that cover a strip, or a packed panel, in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    first: Unit,
    /// Units across, and words from one to the next.
    across: usize,
    across_step: usize,
    /// Words from a row of units to the next.
    down_step: usize,
    next: usize,
    count: usize,
}

impl Ahead {
    /// Nothing to bring near.
    pub fn nothing() -> Self {
        Self::words(std::ptr::null(), 0)
    }

    /// The memory that a strip will be packed from.
    pub fn strip(strip: &Strip) -> Self {
        let start = strip.data.cast::<u32>();
        // In words, of which bf16 has two values; that a line may begin a value early does no harm.
        let words = |values: usize| (values * strip.element.size()).div_ceil(size_of::<u32>());
        if strip.depth_stride == 1 {
            // A unit: 16 lanes, 4 lines along each.
            let (step, across) = (words(strip.lane_stride), words(strip.depth).div_ceil(JUMPS * LINE));
            let first = Unit { start, step, jump: LINE };
            let count = across * strip.lanes.div_ceil(ROWS);
            Self { first, across, across_step: JUMPS * LINE, down_step: ROWS * step, next: 0, count }
        } else {
            // A unit: 64 values of K, one line of each.
            let (step, across) = (words(strip.depth_stride), words(strip.lanes).div_ceil(LINE));
            let first = Unit { start, step, jump: ROWS * step };
            let count = across * strip.depth.div_ceil(JUMPS * ROWS);
            Self { first, across, across_step: LINE, down_step: JUMPS * ROWS * step, next: 0, count }
        }
    }

    /// Some panels of so many words, each `step` words after the one before.
    pub fn panels(start: *const u32, words: usize, step: usize, panels: usize) -> Self {
        let size = JUMPS * ROWS * LINE;
        let (first, across) = (Unit { start, step: LINE, jump: ROWS * LINE }, words.div_ceil(size));
        Self { first, across, across_step: size, down_step: step, next: 0, count: across * panels }
    }

    /// Words that lie one after the other.
    pub fn words(start: *const u32, words: usize) -> Self {
        let first = Unit { start, step: LINE, jump: ROWS * LINE };
        let size = JUMPS * ROWS * LINE;
        Self { first, across: 1, across_step: 0, down_step: size, next: 0, count: words.div_ceil(size) }
    }
}

impl Iterator for Ahead {
    type Item = Unit;

    fn next(&mut self) -> Option<Unit> {
        if self.next == self.count {
            return None;
        }
        let (down, across) = (self.next / self.across, self.next % self.across);
        self.next += 1;
        let offset = down * self.down_step + across * self.across_step;
        Some(Unit { start: self.first.start.wrapping_add(offset), ..self.first })
    }
}
