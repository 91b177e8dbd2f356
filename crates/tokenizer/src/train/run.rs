//! Counts on disk: sorted files ("runs") of pieces with how often each group of documents holds them, and the merging of
//! several sorted streams into one. What a run says is checked while it is read; where the runs lie, the work folder
//! knows.
//!
//! A run begins with [`MAGIC`]. Each piece follows with five parts, numbers as LEB128: how many bytes it has in common
//! with the one before, how many more there are, these, how many groups hold it, and for each group, in ascending order,
//! its number and the count.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use ledger::atomic::AtomicFile;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::table::{Sorted, SortedIter};
use crate::error::Error;

/// How a run begins; the last digit is the format's version.
const MAGIC: &[u8; 8] = b"ALTIRUN1";
/// Bytes that are written or read at once.
const BUFFER: usize = 1 << 18;
/// Longer pieces do not exist: two stretches of 25,000 characters have at most a fifth of it.
const MAX_PIECE: u64 = 1 << 20;
/// Most groups.
const MAX_GROUPS: u64 = 1 << 16;

/// What the journal knows of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The file's name in the work folder.
    pub file: String,
    /// How often its counts were merged from others.
    pub level: u32,
    /// Pieces, different from one another.
    pub pieces: u64,
    /// Bytes of these.
    pub piece_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// XXH3 of the file.
    pub checksum: u64,
}

/// Writes a run, piece by piece in ascending order.
pub(super) struct RunWriter {
    file: AtomicFile,
    path: PathBuf,
    buffer: Vec<u8>,
    hasher: Xxh3Default,
    previous: Vec<u8>,
    run: Run,
}

impl RunWriter {
    pub fn create(folder: &Path, file: String, level: u32) -> Result<RunWriter, Error> {
        let path = folder.join(&file);
        let run = Run { file, level, pieces: 0, piece_bytes: 0, file_bytes: 0, checksum: 0 };
        let mut buffer = Vec::with_capacity(BUFFER + 4096);
        buffer.extend_from_slice(MAGIC);
        let file = AtomicFile::create(&path)?;
        Ok(RunWriter { file, path, buffer, hasher: Xxh3Default::new(), previous: Vec::new(), run })
    }

    /// Adds a piece, which comes after all before it, with its groups in ascending order.
    pub fn push(&mut self, piece: &[u8], counts: &[(u16, u64)]) -> Result<(), Error> {
        let shared = self.previous.iter().zip(piece).take_while(|(a, b)| a == b).count();
        let rest = &piece[shared..];
        put(&mut self.buffer, shared as u64);
        put(&mut self.buffer, rest.len() as u64);
        self.buffer.extend_from_slice(rest);
        put(&mut self.buffer, counts.len() as u64);
        for &(group, count) in counts {
            put(&mut self.buffer, u64::from(group));
            put(&mut self.buffer, count);
        }
        self.previous.truncate(shared);
        self.previous.extend_from_slice(rest);
        self.run.pieces += 1;
        self.run.piece_bytes += piece.len() as u64;
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.hasher.update(&self.buffer);
        self.run.file_bytes += self.buffer.len() as u64;
        let written = self.file.write_all(&self.buffer);
        written.map_err(|source| Error::WorkIo { operation: "write", path: self.path.clone(), source })?;
        self.buffer.clear();
        Ok(())
    }

    /// Puts the file on the disk.
    pub fn finish(mut self) -> Result<Run, Error> {
        self.flush()?;
        self.run.checksum = self.hasher.digest();
        self.file.commit()?;
        Ok(self.run)
    }
}

fn put(buffer: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        buffer.push(number as u8 | 0x80);
        number >>= 7;
    }
    buffer.push(number as u8);
}

/// Reads a run and checks that it is what was written.
pub(super) struct RunReader {
    file: File,
    path: PathBuf,
    run: Run,
    buffer: Vec<u8>,
    at: usize,
    /// Bytes of the file before the buffer.
    before: u64,
    hasher: Xxh3Default,
    read: u64,
    piece: Vec<u8>,
    counts: Vec<(u16, u64)>,
}

