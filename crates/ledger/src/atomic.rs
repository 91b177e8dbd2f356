//! Files and folders that appear whole or not at all, whatever kills the program and whenever.
//! Not transactions over several paths: each file or folder is on its own.
//!
//! Beside the target `x` lie, while it is written, `.new.x.tmp` (what is being written, locked by its writer)
//! and, for the moment in which a folder is replaced, `.old.x.tmp` (what it replaces). The next writer of
//! `x`, or [`recover`], clears away what a killed program left of either, and puts the old folder back where
//! the new one had not yet arrived.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Error;

/// How long a writer waits for another writer of the same path to end before it reports [`Error::Busy`].
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes a whole file: after an error or a kill, `path` holds what it held before. Folders above it are
/// created. On return, contents and name are on the disk.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.commit()
}

/// A file in the making, visible under its name only after [`AtomicFile::commit`]. Dropped before that, it is
/// removed.
#[derive(Debug)]
pub struct AtomicFile {
    file: File,
    staging: PathBuf,
    target: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Begins a file, and the folders above it. Errors when another writer of the same path does not end
    /// within two seconds. Writes are not buffered: wrap it in a [`std::io::BufWriter`] for small ones.
    pub fn create(path: &Path) -> Result<Self, Error> {
        create_parent(path)?;
        let staging = beside(path, "new")?;
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&staging);
        let file = claim(path, &staging, open)?;
        file.set_len(0).map_err(Error::io("empty", &staging))?;
        Ok(Self { file, staging, target: path.to_owned(), committed: false })
    }

    /// Puts the file on the disk under its name, in place of what was there.
    pub fn commit(mut self) -> Result<(), Error> {
        let fault = |name| point(name).map_err(Error::io("write", &self.target));
        fault("file: written")?;
        self.file.sync_all().map_err(Error::io("sync", &self.staging))?;
        fault("file: synced")?;
        fs::rename(&self.staging, &self.target)
            .map_err(Error::io("rename a finished file to", &self.target))?;
        self.committed = true;
        fault("file: renamed")?;
        sync_folder(parent(&self.target))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now, the next writer of the same path removes.
            let _ = fs::remove_file(&self.staging);
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// A folder in the making: files are written under [`AtomicDir::path`], and [`AtomicDir::commit`] gives it
/// its name. Dropped before that, it is removed.
#[derive(Debug)]
pub struct AtomicDir {
    staging: PathBuf,
    target: PathBuf,
    committed: bool,
    /// Held open for its lock, which says that the staging folder is not a killed program's leftover.
    _lock: File,
}

impl AtomicDir {
    /// Begins an empty folder, and the folders above it. Errors when another writer of the same path does not
    /// end within two seconds.
    pub fn create(path: &Path) -> Result<Self, Error> {
        create_parent(path)?;
        let staging = beside(path, "new")?;
        let open = || match fs::create_dir(&staging) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => File::open(&staging),
        };
        let lock = claim(path, &staging, open)?;
        restore_or_remove_old(path)?;
        for entry in fs::read_dir(&staging).map_err(Error::io("list", &staging))? {
            remove(&entry.map_err(Error::io("list", &staging))?.path())?;
        }
        Ok(Self { staging, target: path.to_owned(), committed: false, _lock: lock })
    }

    /// The staging folder, to write into.
    pub fn path(&self) -> &Path {
        &self.staging
    }

    /// Puts everything on the disk and gives the folder its name, in place of the folder or file that was
    /// there. A kill at any moment leaves the old one whole or the new one whole; where it comes between two
    /// renames, the name is absent until [`recover`] or the next [`AtomicDir::create`] puts the old one back.
    pub fn commit(mut self) -> Result<(), Error> {
        let fault = |name| point(name).map_err(Error::io("write", &self.target));
        fault("folder: written")?;
        sync_tree(&self.staging)?;
        fault("folder: synced")?;
        let old = beside(&self.target, "old")?;
        let replaces = match fs::rename(&self.target, &old) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(Error::io("move aside", &self.target)(error)),
        };
        let renamed = fault("folder: old moved aside").and_then(|()| {
            fs::rename(&self.staging, &self.target)
                .map_err(Error::io("rename a finished folder to", &self.target))
        });
        if let Err(error) = renamed {
            if replaces {
                fs::rename(&old, &self.target).map_err(Error::io("put back", &self.target))?;
            }
            return Err(error);
        }
        self.committed = true;
        fault("folder: renamed")?;
        sync_folder(parent(&self.target))?;
        fault("folder: name synced")?;
        if replaces { remove(&old) } else { Ok(()) }
    }
}

