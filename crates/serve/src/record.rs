//! The record of one request, from its header to the last byte of its answer: what the access log and the metrics tell.
//! It is written when it is dropped, so that no way out of a request goes unseen.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use serde::Serialize;

use crate::metrics::Metrics;

/// nginx's status for a client that left before its answer was complete.
const CLIENT_LEFT: u16 = 499;

/// One line of an access log. It says what was asked and how it went, and nothing of any text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Access {
    /// When the request's header was there, in seconds since 1970 (UTC).
    pub time: f64,
    /// As the response's `x-request-id`.
    pub id: String,
    /// The other side of the connection, a proxy's where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Such as `POST`.
    pub method: String,
    /// Without the query, at most 200 characters of it.
    pub path: String,
    /// As sent; 499 where the client left before the last byte.
    pub status: u16,
    /// Bytes of the answer's body that were handed to the connection.
    pub bytes: u64,
    /// Seconds from the header to the last byte.
    pub seconds: f64,
    /// Whether the answer was a stream of events.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// Seconds to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token: Option<f64>,
    /// Tokens of the prompts, each counted once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<usize>,
    /// Those of them that were not read again, because another prompt had begun in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<usize>,
    /// Tokens of the answers; of one that the client left, those until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<usize>,
    /// Why the answers ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<&'static str>,
    /// The error's code, or its type where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

/// Where the lines of an access log go; called when a request has ended, on a thread that serves connections.
#[derive(Clone)]
pub struct AccessLog(Arc<dyn Fn(&Access) + Send + Sync>);

impl AccessLog {
    /// Each request is given to `write`, which must not block for long.
    pub fn new(write: impl Fn(&Access) + Send + Sync + 'static) -> Self {
        AccessLog(Arc::new(write))
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AccessLog")
    }
}

/// What the parts of the server that work on a request tell about it.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Told>>);

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) stream: bool,
    pub(crate) first_token: Option<Instant>,
    pub(crate) prompt_tokens: Option<usize>,
    pub(crate) cached_tokens: Option<usize>,
    pub(crate) completion_tokens: Option<usize>,
    pub(crate) finish: Option<&'static str>,
    pub(crate) error: Option<&'static str>,
}

impl Trace {
    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request on its way.
pub(crate) struct Record {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: Option<AccessLog>,
    pub(crate) id: String,
    pub(crate) peer: Option<String>,
    pub(crate) method: axum::http::Method,
    pub(crate) path: String,
    /// The route's pattern.
    pub(crate) endpoint: String,
    pub(crate) trace: Trace,
    begun: Instant,
    time: SystemTime,
    status: Option<u16>,
    bytes: u64,
    complete: bool,
}

impl Record {
    /// Begins the record of `request`, whose parts the caller fills in.
    pub(crate) fn begin(
        metrics: Arc<Metrics>,
        log: Option<AccessLog>,
        id: String,
        request: &axum::extract::Request,
        endpoint: String,
    ) -> Self {
        Record {
            metrics,
            log,
            id,
            peer: request.extensions().get::<Peer>().map(|peer| peer.0.to_string()),
            method: request.method().clone(),
            path: request.uri().path().chars().take(200).collect(),
            endpoint,
            trace: Trace::default(),
            begun: Instant::now(),
            time: SystemTime::now(),
            status: None,
            bytes: 0,
            complete: false,
        }
    }

    /// The response's head is there; the record ends with its body.
    pub(crate) fn follow(mut self, response: axum::response::Response) -> axum::response::Response {
        self.status = Some(response.status().as_u16());
        response.map(|body| Body::new(Recorded { body, record: self }))
    }

    fn access(&self, seconds: Duration, status: u16) -> Access {
        let told = self.trace.told();
        Access {
            time: self.time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            id: self.id.clone(),
            peer: self.peer.clone(),
            method: self.method.to_string(),
            path: self.path.clone(),
            status,
            bytes: self.bytes,
            seconds: seconds.as_secs_f64(),
            stream: told.stream,
            first_token: told.first_token.map(|at| (at - self.begun).as_secs_f64()),
            prompt_tokens: told.prompt_tokens,
            cached_tokens: told.cached_tokens,
            completion_tokens: told.completion_tokens,
            finish: told.finish,
            error: told.error,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration = self.begun.elapsed();
        let status = self.status.filter(|_| self.complete).unwrap_or(CLIENT_LEFT);
        let first_token = self.trace.told().first_token.map(|at| at - self.begun);
        self.metrics.request(&self.endpoint, method(&self.method), status, duration, first_token);
        if let Some(log) = &self.log {
            (log.0)(&self.access(duration, status));
        }
    }
}

/// The other side of a connection, as an extension of its requests.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) std::net::SocketAddr);

/// As a label: a client may invent methods.
fn method(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// A body that counts what is taken of it.
struct Recorded {
    body: Body,
    record: Record,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                self.record.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Some(Err(_)) => {}
            None => self.record.complete = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // A connection that knows the length asks no further once it has all.
        self.record.complete |= self.body.is_end_stream();
    }
}
