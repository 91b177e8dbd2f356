//! Requests to the endpoint: redirects by hand, so that the token goes to nobody else; what answers mean; and patience with
//! what passes.

use std::time::Duration;

use ledger::progress::Progress;
use ureq::http::{Method, Response, Uri};
use ureq::{Agent, Body};

use crate::{Error, Request};

/// Redirects of one request.
const REDIRECTS: usize = 8;
/// Attempts without a byte of progress before a failure counts.
const ATTEMPTS: u32 = 5;
/// The longest wait that is asked for and kept.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(30);
/// Without a byte for so long, a connection is dead.
const SILENCE: Duration = Duration::from_secs(60);

/// Whom to ask, and as whom.
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    origin: Origin,
    token: Option<String>,
    retry_after: Duration,
    repository: String,
    revision: String,
}

/// Who a token may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub scheme: String,
    pub host: String,
    port: u16,
}

/// Why an attempt failed.
pub(crate) enum Failure {
    /// It may go better the next time.
    Passing(String),
    /// The hub asks to wait.
    Busy(Option<u64>),
    /// It will not.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Client {
    /// # Errors
    /// An endpoint that is no address, or a token that would travel in the clear.
    pub(crate) fn new(request: &Request) -> Result<Self, Error> {
        let endpoint = request.endpoint.trim_end_matches('/').to_owned();
        let fault = |reason: &str| Error::Name { given: request.endpoint.clone(), reason: reason.to_owned() };
        let uri: Uri = endpoint.parse().map_err(|_| fault("is no address of a hub"))?;
        let origin = Origin::of(&uri)
            .ok_or_else(|| fault("is no address of a hub: http:// or https:// and a host"))?;
        if uri.query().is_some() || origin.scheme == "http" && request.token.is_some() && !origin.is_here() {
            return Err(fault("would get the token in the clear; use https, or no token"));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("altiplano/", env!("CARGO_PKG_VERSION")));
        if origin.is_here() {
            config = config.proxy(None);
        }
        Ok(Self {
            agent: config.build().into(),
            endpoint,
            origin,
            token: request.token.clone(),
            retry_after: request.retry_after,
            repository: request.repository.to_string(),
            revision: request.revision.as_str().to_owned(),
        })
    }

    /// One request below the endpoint, from byte `from` on. A status that is no success is a failure, but for 416.
    pub(crate) fn get(&self, path: &str, from: u64) -> Result<Response<Body>, Failure> {
        self.send(&Method::GET, path, from, true)
    }

    /// The headers of the endpoint's own answer: redirects to other hosts are not followed.
    pub(crate) fn head(&self, path: &str) -> Result<Response<Body>, Failure> {
        self.send(&Method::HEAD, path, 0, false)
    }

