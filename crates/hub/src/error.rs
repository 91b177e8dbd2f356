//! What can go wrong between here and the hub, with its remedy.

use std::path::{Path, PathBuf};

/// Everything this crate reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that names no repository, revision or endpoint.
    #[error("{given:?} {reason}")]
    Name {
        /// As it was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern of files that is none.
    #[error("--include {given:?} is no glob: {reason}")]
    Glob {
        /// As it was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A token file without a token.
    #[error("{} holds no token", path.display())]
    Token {
        /// The file.
        path: PathBuf,
    },
    /// The hub does not know the repository, or does not say so to strangers.
    #[error("{endpoint} has no model {repository}, or none that is shown {}", if *with_token { "to this token" } else { "without a token" })]
    NoRepository {
        /// Whom was asked.
        endpoint: String,
        /// The model.
        repository: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repository} has no revision {revision:?}")]
    NoRevision {
        /// The model.
        repository: String,
        /// The revision.
        revision: String,
    },
    /// The repository's owners ask for an agreement first.
    #[error("{repository} is gated: {}", if *with_token { "this token's account has not been granted access" } else { "only accounts that agreed to its terms may read it" })]
    Gated {
        /// Whom was asked.
        endpoint: String,
        /// The model.
        repository: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The token is wrong or has not the right.
    #[error("{endpoint} refused the token (status {status})")]
    Refused {
        /// Who refused.
        endpoint: String,
        /// 401 or 403.
        status: u16,
    },
    /// The hub asks for more patience than is reasonable.
    #[error("{endpoint} has had too many requests{}", seconds.map(|s| format!("; it asks to wait {s} seconds")).unwrap_or_default())]
    RateLimited {
        /// Who asks.
        endpoint: String,
        /// For so long, if it says so.
        seconds: Option<u64>,
    },
    /// Nobody answers, or the connection broke too often.
    #[error("could not fetch {what} from {host}: {reason}")]
    Unreachable {
        /// The file or the list of files.
        what: String,
        /// Who did not answer.
        host: String,
        /// The last reason.
        reason: String,
    },
    /// An answer that the hub does not give.
    #[error("{what}: {host} answered {reason}")]
    Answer {
        /// What was asked for.
        what: String,
        /// Who answered.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Bytes that are not those that the hub means.
    #[error("{file}: the bytes that came have the {kind} {found}, and the hub says {expected}")]
    Checksum {
        /// The file in the repository.
        file: String,
        /// Which sum.
        kind: &'static str,
        /// Of the bytes.
        found: String,
        /// Of the hub.
        expected: String,
    },
    /// Nothing that makes a model, or several models.
    #[error("{repository} {reason}")]
    Choice {
        /// The model.
        repository: String,
        /// Why nothing could be chosen.
        reason: String,
        /// What could be.
        hint: String,
    },
    /// There is no folder for caches.
    #[error("there is no home folder for the cache")]
    NoCache,
    /// The file system refused an operation.
    #[error("could not {operation} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A failure of the disk, named by `ledger`.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }

    /// One line that says what to do about it.
    pub fn hint(&self) -> Option<String> {
        let tokens = |endpoint: &str| format!("{endpoint}/settings/tokens");
        Some(match self {
            Self::Name { .. } => {
                "a model is called owner/name, such as meta-llama/Llama-3.2-1B-Instruct".to_owned()
            }
            Self::Glob { .. } => "a glob is a name with * and ?, such as '*Q4_K_M*'".to_owned(),
            Self::Token { .. } => "the file holds one line, which begins with hf_".to_owned(),
            Self::NoRepository { endpoint, with_token: false, .. } => format!(
                "check the name; a private model needs a token ({}) in HF_TOKEN or --token-file",
                tokens(endpoint)
            ),
            Self::NoRepository { .. } => {
                "check the name, and whether the token's account may read the model".to_owned()
            }
            Self::NoRevision { .. } => {
                "a revision is a branch, a tag or a commit of 40 digits; without one it is main".to_owned()
            }
            Self::Gated { endpoint, repository, with_token: false } => format!(
                "agree to the terms at {endpoint}/{repository}, make a token that reads at {}, and give it in HF_TOKEN \
                 or --token-file",
                tokens(endpoint)
            ),
            Self::Gated { endpoint, repository, .. } => format!(
                "ask for access at {endpoint}/{repository} with the token's account; a fine-grained token also needs \
                 the right to read gated repositories"
            ),
            Self::Refused { endpoint, .. } => {
                format!("make a new token that may read at {}", tokens(endpoint))
            }
            Self::RateLimited { .. } => {
                "run the same command again later, it goes on where it was; with a token more requests are allowed"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "check the network, or name a mirror with --endpoint; the same command goes on where it was, and what \
                 was pulled before needs no network"
                    .to_owned()
            }
            Self::Answer { .. } => "is --endpoint a hub or a mirror of it?".to_owned(),
            Self::Checksum { .. } => {
                "the file was thrown away; run the same command again, and ask the mirror's owner if it persists"
                    .to_owned()
            }
            Self::Choice { hint, .. } => hint.clone(),
            Self::NoCache => "name a folder with --to, or set HF_HUB_CACHE".to_owned(),
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "free some space and run the same command again; it goes on where it was".to_owned()
            }
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                "check who owns the file or folder".to_owned()
            }
            Self::Io { .. } => return None,
            Self::Ledger(error) => return error.hint(),
        })
    }
}
