//! The quality rules of Gopher (Rae et al. 2021, A1.1) for prose. Words are counted between spaces, as in the
//! paper, where datatrove counts tokens of a linguistic tokenizer. In documentation, markup is no word and an
//! address has no length: else badges, rules and lists remove a quarter of the READMEs and changelogs.

use arrow_array::RecordBatch;

use super::markdown::{self, is_mark};
use super::measure::{self, Bound, Measure};
use super::words::{DIGIT, DOT, LETTER, UNSPACED, WIDE, words};
use super::{Removed, Step, Verdict};
use crate::Error;
use crate::batch::Row;
use crate::kind::{self, Class};
use crate::settings::GopherQuality;

/// Which of the paper's eight stop words a word is, as one bit, or none. Punctuation around it and its case do not count.
fn stop_word(word: &str) -> u8 {
    // The longest with a few marks around it; most words end here.
    if word.len() > 12 {
        return 0;
    }
    let bare = word.trim_matches(|c: char| !c.is_alphanumeric()).as_bytes();
    let mut lower = [0; 4];
    let Some(lower) = lower.get_mut(..bare.len()) else { return 0 };
    lower.copy_from_slice(bare);
    lower.make_ascii_lowercase();
    match &*lower {
        b"the" => 1,
        b"be" => 2,
        b"to" => 4,
        b"of" => 8,
        b"and" => 16,
        b"that" => 32,
        b"have" => 64,
        b"with" => 128,
        _ => 0,
    }
}

/// The step.
pub struct Quality(pub GopherQuality);

impl Step for Quality {
    fn name(&self) -> &'static str {
        "gopher_quality"
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "Gopher: Rae et al. 2021, section A1.1"
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
    let mut stop_words = 0u8;
    let extracted = row.kind == kind::HTML;
    for word in words(row.text) {
        if extracted && is_mark(word.text) {
            continue;
        }
        all += 1;
        alphabetic += u64::from(word.has(LETTER));
        unspaced += u64::from(word.has(UNSPACED));
        if word.has(LETTER | DIGIT) {
            real += 1;
            if documentation && word.text.contains("://") {
                addresses += 1;
            } else {
                real_characters += u64::from(word.characters);
            }
        }
        if word.has(DOT | WIDE) && word.text.len() >= 3 {
            ellipses += (word.text.matches("...").count() + word.text.matches('…').count()) as u64;
        }
        stop_words |= stop_word(word.text);
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
        let hashes_in = |text: &str| text.bytes().filter(|&byte| byte == b'#').count() as u64;
        let headings = |(line, prose): &(&str, bool)| *prose || !line.starts_with('#');
        let hashes = if extracted {
            markdown::lines(row.kind, row.text).filter(headings).map(|(line, _)| hashes_in(line)).sum()
        } else {
            hashes_in(row.text)
        };
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
        measures.push(measure(
            "too_few_stop_words",
            f64::from(stop_words.count_ones()),
            Bound::AtLeast(settings.min_stop_words as f64),
        ));
    }
    measures
}
