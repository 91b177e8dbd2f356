//! Files on their way: under another name until they are whole and checked, several at once, on from where they were.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ledger::progress::{Progress, Task, Unit};

use crate::checksum::Checksum;
use crate::client::{Client, Failure, header};
use crate::listing::{Listing, Remote, address, describe};
use crate::{Choice, Destination, Error, Pulled, Request};

/// Fetches what was chosen.
pub(crate) fn all(
    client: &Client,
    request: &Request,
    listing: &Listing,
    choice: Choice,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let mut wanted = Vec::new();
    for &index in &choice.taken {
        let file = &listing.files[index];
        let (size, checksum) = describe(client, request, &listing.commit, file, progress)?;
        wanted.push(Wanted::new(request, &listing.commit, file, size, checksum));
    }
    let known: u64 = wanted.iter().filter_map(|file| file.size).sum();
    let task = progress.begin(
        "pull",
        Some(known).filter(|_| wanted.iter().all(|file| file.size.is_some())),
        Unit::Bytes,
    );
    let state = State { done: AtomicU64::new(0), fetched: AtomicU64::new(0), task: &*task };
    // What is there already counts before the first byte comes, so that the time that is left is not that of the disk.
    state.done.store(wanted.iter().map(Wanted::present).sum(), Ordering::Relaxed);
    task.position(state.done.load(Ordering::Relaxed));

    let queue = Mutex::new(wanted.iter().collect::<VecDeque<_>>());
    let (first_error, failed) = (Mutex::new(None), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..request.parallel.clamp(1, 16).min(wanted.len()) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(file) = next else { break };
                    if let Err(error) = file.fetch(client, &state, progress) {
                        failed.store(true, Ordering::Relaxed);
                        first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            });
        }
    });
    let fetched = state.fetched.into_inner();
    drop(task);
    if let Some(error) = first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let folder = match &request.to {
        Destination::Folder(folder) => folder.clone(),
        Destination::Cache(cache) => {
            // Written last, so that a revision by its name is whole.
            if !request.revision.is_commit() {
                let reference = cache.reference(&request.repository, &request.revision);
                ledger::atomic::write(&reference, listing.commit.as_bytes())?;
            }
            cache.snapshot_of(&request.repository, &listing.commit)
        }
    };
    let bytes = wanted.iter().filter_map(|file| file.target.metadata().ok()).map(|found| found.len()).sum();
    Ok(Pulled {
        folder,
        commit: listing.commit.clone(),
        files: wanted.len(),
        bytes,
        fetched,
        left: choice
            .left
            .iter()
            .map(|&index| (listing.files[index].path.clone(), listing.files[index].size))
            .collect(),
    })
}

/// How far all files are together.
struct State<'a> {
    done: AtomicU64,
    fetched: AtomicU64,
    task: &'a dyn Task,
}

impl State<'_> {
    fn advance(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        self.task.position(before + bytes);
    }

    /// Bytes that somebody else brought.
    fn credit(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        self.task.position(before + bytes);
    }

    /// Bytes that were thrown away.
    fn retreat(&self, bytes: u64) {
        let less = |done: u64| Some(done.saturating_sub(bytes));
        let before = self.done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or(0);
        self.task.position(before.saturating_sub(bytes));
    }
}

/// A file that is to be there.
struct Wanted {
    /// In the repository.
    name: String,
    /// Below the endpoint.
    address: String,
    size: Option<u64>,
    checksum: Checksum,
    /// Where its whole contents go.
    target: PathBuf,
    /// What it is called until then.
    incomplete: PathBuf,
    /// Held while it is fetched, against other programs.
    lock: PathBuf,
    /// A name that leads to `target`, if that is not its own.
    link: Option<PathBuf>,
    /// Whether `target` is named by its contents, which then need no second look.
    by_contents: bool,
}

