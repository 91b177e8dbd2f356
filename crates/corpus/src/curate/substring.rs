//! Runs of words that stand somewhere before in the corpus are cut out of documents (Lee et al. 2021, "Deduplicating
//! Training Data Makes Language Models Better": ExactSubstr, with words in place of tokens, for there is no tokenizer
//! yet when documents are curated, and blanks do not matter then).
//!
//! What is promised: every word of prose that lies in a run of `min_words` words which stands before, in an earlier
//! document or in the same one without overlapping, is cut, wherever the runs begin, and no other word. Runs are the
//! same if 128-bit hashes of their words are. The earliest run stays, but for words of it that are in other runs which
//! stand before.
//!
//! No suffix array is built, which would be several times the corpus. In a first look every document leaves anchors: of
//! each stretch of hashes of half a run, the least, as in winnowing (Schleimer, Wilkerson & Aiken 2003), so that of any
//! run that stands twice both leave the same anchor. In a second look runs are hashed whole, but only around anchors
//! that occurred twice. Both are sorted and spill.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::StringBuilder;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::over_corpus::CorpusRule;
use crate::Error;
use crate::batch::{self, Row, Rows};
use crate::kind::Class;
use crate::spill::{Combine, Lookup, Sorted, Sorter};
use crate::steps::words::words;
use crate::steps::{Removed, Step};

const NAME: &str = "substring_duplicates";

/// What is cut of a document: its ordinal, and bytes from and to.
type Cut = (u64, u32, u32);

/// The rule.
pub(super) struct Substrings {
    folder: PathBuf,
    memory: u64,
    min_words: usize,
    look: Look,
}

enum Look {
    /// Hash, document, number of the first word.
    Anchors(Sorter<(u64, u64, u32)>),
    /// Repeated anchors by document, and the hashes of the runs around them with document, first byte and first word,
    /// last byte.
    Runs(Around, Sorter<Run>),
    Cuts(Sorted<Cut>),
}

/// A run: its hash; its document and first word; its first and last byte.
type Run = (u128, (u64, u32), (u32, u32));

/// The repeated anchors, read along with the documents.
struct Around {
    anchors: Sorted<(u64, u32)>,
    next: Option<(u64, u32)>,
}

impl Substrings {
    pub fn new(min_words: u64, folder: &Path, memory: u64) -> Substrings {
        let anchors = Sorter::new(folder, "anchors", memory);
        Substrings {
            folder: folder.to_path_buf(),
            memory,
            min_words: min_words as usize,
            look: Look::Anchors(anchors),
        }
    }

    /// Words of which an anchor is the hash.
    fn anchor_words(&self) -> usize {
        self.min_words.div_ceil(2)
    }

    fn row(&mut self, row: Row) -> Result<(), Error> {
        if matches!(row.kind.class, Class::Code | Class::Data) {
            return Ok(());
        }
        let (min_words, anchor_words) = (self.min_words, self.anchor_words());
        match &mut self.look {
            Look::Anchors(sorter) => {
                let hashed = Hashed::of(row.text, false);
                if hashed.len() < min_words {
                    return Ok(());
                }
                let hashes: Vec<u64> = (0..=hashed.len() - anchor_words)
                    .map(|first| xxh3_64(hashed.words(first, anchor_words)))
                    .collect();
                for at in winnow(&hashes, min_words - anchor_words + 1) {
                    sorter.push((hashes[at], row.ordinal, at as u32))?;
                }
            }
            Look::Runs(around, sorter) => {
                let anchors = around.of(row.ordinal)?;
                if anchors.is_empty() {
                    return Ok(());
                }
                let hashed = Hashed::of(row.text, true);
                let mut from = 0;
                for anchor in anchors {
                    let anchor = anchor as usize;
                    let last = anchor.min(hashed.len() - min_words);
                    for first in (anchor + anchor_words).saturating_sub(min_words).max(from)..=last {
                        let hash = xxh3_128(hashed.words(first, min_words));
                        let bytes = (hashed.places[first].0, hashed.places[first + min_words - 1].1);
                        sorter.push((hash, (row.ordinal, first as u32), bytes))?;
                    }
                    from = last + 1;
                }
            }
            Look::Cuts(_) => {}
        }
        Ok(())
    }
}

