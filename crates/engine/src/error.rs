//! What can be wrong with a request or with the engine, typed; what to do about it is in [`Error::hint`].

/// A failure of the engine.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The prompt holds no token.
    #[error("submit: the prompt is empty")]
    EmptyPrompt,
    /// The prompt and what is asked to follow it do not fit the context.
    #[error(
        "submit: the prompt has {prompt_tokens} tokens and up to {max_tokens} are asked to follow, \
         but the context holds {context}"
    )]
    ContextLength {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens asked for; at least 1.
        max_tokens: usize,
        /// What the model, or the engine's cache, can hold.
        context: usize,
    },
    /// A token of the prompt is not in the vocabulary.
    #[error(
        "submit: token {token} at position {position} of the prompt is outside the vocabulary of {vocab_size}"
    )]
    UnknownToken {
        /// Index in the prompt.
        position: usize,
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// Some parameters of the request are out of range: all of them, one a line.
    #[error("submit: {}", .faults.join("; "))]
    InvalidRequest {
        /// Each names the field, the value and what it may be.
        faults: Vec<String>,
    },
    /// The constraint cannot be compiled, or became too costly to follow.
    #[error("constraint: {reason}")]
    Constraint {
        /// What is wrong with it, and where.
        reason: String,
    },
    /// The request names an adapter that is not loaded.
    #[error("submit: there is no adapter `{name}`{}", listed(.known))]
    UnknownAdapter {
        /// What the request named.
        name: String,
        /// The adapters that are loaded.
        known: Vec<String>,
    },
    /// An adapter cannot be loaded.
    #[error("adapter `{name}`: {reason}")]
    Adapter {
        /// Its name.
        name: String,
        /// What is wrong with it, with the file and the tensor where a file is at fault.
        reason: String,
        /// The remedy.
        hint: Option<String>,
    },
    /// As many requests run and wait as the settings allow.
    #[error("submit: the queue is full ({in_flight} requests run or wait)")]
    QueueFull {
        /// Requests that run or wait now.
        in_flight: usize,
    },
    /// The engine no longer takes requests, or ended before this one was done.
    #[error("engine: it has been shut down")]
    Stopped,
    /// The model gave scores that are not numbers.
    #[error("forward: the model's logits are not finite after {tokens} tokens")]
    NotFinite {
        /// Length of the sequence so far.
        tokens: usize,
    },
    /// The model could not read a batch of tokens; every request in it fails.
    #[error("forward: {reason}")]
    Model {
        /// What the model said.
        reason: String,
    },
    /// The settings contradict themselves: all faults, one a line.
    #[error("engine settings: {}", .faults.join("; "))]
    Settings {
        /// Each names the field, the value and what it may be.
        faults: Vec<String>,
    },
    /// The model and the tokenizer are not of one kind.
    #[error("engine: the tokenizer has {tokenizer} tokens and the model scores only {model}")]
    VocabularyMismatch {
        /// Tokens the tokenizer knows.
        tokenizer: usize,
        /// Logits the model gives.
        model: usize,
    },
    /// The model that is to guess has another vocabulary than the one that answers.
    #[error("speculative decoding: {} cannot guess for this model: {reason}", .draft.display())]
    DraftVocabulary {
        /// The draft model, as the settings name it.
        draft: std::path::PathBuf,
        /// Where the two differ.
        reason: String,
    },
    /// The scheduler's thread could not be started.
    #[error("engine: the scheduler thread could not be started: {reason}")]
    Thread {
        /// What the system said.
        reason: String,
    },
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "; none is loaded".into() } else { format!("; loaded are {}", known.join(", ")) }
}

impl Error {
    /// What to do about it, in one line.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::EmptyPrompt => Some("begin the prompt with <|begin_of_text|>".into()),
            Error::ContextLength { prompt_tokens, context, .. } if prompt_tokens < context => {
                Some(format!("ask for at most {} tokens, or shorten the prompt", context - prompt_tokens))
            }
            Error::ContextLength { context, .. } => {
                Some(format!("shorten the prompt to fewer than {context} tokens"))
            }
            Error::UnknownToken { .. } => Some("encode the prompt with the tokenizer of this model".into()),
            Error::QueueFull { .. } => Some("try again in a moment, or raise `max_queue`".into()),
            Error::NotFinite { .. } => Some(
                "the weights hold NaN or infinity: check the training's loss, or the file they came from"
                    .into(),
            ),
            Error::UnknownAdapter { .. } => {
                Some("load it with `--adapter NAME=PATH` or `[engine.adapters]`".into())
            }
            Error::Adapter { hint, .. } => hint.clone(),
            Error::VocabularyMismatch { .. } => Some("load the tokenizer from the model's own folder".into()),
            Error::DraftVocabulary { .. } => Some(
                "choose a smaller model with the same tokenizer, or `speculative = \"lookup\"`, which takes none"
                    .into(),
            ),
            Error::Constraint { .. }
            | Error::InvalidRequest { .. }
            | Error::Model { .. }
            | Error::Settings { .. }
            | Error::Stopped
            | Error::Thread { .. } => None,
        }
    }
}