impl RunReader {
    pub fn open(folder: &Path, run: &Run) -> Result<RunReader, Error> {
        let path = folder.join(&run.file);
        let file = File::open(&path).map_err(|source| Error::WorkIo {
            operation: "open",
            path: path.clone(),
            source,
        })?;
        let mut reader = RunReader {
            file,
            path,
            run: run.clone(),
            buffer: Vec::new(),
            at: 0,
            before: 0,
            hasher: Xxh3Default::new(),
            read: 0,
            piece: Vec::new(),
            counts: Vec::new(),
        };
        let mut magic = [0; 8];
        for byte in &mut magic {
            *byte = reader.byte()?;
        }
        match &magic == MAGIC {
            true => Ok(reader),
            false => Err(reader.fault("it does not begin as a run of counts does")),
        }
    }

    fn fault(&self, problem: impl Into<String>) -> Error {
        let byte = self.before + self.at as u64;
        Error::Work {
            path: self.path.clone(),
            problem: format!("damaged at byte {byte}: {}", problem.into()),
        }
    }

    /// Reads on; false at the end of the file.
    fn fill(&mut self) -> Result<bool, Error> {
        self.before += self.buffer.len() as u64;
        self.at = 0;
        self.buffer.resize(BUFFER, 0);
        let read = loop {
            match self.file.read(&mut self.buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => break read,
            }
        };
        let path = || self.path.clone();
        let read = read.map_err(|source| Error::WorkIo { operation: "read", path: path(), source })?;
        self.buffer.truncate(read);
        self.hasher.update(&self.buffer);
        Ok(read > 0)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Error> {
        if self.at == self.buffer.len() && !self.fill()? {
            return Err(self.fault("it ends too early"));
        }
        self.at += 1;
        Ok(self.buffer[self.at - 1])
    }

    #[inline]
    fn number(&mut self) -> Result<u64, Error> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                // The tenth byte has one bit left.
                return if shift == 63 && byte > 1 {
                    Err(self.fault("a number is too large"))
                } else {
                    Ok(number)
                };
            }
        }
        Err(self.fault("a number is too long"))
    }

    /// Goes to the next piece; false at the end.
    fn advance(&mut self) -> Result<bool, Error> {
        if self.read == self.run.pieces {
            if self.at < self.buffer.len() || self.fill()? {
                return Err(self.fault(format!("more follows after {} pieces", self.read)));
            }
            return match self.hasher.digest() == self.run.checksum {
                true => Ok(false),
                false => Err(self.fault("its checksum is not what was written")),
            };
        }
        let (shared, rest) = (self.number()?, self.number()?);
        if shared > self.piece.len() as u64 || rest == 0 || rest > MAX_PIECE - shared {
            return Err(self.fault(format!("a piece shares {shared} bytes and has {rest} more")));
        }
        let shared = shared as usize;
        let next_was = self.piece.get(shared).copied();
        self.piece.truncate(shared);
        for _ in 0..rest {
            let byte = self.byte()?;
            self.piece.push(byte);
        }
        if next_was.is_some_and(|was| self.piece[shared] <= was) {
            return Err(self.fault("the pieces are not in order"));
        }
        let groups = self.number()?;
        if groups == 0 || groups > MAX_GROUPS {
            return Err(self.fault(format!("a piece is of {groups} groups")));
        }
        self.counts.clear();
        for _ in 0..groups {
            let (group, count) = (self.number()?, self.number()?);
            let after = self.counts.last().is_none_or(|&(last, _)| u64::from(last) < group);
            if group >= MAX_GROUPS || !after || count == 0 {
                return Err(self.fault(format!("group {group} has count {count}")));
            }
            self.counts.push((group as u16, count));
        }
        self.read += 1;
        Ok(true)
    }
}

/// Pieces in ascending order with their counts by group.
pub(super) enum Stream<'a> {
    File(Box<RunReader>),
    /// Of one group; the piece that it stands at.
    Memory {
        group: u16,
        iter: SortedIter<'a>,
        piece: Vec<u8>,
        count: [(u16, u64); 1],
    },
}

