//! How long work reports to a person without knowing how it is shown.
//! Libraries call these traits; the command line draws bars, tests pass [`Silent`].

/// What a task counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things of no more special kind.
    Items,
    /// Bytes.
    Bytes,
    /// Tokens.
    Tokens,
    /// Optimizer steps.
    Steps,
    /// Documents.
    Documents,
}

impl Unit {
    /// The plural, as it is shown beside a number; bytes as the bare symbol.
    pub fn label(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Bytes => "B",
            Self::Tokens => "tokens",
            Self::Steps => "steps",
            Self::Documents => "documents",
        }
    }
}

/// Where work reports what it does.
pub trait Progress: Send + Sync {
    /// Begins a task; it ends when the returned value is dropped. `total` is `None` while it is unknown.
    fn begin(&self, label: &str, total: Option<u64>, unit: Unit) -> Box<dyn Task>;

    /// A line for the user.
    fn note(&self, text: &str);

    /// A line that the user should not overlook; the work goes on.
    fn warn(&self, text: &str);
}

/// A task in progress. Dropping it means that it has finished.
pub trait Task: Send + Sync {
    /// `n` more units are done.
    fn advance(&self, n: u64);

    /// Exactly `n` units are done, for work that resumes in the middle.
    fn position(&self, n: u64);

    /// What is being done just now, or how it is going.
    fn message(&self, text: &str);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _label: &str, _total: Option<u64>, _unit: Unit) -> Box<dyn Task> {
        Box::new(Self)
    }

    fn note(&self, _text: &str) {}

    fn warn(&self, _text: &str) {}
}

impl Task for Silent {
    fn advance(&self, _n: u64) {}

    fn position(&self, _n: u64) {}

    fn message(&self, _text: &str) {}
}
