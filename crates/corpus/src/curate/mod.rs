//! The way of a document through curation, room by room. The [first pass](first_pass) reads, applies the steps that look at
//! one document at a time, and leaves documents and signatures in a [work folder](work), shard by shard; the
//! [plan](plan) says which of them stay; [rules over the corpus](over_corpus) look at those together; the
//! [second pass](second_pass) writes them. What the steps do is theirs.

mod elsewhere;
#[cfg(test)]
mod elsewhere_tests;
mod first_pass;
mod layers;
mod made;
#[cfg(test)]
mod object_tests;
mod over_corpus;
pub(crate) mod pipeline;
mod plan;
mod portion;
mod second_pass;
mod semantic;
mod shard;
mod stages;
mod substring;
mod survivors;
#[cfg(test)]
mod tests;
mod work;

pub use stages::{Stage, stages};

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use ledger::atomic::AtomicDir;
use ledger::progress::{Progress, Unit};
use ledger::seed::Seed;

use crate::error::inputs as counted;
use crate::funnel::{Funnel, FunnelStep, Skipped, SkippedInput};
use crate::semantic::Embedder;
use crate::source::{self, Inputs, Source};
use crate::{Error, Settings, removed};
pub use elsewhere::Elsewhere;
pub use layers::program;
pub use made::Made;
use over_corpus::Ruled;
use plan::Plan;
pub use portion::{Job, Portion, Worker};
use second_pass::Outputs;
use work::Work;

const NAME: &str = "curate";

/// A batch ends at so much text, or so many documents.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_DOCUMENTS: usize = 1024;

/// Skipped inputs that are listed; more are only counted, lest a file of the wrong form fill the disk.
const MAX_LISTED_SKIPS: usize = 10_000;
const SKIP_EXAMPLES: usize = 20;

/// How curation goes about its work; nothing of this changes what comes out, given that the embedder is the one that the
/// settings name.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Bytes of memory to keep to, about: what is sorted and compared spills beyond. Single documents are held whole,
    /// and of each document that passed the filters 5 bytes (6 where a part of all is kept or held out).
    pub memory: u64,
    /// The folder in which the work goes on after a kill; without one it begins anew. It may exist, and is this
    /// curation's alone.
    pub work: Option<&'a Path>,
    /// Leave the work folder when all is done, the texts before the filters too, so that after a change of a rule only
    /// what depends on it is done again.
    pub keep_work: bool,
    /// Bytes of text, pages as they are, after which what was made is put on the disk: the most that a kill can cost.
    pub checkpoint_bytes: u64,
    /// Ends the work with [`Error::Stopped`] soon after it became true.
    pub stop: Option<&'a AtomicBool>,
    /// Who embeds documents, where `semantic.enabled`. What it needs for itself is beside `memory`.
    pub embedder: Option<&'a dyn Embedder>,
    /// Other processes that do the first pass, which takes nearly all the time.
    pub elsewhere: Option<&'a dyn Elsewhere>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            memory: 4_000_000_000,
            work: None,
            keep_work: false,
            checkpoint_bytes: 128 << 20,
            stop: None,
            embedder: None,
            elsewhere: None,
        }
    }
}

impl Options<'_> {
    fn go_on(&self) -> bool {
        !self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    fn check(&self) -> Result<(), Error> {
        if self.go_on() { Ok(()) } else { Err(Error::Stopped) }
    }
}

/// [`curate_with`] the default options: about 4 GB of memory, and no work folder that outlives it.
///
/// # Errors
/// As [`curate_with`].
pub fn curate(
    settings: &Settings,
    sources: &[Source],
    evaluation_texts: &[String],
    out: &Path,
    seed: Seed,
    progress: &dyn Progress,
) -> Result<Funnel, Error> {
    curate_with(settings, sources, evaluation_texts, out, seed, progress, &Options::default())
}

