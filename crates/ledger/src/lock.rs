//! A file that one process at a time holds, for folders that two must not write.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::Error;

/// Holds the file, which is made where there is none, until what is returned is dropped or the process ends, however it does.
/// Nothing where another process holds it. On a file system without locks one process is trusted to be alone.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened or locked.
pub fn hold(path: &Path) -> Result<Option<File>, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path).map_err(Error::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(Some(file)),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_what_is_in_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, "7").unwrap();
        let held = hold(&path).unwrap();
        assert!(held.is_some() && hold(&path).unwrap().is_none());
        drop(held);
        assert!(hold(&path).unwrap().is_some());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "7");
        let error = hold(&folder.path().join("absent/lock")).unwrap_err();
        assert!(error.to_string().contains("could not open"), "{error}");
    }
}
