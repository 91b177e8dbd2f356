//! From the engine's thread to an HTTP body: the answers to one request, gathered whole or streamed as they come.
//! When the client leaves, hyper drops the body or the handler, with it the receiver here, and the engine cancels.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::{Completion, Engine, Event, FinishReason, Request, Sink, Token};
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::api_error::ApiError;

/// Silence after which a stream says that it still lives: proxies close what is silent for a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Most bytes that are joined into one piece of a body while events are at hand.
const PIECE_BYTES: usize = 16 << 10;

/// Running answers, by the index of their requests.
pub(crate) struct Answers {
    receiver: UnboundedReceiver<(usize, Event)>,
    count: usize,
    /// Tokens of all prompts, each counted once.
    prompt_tokens: usize,
}

impl Answers {
    /// Submits all requests or, if one is refused, none. Each prompt stands in `choices` of them, one after the other;
    /// `input` names the parameter that the prompts came from.
    pub(crate) fn submit(
        engine: &Engine,
        requests: Vec<Request>,
        choices: usize,
        input: &str,
    ) -> Result<Self, ApiError> {
        let (sender, receiver) = unbounded_channel();
        let count = requests.len();
        let prompt_tokens = requests.iter().step_by(choices).map(|request| request.prompt.len()).sum();
        for (index, request) in requests.into_iter().enumerate() {
            let sink = ChoiceSink { index, sender: sender.clone() };
            // On an error the receiver is dropped here, which cancels those before.
            engine
                .submit_to(request, Box::new(sink))
                .map_err(|error| ApiError::from_engine(error, input, retry_after(engine)))?;
        }
        Ok(Answers { receiver, count, prompt_tokens })
    }

    /// Waits for all of them, in the order of the requests; and what they cost together.
    pub(crate) async fn gather(mut self) -> Result<(Vec<Completion>, WireUsage), ApiError> {
        let mut tokens: Vec<Vec<Token>> = vec![Vec::new(); self.count];
        let mut completions: Vec<Option<Completion>> = vec![None; self.count];
        while completions.iter().any(Option::is_none) {
            let (index, event) = self.receiver.recv().await.ok_or_else(ApiError::stopping)?;
            match event {
                Event::Token(token) => tokens[index].push(token),
                Event::Done { reason: FinishReason::Cancelled, .. } => return Err(ApiError::stopping()),
                Event::Done { reason, stopped_by, usage, timing } => {
                    let tokens = std::mem::take(&mut tokens[index]);
                    let text = tokens.iter().map(|token| token.text.as_str()).collect();
                    completions[index] = Some(Completion { text, tokens, reason, stopped_by, usage, timing });
                }
                Event::Failed(error) => return Err(ApiError::from_engine(error, "prompt", 0)),
            }
        }
        let completions: Vec<Completion> = completions.into_iter().flatten().collect();
        let generated = completions.iter().map(|completion| completion.usage.completion_tokens).sum();
        Ok((completions, WireUsage::new(self.prompt_tokens, generated)))
    }

    /// A response of server-sent events, as `chunks` words them, ended by `data: [DONE]`.
    pub(crate) fn stream(self, chunks: impl Chunks) -> Response {
        let mut keep_alive = interval(KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let open = self.count;
        let events =
            Events { answers: self, chunks, open, generated: 0, state: State::Beginning, keep_alive };
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            // Asks nginx not to hold events back.
            (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        (headers, Body::from_stream(events)).into_response()
    }
}

/// How an endpoint words a stream: each method appends any number of events to `out`, see [`event`].
pub(crate) trait Chunks: Send + Unpin + 'static {
    /// Before the first token.
    fn begin(&mut self, out: &mut String);
    /// One more token of answer `index`.
    fn token(&mut self, index: usize, token: Token, out: &mut String);
    /// Answer `index` is complete.
    fn done(&mut self, index: usize, reason: FinishReason, out: &mut String);
    /// All are complete; `usage` is that of the whole request.
    fn end(&mut self, usage: WireUsage, out: &mut String);
}

/// Appends one server-sent event.
pub(crate) fn event(value: &impl Serialize, out: &mut String) {
    // The wire types are structs of strings, numbers and lists, which always can be written; JSON has no raw newline.
    if let Ok(json) = serde_json::to_string(value) {
        out.push_str("data: ");
        out.push_str(&json);
        out.push_str("\n\n");
    }
}

/// Token counts as OpenAI names them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct WireUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
}

impl WireUsage {
    fn new(prompt_tokens: usize, completion_tokens: usize) -> Self {
        WireUsage { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// As OpenAI names the reasons.
pub(crate) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::Stop | FinishReason::Cancelled => "stop",
    }
}

/// Seconds until a place in the queue is likely to be free.
fn retry_after(engine: &Engine) -> u64 {
    let stats = engine.stats();
    let rounds = 1.0 + stats.waiting as f64 / engine.settings().max_sequences as f64;
    (stats.mean_seconds * rounds).ceil().clamp(1.0, 60.0) as u64
}

struct ChoiceSink {
    index: usize,
    sender: UnboundedSender<(usize, Event)>,
}

impl Sink for ChoiceSink {
    fn send(&mut self, event: Event) {
        // A receiver that is gone is noticed by `is_closed`.
        let _ = self.sender.send((self.index, event));
    }

    fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

enum State {
    Beginning,
    Running,
    Ended,
}

/// The body of a streamed response.
struct Events<C> {
    answers: Answers,
    chunks: C,
    /// Answers that are not complete yet.
    open: usize,
    /// Tokens of those that are.
    generated: usize,
    state: State,
    keep_alive: Interval,
}

impl<C: Chunks> Events<C> {
    fn take(&mut self, index: usize, event: Event, out: &mut String) {
        match event {
            Event::Token(token) => self.chunks.token(index, token, out),
            Event::Done { reason: FinishReason::Cancelled, .. } => self.fail(ApiError::stopping(), out),
            Event::Done { reason, usage, .. } => {
                self.chunks.done(index, reason, out);
                self.generated += usage.completion_tokens;
                self.open -= 1;
                if self.open == 0 {
                    self.chunks.end(WireUsage::new(self.answers.prompt_tokens, self.generated), out);
                    out.push_str("data: [DONE]\n\n");
                    self.state = State::Ended;
                }
            }
            Event::Failed(error) => self.fail(ApiError::from_engine(error, "prompt", 0), out),
        }
    }

    /// The status is sent long since: the error is the last event. Clients of OpenAI look for it.
    fn fail(&mut self, error: ApiError, out: &mut String) {
        out.push_str(&format!("data: {}\n\n", error.json()));
        self.state = State::Ended;
    }
}

impl<C: Chunks> Stream for Events<C> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut out = String::new();
        match this.state {
            State::Ended => return Poll::Ready(None),
            State::Beginning => {
                this.chunks.begin(&mut out);
                this.state = State::Running;
                this.keep_alive.reset();
            }
            State::Running => {}
        }
        while matches!(this.state, State::Running) && out.len() < PIECE_BYTES {
            match this.answers.receiver.poll_recv(context) {
                Poll::Ready(Some((index, event))) => this.take(index, event, &mut out),
                Poll::Ready(None) => this.fail(ApiError::stopping(), &mut out),
                Poll::Pending => break,
            }
        }
        if out.is_empty() {
            if this.keep_alive.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
            out.push_str(": still here\n\n");
        }
        this.keep_alive.reset();
        Poll::Ready(Some(Ok(out.into())))
    }
}
