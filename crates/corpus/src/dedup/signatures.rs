//! What deduplication compares of each document, on disk: files of one shard each, with a head, the bands' keys and the
//! MinHash of every document. Heads and keys are read a shard at a time, in order; a MinHash alone, at any place.
//!
//! A file: [`MAGIC`]; the documents, bands and rows (u32 each); XXH3 (u64) of the heads and of each band's keys; the
//! heads; the keys band by band; the MinHash document by document. All little endian.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::Error;
use crate::spill::Record;

/// How a file begins; the last digit is the format's version.
const MAGIC: &[u8; 8] = b"ALTISIG1";
const COUNTS_BYTES: usize = 12;
/// Most files held open.
const MAX_OPEN: usize = 128;

/// What is compared of a document beside its MinHash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its place in the order of the inputs.
    pub ordinal: u64,
    /// Bytes of its text.
    pub bytes: u32,
    /// [`crate::steps::sign::fingerprint`].
    pub fingerprint: u128,
    /// [`crate::url::key`] of its address, 0 for none.
    pub url: u128,
    /// [`crate::url::date_rank`].
    pub date: u64,
}

type Raw = ((u64, u32), u128, u128, u64);

impl Head {
    fn raw(&self) -> Raw {
        ((self.ordinal, self.bytes), self.fingerprint, self.url, self.date)
    }

    fn of((first, fingerprint, url, date): Raw) -> Head {
        Head { ordinal: first.0, bytes: first.1, fingerprint, url, date }
    }
}

/// The signatures of a shard in the making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    rows: usize,
    documents: u32,
    heads: Vec<u8>,
    /// By band.
    keys: Vec<Vec<u8>>,
    minhashes: Vec<u8>,
}

impl Signed {
    /// Empty, for MinHashes of `bands` times `rows` numbers; none at all with 0 bands.
    pub fn new(bands: usize, rows: usize) -> Signed {
        Signed { rows, documents: 0, heads: Vec::new(), keys: vec![Vec::new(); bands], minhashes: Vec::new() }
    }

    /// Adds a document; `minhash` has bands times rows numbers.
    pub fn push(&mut self, head: Head, minhash: &[u32]) {
        assert_eq!(minhash.len(), self.keys.len() * self.rows, "a MinHash has bands times rows numbers");
        put(&mut self.heads, &head.raw());
        let from = self.minhashes.len();
        minhash.iter().for_each(|number| put(&mut self.minhashes, number));
        for (keys, band) in
            self.keys.iter_mut().zip(self.minhashes[from..].chunks_exact(4 * self.rows.max(1)))
        {
            keys.extend_from_slice(&xxh3_64(band).to_le_bytes());
        }
        self.documents += 1;
    }

    /// Adds the documents of another, behind the own ones.
    pub fn append(&mut self, other: &Signed) {
        self.heads.extend_from_slice(&other.heads);
        self.keys.iter_mut().zip(&other.keys).for_each(|(own, more)| own.extend_from_slice(more));
        self.minhashes.extend_from_slice(&other.minhashes);
        self.documents += other.documents;
    }

    /// Documents held.
    pub fn len(&self) -> usize {
        self.documents as usize
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.documents == 0
    }

    /// Writes the file, and waits until it is on the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut head = MAGIC.to_vec();
        for number in [self.documents, self.keys.len() as u32, self.rows as u32] {
            put(&mut head, &number);
        }
        put(&mut head, &xxh3_64(&self.heads));
        self.keys.iter().for_each(|keys| put(&mut head, &xxh3_64(keys)));
        let write = || {
            let mut file = File::create(path)?;
            file.write_all(&head)?;
            file.write_all(&self.heads)?;
            self.keys.iter().try_for_each(|keys| file.write_all(keys))?;
            file.write_all(&self.minhashes)?;
            file.sync_all()
        };
        write().map_err(Error::io("write", path))
    }
}

fn put<R: Record>(bytes: &mut Vec<u8>, record: &R) {
    let at = bytes.len();
    bytes.resize(at + R::BYTES, 0);
    record.put(&mut bytes[at..]);
}

/// The signatures of a corpus: documents are numbered over all files, from 0 on.
pub struct Signatures {
    shards: Vec<Shard>,
    bands: usize,
    rows: usize,
    documents: u32,
    /// The files that are open, by shard.
    open: Vec<Option<File>>,
    opened: usize,
}

struct Shard {
    path: PathBuf,
    first: u32,
    documents: u32,
}

