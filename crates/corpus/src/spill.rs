//! Sorting more records than fit in memory: a [`Sorter`] takes records in any order, writes sorted runs to a folder
//! whenever its memory is full, and gives all of them back in order by merging the runs. It knows nothing of what the
//! records mean.
//!
//! A run is a file of blocks: the number of records (u32), their XXH3 (u64), the records, all little endian. A block is
//! checked before any record of it is handed out. Runs are removed when they were read or are no longer wanted; what a
//! killed program leaves of them is the folder's owner's to clear away, and of no use to anybody.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use rayon::slice::ParallelSliceMut;
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;

pub(crate) use lookup::Lookup;

/// A record of a fixed size, ordered as it is to be sorted: integers, arrays of bytes and tuples of them.
pub trait Record: Copy + Ord + Send {
    /// Bytes on disk.
    const BYTES: usize;
    /// Writes the record into exactly [`Record::BYTES`] bytes.
    fn put(&self, bytes: &mut [u8]);
    /// Reads what [`Record::put`] wrote.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Record for $integer {
            const BYTES: usize = size_of::<$integer>();
            fn put(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$integer>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, u128, i64);

impl<const N: usize> Record for [u8; N] {
    const BYTES: usize = N;
    fn put(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(self);
    }
    fn get(bytes: &[u8]) -> Self {
        let mut own = [0; N];
        own.copy_from_slice(bytes);
        own
    }
}

macro_rules! tuples {
    ($(($($part:ident $at:tt),*)),*) => {$(
        impl<$($part: Record),*> Record for ($($part,)*) {
            const BYTES: usize = 0 $(+ $part::BYTES)*;
            fn put(&self, bytes: &mut [u8]) {
                let mut rest = bytes;
                $(
                    let (part, after) = rest.split_at_mut($part::BYTES);
                    self.$at.put(part);
                    rest = after;
                )*
                debug_assert!(rest.is_empty(), "a record has exactly its bytes");
            }
            fn get(bytes: &[u8]) -> Self {
                let mut rest = bytes;
                ($({
                    let (part, after) = rest.split_at($part::BYTES);
                    rest = after;
                    let _ = rest;
                    $part::get(part)
                },)*)
            }
        }
    )*};
}

tuples!((A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3));

/// Makes one record of two that are neighbours in the order: takes the second into the first and returns true, or
/// returns false where they are to stay two. It must not move the first one past records that do not belong to it, nor
/// care which of several neighbours are taken together first: a sum of counts behind a key does neither.
pub type Combine<R> = fn(&mut R, &R) -> bool;

/// Longest block.
const BLOCK_BYTES: usize = 256 << 10;
/// Most runs that are merged at once: each holds a file open.
const MAX_FAN_IN: usize = 256;
const HEAD_BYTES: usize = 12;

/// Takes records in any order.
pub struct Sorter<R: Record> {
    folder: PathBuf,
    name: String,
    combine: Combine<R>,
    limits: Limits,
    buffer: Vec<R>,
    runs: Vec<Run>,
    next: u64,
    records: u64,
}

#[derive(Clone, Copy)]
struct Limits {
    buffer_records: usize,
    block_records: usize,
    fan_in: usize,
}

impl Limits {
    fn new<R: Record>(memory: u64) -> Limits {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        // A sixteenth is left for the block that is written. While runs are merged there is no buffer, and the
        // blocks of all of them take its place.
        let buffer_records = (memory / 16 * 15 / size_of::<R>().max(1)).max(2);
        let block_bytes = (memory / 32).min(BLOCK_BYTES);
        let block_records = (block_bytes / R::BYTES.max(1)).max(1);
        let fan_in = (memory / 2 / (block_records * R::BYTES + HEAD_BYTES)).clamp(2, MAX_FAN_IN);
        Limits { buffer_records, block_records, fan_in }
    }
}

impl<R: Record> Sorter<R> {
    /// A sorter that keeps to about `memory` bytes (at least two records and two blocks of one) and writes its runs
    /// into `folder`, which exists, under names that begin with `name`; two sorters that work at the same time must
    /// not have the same name. Equal records are all kept.
    pub fn new(folder: &Path, name: &str, memory: u64) -> Sorter<R> {
        Sorter::combining(folder, name, memory, |_, _| false)
    }

