//! The repetition rules of Gopher (Rae et al. 2021, table A1) for prose, counted as datatrove counts them:
//! a repetition is every occurrence after the first. Fractions are of bytes, not characters.

use arrow_array::RecordBatch;
use rustc_hash::{FxHashMap, FxHashSet};
use xxhash_rust::xxh3::xxh3_64;

use super::measure::{self, Bound, Measure};
use super::words::words;
use super::{Removed, Step, Verdict};
use crate::Error;
use crate::batch::Row;
use crate::kind::Class;
use crate::settings::GopherRepetition;

const TOP_RULES: [&str; 3] = ["top_2gram", "top_3gram", "top_4gram"];
const DUPLICATE_RULES: [&str; 6] = [
    "duplicate_5grams",
    "duplicate_6grams",
    "duplicate_7grams",
    "duplicate_8grams",
    "duplicate_9grams",
    "duplicate_10grams",
];

/// The step.
pub struct Repetition(pub GopherRepetition);

impl Step for Repetition {
    fn name(&self) -> &'static str {
        "gopher_repetition"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        super::judge(batch, self.name(), |row| match row.kind.class {
            Class::Code | Class::Data => Verdict::Keep,
            Class::Web | Class::Prose | Class::Documentation => measure::verdict(measures(row, &self.0)),
        })
    }
}

/// What the rules measure on a document, in the order in which they judge.
pub fn measures(row: Row, settings: &GopherRepetition) -> Vec<Measure> {
    let whole = row.text.len().max(1) as f64;
    let measure = |rule, value, limit| Measure { rule, value, bound: Bound::FractionAtMost(limit) };
    let paragraphs = duplicates(row.text.trim().split("\n\n").map(str::trim).filter(|text| !text.is_empty()));
    let lines = duplicates(row.text.lines().map(str::trim).filter(|text| !text.is_empty()));
    let mut measures = vec![
        measure("duplicate_paragraphs", paragraphs.fraction(), settings.max_duplicate_paragraph_fraction),
        measure(
            "duplicate_paragraph_characters",
            paragraphs.bytes as f64 / whole,
            settings.max_duplicate_paragraph_character_fraction,
        ),
        measure("duplicate_lines", lines.fraction(), settings.max_duplicate_line_fraction),
        measure(
            "duplicate_line_characters",
            lines.bytes as f64 / whole,
            settings.max_duplicate_line_character_fraction,
        ),
    ];
    let words: Vec<(u64, u32)> =
        words(row.text).map(|word| (xxh3_64(word.as_bytes()), word.len() as u32)).collect();
    for (index, rule) in TOP_RULES.into_iter().enumerate() {
        let value = top_ngram_bytes(&words, index + 2) as f64 / whole;
        measures.push(measure(rule, value, settings.max_top_ngram_fractions[index]));
    }
    for (index, rule) in DUPLICATE_RULES.into_iter().enumerate() {
        let value = duplicate_ngram_bytes(&words, index + 5) as f64 / whole;
        measures.push(measure(rule, value, settings.max_duplicate_ngram_fractions[index]));
    }
    measures
}

/// Repetitions among lines or paragraphs.
pub(super) struct Duplicates {
    items: u64,
    repeated: u64,
    /// Bytes in repeated items.
    pub bytes: u64,
}

impl Duplicates {
    fn fraction(&self) -> f64 {
        if self.items == 0 { 0.0 } else { self.repeated as f64 / self.items as f64 }
    }
}

/// Counts the items that are equal to an earlier one.
pub(super) fn duplicates<'a>(items: impl Iterator<Item = &'a str>) -> Duplicates {
    let mut seen = FxHashSet::default();
    let mut counts = Duplicates { items: 0, repeated: 0, bytes: 0 };
    for item in items {
        counts.items += 1;
        if !seen.insert(item) {
            counts.repeated += 1;
            counts.bytes += item.len() as u64;
        }
    }
    counts
}

fn ngram_hash(ngram: &[(u64, u32)]) -> u64 {
    ngram.iter().fold(0, |hash: u64, (word, _)| {
        (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15) // the odd constant of Fibonacci hashing
    })
}

/// Bytes of the words of an n-gram and the blanks between them.
fn ngram_bytes(ngram: &[(u64, u32)]) -> u64 {
    ngram.iter().map(|&(_, length)| u64::from(length)).sum::<u64>() + ngram.len() as u64 - 1
}

/// Bytes inside the most frequent n-gram (the longest of them on a tie), 0 when none comes twice.
fn top_ngram_bytes(words: &[(u64, u32)], n: usize) -> u64 {
    let mut counts: FxHashMap<u64, (u64, u64)> = FxHashMap::default();
    for ngram in words.windows(n) {
        let entry = counts.entry(ngram_hash(ngram)).or_insert_with(|| (0, ngram_bytes(ngram)));
        entry.0 += 1;
    }
    counts.values().filter(|(count, _)| *count > 1).max().map_or(0, |(count, bytes)| count * bytes)
}

/// Bytes inside n-grams that came before; overlapping repetitions are counted once.
fn duplicate_ngram_bytes(words: &[(u64, u32)], n: usize) -> u64 {
    let mut seen = FxHashSet::default();
    let (mut at, mut bytes) = (0, 0);
    while at + n <= words.len() {
        let ngram = &words[at..at + n];
        if seen.insert(ngram_hash(ngram)) {
            at += 1;
        } else {
            bytes += ngram_bytes(ngram) - (n as u64 - 1);
            at += n;
        }
    }
    bytes
}
