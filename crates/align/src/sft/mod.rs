//! Supervised fine-tuning: next-token prediction on the assistant's tokens of conversations (Llama Team 2024, "The
//! Llama 3 Herd of Models", section 4.1.3). Not rejection sampling and not preferences.

mod batches;
mod settings;
mod source;

pub use batches::{Packing, SftBatches};
pub use settings::{Plan, Settings};

use crate::tasks::Tasks;
use crate::{Error, conversations};
use corpus::registry::Package;
use ledger::progress::Progress;
use ledger::seed::Seed;
use model::Weights;
use serde_json::json;
use source::Source;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tokenizer::Tokenizer;

/// The name of the stage in metrics, events and checkpoints.
pub const STAGE: &str = "sft";

/// A base model to tune, on what, how, and where its records go.
pub struct Job<'a> {
    /// The `[sft]` section.
    pub settings: &'a Settings,
    /// The `[train]` section, of which the optimizer's, the watch's and the checkpoints' numbers count.
    pub train: &'a train::Settings,
    /// The weights to begin with.
    pub base: Weights,
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// What registry questions are about; may be empty.
    pub packages: &'a [Package],
    /// The run's seed.
    pub seed: Seed,
    /// Folder of the checkpoints.
    pub checkpoints: PathBuf,
    /// Folder of `metrics.jsonl` and `events.jsonl`.
    pub metrics: PathBuf,
    /// Where to report.
    pub progress: &'a dyn Progress,
    /// Set by another thread to end after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// How tuning ended.
#[derive(Debug)]
pub struct Outcome {
    /// The tuned weights, or where it stopped.
    pub training: train::Outcome,
    /// For the run's records and report: plan, packing, the mixture, what was skipped.
    pub summary: serde_json::Value,
}

/// Tunes a base model on generated conversations and on one's own. Goes on from the newest complete checkpoint of the
/// same job; ends with the same weights however often it was interrupted.
///
/// # Errors
/// Unusable settings, an unreadable file of conversations, or a failure in training.
pub fn sft(job: Job) -> Result<Outcome, Error> {
    let plan = job.settings.plan(&job.base.config)?;
    let tasks = Tasks::new(job.packages, job.settings.packages);
    if tasks.packages() == 0 {
        job.progress.note("no packages are known on this machine: registry questions are left out");
    }
    let (own, skipped) = own_conversations(&job.settings.conversations, job.progress)?;
    let own_count = own.len();
    let mut source = Source::new(job.settings, &tasks, own, job.seed);
    if source.is_empty() {
        return Err(Error::Settings(vec!["mixture leaves out every kind that can be generated".to_owned()]));
    }
    let batches = SftBatches::new(&mut source, job.tokenizer, &plan, job.progress)?;
    let packing = batches.packing();
    if packing.cut + packing.too_long > 0 {
        job.progress.warn(&format!(
            "{} conversations were cut and {} left out, being longer than {} tokens",
            packing.cut, packing.too_long, plan.seq_len
        ));
    }
    let kinds = tasks.kinds();
    let summary = json!({
        "packing": packing,
        "steps": plan.steps,
        "rows": plan.rows,
        "seq_len": plan.seq_len,
        "learning_rate": plan.schedule.peak,
        "packages": tasks.packages(),
        "mixture": kinds.iter().map(|kind| (kind.name(), job.settings.weight(*kind))).collect::<BTreeMap<_, _>>(),
        "own_conversations": own_count,
        "malformed": skipped,
    });
    let inputs = BTreeMap::from([("conversations".to_owned(), batches.digest())]);
    let optimizer = train::Settings { weight_decay: job.settings.weight_decay, ..job.train.clone() };
    let training = train::run(train::Job {
        stage: STAGE,
        settings: &optimizer,
        schedule: plan.schedule,
        rows: plan.rows,
        seq_len: plan.seq_len,
        accumulation: plan.accumulation,
        batches: &batches,
        inputs,
        initial: job.base,
        checkpoints: job.checkpoints,
        metrics: job.metrics,
        progress: job.progress,
        stop: job.stop,
    })?;
    Ok(Outcome { training, summary })
}

/// All files' conversations, and how many records were left out; each of the first few is named.
fn own_conversations(
    files: &[String],
    progress: &dyn Progress,
) -> Result<(Vec<Vec<tokenizer::chat::Message>>, usize), Error> {
    const NAMED: usize = 5;
    let (mut all, mut skipped) = (Vec::new(), 0);
    for file in files {
        let found = conversations::read(Path::new(file))?;
        for malformed in found.malformed.iter().take(NAMED) {
            progress.warn(&format!("skipped {malformed}"));
        }
        if found.malformed.len() > NAMED {
            progress.warn(&format!("skipped {} records of {file} in all", found.malformed.len()));
        }
        skipped += found.malformed.len();
        all.extend(found.conversations);
    }
    Ok((all, skipped))
}

#[cfg(test)]
mod tests;
