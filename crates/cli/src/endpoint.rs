//! What the commands share that ask a server of OpenAI's API: which model is meant, and what to do where nobody answers.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hub::endpoint::{Endpoint, Manners};

use crate::errors::Error;

/// An endpoint at an address, with the key that a file holds.
///
/// # Errors
/// What is no address, and a file that cannot be read.
pub fn open(address: &str, key_file: Option<&Path>, timeout: Duration) -> Result<Endpoint, Error> {
    let key = key_file.map(hub::token_of).transpose()?;
    Ok(Endpoint::new(address, Manners { key, timeout, ..Manners::default() })?)
}

/// The model of this name, or the only one that the endpoint has.
///
/// # Errors
/// An endpoint that does not answer, or has several.
pub fn model_of(endpoint: &Endpoint, model: Option<&str>, stop: &AtomicBool) -> Result<String, Error> {
    if let Some(model) = model {
        return Ok(model.to_owned());
    }
    match &endpoint.models(stop).map_err(unanswered)?[..] {
        [only] => Ok(only.clone()),
        several => Err(Error::Usage {
            message: format!("{} has {} models", endpoint.address(), several.len()),
            hint: format!("name one, such as {}", several.first().map_or("llama", |name| name)),
        }),
    }
}

/// What to do about an endpoint that does not answer; the hub's own errors speak of the hub.
pub fn unanswered(error: hub::Error) -> Error {
    let (message, hint) = match &error {
        hub::Error::Refused { endpoint, status } => {
            (format!("{endpoint} refused the key (status {status})"), "give a file with a key that it knows")
        }
        hub::Error::RateLimited { .. } => (
            error.to_string(),
            "run the same command again later, or ask for less at once; what was done is kept",
        ),
        hub::Error::Unreachable { what, host, reason } => (
            format!("{host} does not answer {what}: {reason}"),
            "check the address and the server; the same command goes on where it was",
        ),
        _ => {
            (error.to_string(), "check the address, which ends in /v1 for most servers, and the model's name")
        }
    };
    Error::Endpoint { message, hint: hint.to_owned() }
}

/// Whether a refusal may be of the request rather than of the caller.
pub fn refuses(reason: &str) -> bool {
    ["status 400", "status 413", "status 415", "status 422"].iter().any(|status| reason.starts_with(status))
}
