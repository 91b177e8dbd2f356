//! The rules of C4 (Raffel et al. 2020, section 2.2, and its published code) for web pages: some lines go, then
//! some pages. The rule on terminal punctuation is left out, as in FineWeb; the list of bad words too.

use std::sync::{Arc, LazyLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use arrow_array::RecordBatch;
use arrow_array::builder::StringBuilder;

use super::words::words;
use super::{Removed, Step, markdown};
use crate::Error;
use crate::batch::{self, Rows};
use crate::kind::{Class, Kind};
use crate::settings::C4;

const NAME: &str = "c4";

const POLICY_PHRASES: [&str; 6] =
    ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];

/// The phrases that lines are searched for, in any case of ASCII: filler, JavaScript, then those about policies.
static PHRASES: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let phrases = ["lorem ipsum", "javascript"].into_iter().chain(POLICY_PHRASES);
    let built =
        AhoCorasick::builder().ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build(phrases);
    built.expect("eight short phrases fit any automaton")
});
const LOREM_IPSUM: usize = 0;
const JAVASCRIPT: usize = 1;

/// The step.
pub struct Rules(pub C4);

impl Step for Rules {
    fn name(&self) -> &'static str {
        NAME
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "C4: Raffel et al. 2020, section 2.2"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut removed = Removed::default();
        let rows = Rows::of(&batch, NAME)?;
        if rows.iter().all(|row| row.kind.class != Class::Web) {
            return Ok((batch, removed));
        }
        let mut keep = Vec::with_capacity(batch.num_rows());
        let mut texts = StringBuilder::new();
        for row in rows.iter() {
            if row.kind.class != Class::Web {
                texts.append_value(row.text);
                keep.push(true);
                continue;
            }
            let page = self.page(row.kind, row.text);
            for (edit, count) in page.dropped {
                *removed.edits.entry(edit.to_string()).or_default() += count;
            }
            match page.text {
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

/// A page after the rules.
pub struct Page {
    /// The lines that stay, or the reason why none do.
    pub text: Result<String, &'static str>,
    /// Lines dropped, by rule, in no order.
    pub dropped: Vec<(&'static str, u64)>,
}

impl Rules {
    /// Applies the rules to the text of one page. Headings, tables, code and formulas of an extracted page pass.
    pub fn page(&self, kind: Kind, text: &str) -> Page {
        let settings = &self.0;
        let mut dropped: Vec<(&'static str, u64)> = Vec::new();
        let mut drop_line = |rule| match dropped.iter_mut().find(|(name, _)| *name == rule) {
            Some((_, count)) => *count += 1,
            None => dropped.push((rule, 1)),
        };
        let mut kept = String::with_capacity(text.len());
        let (mut sentences, mut refused) = (0, None);
        // Most pages have none of these, so their lines need not be searched.
        let (phrases, brackets) = (PHRASES.is_match(text), text.contains('{'));
        for (line, prose) in markdown::lines(kind, text) {
            if line.trim().is_empty() {
                // Blank lines part paragraphs; C4 has none, FineWeb's extractor neither, but they cost nothing.
                if !kept.is_empty() && !kept.ends_with("\n\n") {
                    kept.push('\n');
                }
                continue;
            }
            if !prose {
                kept.push_str(line);
                kept.push('\n');
                continue;
            }
            let (mut count, mut longest) = (0u64, 0u64);
            for word in words(line) {
                count += 1;
                longest = longest.max(u64::from(word.characters));
            }
            if longest > settings.max_word_length {
                drop_line("lines_with_a_very_long_word");
                continue;
            }
            if count < settings.min_words_per_line {
                drop_line("lines_with_few_words");
                continue;
            }
            let (mut lorem_ipsum, mut javascript, mut policy) = (false, false, false);
            if phrases {
                for found in PHRASES.find_overlapping_iter(line) {
                    match found.pattern().as_usize() {
                        LOREM_IPSUM => lorem_ipsum = true,
                        JAVASCRIPT => javascript = true,
                        _ => policy = true,
                    }
                }
            }
            if settings.remove_lorem_ipsum && lorem_ipsum {
                refused = refused.or(Some("lorem_ipsum"));
            }
            if settings.drop_javascript_lines && javascript {
                drop_line("lines_about_javascript");
                continue;
            }
            if settings.remove_curly_bracket && brackets && line.contains('{') {
                refused = refused.or(Some("curly_bracket"));
            }
            if settings.drop_policy_lines && policy {
                drop_line("lines_about_policies");
                continue;
            }
            sentences += count_sentences(line);
            kept.push_str(line);
            kept.push('\n');
        }
        if refused.is_none() && sentences < settings.min_sentences {
            refused = Some("too_few_sentences");
        }
        kept.truncate(kept.trim_end().len());
        // Lines dropped from a page that goes as a whole are not counted as edits.
        match refused {
            Some(reason) => Page { text: Err(reason), dropped: Vec::new() },
            None => Page { text: Ok(kept), dropped },
        }
    }
}

/// Sentences of a line: marks that end one, where a space, a closing quotation or bracket or the line's end
/// follows; a line without any is one sentence.
fn count_sentences(line: &str) -> u64 {
    let line = line.trim();
    let bytes = line.as_bytes();
    let mut count = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        // The first bytes of … 。 ！ ？ । ؟ in UTF-8.
        let ends = match byte {
            b'.' | b'!' | b'?' => match bytes.get(at + 1) {
                None => true,
                Some(next) if next.is_ascii() => b" \t\r\x0b\x0c\"')]".contains(next),
                Some(_) => closes(&line[at + 1..]),
            },
            0xE2 if bytes[at..].starts_with("…".as_bytes()) => closes(&line[at + "…".len()..]),
            0xE3 | 0xEF | 0xE0 | 0xD8 => line[at..].starts_with(['。', '！', '？', '।', '؟']),
            _ => false,
        };
        count += u64::from(ends);
    }
    count.max(1)
}

/// Whether what follows a mark lets it end a sentence.
fn closes(rest: &str) -> bool {
    rest.chars().next().is_none_or(|next| next.is_whitespace() || "\"'”’)]»".contains(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By characters, without a thought for speed.
    fn plain(line: &str) -> u64 {
        let mut count = 0;
        let mut characters = line.trim().chars().peekable();
        while let Some(character) = characters.next() {
            count += u64::from(match character {
                '.' | '!' | '?' | '…' => {
                    characters.peek().is_none_or(|next| next.is_whitespace() || "\"'”’)]»".contains(*next))
                }
                '。' | '！' | '？' | '।' | '؟' => true,
                _ => false,
            });
        }
        count.max(1)
    }

    proptest::proptest! {
        #[test]
        fn sentences_are_counted_as_in_the_plain_way(line in "[a .!?…。？।؟”)»\u{a0}\u{2003}é\"]{0,24}") {
            proptest::prop_assert_eq!(count_sentences(&line), plain(&line));
        }
    }
}
