//! The repetition rules of Gopher (Rae et al. 2021, table A1) for prose, counted as datatrove counts them:
//! a repetition is every occurrence after the first. They are what Llama 3 calls the duplicated n-gram coverage ratio
//! (Llama Team 2024, section 3.1.1).

use arrow_array::RecordBatch;
use rustc_hash::FxHashSet;
use xxhash_rust::xxh3::xxh3_64;

use super::measure::{self, Bound, Measure};
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

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "Gopher: Rae et al. 2021, table A1"
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
    let whole = row.text.chars().count().max(1) as f64;
    let measure = |rule, value, limit| Measure { rule, value, bound: Bound::FractionAtMost(limit) };
    let paragraphs = duplicates(row.text.trim().split("\n\n").map(str::trim).filter(|text| !text.is_empty()));
    let lines = duplicates(row.text.lines().map(str::trim).filter(|text| !text.is_empty()));
    let mut measures = vec![
        measure("duplicate_paragraphs", paragraphs.fraction(), settings.max_duplicate_paragraph_fraction),
        measure(
            "duplicate_paragraph_characters",
            paragraphs.characters as f64 / whole,
            settings.max_duplicate_paragraph_character_fraction,
        ),
        measure("duplicate_lines", lines.fraction(), settings.max_duplicate_line_fraction),
        measure(
            "duplicate_line_characters",
            lines.characters as f64 / whole,
            settings.max_duplicate_line_character_fraction,
        ),
    ];
    let mut ngrams = Ngrams::of(row.text);
    for (index, rule) in TOP_RULES.into_iter().enumerate() {
        ngrams.grow_to(index + 2);
        let value = ngrams.top_characters() as f64 / whole;
        measures.push(measure(rule, value, settings.max_top_ngram_fractions[index]));
    }
    let mut none = false;
    for (index, rule) in DUPLICATE_RULES.into_iter().enumerate() {
        // Where no n-gram comes twice, no longer one does.
        let characters = if none {
            0
        } else {
            ngrams.grow_to(index + 5);
            ngrams.duplicate_characters()
        };
        none = characters == 0;
        measures.push(measure(
            rule,
            characters as f64 / whole,
            settings.max_duplicate_ngram_fractions[index],
        ));
    }
    measures
}

/// Repetitions among lines or paragraphs.
pub(super) struct Duplicates {
    items: u64,
    repeated: u64,
    /// Characters in repeated items.
    pub characters: u64,
}

impl Duplicates {
    fn fraction(&self) -> f64 {
        if self.items == 0 { 0.0 } else { self.repeated as f64 / self.items as f64 }
    }
}

/// Counts the items that are equal to an earlier one.
pub(super) fn duplicates<'a>(items: impl Iterator<Item = &'a str>) -> Duplicates {
    let mut seen = FxHashSet::default();
    let mut counts = Duplicates { items: 0, repeated: 0, characters: 0 };
    for item in items {
        counts.items += 1;
        if !seen.insert(item) {
            counts.repeated += 1;
            counts.characters += item.chars().count() as u64;
        }
    }
    counts
}

/// The n-grams of a text by their hashes, for one n after another.
struct Ngrams {
    /// Hash and characters of each word.
    words: Vec<(u64, u32)>,
    /// Characters of the words before each word, and of all.
    before: Vec<u64>,
    /// The hash of the n-gram that begins at each word.
    hashes: Vec<u64>,
    n: usize,
    /// Open addressing: a place holds a hash (0 where it is free), its count and the word where it first began.
    table: Vec<(u64, u32, u32)>,
    /// The same for hashes alone, a third of the size.
    seen: Vec<u64>,
}

impl Ngrams {
    fn of(text: &str) -> Ngrams {
        let mut words = Vec::with_capacity(text.len() / 5);
        let mut before = Vec::with_capacity(text.len() / 5 + 1);
        let mut characters = 0;
        for word in super::words::words(text) {
            words.push((xxh3_64(word.text.as_bytes()), word.characters));
            before.push(characters);
            characters += u64::from(word.characters);
        }
        before.push(characters);
        let hashes = vec![0; words.len()];
        Ngrams { words, before, hashes, n: 0, table: Vec::new(), seen: Vec::new() }
    }

