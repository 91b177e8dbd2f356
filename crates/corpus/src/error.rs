//! What can go wrong in the corpus, each with its place. Malformed inputs inside a curation are not
//! errors: they are skipped, named and counted (see [`crate::funnel::SkippedInput`]).

use std::path::{Path, PathBuf};

/// An error of this crate; each names the operation and its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Settings outside their range, all of them at once.
    #[error("the section [curate] has {} fault(s): {}", faults.len(), faults.join("; "))]
    Settings {
        /// One sentence a fault.
        faults: Vec<String>,
    },
    /// The operating system refused an operation on a file.
    #[error("cannot {operation} {}: {cause}", path.display())]
    Io {
        /// The operation, as a verb phrase.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        cause: std::io::Error,
    },
    /// A source that is not a path, a glob or the word `registry`.
    #[error("source {given:?} is malformed: {reason}")]
    Source {
        /// The source as the user gave it.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not one document could be read from the sources.
    #[error("no readable document in {sources}: {} skipped{details}", inputs(*skipped))]
    NothingReadable {
        /// The sources as given.
        sources: String,
        /// How many inputs were skipped as unreadable or malformed.
        skipped: u64,
        /// The first skipped input with its reason, and the files of kinds that are not read; empty without any.
        details: String,
    },
    /// Documents were read, but every one was removed.
    #[error("all {read} documents were removed while curating; most by {step}: {reason} ({count})")]
    NothingKept {
        /// Documents read.
        read: u64,
        /// The step that removed the most for one reason.
        step: String,
        /// That reason.
        reason: String,
        /// How many documents that reason removed.
        count: u64,
    },
    /// A file of this crate's own making, or one that claims a known format, is not what it should be.
    #[error("{} is malformed at byte {byte}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where in it.
        byte: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A Parquet file could not be read or written.
    #[error("cannot {operation} the Parquet file {}: {cause}", path.display())]
    Parquet {
        /// The operation, as a verb phrase.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The format library's reason.
        #[source]
        cause: parquet::errors::ParquetError,
    },
    /// A list of words or addresses that the settings name is not text, a line an entry.
    #[error("{} is no list: line {line}: {reason}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A record batch does not have the columns a step needs.
    #[error("step {step} cannot work on the batch: {reason}")]
    Batch {
        /// The step.
        step: &'static str,
        /// The missing column or failed operation.
        reason: String,
    },
    /// A folder that curation did not write.
    #[error(
        "{} is no folder of curated documents: it holds neither funnel.json nor train-00000.parquet or heldout-00000.parquet",
        path.display()
    )]
    NotCurated {
        /// The folder.
        path: PathBuf,
    },
    /// A folder holds no documents of a split.
    #[error("{} holds no {split} documents", path.display())]
    NoDocuments {
        /// The folder.
        path: PathBuf,
        /// `train` or `heldout`.
        split: &'static str,
    },
    /// A token or a document does not fit the token file.
    #[error("cannot store document {document} in {}: {reason}", path.display())]
    DoesNotFit {
        /// The file being written.
        path: PathBuf,
        /// The document's index in it.
        document: u64,
        /// What does not fit.
        reason: String,
    },
    /// More documents than their numbers can tell apart.
    #[error("there are more than {most} documents to compare")]
    TooManyDocuments {
        /// The most there may be.
        most: u64,
    },
    /// Another process works in the same work folder.
    #[error("{} is in use: another process curates there at this moment", path.display())]
    Busy {
        /// The work folder.
        path: PathBuf,
    },
    /// A file is not here what it is where the curation was begun.
    #[error("{} is not the same on all machines: {reason}", path.display())]
    NotTheSame {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Other processes could not do their part of the work.
    #[error("{reason}")]
    Elsewhere {
        /// Who failed, and how.
        reason: String,
        /// The remedy.
        hint: Option<String>,
    },
    /// Somebody asked for the work to stop; what was done is kept.
    #[error("stopped before the end")]
    Stopped,
    /// The tokenizer whose tokens are to be counted cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] tokenizer::Error),
    /// A classifier's file that is not read.
    #[error("the classifier {} cannot be used: {reason}", path.display())]
    Classifier {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A classifier that cannot be trained as it was asked.
    #[error("the classifier cannot be trained: {reason}")]
    Training {
        /// What is wrong with the settings or the texts, all of it.
        reason: String,
    },
    /// Token shards that cannot be mixed as was asked.
    #[error("the sources cannot be mixed: {reason}")]
    Blend {
        /// Why.
        reason: String,
    },
    /// Documents are to be embedded, and nobody was given who can.
    #[error("semantic deduplication has no model to embed with")]
    NoEmbedder,
    /// A document could not be embedded, or not by what came back; what was embedded before is kept.
    #[error("cannot embed {document}: {reason}")]
    Embedding {
        /// Where the document came from; of several that were asked about together the first, where it is not known which.
        document: String,
        /// What went wrong.
        reason: String,
        /// What to do, where the embedder knows.
        hint: Option<String>,
    },
    /// What lies in an object store or on a web server could not be listed or read; what was done before is kept.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An atomic file or folder could not be made or committed.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl Error {
    /// The remedy in one line, where there is one to name.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Settings { .. } => "correct the named keys in the recipe's [curate] section".into(),
            Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                "check the permissions of the path".into()
            }
            Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::NotFound => {
                "check that the path exists".into()
            }
            Error::Io { .. } => return None,
            Error::Source { .. } => {
                "a source is `registry`, a folder, a file, an address such as s3://bucket/prefix or https://host/file, or a glob such \
                as 'pages/*.warc.gz'".into()
            }
            Error::NothingReadable { .. } => "give --source a folder, glob or file of .txt .md .rs .py .html \
                .jsonl[.gz|.zst] .parquet or .warc[.gz]; `cargo fetch` fills the registry that is read by default"
                .into(),
            Error::NothingKept { .. } => {
                "loosen that rule in the recipe's [curate] section, or give more text with --source".into()
            }
            Error::Malformed { .. } => {
                "delete the folder that holds the file and make it again".into()
            }
            Error::Parquet { .. } => "check that the file is complete and the disk has room".into(),
            Error::List { .. } => {
                "a list is UTF-8 text with an entry a line; lines that begin with # are left out".into()
            }
            Error::Batch { .. } => return None,
            Error::NotCurated { .. } => "give the folder that `alti curate` wrote (--out), or the documents/ of a run".into(),
            Error::NoDocuments { .. } => "curate first, or give the folder that curation wrote".into(),
            Error::DoesNotFit { .. } => "use the tokenizer that the folder was made for".into(),
            Error::TooManyDocuments { .. } => "curate the sources in parts, such as a crawl at a time".into(),
            Error::Busy { .. } => "wait for it to end, or give another --work folder".into(),
            Error::NotTheSame { .. } => "sources, lists and classifiers must lie under the same paths wherever a worker runs: put \
                them on a file system that all machines share, or copy them"
                .into(),
            Error::Elsewhere { hint, .. } => return hint.clone(),
            Error::Stopped => "run the same command again; it goes on from here".into(),
            Error::Tokenizer(error) => return error.hint(),
            Error::Classifier { .. } => "give a folder that `alti curate classifier train` wrote, or a supervised model of \
                fastText's (.bin, not quantised)"
                .into(),
            Error::Training { .. } => "correct the options; each label needs texts".into(),
            Error::Blend { .. } => "correct the shares, or leave a source out".into(),
            Error::NoEmbedder => "name a model in semantic.model, or switch semantic.enabled off".into(),
            Error::Embedding { hint, .. } => hint
                .clone()
                .unwrap_or_else(|| "run the same command again: what was embedded is kept".to_string()),
            Error::Store(error) => return error.hint(),
            Error::Ledger(error) => return error.hint(),
        })
    }

    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |cause| Error::Io { operation, path, cause }
    }

    pub(crate) fn parquet(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(parquet::errors::ParquetError) -> Error {
        let path = path.to_path_buf();
        move |cause| Error::Parquet { operation, path, cause }
    }
}

/// `1 input`, `12 inputs`.
pub(crate) fn inputs(count: u64) -> String {
    format!("{count} {}", if count == 1 { "input" } else { "inputs" })
}
