//! The work folder of counting: its runs and the journal that says which of them hold what. Whatever kills the program,
//! the journal names only whole runs, and exactly the texts up to its position are in them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ledger::digest::Digest;
use ledger::{atomic, lock};
use serde::{Deserialize, Serialize};

use super::run::{self, Run, RunReader, Stream};
use crate::error::Error;

const JOURNAL: &str = "journal.json";
const LOCK: &str = "lock";
const VERSION: u32 = 1;
/// So many runs of one level become one of the next, so that few are open at once and none is merged often.
const RUNS_OF_A_LEVEL: usize = 16;

/// A place in the stream of texts, whose meaning is the caller's: an input, and how many records of it lie before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Inputs that lie wholly before.
    pub input: u64,
    /// Records of the next input that lie before.
    pub records: u64,
}

/// The texts that are weighed alike: those of one source and one language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The source's number.
    pub source: u16,
    /// The language; none where there is none, or where languages are not told apart.
    pub language: Option<String>,
    /// Texts.
    pub texts: u64,
    /// Bytes of text.
    pub bytes: u64,
}

/// What a person should know of texts that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// How many places.
    pub count: u64,
    /// The first, with its reason.
    pub first: Option<String>,
}

/// What is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    version: u32,
    fingerprint: Digest,
    /// Up to here everything is in the runs.
    pub position: Position,
    /// Whether that is all there is.
    pub complete: bool,
    pub groups: Vec<Group>,
    pub left_out: LeftOut,
    pub runs: Vec<Run>,
    /// The number of the next run's file.
    next: u64,
}

/// How work began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// There was nothing.
    New,
    /// What was counted before is kept.
    Continued,
    /// What was counted before is of no use and was removed; why.
    Anew(&'static str),
}

/// The folder, held by its lock.
#[derive(Debug)]
pub(super) struct Work {
    folder: PathBuf,
    pub journal: Journal,
    _lock: File,
}

impl Work {
    /// Opens or creates the folder, and keeps what it holds if that was counted from the same texts, in the same way:
    /// the fingerprint tells.
    pub fn open(folder: &Path, fingerprint: &Digest) -> Result<(Work, Begun), Error> {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let lock = lock(folder)?;
        atomic::recover(folder)?;
        let fresh = Journal {
            version: VERSION,
            fingerprint: fingerprint.clone(),
            position: Position::default(),
            complete: false,
            groups: Vec::new(),
            left_out: LeftOut::default(),
            runs: Vec::new(),
            next: 0,
        };
        let (journal, begun) = match read(&folder.join(JOURNAL))? {
            None => (fresh, Begun::New),
            Some(Err(_)) => (fresh, Begun::Anew("the journal there cannot be read")),
            Some(Ok(found)) if found.fingerprint != *fingerprint => {
                (fresh, Begun::Anew("the texts, or how they are counted, have changed"))
            }
            Some(Ok(found)) if !found.runs.iter().all(|run| is_whole(folder, run)) => {
                (fresh, Begun::Anew("a file of counts is missing or was cut"))
            }
            Some(Ok(found)) => (found, Begun::Continued),
        };
        let work = Work { folder: folder.to_owned(), journal, _lock: lock };
        if begun != Begun::Continued {
            // Before the files go, so that no journal ever names one that is missing.
            work.write()?;
        }
        work.sweep()?;
        Ok((work, begun))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A name for a run that is yet to be written.
    pub fn name(&mut self) -> String {
        self.journal.next += 1;
        format!("run-{:06}.counts", self.journal.next)
    }

    /// Records what the journal says now, then merges runs where there are many.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.write()?;
        while let Some(level) = self.crowded_level() {
            let (merged, kept): (Vec<_>, Vec<_>) =
                self.journal.runs.drain(..).partition(|run| run.level == level);
            self.journal.runs = kept;
            let name = self.name();
            let streams = open_all(&self.folder, &merged)?;
            self.journal.runs.push(run::write(streams, &self.folder, name, level + 1)?);
            self.write()?;
            self.sweep()?;
        }
        Ok(())
    }

    fn crowded_level(&self) -> Option<u32> {
        let of_level = |level| self.journal.runs.iter().filter(|run| run.level == level).count();
        self.journal.runs.iter().map(|run| run.level).find(|&level| of_level(level) >= RUNS_OF_A_LEVEL)
    }

    fn write(&self) -> Result<(), Error> {
        let path = self.folder.join(JOURNAL);
        let bytes = serde_json::to_vec_pretty(&self.journal)
            .map_err(|error| failed("write", &path)(io::Error::other(error)))?;
        Ok(atomic::write(&path, &bytes)?)
    }

