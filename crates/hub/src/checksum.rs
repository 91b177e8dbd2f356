//! What the hub says a file's contents are: SHA-256 for large files, the object id of git for small ones.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::Error;

/// A checksum in lower hexadecimal digits, as the hub gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Of the bytes.
    Sha256(String),
    /// SHA-1 of `blob <length>`, a zero byte and the bytes: git's name for them.
    Git(String),
    /// A tag of a mirror that means nothing but itself.
    Unknown(String),
}

impl Checksum {
    /// What an entity tag is, by its length; `None` if it could not be the name of a file.
    pub(crate) fn of_etag(etag: &str) -> Option<Self> {
        let plain = etag.trim().trim_start_matches("W/").trim_matches('"');
        let hexadecimal = plain.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        match plain.len() {
            64 if hexadecimal => Some(Self::Sha256(plain.to_owned())),
            40 if hexadecimal => Some(Self::Git(plain.to_owned())),
            1..=128 if plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
                Some(Self::Unknown(plain.to_owned()))
            }
            _ => None,
        }
    }

    /// The name of the contents in the cache.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Sha256(sum) | Self::Git(sum) | Self::Unknown(sum) => sum,
        }
    }

    /// Checks a whole file, which the repository calls `name`.
    pub(crate) fn check(&self, path: &Path, name: &str) -> Result<(), Error> {
        let (kind, expected, found) = match self {
            Self::Unknown(_) => return Ok(()),
            Self::Sha256(expected) => ("SHA-256", expected, digest(Sha256::new(), path)?),
            Self::Git(expected) => {
                let length = path.metadata().map_err(Error::io("read", path))?.len();
                let mut sum = Sha1::new();
                sum.update(format!("blob {length}\0"));
                ("SHA-1 of git", expected, digest(sum, path)?)
            }
        };
        if *expected == found {
            return Ok(());
        }
        Err(Error::Checksum { file: name.to_owned(), kind, found, expected: expected.clone() })
    }
}

fn digest(mut sum: impl Digest, path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => break,
            count => sum.update(&buffer[..count]),
        }
    }
    Ok(sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | sha256sum` and `printf hello | git hash-object --stdin`.
    #[test]
    fn sums_are_those_of_sha256sum_and_of_git() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, "hello").unwrap();
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        for (etag, wanted) in [
            (format!("\"{sha256}\""), Some(Checksum::Sha256(sha256.to_owned()))),
            (format!("W/\"{git}\""), Some(Checksum::Git(git.to_owned()))),
            ("\"abc-1\"".to_owned(), Some(Checksum::Unknown("abc-1".to_owned()))),
            ("\"../x\"".to_owned(), None),
            (String::new(), None),
        ] {
            let found = Checksum::of_etag(&etag);
            assert_eq!(found, wanted, "{etag}");
            if let Some(sum) = found {
                sum.check(&path, "x").unwrap();
            }
        }
        std::fs::write(&path, "hellO").unwrap();
        for etag in [sha256, git] {
            let error = Checksum::of_etag(etag).unwrap().check(&path, "x").unwrap_err();
            assert!(error.to_string().contains(etag) && error.hint().is_some(), "{error}");
        }
    }
}
