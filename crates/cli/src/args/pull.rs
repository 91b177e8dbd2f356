//! The options of `alti pull`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

/// Fetch a model from Hugging Face's hub.
#[derive(Debug, Args)]
#[command(
    long_about = "Fetch a model from Hugging Face's hub into the cache that transformers and others share.\n\n\
        Of a repository's files those are taken that make one model: configuration, tokenizer and safetensors; or its one \
        GGUF model; or Meta's shards. Killed at any moment and run again, it goes on where it was; every file is checked \
        against the hub's checksum before it gets its name. Afterwards chat, serve, convert, inspect and eval know the \
        model by its name, and its folder is printed.\n\n\
        A gated or private model needs a token: from --token-file, from HF_TOKEN, or, for huggingface.co alone, the one \
        that `hf auth login` left. It is sent to the endpoint and to no host that the endpoint leads to.",
    after_long_help = "Examples:\n  \
        alti pull meta-llama/Llama-3.2-1B-Instruct\n  \
        alti chat meta-llama/Llama-3.2-1B-Instruct\n  \
        alti pull bartowski/Llama-3.2-1B-Instruct-GGUF --include '*Q4_K_M*' --to models\n  \
        alti pull meta-llama/Meta-Llama-3-8B --include 'original/*' --token-file ~/hub-token\n  \
        alti pull owner/model --revision v1.1 --endpoint https://hub.example"
)]
pub struct Pull {
    /// The model: owner/name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A branch, a tag or a commit. [default: main]
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Take the files that this glob means, with configuration and tokenizer where they are needed; may be repeated.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// A file that holds a token of the hub. [default: the variable HF_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Put the files into this folder, instead of the shared cache.
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// The hub, or a mirror of it.
    #[arg(long, value_name = "URL", default_value = hub::ENDPOINT)]
    pub endpoint: String,
    /// Files that are fetched at once.
    #[arg(long, value_name = "N", default_value = "4")]
    pub parallel: NonZeroUsize,
}
