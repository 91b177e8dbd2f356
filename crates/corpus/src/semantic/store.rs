//! Embeddings on disk, in one file that only grows: each is kept by the hash of its text, so that whatever changes of the
//! sources or the rules, no text is embedded twice by the same model. Vectors have length 1 and are kept in f16, which
//! moves a cosine by about 1e-5.
//!
//! The file: the magic, the width (u32), the digest of the embedder's identity (64 characters), the XXH3 of these; then
//! records of the text's XXH3 (u128), the vector, and the XXH3 of both (u64), all little endian. A record that a kill has
//! torn is cut off, and one whose checksum does not match is none.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kernels::quant::Encoding;
use ledger::atomic;
use ledger::digest::Digest;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;

const MAGIC: &[u8; 8] = b"ALTIEMB1";
const HEAD: usize = 8 + 4 + 64 + 8;
const KEY: usize = 16;
const CHECK: usize = 8;
/// Widest vector: its numbers must be believed before they are there.
const MAX_WIDTH: usize = 1 << 16;

/// The file, open.
pub(crate) struct Store {
    path: PathBuf,
    identity: Digest,
    /// Nothing until the first vector says how wide it is.
    open: Option<Open>,
    bytes: Vec<u8>,
}

struct Open {
    file: File,
    width: usize,
    records: u32,
}

impl Open {
    fn record(&self) -> usize {
        KEY + 2 * self.width + CHECK
    }

    fn place(&self, record: u32) -> u64 {
        HEAD as u64 + u64::from(record) * self.record() as u64
    }
}

impl Store {
    /// Opens the file in `folder` that belongs to this identity of an embedder. One that is not what it should be
    /// counts as absent.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(folder: &Path, identity: Digest) -> Result<Store, Error> {
        let number = xxh3_64(identity.as_str().as_bytes());
        let path = folder.join(format!("embeddings-{number:020}.vectors"));
        let mut store = Store { path, identity, open: None, bytes: Vec::new() };
        if store.path.exists() {
            store.open = store.read_head()?;
        }
        Ok(store)
    }

    fn read_head(&self) -> Result<Option<Open>, Error> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(Error::io("open", &self.path))?;
        let length = file.metadata().map_err(Error::io("read", &self.path))?.len();
        let mut head = [0; HEAD];
        if length < HEAD as u64 {
            return Ok(None);
        }
        file.read_exact(&mut head).map_err(Error::io("read", &self.path))?;
        let width = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        if head[..] != head_of(width, &self.identity) || width == 0 || width > MAX_WIDTH {
            return Ok(None);
        }
        let mut open = Open { file, width, records: 0 };
        let records = (length - HEAD as u64) / open.record() as u64;
        open.records = u32::try_from(records).unwrap_or(u32::MAX);
        open.file.set_len(open.place(open.records)).map_err(Error::io("cut", &self.path))?;
        Ok(Some(open))
    }

    /// Numbers of a vector, once there is one.
    pub fn width(&self) -> Option<usize> {
        self.open.as_ref().map(|open| open.width)
    }

    /// Vectors in the file.
    #[cfg(test)]
    pub fn len(&self) -> u32 {
        self.open.as_ref().map_or(0, |open| open.records)
    }

    /// Appends the vector of a text. It is handed to the system by [`Store::flush`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Ledger`] and [`Error::TooManyDocuments`].
    pub fn append(&mut self, key: u128, vector: &[f32]) -> Result<(), Error> {
        let records = match &mut self.open {
            Some(open) => open,
            None => {
                atomic::write(&self.path, &head_of(vector.len(), &self.identity))?;
                let file = OpenOptions::new().read(true).write(true).open(&self.path);
                let file = file.map_err(Error::io("open", &self.path))?;
                self.open.insert(Open { file, width: vector.len(), records: 0 })
            }
        };
        debug_assert_eq!(vector.len(), records.width, "the caller has compared them");
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&key.to_le_bytes());
        self.bytes.resize(start + KEY + 2 * vector.len(), 0);
        Encoding::F16.encode(vector, &mut self.bytes[start + KEY..]);
        let check = xxh3_64(&self.bytes[start..]);
        self.bytes.extend_from_slice(&check.to_le_bytes());
        Ok(())
    }

    /// Hands what was appended to the system: a killed program loses nothing of it.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::TooManyDocuments`].
    pub fn flush(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.as_mut().filter(|_| !self.bytes.is_empty()) else { return Ok(()) };
        let place = open.place(open.records);
        open.file.write_all_at(&self.bytes, place).map_err(Error::io("write", &self.path))?;
        let records = open.records as usize + self.bytes.len() / open.record();
        open.records =
            u32::try_from(records).map_err(|_| Error::TooManyDocuments { most: u32::MAX.into() })?;
        self.bytes.clear();
        Ok(())
    }

    /// Puts what was flushed on the disk, whatever happens to the machine.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        match &mut self.open {
            Some(open) => open.file.flush().and_then(|()| open.file.sync_data()),
            None => Ok(()),
        }
        .map_err(Error::io("sync", &self.path))
    }

    /// Calls `each` with the hash and the number of every vector.
    ///
    /// # Errors
    /// [`Error::Io`], and what `each` says.
    pub fn keys(&self, mut each: impl FnMut(u128, u32) -> Result<(), Error>) -> Result<(), Error> {
        let Some(open) = &self.open else { return Ok(()) };
        let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let failed = || Error::io("read", &self.path);
        reader.read_exact(&mut [0; HEAD]).map_err(failed())?;
        let mut record = vec![0; open.record()];
        for number in 0..open.records {
            reader.read_exact(&mut record).map_err(failed())?;
            let (kept, check) = record.split_at(record.len() - CHECK);
            if xxh3_64(kept).to_le_bytes() == check {
                let mut key = [0; KEY];
                key.copy_from_slice(&kept[..KEY]);
                each(u128::from_le_bytes(key), number)?;
            }
        }
        Ok(())
    }

    /// Reads the vectors of these numbers, brought to length 1 again, into `out`, one after another. Neighbours are read together.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(&self, numbers: &[u32], out: &mut [f32]) -> Result<(), Error> {
        let Some(open) = &self.open else { return Ok(()) };
        let (width, record) = (open.width, open.record());
        let (mut bytes, mut halves) = (Vec::new(), Vec::with_capacity(numbers.len() * 2 * width));
        let mut at = 0;
        while at < numbers.len() {
            let neighbours = numbers[at..].windows(2).take_while(|pair| pair[0] + 1 == pair[1]);
            let count = neighbours.take((1 << 20) / record).count() + 1;
            bytes.resize(count * record, 0);
            let read = open.file.read_exact_at(&mut bytes, open.place(numbers[at]));
            read.map_err(Error::io("read", &self.path))?;
            for kept in bytes.chunks_exact(record) {
                halves.extend_from_slice(&kept[KEY..record - CHECK]);
            }
            at += count;
        }
        let out = &mut out[..numbers.len() * width];
        Encoding::F16.decode(&halves, 0, out);
        // Rounding has changed lengths by up to 2^-12, which cosines are not to see.
        out.par_chunks_exact_mut(width).for_each(|row| {
            let length = row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
            let factor = (1.0 / length) as f32;
            row.iter_mut().for_each(|value| *value *= factor);
        });
        Ok(())
    }
}

fn head_of(width: usize, identity: &Digest) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&(width as u32).to_le_bytes());
    head[12..76].copy_from_slice(identity.as_str().as_bytes());
    let check = xxh3_64(&head[..76]);
    head[76..].copy_from_slice(&check.to_le_bytes());
    head
}
