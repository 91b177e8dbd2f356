//! JSON lines: one object a line, its text in the field `text` or else `content`; `url`, `date` (or `timestamp`, or
//! `created`) and `lang` (or `language`) are taken along when they are strings.

use std::io::BufRead;
use std::ops::ControlFlow;

use serde_json::{Map, Value};

use super::{Line, Sink};
use crate::Settings;
use crate::batch::Record;
use crate::kind;
use crate::language::subtag;
use crate::source::Input;

/// Reads lines from the number `number` on and leaves the next one there; false when the stream broke.
pub(super) fn read(
    input: &Input,
    settings: &Settings,
    stream: &mut dyn BufRead,
    number: &mut u64,
    sink: &mut dyn Sink,
) -> ControlFlow<(), bool> {
    let limit = settings.max_input_document_bytes;
    let mut buffer = Vec::new();
    loop {
        let place = format!("{}:line {number}", input.name);
        *number += 1;
        match super::read_line(stream, limit, &mut buffer) {
            Ok((Line::End, _)) => return ControlFlow::Continue(true),
            Ok((Line::TooLong, _)) => {
                sink.skip(place, format!("the line has more than {limit} bytes"))?;
                continue;
            }
            Ok((Line::Whole, _)) => {}
            Err(error) => {
                sink.skip(place, format!("cannot be read: {error}"))?;
                return ControlFlow::Continue(false);
            }
        }
        let line = buffer.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&buffer);
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match parse(line) {
            Ok(Parts { text, url, date, language }) => sink.record(Record {
                text: super::unix_lines(text),
                kind: kind::TEXT,
                url,
                source: place,
                date,
                language,
            })?,
            Err(reason) => sink.skip(place, reason)?,
        }
    }
}

struct Parts {
    text: String,
    url: Option<String>,
    date: Option<String>,
    language: Option<String>,
}

fn parse(line: &[u8]) -> Result<Parts, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("is not JSON: {error}"))?;
    let Value::Object(mut object) = value else { return Err("is not a JSON object".into()) };
    for field in ["text", "content"] {
        match object.remove(field) {
            Some(Value::String(text)) => {
                if text.contains('\0') {
                    return Err(format!("the field {field} is not text: it holds a zero"));
                }
                let url = string(&mut object, &["url"]);
                let date = string(&mut object, &["date", "timestamp", "created"]);
                let language = string(&mut object, &["lang", "language"]).and_then(|given| subtag(&given));
                return Ok(Parts { text, url, date, language });
            }
            Some(_) => return Err(format!("the field {field} is not a string")),
            None => {}
        }
    }
    let names: Vec<&str> = object.keys().map(String::as_str).take(12).collect();
    Err(format!("has no field text or content, but {}", if names.is_empty() { "none" } else { "" })
        .trim_end()
        .to_string()
        + if names.is_empty() { "" } else { " " }
        + &names.join(", "))
}

fn string(object: &mut Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match object.remove(*name) {
        Some(Value::String(value)) => Some(value),
        _ => None,
    })
}
