//! From the engine's thread to an HTTP body: the answers to one request, gathered whole or streamed as they come.
//! When the client leaves, hyper drops the body or the handler, with it the receiver here, and the engine cancels.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use engine::{Completion, Engine, Event, FinishReason, Partial, Request, Sink, Token, Usage};
use futures_core::Stream;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::api_error::ApiError;
use crate::http::App;
use crate::metrics::Metrics;
use crate::record::Trace;

/// Silence after which a stream says that it still lives: proxies close what is silent for a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Most bytes that are joined into one piece of a body while events are at hand.
const PIECE_BYTES: usize = 16 << 10;

/// Running answers, by the index of their requests.
pub(crate) struct Answers {
    receiver: UnboundedReceiver<(usize, Event)>,
    count: usize,
    /// Each prompt stands in so many of them, one after the other.
    choices: usize,
    /// Tokens of all prompts, each counted once.
    prompt_tokens: usize,
    watch: Watch,
}

/// Tells the request's record and the metrics how the answers went.
struct Watch {
    trace: Trace,
    metrics: Arc<Metrics>,
    /// Answers that have not ended.
    open: usize,
    /// Whether the first token has come.
    begun: bool,
}

impl Watch {
    fn see(&mut self, event: &Event) {
        match event {
            Event::Token(_) => {
                let mut told = self.trace.told();
                if !self.begun {
                    self.begun = true;
                    told.first_token.get_or_insert_with(Instant::now);
                }
                *told.completion_tokens.get_or_insert(0) += 1;
            }
            Event::Done { reason, usage, timing, .. } => {
                self.open -= 1;
                self.metrics.sequence(*reason, usage, timing);
                self.trace.told().finish = Some(finish_reason(*reason));
            }
            Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Failed(_) => {
                self.open -= 1;
                self.metrics.sequence_lost("failed");
            }
        }
    }

    fn total(&self, usage: &WireUsage) {
        let mut told = self.trace.told();
        told.completion_tokens = Some(usage.completion_tokens);
        told.cached_tokens = Some(usage.prompt_tokens_details.cached_tokens);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Nobody hears how these end: the client left, or another answer to the same request failed.
        (0..self.open).for_each(|_| self.metrics.sequence_lost("abandoned"));
    }
}

impl Answers {
    /// Submits all requests or, if one is refused, none. Each prompt stands in `choices` of them, one after the other;
    /// `input` names the parameter that the prompts came from.
    pub(crate) fn submit(
        app: &App,
        requests: Vec<Request>,
        choices: usize,
        input: &str,
    ) -> Result<Self, ApiError> {
        let App { engine, metrics, trace, .. } = app;
        let (sender, receiver) = unbounded_channel();
        let count = requests.len();
        let prompt_tokens = requests.iter().step_by(choices).map(|request| request.prompt.len()).sum();
        trace.told().prompt_tokens = Some(prompt_tokens);
        let mut watch = Watch { trace: trace.clone(), metrics: Arc::clone(metrics), open: 0, begun: false };
        for (index, request) in requests.into_iter().enumerate() {
            let model = request.adapter.clone();
            let sink = ChoiceSink { index, sender: sender.clone() };
            // On an error the receiver is dropped here, which cancels those before.
            engine
                .submit_to(request, Box::new(sink))
                .map_err(|error| ApiError::from_engine(error, input, retry_after(engine)))?;
            watch.open += 1;
            metrics.begun(model.as_deref().unwrap_or(&app.info.model));
        }
        Ok(Answers { receiver, count, choices, prompt_tokens, watch })
    }

    /// Waits for all of them, in the order of the requests; and what they cost together.
    pub(crate) async fn gather(mut self) -> Result<(Vec<Completion>, WireUsage), ApiError> {
        let mut partial = vec![Partial::default(); self.count];
        let mut completions: Vec<Option<Completion>> = vec![None; self.count];
        while completions.iter().any(Option::is_none) {
            let (index, event) = self.receiver.recv().await.ok_or_else(ApiError::stopping)?;
            self.watch.see(&event);
            if let Some(answer) = partial[index].collect(event) {
                let answer = answer.map_err(|error| ApiError::from_engine(error, "prompt", 0))?;
                if answer.reason == FinishReason::Cancelled {
                    return Err(ApiError::stopping());
                }
                completions[index] = Some(answer);
            }
        }
        let completions: Vec<Completion> = completions.into_iter().flatten().collect();
        let generated = completions.iter().map(|completion| completion.usage.completion_tokens).sum();
        let cached = completions.iter().step_by(self.choices).map(|first| first.usage.cached_tokens).sum();
        let mut guesses = Guesses::default();
        completions.iter().for_each(|completion| guesses.add(&completion.usage));
        let usage = WireUsage::new(self.prompt_tokens, cached, generated, guesses);
        self.watch.total(&usage);
        Ok((completions, usage))
    }

