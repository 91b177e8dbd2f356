//! The steps of curation: each a function from a record batch to the rows it keeps and an account of those it
//! removed. A step holds no state between batches, so any engine that speaks Arrow can run it on any partition.
//! What needs the whole corpus (which documents are duplicates of which) is computed beside the steps and comes
//! back as [`exclude::Exclude`].

pub mod c4;
pub mod classify;
pub mod code;
pub mod decontaminate;
pub mod dirty_words;
pub mod exclude;
pub mod extract;
pub mod fineweb;
pub mod gopher_quality;
pub mod gopher_repetition;
pub mod language;
pub mod line_dedup;
mod lists;
mod markdown;
pub mod measure;
pub mod nsfw;
pub mod scrub;
pub mod sign;
pub mod token_distribution;
pub mod url;
pub(crate) mod words;

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::batch::{self, Row, Rows};
use crate::{Error, Settings};

/// One step of curation.
pub trait Step: Send + Sync {
    /// The name that the funnel shows.
    fn name(&self) -> &'static str;

    /// The paper and section that the rule behind a reason follows; empty where there is none.
    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        ""
    }

    /// Takes a batch of at least the columns of [`batch::working_schema`]; returns the rows that stay, changed
    /// or not, and the account of those that do not.
    ///
    /// # Errors
    /// [`Error::Batch`] when a column is missing or of another type. No content of a document is an error.
    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error>;
}

/// The account of what a step removed from a batch and what it replaced.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Removed {
    /// Documents removed by reason.
    pub reasons: BTreeMap<String, u64>,
    /// The first few removed documents of each reason.
    pub samples: Vec<Sample>,
    /// Changes made inside documents that stay, by what was changed.
    pub edits: BTreeMap<String, u64>,
    /// Every removed document of the batch, in order; not merged over batches.
    pub rows: Vec<RemovedRow>,
}

/// Why one document was removed.
#[derive(Debug, Clone, PartialEq)]
pub struct RemovedRow {
    /// Its ordinal.
    pub ordinal: u64,
    /// The reason, as it is counted.
    pub reason: String,
    /// What the rule measured and the bound that it breaks, where the rule measures.
    pub value: Option<(f64, f64)>,
    /// What was removed where that is a part of a document that stays; such a row is none in the account.
    pub part: Option<String>,
    /// The identity of the document that stands for it, where the rule knows.
    pub duplicate_of: Option<String>,
}

/// A removed document, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Why it was removed.
    pub reason: String,
    /// Where it came from.
    pub source: String,
    /// The beginning of its text, at most 200 characters.
    pub excerpt: String,
}

/// Samples kept for one reason.
const SAMPLES_PER_REASON: u64 = 3;

impl Removed {
    /// Counts a removed document.
    pub fn count(&mut self, reason: &str, row: Row) {
        self.count_measured(reason, row, None);
    }

    /// Counts a removed document with what was measured and the bound that it breaks.
    pub fn count_measured(&mut self, reason: &str, row: Row, value: Option<(f64, f64)>) {
        let (ordinal, reason) = (row.ordinal, reason.to_string());
        self.rows.push(RemovedRow { ordinal, reason: reason.clone(), value, part: None, duplicate_of: None });
        let count = self.reasons.entry(reason.clone()).or_default();
        *count += 1;
        if *count <= SAMPLES_PER_REASON {
            self.samples.push(Sample {
                reason,
                source: row.source.to_string(),
                excerpt: row.text.chars().take(200).collect(),
            });
        }
    }

    /// Adds the account of a later batch.
    pub fn merge(&mut self, later: Removed) {
        let mut room: BTreeMap<String, u64> = BTreeMap::new();
        for sample in later.samples {
            let already = self.reasons.get(&sample.reason).copied().unwrap_or(0);
            let taken = room.entry(sample.reason.clone()).or_insert(already.min(SAMPLES_PER_REASON));
            if *taken < SAMPLES_PER_REASON {
                *taken += 1;
                self.samples.push(sample);
            }
        }
        for (reason, count) in later.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
        for (edit, count) in later.edits {
            *self.edits.entry(edit).or_default() += count;
        }
    }
}