impl Signatures {
    /// Opens files in the order of the corpus; all must have MinHashes of the same form.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] for a file that [`Signed::write`] did not write;
    /// [`Error::TooManyDocuments`] beyond 4,294,967,295 documents.
    pub fn open(paths: Vec<PathBuf>) -> Result<Signatures, Error> {
        let mut signatures = Signatures {
            shards: Vec::new(),
            bands: 0,
            rows: 0,
            documents: 0,
            open: paths.iter().map(|_| None).collect(),
            opened: 0,
        };
        for (index, path) in paths.into_iter().enumerate() {
            let file = File::open(&path).map_err(Error::io("open", &path))?;
            let mut head = [0; MAGIC.len() + COUNTS_BYTES];
            let malformed =
                |reason: &str| Error::Malformed { path: path.clone(), byte: 0, reason: reason.to_string() };
            file.read_exact_at(&mut head, 0).map_err(|_| malformed("it is cut off"))?;
            if !head.starts_with(MAGIC) {
                return Err(malformed("it holds no signatures"));
            }
            let number = |at: usize| u32::get(&head[MAGIC.len() + at..MAGIC.len() + at + 4]);
            let (documents, bands, rows) = (number(0), number(4) as usize, number(8) as usize);
            if index > 0 && (bands, rows) != (signatures.bands, signatures.rows) {
                return Err(malformed("its signatures are of another form than those before"));
            }
            (signatures.bands, signatures.rows) = (bands, rows);
            let wanted =
                signatures.minhash_at(documents) + u64::from(documents) * signatures.width() as u64 * 4;
            let bytes = file.metadata().map_err(Error::io("inspect", &path))?.len();
            if bytes != wanted {
                return Err(malformed(&format!("it has {bytes} bytes instead of {wanted}")));
            }
            let first = signatures.documents;
            signatures.documents = first
                .checked_add(documents)
                .filter(|all| *all < u32::MAX)
                .ok_or(Error::TooManyDocuments { most: u64::from(u32::MAX) })?;
            signatures.shards.push(Shard { path, first, documents });
        }
        Ok(signatures)
    }

    /// Documents in all.
    pub fn len(&self) -> u32 {
        self.documents
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.documents == 0
    }

    /// Bands of the MinHash.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Numbers of a MinHash.
    pub fn width(&self) -> usize {
        self.bands * self.rows
    }

    fn heads_at(&self) -> u64 {
        (MAGIC.len() + COUNTS_BYTES + 8 * (1 + self.bands)) as u64
    }

    fn keys_at(&self, documents: u32, band: usize) -> u64 {
        self.heads_at() + u64::from(documents) * (Raw::BYTES + 8 * band) as u64
    }

    fn minhash_at(&self, documents: u32) -> u64 {
        self.keys_at(documents, self.bands)
    }

    /// The number of a shard's first document.
    pub fn first_of(&self, shard: usize) -> u32 {
        self.shards[shard].first
    }

    /// Calls `each` with the number and the head of every document, in order.
    ///
    /// # Errors
    /// As [`Signatures::open`], or what `each` says.
    pub fn heads(&self, mut each: impl FnMut(u32, Head) -> Result<(), Error>) -> Result<(), Error> {
        (0..self.shards.len()).try_for_each(|shard| {
            let heads = (self.first_of(shard)..).zip(self.heads_of(shard)?);
            heads.into_iter().try_for_each(|(index, head)| each(index, head))
        })
    }

    /// The heads of a shard.
    ///
    /// # Errors
    /// As [`Signatures::open`].
    pub fn heads_of(&self, shard: usize) -> Result<Vec<Head>, Error> {
        let section = self.section(shard, self.heads_at(), Raw::BYTES, 0)?;
        Ok(section.chunks_exact(Raw::BYTES).map(|raw| Head::of(Raw::get(raw))).collect())
    }

    /// Calls `each` with the number of every document and its key in a band, in order.
    ///
    /// # Errors
    /// As [`Signatures::heads`].
    pub fn keys(
        &self,
        band: usize,
        mut each: impl FnMut(u32, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for shard in 0..self.shards.len() {
            let at = self.keys_at(self.shards[shard].documents, band);
            let section = self.section(shard, at, 8, 1 + band)?;
            for (key, index) in section.chunks_exact(8).zip(self.first_of(shard)..) {
                each(index, u64::get(key))?;
            }
        }
        Ok(())
    }

    /// Reads a section of a shard, and checks it.
    fn section(&self, shard: usize, at: u64, record_bytes: usize, checksum: usize) -> Result<Vec<u8>, Error> {
        let Shard { path, documents, .. } = &self.shards[shard];
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut expected = [0; 8];
        let mut section = vec![0; *documents as usize * record_bytes];
        let checksum_at = (MAGIC.len() + COUNTS_BYTES + 8 * checksum) as u64;
        let read = file
            .read_exact_at(&mut expected, checksum_at)
            .and_then(|()| file.read_exact_at(&mut section, at));
        read.map_err(Error::io("read", path))?;
        if xxh3_64(&section) != u64::from_le_bytes(expected) {
            let reason = "a section's checksum does not match".to_string();
            return Err(Error::Malformed { path: path.clone(), byte: at, reason });
        }
        Ok(section)
    }

    /// Reads the MinHash of a document.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn minhash(&mut self, index: u32) -> Result<Vec<u32>, Error> {
        let shard = self.shards.partition_point(|shard| shard.first <= index) - 1;
        let width = self.width();
        let (first, documents) = (self.shards[shard].first, self.shards[shard].documents);
        let at = self.minhash_at(documents) + u64::from(index - first) * width as u64 * 4;
        let path = &self.shards[shard].path;
        if self.open[shard].is_none() {
            if self.opened == MAX_OPEN {
                self.open.iter_mut().for_each(|file| *file = None);
                self.opened = 0;
            }
            self.open[shard] = Some(File::open(path).map_err(Error::io("open", path))?);
            self.opened += 1;
        }
        let mut bytes = vec![0; width * 4];
        if let Some(file) = &self.open[shard] {
            file.read_exact_at(&mut bytes, at).map_err(Error::io("read", path))?;
        }
        Ok(bytes.chunks_exact(4).map(u32::get).collect())
    }
}
