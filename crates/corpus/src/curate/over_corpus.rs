//! Rules that must have seen the whole corpus before they can judge a document, such as how often a line occurs in it. Each
//! looks at the documents that the plan and the rules before it leave, in their order, and becomes a step, which the
//! second pass applies. What a rule counts is its own matter, and so is that it keeps to its memory (see
//! [`crate::spill`]).

use std::path::Path;

use arrow_array::RecordBatch;
use ledger::progress::{Progress, Unit};

use super::Options;
use super::plan::Plan;
use super::substring::Substrings;
use super::survivors::{self, Survivors};
use super::work::Work;
use crate::settings::RemovedSamples;
use crate::steps::Step;
use crate::steps::line_dedup::LineCounts;
use crate::steps::token_distribution::TokenCounts;
use crate::{Error, Settings};

/// A rule over the corpus.
pub(crate) trait CorpusRule: Send {
    /// What a person reads while it looks, such as "counting lines".
    fn label(&self) -> &'static str;

    /// Looks at the next documents, a batch of at least the columns of [`crate::batch::working_schema`].
    ///
    /// # Errors
    /// What it cannot read or write.
    fn look(&mut self, batch: &RecordBatch) -> Result<(), Error>;

    /// All documents were seen; true asks to see them once more.
    ///
    /// # Errors
    /// As [`CorpusRule::look`].
    fn end_look(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    /// The step that follows from what was seen.
    ///
    /// # Errors
    /// As [`CorpusRule::look`].
    fn step(self: Box<Self>) -> Result<Box<dyn Step>, Error>;
}

/// The rules that the settings ask for, in the order in which they look and are applied. Each may use `memory` bytes and
/// write runs of other names than the others' to `folder`.
fn rules(settings: &Settings, folder: &Path, memory: u64) -> Result<Vec<Box<dyn CorpusRule>>, Error> {
    let mut rules: Vec<Box<dyn CorpusRule>> = Vec::new();
    if settings.line_dedup.enabled {
        rules.push(Box::new(LineCounts::new(&settings.line_dedup, folder, memory)));
    }
    if settings.substring.enabled {
        rules.push(Box::new(Substrings::new(settings.substring.min_words, folder, memory)));
    }
    if settings.token_distribution.enabled {
        rules.push(Box::new(TokenCounts::new(&settings.token_distribution)?));
    }
    Ok(rules)
}

impl CorpusRule for LineCounts {
    fn label(&self) -> &'static str {
        "counting lines"
    }

    fn look(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.add(LineCounts::lines(batch)?)
    }

    fn step(self: Box<Self>) -> Result<Box<dyn Step>, Error> {
        Ok(Box::new(self.finish()?))
    }
}

impl CorpusRule for TokenCounts {
    fn label(&self) -> &'static str {
        "counting tokens"
    }

    fn look(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.add(std::slice::from_ref(batch))
    }

    fn step(self: Box<Self>) -> Result<Box<dyn Step>, Error> {
        Ok(Box::new(self.finish()))
    }
}

/// Lets all rules look, one after another, and returns their steps.
pub(super) fn look(
    work: &Work,
    plan: &Plan,
    settings: &Settings,
    progress: &dyn Progress,
    options: &Options,
) -> Result<Vec<Box<dyn Step>>, Error> {
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    // The second pass, which removes, shows what.
    let nothing = RemovedSamples { first: 0, fraction: 0.0, ..settings.removed.clone() };
    for mut rule in rules(settings, work.folder(), options.memory / 2)? {
        loop {
            let task = progress.begin(rule.label(), Some(plan.documents()), Unit::Documents);
            let left = |survivors: Survivors| Ok(survivors.after);
            let take = |batch| rule.look(&batch);
            survivors::each(work, plan, &steps, &nothing, task.as_ref(), options, left, take)?;
            if !rule.end_look()? {
                break;
            }
        }
        steps.push(rule.step()?);
    }
    Ok(steps)
}
