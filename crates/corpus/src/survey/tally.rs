//! What is counted of the documents themselves: first of a row group by one thread, then of all of them, in their order.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::distribution::Distribution;
use super::hosts::{self, Greatest};
use super::tables::{Columns, Place, Unit};
use super::{Fault, Tokens};
use crate::funnel::Count;

/// Languages that are told apart; documents of others are counted together, under [`OTHER`].
const MOST_LANGUAGES: usize = 1000;
const OTHER: &str = "others";

/// What is looked for in all documents.
pub(super) struct Wanted {
    /// Documents to be shown, as many as this, chosen by a hash of their identity with this seed.
    pub samples: usize,
    pub seed: u64,
    /// Documents that are to be found again.
    pub ids: BTreeSet<String>,
}

/// The counts of a row group.
pub(super) struct Tally {
    pub counted: Counted,
    pub hosts: hosts::Part,
    least: Least,
    found: Vec<(String, u32)>,
}

/// Counts that are the same sums for a part and for all.
#[derive(Default)]
pub(super) struct Counted {
    pub documents: Count,
    pub characters: u64,
    pub tokens: Tokens,
    pub languages: BTreeMap<String, Count>,
    pub no_language: Count,
    pub bytes: Distribution,
    pub length: Distribution,
    pub columns: BTreeMap<String, Distribution>,
}

/// Hash and place of the documents with the least hashes, kept as the greatest of their complements.
type Least = Greatest<(u64, u64)>;

impl Tally {
    /// Reads and counts a row group.
    pub(super) fn of(unit: &Unit, wanted: &Wanted) -> Result<Tally, Fault> {
        let mut tally = Tally {
            counted: Counted::default(),
            hosts: hosts::Part::default(),
            least: Greatest::new(wanted.samples),
            found: Vec::new(),
        };
        unit.read(|columns, first| tally.batch(columns, first, wanted))?;
        Ok(tally)
    }

    fn batch(&mut self, columns: &Columns, first: u32, wanted: &Wanted) {
        for (index, row) in (0..columns.rows()).zip(first..) {
            let text = columns.text(index);
            let bytes = text.len() as u64;
            let characters = text.chars().count() as u64;
            self.counted.documents.add(bytes);
            self.counted.characters += characters;
            self.counted.bytes.add(bytes as f64);
            self.counted.length.add(characters as f64);
            self.counted.language(columns.lang(index), bytes);
            self.hosts.add(columns.url(index), bytes, row);
            if let Some(id) = columns.id(index) {
                self.least.offer((u64::MAX - xxh3_64_with_seed(id.as_bytes(), wanted.seed), u64::from(row)));
                if wanted.ids.contains(id) {
                    self.found.push((id.to_string(), row));
                }
            }
        }
        for (name, values) in &columns.numbers {
            let column = self.counted.columns.entry(name.clone()).or_default();
            for value in values {
                match value {
                    Some(value) => column.add(*value),
                    None => column.missing += 1,
                }
            }
        }
        for count in columns.numbers.get("token_count").into_iter().flatten().flatten() {
            self.counted.tokens.documents += 1;
            self.counted.tokens.tokens += count.max(0.0) as u64;
        }
    }
}

impl Counted {
    fn language(&mut self, language: Option<&str>, bytes: u64) {
        let Some(language) = language else { return self.no_language.add(bytes) };
        match self.languages.get_mut(language) {
            Some(count) => count.add(bytes),
            None => self.languages.entry(language.to_string()).or_default().add(bytes),
        }
    }

    fn merge(&mut self, other: Counted) {
        self.documents.merge(other.documents);
        self.characters += other.characters;
        self.tokens.documents += other.tokens.documents;
        self.tokens.tokens += other.tokens.tokens;
        for (language, count) in other.languages {
            let room = self.languages.len() < MOST_LANGUAGES || self.languages.contains_key(&language);
            let language = if room { language } else { OTHER.to_string() };
            self.languages.entry(language).or_default().merge(count);
        }
        self.no_language.merge(other.no_language);
        self.bytes.merge(&other.bytes);
        self.length.merge(&other.length);
        for (name, column) in other.columns {
            self.columns.entry(name).or_default().merge(&column);
        }
    }
}

/// The counts of all documents so far.
pub(super) struct Totals {
    pub counted: Counted,
    pub train: Count,
    pub held_out: Count,
    least: Least,
    pub found: BTreeMap<String, Place>,
}

impl Totals {
    pub(super) fn new(wanted: &Wanted) -> Totals {
        Totals {
            counted: Counted::default(),
            train: Count::default(),
            held_out: Count::default(),
            least: Greatest::new(wanted.samples),
            found: BTreeMap::new(),
        }
    }

    /// Adds the next row group; its hosts are given back.
    pub(super) fn take(&mut self, number: u32, unit: &Unit, tally: Tally) -> hosts::Part {
        let split = match unit.split {
            crate::Split::Train => &mut self.train,
            crate::Split::HeldOut => &mut self.held_out,
        };
        split.merge(tally.counted.documents);
        self.counted.merge(tally.counted);
        for (hash, row) in tally.least.descending() {
            self.least.offer((hash, Place { unit: number, row: row as u32 }.number()));
        }
        for (id, row) in tally.found {
            self.found.entry(id).or_insert(Place { unit: number, row });
        }
        tally.hosts
    }

    /// The places of the documents that are to be shown, in the order of their hashes.
    pub(super) fn samples(&mut self) -> Vec<Place> {
        let least = std::mem::replace(&mut self.least, Greatest::new(0));
        least.descending().map(|(_, place)| Place::of_number(place)).collect()
    }
}
