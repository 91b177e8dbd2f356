//! What forward and backward share: a tile's stacked rows, the mask, and scratch that is kept by each thread.

use crate::buffer::Buffer;
use std::cell::RefCell;

/// Keys that a tile takes at once: scores of 128 stacked rows and as many of their gradients stay in the L2 cache.
pub(super) const KEYS: usize = 512;

thread_local! {
    static SCRATCH: RefCell<Buffer> = RefCell::new(Buffer::zeros(0));
}

/// Runs `body` with this thread's buffer, at least `length` long; it grows once and stays.
pub(super) fn with_scratch<R>(length: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with(|scratch| {
        let mut scratch = scratch.borrow_mut();
        if scratch.len() < length {
            *scratch = Buffer::zeros(length);
        }
        body(&mut scratch[..length])
    })
}

/// A buffer that several tasks write at once, each its own columns.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: tasks touch disjoint elements; each use says which.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(values: &mut [f32]) -> Self {
        Self(values.as_mut_ptr())
    }

    pub(super) fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// The keys that one query sees in a block of keys: places `first..end` of the block.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) first: usize,
    pub(super) end: usize,
}

impl Seen {
    /// Of keys `first..end` of the sequence, those in the block that begins at `block` and holds `keys`.
    pub(super) fn in_block(first: usize, end: usize, block: usize, keys: usize) -> Self {
        let first = first.saturating_sub(block).min(keys);
        Self { first, end: end.saturating_sub(block).clamp(first, keys) }
    }
}
