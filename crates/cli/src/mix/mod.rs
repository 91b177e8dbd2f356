//! `alti mix search`: small models on candidate mixtures, a law of their losses, a proposal. The law is `scaling`'s, the order of
//! the documents the corpus', the training `train`'s.

mod pack;
mod picture;
mod sources;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use corpus::blend::Blend;
use ledger::digest::Digest;
use ledger::progress::{Progress, Silent, Unit};
use ledger::seed::Seed;
use model::{Config, Weights};
use scaling::mixture::{Fit, Prior, Proposal, Run, Search, fit, propose};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokenizer::Tokenizer;
use train::{Job, Outcome, PackedBatches, Plan};

pub use pack::pack;

use self::sources::{Packed, natural, pack_all, shares};
use crate::args::{Mix, MixSearch};
use crate::errors::Error;
use crate::interrupt;
use crate::open;
use crate::progress::Shown;
use crate::recipe::{Given, Recipe};
use crate::report::scale::{figures, percent};
use crate::resumable::interrupted;

/// `alti mix`.
pub fn mix(verb: &Mix, shown: &Shown) -> Result<(), Error> {
    match verb {
        Mix::Search(args) => search(args, shown),
    }
}

/// A candidate that was trained, as its file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Candidate {
    /// Of all that its losses follow from.
    fingerprint: Digest,
    mixture: BTreeMap<String, f64>,
    /// Bits per byte on what each source held out.
    bits_per_byte: BTreeMap<String, f64>,
    steps: u64,
    tokens: u64,
    seconds: f64,
}

/// All that proxies have in common.
struct Proxies<'a> {
    sources: &'a [Packed],
    tokenizer: &'a Tokenizer,
    recipe: &'a Recipe,
    plan: Plan,
    seed: Seed,
    folder: PathBuf,
}

fn search(args: &MixSearch, shown: &Shown) -> Result<(), Error> {
    let recipe = Given::load(None, &args.set)?.recipe()?;
    let (tokenizer, digest) = open::tokenizer(&args.tokenizer)?;
    let plan = recipe.train.plan(args.size.parse()?)?;
    let packed = pack_all(&args.sources, (&tokenizer, &digest), &args.out.join("sources"), shown)?;
    let empty = packed.iter().find(|source| source.held_out.total_tokens() == 0);
    let target = match &args.target[..] {
        [] => vec![1.0 / packed.len() as f64; packed.len()],
        weights => shares(&packed, weights, "--target")?,
    };
    if let Some(source) = empty {
        return Err(Error::Usage {
            message: format!("the source {} held nothing out to measure on", source.name),
            hint: "curate it with curate.held_out.fraction above 0".to_owned(),
        });
    }
    let prior = prior(args, &packed);
    let seed = Seed(args.seed);
    let mixtures = prior.candidates(args.candidates.get(), seed).map_err(settings)?;
    let least = packed.len() + 1;
    if mixtures.len() < least {
        return Err(Error::Usage {
            message: format!("{} candidates cannot fit a law of {} sources", mixtures.len(), packed.len()),
            hint: format!("give --candidates at least {least}, better three times as many"),
        });
    }
    interrupt::listen("stopping behind the current step; the candidates that are done are kept");
    let folder = args.out.join("candidates");
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let proxies = Proxies { sources: &packed, tokenizer: &tokenizer, recipe: &recipe, plan, seed, folder };
    let candidates = proxies.train_all(&mixtures, shown)?;

    let runs: Vec<Run> = mixtures
        .iter()
        .zip(&candidates)
        .map(|(mixture, candidate)| {
            let losses = packed.iter().map(|source| candidate.bits_per_byte[&source.name]);
            Run {
                mixture: mixture.clone(),
                loss: losses.zip(&target).map(|(loss, weight)| loss * weight).sum(),
            }
        })
        .collect();
    let law = fit(&runs).map_err(settings)?;
    let proposal = propose(&runs, &law, &prior, Search::default(), seed).map_err(settings)?;
    write(args, &packed, &prior, &target, &candidates, &runs, &law, &proposal)?;
    anstream::print!("{}", describe(&packed, &prior, &law, &proposal, args.for_tokens));
    shown.line(&format!(
        "{}: the proposal; `{} pack … --mixture` takes it",
        args.out.join("mixture.json").display(),
        crate::program()
    ));
    Ok(())
}

