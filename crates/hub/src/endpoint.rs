//! Models that somebody else runs and that are asked over OpenAI's HTTP API: one request and its answer as JSON, with patience
//! for what passes. What is asked is the caller's; answers are not believed beyond being JSON of a bounded length.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::Uri;

use crate::Error;
use crate::client::{Origin, header};

/// The longest answer that is read.
const LONGEST: u64 = 16 << 20;
/// The longest wait that is asked for and kept.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(30);
/// How often a wait looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// Whom to ask, and how patiently.
#[derive(Clone, Debug)]
pub struct Endpoint {
    agent: Agent,
    address: String,
    host: String,
    key: Option<String>,
    retry_after: Duration,
    attempts: u32,
}

/// How an endpoint is asked.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Sent as a bearer token to the endpoint and to nobody else.
    pub key: Option<String>,
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// The wait before a failed request is tried again; it doubles each time.
    pub retry_after: Duration,
    /// Attempts at one request.
    pub attempts: u32,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            key: None,
            timeout: Duration::from_secs(120),
            retry_after: Duration::from_secs(1),
            attempts: 6,
        }
    }
}

/// Why an attempt failed.
enum Failure {
    Passing(String),
    Busy(Option<u64>),
    Final(Error),
}

impl Endpoint {
    /// An endpoint at an address such as `http://localhost:8080/v1`.
    ///
    /// # Errors
    /// [`Error::Name`] for what is no address, or where a key would travel in the clear.
    pub fn new(address: &str, manners: Manners) -> Result<Self, Error> {
        let address = address.trim_end_matches('/').to_owned();
        let fault = |reason: &str| Error::Name { given: address.clone(), reason: reason.to_owned() };
        let uri: Uri = address.parse().map_err(|_| fault("is no address of an endpoint"))?;
        let origin = Origin::of(&uri)
            .filter(|_| uri.query().is_none())
            .ok_or_else(|| fault("is no address of an endpoint: http:// or https:// and a host, such as http://localhost:8080/v1"))?;
        if origin.scheme == "http" && manners.key.is_some() && !origin.is_here() {
            return Err(fault("would get the key in the clear; use https, or no key"));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could lead the key, and the documents, to another host.
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(manners.timeout))
            .user_agent(concat!("altiplano/", env!("CARGO_PKG_VERSION")));
        if origin.is_here() {
            config = config.proxy(None);
        }
        let Manners { key, retry_after, attempts, .. } = manners;
        Ok(Self { agent: config.build().into(), host: origin.host, address, key, retry_after, attempts })
    }

    /// The address, without a slash at its end.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The names of the models that it has.
    ///
    /// # Errors
    /// As [`Endpoint::ask`].
    pub fn models(&self, stop: &AtomicBool) -> Result<Vec<String>, Error> {
        let answer = self.patiently("/models", stop, || self.send("/models", None))?;
        let names = answer["data"].as_array().map(|models| {
            models.iter().filter_map(|model| model["id"].as_str().map(str::to_owned)).collect()
        });
        names.ok_or_else(|| self.strange("/models", "no list of models".to_owned()))
    }

    /// Sends a request to a path such as `/chat/completions` and gives the answer. What passes (no connection, a timeout, the
    /// statuses 408, 429 and 500 to 599, what is no JSON) is tried again, after the time that the endpoint asks for or twice the last one.
    ///
    /// # Errors
    /// [`Error::Unreachable`] or [`Error::RateLimited`] after the last attempt, or once `stop` is set; [`Error::Refused`] for the statuses 401 and
    /// 403; [`Error::Answer`] with its status and words for others.
    pub fn ask(&self, path: &str, body: &Value, stop: &AtomicBool) -> Result<Value, Error> {
        let body = body.to_string();
        self.patiently(path, stop, || self.send(path, Some(&body)))
    }

    fn send(&self, path: &str, body: Option<&str>) -> Result<Value, Failure> {
        let uri = format!("{}{path}", self.address);
        let key = self.key.as_ref().map(|key| format!("Bearer {key}"));
        let passing = |error: ureq::Error| Failure::Passing(error.to_string());
        let mut response = match body {
            None => {
                let mut request = self.agent.get(&uri);
                if let Some(key) = &key {
                    request = request.header("authorization", key);
                }
                request.call().map_err(passing)?
            }
            Some(body) => {
                let mut request = self.agent.post(&uri).header("content-type", "application/json");
                if let Some(key) = &key {
                    request = request.header("authorization", key);
                }
                request.send(body).map_err(passing)?
            }
        };
        let status = response.status().as_u16();
        let wait = header(&response, "retry-after").and_then(|text| text.trim().parse().ok());
        let mut bytes = Vec::new();
        let read = response.body_mut().as_reader().take(LONGEST + 1).read_to_end(&mut bytes);
        match status {
            429 => return Err(Failure::Busy(wait)),
            503 if wait.is_some() => return Err(Failure::Busy(wait)),
            408 | 500.. => return Err(Failure::Passing(format!("status {status}{}", words(&bytes)))),
            _ => {}
        }
        read.map_err(|error| Failure::Passing(error.to_string()))?;
        match status {
            200..=299 if bytes.len() as u64 > LONGEST => {
                Err(Failure::Final(self.strange(path, format!("more than {LONGEST} bytes"))))
            }
            200..=299 => serde_json::from_slice(&bytes)
                .map_err(|_| Failure::Passing(format!("what is no JSON{}", words(&bytes)))),
            401 | 403 => Err(Failure::Final(Error::Refused { endpoint: self.address.clone(), status })),
            _ => Err(Failure::Final(self.strange(path, format!("status {status}{}", words(&bytes))))),
        }
    }

    fn patiently(
        &self,
        path: &str,
        stop: &AtomicBool,
        attempt: impl Fn() -> Result<Value, Failure>,
    ) -> Result<Value, Error> {
        let mut failed = 0;
        loop {
            let failure = match attempt() {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            failed += 1;
            let backoff = self.retry_after * 2u32.saturating_pow(failed - 1);
            let over = failed >= self.attempts || stop.load(Ordering::SeqCst);
            let wait = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Passing(reason) if over => {
                    let (what, host) = (path.to_owned(), self.host.clone());
                    return Err(Error::Unreachable { what, host, reason });
                }
                Failure::Passing(_) => backoff.min(LONGEST_WAIT),
                Failure::Busy(seconds) => {
                    let wait = seconds.map_or(backoff, Duration::from_secs);
                    if over || wait > LONGEST_WAIT {
                        return Err(Error::RateLimited { endpoint: self.address.clone(), seconds });
                    }
                    wait
                }
            };
            let until = std::time::Instant::now() + wait;
            while !stop.load(Ordering::SeqCst) && std::time::Instant::now() < until {
                std::thread::sleep(LOOK.min(until.saturating_duration_since(std::time::Instant::now())));
            }
        }
    }

    fn strange(&self, path: &str, reason: String) -> Error {
        Error::Answer { what: path.to_owned(), host: self.host.clone(), reason }
    }
}

/// What an answer says of itself, for a person: OpenAI's `error.message`, else its beginning.
fn words(body: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(body).ok();
    let message = value.as_ref().and_then(|value| {
        let error = value.get("error")?;
        error.get("message").unwrap_or(error).as_str().map(str::to_owned)
    });
    let text = message.unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(2048)]).into_owned());
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}