    /// A sorter that makes one of what `combine` says belongs together, which it does before anything is written.
    pub fn combining(folder: &Path, name: &str, memory: u64, combine: Combine<R>) -> Sorter<R> {
        Sorter {
            folder: folder.to_path_buf(),
            name: name.to_string(),
            combine,
            limits: Limits::new::<R>(memory),
            buffer: Vec::new(),
            runs: Vec::new(),
            next: 0,
            records: 0,
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`Error::Io`] when a run cannot be written.
    pub fn push(&mut self, record: R) -> Result<(), Error> {
        if self.buffer.len() == self.buffer.capacity() {
            self.grow()?;
        }
        self.buffer.push(record);
        self.records += 1;
        Ok(())
    }

    /// Records pushed so far.
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether none was pushed.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Room for more: by doubling, up to the limit; the old and the new buffer together keep to it too.
    fn grow(&mut self) -> Result<(), Error> {
        let (length, limit) = (self.buffer.len(), self.limits.buffer_records);
        if length >= limit {
            self.sort();
            // Where much was combined, there is room again.
            if self.buffer.len() > limit / 2 {
                self.spill()?;
            }
        } else if length <= limit / 3 {
            self.buffer.reserve_exact(length.max(1024).min(limit / 3 * 2).max(1));
        } else if self.runs.is_empty() {
            self.sort();
            self.spill()?;
            self.buffer = Vec::with_capacity(limit);
        } else {
            self.buffer.reserve_exact(limit - length);
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.buffer.par_sort_unstable();
        let combine = self.combine;
        self.buffer.dedup_by(|later, earlier| combine(earlier, later));
    }

    fn spill(&mut self) -> Result<(), Error> {
        let mut writer = RunWriter::<R>::create(self.name(), self.limits.block_records)?;
        for record in &self.buffer {
            writer.push(*record)?;
        }
        self.runs.push(writer.finish()?);
        self.buffer.clear();
        Ok(())
    }

    fn name(&mut self) -> PathBuf {
        self.next += 1;
        self.folder.join(format!("{}-{:06}.run", self.name, self.next))
    }

    /// Ends the taking; all records come back in order. Where there are more runs than can be merged at once, they
    /// are merged in rounds first.
    ///
    /// # Errors
    /// [`Error::Io`] when a run cannot be written or read, [`Error::Malformed`] when one is not what was written.
    pub fn finish(mut self) -> Result<Sorted<R>, Error> {
        self.sort();
        if self.runs.is_empty() {
            let buffer = std::mem::take(&mut self.buffer);
            return Ok(Sorted {
                source: Merge::Memory(buffer.into_iter()),
                held: None,
                next: None,
                combine: self.combine,
            });
        }
        if !self.buffer.is_empty() {
            self.spill()?;
        }
        self.buffer = Vec::new();
        while self.runs.len() > self.limits.fan_in {
            // The oldest are the shortest but for what was merged before, which goes to the end.
            let some: Vec<Run> = self.runs.drain(..self.limits.fan_in).collect();
            let mut merged = Sorted::of(some, self.combine)?;
            let mut writer = RunWriter::<R>::create(self.name(), self.limits.block_records)?;
            while let Some(record) = merged.next_record()? {
                writer.push(record)?;
            }
            self.runs.push(writer.finish()?);
        }
        Sorted::of(std::mem::take(&mut self.runs), self.combine)
    }
}

/// The records of a [`Sorter`] in ascending order. After an error it ends.
pub struct Sorted<R: Record> {
    source: Merge<R>,
    /// The first record of the next group.
    held: Option<R>,
    /// The record that the next ones may still be combined with.
    next: Option<R>,
    combine: Combine<R>,
}

enum Merge<R: Record> {
    Memory(std::vec::IntoIter<R>),
    Runs { heap: BinaryHeap<Reverse<(R, usize)>>, readers: Vec<RunReader<R>> },
}

impl<R: Record> Merge<R> {
    fn next(&mut self) -> Result<Option<R>, Error> {
        match self {
            Merge::Memory(records) => Ok(records.next()),
            Merge::Runs { heap, readers } => {
                let Some(mut least) = heap.peek_mut() else { return Ok(None) };
                let Reverse((record, reader)) = *least;
                match readers[reader].next()? {
                    Some(next) => *least = Reverse((next, reader)),
                    None => {
                        PeekMut::pop(least);
                    }
                }
                Ok(Some(record))
            }
        }
    }
}

impl<R: Record> Sorted<R> {
    fn of(runs: Vec<Run>, combine: Combine<R>) -> Result<Sorted<R>, Error> {
        let mut readers = runs.into_iter().map(RunReader::open).collect::<Result<Vec<_>, _>>()?;
        let mut heap = BinaryHeap::with_capacity(readers.len());
        for (index, reader) in readers.iter_mut().enumerate() {
            if let Some(record) = reader.next()? {
                heap.push(Reverse((record, index)));
            }
        }
        Ok(Sorted { source: Merge::Runs { heap, readers }, held: None, next: None, combine })
    }

    /// The next record, if there is one.
    ///
    /// # Errors
    /// As [`Sorter::finish`].
    pub fn next_record(&mut self) -> Result<Option<R>, Error> {
        if let Some(record) = self.held.take() {
            return Ok(Some(record));
        }
        let mut record = match self.next.take() {
            Some(record) => record,
            None => match self.source.next()? {
                Some(record) => record,
                None => return Ok(None),
            },
        };
        while let Some(next) = self.source.next()? {
            if !(self.combine)(&mut record, &next) {
                self.next = Some(next);
                break;
            }
        }
        Ok(Some(record))
    }

    /// Fills `group` with the next records that have the same key, which must follow the order; false at the end.
    /// A group is held whole: where one can be as large as all, take [`Sorted::next_record`].
    ///
    /// # Errors
    /// As [`Sorter::finish`].
    pub fn next_group<K: PartialEq>(
        &mut self,
        group: &mut Vec<R>,
        key: impl Fn(&R) -> K,
    ) -> Result<bool, Error> {
        group.clear();
        let Some(first) = self.next_record()? else { return Ok(false) };
        let of_group = key(&first);
        group.push(first);
        while let Some(record) = self.next_record()? {
            if key(&record) != of_group {
                self.held = Some(record);
                break;
            }
            group.push(record);
        }
        Ok(true)
    }
}

impl<R: Record> Iterator for Sorted<R> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_record();
        if next.is_err() {
            (self.source, self.held, self.next) = (Merge::Memory(Vec::new().into_iter()), None, None);
        }
        next.transpose()
    }
}

/// A run on disk, removed when this is dropped.
struct Run {
    path: PathBuf,
}

impl Drop for Run {
    fn drop(&mut self) {
        // What cannot be removed now is cleared away by the folder's owner.
        let _ = std::fs::remove_file(&self.path);
    }
}

struct RunWriter<R> {
    run: Run,
    file: BufWriter<File>,
    block: Vec<u8>,
    count: usize,
    block_records: usize,
    record: std::marker::PhantomData<R>,
}

impl<R: Record> RunWriter<R> {
    fn create(path: PathBuf, block_records: usize) -> Result<RunWriter<R>, Error> {
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        // A block is handed to the system at once; the buffer is for blocks of few records.
        let file = BufWriter::with_capacity(4096, file);
        Ok(RunWriter {
            run: Run { path },
            file,
            block: Vec::with_capacity(block_records * R::BYTES),
            count: 0,
            block_records,
            record: std::marker::PhantomData,
        })
    }

