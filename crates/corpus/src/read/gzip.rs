//! Gzip files member by member (RFC 1952): where each begins, and the way to the next one behind damage.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use flate2::bufread::GzDecoder;

/// A reader that knows how many bytes were taken from it.
pub(super) struct Positioned<R> {
    inner: R,
    position: u64,
}

impl<R: BufRead> Positioned<R> {
    pub fn new(inner: R) -> Positioned<R> {
        Positioned { inner, position: 0 }
    }
}

impl<R: BufRead> Read for Positioned<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Positioned<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
        self.inner.consume(count);
    }
}

/// Where members begin, in the unpacked stream and in the file.
#[derive(Clone, Default)]
pub(super) struct Starts(Rc<RefCell<VecDeque<(u64, u64)>>>);

impl Starts {
    fn add(&self, unpacked: u64, packed: u64) {
        self.0.borrow_mut().push_back((unpacked, packed));
    }

    /// The member that holds a byte of the unpacked stream, by its place in the file, and the byte's place in it.
    /// What begins before it is forgotten, so bytes are asked for in their order.
    pub fn of(&self, offset: u64) -> Option<(u64, u64)> {
        let mut starts = self.0.borrow_mut();
        while starts.get(1).is_some_and(|&(unpacked, _)| unpacked <= offset) {
            starts.pop_front();
        }
        starts
            .front()
            .filter(|(unpacked, _)| *unpacked <= offset)
            .map(|&(unpacked, packed)| (packed, offset - unpacked))
    }
}

/// All members of a file as one stream.
pub(super) struct Members<'a, R: BufRead> {
    /// None after the end or an error.
    decoder: Option<GzDecoder<&'a mut Positioned<R>>>,
    unpacked: u64,
    starts: Starts,
}

impl<'a, R: BufRead> Members<'a, R> {
    /// Reads on from where the file stands; `unpacked` bytes came before.
    pub fn new(file: &'a mut Positioned<R>, unpacked: u64, starts: Starts) -> Members<'a, R> {
        starts.add(unpacked, file.position);
        Members { decoder: Some(GzDecoder::new(file)), unpacked, starts }
    }
}

impl<R: BufRead> Read for Members<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                self.unpacked += count as u64;
                return Ok(count);
            }
            let file = self.decoder.take().map(GzDecoder::into_inner);
            let Some(file) = file else { break };
            // Some writers pad with zeros.
            while file.fill_buf()?.first() == Some(&0) {
                file.consume(1);
            }
            if !file.fill_buf()?.is_empty() {
                self.starts.add(self.unpacked, file.position);
                self.decoder = Some(GzDecoder::new(file));
            }
        }
        Ok(0)
    }
}

/// Moves to the next place that could begin a member (1f 8b, method 8); false at the end.
pub(super) fn seek_member(file: &mut dyn BufRead) -> bool {
    loop {
        let Ok(buffer) = file.fill_buf() else { return false };
        if buffer.is_empty() {
            return false;
        }
        match buffer.iter().position(|&byte| byte == 0x1F) {
            None => {
                let count = buffer.len();
                file.consume(count);
            }
            Some(at) => {
                // At the buffer's end a part of the mark has to do: what is no member fails and is passed over.
                let here = &buffer[at..buffer.len().min(at + 3)];
                if [0x1F, 0x8B, 8].starts_with(here) {
                    file.consume(at);
                    return true;
                }
                file.consume(at + 1);
            }
        }
    }
}