fn settings(error: scaling::Error) -> Error {
    let hint =
        error.hint().unwrap_or_else(|| "correct --concentration, --for-tokens or --max-epochs".to_owned());
    Error::Usage { message: error.to_string(), hint }
}

fn prior(args: &MixSearch, sources: &[Packed]) -> Prior {
    let most = |source: &Packed| match args.for_tokens {
        None => 1.0,
        Some(tokens) => (args.max_epochs * source.train.total_tokens() as f64 / tokens as f64).min(1.0),
    };
    Prior {
        natural: natural(sources),
        concentration: args.concentration.unwrap_or(sources.len() as f64),
        most: sources.iter().map(most).collect(),
    }
}

impl Proxies<'_> {
    /// Trains on each mixture, or keeps the result of an earlier time.
    fn train_all(&self, mixtures: &[Vec<f64>], shown: &Shown) -> Result<Vec<Candidate>, Error> {
        let task = shown.begin("training candidates", Some(mixtures.len() as u64), Unit::Items);
        let mut done = Vec::with_capacity(mixtures.len());
        for (index, mixture) in mixtures.iter().enumerate() {
            let path = self.folder.join(format!("{index:04}.json"));
            let fingerprint = self.fingerprint(mixture)?;
            let kept: Option<Candidate> = std::fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .filter(|kept: &Candidate| kept.fingerprint == fingerprint);
            let candidate = match kept {
                Some(candidate) => candidate,
                None => {
                    let candidate = self.train(index, mixture, fingerprint)?;
                    let bytes = serde_json::to_vec_pretty(&candidate)
                        .map_err(|error| Error::io("write", &path)(error.into()))?;
                    ledger::atomic::write(&path, &bytes)?;
                    candidate
                }
            };
            let losses: Vec<String> = candidate
                .bits_per_byte
                .iter()
                .map(|(name, bits)| format!("{name} {}", figures(*bits)))
                .collect();
            task.advance(1);
            task.message(&format!("bits per byte: {}", losses.join(", ")));
            done.push(candidate);
        }
        Ok(done)
    }

    fn named(&self, values: impl Iterator<Item = f64>) -> BTreeMap<String, f64> {
        self.sources.iter().map(|source| source.name.clone()).zip(values).collect()
    }

    fn fingerprint(&self, mixture: &[f64]) -> Result<Digest, Error> {
        let inputs: Vec<(&str, &Digest)> =
            self.sources.iter().map(|source| (source.name.as_str(), &source.inputs)).collect();
        let (plan, model) = (&self.plan, &self.plan.model);
        let shape = (model.dim, model.layers, model.heads, model.kv_heads, model.ffn_dim);
        let steps = (plan.rows, plan.seq_len, plan.accumulation, plan.tokens);
        let eval = (self.recipe.eval.held_out_tokens, self.recipe.eval.seq_len);
        let settings = (self.recipe.train.deciding(), shape, steps, eval, self.seed.0);
        Ok(Digest::of_value(&("alti mix search 1", inputs, mixture, settings))?)
    }

    fn train(&self, index: usize, mixture: &[f64], fingerprint: Digest) -> Result<Candidate, Error> {
        let begun = Instant::now();
        let (plan, recipe) = (&self.plan, self.recipe);
        let trained = plan.steps() * plan.tokens_per_step();
        let datasets = self.sources.iter().map(|source| &source.train).collect();
        // A row more than is trained on, because the end of an order that fills no row is left out.
        let blend = Blend::new(datasets, mixture, trained + plan.seq_len as u64 + 1, self.seed)?;
        let batches = PackedBatches::new(blend, plan.seq_len, plan.rows, plan.accumulation, self.seed)?;
        let config = Config { vocab_size: self.tokenizer.vocab_size(), ..plan.model.clone() };
        let work = self.folder.join(format!("{index:04}.work"));
        let outcome = train::run(Job {
            stage: "proxy",
            settings: &recipe.train,
            schedule: plan.schedule(&recipe.train),
            rows: plan.rows,
            seq_len: plan.seq_len,
            accumulation: plan.accumulation,
            batches: &batches,
            inputs: BTreeMap::from([("candidate".to_owned(), fingerprint.clone())]),
            // The same first weights for all, so that mixtures differ in nothing else.
            initial: Weights::init(&config, &mut self.seed.stream("model.init", 0))?,
            checkpoints: work.join("checkpoints"),
            metrics: work.clone(),
            progress: &Silent,
            stop: interrupt::flag(),
        })?;
        let Outcome::Finished(done) = outcome else {
            return Err(interrupted());
        };
        let mut bits = Vec::new();
        for source in self.sources {
            let measured = evals::bits_per_byte(
                &done.weights,
                self.tokenizer,
                &source.held_out,
                &recipe.eval,
                recipe.train.precision,
                &Silent,
            )?;
            bits.push(measured.bits_per_byte);
        }
        std::fs::remove_dir_all(&work).map_err(Error::io("remove", &work))?;
        Ok(Candidate {
            fingerprint,
            mixture: self.named(mixture.iter().copied()),
            bits_per_byte: self.named(bits.into_iter()),
            steps: done.steps,
            tokens: done.tokens,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }
}

#[expect(clippy::too_many_arguments, reason = "everything that was found goes into one file")]
fn write(
    args: &MixSearch,
    sources: &[Packed],
    prior: &Prior,
    target: &[f64],
    candidates: &[Candidate],
    runs: &[Run],
    law: &Fit,
    proposal: &Proposal,
) -> Result<(), Error> {
    let named = |values: &[f64]| -> BTreeMap<&str, f64> {
        sources.iter().map(|source| source.name.as_str()).zip(values.iter().copied()).collect()
    };
    let facts = json!({
        "mixture": named(&proposal.mixture),
        "natural": named(&prior.natural),
        "most": named(&prior.most),
        "target": named(target),
        "loss": {
            "unit": "bits per byte",
            "foretold": proposal.loss,
            "low": proposal.low,
            "high": proposal.high,
            "natural": proposal.natural_loss,
            "better_in_resampled_laws": proposal.better,
        },
        "law": law,
        "size": args.size,
        "seed": args.seed,
        "concentration": prior.concentration,
        "candidates": candidates,
    });
    let path = args.out.join("mixture.json");
    let mut bytes =
        serde_json::to_vec_pretty(&facts).map_err(|error| Error::io("write", &path)(error.into()))?;
    bytes.push(b'\n');
    ledger::atomic::write(&path, &bytes)?;
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let svg = picture::draw(&names, &prior.natural, runs, law, proposal);
    ledger::atomic::write(&args.out.join("mixture.svg"), svg.as_bytes())?;
    Ok(())
}

fn describe(
    sources: &[Packed],
    prior: &Prior,
    law: &Fit,
    proposal: &Proposal,
    tokens: Option<u64>,
) -> String {
    let epochs = if tokens.is_some() { "    epochs" } else { "" };
    let mut text = format!("  source             natural   proposed{epochs}\n");
    for (index, source) in sources.iter().enumerate() {
        let (natural, share) = (prior.natural[index], proposal.mixture[index]);
        let epochs = tokens.map_or(String::new(), |tokens| {
            format!("{:>10}", figures(share * tokens as f64 / source.train.total_tokens() as f64))
        });
        text.push_str(&format!(
            "  {:<16} {:>9} {:>10}{epochs}\n",
            source.name,
            percent(natural),
            percent(share)
        ));
    }
    text.push_str(&format!(
        "law        {}; left-out runs foretold to {} bits per byte, rank correlation {:.2}\n",
        match law.law {
            scaling::mixture::Law::Linear => "linear",
            scaling::mixture::Law::Exponential => "exponential",
        },
        figures(law.left_out_error),
        law.left_out_correlation,
    ));
    text.push_str(&format!(
        "foretold   {:.4} bits per byte, {:.4} to {:.4} in nine of ten cases; {:.4} for the natural mixture\n",
        proposal.loss, proposal.low, proposal.high, proposal.natural_loss
    ));
    text.push_str(&format!(
        "better     than the natural mixture by {} of the resampled laws\n",
        percent(proposal.better)
    ));
    text
}
