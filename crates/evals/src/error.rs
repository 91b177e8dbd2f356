//! What can go wrong in measuring, with its place and its remedy.

use std::path::PathBuf;

/// Everything this crate reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Values of the `[eval]` section that cannot be used, all of them.
    #[error("[eval] settings are not usable: {}", .0.join("; "))]
    Settings(Vec<String>),
    /// There is no held-out text to measure on.
    #[error("there is no held-out text to measure on")]
    NoDocuments,
    /// Windows that text cannot be cut into, or that a model has no room for.
    #[error("{}", .0.join("; "))]
    Windows(Vec<String>),
    /// A question could not be put to the model.
    #[error("the question {question:?} could not be answered: {source}")]
    Question {
        /// The question.
        question: String,
        /// Why.
        source: engine::Error,
    },
    /// The engine could not be started.
    #[error("cannot start the engine: {0}")]
    Engine(#[from] engine::Error),
    /// The model refused a batch.
    #[error("cannot measure how text is foretold: {0}")]
    Model(#[from] model::Error),
    /// Results that cannot be read.
    #[error("cannot read the results in {}: {reason}", path.display())]
    Results {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A failure of the disk, named by `ledger`.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl Error {
    /// One line that says what to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Settings(_) => {
                Some("correct the [eval] section of the recipe, or leave the keys out".into())
            }
            Self::NoDocuments => Some(
                "give files with text; in a run, raise curate's held-out fraction or give it more documents"
                    .into(),
            ),
            Self::Windows(_) => Some("choose another --context or --stride".into()),
            Self::Question { .. } => Some("is the model's context shorter than eval.max_tokens?".into()),
            Self::Engine(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Results { .. } => Some("run the evaluation again; it replaces the folder whole".into()),
            Self::Ledger(error) => error.hint(),
        }
    }
}