    fn push(&mut self, record: R) -> Result<(), Error> {
        let at = self.block.len();
        self.block.resize(at + R::BYTES, 0);
        record.put(&mut self.block[at..]);
        self.count += 1;
        if self.count == self.block_records { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), Error> {
        let mut head = [0; HEAD_BYTES];
        (self.count as u32).put(&mut head[..4]);
        xxh3_64(&self.block).put(&mut head[4..]);
        let written = self.file.write_all(&head).and_then(|()| self.file.write_all(&self.block));
        written.map_err(Error::io("write", &self.run.path))?;
        self.block.clear();
        self.count = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Run, Error> {
        if self.count > 0 {
            self.end_block()?;
        }
        // An empty block says that nothing was cut off.
        self.end_block()?;
        self.file.flush().map_err(Error::io("write", &self.run.path))?;
        Ok(self.run)
    }
}

struct RunReader<R> {
    run: Run,
    file: File,
    block: Vec<u8>,
    at: usize,
    /// Bytes of the file before the block's end.
    before: u64,
    ended: bool,
    record: std::marker::PhantomData<R>,
}

impl<R: Record> RunReader<R> {
    fn open(run: Run) -> Result<RunReader<R>, Error> {
        let file = File::open(&run.path).map_err(Error::io("open", &run.path))?;
        let record = std::marker::PhantomData;
        Ok(RunReader { run, file, block: Vec::new(), at: 0, before: 0, ended: false, record })
    }

    fn next(&mut self) -> Result<Option<R>, Error> {
        if self.at == self.block.len() {
            if !self.ended {
                self.read_block()?;
            }
            if self.ended {
                return Ok(None);
            }
        }
        let record = R::get(&self.block[self.at..self.at + R::BYTES]);
        self.at += R::BYTES;
        Ok(Some(record))
    }

    fn read_block(&mut self) -> Result<(), Error> {
        let malformed = |run: &Run, byte, reason: &str| Error::Malformed {
            path: run.path.clone(),
            byte,
            reason: reason.to_string(),
        };
        let mut head = [0; HEAD_BYTES];
        let read = self.file.read_exact(&mut head);
        let length = u32::get(&head[..4]) as usize * R::BYTES;
        let read = read.and_then(|()| {
            // The length is not believed before so much was there.
            self.block.clear();
            self.at = 0;
            let got = Read::by_ref(&mut self.file).take(length as u64).read_to_end(&mut self.block)?;
            if got < length { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
        });
        match read {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(malformed(&self.run, self.before, "the run is cut off"));
            }
            other => other.map_err(Error::io("read", &self.run.path))?,
        }
        if xxh3_64(&self.block) != u64::get(&head[4..]) {
            return Err(malformed(&self.run, self.before, "a block's checksum does not match"));
        }
        self.before += (HEAD_BYTES + length) as u64;
        self.ended = length == 0;
        Ok(())
    }
}

mod lookup;
#[cfg(test)]
mod tests;
