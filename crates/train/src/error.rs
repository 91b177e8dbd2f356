//! What can go wrong while training. Each message names the operation and the place; [`Error::hint`] the remedy.

use std::path::PathBuf;

/// Everything this crate reports.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Values of the `[train]` section that cannot be used, all of them.
    #[error("[train] settings are not usable: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// A model size that does not exist.
    #[error("no model size is called {0:?}")]
    UnknownSize(String),
    /// A shape for measuring that does not exist.
    #[error("no shape is called {0:?}")]
    UnknownShape(String),
    /// The parts of a training job do not fit together.
    #[error("{stage} cannot begin: {reason}")]
    Job {
        /// The stage.
        stage: String,
        /// What does not fit.
        reason: String,
    },
    /// There are too few tokens for one row of a batch.
    #[error("{tokens} tokens in {documents} documents do not fill one row of {row} tokens")]
    TooFewTokens {
        /// Tokens that there are.
        tokens: u64,
        /// Documents that hold them.
        documents: usize,
        /// Tokens that one row takes, its last target included.
        row: u64,
    },
    /// No token of a batch has a loss weight above 0.
    #[error("{stage}, step {step}: nothing in the batch is to be predicted ({documents})")]
    NothingToPredict {
        /// The stage.
        stage: String,
        /// The step, counted from 1.
        step: u64,
        /// The batch's documents.
        documents: String,
    },
    /// The loss is not a number, or the gradients are far larger than before.
    #[error("{stage} diverged at step {step}: {what}; the batch held {documents}")]
    Diverged {
        /// The stage.
        stage: String,
        /// The step, counted from 1.
        step: u64,
        /// The value that says so, beside what was usual before.
        what: String,
        /// The batch's documents.
        documents: String,
        /// The newest complete checkpoint, from before this step.
        checkpoint: Option<PathBuf>,
    },
    /// A checkpoint could not be written or read.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The model refused its configuration or a batch.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// A record of the run could not be kept.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl Error {
    /// The remedy, in one line, where there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Settings(_) => {
                "correct these values in the recipe's [train] section or in --set".to_owned()
            }
            Self::UnknownSize(_) => format!("choose one of {}", crate::Size::NAMES.join(", ")),
            Self::UnknownShape(_) => format!("choose one of {}", crate::bench::Shape::NAMES.join(", ")),
            Self::Job { .. } => return None,
            Self::TooFewTokens { .. } => {
                "add sources, or choose a smaller --size or train.seq_len".to_owned()
            }
            Self::NothingToPredict { .. } => {
                "use longer rows, so that each batch holds the end of at least one example".to_owned()
            }
            Self::Diverged { checkpoint, .. } => match checkpoint {
                Some(path) => format!(
                    "lower train.learning_rate and begin anew; the state before it is kept in {}",
                    path.display()
                ),
                None => "lower train.learning_rate, or lengthen train.warmup_fraction".to_owned(),
            },
            Self::Checkpoint { .. } => {
                "free some space or check the folder's owner, and run the same command again".to_owned()
            }
            Self::Model(error) => return error.hint(),
            Self::Ledger(error) => return error.hint(),
        })
    }
}
