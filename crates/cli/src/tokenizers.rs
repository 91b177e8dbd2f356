//! `alti tokenizer`: train one, and look at what it does to a text.

use std::io::Read;
use std::path::Path;

use owo_colors::OwoColorize;
use tokenizer::Tokenizer;

use crate::args;
use crate::errors::Error;
use crate::open;
use crate::progress::Shown;
use crate::report::scale::{count, figures};
use crate::train_tokenizer;

/// `alti tokenizer`.
pub fn tokenizer(args: &args::Tokenizer, shown: &Shown) -> Result<(), Error> {
    match args {
        args::Tokenizer::Train(args) => train_tokenizer::train(args, shown)?,
        args::Tokenizer::Encode { tokenizer, text, ids } => {
            let tokenizer = open::tokenizer(tokenizer)?;
            let text = text.clone().map_or_else(standard_input, Ok)?;
            let tokens = tokenizer.encode(&text);
            if *ids {
                let ids: Vec<String> = tokens.iter().map(u32::to_string).collect();
                anstream::println!("{}", ids.join(" "));
            } else {
                show(&tokenizer, &tokens, text.len());
            }
        }
        args::Tokenizer::Decode { tokenizer, ids } => {
            let tokenizer = open::tokenizer(tokenizer)?;
            let ids = if ids.is_empty() { parse_ids(&standard_input()?)? } else { ids.clone() };
            if let Some(id) = ids.iter().find(|id| **id as usize >= tokenizer.vocab_size()) {
                return Err(Error::Usage {
                    message: format!(
                        "token {id} is outside the vocabulary of {}",
                        count(tokenizer.vocab_size() as u64)
                    ),
                    hint: format!("token numbers run from 0 to {}", tokenizer.vocab_size() - 1),
                });
            }
            anstream::println!("{}", tokenizer.decode(&ids));
        }
    }
    Ok(())
}

/// The text with its tokens in alternating colours, and their numbers below.
fn show(tokenizer: &Tokenizer, tokens: &[u32], bytes: usize) {
    let mut line = String::new();
    for (i, id) in tokens.iter().enumerate() {
        let piece = tokenizer.decode(&[*id]).replace('\n', "⏎").replace('\t', "⇥");
        let piece = if i % 2 == 0 {
            piece.on_cyan().black().to_string()
        } else {
            piece.on_yellow().black().to_string()
        };
        line.push_str(&piece);
    }
    anstream::println!("{line}");
    let ids: Vec<String> = tokens.iter().map(u32::to_string).collect();
    anstream::println!("{}", ids.join(" ").dimmed());
    anstream::println!(
        "{} {}, {} bytes a token",
        count(tokens.len() as u64),
        if tokens.len() == 1 { "token" } else { "tokens" },
        figures(bytes as f64 / tokens.len().max(1) as f64)
    );
}

fn standard_input() -> Result<String, Error> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(Error::io("read", Path::new("standard input")))?;
    Ok(text)
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