    /// Makes the hashes those of `n` words, of which there were fewer before.
    fn grow_to(&mut self, n: usize) {
        while self.n < n {
            let count = self.words.len().saturating_sub(self.n);
            for (hash, (word, _)) in self.hashes[..count].iter_mut().zip(self.words.iter().skip(self.n)) {
                // The odd constant of Fibonacci hashing. The lowest bit is set, so that no hash is 0.
                *hash = ((hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1;
            }
            // The last n-gram begins n - 1 words before the end.
            self.hashes.truncate(count);
            self.n += 1;
        }
    }

    /// Places in a table of all hashes, at most half full, and how far a hash is shifted to be one of them.
    fn places(&self) -> (usize, u32) {
        let places = (self.hashes.len() * 2).next_power_of_two().max(16);
        (places, 64 - places.trailing_zeros())
    }

    /// Characters of the words of the n-gram at a word.
    fn characters(&self, at: usize) -> u64 {
        self.before[at + self.n] - self.before[at]
    }

    /// Characters inside the most frequent n-gram, blanks between its words among them; of several the one that comes
    /// first, and 0 when none comes twice.
    fn top_characters(&mut self) -> u64 {
        let (places, shift) = self.places();
        let mut table = std::mem::take(&mut self.table);
        table.clear();
        table.resize(places, (0, 0, 0));
        let (mut most, mut first) = (1, 0);
        for (at, &hash) in self.hashes.iter().enumerate() {
            let mut place = (hash >> shift) as usize;
            let entry = loop {
                let entry = &mut table[place];
                if entry.0 == hash {
                    break entry;
                }
                if entry.0 == 0 {
                    *entry = (hash, 0, at as u32);
                    break entry;
                }
                place = (place + 1) & (places - 1);
            };
            entry.1 += 1;
            if entry.1 > most || (entry.1 == most && most > 1 && entry.2 < first) {
                (most, first) = (entry.1, entry.2);
            }
        }
        self.table = table;
        if most == 1 { 0 } else { u64::from(most) * (self.characters(first as usize) + self.n as u64 - 1) }
    }

    /// Characters inside n-grams that came before; overlapping repetitions are counted once.
    fn duplicate_characters(&mut self) -> u64 {
        let (places, shift) = self.places();
        let mut seen = std::mem::take(&mut self.seen);
        seen.clear();
        seen.resize(places, 0);
        let (mut at, mut characters) = (0, 0);
        while let Some(&hash) = self.hashes.get(at) {
            let mut place = (hash >> shift) as usize;
            let repeated = loop {
                if seen[place] == hash {
                    break true;
                }
                if seen[place] == 0 {
                    seen[place] = hash;
                    break false;
                }
                place = (place + 1) & (places - 1);
            };
            if repeated {
                characters += self.characters(at);
                at += self.n;
            } else {
                at += 1;
            }
        }
        self.seen = seen;
        characters
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn plain_top(words: &[&str], n: usize) -> u64 {
        let mut counts: HashMap<&[&str], (u64, usize)> = HashMap::new();
        for (at, ngram) in words.windows(n).enumerate() {
            counts.entry(ngram).or_insert((0, at)).0 += 1;
        }
        let top = counts.into_iter().max_by_key(|(_, (count, first))| (*count, std::cmp::Reverse(*first)));
        top.filter(|(_, (count, _))| *count > 1)
            .map_or(0, |(ngram, (count, _))| count * ngram.join(" ").chars().count() as u64)
    }

    fn plain_duplicates(words: &[&str], n: usize) -> u64 {
        let (mut seen, mut at, mut characters) = (HashSet::new(), 0, 0);
        while at + n <= words.len() {
            if seen.insert(&words[at..at + n]) {
                at += 1;
            } else {
                characters += words[at..at + n].concat().chars().count() as u64;
                at += n;
            }
        }
        characters
    }

    proptest::proptest! {
        #[test]
        fn ngrams_are_counted_as_in_the_plain_way(text in "([abcéx]{1,2} ){0,120}") {
            let words: Vec<&str> = text.split_whitespace().collect();
            let mut ngrams = Ngrams::of(&text);
            for n in 2..=10 {
                ngrams.grow_to(n);
                proptest::prop_assert_eq!(ngrams.top_characters(), plain_top(&words, n), "{}", n);
                proptest::prop_assert_eq!(ngrams.duplicate_characters(), plain_duplicates(&words, n), "{}", n);
            }
        }
    }
}
