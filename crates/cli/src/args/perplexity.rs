//! The options of `alti eval perplexity`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What can be measured of a model that no run need have made.
#[derive(Debug, Subcommand)]
pub enum EvalWhat {
    Perplexity(EvalPerplexity),
}

/// How well models foretell held-out text, and how far each is from the first.
#[derive(Debug, Args)]
#[command(
    long_about = "How well models foretell held-out text, and how far each is from the first.\n\n\
        Text is read in windows that slide by --stride tokens. A window begins with <|begin_of_text|>, looks back at \
        what came before, and scores its new tokens alone; each token of a text is scored once. Printed are nats a \
        token, perplexity and bits a byte; for each model of --against also the ratio of its perplexity to the \
        first's, the mean Kullback-Leibler divergence of its predictions from the first's, the divergence that 99% of \
        the tokens stay below, and how often both hold the same token for the most likely. Models are opened as chat \
        and serve open them, all at once; what is not in blocks of integers is multiplied in f32.",
    after_long_help = "Examples:\n  \
        alti eval perplexity runs/tiny --source runs/tiny\n  \
        alti eval perplexity llama-f32.gguf --against llama-q8_0.gguf llama-q4_k_m.gguf --source held-out.txt\n  \
        alti eval perplexity llama.gguf --source *.md --context 512 --stride 256 --json | jq '.models[].perplexity'"
)]
pub struct EvalPerplexity {
    /// A run, a model's folder, a GGUF file, or the name of a model that was pulled: the one that others are compared with.
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Held-out text: files of plain text, each a text of its own, or a run, whose held-out documents are taken.
    #[arg(long = "source", value_name = "FILE", required = true, num_args = 1..)]
    pub sources: Vec<PathBuf>,
    /// More models, with the same tokens: each is compared with MODEL.
    #[arg(long, value_name = "MODEL", num_args = 1..)]
    pub against: Vec<PathBuf>,
    /// Most inputs of a window. [default: 2048, or what the models have room for]
    #[arg(long, value_name = "N")]
    pub context: Option<NonZeroUsize>,
    /// New tokens of each window. [default: half of the context]
    #[arg(long, value_name = "N")]
    pub stride: Option<NonZeroUsize>,
    /// Stop after the window in which so many tokens are scored. [default: all of the text]
    #[arg(long, value_name = "N")]
    pub tokens: Option<NonZeroU64>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}
