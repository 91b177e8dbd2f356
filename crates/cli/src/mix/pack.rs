//! `alti pack`: token shards of several sources in one order, by a mixture.

use std::path::Path;

use ledger::seed::Seed;
use serde_json::{Value, json};

use super::sources::{Packed, natural, pack_all, shares};
use crate::args::{PackArgs, weight};
use crate::errors::Error;
use crate::open;
use crate::progress::Shown;
use crate::report::scale::{count, figures, percent, short};
use crate::resumable::beside;

/// `alti pack`.
pub fn pack(args: &PackArgs, shown: &Shown) -> Result<(), Error> {
    let (tokenizer, digest) = open::tokenizer(&args.tokenizer)?;
    let sources = pack_all(&args.sources, (&tokenizer, &digest), &beside(&args.out, "sources")?, shown)?;
    let shares = mixture(args, &sources)?;
    let all: u64 = sources.iter().map(|source| source.train.total_tokens()).sum();
    let tokens = args.tokens.unwrap_or(all);
    for (source, share) in sources.iter().zip(&shares) {
        let epochs = share * tokens as f64 / source.train.total_tokens() as f64;
        if epochs > args.max_epochs * 1.01 {
            let most = args.max_epochs * source.train.total_tokens() as f64 / share;
            return Err(Error::Usage {
                message: format!(
                    "{} would be seen {} times in {} tokens, more than --max-epochs {}",
                    source.name,
                    figures(epochs),
                    count(tokens),
                    args.max_epochs
                ),
                hint: format!(
                    "pack at most {} tokens, weigh it less, or allow more epochs",
                    count(most as u64)
                ),
            });
        }
    }
    let folders: Vec<&Path> = sources.iter().map(|source| source.folder.as_path()).collect();
    let (summary, taken) = corpus::pack_blend(
        &folders,
        &shares,
        tokens,
        tokenizer.vocab_size(),
        Seed(args.seed),
        &args.out,
        shown,
    )?;
    let of: serde_json::Map<String, Value> =
        sources.iter().zip(&taken).map(|(source, taken)| (source.name.clone(), json!(taken))).collect();
    let facts = json!({"seed": args.seed, "tokens": tokens, "sources": of, "packed": summary});
    let path = args.out.join("pack.json");
    let bytes = serde_json::to_vec_pretty(&facts).map_err(|error| Error::io("write", &path)(error.into()))?;
    ledger::atomic::write(&path, &bytes)?;
    anstream::println!("  source               share      tokens  documents   epochs");
    for (source, taken) in sources.iter().zip(&taken) {
        anstream::println!(
            "  {:<16} {:>9} {:>11} {:>10} {:>8}",
            source.name,
            percent(taken.tokens as f64 / summary.train.tokens.max(1) as f64),
            short(taken.tokens as f64),
            count(taken.documents),
            figures(taken.epochs)
        );
    }
    shown.line(&format!("{}: {} tokens to train on", args.out.display(), short(summary.train.tokens as f64)));
    Ok(())
}

fn mixture(args: &PackArgs, sources: &[Packed]) -> Result<Vec<f64>, Error> {
    let usage = |message: String| Error::Usage {
        message,
        hint: "give --mixture the file that `alti mix search` wrote, or NAME=W for each source".to_owned(),
    };
    match &args.mixture[..] {
        [] => Ok(natural(sources)),
        [file] if Path::new(file).is_file() => {
            let path = Path::new(file);
            let text = std::fs::read(path).map_err(Error::io("read", path))?;
            let value: Value = serde_json::from_slice(&text)
                .map_err(|error| usage(format!("{file} is not JSON: {error}")))?;
            let shares_of =
                value["mixture"].as_object().ok_or_else(|| usage(format!("{file} has no mixture")))?;
            let weights: Option<Vec<(String, f64)>> = shares_of
                .iter()
                .map(|(name, share)| Some((name.clone(), share.as_f64().filter(|s| *s >= 0.0)?)))
                .collect();
            let weights =
                weights.ok_or_else(|| usage(format!("{file} has a share that is no number from 0 on")))?;
            shares(sources, &weights, file)
        }
        given => {
            let weights: Vec<(String, f64)> = given
                .iter()
                .map(|text| weight(text).map_err(|reason| usage(format!("--mixture {text}: {reason}"))))
                .collect::<Result<_, Error>>()?;
            shares(sources, &weights, "--mixture")
        }
    }
}
