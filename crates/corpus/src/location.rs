//! Where the bytes of an input lie: in a file here, or in an object elsewhere. Readers do not tell them apart.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use parquet::file::reader::{ChunkReader, Length};
use store::{Object, Ranges, Stream};

/// A file or an object.
#[derive(Debug, Clone)]
pub(crate) enum Location {
    File(PathBuf),
    Object(Remote),
}

/// An object, and what keeps it from being read at this moment, if anything does. That is not the object's fault, so it
/// must not be counted as one: it ends the reading.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    object: Object,
    failed: Arc<Mutex<Option<store::Error>>>,
}

/// What tells whether an input is still the same, without reading it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    /// Path, links resolved, or address.
    pub place: PathBuf,
    /// When it was written, in nanoseconds since 1970; of files.
    pub modified: Option<u64>,
    /// What a store calls its state, or else when it says that it was written.
    pub etag: Option<String>,
}

impl Location {
    pub fn object(object: Object) -> Location {
        Location::Object(Remote { object, failed: Arc::default() })
    }

    /// The file here, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Location::File(path) => Some(path),
            Location::Object(_) => None,
        }
    }

    /// The end of the name.
    pub fn extension(&self) -> String {
        let of = |path: &Path| path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match self {
            Location::File(path) => of(path),
            Location::Object(remote) => of(Path::new(&remote.object.address().key)),
        }
    }

    /// Its path, links resolved, or its address.
    pub fn place(&self) -> PathBuf {
        match self {
            Location::File(path) => path.canonicalize().unwrap_or_else(|_| path.clone()),
            Location::Object(remote) => PathBuf::from(remote.object.address().to_string()),
        }
    }

    pub fn state(&self) -> State {
        let (modified, etag) = match self {
            Location::File(path) => {
                let time = std::fs::metadata(path).and_then(|data| data.modified()).ok();
                let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                (since.and_then(|since| u64::try_from(since.as_nanos()).ok()), None)
            }
            Location::Object(Remote { object, .. }) => {
                (None, object.etag().or(object.modified()).map(str::to_owned))
            }
        };
        State { place: self.place(), modified, etag }
    }

    /// Its bytes, from the first on.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Location::File(path) => Box::new(File::open(path)?),
            Location::Object(remote) => {
                Box::new(Watched { stream: remote.object.stream(), remote: remote.clone() })
            }
        })
    }

    /// Its bytes, in any order.
    pub fn open_table(&self) -> io::Result<TableFile> {
        Ok(match self {
            Location::File(path) => TableFile::Here(Arc::new(File::open(path)?)),
            Location::Object(remote) => TableFile::There(Arc::new(remote.object.ranges()), remote.clone()),
        })
    }

    /// Why reading has to end here. It is told once.
    pub fn failure(&self) -> Option<store::Error> {
        match self {
            Location::File(_) => None,
            Location::Object(remote) => remote.failed.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    /// Whether reading has to end here.
    pub fn has_failed(&self) -> bool {
        match self {
            Location::File(_) => false,
            Location::Object(remote) => remote.has_failed(),
        }
    }
}

impl Remote {
    pub fn get(&self) -> &Object {
        &self.object
    }

    fn has_failed(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take_note(&self, error: &store::Error) {
        if !error.is_of_object() {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

/// A stream whose failures are noted.
struct Watched {
    stream: Stream,
    remote: Remote,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer).inspect_err(|_| {
            if let Some(error) = self.stream.error() {
                self.remote.take_note(error);
            }
        })
    }
}

/// A Parquet file, which is read in any order.
#[derive(Clone)]
pub(crate) enum TableFile {
    Here(Arc<File>),
    There(Arc<Ranges>, Remote),
}

/// Bytes that a reader of pages' heads is given at once.
const HEAD_BYTES: usize = 8 << 10;

impl Length for TableFile {
    fn len(&self) -> u64 {
        match self {
            TableFile::Here(file) => file.len(),
            TableFile::There(ranges, _) => ranges.bytes(),
        }
    }
}

impl ChunkReader for TableFile {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Box<dyn Read>> {
        Ok(match self {
            TableFile::Here(file) => Box::new(file.get_read(start)?),
            TableFile::There(ranges, remote) => {
                let from = From { ranges: ranges.clone(), remote: remote.clone(), at: start };
                Box::new(io::BufReader::with_capacity(HEAD_BYTES, from))
            }
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        match self {
            TableFile::Here(file) => file.get_bytes(start, length),
            TableFile::There(ranges, remote) => {
                let bytes = ranges.read(start, length).map_err(|error| {
                    remote.take_note(&error);
                    parquet::errors::ParquetError::External(Box::new(error))
                })?;
                if bytes.len() < length {
                    let message = format!("{length} bytes from byte {start} on are more than there are");
                    return Err(parquet::errors::ParquetError::EOF(message));
                }
                Ok(bytes.into())
            }
        }
    }
}

/// Reads on from a byte.
struct From {
    ranges: Arc<Ranges>,
    remote: Remote,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.ranges.read(self.at, buffer.len()).map_err(|error| {
            self.remote.take_note(&error);
            io::Error::other(error)
        })?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }
}