    /// Removes runs that the journal does not name. Other files are not ours.
    fn sweep(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.folder).map_err(failed("list", &self.folder))? {
            let entry = entry.map_err(failed("list", &self.folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_run = name.starts_with("run-") && name.ends_with(".counts");
            if is_run && !self.journal.runs.iter().any(|run| run.file == name) {
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Removes everything of ours, and the folder if nothing else is in it.
    pub fn remove(mut self) -> Result<(), Error> {
        self.journal.runs.clear();
        // The journal first: without it the rest is only left over.
        for name in [JOURNAL, LOCK] {
            let path = self.folder.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        self.sweep()?;
        match fs::remove_dir(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                Err(failed("remove", &self.folder)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Opens runs of the folder for merging.
pub(super) fn open_all(folder: &Path, runs: &[Run]) -> Result<Vec<Stream<'static>>, Error> {
    runs.iter().map(|run| Ok(Stream::File(Box::new(RunReader::open(folder, run)?)))).collect()
}

fn is_whole(folder: &Path, run: &Run) -> bool {
    // A name with a path in it would lead out of the folder.
    let plain = Path::new(&run.file).components().count() == 1;
    plain
        && fs::metadata(folder.join(&run.file))
            .is_ok_and(|found| found.is_file() && found.len() == run.file_bytes)
}

fn read(path: &Path) -> Result<Option<Result<Journal, ()>>, Error> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed("read", path))?,
    };
    let journal: Result<Journal, _> = serde_json::from_slice(&bytes);
    Ok(Some(
        journal.map_err(|_| ()).and_then(|found| if found.version == VERSION { Ok(found) } else { Err(()) }),
    ))
}

fn lock(folder: &Path) -> Result<File, Error> {
    lock::hold(&folder.join(LOCK))?.ok_or_else(|| Error::Work {
        path: folder.to_owned(),
        problem: "another process is counting there at this moment".into(),
    })
}

pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::WorkIo { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::run::RunWriter;

    fn add_run(work: &mut Work, pieces: &[(&str, u64)]) {
        let name = work.name();
        let mut writer = RunWriter::create(work.folder(), name, 0).unwrap();
        for (piece, count) in pieces {
            writer.push(piece.as_bytes(), &[(0, *count)]).unwrap();
        }
        work.journal.runs.push(writer.finish().unwrap());
    }

    fn files(folder: &Path) -> Vec<String> {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_was_committed_for_these_texts_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work");
        let (texts, others) = (Digest::of_bytes(b"texts"), Digest::of_bytes(b"others"));
        let (mut work, begun) = Work::open(&path, &texts).unwrap();
        assert_eq!(begun, Begun::New);
        assert!(Work::open(&path, &texts).unwrap_err().to_string().contains("another process"));
        add_run(&mut work, &[("a", 1)]);
        work.journal.position = Position { input: 3, records: 4 };
        work.commit().unwrap();
        let committed = work.journal.clone();
        // Killed after this, before its commit.
        add_run(&mut work, &[("b", 1)]);
        drop(work);
        fs::write(path.join("not ours"), "").unwrap();

        let (work, begun) = Work::open(&path, &texts).unwrap();
        assert_eq!((begun, &work.journal), (Begun::Continued, &committed));
        assert_eq!(files(&path), ["journal.json", "lock", "not ours", "run-000001.counts"]);
        drop(work);

        let check = |spoil: &dyn Fn(&Path), fingerprint: &Digest, reason: &str| {
            let (mut work, _) = Work::open(&path, &texts).unwrap();
            if work.journal.runs.is_empty() {
                add_run(&mut work, &[("a", 1)]);
                work.commit().unwrap();
            }
            let run = path.join(&work.journal.runs[0].file);
            drop(work);
            spoil(&run);
            let (work, begun) = Work::open(&path, fingerprint).unwrap();
            assert!(matches!(begun, Begun::Anew(why) if why.contains(reason)), "{begun:?}");
            assert!(work.journal.runs.is_empty());
            assert_eq!(files(&path), ["journal.json", "lock", "not ours"]);
        };
        check(&|_| {}, &others, "changed");
        check(&|run| fs::write(run, "ALT").unwrap(), &texts, "cut");
        check(&|run| fs::remove_file(run).unwrap(), &texts, "missing");
        check(&|_| fs::write(path.join(JOURNAL), "{").unwrap(), &texts, "cannot be read");

        let (mut work, _) = Work::open(&path, &texts).unwrap();
        add_run(&mut work, &[("a", 1)]);
        work.commit().unwrap();
        work.remove().unwrap();
        assert_eq!(files(&path), ["not ours"]);
        fs::remove_file(path.join("not ours")).unwrap();
        Work::open(&path, &texts).unwrap().0.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn many_runs_become_few() {
        let folder = tempfile::tempdir().unwrap();
        let (mut work, _) = Work::open(folder.path(), &Digest::of_bytes(b"")).unwrap();
        for round in 0..80 {
            add_run(&mut work, &[("a", 1), (&format!("b{round:03}"), 2)]);
            work.commit().unwrap();
            assert!(work.journal.runs.len() < 3 * RUNS_OF_A_LEVEL);
        }
        assert_eq!(files(folder.path()).len(), work.journal.runs.len() + 2);
        let mut merge = run::Merge::new(open_all(folder.path(), &work.journal.runs).unwrap()).unwrap();
        assert_eq!(merge.next().unwrap(), Some((&b"a"[..], &[(0, 80)][..])));
        let mut pieces = 0;
        while let Some((_, counts)) = merge.next().unwrap() {
            assert_eq!(counts, [(0, 2)]);
            pieces += 1;
        }
        assert_eq!(pieces, 80);
    }
}
