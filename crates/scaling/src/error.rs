//! What can be wrong with runs that a law is to be fitted to.

/// An error of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Too few runs for the parameters of a law.
    #[error("{runs} runs cannot fit a law of {parameters} parameters")]
    TooFewRuns {
        /// Runs given.
        runs: usize,
        /// Parameters of the law.
        parameters: usize,
    },
    /// A run that is none.
    #[error("run {run}: {reason}")]
    Run {
        /// Its index.
        run: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Settings outside their range, or that leave nothing to choose from.
    #[error("{reason}")]
    Settings {
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// The remedy in one line.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::TooFewRuns { parameters, .. } => format!("train at least {} candidates", parameters + 1),
            Error::Run { .. } => "remove that run and train it again".to_owned(),
            Error::Settings { .. } => return None,
        })
    }
}
