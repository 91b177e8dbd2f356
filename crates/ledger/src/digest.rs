//! Content digests (BLAKE3): the names by which a run knows whether something changed.
//! Not signatures: they say what was read, not who wrote it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::atomic;

/// A BLAKE3 digest as 64 lower-case hexadecimal characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::from_hash(blake3::hash(bytes))
    }

    /// The digest of a file's contents. Errors when it cannot be read.
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file).map_err(Error::io("read", path))?;
        Ok(Self::from_hash(hasher.finalize()))
    }

    /// The digest of a folder: of the sorted relative paths of its files and folders and of the files'
    /// contents. Dates, owners and permissions do not count; symbolic links count as what they lead to;
    /// temporary files of [`atomic`] are left out.
    pub fn of_dir(path: &Path) -> Result<Self, Error> {
        let mut hasher = blake3::Hasher::new();
        hash_dir(path, "", &mut vec![canonical(path)?], &mut hasher)?;
        Ok(Self::from_hash(hasher.finalize()))
    }

    /// The digest of a file or a folder, whichever is there.
    pub fn of_path(path: &Path) -> Result<Self, Error> {
        if fs::metadata(path).map_err(Error::io("read", path))?.is_dir() {
            Self::of_dir(path)
        } else {
            Self::of_file(path)
        }
    }

    /// The digest of a value, by way of its compact JSON. Fields count in the order in which they are
    /// serialised, so maps must have an order of their own (`BTreeMap`, not `HashMap`). Errors when it has no
    /// JSON form.
    pub fn of_value(value: &impl Serialize) -> Result<Self, Error> {
        let json = serde_json::to_vec(value)
            .map_err(|source| Error::Encode { what: "a value whose digest is taken", source })?;
        Ok(Self::of_bytes(&json))
    }

    /// All 64 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 characters, enough for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }

    fn from_hash(hash: blake3::Hash) -> Self {
        Self(hash.to_hex().as_str().to_owned())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a digest of 64 lower-case hexadecimal characters"))
        }
    }
}

/// The size in bytes of a file, or of all files in a folder, as [`Digest::of_path`] sees them.
pub(crate) fn size(path: &Path) -> Result<u64, Error> {
    let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    size_of_dir(path, &mut vec![canonical(path)?])
}

fn size_of_dir(path: &Path, ancestors: &mut Vec<PathBuf>) -> Result<u64, Error> {
    let mut total = 0;
    for entry in entries(path)? {
        total += match entry.kind {
            Kind::File(size) => size,
            Kind::Folder => within(&entry.path, ancestors, |ancestors| size_of_dir(&entry.path, ancestors))?,
        };
    }
    Ok(total)
}

// Each entry is framed by its kind and the length of its path, so that no two folders give the same bytes.
fn hash_dir(
    path: &Path,
    prefix: &str,
    ancestors: &mut Vec<PathBuf>,
    hasher: &mut blake3::Hasher,
) -> Result<(), Error> {
    for entry in entries(path)? {
        let relative = format!("{prefix}{}", entry.name);
        let mut frame = |kind: u8| {
            hasher.update(&[kind]);
            hasher.update(&(relative.len() as u64).to_le_bytes());
            hasher.update(relative.as_bytes());
        };
        match entry.kind {
            Kind::File(_) => {
                frame(b'f');
                hasher.update(Digest::of_file(&entry.path)?.0.as_bytes());
            }
            Kind::Folder => {
                frame(b'd');
                within(&entry.path, ancestors, |ancestors| {
                    hash_dir(&entry.path, &format!("{relative}/"), ancestors, hasher)
                })?;
            }
        }
    }
    Ok(())
}

struct Entry {
    name: String,
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    File(u64),
    Folder,
}

/// What a folder holds, sorted by name, without temporary files.
fn entries(path: &Path) -> Result<Vec<Entry>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        if atomic::is_temporary(&entry.file_name()) {
            continue;
        }
        let entry_path = entry.path();
        let metadata = fs::metadata(&entry_path).map_err(Error::io("read", &entry_path))?;
        let kind = if metadata.is_dir() { Kind::Folder } else { Kind::File(metadata.len()) };
        let name = entry.file_name().into_string().map_err(|_| Error::Io {
            operation: "take the digest of",
            path: entry_path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, "its name is not UTF-8"),
        })?;
        found.push(Entry { name, path: entry_path, kind });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn canonical(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path).map_err(Error::io("resolve", path))
}

/// Runs `work` for the folder `path`, refusing one that is its own ancestor by way of links.
fn within<T>(
    path: &Path,
    ancestors: &mut Vec<PathBuf>,
    work: impl FnOnce(&mut Vec<PathBuf>) -> Result<T, Error>,
) -> Result<T, Error> {
    let canonical = canonical(path)?;
    if ancestors.contains(&canonical) {
        return Err(Error::Loop { path: path.to_owned() });
    }
    ancestors.push(canonical);
    let result = work(ancestors);
    ancestors.pop();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_files_agree_with_the_published_function() {
        // BLAKE3 of no bytes and of "abc", from its reference implementation's README and test vectors.
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        let abc = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
        assert_eq!(Digest::of_bytes(b"").as_str(), empty);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("abc");
        fs::write(&file, "abc").unwrap();
        let digest = Digest::of_file(&file).unwrap();
        assert_eq!((digest.as_str(), digest.short()), (abc, &abc[..12]));
        assert_eq!(Digest::of_path(&file).unwrap(), digest);
    }

    #[test]
    fn only_well_formed_digests_are_read() {
        let digest = Digest::of_bytes(b"x");
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        for bad in ["\"\"", "\"abc\"", &json.to_uppercase(), &json.replace(digest.short(), "zzzzzzzzzzzz")] {
            assert!(serde_json::from_str::<Digest>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_changes_with_its_paths_and_contents_only() {
        let make = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = folder.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            folder
        };
        let of = |files: &[(&str, &str)]| Digest::of_dir(make(files).path()).unwrap();
        let base = of(&[("a", "1"), ("b/c", "2")]);
        assert_eq!(of(&[("b/c", "2"), ("a", "1")]), base);
        assert_eq!(of(&[("b/c", "2"), ("a", "1"), (".new.a.tmp", "half")]), base);
        for other in [
            &[("a", "1"), ("b/c", "3")][..],
            &[("a", "1"), ("b", "2")],
            &[("a", "12"), ("b/c", "")],
            &[("a", "1"), ("bc", "2")],
            &[("a", "1")],
            &[],
        ] {
            assert_ne!(of(other), base, "{other:?}");
        }
        assert_eq!(size(make(&[("a", "1"), ("b/c", "22")]).path()).unwrap(), 3);
    }

    #[cfg(unix)]
    #[test]
    fn links_count_as_what_they_lead_to_and_loops_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, linked) = (folder.path().join("plain"), folder.path().join("linked"));
        fs::create_dir_all(plain.join("sub")).unwrap();
        fs::write(plain.join("sub/file"), "text").unwrap();
        fs::create_dir(&linked).unwrap();
        std::os::unix::fs::symlink(plain.join("sub"), linked.join("sub")).unwrap();
        assert_eq!(Digest::of_dir(&plain).unwrap(), Digest::of_dir(&linked).unwrap());
        std::os::unix::fs::symlink(&linked, linked.join("again")).unwrap();
        assert!(matches!(Digest::of_dir(&linked), Err(Error::Loop { .. })));
    }
}
