//! A file of a model in memory, page by page as it is read.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::Error;

/// A mapped file and its name.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) path: PathBuf,
    pub(super) bytes: Mmap,
}

impl Mapped {
    /// Maps a whole file.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| Error::file(path, error))?;
        // SAFETY: the file is read as bytes; if somebody cuts it short meanwhile, the process gets SIGBUS, which every
        // program that maps model files accepts.
        let bytes = unsafe { Mmap::map(&file) }.map_err(|error| Error::file(path, error))?;
        Ok(Self { path: path.to_owned(), bytes })
    }
}