impl<'a> Stream<'a> {
    pub fn memory(group: u16, sorted: &'a Sorted) -> Stream<'a> {
        Stream::Memory { group, iter: sorted.iter(), piece: Vec::new(), count: [(group, 0)] }
    }

    fn advance(&mut self) -> Result<bool, Error> {
        match self {
            Stream::File(reader) => reader.advance(),
            Stream::Memory { group, iter, piece, count } => {
                let Some((next, times)) = iter.next() else { return Ok(false) };
                piece.clear();
                piece.extend_from_slice(next);
                count[0] = (*group, times);
                Ok(true)
            }
        }
    }

    fn piece(&self) -> &[u8] {
        match self {
            Stream::File(reader) => &reader.piece,
            Stream::Memory { piece, .. } => piece,
        }
    }

    fn counts(&self) -> &[(u16, u64)] {
        match self {
            Stream::File(reader) => &reader.counts,
            Stream::Memory { count, .. } => count,
        }
    }
}

/// Several streams as one: each piece once, its counts summed by group.
pub(super) struct Merge<'a> {
    /// A heap: none is before the one at half its index.
    heads: Vec<Head<'a>>,
    piece: Vec<u8>,
    counts: Vec<(u16, u64)>,
}

struct Head<'a> {
    /// The first 16 bytes of its piece, which mostly decide.
    prefix: u128,
    stream: Stream<'a>,
}

impl Head<'_> {
    fn is_before(&self, other: &Head) -> bool {
        let by_prefix = self.prefix.cmp(&other.prefix);
        by_prefix.then_with(|| self.stream.piece().cmp(other.stream.piece())) == Ordering::Less
    }

    fn advance(&mut self) -> Result<bool, Error> {
        let more = self.stream.advance()?;
        let piece = self.stream.piece();
        let mut bytes = [0; 16];
        let length = piece.len().min(16);
        bytes[..length].copy_from_slice(&piece[..length]);
        self.prefix = u128::from_be_bytes(bytes);
        Ok(more)
    }
}

impl<'a> Merge<'a> {
    pub fn new(streams: impl IntoIterator<Item = Stream<'a>>) -> Result<Merge<'a>, Error> {
        let mut heads = Vec::new();
        for stream in streams {
            let mut head = Head { prefix: 0, stream };
            if head.advance()? {
                heads.push(head);
            }
        }
        let mut merge = Merge { heads, piece: Vec::new(), counts: Vec::new() };
        for at in (0..merge.heads.len() / 2).rev() {
            merge.sink(at);
        }
        Ok(merge)
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let mut first = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heads.len() && self.heads[child].is_before(&self.heads[first]) {
                    first = child;
                }
            }
            if first == at {
                return;
            }
            self.heads.swap(at, first);
            at = first;
        }
    }

    /// The next piece with its counts in ascending order of the groups, both lent until the next step.
    #[expect(clippy::type_complexity, reason = "a name for the pair would say less")]
    pub fn next(&mut self) -> Result<Option<(&[u8], &[(u16, u64)])>, Error> {
        let Some(head) = self.heads.first() else { return Ok(None) };
        self.piece.clear();
        self.piece.extend_from_slice(head.stream.piece());
        self.counts.clear();
        while let Some(head) = self.heads.first_mut()
            && head.stream.piece() == self.piece
        {
            for &(group, count) in head.stream.counts() {
                match self.counts.binary_search_by_key(&group, |known| known.0) {
                    Ok(at) => self.counts[at].1 = self.counts[at].1.saturating_add(count),
                    Err(at) => self.counts.insert(at, (group, count)),
                }
            }
            if !head.advance()? {
                self.heads.swap_remove(0);
            }
            self.sink(0);
        }
        Ok(Some((&self.piece, &self.counts)))
    }
}

