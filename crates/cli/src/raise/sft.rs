//! The stage `sft`: the base model and conversations to an assistant.

use ledger::digest::Digest;
use serde_json::Value;
use tokenizer::Tokenizer;
use train::Outcome;

use super::{Context, Made, Need, Stage, pretrain};
use crate::errors::Error;
use crate::interrupt;
use crate::report::scale::{count, short};

pub struct Sft;

impl Stage for Sft {
    fn need(&self, context: &Context) -> Result<Need, Error> {
        let mut inputs = context.inputs(&[("pretrain", "base")])?;
        inputs.insert("packages".to_owned(), context.packages_digest()?);
        for path in &context.recipe.sft.conversations {
            inputs.insert(path.clone(), Digest::of_file(path.as_ref())?);
        }
        let recipe = context.recipe.resolved(&context.plan);
        let settings = (&recipe.sft, recipe.train.deciding(), context.seed.0);
        Ok(Need { inputs, settings: Digest::of_value(&settings)? })
    }

    fn work(&self, context: &Context, _need: &Need) -> Result<Made, Error> {
        let tokenizer = Tokenizer::load(&context.run.base())?;
        let outcome = align::sft::sft(align::sft::Job {
            settings: &context.recipe.sft,
            train: &context.recipe.train,
            base: model::hf::load(&context.run.base())?,
            tokenizer: &tokenizer,
            packages: context.packages()?,
            seed: context.seed,
            checkpoints: context.run.checkpoints("sft"),
            metrics: context.run.root().to_owned(),
            progress: context.shown,
            stop: interrupt::flag(),
        })?;
        let Outcome::Finished(done) = outcome.training else { return Err(context.interrupted()) };
        pretrain::export(&context.run.aligned(), &done.weights, &tokenizer)?;
        let mut summary = pretrain::summary(&done);
        if let (Value::Object(all), Value::Object(more)) = (&mut summary, outcome.summary) {
            all.extend(more);
        }
        let conversations = summary["packing"]["conversations"].as_u64().unwrap_or(0);
        let line = format!(
            "{} conversations, {} tokens, loss {:.3}",
            count(conversations),
            short(done.tokens as f64),
            done.final_loss
        );
        Ok(Made { outputs: vec!["aligned"], line, summary })
    }

    fn forget(&self, context: &Context) -> Result<(), Error> {
        pretrain::forget(&context.run.checkpoints("sft"))
    }
}
