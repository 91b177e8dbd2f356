//! What can go wrong between the parts of a cluster and in questions to documents, each with its remedy.

use std::path::PathBuf;

/// An error of this crate; each names the operation and its place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address that is none.
    #[error("{given:?} is no address: {reason}")]
    Address {
        /// The address as the user gave it.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part cannot listen where it should.
    #[error("cannot listen at {address}: {cause}")]
    Listen {
        /// Where.
        address: String,
        /// The system's reason.
        #[source]
        cause: std::io::Error,
    },
    /// The scheduler does not answer.
    #[error("no scheduler answers at {address}: {reason}")]
    NoScheduler {
        /// Where it should be.
        address: String,
        /// What came instead.
        reason: String,
    },
    /// The scheduler is another build of this program.
    #[error("the scheduler at {address} refuses: {reason}")]
    Refused {
        /// Where it is.
        address: String,
        /// What it said.
        reason: String,
    },
    /// A part of the cluster failed.
    #[error("cannot {operation}: {reason}")]
    Part {
        /// The operation, as a verb phrase.
        operation: &'static str,
        /// Who said what.
        reason: String,
    },
    /// The folder holds nothing to ask about.
    #[error("{} holds no curated documents", path.display())]
    NoDocuments {
        /// The folder.
        path: PathBuf,
    },
    /// The question cannot be answered.
    #[error("{reason}")]
    Query {
        /// What the engine said.
        reason: String,
        /// The remedy.
        hint: Option<String>,
    },
}

impl Error {
    /// The remedy, in one line, where there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::Address { .. } => "write HOST:PORT, such as 10.0.0.7:50050".into(),
            Error::Listen { .. } => "give --bind another port, or end what listens there".into(),
            Error::NoScheduler { .. } => {
                "start one with `alti curate scheduler --bind HOST:PORT`, and check that nothing blocks the way to it".into()
            }
            Error::Refused { .. } => {
                "run the same file of the program on all machines: another build may filter otherwise".into()
            }
            Error::Part { .. } => return None,
            Error::NoDocuments { .. } => {
                "give the folder that `alti curate --out` wrote, with its train-00000.parquet".into()
            }
            Error::Query { hint, .. } => return hint.clone(),
        })
    }

    pub(crate) fn part(
        operation: &'static str,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Error {
        move |error| Error::Part { operation, reason: error.to_string() }
    }
}
