//! Sorted records in a file that is read from any of them on, with an index in memory of every 4096th.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::{Record, Sorted};
use crate::Error;

const EVERY: u64 = 4096;

/// The records; their file is removed when this is dropped.
pub(crate) struct Lookup<R: Record> {
    path: PathBuf,
    file: File,
    records: u64,
    /// What the records are looked up by, in whose order they are.
    key: fn(&R) -> u64,
    /// The key of every [`EVERY`]th.
    index: Vec<u64>,
}

impl<R: Record> Drop for Lookup<R> {
    fn drop(&mut self) {
        // What cannot be removed now is cleared away by the folder's owner.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl<R: Record> Lookup<R> {
    /// Writes all records to a file of this name.
    pub fn write(path: PathBuf, sorted: Sorted<R>, key: fn(&R) -> u64) -> Result<Lookup<R>, Error> {
        let failed = || Error::io("write", &path);
        let mut file = BufWriter::with_capacity(1 << 16, File::create(&path).map_err(failed())?);
        let (mut records, mut index) = (0, Vec::new());
        let mut bytes = vec![0; R::BYTES];
        for record in sorted {
            let record = record?;
            if records % EVERY == 0 {
                index.push(key(&record));
            }
            records += 1;
            record.put(&mut bytes);
            file.write_all(&bytes).map_err(failed())?;
        }
        file.flush().map_err(failed())?;
        drop(file);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        Ok(Lookup { path, file, records, key, index })
    }

    /// The records whose keys are from `first` to `last`.
    pub fn between(&self, first: u64, last: u64) -> Result<Vec<R>, Error> {
        let mut block = self.index.partition_point(|key| *key < first).saturating_sub(1) as u64;
        let mut found = Vec::new();
        while block * EVERY < self.records {
            let count = EVERY.min(self.records - block * EVERY) as usize;
            let mut bytes = vec![0; count * R::BYTES];
            let at = block * EVERY * R::BYTES as u64;
            self.file.read_exact_at(&mut bytes, at).map_err(Error::io("read", &self.path))?;
            for record in bytes.chunks_exact(R::BYTES).map(R::get) {
                if (self.key)(&record) > last {
                    return Ok(found);
                }
                if (self.key)(&record) >= first {
                    found.push(record);
                }
            }
            block += 1;
        }
        Ok(found)
    }
}
