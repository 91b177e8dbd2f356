//! The bodies of every posted path: any bytes are answered, or refused in OpenAI's shape; nothing panics or hangs.
#![no_main]

#[path = "../../tests/it/bodies.rs"]
mod bodies;
#[path = "../../tests/it/toy.rs"]
mod toy;

use serde_json::Value;

libfuzzer_sys::fuzz_target!(|input: (u8, Option<u8>, &[u8])| {
    let (which, place, bytes) = input;
    let (path, body) = &bodies::BODIES[usize::from(which) % bodies::BODIES.len()];
    match (place, serde_json::from_slice::<Value>(bytes)) {
        (Some(place), value) => {
            // What is no JSON stands there as a text.
            let value = value.unwrap_or_else(|_| String::from_utf8_lossy(bytes).into());
            let body = bodies::changed(body, place.into(), (!bytes.is_empty()).then_some(value));
            bodies::check(path, body.to_string().as_bytes());
        }
        (None, _) => drop(bodies::check(path, bytes)),
    }
});
