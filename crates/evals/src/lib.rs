//! Measuring a model: bits per byte on held-out documents, accuracy on held-out questions with confidence intervals,
//! and samples of what it writes.
//!
//! [`evaluate`] does all of it for one model, the same way before and after tuning; [`perplexity`](perplexity()) sets
//! models beside one another, above all quantised ones beside what they were made from. Not here: making the questions
//! (`align::tasks`) and published benchmarks.

pub mod accuracy;
pub mod bits;
mod error;
pub mod generations;
pub mod interval;
pub mod perplexity;
pub mod results;
mod settings;

pub use accuracy::{Answer, Score};
pub use bits::{BitsPerByte, bits_per_byte};
pub use error::Error;
pub use generations::{Form, Generation};
pub use interval::{Interval, wilson};
pub use perplexity::perplexity;
pub use results::Evaluation;
pub use settings::Settings;

use align::tasks::Item;
use engine::Engine;
use ledger::progress::Progress;
use ledger::seed::Seed;
use model::Weights;
use model::infer::Llama;
use std::path::Path;
use std::sync::Arc;
use tokenizer::Tokenizer;
use train::packed::Documents;

/// A model to measure, on what, and where the results go.
pub struct Job<'a> {
    /// Its name in the results: `base`, `aligned`.
    pub model: &'a str,
    /// The `[eval]` section.
    pub settings: &'a Settings,
    /// The model.
    pub weights: &'a Weights,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Held-out questions, from `align::tasks::Tasks::held_out`.
    pub items: &'a [Item],
    /// Held-out documents, tokenised; bits per byte are left out where there are none.
    pub documents: &'a dyn Documents,
    /// Arithmetic of the matrix products.
    pub precision: train::settings::Precision,
    /// The run's seed, from which continuations are drawn.
    pub seed: Seed,
    /// The folder of this model's results, which is replaced whole.
    pub out: &'a Path,
    /// Where to report.
    pub progress: &'a dyn Progress,
}

/// Measures a model and writes its results.
pub fn evaluate(job: Job) -> Result<Evaluation, Error> {
    job.settings.validate()?;
    let bits = if job.documents.is_empty() {
        job.progress.note("there are no held-out documents: bits per byte are left out");
        None
    } else {
        Some(bits_per_byte(
            job.weights,
            job.tokenizer,
            job.documents,
            job.settings,
            job.precision,
            job.progress,
        )?)
    };
    let llama = Llama::new(job.weights, job.precision.resolve(), job.weights.config.max_seq_len);
    let engine = Engine::start(Arc::new(llama), job.tokenizer.clone(), engine::Settings::default())?;
    let answers = accuracy::answers(&engine, job.items, job.settings, job.progress)?;
    let generations = generations::generations(&engine, job.settings, job.seed)?;
    engine.shutdown();
    let evaluation = Evaluation {
        model: job.model.to_owned(),
        date: ledger::clock::now(),
        bits,
        scores: accuracy::scores(job.items, &answers),
        generations,
    };
    evaluation.write(job.out, job.items, &answers, job.settings)?;
    Ok(evaluation)
}
