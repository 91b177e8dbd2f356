//! Token shards in Megatron-LM's format: `<prefix>.bin` holds the tokens, `<prefix>.idx` where each document lies.
//! Follows `megatron/core/datasets/indexed_dataset.py` of Megatron-LM (core 0.20), byte for byte; documents have
//! one sequence each when written here, and may have several when read.
//!
//! `.idx`, little-endian: `MMIDIDX\0\0`; u64 version, 1; u8 type code (4 = i32, 8 = u16); u64 sequences; u64
//! document indices; i32 tokens of each sequence; i64 byte offset in `.bin` of each sequence; i64 document indices
//! (the first sequence of each document, then the number of sequences); for multimodal data one more i8 a sequence.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use ledger::atomic::AtomicFile;
use memmap2::Mmap;

use crate::Error;

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const VERSION: u64 = 1;
const HEADER_BYTES: usize = 34;

/// How a token is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    /// u16, type code 8.
    Two,
    /// i32, type code 4.
    Four,
}

impl Width {
    /// Megatron's `DType.optimal_dtype`.
    fn for_vocabulary(vocab_size: usize) -> Width {
        if vocab_size < 65_500 { Width::Two } else { Width::Four }
    }

    fn bytes(self) -> usize {
        match self {
            Width::Two => 2,
            Width::Four => 4,
        }
    }

    fn code(self) -> u8 {
        match self {
            Width::Two => 8,
            Width::Four => 4,
        }
    }

    /// The greatest token that fits.
    fn greatest(self) -> u32 {
        match self {
            Width::Two => u32::from(u16::MAX),
            Width::Four => i32::MAX as u32,
        }
    }
}

/// `<prefix>.bin` or `<prefix>.idx`.
fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(prefix.as_os_str());
    name.push(suffix);
    PathBuf::from(name)
}

/// Writes a pair of files; they appear under their names at [`Writer::finish`], the index last.
pub struct Writer {
    tokens: BufWriter<AtomicFile>,
    bin: PathBuf,
    idx: PathBuf,
    width: Width,
    lengths: Vec<i32>,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins `<prefix>.bin` and `<prefix>.idx`, with tokens as u16 when `vocab_size` is below 65,500, else as i32.
    ///
    /// # Errors
    /// [`Error::Ledger`] when the file cannot be made.
    pub fn create(prefix: &Path, vocab_size: usize) -> Result<Writer, Error> {
        let bin = with_suffix(prefix, ".bin");
        let tokens = BufWriter::with_capacity(1 << 20, AtomicFile::create(&bin)?);
        Ok(Writer {
            tokens,
            bin,
            idx: with_suffix(prefix, ".idx"),
            width: Width::for_vocabulary(vocab_size),
            lengths: Vec::new(),
            buffer: Vec::new(),
        })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// [`Error::DoesNotFit`] for a token too great for the vocabulary's width, or more than 2^31 - 1 tokens;
    /// [`Error::Io`].
    pub fn push_document(&mut self, tokens: &[u32]) -> Result<(), Error> {
        let refuse = |reason: String| {
            Err(Error::DoesNotFit { path: self.bin.clone(), document: self.lengths.len() as u64, reason })
        };
        let Ok(length) = i32::try_from(tokens.len()) else {
            return refuse(format!("it has {} tokens, the format's limit is {}", tokens.len(), i32::MAX));
        };
        if let Some(token) = tokens.iter().find(|&&token| token > self.width.greatest()) {
            return refuse(format!(
                "token {token} does not fit {} bytes, chosen for the vocabulary",
                self.width.bytes()
            ));
        }
        self.buffer.clear();
        match self.width {
            Width::Two => {
                tokens.iter().for_each(|&t| self.buffer.extend_from_slice(&(t as u16).to_le_bytes()))
            }
            Width::Four => tokens.iter().for_each(|&t| self.buffer.extend_from_slice(&t.to_le_bytes())),
        }
        self.tokens.write_all(&self.buffer).map_err(Error::io("write", &self.bin))?;
        self.lengths.push(length);
        Ok(())
    }

    /// Writes the index and gives both files their names.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Ledger`]; then neither file is complete, and the index is not there.
    pub fn finish(self) -> Result<(), Error> {
        let Writer { tokens, bin, idx, width, lengths, .. } = self;
        let tokens = tokens.into_inner().map_err(|error| Error::io("write", &bin)(error.into_error()))?;
        tokens.commit()?;
        let mut index = BufWriter::with_capacity(1 << 20, AtomicFile::create(&idx)?);
        write_index(&mut index, width, &lengths).map_err(Error::io("write", &idx))?;
        index.into_inner().map_err(|error| Error::io("write", &idx)(error.into_error()))?.commit()?;
        Ok(())
    }
}

fn write_index(out: &mut impl Write, width: Width, lengths: &[i32]) -> std::io::Result<()> {
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&[width.code()])?;
    out.write_all(&(lengths.len() as u64).to_le_bytes())?;
    out.write_all(&(lengths.len() as u64 + 1).to_le_bytes())?;
    for length in lengths {
        out.write_all(&length.to_le_bytes())?;
    }
    let mut offset = 0i64;
    for &length in lengths {
        out.write_all(&offset.to_le_bytes())?;
        offset += i64::from(length) * width.bytes() as i64;
    }
    for document in 0..=lengths.len() as i64 {
        out.write_all(&document.to_le_bytes())?;
    }
    Ok(())
}

