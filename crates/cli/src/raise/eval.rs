//! The stage `eval`: both models on what they never saw, before and after tuning.

use std::sync::atomic::Ordering;

use corpus::indexed::Dataset;
use evals::{Evaluation, Form, Job};
use ledger::digest::Digest;
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;

use super::{Context, Made, Need, Stage};
use crate::errors::Error;
use crate::interrupt;
use crate::report::scale::percent;

pub struct Eval;

impl Stage for Eval {
    fn need(&self, context: &Context) -> Result<Need, Error> {
        let mut inputs = context.inputs(&[("pretrain", "base"), ("sft", "aligned"), ("pack", "tokens")])?;
        inputs.insert("packages".to_owned(), context.packages_digest()?);
        let recipe = context.recipe;
        let settings = (&recipe.eval, recipe.train.precision, recipe.sft.packages, context.seed.0);
        Ok(Need { inputs, settings: Digest::of_value(&settings)? })
    }

    fn work(&self, context: &Context, _need: &Need) -> Result<Made, Error> {
        let items = context.evaluation_items()?;
        let documents = Dataset::open(&context.run.tokens().join("heldout"))?;
        let measure = |model: &str, folder: &std::path::Path| -> Result<Evaluation, Error> {
            if interrupt::flag().load(Ordering::SeqCst) {
                return Err(context.interrupted());
            }
            Ok(evals::evaluate(Job {
                model,
                settings: &context.recipe.eval,
                weights: &model::hf::load(folder)?,
                tokenizer: &Tokenizer::load(folder)?,
                items: &items,
                documents: &documents,
                precision: context.recipe.train.precision,
                seed: context.seed,
                out: &context.run.eval().join(model),
                progress: context.shown,
            })?)
        };
        let before = measure("base", &context.run.base())?;
        let after = measure("aligned", &context.run.aligned())?;
        let samples: Vec<Value> = before
            .generations
            .iter()
            .filter(|generation| generation.form == Form::Continuation)
            .chain(after.generations.iter().filter(|generation| generation.form == Form::Answer))
            .map(|g| json!({"chat": g.form == Form::Answer, "prompt": g.prompt, "text": g.text}))
            .collect();
        let bits =
            before.bits.map_or(String::new(), |bits| format!(", {:.3} bits per byte", bits.bits_per_byte));
        Ok(Made {
            outputs: vec!["eval/base", "eval/aligned"],
            line: format!("accuracy {} before tuning, {} after{bits}", mean(&before), mean(&after)),
            summary: json!({"before": summary(&before), "after": summary(&after), "samples": samples}),
        })
    }
}

/// The mean of the kinds' accuracies.
fn mean(evaluation: &Evaluation) -> String {
    let scores = &evaluation.scores;
    percent(scores.iter().map(|score| score.accuracy).sum::<f64>() / scores.len().max(1) as f64)
}

fn summary(evaluation: &Evaluation) -> Value {
    let accuracy: Map<String, Value> = evaluation
        .scores
        .iter()
        .map(|score| {
            let value = json!({
                "correct": score.right,
                "total": score.items,
                "value": score.accuracy,
                "low": score.interval.low,
                "high": score.interval.high,
            });
            (score.kind.name().to_owned(), value)
        })
        .collect();
    json!({"bits_per_byte": evaluation.bits.map(|bits| bits.bits_per_byte), "accuracy": accuracy})
}