    fn send(&self, method: &Method, path: &str, from: u64, abroad: bool) -> Result<Response<Body>, Failure> {
        let mut uri: Uri = format!("{}{path}", self.endpoint).parse().map_err(|_| Error::Name {
            given: path.to_owned(),
            reason: "is no part of an address".to_owned(),
        })?;
        for _ in 0..=REDIRECTS {
            let at_home = Origin::of(&uri).as_ref() == Some(&self.origin);
            let mut request =
                if method == Method::HEAD { self.agent.head(&uri) } else { self.agent.get(&uri) };
            if let Some(token) = self.token.as_ref().filter(|_| at_home) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| Failure::Passing(error.to_string()))?;
            if !response.status().is_redirection() {
                return self.judged(response, path, at_home);
            }
            let next = header(&response, "location").and_then(|to| resolved(&uri, to));
            let Some(next) = next else {
                return Err(self.strange(path, "a redirect to nowhere".to_owned()).into());
            };
            let leaves = Origin::of(&next).as_ref() != Some(&self.origin);
            if leaves && !abroad {
                return Ok(response);
            }
            if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(self.strange(path, format!("a redirect from https to {next}")).into());
            }
            uri = next;
        }
        Err(self.strange(path, format!("more than {REDIRECTS} redirects")).into())
    }

    /// What a status means. Only the endpoint's own word counts about repositories and tokens.
    fn judged(&self, response: Response<Body>, path: &str, at_home: bool) -> Result<Response<Body>, Failure> {
        let status = response.status().as_u16();
        let code = header(&response, "x-error-code").unwrap_or_default().to_owned();
        let (endpoint, repository) = (self.endpoint.clone(), self.repository.clone());
        let with_token = self.token.is_some();
        let error = match status {
            200 | 206 | 416 => return Ok(response),
            429 => {
                let asked = header(&response, "retry-after").and_then(|text| text.trim().parse().ok());
                return Err(Failure::Busy(asked));
            }
            408 | 500.. => return Err(Failure::Passing(format!("status {status}"))),
            // An address that a host of files was given for a while, and that is too old now.
            403 if !at_home => return Err(Failure::Passing(format!("status {status} of another host"))),
            401 | 403 if code == "GatedRepo" => Error::Gated { endpoint, repository, with_token },
            401 | 404 if code == "RepoNotFound" => Error::NoRepository { endpoint, repository, with_token },
            404 if code == "RevisionNotFound" => {
                Error::NoRevision { repository, revision: self.revision.clone() }
            }
            // Hubs that say no more than the number: without a token a stranger is asked who he is.
            401 if !with_token => Error::NoRepository { endpoint, repository, with_token },
            401 => Error::Refused { endpoint, status },
            403 => Error::Gated { endpoint, repository, with_token },
            404 if path.starts_with("/api/") => Error::NoRepository { endpoint, repository, with_token },
            _ => self.strange(path, format!("status {status}")),
        };
        Err(error.into())
    }

    /// An answer that the hub does not give.
    pub(crate) fn strange(&self, what: &str, reason: String) -> Error {
        Error::Answer { what: what.to_owned(), host: self.origin.host.clone(), reason }
    }

    /// Tries until it succeeds or fails for good. `attempt` says whether the one before made progress, which begins the
    /// count anew.
    pub(crate) fn patiently<T>(
        &self,
        what: &str,
        progress: &dyn Progress,
        mut attempt: impl FnMut(&mut bool) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut failed = 0;
        loop {
            let mut moved = false;
            let failure = match attempt(&mut moved) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            failed = if moved { 1 } else { failed + 1 };
            let backoff = self.retry_after * 2u32.pow(failed - 1);
            let (wait, reason) = match failure {
                Failure::Final(error) => return Err(error),
                Failure::Passing(reason) if failed >= ATTEMPTS => {
                    let (what, host) = (what.to_owned(), self.origin.host.clone());
                    return Err(Error::Unreachable { what, host, reason });
                }
                Failure::Passing(reason) => (backoff, reason),
                Failure::Busy(seconds) => {
                    let wait = seconds.map_or(backoff, Duration::from_secs);
                    if failed >= ATTEMPTS || wait > LONGEST_WAIT {
                        return Err(Error::RateLimited { endpoint: self.endpoint.clone(), seconds });
                    }
                    (wait, "too many requests".to_owned())
                }
            };
            if wait >= Duration::from_secs(1) {
                progress.note(&format!("{what}: {reason}; again in {} s", wait.as_secs()));
            }
            std::thread::sleep(wait);
        }
    }
}

impl Origin {
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        Some(Self { scheme, host, port: uri.port_u16().unwrap_or(usual) })
    }

    /// Whether it is this very machine.
    pub fn is_here(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    }
}

/// A header's text.
pub(crate) fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Where a `Location` leads from an address: another address, or a path of the same host.
fn resolved(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') && !location.starts_with("//") {
        let origin = format!("{}://{}", from.scheme_str()?, from.authority()?);
        return format!("{origin}{location}").parse().ok();
    }
    let to: Uri = location.parse().ok()?;
    Origin::of(&to).map(|_| to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_scheme_host_and_port() {
        let origin = |text: &str| Origin::of(&text.parse().unwrap());
        assert_eq!(origin("https://huggingface.co/a?b"), origin("https://HuggingFace.co:443/"));
        assert_ne!(origin("https://huggingface.co"), origin("http://huggingface.co"));
        assert_ne!(origin("https://huggingface.co"), origin("https://huggingface.co.evil.example"));
        assert_ne!(origin("http://127.0.0.1:80"), origin("http://127.0.0.1:81"));
        assert_eq!(origin("ftp://x/y"), None);
        let from: Uri = "https://a.example/x/y".parse().unwrap();
        for (location, wanted) in [
            ("/z?q=1", Some("https://a.example/z?q=1")),
            ("https://b.example/z", Some("https://b.example/z")),
            ("//b.example/z", None),
            ("z", None),
            ("file:///etc/passwd", None),
        ] {
            assert_eq!(resolved(&from, location).map(|uri| uri.to_string()).as_deref(), wanted, "{location}");
        }
    }
}
