//! What is refused before it is compiled: llguidance bounds its own work by fuel, but for recursion and `multipleOf`.

use serde_json::{Number, Value};

use super::{Constraint, refused};
use crate::Error;

/// Most bytes of a schema, an expression or a grammar.
pub(crate) const MAX_BYTES: usize = 256 << 10;
/// Most levels of a schema; as deep as serde_json reads.
const MAX_DEPTH: usize = 128;
/// An automaton that divides has a state for each remainder, and takes some 13 µs to make each: this is about a second.
const MAX_MULTIPLE: u64 = 100_000;

/// Refuses a constraint that would take more than its share of time or memory to compile.
pub(crate) fn check(constraint: &Constraint) -> Result<(), Error> {
    match constraint {
        Constraint::JsonObject => Ok(()),
        Constraint::JsonSchema(schema) => check_schema(schema),
        Constraint::Regex(text) => check_length(text.len()),
        Constraint::Lark(text) => {
            check_length(text.len())?;
            check_inline_schemas(text)
        }
    }
}

fn check_length(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_BYTES {
        return Err(refused(&format!("it has {bytes} bytes, and {MAX_BYTES} are allowed")));
    }
    Ok(())
}

/// `%json` is followed by a schema.
fn check_inline_schemas(grammar: &str) -> Result<(), Error> {
    for (at, found) in grammar.match_indices("%json") {
        let rest = &grammar[at + found.len()..];
        // What is not JSON is not compiled either, or is no directive but text in quotes.
        if let Some(Ok(schema)) = serde_json::Deserializer::from_str(rest).into_iter::<Value>().next() {
            check_schema(&schema)?;
        }
    }
    Ok(())
}

fn check_schema(schema: &Value) -> Result<(), Error> {
    let mut bytes = 0;
    let mut multiples: Vec<(u64, i32)> = Vec::new();
    let mut open = vec![(schema, 1)];
    while let Some((value, depth)) = open.pop() {
        if depth > MAX_DEPTH {
            return Err(refused(&format!("it is nested more than {MAX_DEPTH} levels deep")));
        }
        bytes += 4;
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(list) => open.extend(list.iter().map(|value| (value, depth + 1))),
            Value::Object(object) => {
                bytes += object.keys().map(String::len).sum::<usize>();
                if let Some(Value::Number(number)) = object.get("multipleOf") {
                    multiples.extend(decimal(number));
                }
                open.extend(object.values().map(|value| (value, depth + 1)));
            }
            _ => {}
        }
    }
    check_length(bytes)?;
    check_multiples(&multiples)
}

/// All multiples of a schema may meet in one number, by way of `allOf`, and then count as their least common one.
fn check_multiples(multiples: &[(u64, i32)]) -> Result<(), Error> {
    let scale = multiples.iter().map(|(_, exponent)| *exponent).min().unwrap_or(0);
    let common = multiples.iter().try_fold(1u64, |common, &(digits, exponent)| {
        let factor = 10u64.checked_pow(u32::try_from(exponent - scale).ok()?)?;
        let multiple = digits.checked_mul(factor)?;
        let least = (common / greatest_divisor(common, multiple)).checked_mul(multiple)?;
        (least <= MAX_MULTIPLE).then_some(least)
    });
    common.map(|_| ()).ok_or_else(|| {
        refused(&format!("its `multipleOf` have a least common multiple of more than {MAX_MULTIPLE}"))
    })
}

/// A positive number as digits and a power of ten; nothing for one that is not positive, which is refused elsewhere.
fn decimal(number: &Number) -> Option<(u64, i32)> {
    let text = number.to_string();
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let exponent = exponent.parse::<i32>().ok()? - fraction.len() as i32;
    let digits = format!("{whole}{fraction}");
    if digits.starts_with('-') || digits.bytes().all(|digit| digit == b'0') {
        return None;
    }
    // More digits than fit are more than is allowed.
    Some((digits.parse().unwrap_or(u64::MAX), exponent))
}

fn greatest_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}
