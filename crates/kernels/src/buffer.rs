//! Memory for matrices that begins at a cache line, so that no vector and no row of a tile straddles two of them.
//! Not a container: its length is fixed.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// f32 values in a cache line, and in the widest vector.
const LINE: usize = 16;

/// f32 values in a huge page of 2 MiB, and what a buffer must hold to begin at one and ask for more.
const HUGE_PAGE: usize = 1 << 19;
const LARGE: usize = 4 * HUGE_PAGE;

/// `len` values of f32 from the beginning of a cache line on. It is used as the slice that it is.
pub struct Buffer {
    /// Longer than what is used by up to the line, or huge page, that it is aligned to. A `Vec` gets its zeros from the system page by page, when they are
    /// touched first; memory that is asked for at an alignment is cleared at once.
    values: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// All zeros.
    pub fn zeros(len: usize) -> Self {
        if len == 0 {
            return Self { values: Vec::new(), start: 0, len };
        }
        let unit = if len >= LARGE { HUGE_PAGE } else { LINE };
        let values = vec![0.0; len + unit - 1];
        let start = values.as_ptr().align_offset(unit * size_of::<f32>());
        if unit == HUGE_PAGE {
            ask_for_huge_pages(values[start..].as_ptr().cast(), len * size_of::<f32>());
        }
        Self { values, start, len }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl From<&[f32]> for Buffer {
    fn from(values: &[f32]) -> Self {
        let mut buffer = Self::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        Self::from(&values[..])
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::from(&self[..])
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.start..self.start + self.len]
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self[..].fmt(formatter)
    }
}

/// Large matrices are read by strips at a stride; with pages of 4 KiB each line of a strip is another page, and
/// looking pages up takes longer than reading. The system is free to refuse. The memory, so many bytes, is the caller's
/// and begins at a page.
#[cfg(target_os = "linux")]
pub(crate) fn ask_for_huge_pages(start: *const u8, bytes: usize) {
    // SAFETY: advice on the caller's own memory changes no contents.
    unsafe { libc::madvise(start.cast_mut().cast(), bytes, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn ask_for_huge_pages(_start: *const u8, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_begins_at_a_cache_line_and_holds_what_it_was_given() {
        for len in [0, 1, 15, 16, 17, 100_000, LARGE + 1] {
            let mut buffer = Buffer::zeros(len);
            assert_eq!(buffer.len(), len);
            assert!(len == 0 || (buffer.as_ptr() as usize).is_multiple_of(64));
            assert!(buffer.iter().all(|&value| value == 0.0));
            buffer.iter_mut().enumerate().for_each(|(index, value)| *value = index as f32);
            let copy = buffer.clone();
            assert_eq!(copy, buffer);
            assert!(len == 0 || (copy.as_ptr() as usize).is_multiple_of(64));
            assert_eq!(Buffer::from(buffer.to_vec()), buffer);
        }
    }
}