impl CorpusRule for Substrings {
    fn label(&self) -> &'static str {
        match &self.look {
            Look::Anchors(_) => "looking for repeated runs",
            _ => "comparing repeated runs",
        }
    }

    fn look(&mut self, batches: &[RecordBatch]) -> Result<(), Error> {
        batches.iter().try_for_each(|batch| Rows::of(batch, NAME)?.iter().try_for_each(|row| self.row(row)))
    }

    fn end_look(&mut self) -> Result<bool, Error> {
        let half = self.memory / 2;
        let empty = Look::Cuts(Sorter::new(&self.folder, "none", 0).finish()?);
        match std::mem::replace(&mut self.look, empty) {
            Look::Anchors(anchors) => {
                let mut repeated = Sorter::new(&self.folder, "repeated", half);
                let mut former = None;
                let mut is_counted = false;
                for record in anchors.finish()? {
                    let (hash, document, word) = record?;
                    match former {
                        Some((of, document, word)) if of == hash && !is_counted => {
                            repeated.push((document, word))?;
                            is_counted = true;
                        }
                        Some((of, _, _)) if of == hash => {}
                        _ => is_counted = false,
                    }
                    if is_counted {
                        repeated.push((document, word))?;
                    }
                    former = Some((hash, document, word));
                }
                let mut anchors = repeated.finish()?;
                let next = anchors.next_record()?;
                let runs = Sorter::new(&self.folder, "substrings", half);
                self.look = Look::Runs(Around { anchors, next }, runs);
                Ok(next.is_some())
            }
            Look::Runs(around, runs) => {
                drop(around);
                self.look = Look::Cuts(self.cuts(runs)?);
                Ok(false)
            }
            cuts @ Look::Cuts(_) => {
                self.look = cuts;
                Ok(false)
            }
        }
    }

    fn step(self: Box<Self>) -> Result<Box<dyn Step>, Error> {
        let path = self.folder.join("cuts-000000.run");
        let cuts = match self.look {
            Look::Cuts(cuts) => cuts,
            // Nothing was repeated.
            _ => Sorter::new(&self.folder, "none", 0).finish()?,
        };
        Ok(Box::new(Cutting(Lookup::write(path, cuts, |cut| cut.0)?)))
    }
}

impl Substrings {
    /// What is to be cut: all but the first of equal runs.
    fn cuts(&self, runs: Sorter<Run>) -> Result<Sorted<Cut>, Error> {
        let overlap: Combine<Cut> = |cut, later| {
            let joined = cut.0 == later.0 && later.1 <= cut.2;
            if joined {
                cut.2 = cut.2.max(later.2);
            }
            joined
        };
        let mut cuts = Sorter::combining(&self.folder, "overlaps", self.memory / 2, overlap);
        let mut first: Option<Run> = None;
        for record in runs.finish()? {
            let run @ (hash, (document, word), (from, to)) = record?;
            match first {
                Some((of, (earlier, at), _)) if of == hash => {
                    // Of a run that overlaps with the first one, as in "no no no no", what is common stays.
                    let is_apart = document != earlier || word as usize >= at as usize + self.min_words;
                    if is_apart {
                        cuts.push((document, from, to))?;
                    }
                }
                _ => first = Some(run),
            }
        }
        cuts.finish()
    }
}

impl Around {
    /// The words at which repeated anchors begin in a document; documents are asked for in ascending order.
    fn of(&mut self, document: u64) -> Result<Vec<u32>, Error> {
        let mut words = Vec::new();
        while let Some((of, word)) = self.next.filter(|(of, _)| *of <= document) {
            if of == document {
                words.push(word);
            }
            self.next = self.anchors.next_record()?;
        }
        Ok(words)
    }
}

