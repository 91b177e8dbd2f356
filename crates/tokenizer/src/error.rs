//! What can go wrong, with its place and its remedy.

use std::path::PathBuf;

/// An error of this crate. The message says what failed and where; [`Error::hint`] what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write the tokenizer: {0}")]
    Write(#[from] ledger::Error),
    /// A folder holds no tokenizer.
    #[error("no tokenizer in {}: neither tokenizer.json nor tokenizer.model", path.display())]
    NotFound {
        /// The folder.
        path: PathBuf,
    },
    /// A line of a `tokenizer.model` is wrong.
    #[error("{}, line {line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A `tokenizer.json` is not JSON, or not of the expected shape.
    #[error("{}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        problem: String,
    },
    /// A `tokenizer.json` is valid, but another kind of tokenizer.
    #[error("{}: {place} {problem}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Path of the entry in the file.
        place: String,
        /// What is there, and what would be understood.
        problem: String,
    },
    /// The tokens do not make a tokenizer.
    #[error("{problem}")]
    Vocabulary {
        /// What is wrong.
        problem: String,
    },
    /// A text holds a special token that the caller refused.
    #[error("the text holds the special token {name} at byte {byte}")]
    SpecialInText {
        /// The special token.
        name: String,
        /// Where it starts.
        byte: usize,
    },
    /// A special token is not of this tokenizer.
    #[error("this tokenizer has no special token {name:?}")]
    UnknownSpecial {
        /// What was asked for.
        name: String,
    },
    /// The texts do not hold enough repeated pairs for the vocabulary.
    #[error(
        "the texts reach a vocabulary of {reachable} tokens, not {asked}: no pair of tokens occurs \
         {minimum_pair_count} times any more"
    )]
    CorpusTooSmall {
        /// The vocabulary that was asked for, special tokens included.
        asked: usize,
        /// The largest that these texts and settings reach.
        reachable: usize,
        /// The setting of that name.
        minimum_pair_count: u64,
    },
    /// A file of counts could not be used.
    #[error("cannot {operation} {}: {source}", path.display())]
    WorkIo {
        /// What was tried, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is in a work folder cannot be used.
    #[error("{}: {problem}", path.display())]
    Work {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, with its byte.
        problem: String,
    },
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
    /// Settings outside their limits; all faults at once.
    #[error("tokenizer settings: {}", faults.join("; "))]
    Settings {
        /// One entry for each fault.
        faults: Vec<String>,
    },
}

impl Error {
    /// The remedy, in one line.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Read { .. } => "check that the path exists and may be read".into(),
            Error::Write(_) => "check that the folder may be written and the disk is not full".into(),
            Error::NotFound { .. } => {
                "name a folder with tokenizer.json or tokenizer.model, or one of these files".into()
            }
            Error::Line { .. } => "each line is a token in base64, a space and its rank, as in \
                 Meta's tokenizer.model; copy the file again if it was cut short"
                .into(),
            Error::Json { .. } => "copy the file again, or load the tokenizer.model beside it".into(),
            Error::Unsupported { .. } => {
                "models have Llama 3's tokenizer, or one trained here; the byte-level BPE of \
                 GPT-2 and Qwen and SentencePiece's of Llama 2 can be looked at and compared"
                    .into()
            }
            Error::Vocabulary { .. } => "use a complete Llama 3 tokenizer, or train one".into(),
            Error::SpecialInText { .. } => {
                "allow this special token, or encode the text as ordinary text".into()
            }
            Error::UnknownSpecial { .. } => {
                "special tokens are written like <|eot_id|>; see the tokenizer's special_names".into()
            }
            Error::CorpusTooSmall { reachable, .. } => {
                format!("set vocab_size to at most {reachable}, or train on more text")
            }
            Error::WorkIo { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                "free some space and run the same command again; it continues".into()
            }
            Error::WorkIo { .. } => "check that the work folder may be read and written".into(),
            Error::Work { .. } => {
                "wait for the other process to end; if there is none, remove the folder and count \
                 again"
                    .into()
            }
            Error::Stopped => "run the same command again; it continues".into(),
            Error::Settings { .. } => "correct the values in the [tokenizer] section".into(),
        };
        Some(hint)
    }
}