/// A pair of files opened for reading. Every offset is checked when opening, so that no reading afterwards can
/// leave the file.
pub struct Dataset {
    /// None for an empty file, which cannot be mapped.
    tokens: Option<Mmap>,
    width: Width,
    /// Byte offset in the token file of each document.
    offsets: Vec<u64>,
    /// Tokens of each document.
    sizes: Vec<u64>,
    total_tokens: u64,
}

impl Dataset {
    /// Opens `<prefix>.bin` and `<prefix>.idx`.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be opened; [`Error::Malformed`] with the byte of the index where it is
    /// not what the format asks, including documents that lie outside the token file.
    pub fn open(prefix: &Path) -> Result<Dataset, Error> {
        let idx = with_suffix(prefix, ".idx");
        let bin = with_suffix(prefix, ".bin");
        let index = std::fs::read(&idx).map_err(Error::io("read", &idx))?;
        let tokens = map(&bin)?;
        let token_bytes = tokens.as_ref().map_or(0, |map| map.len() as u64);
        let parsed = Index::parse(&index, token_bytes).map_err(|(byte, reason)| Error::Malformed {
            path: idx,
            byte: byte as u64,
            reason,
        })?;
        let total_tokens = parsed.sizes.iter().sum();
        Ok(Dataset {
            tokens,
            width: parsed.width,
            offsets: parsed.offsets,
            sizes: parsed.sizes,
            total_tokens,
        })
    }

    /// How many documents there are.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Tokens of each document.
    pub fn sizes(&self) -> &[u64] {
        &self.sizes
    }

    /// Tokens of all documents.
    pub fn total_tokens(&self) -> u64 {
        self.total_tokens
    }

    /// The tokens of a document.
    ///
    /// # Panics
    /// When `document` is not below [`Dataset::len`].
    pub fn document(&self, document: usize) -> Tokens<'_> {
        let start = self.offsets[document] as usize;
        let length = self.sizes[document] as usize * self.width.bytes();
        let bytes = match &self.tokens {
            Some(tokens) => &tokens[start..start + length],
            None => &[],
        };
        Tokens { bytes, width: self.width }
    }

    /// The greatest token of all documents; reads all of them. A negative number in a file of i32 counts as
    /// greater than any token.
    pub fn greatest_token(&self) -> Option<u32> {
        (0..self.len()).filter_map(|document| self.document(document).iter().max()).max()
    }
}

/// The tokens of a document, where they lie in the mapped file.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    bytes: &'a [u8],
    width: Width,
}

impl<'a> Tokens<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.width.bytes()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One of them.
    ///
    /// # Panics
    /// When `index` is not below [`Tokens::len`].
    pub fn get(&self, index: usize) -> u32 {
        let bytes = &self.bytes[index * self.width.bytes()..][..self.width.bytes()];
        read_token(bytes)
    }

    /// All of them in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        self.bytes.chunks_exact(self.width.bytes()).map(read_token)
    }

    /// Copies the tokens from `start` on into `into`, until either ends; returns how many.
    pub fn copy_to(&self, start: usize, into: &mut [u32]) -> usize {
        let count = self.len().saturating_sub(start).min(into.len());
        let bytes = &self.bytes[(start.min(self.len())) * self.width.bytes()..];
        for (token, bytes) in into.iter_mut().zip(bytes.chunks_exact(self.width.bytes())) {
            *token = read_token(bytes);
        }
        count
    }

    /// All of them as a vector.
    pub fn to_vec(&self) -> Vec<u32> {
        self.iter().collect()
    }
}

fn read_token(bytes: &[u8]) -> u32 {
    match *bytes {
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => unreachable!("a token has two or four bytes"),
    }
}

