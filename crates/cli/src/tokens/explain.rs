//! `alti tokenizer explain`: a text with its tokens in colours, and what each of them is.

use std::path::Path;

use owo_colors::{OwoColorize, Style};
use serde_json::{Value, json};
use tokenizer::AnyTokenizer;

use super::{standard_input, tokens_of};
use crate::args::TokenizerExplain;
use crate::errors::Error;
use crate::open;
use crate::report::scale::{count, figures};

/// Of the JSON. A number that changes its meaning raises it.
const VERSION: u32 = 1;
/// Where `alti raise` leaves the tokenizer that is taken if none is named.
const USUAL: &str = "runs/tiny";

/// `alti tokenizer explain`.
pub fn explain(args: &TokenizerExplain) -> Result<(), Error> {
    let (path, text) = match args.words.as_slice() {
        [tokenizer, text] => (Path::new(tokenizer), text),
        [text] if Path::new(USUAL).exists() => (Path::new(USUAL), text),
        _ => {
            return Err(Error::Usage {
                message: format!(
                    "a tokenizer and a text are wanted; there is no {USUAL} whose tokenizer could be taken"
                ),
                hint: "name the tokenizer, then the text in quotes: alti tokenizer explain TOKENIZER TEXT"
                    .to_owned(),
            });
        }
    };
    let tokenizer = open::any_tokenizer(path)?;
    let text = if text == "-" { standard_input()? } else { text.clone() };
    let tokens = tokens_of(&tokenizer, &text, args.special)?;
    if args.json {
        anstream::println!("{:#}", to_json(path, &tokenizer, &text, &tokens));
        return Ok(());
    }
    let colors = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    anstream::print!("{}", page(&tokenizer, &text, &tokens, colors));
    Ok(())
}

fn to_json(path: &Path, tokenizer: &AnyTokenizer, text: &str, tokens: &[u32]) -> Value {
    let token = |&id: &u32| {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        json!({
            "id": id,
            "bytes": hexadecimal(&bytes),
            "text": String::from_utf8_lossy(&bytes),
            "special": tokenizer.is_special(id),
        })
    };
    let (words, ratio) =
        (corpus::count_words(text), |of: usize, by: usize| (by > 0).then(|| of as f64 / by as f64));
    json!({
        "explain": "tokens",
        "version": VERSION,
        "tokenizer": {
            "name": path.display().to_string(),
            "description": tokenizer.description(),
            "vocab_size": tokenizer.vocab_size(),
        },
        "tokens": tokens.iter().map(token).collect::<Vec<_>>(),
        "bytes": text.len(),
        "characters": text.chars().count(),
        "words": words,
        "bytes_per_token": ratio(text.len(), tokens.len()),
        "tokens_per_word": ratio(tokens.len(), words),
    })
}

/// The text in colours, a line for each token, and what it comes to.
fn page(tokenizer: &AnyTokenizer, text: &str, tokens: &[u32], colors: bool) -> String {
    let mut page = String::new();
    for (index, &id) in tokens.iter().enumerate() {
        if index > 0 && !colors {
            page.push('│');
        }
        let shown = readable(&tokenizer.token_bytes(id).unwrap_or_default());
        let style = style(index, tokenizer.is_special(id));
        for (line, part) in shown.split('\n').enumerate() {
            if line > 0 {
                page.push_str(&format!("{}\n", "⏎".style(style)));
            }
            if !part.is_empty() {
                page.push_str(&part.style(style).to_string());
            }
        }
    }
    page.push_str("\n\n");
    let rows: Vec<[String; 3]> = tokens
        .iter()
        .map(|&id| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            let text = readable(&bytes).replace('\n', "⏎");
            let text = if tokenizer.is_special(id) { format!("{text} (special)") } else { text };
            [id.to_string(), hexadecimal(&bytes), text]
        })
        .collect();
    let width = |column: usize, least: usize, most: usize| {
        rows.iter().map(|row| row[column].len()).max().unwrap_or(0).clamp(least, most)
    };
    let (ids, hex) = (width(0, 5, 10), width(1, 5, 47));
    if !rows.is_empty() {
        page.push_str(&format!("{}\n", format!("{:>ids$}  {:<hex$}  text", "token", "bytes").dimmed()));
    }
    for (index, (row, &id)) in rows.iter().zip(tokens).enumerate() {
        let [number, bytes, text] = row;
        let text = text.style(style(index, tokenizer.is_special(id)));
        page.push_str(&format!("{number:>ids$}  {}  {text}\n", format!("{bytes:<hex$}").dimmed()));
    }
    let words = corpus::count_words(text);
    let plural = |number: usize, word: &str| {
        format!("{} {word}{}", count(number as u64), if number == 1 { "" } else { "s" })
    };
    page.push_str(&format!(
        "{} for {} in {}: {} bytes a token, {} tokens a word\n",
        plural(tokens.len(), "token").bold(),
        plural(text.len(), "byte"),
        plural(words, "word"),
        figures(text.len() as f64 / tokens.len().max(1) as f64),
        figures(tokens.len() as f64 / words.max(1) as f64)
    ));
    page
}

/// Of the token at this place: neighbours differ.
fn style(index: usize, special: bool) -> Style {
    let style = Style::new().black();
    match (special, index % 4) {
        (true, _) => Style::new().white().on_red().bold(),
        (_, 0) => style.on_cyan(),
        (_, 1) => style.on_yellow(),
        (_, 2) => style.on_green(),
        _ => style.on_magenta(),
    }
}

/// Text as it is, with what a terminal would act upon, or what is no text by itself, as its bytes.
fn readable(bytes: &[u8]) -> String {
    let mut shown = String::new();
    let hidden = |shown: &mut String, bytes: &[u8]| shown.push_str(&format!("‹{}›", hexadecimal(bytes)));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => shown.push('\n'),
                '\t' => shown.push('⇥'),
                '\r' => shown.push('␍'),
                c if c.is_control() || is_invisible(c) => {
                    hidden(&mut shown, c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                c => shown.push(c),
            }
        }
        if !chunk.invalid().is_empty() {
            hidden(&mut shown, chunk.invalid());
        }
    }
    shown
}

/// Marks that turn the direction of writing or have no width: they would change how the rest is shown.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_upon_is_shown_as_bytes() {
        for (bytes, wanted) in [
            (&b"a b\n"[..], "a b\n"),
            (b"\x1b[31m", "‹1b›[31m"),
            (b"\xe2\x82", "‹e2 82›"),
            (b"\xac!", "‹ac›!"),
            ("é\t\r".as_bytes(), "é⇥␍"),
            ("\u{202e}x".as_bytes(), "‹e2 80 ae›x"),
            (b"", ""),
        ] {
            assert_eq!(readable(bytes), wanted);
        }
    }
}
