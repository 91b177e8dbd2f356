//! Amounts as a person writes them: `"4M tokens"`, `"1.5B"`, `"30 s"`, or a bare number.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of tokens. Read from a number or from text such as `"4M tokens"`; written as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tokens(pub u64);

/// A span of time in seconds. Read from a number of seconds or from text such as `"30 min"`; written as a number.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Seconds(pub f64);

/// Parses `"4M tokens"`: a number, perhaps `k`, `M`, `B` (or `G`) or `T` for powers of a thousand, perhaps `tokens`.
/// `_` and `,` may group digits. The result is rounded to the nearest token.
pub fn parse_tokens(text: &str) -> Result<u64, String> {
    let fault = || format!("{text:?} is not a number of tokens, such as \"4M tokens\"");
    let (number, unit) = split(text).ok_or_else(fault)?;
    let unit = unit.trim_end_matches("tokens").trim_end_matches("token").trim();
    let factor = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "M" | "m" => 1e6,
        "B" | "b" | "G" => 1e9,
        "T" | "t" => 1e12,
        _ => return Err(fault()),
    };
    let value = (number * factor).round();
    // Whole numbers are exact in f64 up to 2^53, 600 times the tokens that Llama 3 saw.
    if (0.0..=9e15).contains(&value) { Ok(value as u64) } else { Err(fault()) }
}

/// Parses `"30 min"`: a number and `s`, `min` or `h` (or their long forms); seconds without a unit.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let fault = || format!("{text:?} is not a span of time, such as \"30 s\" or \"5 min\"");
    let (number, unit) = split(text).ok_or_else(fault)?;
    let factor = match unit {
        "" | "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        _ => return Err(fault()),
    };
    let value = number * factor;
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(fault()) }
}

/// The leading number, and the text behind it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '_' | ','))).unwrap_or(text.len());
    let number: f64 = text[..end].replace(['_', ','], "").parse().ok()?;
    Some((number, text[end..].trim()))
}

struct Amount<T> {
    expecting: &'static str,
    from_number: fn(f64) -> Option<T>,
    from_text: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for Amount<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.expecting)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
        (self.from_number)(value).ok_or_else(|| E::custom(format!("{value} is not {}", self.expecting)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<T, E> {
        (self.from_text)(value).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Amount {
            expecting: "a number of tokens, such as 4000000 or \"4M tokens\"",
            from_number: |value| {
                (value.fract() == 0.0 && (0.0..=9e15).contains(&value)).then_some(Self(value as u64))
            },
            from_text: |text| parse_tokens(text).map(Self),
        })
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Amount {
            expecting: "a span of time, such as 30 (seconds) or \"5 min\"",
            from_number: |value| (value.is_finite() && value >= 0.0).then_some(Self(value)),
            from_text: |text| parse_seconds(text).map(Self),
        })
    }
}

impl Serialize for Tokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_people_write_them() {
        for (text, value) in [
            ("4M tokens", Some(4_000_000)),
            ("4000000", Some(4_000_000)),
            ("4_000_000 tokens", Some(4_000_000)),
            ("1,500", Some(1500)),
            (" 1.5B ", Some(1_500_000_000)),
            ("15.6T tokens", Some(15_600_000_000_000)),
            ("250k", Some(250_000)),
            ("1 token", Some(1)),
            ("", None),
            ("tokens", None),
            ("4X", None),
            ("-4M", None),
            ("1.2.3M", None),
            ("99999T", None),
        ] {
            assert_eq!(parse_tokens(text).ok(), value, "{text:?}");
        }
    }

    #[test]
    fn time_is_read_as_people_write_it() {
        for (text, value) in [
            ("30", Some(30.0)),
            ("30 s", Some(30.0)),
            ("5 min", Some(300.0)),
            ("1.5h", Some(5400.0)),
            ("2 days", None),
            ("soon", None),
        ] {
            assert_eq!(parse_seconds(text).ok(), value, "{text:?}");
        }
    }

    #[test]
    fn numbers_and_text_are_both_taken_and_written_as_numbers() {
        for json in ["4000000", "4e6", "\"4M tokens\""] {
            let tokens: Tokens = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&tokens).unwrap(), "4000000", "{json}");
        }
        for json in ["-1", "1.5", "true", "\"many\""] {
            assert!(serde_json::from_str::<Tokens>(json).is_err(), "{json}");
        }
        assert_eq!(serde_json::from_str::<Seconds>("\"2 min\"").unwrap(), Seconds(120.0));
    }
}
