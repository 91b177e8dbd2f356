//! Removes documents that overlap with the evaluation texts: 13 words in a row (Brown et al. 2020, appendix C),
//! or a shorter text as a whole. Case and punctuation do not count. The whole document goes, where GPT-3 cut out
//! the overlap and 200 characters around it.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::RecordBatch;
use rustc_hash::FxHashSet;

use super::words::token_hashes;
use super::{Removed, Step, Verdict};
use crate::Error;
use crate::settings;

/// Odd, so that no word loses its place in the polynomial; any such number would do.
const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

/// The step, holding the hashes of the evaluation texts.
pub struct Decontaminate {
    /// Length in words, its n-grams' hashes; the key of the last entry is the full n-gram length.
    by_length: BTreeMap<usize, FxHashSet<u64>>,
    full_length: usize,
    /// Texts too short to be looked for inside documents.
    whole: FxHashSet<u64>,
    whole_lengths: BTreeSet<usize>,
}

impl Decontaminate {
    /// The step against these texts.
    pub fn new(settings: &settings::Decontaminate, evaluation_texts: &[String]) -> Decontaminate {
        let full_length = settings.ngram_words as usize;
        let mut step = Decontaminate {
            by_length: BTreeMap::new(),
            full_length,
            whole: FxHashSet::default(),
            whole_lengths: BTreeSet::new(),
        };
        let mut words = Vec::new();
        for text in evaluation_texts {
            words.clear();
            token_hashes(text, false, |hash| words.push(hash));
            if words.is_empty() {
                continue;
            }
            if words.len() < settings.short_min_words as usize {
                step.whole.insert(hash_of(&words));
                step.whole_lengths.insert(words.len());
            } else {
                let length = words.len().min(full_length);
                let hashes = step.by_length.entry(length).or_default();
                rolling_hashes(&words, length, |hash| {
                    hashes.insert(hash);
                    false
                });
            }
        }
        step
    }

    /// Why the document has to go, if it has to.
    pub fn overlap(&self, text: &str) -> Option<&'static str> {
        let mut words = Vec::with_capacity(text.len() / 6);
        token_hashes(text, false, |hash| words.push(hash));
        if self.whole_lengths.contains(&words.len()) && self.whole.contains(&hash_of(&words)) {
            return Some("is_an_evaluation_text");
        }
        for (&length, hashes) in self.by_length.iter().rev() {
            if rolling_hashes(&words, length, |hash| hashes.contains(&hash)) {
                let full = length == self.full_length;
                return Some(if full { "shares_an_ngram" } else { "contains_a_short_evaluation_text" });
            }
        }
        None
    }
}

impl Step for Decontaminate {
    fn name(&self) -> &'static str {
        "decontaminate"
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "GPT-3: Brown et al. 2020, appendix C"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        super::judge(batch, self.name(), |row| self.overlap(row.text).map_or(Verdict::Keep, Verdict::Remove))
    }
}

fn hash_of(words: &[u64]) -> u64 {
    words.iter().fold(0u64, |hash, word| hash.wrapping_mul(BASE).wrapping_add(*word))
}

/// Gives the hash of every run of `length` words to `stop` until it says so; returns whether it did. The hash is
/// a polynomial over the words' hashes modulo 2^64, so one multiplication moves it on by a word.
fn rolling_hashes(words: &[u64], length: usize, mut stop: impl FnMut(u64) -> bool) -> bool {
    if words.len() < length || length == 0 {
        return false;
    }
    let leaving = BASE.wrapping_pow(length as u32);
    let mut hash = hash_of(&words[..length]);
    if stop(hash) {
        return true;
    }
    for (entering, left) in words[length..].iter().zip(words) {
        hash = hash.wrapping_mul(BASE).wrapping_add(*entering).wrapping_sub(left.wrapping_mul(leaving));
        if stop(hash) {
            return true;
        }
    }
    false
}
