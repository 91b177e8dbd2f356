//! `alti tokenizer encode` and `decode`: one text, or one a line.

use std::io::{BufRead, Write};
use std::path::Path;

use owo_colors::OwoColorize;
use serde_json::json;
use tokenizer::AnyTokenizer;

use super::{standard_input, tokens_of};
use crate::args::Special;
use crate::errors::Error;
use crate::open;
use crate::report::scale::{count, figures};

/// `alti tokenizer encode`.
pub fn encode(
    tokenizer: &Path,
    text: Option<&str>,
    ids: bool,
    special: Special,
    lines: bool,
) -> Result<(), Error> {
    let tokenizer = open::any_tokenizer(tokenizer)?;
    if lines {
        return each_line(|text: String| {
            Ok(match tokens_of(&tokenizer, &text, special) {
                Ok(tokens) => json!(tokens),
                Err(error) => json!({"error": error.to_string()}),
            })
        });
    }
    let text = match text {
        None | Some("-") => standard_input()?,
        Some(text) => text.to_owned(),
    };
    let tokens = tokens_of(&tokenizer, &text, special)?;
    if ids {
        anstream::println!("{}", joined(&tokens));
    } else {
        show(&tokenizer, &tokens, text.len());
    }
    Ok(())
}

/// `alti tokenizer decode`.
pub fn decode(tokenizer: &Path, ids: &[u32], lines: bool) -> Result<(), Error> {
    let tokenizer = open::any_tokenizer(tokenizer)?;
    let decoded = |ids: &[u32]| match ids.iter().find(|id| tokenizer.token_bytes(**id).is_none()) {
        None => Ok(tokenizer.decode(ids)),
        Some(id) => Err(Error::Usage {
            message: format!(
                "token {id} is outside the vocabulary of {}",
                count(tokenizer.vocab_size() as u64)
            ),
            hint: format!("token numbers run from 0 to {}", tokenizer.vocab_size().saturating_sub(1)),
        }),
    };
    if lines {
        return each_line(|ids: Vec<u32>| Ok(json!(decoded(&ids)?)));
    }
    let ids = if ids.is_empty() { parse_ids(&standard_input()?)? } else { ids.to_vec() };
    anstream::println!("{}", decoded(&ids)?);
    Ok(())
}

/// Reads a JSON value from each line of standard input and writes what `answer` makes of it.
fn each_line<T: serde::de::DeserializeOwned>(
    answer: impl Fn(T) -> Result<serde_json::Value, Error>,
) -> Result<(), Error> {
    let write = Error::io("write", Path::new("standard output"));
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut work = || -> Result<std::io::Result<()>, Error> {
        for (number, line) in std::io::stdin().lock().lines().enumerate() {
            let line = line.map_err(Error::io("read", Path::new("standard input")))?;
            let value = serde_json::from_str(&line).map_err(|error| Error::Usage {
                message: format!("standard input, line {}: {error}", number + 1),
                hint: "--lines takes one JSON value a line, as `jq -c` writes them".to_owned(),
            })?;
            if let Err(error) = writeln!(out, "{}", answer(value)?) {
                return Ok(Err(error));
            }
        }
        Ok(out.flush())
    };
    work()?.map_err(write)
}

fn joined(tokens: &[u32]) -> String {
    tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// The text with its tokens in alternating colours, and their numbers below.
fn show(tokenizer: &AnyTokenizer, tokens: &[u32], bytes: usize) {
    let mut line = String::new();
    for (i, id) in tokens.iter().enumerate() {
        let piece = tokenizer.token_bytes(*id).unwrap_or_default();
        let piece = String::from_utf8_lossy(&piece).replace('\n', "⏎").replace('\t', "⇥");
        let piece = if i % 2 == 0 {
            piece.on_cyan().black().to_string()
        } else {
            piece.on_yellow().black().to_string()
        };
        line.push_str(&piece);
    }
    anstream::println!("{line}");
    anstream::println!("{}", joined(tokens).dimmed());
    anstream::println!(
        "{} {}, {} bytes a token",
        count(tokens.len() as u64),
        if tokens.len() == 1 { "token" } else { "tokens" },
        figures(bytes as f64 / tokens.len().max(1) as f64)
    );
}

fn parse_ids(text: &str) -> Result<Vec<u32>, Error> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse().map_err(|_| Error::Usage {
                message: format!("{word:?} is not a token number"),
                hint: "give whole numbers with spaces between them".to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_with_spaces_or_commas() {
        assert_eq!(parse_ids(" 1 2,3\n4 ").unwrap(), [1, 2, 3, 4]);
        assert!(parse_ids("1 two").unwrap_err().to_string().contains("two"));
    }
}
