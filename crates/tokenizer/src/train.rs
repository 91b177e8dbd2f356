//! Trains a tokenizer: byte-pair encoding (Sennrich et al. 2016, "Neural Machine Translation of Rare
//! Words with Subword Units") over the pieces of Llama 3's split pattern, starting from bytes.
//!
//! The merge with the highest count comes first; among equals the one with the smaller left id, then
//! the smaller right id. Pairs are counted wherever they are adjacent, so `aaa` holds `aa` twice.
//! Together with the order of the texts being irrelevant, this makes the result a function of the
//! texts and the settings alone, whatever the number of threads.
//!
//! A token has one pair that makes it: as long as no merge crosses its borders, the bytes between
//! them have been merged as the same bytes standing alone. So encoding by rank repeats the training.

use std::collections::BinaryHeap;

use ledger::progress::{Progress, Unit};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::specials::{SPECIAL_TOKENS, SpecialNames};
use crate::split::{pieces, stretches};
use crate::tokenizer::Tokenizer;

/// Text that is held at once while pieces are counted.
const BATCH_BYTES: usize = 32 << 20;

/// The `[tokenizer]` section of a recipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Tokens in all: 256 bytes, the merges, 256 special tokens. Llama 3 has 128,256.
    pub vocab_size: usize,
    /// A pair that occurs less often is not merged. A pair seen once says nothing about other text.
    pub minimum_pair_count: u64,
    /// Whether digits are merged into tokens of two and three, as Llama 3's are. Left open, they are from
    /// [`Settings::DIGITS_MERGED_FROM`] tokens on: a smaller vocabulary holds some of the numbers and not others, so
    /// that a model would have to learn the digits of each one by itself before it could calculate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_digits: Option<bool>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { vocab_size: 4096, minimum_pair_count: 2, merge_digits: None }
    }
}

impl Settings {
    /// The smallest vocabulary: every byte, and the special tokens.
    pub const MINIMUM_VOCAB_SIZE: usize = 256 + SPECIAL_TOKENS;
    /// The largest: eight times Llama 3's, and within what the encoder's tables hold.
    pub const MAXIMUM_VOCAB_SIZE: usize = 1 << 20;
    /// The smallest vocabulary in which digits are merged where the settings leave it open: there is room for all
    /// 1,110 numbers of up to three digits.
    pub const DIGITS_MERGED_FROM: usize = 32_768;

    /// Whether digits are merged.
    pub fn merges_digits(&self) -> bool {
        self.merge_digits.unwrap_or(self.vocab_size >= Self::DIGITS_MERGED_FROM)
    }

    /// Checks all values.
    pub fn validate(&self) -> Result<(), Error> {
        let limits = Self::MINIMUM_VOCAB_SIZE..=Self::MAXIMUM_VOCAB_SIZE;
        let mut faults = Vec::new();
        if !limits.contains(&self.vocab_size) {
            faults.push(format!(
                "vocab_size is {}, which must be from {} (256 bytes and {SPECIAL_TOKENS} special tokens) to {}",
                self.vocab_size,
                limits.start(),
                limits.end()
            ));
        }
        if self.minimum_pair_count == 0 {
            faults.push("minimum_pair_count is 0, which must be at least 1".into());
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Error::Settings { faults }),
        }
    }
}

