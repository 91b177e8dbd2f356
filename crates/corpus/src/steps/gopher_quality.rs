//! The quality rules of Gopher (Rae et al. 2021, A1.1) for prose. Words are counted between spaces, as in the
//! paper, where datatrove counts tokens of a linguistic tokenizer. In documentation, markup is no word and an
//! address has no length: else badges, rules and lists remove a quarter of the READMEs and changelogs.

use arrow_array::RecordBatch;

use super::markdown::{self, is_mark};
use super::measure::{self, Bound, Measure};
use super::words::{is_unspaced, words};
use super::{Removed, Step, Verdict};
use crate::Error;
use crate::batch::Row;
use crate::kind::{self, Class};
use crate::settings::GopherQuality;

const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

/// The step.
pub struct Quality(pub GopherQuality);

impl Step for Quality {
    fn name(&self) -> &'static str {
        "gopher_quality"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        super::judge(batch, self.name(), |row| match row.kind.class {
            Class::Code | Class::Data => Verdict::Keep,
            Class::Web | Class::Prose | Class::Documentation => measure::verdict(measures(row, &self.0)),
        })
    }
}

/// What the rules measure on a document, in the order in which they judge.
pub fn measures(row: Row, settings: &GopherQuality) -> Vec<Measure> {
    let (mut all, mut alphabetic, mut real, mut real_characters) = (0u64, 0u64, 0u64, 0u64);
    let (mut ellipses, mut unspaced, mut addresses) = (0u64, 0u64, 0u64);
    let documentation = row.kind.class == Class::Documentation;
    let mut stop_words = [false; STOP_WORDS.len()];
    let extracted = row.kind == kind::HTML;
    for word in words(row.text) {
        if extracted && is_mark(word) {
            continue;
        }
        all += 1;
        let (mut letters, mut letters_or_digits, mut characters) = (false, false, 0);
        for character in word.chars() {
            characters += 1;
            letters |= character.is_alphabetic();
            letters_or_digits |= character.is_alphanumeric();
            unspaced += u64::from(is_unspaced(character));
        }
        alphabetic += u64::from(letters);
        if letters_or_digits {
            real += 1;
            if documentation && word.contains("://") {
                addresses += 1;
            } else {
                real_characters += characters;
            }
        }
        ellipses += word.matches("...").count() as u64 + word.matches('…').count() as u64;
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if bare.len() <= 4
            && let Some(found) = STOP_WORDS.iter().position(|stop| bare.eq_ignore_ascii_case(stop))
        {
            stop_words[found] = true;
        }
    }
    let (mut lines, mut bullets, mut trailing) = (0u64, 0u64, 0u64);
    for line in row.text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        lines += 1;
        bullets += u64::from(line.starts_with(['•', '-', '*', '‣', '◦']));
        trailing += u64::from(line.ends_with("...") || line.ends_with('…'));
    }

    let fraction = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let measure = |rule, value, bound| Measure { rule, value, bound };
    let mut measures = vec![
        measure("too_few_words", real as f64, Bound::AtLeast(settings.min_words as f64)),
        measure("too_many_words", real as f64, Bound::AtMost(settings.max_words as f64)),
    ];
    if unspaced * 10 < real_characters.max(1) * 3 {
        let mean = fraction(real_characters, real - addresses);
        measures.push(measure("words_too_short", mean, Bound::AtLeast(settings.min_mean_word_length)));
        measures.push(measure("words_too_long", mean, Bound::AtMost(settings.max_mean_word_length)));
    }
    let symbols = settings.max_symbol_to_word_ratio;
    if !documentation {
        let headings = |(line, prose): &(&str, bool)| *prose || !line.starts_with('#');
        let hashes: usize = markdown::lines(row.kind, row.text)
            .filter(headings)
            .map(|(line, _)| line.matches('#').count())
            .sum();
        let hashes = hashes as u64;
        measures.push(measure("too_many_hash_signs", fraction(hashes, all), Bound::FractionAtMost(symbols)));
    }
    measures.push(measure("too_many_ellipses", fraction(ellipses, all), Bound::FractionAtMost(symbols)));
    measures.push(measure(
        "too_many_bullet_lines",
        fraction(bullets, lines),
        Bound::FractionAtMost(settings.max_bullet_line_fraction),
    ));
    measures.push(measure(
        "too_many_ellipsis_lines",
        fraction(trailing, lines),
        Bound::FractionAtMost(settings.max_ellipsis_line_fraction),
    ));
    measures.push(measure(
        "too_few_alphabetic_words",
        fraction(alphabetic, if documentation { real } else { all }),
        Bound::FractionAtLeast(settings.min_alphabetic_word_fraction),
    ));
    if row.language == Some("en") {
        let found = stop_words.iter().filter(|&&found| found).count();
        measures.push(measure(
            "too_few_stop_words",
            found as f64,
            Bound::AtLeast(settings.min_stop_words as f64),
        ));
    }
    measures
}
