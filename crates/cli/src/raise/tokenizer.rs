//! The stage `tokenizer`: documents to a vocabulary, or one that is there already; and how well smaller vocabularies would
//! compress.

use corpus::{Split, documents};
use ledger::atomic::AtomicDir;
use ledger::digest::Digest;
use serde_json::json;
use tokenizer::train::Settings;
use tokenizer::{Tokenizer, compression};

use super::{Context, Made, Need, Stage};
use crate::errors::Error;
use crate::open;
use crate::report::scale::{count, figures};

/// Held-out text on which compression is measured; a few MB settle three figures.
const MEASURED_BYTES: usize = 2 << 20;

pub struct TrainTokenizer;

impl TrainTokenizer {
    fn settings(context: &Context) -> Settings {
        let section = &context.recipe.tokenizer;
        Settings {
            vocab_size: section.vocab_size.unwrap_or(context.plan.model.vocab_size),
            minimum_pair_count: section.minimum_pair_count,
            merge_digits: section.merge_digits,
        }
    }
}

impl Stage for TrainTokenizer {
    fn need(&self, context: &Context) -> Result<Need, Error> {
        let mut inputs = context.inputs(&[("curate", "documents")])?;
        if let Some(path) = &context.recipe.tokenizer.path {
            inputs.insert("tokenizer.path".to_owned(), open::tokenizer_digest(path)?);
        }
        let settings = (Self::settings(context), context.recipe.tokenizer.max_bytes, context.seed.0);
        Ok(Need { inputs, settings: Digest::of_value(&settings)? })
    }

    fn work(&self, context: &Context, _need: &Need) -> Result<Made, Error> {
        let tokenizer = match &context.recipe.tokenizer.path {
            Some(path) => open::tokenizer(path)?.0,
            None => train(context)?,
        };
        let staged = AtomicDir::create(&context.run.tokenizer())?;
        tokenizer.save(staged.path())?;
        staged.commit()?;

        let points = measure(context, &tokenizer)?;
        let compression: Vec<_> = points
            .iter()
            .filter_map(|p| {
                Some(json!({"vocab_size": p.vocab_size, "bytes_per_token": p.bytes_per_token()?}))
            })
            .collect();
        let last = points.last().and_then(compression::Point::bytes_per_token);
        let says =
            last.map(|b| format!(", {} bytes a token on held-out text", figures(b))).unwrap_or_default();
        let from = context.recipe.tokenizer.path.as_ref();
        let from = from.map(|path| format!(" of {}", path.display())).unwrap_or_default();
        Ok(Made {
            outputs: vec!["tokenizer"],
            line: format!("{} tokens{from}{says}", count(tokenizer.vocab_size() as u64)),
            summary: json!({
                "vocab_size": tokenizer.vocab_size(),
                "ordinary_tokens": tokenizer.ordinary_tokens(),
                "compression": compression,
                "path": context.recipe.tokenizer.path,
            }),
        })
    }
}

/// Trains one on the run's documents.
fn train(context: &Context) -> Result<Tokenizer, Error> {
    let settings = TrainTokenizer::settings(context);
    let folder = context.run.documents();
    let whole = context.run.stage("curate").and_then(|r| r.summary["bytes"].as_u64()).unwrap_or(0);
    let share = context.recipe.tokenizer.max_bytes as f64 / whole.max(1) as f64;
    let mut rng = context.seed.stream("cli.tokenizer.sample", 0);
    let mut failed = None;
    // A sample of all sources: each document is taken with the same probability.
    let texts =
        documents(&folder, Split::Train)?.map_while(|document| document.map_err(|e| failed = Some(e)).ok());
    let texts = texts.filter(|_| share >= 1.0 || rng.uniform() < share).map(|document| document.text);
    let trained = tokenizer::train::train(texts, &settings, context.shown)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(trained)
}

/// Compression on held-out text at doubling vocabularies up to the trained one.
fn measure(context: &Context, trained: &Tokenizer) -> Result<Vec<compression::Point>, Error> {
    let mut texts = Vec::new();
    let mut size = 0;
    for document in documents(&context.run.documents(), Split::HeldOut)? {
        let document = document?;
        size += document.text.len();
        texts.push(document.text);
        if size >= MEASURED_BYTES {
            break;
        }
    }
    let specials = trained.vocab_size() - trained.ordinary_tokens();
    let mut sizes: Vec<usize> =
        (8..32).map(|power| 1usize << power).take_while(|n| *n < trained.ordinary_tokens()).collect();
    sizes.push(trained.ordinary_tokens());
    let sizes: Vec<usize> = sizes.into_iter().map(|ordinary| ordinary + specials).collect();
    Ok(compression::curve(trained, &texts, &sizes)?)
}