/// Trains on `texts`, which are read once, a few at a time. Special tokens get the names of
/// Llama 3. Errors when the settings are out of limits, or when the texts do not reach the
/// vocabulary: it is never filled up with tokens that do not occur.
pub fn train(
    texts: impl IntoIterator<Item = impl AsRef<str>>,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Tokenizer, Error> {
    settings.validate()?;
    let mut counts = count_pieces(texts.into_iter(), progress);
    if !settings.merges_digits() {
        leave_digits_apart(&mut counts);
    }
    let merges = match find_merges(&counts, settings, progress) {
        // What is reachable is named as it will be when it is asked for, and then digits are kept apart.
        Err(Error::CorpusTooSmall { reachable, .. })
            if settings.merge_digits.is_none()
                && settings.merges_digits()
                && reachable < Settings::DIGITS_MERGED_FROM =>
        {
            leave_digits_apart(&mut counts);
            find_merges(&counts, settings, progress)?
        }
        found => found?,
    };
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    for &(left, right) in &merges {
        tokens.push([&tokens[left as usize][..], &tokens[right as usize]].concat());
    }
    let names = SpecialNames::Llama3.list();
    let tokenizer = Tokenizer::from_tokens(tokens.iter().map(Vec::as_slice), names)?;
    Ok(tokenizer.with_merges(merges))
}

/// Takes the numbers out: the split pattern makes them pieces of their own, so no merge of digits is left.
fn leave_digits_apart(counts: &mut Vec<(Box<str>, u64)>) {
    counts.retain(|(piece, _)| !piece.starts_with(|first: char| first.is_ascii_digit()));
}

/// All different pieces of the texts with how often they occur, sorted by their bytes.
fn count_pieces(
    mut texts: impl Iterator<Item = impl AsRef<str>>,
    progress: &dyn Progress,
) -> Vec<(Box<str>, u64)> {
    let task = progress.begin("counting pieces", None, Unit::Bytes);
    let mut counts: FxHashMap<Box<str>, u64> = FxHashMap::default();
    let mut batch = String::new();
    // Where the texts in the batch end: a piece never reaches from one text into the next.
    let mut ends = Vec::new();
    loop {
        batch.clear();
        ends.clear();
        while batch.len() < BATCH_BYTES
            && let Some(text) = texts.next()
        {
            batch.push_str(text.as_ref());
            ends.push(batch.len());
        }
        if ends.is_empty() {
            break;
        }
        count_batch(&batch, &ends, &mut counts);
        task.advance(batch.len() as u64);
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.par_sort_unstable();
    counts
}

fn count_batch(batch: &str, ends: &[usize], counts: &mut FxHashMap<Box<str>, u64>) {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let texts = starts.zip(ends).map(|(start, &end)| &batch[start..end]);
    let work: Vec<&str> = texts.flat_map(|text| stretches(text).flatten()).collect();
    let chunk = work.len().div_ceil(4 * rayon::current_num_threads()).max(1);
    let partial: Vec<FxHashMap<&str, u64>> = work
        .par_chunks(chunk)
        .map(|stretches| {
            let mut counts = FxHashMap::default();
            for piece in stretches.iter().flat_map(|stretch| pieces(stretch)) {
                *counts.entry(piece).or_default() += 1;
            }
            counts
        })
        .collect();
    for (piece, count) in partial.into_iter().flatten() {
        match counts.get_mut(piece) {
            Some(total) => *total += count,
            None => {
                counts.insert(piece.into(), count);
            }
        }
    }
}

/// The pairs of ids to merge, in order; pair `i` makes token 256 + i.
fn find_merges(
    counts: &[(Box<str>, u64)],
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Vec<(u32, u32)>, Error> {
    let wanted = settings.vocab_size - Settings::MINIMUM_VOCAB_SIZE;
    let task = progress.begin("merging pairs", Some(wanted as u64), Unit::Items);
    let mut words = Words::new(counts);
    let mut pairs = Pairs::count(&words);
    let mut merges = Vec::with_capacity(wanted);
    while merges.len() < wanted {
        let Some((pair, holders)) = pairs.take_best(settings.minimum_pair_count) else {
            return Err(Error::CorpusTooSmall {
                asked: settings.vocab_size,
                reachable: Settings::MINIMUM_VOCAB_SIZE + merges.len(),
                minimum_pair_count: settings.minimum_pair_count,
            });
        };
        let merged = (256 + merges.len()) as u32;
        merges.push(pair);
        pairs.merge(pair, merged, &holders, &mut words);
        task.advance(1);
    }
    Ok(merges)
}

/// The different pieces as they are tokenized so far.
struct Words {
    /// Tokens of all words; word `i` has `lengths[i]` of them from `starts[i]`.
    tokens: Vec<u32>,
    starts: Vec<usize>,
    lengths: Vec<u32>,
    counts: Vec<u64>,
}

impl Words {
    fn new(counts: &[(Box<str>, u64)]) -> Words {
        let mut words =
            Words { tokens: Vec::new(), starts: Vec::new(), lengths: Vec::new(), counts: Vec::new() };
        // A single byte has no pair.
        for (piece, count) in counts.iter().filter(|(piece, _)| piece.len() > 1) {
            words.starts.push(words.tokens.len());
            words.tokens.extend(piece.bytes().map(u32::from));
            // A piece lies within a run of 25,000 characters, or two such runs.
            words.lengths.push(piece.len() as u32);
            words.counts.push(*count);
        }
        words
    }

    fn word(&mut self, index: u32) -> &mut [u32] {
        let start = self.starts[index as usize];
        &mut self.tokens[start..start + self.lengths[index as usize] as usize]
    }
}

#[derive(Default)]
struct PairUse {
    count: u64,
    /// Words that may hold the pair; some no longer do.
    words: Vec<u32>,
}

impl PairUse {
    fn add(&mut self, word: u32, count: u64) {
        self.count += count;
        if self.words.last() != Some(&word) {
            self.words.push(word);
        }
    }
}

/// How often each pair of tokens is adjacent, and which is the most frequent.
struct Pairs {
    uses: FxHashMap<(u32, u32), PairUse>,
    /// Each pair with a count that it has or once had; corrected when it comes up.
    queue: BinaryHeap<Candidate>,
    changes: Changes,
}

/// Ordered by count, then by the smaller pair.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    count: u64,
    pair: std::cmp::Reverse<(u32, u32)>,
}

impl Candidate {
    fn new(pair: (u32, u32), count: u64) -> Candidate {
        Candidate { count, pair: std::cmp::Reverse(pair) }
    }
}

impl Pairs {
    fn count(words: &Words) -> Pairs {
        // At first all tokens are bytes, and a pair of bytes is an index.
        let mut uses: Vec<PairUse> = Vec::new();
        uses.resize_with(1 << 16, PairUse::default);
        for (index, &start) in words.starts.iter().enumerate() {
            let tokens = &words.tokens[start..start + words.lengths[index] as usize];
            for pair in tokens.windows(2) {
                uses[(pair[0] << 8 | pair[1]) as usize].add(index as u32, words.counts[index]);
            }
        }
        let used = uses.into_iter().enumerate().filter(|(_, pair_use)| pair_use.count > 0);
        let uses: FxHashMap<_, _> =
            used.map(|(pair, pair_use)| (((pair >> 8) as u32, (pair & 0xFF) as u32), pair_use)).collect();
        let queue = uses.iter().map(|(&pair, pair_use)| Candidate::new(pair, pair_use.count)).collect();
        Pairs { uses, queue, changes: Changes::default() }
    }

    /// Removes the most frequent pair: it and the words that hold it, if it is frequent enough.
    fn take_best(&mut self, minimum_count: u64) -> Option<((u32, u32), Vec<u32>)> {
        loop {
            let Candidate { count, pair } = self.queue.pop()?;
            // Counts of pairs in the queue only fall; new pairs are queued anew.
            let now = self.uses.get(&pair.0).map_or(0, |pair_use| pair_use.count);
            if now == count && now >= minimum_count {
                return self.uses.remove(&pair.0).map(|pair_use| (pair.0, pair_use.words));
            }
            if now >= minimum_count {
                self.queue.push(Candidate { count: now, pair });
            }
        }
    }

    /// Replaces `pair` by `merged` in the words `holders`, and corrects all counts.
    fn merge(&mut self, pair: (u32, u32), merged: u32, holders: &[u32], words: &mut Words) {
        self.changes.start(merged);
        for &index in holders {
            let count = words.counts[index as usize];
            let length = self.changes.merge_in(words.word(index), pair, merged, index, count);
            words.lengths[index as usize] = length;
        }
        let Pairs { uses, queue, changes } = self;
        let mut lose = |lost: (u32, u32), count: u64| {
            if count > 0
                && let Some(pair_use) = uses.get_mut(&lost)
            {
                pair_use.count -= count;
                if pair_use.count == 0 {
                    uses.remove(&lost);
                }
            }
        };
        for &neighbour in &changes.touched {
            let change = &mut changes.by_neighbour[neighbour as usize];
            lose((neighbour, pair.0), std::mem::take(&mut change.lost_on_left));
            lose((pair.1, neighbour), std::mem::take(&mut change.lost_on_right));
        }
        for neighbour in changes.touched.drain(..) {
            let change = std::mem::take(&mut changes.by_neighbour[neighbour as usize]);
            let gained =
                [((neighbour, merged), change.gained_on_left), ((merged, neighbour), change.gained_on_right)];
            for (pair, pair_use) in gained {
                if pair_use.count > 0 {
                    queue.push(Candidate::new(pair, pair_use.count));
                    uses.insert(pair, pair_use);
                }
            }
        }
    }
}

/// What one merge does to the counts of other pairs, by the token beside the merged pair.
#[derive(Default)]
struct Changes {
    by_neighbour: Vec<Change>,
    touched: Vec<u32>,
}

#[derive(Default)]
struct Change {
    touched: bool,
    /// Of (neighbour, left).
    lost_on_left: u64,
    /// Of (right, neighbour).
    lost_on_right: u64,
    /// Of (neighbour, merged).
    gained_on_left: PairUse,
    /// Of (merged, neighbour).
    gained_on_right: PairUse,
}

impl Changes {
    fn start(&mut self, merged: u32) {
        self.by_neighbour.resize_with(merged as usize + 1, Change::default);
    }

    fn of(&mut self, neighbour: u32) -> &mut Change {
        let change = &mut self.by_neighbour[neighbour as usize];
        if !change.touched {
            change.touched = true;
            self.touched.push(neighbour);
        }
        change
    }

    /// Merges from left to right within one word that occurs `count` times; its new length.
    fn merge_in(
        &mut self,
        word: &mut [u32],
        (left, right): (u32, u32),
        merged: u32,
        index: u32,
        count: u64,
    ) -> u32 {
        let (mut read, mut write) = (0, 0);
        while read < word.len() {
            if word[read] != left || word.get(read + 1) != Some(&right) {
                word[write] = word[read];
                (read, write) = (read + 1, write + 1);
                continue;
            }
            if write > 0 {
                let before = word[write - 1];
                if before == merged {
                    // The merge just before took this `left` for its neighbour.
                    self.of(left).gained_on_right.count -= count;
                } else {
                    self.of(before).lost_on_left += count;
                }
                self.of(before).gained_on_left.add(index, count);
            }
            if let Some(&after) = word.get(read + 2) {
                let change = self.of(after);
                change.lost_on_right += count;
                change.gained_on_right.add(index, count);
            }
            word[write] = merged;
            (read, write) = (read + 2, write + 1);
        }
        write as u32
    }
}