/// The hashes of a text's words, 8 bytes each, and where they stand.
struct Hashed {
    hashes: Vec<u8>,
    places: Vec<(u32, u32)>,
}

impl Hashed {
    fn of(text: &str, with_places: bool) -> Hashed {
        let mut hashed = Hashed { hashes: Vec::with_capacity(text.len()), places: Vec::new() };
        for word in words(text).map(|word| word.text) {
            hashed.hashes.extend_from_slice(&xxh3_64(word.as_bytes()).to_le_bytes());
            if with_places {
                let from = word.as_ptr().addr() - text.as_ptr().addr();
                hashed.places.push((from as u32, (from + word.len()) as u32));
            }
        }
        hashed
    }

    fn len(&self) -> usize {
        self.hashes.len() / 8
    }

    fn words(&self, first: usize, count: usize) -> &[u8] {
        &self.hashes[first * 8..(first + count) * 8]
    }
}

/// The places of the least of each `window` neighbours, the last of equal ones; each place once, ascending. With fewer
/// than `window` of them there is none.
fn winnow(hashes: &[u64], window: usize) -> Vec<usize> {
    let mut chosen = Vec::new();
    // Candidates with ascending hashes: each is less than all behind it.
    let mut candidates = std::collections::VecDeque::new();
    for (at, hash) in hashes.iter().enumerate() {
        while candidates.back().is_some_and(|&back: &usize| hashes[back] >= *hash) {
            candidates.pop_back();
        }
        candidates.push_back(at);
        if candidates.front().is_some_and(|&front| front + window <= at) {
            candidates.pop_front();
        }
        if let Some(&least) = candidates.front().filter(|_| at + 1 >= window)
            && chosen.last() != Some(&least)
        {
            chosen.push(least);
        }
    }
    chosen
}

/// The step that cuts.
struct Cutting(Lookup<Cut>);

impl Step for Cutting {
    fn name(&self) -> &'static str {
        NAME
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut removed = Removed::default();
        let rows = Rows::of(&batch, NAME)?;
        let Some((first, last)) = rows.span() else {
            return Ok((batch, removed));
        };
        let cuts = self.0.between(first, last)?;
        if cuts.is_empty() {
            return Ok((batch, removed));
        }
        let mut cuts = cuts.into_iter().peekable();
        let mut texts = StringBuilder::new();
        let mut keep = Vec::with_capacity(batch.num_rows());
        for row in rows.iter() {
            while cuts.next_if(|cut| cut.0 < row.ordinal).is_some() {}
            let mut left = String::new();
            let (mut at, mut spans) = (0, 0u64);
            while let Some((_, from, to)) = cuts.next_if(|cut| cut.0 == row.ordinal) {
                append(&mut left, &row.text[at..from as usize]);
                at = to as usize;
                spans += 1;
            }
            if spans == 0 {
                texts.append_value(row.text);
                keep.push(true);
                continue;
            }
            append(&mut left, &row.text[at..]);
            let stays = !left.trim().is_empty();
            if stays {
                *removed.edits.entry("repeated_runs".to_string()).or_default() += spans;
            } else {
                removed.count("all_repeated", row);
            }
            texts.append_value(left);
            keep.push(stays);
        }
        let batch = batch::with_column(&batch, NAME, "text", Arc::new(texts.finish()))?;
        Ok((batch::keep_rows(&batch, NAME, keep)?, removed))
    }
}

/// Joins what is left on both sides of a cut: of the blanks on both sides those with more line breaks stay.
fn append(left: &mut String, more: &str) {
    let bare = left.trim_end().len();
    let breaks = |blanks: &str| blanks.matches('\n').count();
    let leading = &more[..more.len() - more.trim_start().len()];
    if !left.is_empty() && breaks(leading) > breaks(&left[bare..]) {
        left.truncate(bare);
        left.push_str(more);
    } else if left.len() > bare || left.is_empty() {
        left.push_str(more.trim_start());
    } else {
        left.push_str(more);
    }
}

#[cfg(test)]
#[path = "substring_tests.rs"]
mod tests;
