//! What can go wrong while keeping a run's records. Each message names the operation and the path,
//! and [`Error::hint`] says in one line what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Everything this crate reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused an operation.
    #[error("could not {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: "read", "rename", ...
        operation: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Somebody else is writing the same file or folder at this moment.
    #[error("{} is being written by another process or thread", path.display())]
    Busy {
        /// The file or folder both want to write.
        path: PathBuf,
    },
    /// Another process has this run open for writing.
    #[error("the run {} is in use{}", path.display(), holder(*pid))]
    Locked {
        /// The run's root folder.
        path: PathBuf,
        /// The process that holds it, where it could be read.
        pid: Option<u32>,
    },
    /// The folder holds something else than a run.
    #[error("{} is not a run: it has no manifest.json", path.display())]
    NotARun {
        /// The folder that was opened.
        path: PathBuf,
    },
    /// A record cannot be parsed.
    #[error("{}:{line}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
        /// What was expected there.
        reason: String,
    },
    /// The run was written by a newer Altiplano.
    #[error("the run {} has format {found}, and this program knows formats up to {known}", path.display())]
    Newer {
        /// The run's manifest.
        path: PathBuf,
        /// The format it declares.
        found: u32,
        /// The newest format that this program reads.
        known: u32,
    },
    /// A run is continued under another seed than it was begun with.
    #[error("the run {} was begun with seed {recorded}, not {given}", path.display())]
    OtherSeed {
        /// The run's root folder.
        path: PathBuf,
        /// The seed in the manifest.
        recorded: u64,
        /// The seed that was asked for.
        given: u64,
    },
    /// A stage was reported complete although one of its outputs is absent.
    #[error("the stage {stage} was to be recorded as complete, but its output {} does not exist", path.display())]
    MissingOutput {
        /// The stage.
        stage: String,
        /// The absent file or folder.
        path: PathBuf,
    },
    /// A run that was opened for reading only was asked to record something.
    #[error("the run {} was opened for reading only", path.display())]
    ReadOnly {
        /// The run's root folder.
        path: PathBuf,
    },
    /// A name cannot be used for a stage, a metric or a field.
    #[error("{name:?} cannot name a {kind}: {reason}")]
    Name {
        /// What it was to name.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A value cannot be written as JSON.
    #[error("could not write {what} as JSON: {source}")]
    Encode {
        /// The value, in words.
        what: &'static str,
        /// The encoder's reason.
        source: serde_json::Error,
    },
    /// Folders that contain each other through symbolic links have no digest.
    #[error("{} leads back to a folder that contains it", path.display())]
    Loop {
        /// The link.
        path: PathBuf,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| " by another process".to_owned(), |pid| format!(" by process {pid}"))
}

impl Error {
    /// The remedy, in one line, where there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "check who owns the folder, or choose another one".to_owned()
                }
                io::ErrorKind::StorageFull => {
                    "free some space and run the same command again; it continues where it stopped".to_owned()
                }
                io::ErrorKind::NotFound => "check the path; nothing exists there".to_owned(),
                _ => return None,
            },
            Self::Busy { .. } => "wait for the other writer to end, or write somewhere else".to_owned(),
            Self::Locked { pid: Some(pid), .. } => {
                format!("wait for process {pid} to end or stop it, or give this run another name")
            }
            Self::Locked { pid: None, .. } => {
                "wait for the other process to end or stop it, or give this run another name".to_owned()
            }
            Self::NotARun { .. } => {
                "give the folder of a run, or a new or empty folder to begin one".to_owned()
            }
            Self::Malformed { path, .. } => {
                format!("repair that line of {}, or move the file away to begin it anew", path.display())
            }
            Self::Newer { .. } => {
                "use the version of Altiplano that wrote the run, or a later one".to_owned()
            }
            Self::OtherSeed { recorded, .. } => {
                format!("use seed {recorded} to continue this run, or give the new one another name")
            }
            Self::MissingOutput { .. } => "run the stage again".to_owned(),
            Self::ReadOnly { .. } | Self::Encode { .. } => return None,
            Self::Name { .. } => "use letters, digits, '-', '_', '.' and '/'".to_owned(),
            Self::Loop { .. } => "remove the link, or point it at a folder outside".to_owned(),
        })
    }

    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }
}