impl Wanted {
    fn new(request: &Request, commit: &str, file: &Remote, size: Option<u64>, checksum: Checksum) -> Self {
        let (name, etag) = (file.path.clone(), checksum.as_str().to_owned());
        let address = address(request, commit, &name);
        match &request.to {
            Destination::Cache(cache) => {
                let target = cache.blob(&request.repository, &etag);
                Self {
                    incomplete: target.with_file_name(format!("{etag}.incomplete")),
                    lock: cache.lock(&request.repository, &etag),
                    link: Some(cache.snapshot_of(&request.repository, commit).join(&name)),
                    by_contents: true,
                    name,
                    address,
                    size,
                    checksum,
                    target,
                }
            }
            Destination::Folder(folder) => {
                let target = folder.join(&name);
                let last = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
                // Named by its contents too: another revision does not go on where this one stopped.
                let incomplete = target.with_file_name(format!(".{last}.{etag}.incomplete"));
                let lock = incomplete.clone();
                Self {
                    name,
                    address,
                    size,
                    checksum,
                    target,
                    incomplete,
                    lock,
                    link: None,
                    by_contents: false,
                }
            }
        }
    }

    /// Bytes that are there, whole or in part.
    fn present(&self) -> u64 {
        let length = |path: &Path| path.metadata().map(|found| found.len()).ok();
        let whole = length(&self.target).filter(|length| self.size.is_none_or(|size| size == *length));
        whole.or_else(|| length(&self.incomplete)).unwrap_or(0).min(self.size.unwrap_or(u64::MAX))
    }

