//! The one HTTP client of this crate, and web servers as places: a file is asked for by ranges, or whole where the server
//! knows none.

use std::io::Read;
use std::ops::Range;
use std::time::Duration;

use ureq::http::{HeaderMap, Request, Response};
use ureq::{Agent, Body};

use crate::meaning::Refusal;
use crate::patience::Failure;
use crate::place::{Facts, Part};
use crate::{Address, Error};

const CONNECT: Duration = Duration::from_secs(30);
/// Without a byte for so long, a connection is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// Redirects of one request to a web server. Stores are not followed anywhere: what is signed is for them.
const REDIRECTS: u32 = 8;
/// The longest body of a refusal that is looked at.
const REFUSAL_BYTES: u64 = 64 << 10;

/// A client for a host: what is on this machine is asked without a proxy.
pub(crate) fn agent(follow: bool, connect: Option<Duration>, here: bool) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(if follow { REDIRECTS } else { 0 })
        .max_redirects_will_error(follow)
        .timeout_connect(Some(connect.unwrap_or(CONNECT)))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .user_agent(concat!("altiplano/", env!("CARGO_PKG_VERSION")));
    if here {
        config = config.proxy(None);
    }
    config.build().into()
}

/// Whether a host is this very machine.
pub(crate) fn is_here(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| match port.parse::<u16>() {
        Ok(_) => name,
        Err(_) => host,
    });
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// A refusal with what its body says.
pub(crate) fn refusal(url: &str, response: Response<Body>) -> Refusal {
    let headers = response.headers();
    let text = |name: &str| header(headers, name).map(str::to_owned);
    let mut refusal = Refusal {
        url: url.split('?').next().unwrap_or(url).to_owned(),
        status: response.status().as_u16(),
        code: text("x-ms-error-code").unwrap_or_default(),
        retry_after: text("retry-after").and_then(|seconds| seconds.trim().parse().ok()),
        region: text("x-amz-bucket-region"),
        message: String::new(),
    };
    let mut body = Vec::new();
    // What cannot be read of a refusal is not missed.
    let _ = response.into_body().into_reader().take(REFUSAL_BYTES).read_to_end(&mut body);
    refusal.read_body(&body);
    refusal
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What the server says of a file, by its first byte: addresses that are signed for reading allow nothing else.
pub(crate) fn facts(agent: &Agent, address: &Address) -> Result<Facts, Failure> {
    Ok(get(agent, address, 0..1)?.facts)
}

/// A range of a file.
pub(crate) fn get(agent: &Agent, address: &Address, range: Range<u64>) -> Result<Part, Failure> {
    let url = format!("{address}{}", address.query);
    let request = Request::get(&url)
        .header("range", format!("bytes={}-{}", range.start, range.end - 1))
        // A range of what is packed on the way is a range of something else.
        .header("accept-encoding", "identity")
        .body(())
        .map_err(|_| Error::Address {
            given: address.to_string(),
            reason: "is not one of the web's".into(),
        })?;
    let response = agent.run(request).map_err(|error| Failure::Passing(error.to_string()))?;
    let status = response.status().as_u16();
    let headers = response.headers();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (bytes, begins) = match status {
        200 => (header(headers, "content-length").and_then(number), 0),
        206 => {
            let text = header(headers, "content-range").unwrap_or_default();
            let (span, total) =
                text.strip_prefix("bytes ").and_then(|text| text.split_once('/')).unwrap_or_default();
            (number(total), span.split('-').next().and_then(number).unwrap_or(u64::MAX))
        }
        416 if range.start == 0 => (Some(0), 0),
        _ => return Err(refusal(&url, response).failure(address, false)),
    };
    let strange = |reason: String| Error::Answer { address: address.to_string(), reason };
    let Some(bytes) = bytes else {
        return Err(strange("the server does not say how long the file is".into()).into());
    };
    if begins != range.start && begins != 0 {
        return Err(strange(format!(
            "a range from byte {} was asked for, and another one came",
            range.start
        ))
        .into());
    }
    let facts = Facts {
        bytes,
        etag: header(headers, "etag").map(str::to_owned),
        modified: header(headers, "last-modified").map(str::to_owned),
    };
    let body: Box<dyn Read + Send> = match bytes {
        0 => Box::new(std::io::empty()),
        _ => Box::new(response.into_body().into_reader()),
    };
    Ok(Part { facts, begins, whole: status == 200, body })
}
