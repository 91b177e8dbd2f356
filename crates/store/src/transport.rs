//! The requests of the crate `object_store`, made by this crate's blocking client. It thinks that it waits; whoever drives
//! it has a thread and a runtime of its own, so that nobody else is kept waiting.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use object_store::client::{
    ClientConfigKey, ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService,
};
use ureq::Agent;
use ureq::http::Request;

use crate::web;

/// Bytes that are taken of a connection at once.
const FRAME_BYTES: usize = 256 << 10;

/// Makes clients.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Whether the store is on this machine.
    pub here: bool,
}

impl HttpConnector for Transport {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let seconds = options.get_config_value(&ClientConfigKey::ConnectTimeout);
        // Those who give credentials on the same machine are given less time than a store.
        let seconds =
            seconds.and_then(|text| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok());
        let connect = seconds.filter(|&seconds| seconds < 5).map(Duration::from_secs);
        Ok(HttpClient::new(Client(web::agent(false, connect, self.here || connect.is_some()))))
    }
}

#[derive(Debug)]
struct Client(Agent);

/// A connection that did not come about, or broke.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Broken {
    pub reason: String,
    /// Of one that broke while it was read.
    pub kind: io::ErrorKind,
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let url = head.uri.to_string();
        let broken = |error: ureq::Error| {
            HttpError::new(
                HttpErrorKind::Unknown,
                Broken { reason: error.to_string(), kind: io::ErrorKind::Other },
            )
        };
        let bytes = body.as_bytes().cloned().unwrap_or_default();
        let response = match bytes.is_empty() {
            true => self.0.run(Request::from_parts(head, ())),
            false => self.0.run(Request::from_parts(head, &bytes[..])),
        };
        let response = response.map_err(broken)?;
        if !response.status().is_success() {
            // All that a refusal says is kept: `object_store` passes on neither headers nor codes.
            return Err(HttpError::new(HttpErrorKind::Unknown, web::refusal(&url, response)));
        }
        let (head, body) = response.into_parts();
        let body = Incoming(Mutex::new(Box::new(body.into_reader())));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// A body as it comes.
struct Incoming(Mutex<Box<dyn Read + Send>>);

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let mut buffer = vec![0; FRAME_BYTES];
        let read = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner).read(&mut buffer);
        Poll::Ready(match read {
            Ok(0) => None,
            Ok(count) => {
                buffer.truncate(count);
                Some(Ok(Frame::data(buffer.into())))
            }
            Err(error) => Some(Err(HttpError::new(
                HttpErrorKind::Unknown,
                Broken { reason: error.to_string(), kind: error.kind() },
            ))),
        })
    }
}
