//! The options of the verbs of `alti tokenizer` that look at what tokenizers do.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What the names of special tokens in a text mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Special {
    /// They are text like any other.
    #[default]
    Text,
    /// They are the special tokens.
    Ids,
    /// They are an error.
    Refuse,
}

/// Show what the tokens of a text are.
#[derive(Debug, Args)]
#[command(
    long_about = "Show what the tokens of a text are.\n\n\
        The text appears with each token in another colour, or with │ between tokens where there are no colours (NO_COLOR, \
        --color never, a file). Below it each token has its number and its bytes; what is no text by itself, such as a \
        part of a character, is shown as its bytes: ‹E2 82›. Any tokenizer will do that `alti tokenizer encode` takes.",
    after_long_help = "Examples:\n  \
        alti tokenizer explain 'How many llamas?'                     with the tokenizer of runs/tiny\n  \
        alti tokenizer explain tokenizer.model 'Ein Lama, zwei Lamas.'\n  \
        alti tokenizer explain gpt2/tokenizer.json - < README.md | less -R\n  \
        alti tokenizer explain runs/tiny '<|eot_id|>' --special ids --json | jq '.tokens[].id'"
)]
pub struct TokenizerExplain {
    /// The text; - reads standard input. Before it, a run, a tokenizer's folder, or a tokenizer.json or tokenizer.model.
    /// [default: that of runs/tiny]
    #[arg(value_names = ["TOKENIZER", "TEXT"], required = true, num_args = 1..=2)]
    pub words: Vec<String>,
    /// What the names of special tokens in the text mean: text, ids or refuse.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT", hide_possible_values = true)]
    pub special: Special,
    /// Print the tokens as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Compare how many tokens two tokenizers need, by language and domain.
#[derive(Debug, Args)]
#[command(
    long_about = "Compare how many tokens two tokenizers need, by language and domain.\n\n\
        Each line of the table is a domain (prose, web, code, …) and a language in it: bytes a token and tokens a word \
        (fertility) of both, and how many fewer or more tokens A needs than B. A word is what lies between spaces; in \
        scripts without spaces each character is one. Below stands which share of each vocabulary no text had a use for, \
        which means something only for texts that are many and various.\n\n\
        A source is a folder, file or glob as for `alti raise`. Its language is detected and its domain told by the kind of \
        file, unless they are given: --source DOMAIN=PATH or --source DOMAIN/LANGUAGE=PATH.",
    after_long_help = "Examples:\n  \
        alti tokenizer compare runs/tiny llama3/tokenizer.model --source README.md --source src\n  \
        alti tokenizer compare llama3/tokenizer.model llama2/tokenizer.model --source papers/en=arxiv.jsonl.gz \\\n      \
            --source sentences/de=de.txt --source sentences/hu=hu.txt --plot compared.html\n  \
        alti tokenizer compare a/tokenizer.json b/tokenizer.json --source data.parquet --json | jq '.rows[] | [.language, .change]'"
)]
pub struct TokenizerCompare {
    /// The tokenizer that is judged: a run, a tokenizer's folder, or a tokenizer.json or tokenizer.model.
    #[arg(value_name = "A")]
    pub tokenizer: PathBuf,
    /// The tokenizer that it is held against.
    #[arg(value_name = "B")]
    pub against: PathBuf,
    /// A folder, file, address or glob to read, after DOMAIN= or DOMAIN/LANGUAGE= if these are known; may be repeated.
    #[arg(long = "source", value_name = "[DOMAIN[/LANGUAGE]=]PATH", required = true, num_args = 1..)]
    pub sources: Vec<String>,
    /// Draw the differences into this file, a page or a picture by its ending: .html or .svg.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}