    /// A response of server-sent events, as `chunks` words them, ended by `data: [DONE]`.
    pub(crate) fn stream(self, chunks: impl Chunks) -> Response {
        let mut keep_alive = interval(KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let open = self.count;
        self.watch.trace.told().stream = true;
        let events = Events {
            answers: self,
            chunks,
            open,
            generated: 0,
            cached: 0,
            guesses: Guesses::default(),
            state: State::Beginning,
            keep_alive,
        };
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            // Asks nginx not to hold events back.
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        (headers, Body::from_stream(events)).into_response()
    }
}

/// How an endpoint words a stream: each method appends any number of events to `out`, see [`event`].
pub(crate) trait Chunks: Send + Unpin + 'static {
    /// Before the first token.
    fn begin(&mut self, out: &mut String);
    /// The prompt of answer `index`, where its scores were asked for; before the first token.
    fn prompt(&mut self, _index: usize, _tokens: Vec<Token>, _out: &mut String) {}
    /// One more token of answer `index`.
    fn token(&mut self, index: usize, token: Token, out: &mut String);
    /// Answer `index` is complete.
    fn done(&mut self, index: usize, reason: FinishReason, out: &mut String);
    /// All are complete; `usage` is that of the whole request.
    fn end(&mut self, usage: WireUsage, out: &mut String);
    /// The stream ends here.
    fn close(&mut self, out: &mut String) {
        out.push_str("data: [DONE]\n\n");
    }
    /// The status is sent long since: the error is the last event. Clients of OpenAI look for it.
    fn fail(&mut self, error: &ApiError, out: &mut String) {
        out.push_str(&format!("data: {}\n\n", error.json()));
    }
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
    prompt_tokens_details: PromptTokens,
    /// Where something was guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<Guesses>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct PromptTokens {
    cached_tokens: usize,
}

/// Tokens that speculative decoding guessed. OpenAI's names; but what was rejected is no part of `completion_tokens` here.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Guesses {
    accepted_prediction_tokens: usize,
    rejected_prediction_tokens: usize,
}

impl Guesses {
    fn add(&mut self, usage: &Usage) {
        self.accepted_prediction_tokens += usage.accepted_tokens;
        self.rejected_prediction_tokens += usage.rejected_tokens;
    }
}

impl WireUsage {
    fn new(prompt_tokens: usize, cached_tokens: usize, completion_tokens: usize, guesses: Guesses) -> Self {
        let total_tokens = prompt_tokens + completion_tokens;
        let prompt_tokens_details = PromptTokens { cached_tokens };
        let any = guesses.accepted_prediction_tokens + guesses.rejected_prediction_tokens > 0;
        let completion_tokens_details = any.then_some(guesses);
        WireUsage {
            prompt_tokens,
            completion_tokens,
            total_tokens,
            prompt_tokens_details,
            completion_tokens_details,
        }
    }

    /// Of vectors, for which nothing is generated.
    pub(crate) fn of_embeddings(self) -> Value {
        json!({ "prompt_tokens": self.prompt_tokens, "total_tokens": self.total_tokens })
    }

    /// Under the names of the Responses API.
    pub(crate) fn of_response(self) -> Value {
        json!({
            "input_tokens": self.prompt_tokens,
            "input_tokens_details": self.prompt_tokens_details,
            "output_tokens": self.completion_tokens,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": self.total_tokens,
        })
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

/// Writes into `headers` how many more sequences the engine would take now, under the names by which OpenAI's clients
/// know their budgets.
pub(crate) fn tell_room(engine: &Engine, headers: &mut HeaderMap) {
    let (settings, stats) = (engine.settings(), engine.stats());
    let limit = settings.max_sequences + settings.max_queue;
    let remaining = limit.saturating_sub(stats.running + stats.waiting);
    let reset = if remaining > 0 { 0 } else { retry_after(engine) };
    let number = |value: usize| HeaderValue::from(value as u64);
    headers.insert(HeaderName::from_static("x-ratelimit-limit-requests"), number(limit));
    headers.insert(HeaderName::from_static("x-ratelimit-remaining-requests"), number(remaining));
    if let Ok(reset) = HeaderValue::from_str(&format!("{reset}s")) {
        headers.insert(HeaderName::from_static("x-ratelimit-reset-requests"), reset);
    }
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
    /// Tokens of prompts that were not read again.
    cached: usize,
    guesses: Guesses,
    state: State,
    keep_alive: Interval,
}

impl<C: Chunks> Events<C> {
    fn take(&mut self, index: usize, event: Event, out: &mut String) {
        self.answers.watch.see(&event);
        match event {
            Event::Prompt(tokens) => self.chunks.prompt(index, tokens, out),
            // Vectors are not streamed.
            Event::Embedding(_) => {}
            Event::Token(token) => self.chunks.token(index, token, out),
            Event::Done { reason: FinishReason::Cancelled, .. } => self.fail(ApiError::stopping(), out),
            Event::Done { reason, usage, .. } => {
                self.chunks.done(index, reason, out);
                self.generated += usage.completion_tokens;
                self.guesses.add(&usage);
                if index.is_multiple_of(self.answers.choices) {
                    self.cached += usage.cached_tokens;
                }
                self.open -= 1;
                if self.open == 0 {
                    let usage =
                        WireUsage::new(self.answers.prompt_tokens, self.cached, self.generated, self.guesses);
                    self.answers.watch.total(&usage);
                    self.chunks.end(usage, out);
                    self.chunks.close(out);
                    self.state = State::Ended;
                }
            }
            Event::Failed(error) => self.fail(ApiError::from_engine(error, "prompt", 0), out),
        }
    }

    fn fail(&mut self, error: ApiError, out: &mut String) {
        self.answers.watch.trace.told().error = Some(error.name());
        self.chunks.fail(&error, out);
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
