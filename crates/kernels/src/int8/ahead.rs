//! Asking for memory that will be read soon, a few lines at a time between other work. Asked for at once, more lines than a
//! core can await would hold it up.

use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

use super::layout::LINE;

/// Parts of memory, and how much of them is left.
pub(super) struct Ahead<'a, const PARTS: usize> {
    parts: [&'a [u8]; PARTS],
    part: usize,
    /// Bytes that are asked for at a time.
    each: usize,
}

impl<'a, const PARTS: usize> Ahead<'a, PARTS> {
    /// These parts, all of which will have been asked for after so many times.
    pub fn new(parts: [&'a [u8]; PARTS], times: usize) -> Self {
        // A part's end also ends what is asked for at a time.
        let lines: usize = parts.iter().map(|part| part.len().div_ceil(LINE)).sum();
        let ends = parts.iter().filter(|part| !part.is_empty()).count();
        let times = (times + 1).saturating_sub(ends).max(1);
        Self { parts, part: 0, each: lines.div_ceil(times) * LINE }
    }

    /// Asks for some lines, to the level-1 cache.
    #[inline(always)]
    pub fn ask_near(&mut self) {
        for line in self.some().chunks(LINE) {
            // SAFETY: asking for memory reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }

    /// Asks for some lines, to the level-2 cache.
    #[inline(always)]
    pub fn ask(&mut self) {
        for line in self.some().chunks(LINE) {
            // SAFETY: asking for memory reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
        }
    }

    #[inline(always)]
    fn some(&mut self) -> &'a [u8] {
        let Some(part) = self.parts.get_mut(self.part) else {
            return &[];
        };
        let (some, rest) = part.split_at(self.each.min(part.len()));
        *part = rest;
        self.part += usize::from(rest.is_empty());
        some
    }
}
