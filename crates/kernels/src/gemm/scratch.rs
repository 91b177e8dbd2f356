//! Memory for packed panels: aligned, reused from call to call, one set a thread.

use crate::buffer::ask_for_huge_pages;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;

/// A cache line, and a vector of AVX-512.
const ALIGNMENT: usize = 64;
/// Words in a huge page of 2 MiB, and in a block that is given whole ones.
const HUGE_PAGE: usize = 1 << 19;
const LARGE: usize = 1 << 16;
/// Words after a block that may be read: a tile register is filled whole, although a strip ends within it.
const SLACK: usize = 256;

/// A block that this thread lends, and gets back when the loan is dropped. A product that is begun while another
/// one of the same thread waits for its workers finds none, and gets memory of its own.
pub(super) struct Loan {
    words: Words,
    kind: Kind,
}

/// What a block is for: each thread keeps one of each.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Packed rows of the left operand.
    Left,
    /// Packed columns of the right operand.
    Right,
    /// All of the left operand, packed by all threads for all.
    SharedLeft,
    /// All of the right operand, packed by all threads for all.
    SharedRight,
    /// Sums on their way to C.
    Sums,
}

thread_local! {
    static BLOCKS: [Cell<Option<Words>>; 5] = const { [const { Cell::new(None) }; 5] };
}

impl Loan {
    /// Takes this thread's block of that kind.
    pub fn take(kind: Kind) -> Self {
        let words = BLOCKS.with(|blocks| blocks[kind as usize].take()).unwrap_or_default();
        Self { words, kind }
    }

    /// The start of at least `len` words. What was in them may be lost.
    pub fn reserve(&mut self, len: usize) -> *mut u32 {
        self.words.reserve(len)
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let words = std::mem::take(&mut self.words);
        BLOCKS.with(|blocks| blocks[self.kind as usize].set(Some(words)));
    }
}

/// A block of 32-bit words that grows and is never initialised: who packs writes before anyone reads.
pub(super) struct Words {
    data: NonNull<u32>,
    len: usize,
}

// SAFETY: the block is owned like a `Vec`'s.
unsafe impl Send for Words {}
// SAFETY: shared access gives out the address only.
unsafe impl Sync for Words {}

impl Default for Words {
    fn default() -> Self {
        Self { data: NonNull::dangling(), len: 0 }
    }
}

impl Words {
    /// A block of `len` words, whatever is in them.
    pub fn new(len: usize) -> Self {
        let mut words = Self::default();
        words.reserve(len);
        words
    }

    /// The start of at least `len` words. What was in them may be lost.
    pub fn reserve(&mut self, len: usize) -> *mut u32 {
        if len > self.len {
            *self = Self::default();
            let layout = Self::layout(len);
            // SAFETY: `len` is greater than `self.len`, so the layout is not empty.
            let data = unsafe { alloc(layout) };
            if len >= LARGE {
                ask_for_huge_pages(data, layout.size());
            }
            self.data = NonNull::new(data.cast()).unwrap_or_else(|| handle_alloc_error(layout));
            self.len = len;
        }
        self.data.as_ptr()
    }

    /// The start of the block.
    pub fn start(&self) -> *mut u32 {
        self.data.as_ptr()
    }

    /// Its size.
    pub fn len(&self) -> usize {
        self.len
    }

    fn layout(len: usize) -> Layout {
        let (unit, words) = (if len >= LARGE { HUGE_PAGE } else { 1 }, len + SLACK);
        let alignment = ALIGNMENT.max(unit * size_of::<u32>());
        Layout::array::<u32>(words.next_multiple_of(unit))
            .and_then(|layout| layout.align_to(alignment))
            .expect("a matrix that fits in the address space")
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the block came from `alloc` with this very layout.
            unsafe { dealloc(self.data.as_ptr().cast(), Self::layout(self.len)) }
        }
    }
}
