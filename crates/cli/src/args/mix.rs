//! The options of `alti mix search` and `alti pack`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Choose how much of each source a model is trained on.
#[derive(Debug, Subcommand)]
pub enum Mix {
    Search(MixSearch),
}

/// Search for the mixture of sources that small models learn best from.
#[derive(Debug, Args)]
#[command(
    long_about = "Search for the mixture of sources that small models learn best from.\n\n\
        Small proxy models are trained on mixtures drawn around the sources' natural shares, each measured in bits per byte on what \
        every source held out. A law of the loss over the shares is fitted (RegMix's linear regression, or the exponential of data mixing \
        laws, whichever foretells left-out runs better), and the mixture is proposed for which it is least, with the foretold loss \
        and the interval in which a training on it ends in nine of ten cases.\n\n\
        Each candidate's result is kept in OUT/candidates; stopped or killed and run again, the same command goes on. OUT/mixture.json \
        has the proposal and all figures, OUT/mixture.svg shows them. What is best for small models on few tokens need not be best for \
        large ones: the law says what it was fitted to, and nothing of scale.",
    after_long_help = "Examples:\n  \
        alti mix search web=runs/web code=runs/code books=runs/books --tokenizer runs/web --out mix\n  \
        alti mix search web=web/documents code=code/documents --tokenizer tok --candidates 48 --size tiny --target code=1 --out mix\n  \
        alti mix search a=runs/a b=runs/b --tokenizer runs/a --for-tokens 2000000000 --max-epochs 4 --out mix\n  \
        alti pack web=runs/web code=runs/code books=runs/books --tokenizer runs/web --mixture mix/mixture.json --tokens 2000000000 --out tokens"
)]
pub struct MixSearch {
    /// A source as NAME=PATH: a run, or a folder of documents that curation wrote.
    #[arg(value_name = "NAME=PATH", required = true, num_args = 2.., value_parser = source)]
    pub sources: Vec<(String, PathBuf)>,
    /// A run, or a tokenizer's folder.
    #[arg(long, value_name = "PATH")]
    pub tokenizer: PathBuf,
    /// The folder of candidates and the proposal; it is continued if it exists.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Mixtures to train on, the natural one among them.
    #[arg(long, value_name = "N", default_value = "24")]
    pub candidates: NonZeroUsize,
    /// The size of the proxy models.
    #[arg(long, value_name = "SIZE", default_value = "nano")]
    pub size: String,
    /// What a source's held-out bits per byte weigh in the loss, as NAME=W; repeated, the others then weigh nothing. [default: all
    /// alike]
    #[arg(long, value_name = "NAME=W", value_parser = weight)]
    pub target: Vec<(String, f64)>,
    /// How close to the natural shares candidates are: the sum of the parameters of Dirichlet's distribution. [default: the
    /// number of sources]
    #[arg(long, value_name = "A")]
    pub concentration: Option<f64>,
    /// The tokens of the training that the mixture is for; with --max-epochs it bounds the share of small sources.
    #[arg(long, value_name = "N")]
    pub for_tokens: Option<u64>,
    /// How often a source may be seen in that training.
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    pub max_epochs: f64,
    /// What everything random follows from.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// One setting of the proxies, as in a recipe, such as train.tokens=\"2M tokens\"; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Pack documents of several sources into token shards by a mixture.
#[derive(Debug, Args)]
#[command(
    long_about = "Pack documents of several sources into token shards by a mixture.\n\n\
        Each source gives its share of the tokens, small ones in several epochs; no document comes a second time before all of its source \
        have come once. The order is shuffled, has about the mixture in every stretch, and follows from the seed alone. OUT holds train.bin \
        and .idx, heldout.bin and .idx (Megatron's format), and pack.json. Each source's own shards are kept in OUT.sources; killed and run \
        again, what is complete there is not made again.",
    after_long_help = "Examples:\n  \
        alti pack web=runs/web code=runs/code --tokenizer runs/web --mixture web=3 --mixture code=1 --tokens 400000000 --out tokens\n  \
        alti pack web=runs/web code=runs/code --tokenizer runs/web --mixture mix/mixture.json --tokens 400000000 --out tokens"
)]
pub struct PackArgs {
    /// A source as NAME=PATH: a run, or a folder of documents that curation wrote.
    #[arg(value_name = "NAME=PATH", required = true, value_parser = source)]
    pub sources: Vec<(String, PathBuf)>,
    /// A run, or a tokenizer's folder.
    #[arg(long, value_name = "PATH")]
    pub tokenizer: PathBuf,
    /// The file that `alti mix search` wrote, or a source's weight as NAME=W, repeated; weights need not sum to 1. [default: the
    /// sources' natural shares]
    #[arg(long, value_name = "FILE|NAME=W")]
    pub mixture: Vec<String>,
    /// Tokens to pack. [default: those of all sources together]
    #[arg(long, value_name = "N")]
    pub tokens: Option<u64>,
    /// How often a source may be seen.
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    pub max_epochs: f64,
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What the order follows from.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,
}

fn source(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("write a name and a path, such as code=runs/code")?;
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(letter) || path.is_empty() {
        return Err(format!("{name:?} is no name: letters, digits, _ and -"));
    }
    Ok((name.to_owned(), path.into()))
}

/// A name and a weight.
pub fn weight(text: &str) -> Result<(String, f64), String> {
    let (name, weight) = text.split_once('=').ok_or("write a name and a weight, such as code=2")?;
    let weight: f64 = weight.parse().map_err(|_| format!("{weight:?} is not a number"))?;
    if !(weight >= 0.0 && weight.is_finite()) {
        return Err(format!("{weight} is no weight: a number from 0 on"));
    }
    Ok((name.to_owned(), weight))
}
