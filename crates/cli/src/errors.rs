//! What a person sees when something fails: what failed, why, and one `hint:` line that says what to do.
//! Each library owns its errors; this only gathers them and fixes the exit codes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use owo_colors::OwoColorize;

/// Everything that ends the program early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The records of a run.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The hub that models are pulled from.
    #[error(transparent)]
    Hub(#[from] hub::Error),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// Curation and packing.
    #[error(transparent)]
    Corpus(#[from] corpus::Error),
    /// The parts of a cluster, and questions in SQL.
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The model's shapes and files.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// Training.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// Inference.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// Tuning.
    #[error(transparent)]
    Align(#[from] align::Error),
    /// Evaluation.
    #[error(transparent)]
    Evals(#[from] evals::Error),
    /// The server.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// A recipe or a `--set` that cannot be used.
    #[error("{message}")]
    Recipe {
        /// Where and why, over as many lines as it takes.
        message: String,
        /// The remedy.
        hint: String,
    },
    /// A command that cannot be carried out as it was given.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// The remedy.
        hint: String,
    },
    /// The file system refused an operation of this crate's own.
    #[error("could not {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A model that somebody else runs does not answer.
    #[error("{message}")]
    Endpoint {
        /// Who said or did what.
        message: String,
        /// The remedy.
        hint: String,
    },
    /// The person pressed Ctrl-C; what was done is safe.
    #[error("stopped; everything done so far is kept")]
    Interrupted {
        /// How to go on.
        hint: String,
    },
}

impl Error {
    /// A failed file operation.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// The remedy, in one line, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ledger(error) => error.hint(),
            Self::Hub(error) => error.hint(),
            Self::Tokenizer(error) => error.hint(),
            Self::Corpus(error) => error.hint(),
            #[cfg(feature = "cluster")]
            Self::Cluster(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Train(error) => error.hint(),
            Self::Engine(error) => error.hint(),
            Self::Align(error) => error.hint(),
            Self::Evals(error) => error.hint(),
            Self::Serve(error) => error.hint(),
            Self::Recipe { hint, .. }
            | Self::Usage { hint, .. }
            | Self::Endpoint { hint, .. }
            | Self::Interrupted { hint } => Some(hint.clone()),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Some("check the path; nothing exists there".to_owned()),
                io::ErrorKind::PermissionDenied => Some("check who owns the file or folder".to_owned()),
                io::ErrorKind::StorageFull => {
                    Some("free some space and run the same command again; it continues".to_owned())
                }
                _ => None,
            },
        }
    }

    /// 2 for a command that was wrong from the start, 130 after Ctrl-C (as shells expect), 1 for all other failures.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Recipe { .. } | Self::Usage { .. } => 2,
            Self::Interrupted { .. } => 130,
            _ => 1,
        }
    }
}

/// Writes the error with its causes and its hint to standard error, and gives the exit code.
pub fn show(error: &Error) -> ExitCode {
    if matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe) {
        // Whoever read the answer has read enough, as `head` does.
        return ExitCode::SUCCESS;
    }
    let mut text = if matches!(error, Error::Interrupted { .. }) {
        format!("{}\n", error.yellow())
    } else {
        format!("{} {error}\n", "error:".red().bold())
    };
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        // Many errors already repeat their source in their own message.
        if !said.contains(&inner.to_string()) {
            said = inner.to_string();
            text.push_str(&format!("  because: {said}\n"));
        }
        cause = inner.source();
    }
    if let Some(hint) = error.hint() {
        text.push_str(&format!("{} {hint}\n", "hint:".cyan().bold()));
    }
    anstream::eprint!("{text}");
    ExitCode::from(error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_hints() {
        let missing = Error::io("read", Path::new("x.toml"))(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(missing.exit_code(), 1);
        assert!(missing.hint().unwrap().contains("nothing exists"));
        let usage = Error::Usage { message: "no".into(), hint: "yes".into() };
        assert_eq!((usage.exit_code(), usage.hint().unwrap().as_str()), (2, "yes"));
        assert_eq!(Error::Interrupted { hint: String::new() }.exit_code(), 130);
    }
}
