//! Where packed matrices lie: beside each other in large pieces, so that the system can give huge pages to small ones too.
//! A thread that reads a matrix from end to end then asks for 2 MiB at a time, not for 4 KiB, and its prefetching goes on.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::Arc;

use crate::buffer::Buffer;

/// f32 places of a piece: 64 MiB, untouched until they are used.
const PIECE: usize = 1 << 24;
/// f32 places of a cache line.
const LINE: usize = 16;

/// Memory that matrices are packed to, one after the other. Each keeps its piece alive.
#[derive(Default)]
pub struct Arena {
    piece: Option<Arc<Piece>>,
    used: usize,
}

struct Piece(UnsafeCell<Buffer>);

// SAFETY: each part is written by the one task that took it, before anyone else hears of it, and only read later.
unsafe impl Sync for Piece {}
// SAFETY: a buffer may be dropped anywhere.
unsafe impl Send for Piece {}

/// A part of a piece, whole cache lines.
pub(super) struct Part {
    piece: Arc<Piece>,
    places: Range<usize>,
}

impl Arena {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part of so many bytes, zeros, which `fill` writes.
    pub(super) fn part(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8])) -> Part {
        let len = bytes.div_ceil(size_of::<f32>()).next_multiple_of(LINE);
        let piece = match &self.piece {
            Some(piece) if self.used + len <= piece.len() => piece.clone(),
            _ => {
                self.used = 0;
                let piece = Arc::new(Piece(UnsafeCell::new(Buffer::zeros(len.max(PIECE)))));
                self.piece.insert(piece).clone()
            }
        };
        let places = self.used..self.used + len;
        self.used += len;
        // SAFETY: these places were given to nobody else, and `self` is borrowed until they are filled.
        let part = unsafe { std::slice::from_raw_parts_mut(piece.start().add(places.start).cast(), 4 * len) };
        fill(&mut part[..bytes]);
        Part { piece, places }
    }
}

impl Piece {
    fn buffer(&self) -> &Buffer {
        // SAFETY: what a buffer says of itself, where it lies and how long it is, does not change while parts are filled.
        unsafe { &*self.0.get() }
    }

    fn start(&self) -> *mut f32 {
        self.buffer().as_ptr().cast_mut()
    }

    fn len(&self) -> usize {
        self.buffer().len()
    }
}

impl Part {
    /// Its bytes, the last line whole.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the part was filled, and nobody writes to it again.
        unsafe {
            let start = self.piece.start().add(self.places.start);
            std::slice::from_raw_parts(start.cast(), self.places.len() * size_of::<f32>())
        }
    }
}
