//! Rules that must have seen the whole corpus before they can judge a document, such as how often a line occurs in it. Each
//! looks at the documents that the plan and the rules before it leave, in their order, and becomes a step, which the
//! second pass applies. What a rule counts is its own matter, and so is that it keeps to its memory (see
//! [`crate::spill`]).

use std::path::Path;

use arrow_array::RecordBatch;
use ledger::progress::{Progress, Unit};
use ledger::seed::Seed;
use rayon::prelude::*;

use super::Options;
use super::first_pass::breadth;
use super::plan::Plan;
use super::semantic::Semantic;
use super::substring::Substrings;
use super::survivors::{self, Survivors};
use super::work::Work;
use crate::settings::RemovedSamples;
use crate::spill::Sorted;
use crate::steps::Step;
use crate::steps::line_dedup::{BatchLines, LineCounts};
use crate::steps::token_distribution::TokenCounts;
use crate::{Error, Settings};

/// A rule over the corpus.
pub(crate) trait CorpusRule: Send {
    /// What a person reads while it looks, such as "counting lines".
    fn label(&self) -> &'static str;

    /// Looks at the next documents, batches of at least the columns of [`crate::batch::working_schema`]: some at once, so that
    /// what does not depend on their order can be done on all threads of rayon's current pool.
    ///
    /// # Errors
    /// What it cannot read or write.
    fn look(&mut self, batches: &[RecordBatch]) -> Result<(), Error>;

    /// All documents were seen; true asks to see them once more.
    ///
    /// # Errors
    /// As [`CorpusRule::look`].
    fn end_look(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    /// The ordinals of the documents that stand for others by this rule, and for how many; asked once, before the step.
    fn stand_for(&mut self) -> Option<Sorted<(u64, u32)>> {
        None
    }

    /// The step that follows from what was seen.
    ///
    /// # Errors
    /// As [`CorpusRule::look`].
    fn step(self: Box<Self>) -> Result<Box<dyn Step>, Error>;
}

/// The rules that the settings ask for, in the order in which they look and are applied. Each may use `memory` bytes and
/// write runs of other names than the others' to `folder`.
fn rules<'a>(
    settings: &Settings,
    folder: &Path,
    seed: Seed,
    progress: &'a dyn Progress,
    options: &'a Options<'a>,
) -> Result<Vec<Box<dyn CorpusRule + 'a>>, Error> {
    let memory = options.memory / 2;
    let mut rules: Vec<Box<dyn CorpusRule + 'a>> = Vec::new();
    if settings.line_dedup.enabled {
        rules.push(Box::new(LineCounts::new(&settings.line_dedup, folder, memory)));
    }
    if settings.substring.enabled {
        rules.push(Box::new(Substrings::new(settings.substring.min_words, folder, memory)));
    }
    if settings.token_distribution.enabled {
        rules.push(Box::new(TokenCounts::new(&settings.token_distribution)?));
    }
    if settings.semantic.enabled {
        // The last, for what it looks at costs most.
        rules.push(Box::new(Semantic::new(&settings.semantic, (folder, memory), seed, progress, options)?));
    }
    Ok(rules)
}

impl CorpusRule for LineCounts {
    fn label(&self) -> &'static str {
        "counting lines"
    }

    fn look(&mut self, batches: &[RecordBatch]) -> Result<(), Error> {
        let lines: Vec<BatchLines> = batches.par_iter().map(LineCounts::lines).collect::<Result<_, _>>()?;
        lines.into_iter().try_for_each(|lines| self.add(lines))
    }

    fn step(self: Box<Self>) -> Result<Box<dyn Step>, Error> {
        Ok(Box::new(self.finish()?))
    }
}

impl CorpusRule for TokenCounts {
    fn label(&self) -> &'static str {
        "counting tokens"
    }

    fn look(&mut self, batches: &[RecordBatch]) -> Result<(), Error> {
        self.add(batches)
    }

    fn step(self: Box<Self>) -> Result<Box<dyn Step>, Error> {
        Ok(Box::new(self.finish()))
    }
}

/// What follows from the rules.
pub(super) struct Ruled {
    /// Their steps.
    pub steps: Vec<Box<dyn Step>>,
    /// The ordinals of the documents that mean what others mean, and stand for so many.
    pub same_meaning: Option<Sorted<(u64, u32)>>,
}

/// Lets all rules look, one after another.
pub(super) fn look(
    work: &Work,
    plan: &Plan,
    settings: &Settings,
    seed: Seed,
    progress: &dyn Progress,
    options: &Options,
) -> Result<Ruled, Error> {
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    let mut same_meaning = None;
    // The second pass, which removes, shows what.
    let nothing = RemovedSamples { first: 0, fraction: 0.0, ..settings.removed.clone() };
    let (_, window) = breadth(options);
    for mut rule in rules(settings, work.folder(), seed, progress, options)? {
        loop {
            let task = progress.begin(rule.label(), Some(plan.documents()), Unit::Documents);
            let left = |survivors: Survivors| Ok(survivors.after);
            let mut group = Vec::with_capacity(window);
            let take = |batch| {
                group.push(batch);
                if group.len() < window { Ok(()) } else { rule.look(&std::mem::take(&mut group)) }
            };
            survivors::each(work, plan, &steps, &nothing, task.as_ref(), options, left, take)?;
            rule.look(&group)?;
            drop(task);
            if !rule.end_look()? {
                break;
            }
        }
        same_meaning = rule.stand_for().or(same_meaning);
        steps.push(rule.step()?);
    }
    Ok(Ruled { steps, same_meaning })
}
