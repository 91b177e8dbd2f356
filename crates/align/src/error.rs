//! What can go wrong in post-training, with its place and its remedy.

use std::path::PathBuf;

/// Everything this crate reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Values of the `[sft]` section that cannot be used, all of them.
    #[error("[sft] settings are not usable: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// A file of conversations could not be read.
    #[error("cannot read the conversations in {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file was read, but holds not one whole conversation.
    #[error("no conversation in {}: {reason}", path.display())]
    NoConversations {
        /// The file.
        path: PathBuf,
        /// The first thing that was wrong, with its line.
        reason: String,
    },
    /// No conversation fits into a row.
    #[error("no conversation fits into rows of {seq_len} tokens")]
    NothingFits {
        /// Tokens of a row.
        seq_len: usize,
    },
    /// Training failed.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// A failure of the disk, named by `ledger`.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl Error {
    /// One line that says what to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(_) => {
                Some("correct the [sft] section of the recipe, or leave the keys out".into())
            }
            Self::Read { .. } => {
                Some("sft.conversations lists files of conversations, relative to where alti runs".into())
            }
            Self::NoConversations { .. } => Some(
                "a line is {\"messages\": [{\"role\": \"user\", \"content\": \"...\"}, ...]}, or Alpaca's \
                 instruction, input and output, or ShareGPT's conversations"
                    .into(),
            ),
            Self::NothingFits { .. } => Some("raise sft.seq_len".into()),
            Self::Train(error) => error.hint(),
            Self::Ledger(error) => error.hint(),
        }
    }
}
