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
//!
//! [`train`] does it all in memory. For texts of any size [`Counting`] counts pieces in bounded memory, with a work
//! folder, and [`train_on`] merges what it counted.

mod counting;
mod merges;
mod run;
mod table;
mod weights;
mod words;
mod work;

use std::sync::atomic::AtomicBool;

use ledger::progress::{Progress, Unit};
use serde::{Deserialize, Serialize};

pub use counting::{Counting, Counts, Detect, Language, Options};
pub use weights::Weights;
pub use words::Loaded;
pub use work::{Begun, Group, LeftOut, Position};

use crate::error::Error;
use crate::specials::{SPECIAL_TOKENS, SpecialNames};
use crate::tokenizer::Tokenizer;
use weights::Weighed;
use words::{Choice, Words};

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
    let mut counting = Counting::in_memory();
    let task = progress.begin("counting pieces", None, Unit::Bytes);
    for text in texts {
        counting.push(text.as_ref(), 0, Language::None, Position::default())?;
        task.advance(text.as_ref().len() as u64);
    }
    drop(task);
    let counts = counting.finish()?;
    let never = AtomicBool::new(false);
    Ok(train_on(&counts, settings, &Weights::default(), u64::MAX, progress, &never)?.tokenizer)
}

/// A tokenizer, and what it was trained on.
#[derive(Debug)]
pub struct Trained {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The pieces that were read, and what was left out of them.
    pub loaded: Loaded,
    /// Tokens of all pieces that were read, by their weighted counts.
    pub tokens: u64,
    /// What a count of one is in the figures of `loaded` and `tokens`: 1, or 65,536 where groups are weighed.
    pub one: u64,
    /// The weight of each group, in the order of [`Counts::groups`].
    pub weights: Vec<f64>,
}

/// Trains on what was counted. Pieces that would need more than `memory` bytes are left out, the rarest first; which
/// ones follows from the counts and the memory alone.
///
/// Errors as [`train`], when the counts cannot be read, and soon after `stop` was set.
pub fn train_on(
    counts: &Counts,
    settings: &Settings,
    weights: &Weights,
    memory: u64,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Trained, Error> {
    settings.validate()?;
    let weighed = weights.of(counts.groups())?;
    let job = Job { counts, settings, weighed: &weighed, memory, progress, stop };
    let digits = settings.merges_digits();
    let merged = match job.merge(digits) {
        // What is reachable is named as it will be when it is asked for, and then digits are kept apart.
        Err(Error::CorpusTooSmall { reachable, .. })
            if settings.merge_digits.is_none() && digits && reachable < Settings::DIGITS_MERGED_FROM =>
        {
            job.merge(false)?
        }
        merged => merged?,
    };
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    for &(left, right) in &merged.merges {
        tokens.push([&tokens[left as usize][..], &tokens[right as usize]].concat());
    }
    let names = SpecialNames::Llama3.list();
    let tokenizer = Tokenizer::from_tokens(tokens.iter().map(Vec::as_slice), names)?;
    Ok(Trained {
        tokenizer: tokenizer.with_merges(merged.merges),
        loaded: merged.loaded,
        tokens: merged.tokens,
        one: weighed.one,
        weights: (0..counts.groups().len()).map(|group| weighed.weight(group)).collect(),
    })
}

/// What merging needs.
struct Job<'a> {
    counts: &'a Counts,
    settings: &'a Settings,
    weighed: &'a Weighed,
    memory: u64,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
}

struct Merged {
    merges: Vec<(u32, u32)>,
    loaded: Loaded,
    tokens: u64,
}

impl Job<'_> {
    /// The split pattern makes numbers pieces of their own, so that without these no merge of digits is left.
    fn merge(&self, digits: bool) -> Result<Merged, Error> {
        let wanted = self.settings.vocab_size - Settings::MINIMUM_VOCAB_SIZE;
        let minimum = self.settings.minimum_pair_count.saturating_mul(self.weighed.one);
        let choice = Choice { weighed: self.weighed, digits, memory: self.memory };
        let (mut words, loaded) = Words::load(|| self.counts.merge(), self.counts.at_most(), choice)?;
        let task = self.progress.begin("merging pairs", Some(wanted as u64), Unit::Items);
        let found = merges::find(&mut words, wanted, minimum, task.as_ref(), self.stop)?;
        if found.merges.len() < wanted {
            return Err(Error::CorpusTooSmall {
                asked: self.settings.vocab_size,
                reachable: Settings::MINIMUM_VOCAB_SIZE + found.merges.len(),
                minimum_pair_count: self.settings.minimum_pair_count,
            });
        }
        let tokens = words.tokens(&found.lengths);
        Ok(Merged { merges: found.merges, loaded, tokens })
    }
}
