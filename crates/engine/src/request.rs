//! What one asks of the engine and what comes back. Tokens in, tokens and text out; the chat format is the tokenizer's.

use std::time::Duration;

use crate::{Constraint, Error, Pooling, Sampling};

/// One sequence to continue.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// Tokens to continue, `<|begin_of_text|>` included; see `tokenizer::chat::prompt`.
    pub prompt: Vec<u32>,
    /// Most tokens to generate; `None`: as many as the context still holds. 0 only with [`Request::prompt_logprobs`],
    /// and meant whatever it says with [`Request::embedding`].
    pub max_tokens: Option<usize>,
    /// How a token is chosen from the model's scores.
    pub sampling: Sampling,
    /// Texts that end the answer; they are not part of it. An empty one is ignored.
    pub stop: Vec<String>,
    /// Tokens that end the answer besides the tokenizer's own; they are not part of it.
    pub stop_tokens: Vec<u32>,
    /// Go on past the tokenizer's own stop tokens, for measurements of a fixed length.
    pub ignore_end: bool,
    /// `Some(k)`: give the log-probability of each token, and those of the `k` likeliest in its place.
    pub logprobs: Option<usize>,
    /// `Some(k)`: the same for each token of the prompt. The whole prompt is then read, whatever is kept of it.
    pub prompt_logprobs: Option<usize>,
    /// What the answer must be. The scores of tokens that it rules out are taken away after the penalties and the bias,
    /// before the temperature; log-probabilities are the model's own, before that.
    pub constraint: Option<Constraint>,
    /// The adapter that answers, by its name; without one the model as it is.
    pub adapter: Option<String>,
    /// Asks for a vector of the prompt instead of an answer.
    pub embedding: Option<Pooling>,
}

impl Request {
    /// A request with everything but the prompt at its default.
    pub fn new(prompt: Vec<u32>) -> Self {
        Request { prompt, ..Request::default() }
    }

    /// The same prompt, at most `max_tokens` of answer, always the likeliest token.
    pub fn greedy(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Request { prompt, max_tokens: Some(max_tokens), sampling: Sampling::greedy(), ..Request::default() }
    }
}

/// What happens to a request, in order: the prompt, if its scores were asked for, any number of tokens, then `Done` or
/// `Failed`, then nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The prompt with the log-probability of each token, the first excepted, which follows nothing. Sent once, where
    /// [`Request::prompt_logprobs`] asks for it.
    Prompt(Vec<Token>),
    /// The prompt's vector, of length 1, where [`Request::embedding`] asks for it.
    Embedding(Vec<f32>),
    /// One more token of the answer.
    Token(Token),
    /// The answer is complete.
    Done {
        /// Why it ended.
        reason: FinishReason,
        /// What ended it, when the reason is [`FinishReason::Stop`].
        stopped_by: Option<StopCause>,
        /// What it cost, in tokens.
        usage: Usage,
        /// What it cost, in time.
        timing: Timing,
    },
    /// The answer cannot be completed.
    Failed(Error),
}

/// One token of an answer or a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its number in the vocabulary.
    pub id: u32,
    /// Text that it adds: empty for a special token, and for one that holds only the beginning of a character (the text
    /// then comes with the token that ends the character).
    pub text: String,
    /// Natural logarithm of its probability under the model itself: temperature 1, nothing cut off, no penalty.
    pub logprob: Option<f32>,
    /// The likeliest tokens in its place, likeliest first, as many as were asked for.
    pub alternatives: Vec<Alternative>,
}

/// A token that might have stood there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alternative {
    /// Its number in the vocabulary.
    pub id: u32,
    /// Natural logarithm of its probability, as [`Token::logprob`].
    pub logprob: f32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or a stop text, a stop token or a constraint did.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// The engine was told to stop at once.
    Cancelled,
}

/// What ended an answer that stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// This token, which is not part of the answer.
    Token(u32),
    /// This text, which is not part of the answer.
    Text(String),
    /// The constraint: the answer is complete and nothing may follow.
    Constraint,
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were not read again, because another request had begun in the same way.
    pub cached_tokens: usize,
    /// Tokens generated: those of the answer, and those that were cut off with the stop token or stop text.
    pub completion_tokens: usize,
    /// Those of them that had been guessed, and so cost no pass of their own: see [`Settings::speculative`].
    ///
    /// [`Settings::speculative`]: crate::Settings::speculative
    pub accepted_tokens: usize,
    /// Guesses that were wrong or came too late. They are not part of the answer.
    pub rejected_tokens: usize,
}

/// Where the time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// From submission until the first of the prompt was read.
    pub queued: Duration,
    /// From there to the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The prompt's tokens with their log-probabilities, if these were asked for.
    pub prompt: Vec<Token>,
    /// The prompt's vector, if it was asked for.
    pub embedding: Vec<f32>,
    /// The text.
    pub text: String,
    /// Its tokens, with their log-probabilities if these were asked for.
    pub tokens: Vec<Token>,
    /// Why it ended.
    pub reason: FinishReason,
    /// What ended it, when the reason is [`FinishReason::Stop`].
    pub stopped_by: Option<StopCause>,
    /// What it cost, in tokens.
    pub usage: Usage,
    /// What it cost, in time.
    pub timing: Timing,
}

impl Completion {
    /// The numbers of its tokens.
    pub fn token_ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}
