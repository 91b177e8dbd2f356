//! What can keep a server from starting or going on; errors of single requests go to their clients instead.

/// A failure of the server as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings contradict themselves: all faults, one a line.
    #[error("serve settings: {}", .faults.join("; "))]
    Settings {
        /// Each names the field, the value and what it may be.
        faults: Vec<String>,
    },
    /// The threads that serve connections could not be started.
    #[error("serve: the runtime could not be started: {0}")]
    Runtime(#[source] std::io::Error),
    /// The listening socket could not be used.
    #[error("serve: the listening socket cannot be used: {0}")]
    Listener(#[source] std::io::Error),
}

impl Error {
    /// What to do about it, in one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Settings { .. } => None,
            Error::Runtime(_) => {
                Some("the system may be out of threads or file handles; see `ulimit -a`".into())
            }
            Error::Listener(_) => Some("bind a free port and pass the listener on without closing it".into()),
        }
    }
}
