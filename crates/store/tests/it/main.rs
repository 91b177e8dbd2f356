//! Listing and reading against a server that the tests start: web servers always, S3 and its kin with the feature `objects`.

#[cfg(feature = "objects")]
mod objects;
mod server;
mod web;

use std::io::Read;
use std::time::Duration;

use store::{Address, Manners, Object};

/// Short waits, and requests that are far smaller than objects.
fn manners() -> Manners {
    Manners {
        retry_after: Duration::from_millis(1),
        attempts: 4,
        request_bytes: 300_000,
        ..Manners::default()
    }
}

/// Bytes that do not repeat soon.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// All of an object, or why it cannot be had, with the bytes that came.
fn read(object: &Object) -> Result<Vec<u8>, (Vec<u8>, store::Error)> {
    let mut stream = object.stream();
    let mut found = Vec::new();
    match stream.read_to_end(&mut found) {
        Ok(_) => Ok(found),
        Err(_) => Err((found, stream.error().unwrap().clone())),
    }
}
