//! The stage `pretrain`: token shards to a base model.

use std::path::Path;

use corpus::indexed::Dataset;
use ledger::atomic::AtomicDir;
use ledger::digest::Digest;
use model::hf::SaveOptions;
use model::{Config, Weights};
use serde_json::{Value, json};
use tokenizer::Tokenizer;
use train::{Finished, Job, Outcome, PackedBatches};

use super::{Context, Made, Need, Stage};
use crate::errors::Error;
use crate::interrupt;
use crate::report::scale::{percent, short};

pub struct Pretrain;

impl Stage for Pretrain {
    fn need(&self, context: &Context) -> Result<Need, Error> {
        let inputs = context.inputs(&[("pack", "tokens"), ("tokenizer", "tokenizer")])?;
        let recipe = context.recipe.resolved(&context.plan);
        let settings = (&recipe.size, recipe.train.deciding(), context.seed.0);
        Ok(Need { inputs, settings: Digest::of_value(&settings)? })
    }

    fn work(&self, context: &Context, need: &Need) -> Result<Made, Error> {
        let tokenizer = Tokenizer::load(&context.run.tokenizer())?;
        let plan = &context.plan;
        let config = Config { vocab_size: tokenizer.vocab_size(), ..plan.model.clone() };
        let dataset = Dataset::open(&context.run.tokens().join("train"))?;
        let batches = PackedBatches::new(dataset, plan.seq_len, plan.rows, plan.accumulation, context.seed)?;
        let outcome = train::run(Job {
            stage: "pretrain",
            settings: &context.recipe.train,
            schedule: plan.schedule(&context.recipe.train),
            rows: plan.rows,
            seq_len: plan.seq_len,
            accumulation: plan.accumulation,
            batches: &batches,
            inputs: need.inputs.clone(),
            initial: Weights::init(&config, &mut context.seed.stream("model.init", 0))?,
            checkpoints: context.run.checkpoints("pretrain"),
            metrics: context.run.root().to_owned(),
            progress: context.shown,
            stop: interrupt::flag(),
        })?;
        let Outcome::Finished(done) = outcome else { return Err(context.interrupted()) };
        export(&context.run.base(), &done.weights, &tokenizer)?;
        Ok(Made { outputs: vec!["base"], line: line(&done), summary: summary(&done) })
    }

    fn forget(&self, context: &Context) -> Result<(), Error> {
        forget(&context.run.checkpoints("pretrain"))
    }
}

/// `6.62M parameters, 4.1M tokens, loss 2.31, 9.8K tokens/s`.
pub fn line(done: &Finished) -> String {
    format!(
        "{} parameters, {} tokens, loss {:.3}, {} tokens/s ({} of the machine's peak)",
        short(done.weights.config.parameters() as f64),
        short(done.tokens as f64),
        done.final_loss,
        short(done.tokens_per_second),
        percent(done.share_of_peak),
    )
}

/// The figures of a training stage for the report.
pub fn summary(done: &Finished) -> Value {
    let config = &done.weights.config;
    json!({
        "steps": done.steps,
        "tokens": done.tokens,
        "seconds": done.seconds,
        "final_loss": done.final_loss,
        "tokens_per_second": done.tokens_per_second,
        "share_of_peak": done.share_of_peak,
        "model": {
            "parameters": config.parameters(),
            "dim": config.dim,
            "layers": config.layers,
            "heads": config.heads,
            "kv_heads": config.kv_heads,
            "ffn_dim": config.ffn_dim,
            "vocab_size": config.vocab_size,
        },
    })
}

/// Writes a complete Hugging Face folder, whole or not at all.
pub fn export(folder: &Path, weights: &Weights, tokenizer: &Tokenizer) -> Result<(), Error> {
    let staged = AtomicDir::create(folder)?;
    let ends = vec![tokenizer.eos(), tokenizer.eot()];
    model::hf::save(staged.path(), weights, &SaveOptions::new(tokenizer.bos(), ends))?;
    tokenizer.save(staged.path())?;
    staged.commit()?;
    Ok(())
}

/// Removes what an unfinished attempt left, for a stage that begins anew.
pub fn forget(folder: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder)(error)),
        _ => Ok(()),
    }
}