/// A file as bytes; nothing for an empty one.
pub(crate) fn map(path: &Path) -> Result<Option<Mmap>, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_err(Error::io("open", path))?.len();
    if length == 0 {
        return Ok(None);
    }
    // SAFETY: the map is only read, as bytes, of which every value is valid. Token files are written under a
    // temporary name and never changed in place, and no other file is changed once it is mapped; a file that
    // another program shortens while it is mapped ends this program by a signal, as for any mapped file.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
    Ok(Some(map))
}

/// A checked index.
struct Index {
    width: Width,
    offsets: Vec<u64>,
    sizes: Vec<u64>,
}

/// The byte of the index where it is wrong, and why.
type Fault = (usize, String);

impl Index {
    fn parse(index: &[u8], token_bytes: u64) -> Result<Index, Fault> {
        let number = |at: usize| -> Result<u64, Fault> {
            let bytes = index.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or_else(|| (index.len(), "the header is cut off".to_string()))
        };
        if !index.starts_with(MAGIC) {
            return Err((0, "it does not begin with MMIDIDX and two zeros".into()));
        }
        if number(9)? != VERSION {
            return Err((9, format!("version {}, not {VERSION}", number(9)?)));
        }
        let (sequences, documents) = (number(18)?, number(26)?);
        let width = match index[17] {
            4 => Width::Four,
            8 => Width::Two,
            other => return Err((17, format!("type code {other}; 4 (i32) and 8 (u16) hold tokens"))),
        };
        // Before anything is allocated: the counts must agree with the file's length.
        let expected = sequences
            .checked_mul(12)
            .and_then(|bytes| bytes.checked_add(documents.checked_mul(8)?))
            .and_then(|bytes| bytes.checked_add(HEADER_BYTES as u64));
        let with_modes = expected.and_then(|bytes| bytes.checked_add(sequences));
        if expected != Some(index.len() as u64) && with_modes != Some(index.len() as u64) {
            let reason = format!(
                "{} bytes do not hold {sequences} sequences and {documents} document indices",
                index.len()
            );
            return Err((18, reason));
        }
        // Both now fit the file, so they fit memory and usize.
        let (sequences, documents) = (sequences as usize, documents as usize);
        let lengths_at = HEADER_BYTES;
        let offsets_at = lengths_at + 4 * sequences;
        let documents_at = offsets_at + 8 * sequences;
        let signed = |at: usize| number(at).map(|value| value as i64);
        let length_of = |sequence: usize| -> Result<u64, Fault> {
            let at = lengths_at + 4 * sequence;
            let bytes = [index[at], index[at + 1], index[at + 2], index[at + 3]];
            u64::try_from(i32::from_le_bytes(bytes))
                .map_err(|_| (at, format!("sequence {sequence} has a negative length")))
        };
        let offset_of = |sequence: usize| -> Result<u64, Fault> {
            let at = offsets_at + 8 * sequence;
            let offset = u64::try_from(signed(at)?)
                .map_err(|_| (at, format!("sequence {sequence} has a negative offset")))?;
            let end = length_of(sequence)? * width.bytes() as u64;
            if offset.checked_add(end).is_none_or(|end| end > token_bytes) {
                let reason =
                    format!("sequence {sequence} lies outside the token file of {token_bytes} bytes");
                return Err((at, reason));
            }
            Ok(offset)
        };

        let mut parsed = Index {
            width,
            offsets: Vec::with_capacity(documents.saturating_sub(1)),
            sizes: Vec::with_capacity(documents.saturating_sub(1)),
        };
        let mut first = match documents {
            0 if sequences == 0 => return Ok(parsed),
            0 => return Err((26, "there are sequences but no document indices".into())),
            _ => signed(documents_at)?,
        };
        if first != 0 {
            return Err((documents_at, format!("the first document begins at sequence {first}, not 0")));
        }
        for document in 1..documents {
            let at = documents_at + 8 * document;
            let next = signed(at)?;
            if next < first || next > sequences as i64 {
                return Err((
                    at,
                    format!("document index {next} does not lie between {first} and {sequences}"),
                ));
            }
            let mut size = 0;
            let mut offset = 0;
            for sequence in first as usize..next as usize {
                let start = offset_of(sequence)?;
                if sequence == first as usize {
                    offset = start;
                } else if start != offset + size * width.bytes() as u64 {
                    let reason =
                        format!("sequence {sequence} does not follow the one before it in its document");
                    return Err((offsets_at + 8 * sequence, reason));
                }
                size += length_of(sequence)?;
            }
            parsed.offsets.push(offset);
            parsed.sizes.push(size);
            first = next;
        }
        if first != sequences as i64 {
            let at = documents_at + 8 * (documents - 1);
            return Err((at, format!("the last document ends at sequence {first} of {sequences}")));
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests;
