//! The main text of HTML pages, by `dom_smoothie` (Mozilla's Readability rules); other kinds pass unchanged.
//! What Readability cannot find an article in is removed, not guessed at.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::StringBuilder;
use dom_smoothie::{Config, Readability, TextMode};

use super::{Removed, Step};
use crate::batch::{self, Rows};
use crate::{Error, kind};

const NAME: &str = "extract";

/// Elements beyond which a page is not parsed for an article: time grows faster than the page.
const MAX_ELEMENTS: usize = 100_000;

/// Depth of open elements beyond which a page is refused. No page made for reading is so deep, and the tree's
/// walks are recursive.
const MAX_DEPTH: usize = 512;

/// The step.
pub struct Extract;

impl Step for Extract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut removed = Removed::default();
        let rows = Rows::of(&batch, NAME)?;
        if rows.iter().all(|row| row.kind != kind::HTML) {
            return Ok((batch, removed));
        }
        let mut keep = Vec::with_capacity(batch.num_rows());
        let mut texts = StringBuilder::new();
        for row in rows.iter() {
            if row.kind != kind::HTML {
                texts.append_value(row.text);
                keep.push(true);
                continue;
            }
            match main_text(row.text) {
                Ok(text) => {
                    texts.append_value(text);
                    keep.push(true);
                }
                Err(reason) => {
                    removed.count(reason, row);
                    texts.append_value("");
                    keep.push(false);
                }
            }
        }
        let batch = batch::with_column(&batch, NAME, "text", Arc::new(texts.finish()))?;
        Ok((batch::keep_rows(&batch, NAME, keep)?, removed))
    }
}

/// The main text of a page, one paragraph or list item a line, or the reason why there is none.
///
/// # Errors
/// `no_main_text`, `too_many_elements`, `nested_too_deeply` or `parser_failed`.
pub fn main_text(html: &str) -> Result<String, &'static str> {
    if depth(html) > MAX_DEPTH {
        return Err("nested_too_deeply");
    }
    let config = Config {
        text_mode: TextMode::Formatted,
        max_elements_to_parse: MAX_ELEMENTS,
        disable_json_ld: true,
        ..Config::default()
    };
    // A page is hostile input to a parser of another crate: its panic costs this page, not the corpus.
    let article = catch_unwind(AssertUnwindSafe(|| Readability::new(html, None, Some(config))?.parse()));
    match article {
        Ok(Ok(article)) => {
            let text = tidy(&article.text_content);
            if text.is_empty() { Err("no_main_text") } else { Ok(text) }
        }
        Ok(Err(dom_smoothie::ReadabilityError::TooManyElements(..))) => Err("too_many_elements"),
        Ok(Err(_)) => Err("no_main_text"),
        Err(_) => Err("parser_failed"),
    }
}

/// An upper estimate of how deep elements nest: opening minus closing tags, void elements left out.
fn depth(html: &str) -> usize {
    const VOID: &[&str] = &[
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source",
        "track", "wbr", "p", "li", "td", "tr", "th", "dt", "dd", "option",
    ];
    let (mut depth, mut deepest) = (0usize, 0usize);
    let bytes = html.as_bytes();
    for at in memchr_less_than(bytes) {
        match bytes.get(at + 1) {
            Some(b'/') => depth = depth.saturating_sub(1),
            Some(first) if first.is_ascii_alphabetic() => {
                let end = bytes[at + 1..]
                    .iter()
                    .position(|byte| !byte.is_ascii_alphanumeric())
                    .map_or(bytes.len(), |length| at + 1 + length);
                let name = html[at + 1..end].to_ascii_lowercase();
                if !VOID.contains(&name.as_str()) {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
            }
            _ => {}
        }
    }
    deepest
}

fn memchr_less_than(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'<').map(|(at, _)| at)
}

/// Blank runs inside lines become one space and runs of blank lines one blank line.
fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut blank_lines = 0;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else {
            blank_lines += 1;
            continue;
        };
        if !tidied.is_empty() {
            tidied.push_str(if blank_lines > 0 { "\n\n" } else { "\n" });
        }
        blank_lines = 0;
        tidied.push_str(first);
        for word in words {
            tidied.push(' ');
            tidied.push_str(word);
        }
    }
    tidied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boilerplate_goes_and_paragraphs_stay() {
        let paragraph =
            "The river rose through the night, and by the morning the lower fields were under water. ";
        let page = format!(
            "<html><head><title>News</title><script>var a = 1;</script></head><body>\
             <nav><ul><li><a href=/a>Home</a></li><li><a href=/b>About us</a></li></ul></nav>\
             <article><p>{0}{0}</p><p>{0}{0}{0}</p><pre>let x  = 1;</pre></article>\
             <footer>All rights reserved</footer></body></html>",
            paragraph
        );
        let text = main_text(&page).unwrap();
        assert!(text.contains("The river rose"), "{text}");
        assert!(!text.contains("var a") && !text.contains("About us"), "{text}");
        assert!(text.lines().filter(|line| line.contains("river")).count() == 2, "{text}");
    }

    #[test]
    fn hostile_pages_are_refused_without_harm() {
        assert_eq!(main_text(""), Err("no_main_text"));
        assert_eq!(main_text(&"<div>".repeat(200_000)), Err("nested_too_deeply"));
        assert!(main_text(&"<p>".repeat(200_000)).is_err());
        // Not a page, but nothing of it is markup either.
        assert!(main_text("<<<<>>>> \u{0} & &#xffffffff; <a <b </").is_ok_and(|text| text.len() < 40));
    }
}