/// Writes what the streams hold as one run.
pub(super) fn write<'a>(
    streams: impl IntoIterator<Item = Stream<'a>>,
    folder: &Path,
    file: String,
    level: u32,
) -> Result<Run, Error> {
    let mut writer = RunWriter::create(folder, file, level)?;
    let mut merge = Merge::new(streams)?;
    while let Some((piece, counts)) = merge.next()? {
        writer.push(piece, counts)?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Counted = BTreeMap<Vec<u8>, BTreeMap<u16, u64>>;

    fn runs() -> impl Strategy<Value = Vec<Counted>> {
        let piece = proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), any::<u8>()], 1..24);
        let counts = proptest::collection::btree_map(
            prop_oneof![0..3u16, Just(u16::MAX)],
            prop_oneof![1..4u64, Just(u64::MAX >> 8)],
            1..4,
        );
        proptest::collection::vec(proptest::collection::btree_map(piece, counts, 0..60), 0..6)
    }

    fn write_run(folder: &Path, name: &str, counted: &Counted) -> Run {
        let mut writer = RunWriter::create(folder, name.to_owned(), 0).unwrap();
        for (piece, counts) in counted {
            let counts: Vec<_> = counts.iter().map(|(group, count)| (*group, *count)).collect();
            writer.push(piece, &counts).unwrap();
        }
        writer.finish().unwrap()
    }

    fn read_all(folder: &Path, runs: &[Run]) -> Result<Counted, Error> {
        let mut streams = Vec::new();
        for run in runs {
            streams.push(Stream::File(Box::new(RunReader::open(folder, run)?)));
        }
        let mut merge = Merge::new(streams)?;
        let mut found = Counted::new();
        while let Some((piece, counts)) = merge.next()? {
            assert!(
                found.insert(piece.to_vec(), counts.iter().copied().collect()).is_none(),
                "{piece:?} twice"
            );
        }
        Ok(found)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn runs_are_read_as_written_and_merged_as_sums(counted in runs()) {
            let folder = tempfile::tempdir().unwrap();
            let written: Vec<Run> = counted
                .iter()
                .enumerate()
                .map(|(index, counted)| write_run(folder.path(), &format!("run-{index}"), counted))
                .collect();
            let mut expected = Counted::new();
            for (piece, counts) in counted.iter().flatten() {
                for (group, count) in counts {
                    *expected.entry(piece.clone()).or_default().entry(*group).or_default() += count;
                }
            }
            prop_assert_eq!(&read_all(folder.path(), &written).unwrap(), &expected);
            let streams: Vec<_> = written
                .iter()
                .map(|run| Stream::File(Box::new(RunReader::open(folder.path(), run).unwrap())))
                .collect();
            let merged = write(streams, folder.path(), "merged".into(), 1).unwrap();
            prop_assert_eq!(merged.pieces, expected.len() as u64);
            prop_assert_eq!(read_all(folder.path(), &[merged]).unwrap(), expected);
        }

        #[test]
        fn a_damaged_run_is_refused(
            counted in runs(),
            at in any::<prop::sample::Index>(),
            change in 1..=255u8,
            cut in any::<bool>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let counted = counted.into_iter().next().unwrap_or_default();
            let run = write_run(folder.path(), "run", &counted);
            let path = folder.path().join("run");
            let mut bytes = std::fs::read(&path).unwrap();
            prop_assert_eq!(bytes.len() as u64, run.file_bytes);
            let at = at.index(bytes.len());
            match cut {
                true => bytes.truncate(at),
                false => bytes[at] ^= change,
            }
            std::fs::write(&path, bytes).unwrap();
            let error = read_all(folder.path(), &[run]).unwrap_err().to_string();
            prop_assert!(error.contains("damaged at byte"), "{}", error);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), pieces in 0..9u64) {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("run"), [&MAGIC[..], &bytes].concat()).unwrap();
            let run =
                Run { file: "run".into(), level: 0, pieces, piece_bytes: 0, file_bytes: 0, checksum: 1 };
            prop_assert!(read_all(folder.path(), &[run]).is_err());
        }
    }
}