/// Curates the sources into the folder `out`, which then holds `train-00000.parquet` …, `heldout-00000.parquet` …,
/// `funnel.json`, `curation.json` (see [`Made`]), `skipped.jsonl`, `clusters.jsonl` (which kept documents stand for how many
/// duplicates) and `removed/` (some of the documents that each step removed). `out` is
/// replaced whole, at the end; killed before, it is as it was.
///
/// Documents that overlap with `evaluation_texts` are removed. The output depends on the sources, the settings,
/// the texts and the seed, not on the options, the number of threads or how often the work was interrupted: as many
/// threads work as rayon's current pool has, plus one that reads. With a work folder, the first pass goes on at the
/// shard where it was killed, and so does the embedding of documents, of which none is embedded twice; the plan, the rules over
/// the corpus and the second pass, which take a small part of the time, are made anew.
///
/// # Errors
/// [`Error::Settings`]; [`Error::Classifier`] or [`Error::Malformed`] when a classifier cannot be opened;
/// [`Error::NothingReadable`] when not one document could be read; [`Error::NothingKept`]
/// when none passed; [`Error::Io`], [`Error::Parquet`] or [`Error::Ledger`] when a folder cannot be written;
/// [`Error::Busy`] when another process uses the work folder; [`Error::NoEmbedder`] and [`Error::Embedding`] where documents are
/// to be embedded and cannot be; [`Error::Stopped`]. Malformed inputs are skipped and
/// counted, not errors.
pub fn curate_with(
    settings: &Settings,
    sources: &[Source],
    evaluation_texts: &[String],
    out: &Path,
    seed: Seed,
    progress: &dyn Progress,
    options: &Options,
) -> Result<Funnel, Error> {
    settings.validate()?;
    if settings.semantic.enabled && options.embedder.is_none() {
        return Err(Error::NoEmbedder);
    }
    let folder = AtomicDir::create(out)?;
    let within = folder.path().join("work");
    let work_path = options.work.unwrap_or(&within);
    // What an earlier curation wrote among the sources is not read.
    let inputs = source::expand_without(sources, settings, &[out, folder.path(), work_path])?;

    let layers = layers::layers(settings, evaluation_texts, &inputs, options)?;
    let (work, begun) = Work::open(work_path, layers)?;
    if let Some(said) = begun.message(work_path) {
        progress.note(&said);
    }
    first_pass::run(&work, &inputs, settings, evaluation_texts, progress, options)?;

    let (mut funnel, listed) = first_account(&work, inputs)?;
    if funnel.steps[0].documents_in == 0 {
        work.remove()?;
        return Err(nothing_readable(sources, &funnel));
    }
    if funnel.skipped.count > 0 {
        let example = &funnel.skipped.examples[0];
        progress.warn(&format!(
            "left out {}, such as {}: {} (listed in {})",
            counted(funnel.skipped.count),
            example.place,
            example.reason,
            out.join("skipped.jsonl").display()
        ));
    }
    let (plan, clusters) = Plan::new(&work, settings, seed, progress, options)?;
    let Ruled { steps: rules, same_meaning } =
        over_corpus::look(&work, &plan, settings, seed, progress, options)?;
    {
        let task = progress.begin("writing documents", Some(plan.documents()), Unit::Documents);
        let mut removed = removed::Writer::new(folder.path(), &settings.removed);
        for (shard, layer) in
            (0..plan.shards()).flat_map(|shard| (0..work.layers().len()).map(move |l| (shard, l)))
        {
            removed.take(&work.removed(layer, shard))?;
        }
        let removed_too = &mut removed;
        let clusters = (clusters, same_meaning);
        let outputs = Outputs { folder: folder.path(), funnel: &mut funnel, clusters, removed: removed_too };
        second_pass::write(&work, &plan, &rules, settings, outputs, task.as_ref(), options)?;
        removed.finish()?;
    }
    if funnel.train.documents + funnel.held_out.documents == 0 {
        return Err(nothing_kept(&funnel));
    }
    write_accounts(folder.path(), &funnel, &listed)?;
    made::write(folder.path(), sources, settings, seed)?;
    if options.work.is_none() {
        work.remove()?;
        folder.commit()?;
    } else {
        // Killed between the two, the next run finds the work folder and is soon done.
        folder.commit()?;
        if !options.keep_work {
            work.remove()?;
        }
    }
    Ok(funnel)
}

/// The funnel up to the end of the first pass, and the skipped places that are listed.
fn first_account(work: &Work, inputs: Inputs) -> Result<(Funnel, Vec<SkippedInput>), Error> {
    let mut funnel =
        Funnel { inputs: inputs.inputs.len() as u64, ignored: inputs.ignored, ..Funnel::default() };
    let mut count = inputs.skipped.len() as u64;
    let mut listed = inputs.skipped;
    let mut steps: Vec<FunnelStep> = Vec::new();
    work.each_account(|layer, account| {
        if layer == 0 {
            for (label, seen) in &account.ignored {
                *funnel.ignored.entry(label.clone()).or_default() += seen;
            }
            count += account.skip_count;
            let room = MAX_LISTED_SKIPS.saturating_sub(listed.len());
            listed.extend(account.skipped.iter().take(room).cloned());
        }
        for step in account.steps {
            match steps.iter_mut().find(|total| total.name == step.name) {
                Some(total) => total.merge(step),
                None => steps.push(step),
            }
        }
    })?;
    for step in work.layers().iter().flat_map(|layer| &layer.steps) {
        steps
            .iter_mut()
            .filter(|total| total.name == step.name())
            .for_each(|total| total.cite(step.as_ref()));
    }
    listed.truncate(MAX_LISTED_SKIPS);
    // Signing removes nothing and changes nothing that a person could see.
    funnel.steps = steps.into_iter().filter(|step| step.name != "sign").collect();
    funnel.skipped = Skipped { count, examples: listed.iter().take(SKIP_EXAMPLES).cloned().collect() };
    Ok((funnel, listed))
}

fn nothing_readable(sources: &[Source], funnel: &Funnel) -> Error {
    let names: Vec<String> = sources.iter().map(Source::to_string).collect();
    let mut details = match funnel.skipped.examples.first() {
        Some(input) => format!(", first {}: {}", input.place, input.reason),
        None => String::new(),
    };
    if !funnel.ignored.is_empty() {
        let kinds: Vec<String> =
            funnel.ignored.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        details.push_str(&format!(", files of kinds that are not read: {}", kinds.join(", ")));
    }
    let sources = if names.is_empty() { "an empty list of sources".into() } else { names.join(", ") };
    Error::NothingReadable { sources, skipped: funnel.skipped.count, details }
}

fn nothing_kept(funnel: &Funnel) -> Error {
    let (step, reason, count) = funnel.greatest_loss().unwrap_or(("limit", "over_limit", 0));
    Error::NothingKept {
        read: funnel.steps[0].documents_in,
        step: step.to_string(),
        reason: reason.to_string(),
        count,
    }
}

fn write_accounts(dir: &Path, funnel: &Funnel, skipped: &[SkippedInput]) -> Result<(), Error> {
    let path = dir.join("funnel.json");
    let failed = |error: serde_json::Error| Error::io("write", &path)(error.into());
    let mut json = serde_json::to_vec_pretty(funnel).map_err(failed)?;
    json.push(b'\n');
    std::fs::write(&path, json).map_err(Error::io("write", &path))?;
    let mut lines = Vec::new();
    for input in skipped {
        serde_json::to_writer(&mut lines, input).map_err(failed)?;
        lines.push(b'\n');
    }
    let path = dir.join("skipped.jsonl");
    std::fs::write(&path, lines).map_err(Error::io("write", &path))
}