    /// Makes sure that the file is there under its name.
    fn fetch(&self, client: &Client, state: &State, progress: &dyn Progress) -> Result<(), Error> {
        let counted = self.present();
        for path in [&self.target, &self.lock].into_iter().chain(&self.link) {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        if !self.is_there()? {
            let open = |path: &Path| {
                let options =
                    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
                options.map_err(Error::io("open", path))
            };
            let lock = open(&self.lock)?;
            match lock.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    progress.note(&format!("{}: another program fetches it; waiting", self.name));
                    lock.lock().map_err(Error::io("lock", &self.lock))?;
                }
                // A file system without locks: one program is trusted to be alone.
                Err(TryLockError::Error(_)) | Ok(()) => {}
            }
            if self.is_there()? {
                state.credit(self.present().saturating_sub(counted));
            } else {
                let mut file = open(&self.incomplete)?;
                let have = file.metadata().map_err(Error::io("read", &self.incomplete))?.len();
                // Of a wrong file under this name nothing is kept.
                state.retreat(counted.saturating_sub(have));
                self.download(client, &mut file, state, progress)?;
                put(&self.incomplete, &self.target)?;
            }
        }
        match &self.link {
            None => Ok(()),
            Some(link) => self.link(link),
        }
    }

    fn is_there(&self) -> Result<bool, Error> {
        let Ok(found) = self.target.metadata() else { return Ok(false) };
        if !found.is_file() || self.size.is_some_and(|size| size != found.len()) {
            return Ok(false);
        }
        match self.checksum.check(&self.target, &self.name) {
            _ if self.by_contents => Ok(true),
            // A tag without meaning cannot tell whether these are the bytes.
            Ok(()) => Ok(!matches!(self.checksum, Checksum::Unknown(_))),
            Err(Error::Checksum { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Brings the file to its whole length and checks it. What was begun by somebody else may be wrong: then it is thrown
    /// away, once.
    fn download(
        &self,
        client: &Client,
        file: &mut File,
        state: &State,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        loop {
            let begun = self.length(file)?;
            client.patiently(&self.name, progress, |moved| self.attempt(client, file, state, moved))?;
            file.sync_all().map_err(Error::io("sync", &self.incomplete))?;
            match self.checksum.check(&self.incomplete, &self.name) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    state.retreat(self.length(file)?);
                    file.set_len(0).map_err(Error::io("empty", &self.incomplete))?;
                    if begun == 0 || !matches!(error, Error::Checksum { .. }) {
                        drop(std::fs::remove_file(&self.incomplete));
                        return Err(error);
                    }
                    progress
                        .warn(&format!("{}: what was there of it was not it; from the beginning", self.name));
                }
            }
        }
    }

    fn length(&self, file: &File) -> Result<u64, Error> {
        Ok(file.metadata().map_err(Error::io("read", &self.incomplete))?.len())
    }

    /// One request for what is missing.
    fn attempt(
        &self,
        client: &Client,
        file: &mut File,
        state: &State,
        moved: &mut bool,
    ) -> Result<(), Failure> {
        let io = |operation| move |source| Failure::Final(Error::io(operation, &self.incomplete)(source));
        let restart = |file: &mut File, have: u64| {
            state.retreat(have);
            file.set_len(0).map_err(io("empty"))
        };
        let mut have = self.length(file)?;
        if self.size.is_some_and(|size| have > size) {
            restart(file, have)?;
            have = 0;
        }
        if self.size == Some(have) {
            return Ok(());
        }
        let mut response = client.get(&self.address, have)?;
        match response.status().as_u16() {
            206 if starts_at(header(&response, "content-range"), have) => {}
            // The whole file is sent, or what is there is longer than the file: from the beginning.
            200 => {
                restart(file, have)?;
                have = 0;
            }
            _ => {
                restart(file, have)?;
                return Err(Failure::Passing("a part that was not asked for".to_owned()));
            }
        }
        file.seek(SeekFrom::Start(have)).map_err(io("seek in"))?;
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = body.read(&mut buffer).map_err(|error| Failure::Passing(error.to_string()))?;
            if count == 0 {
                break;
            }
            have += count as u64;
            if let Some(size) = self.size.filter(|size| have > *size) {
                let reason = format!("more than the {size} bytes that the file has");
                return Err(client.strange(&self.name, reason).into());
            }
            file.write_all(&buffer[..count]).map_err(io("write"))?;
            state.advance(count as u64);
            *moved = true;
        }
        match self.size {
            Some(size) if have < size => Err(Failure::Passing(format!("cut after {have} of {size} bytes"))),
            _ => Ok(()),
        }
    }

    /// Gives the contents their name in the snapshot: a link that does not depend on where the cache lies.
    fn link(&self, link: &Path) -> Result<(), Error> {
        let up = "../".repeat(self.name.split('/').count() + 1);
        let to = PathBuf::from(format!("{up}blobs/{}", self.checksum.as_str()));
        if std::fs::read_link(link).is_ok_and(|found| found == to) {
            return Ok(());
        }
        let last = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let staged = link.with_file_name(format!(".{last}.{}.link", std::process::id()));
        drop(std::fs::remove_file(&staged));
        std::os::unix::fs::symlink(&to, &staged).map_err(Error::io("link", &staged))?;
        put(&staged, link)
    }
}

/// Whether `Content-Range` says that the part begins there: `bytes 100-199/200`.
fn starts_at(range: Option<&str>, start: u64) -> bool {
    let first =
        range.and_then(|range| range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok());
    first == Some(start)
}

/// Gives a finished file, or a link, its name.
fn put(from: &Path, to: &Path) -> Result<(), Error> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a file that goes on where it was is staged for longer than `ledger::atomic` stages one"
    )]
    std::fs::rename(from, to).map_err(Error::io("rename a finished file to", to))?;
    let folder = to.parent().unwrap_or(Path::new("."));
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some network file systems cannot sync a folder; they order renames themselves.
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        other => other.map_err(Error::io("sync", folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_where_they_say() {
        for (range, start, wanted) in [
            (Some("bytes 100-199/200"), 100, true),
            (Some("bytes 0-199/200"), 100, false),
            (Some("bytes */200"), 100, false),
            (None, 0, false),
        ] {
            assert_eq!(starts_at(range, start), wanted, "{range:?}");
        }
    }
}