impl Drop for AtomicDir {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now, the next writer of the same path removes.
            let _ = fs::remove_dir_all(&self.staging);
        }
    }
}

/// Clears away what killed programs left directly in `folder`: unfinished files and folders are removed, and
/// folders that were moved aside but not yet replaced are put back. What a living writer holds is left alone.
/// A folder that does not exist has nothing to recover.
pub fn recover(folder: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("list", folder))?,
    };
    for entry in entries {
        let name = entry.map_err(Error::io("list", folder))?.file_name();
        if let Some(target) = target_of(&name) {
            settle(&folder.join(target))?;
        }
    }
    Ok(())
}

/// Whether this is the name of a file or folder in the making, which nothing but this module should read.
pub fn is_temporary(name: &OsStr) -> bool {
    target_of(name).is_some()
}

/// [`recover`] for one target.
fn settle(target: &Path) -> Result<(), Error> {
    let staging = beside(target, "new")?;
    let lock = match File::open(&staging) {
        Ok(file) => match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(()), // A living writer, which clears up after itself.
            _ => Some(file),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("open", &staging)(error)),
    };
    restore_or_remove_old(target)?;
    match lock {
        // Only what is still the locked file is removed: another process may have finished it in between.
        Some(file) if is_same(&file, &staging) => remove(&staging),
        _ => Ok(()),
    }
}

fn restore_or_remove_old(target: &Path) -> Result<(), Error> {
    let old = beside(target, "old")?;
    if fs::symlink_metadata(&old).is_err() {
        return Ok(());
    }
    if fs::symlink_metadata(target).is_ok() {
        return remove(&old);
    }
    fs::rename(&old, target).map_err(Error::io("put back", target))?;
    sync_folder(parent(target))
}

/// Opens a staging path and locks it, such that it is certainly this path's file that is locked.
fn claim(target: &Path, staging: &Path, open: impl Fn() -> io::Result<File>) -> Result<File, Error> {
    let begun = Instant::now();
    loop {
        // Absent: another writer finished or removed it between the two halves of opening. The path is ours
        // to try again.
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && begun.elapsed() < PATIENCE => continue,
            other => other.map_err(Error::io("create", staging))?,
        };
        match opened.try_lock() {
            Ok(()) if is_same(&opened, staging) => return Ok(opened),
            // A file system without locks: one writer is trusted to be alone.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(opened);
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", staging)(error)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
        }
        if begun.elapsed() >= PATIENCE {
            return Err(Error::Busy { path: target.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_same(open: &File, path: &Path) -> bool {
    match (open.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn beside(target: &Path, state: &str) -> Result<PathBuf, Error> {
    let name = target.file_name().ok_or_else(|| Error::Io {
        operation: "write",
        path: target.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a name"),
    })?;
    let mut temporary = OsString::from(format!(".{state}."));
    temporary.push(name);
    temporary.push(".tmp");
    Ok(target.with_file_name(temporary))
}

fn target_of(name: &OsStr) -> Option<&str> {
    // Names that are not UTF-8 are not ours.
    let name = name.to_str()?;
    let target = name.strip_prefix(".new.").or_else(|| name.strip_prefix(".old."))?.strip_suffix(".tmp")?;
    (!target.is_empty()).then_some(target)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn create_parent(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(parent(path)).map_err(Error::io("create", parent(path)))
}

fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<(), Error> {
    match File::open(path).and_then(|folder| folder.sync_all()) {
        // Some network file systems cannot sync a folder; they order renames themselves.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        other => other.map_err(Error::io("sync", path)),
    }
}

fn sync_tree(path: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        let kind = entry.file_type().map_err(Error::io("read", &entry.path()))?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())
                .and_then(|file| file.sync_all())
                .map_err(Error::io("sync", &entry.path()))?;
        }
    }
    sync_folder(path)
}

/// A moment at which the tests kill the program or let an operation fail.
#[cfg(test)]
fn point(name: &'static str) -> io::Result<()> {
    tests::reached(name)
}

#[cfg(not(test))]
fn point(_name: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