/// The steps that look at one document at a time, in the order in which curation applies them. Cheap steps and
/// those that remove much come first; the scrub comes after the filters, so that placeholders cannot sway them.
///
/// # Errors
/// [`Error::Io`] or [`Error::List`] when a list that the settings name cannot be read; [`Error::Classifier`],
/// [`Error::Malformed`] or [`Error::Io`] when a classifier cannot be opened.
pub fn per_document(settings: &Settings, evaluation_texts: &[String]) -> Result<Vec<Box<dyn Step>>, Error> {
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    if settings.url.enabled {
        steps.push(Box::new(url::Rules::new(&settings.url)?));
    }
    steps.push(Box::new(extract::Extract));
    steps.push(Box::new(language::DetectLanguage::new(&settings.language)));
    if settings.gopher_quality.enabled {
        steps.push(Box::new(gopher_quality::Quality(settings.gopher_quality.clone())));
    }
    if settings.gopher_repetition.enabled {
        steps.push(Box::new(gopher_repetition::Repetition(settings.gopher_repetition.clone())));
    }
    if settings.c4.enabled {
        steps.push(Box::new(c4::Rules(settings.c4.clone())));
    }
    if settings.fineweb.enabled {
        steps.push(Box::new(fineweb::Rules(settings.fineweb.clone())));
    }
    if settings.dirty_words.enabled {
        steps.push(Box::new(dirty_words::DirtyWords::new(&settings.dirty_words)?));
    }
    if settings.nsfw.enabled {
        steps.push(Box::new(nsfw::Nsfw(settings.nsfw.clone())));
    }
    if settings.code.enabled {
        steps.push(Box::new(code::Rules(settings.code.clone())));
    }
    if !settings.classifiers.is_empty() {
        steps.push(Box::new(classify::Classify::open(&settings.classifiers)?));
    }
    steps.push(Box::new(scrub::Scrub::new(&settings.scrub)));
    if settings.decontaminate.enabled && !evaluation_texts.is_empty() {
        steps.push(Box::new(decontaminate::Decontaminate::new(&settings.decontaminate, evaluation_texts)));
    }
    steps.push(Box::new(sign::Sign::new(&settings.minhash)));
    Ok(steps)
}

/// What a judging step says about one document.
enum Verdict {
    /// It stays as it is.
    Keep,
    /// It stays and its quality is at most this.
    KeepAtMost(f64),
    /// It goes, for this reason.
    Remove(&'static str),
    /// It goes, because it breaks this bound.
    RemoveMeasured(measure::Measure),
}

/// Applies a judgement to each row; the quality column takes the least margin seen (see [`measure`]).
fn judge(
    batch: RecordBatch,
    step: &'static str,
    mut verdict: impl FnMut(Row) -> Verdict,
) -> Result<(RecordBatch, Removed), Error> {
    let mut removed = Removed::default();
    let mut keep = Vec::with_capacity(batch.num_rows());
    let mut quality = Vec::with_capacity(batch.num_rows());
    for row in Rows::of(&batch, step)?.iter() {
        let mut row_quality = row.quality;
        match verdict(row) {
            Verdict::Keep => keep.push(true),
            Verdict::KeepAtMost(margin) => {
                keep.push(true);
                row_quality = Some(row_quality.map_or(margin, |quality| quality.min(margin)));
            }
            Verdict::Remove(reason) => {
                keep.push(false);
                removed.count(reason, row);
            }
            Verdict::RemoveMeasured(measure) => {
                keep.push(false);
                removed.count_measured(measure.rule, row, Some((measure.value, measure.limit())));
            }
        }
        quality.push(row_quality);
    }
    let quality = std::sync::Arc::new(arrow_array::Float64Array::from(quality));
    let batch = batch::with_column(&batch, step, "quality", quality)?;
    Ok((batch::keep_rows(&batch, step, keep)?, removed))
}

#[cfg(test)]
mod tests;
