//! The command line: every verb with its options and an example. The help is written to be read from top to bottom.

mod cluster;
mod curate;
mod judge;
mod mix;
mod perplexity;
mod pull;
mod tokenizer;
mod train_tokenizer;

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use model::formats::Storage;

#[cfg(feature = "cluster")]
pub use cluster::Format;
pub use cluster::{CurateExecutor, CurateScheduler, CurateSql, OnCluster};
pub use curate::{BenchCurate, Curate, CurateReport, CurateWhat};
pub use judge::{ClassifierTrain, CurateClassifier, CurateJudge};
pub use mix::{Mix, MixSearch, PackArgs, weight};
pub use perplexity::{EvalPerplexity, EvalWhat};
pub use pull::Pull;
pub use tokenizer::{Special, TokenizerCompare, TokenizerExplain};
pub use train_tokenizer::TrainTokenizer;

/// Raise a Llama: from your documents to your own assistant, with one program.
#[derive(Debug, Parser)]
#[command(
    name = "alti",
    version,
    about = "Raise a Llama: from documents to an assistant of your own.",
    long_about = "Raise a Llama: from documents to an assistant of your own.\n\n\
        `alti raise` reads text, curates it, trains a tokenizer, pretrains a Llama-3 model from scratch, tunes it to \
        follow instructions, measures it and writes a report. Everything lands in one folder, runs/<name>, in formats \
        that other tools read. Stop it whenever you like: the same command continues where it stopped.",
    after_long_help = "Begin here:\n  \
        alti raise                        raise a tiny model from the crates on this machine\n  \
        alti status runs/tiny             what was made, and how long it took\n  \
        alti chat runs/tiny               talk to it\n  \
        alti serve runs/tiny              let other programs talk to it, as they would to OpenAI\n  \
        alti convert runs/tiny tiny.gguf  take it to llama.cpp and what is built on it\n\n\
        A model that others made:\n  \
        alti pull meta-llama/Llama-3.2-1B-Instruct\n  \
        alti chat meta-llama/Llama-3.2-1B-Instruct\n\n\
        Your own documents:\n  \
        alti raise --name mine --source ~/notes --source 'pages/*.warc.gz' --size small\n  \
        alti curate ~/notes 'pages/*.warc.gz' --out documents",
    disable_help_subcommand = true,
    propagate_version = true
)]
pub struct Cli {
    /// Colours: on a terminal (auto; NO_COLOR turns them off), always or never.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t = ColorChoice::Auto,
        value_name = "WHEN",
        hide_default_value = true,
        hide_possible_values = true,
        display_order = 1000
    )]
    pub color: ColorChoice,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What `alti` can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Raise(Raise),
    Curate(Box<Curate>),
    #[command(subcommand)]
    Mix(Mix),
    Pack(PackArgs),
    Pull(Pull),
    Chat(Chat),
    Serve(Serve),
    Status(Status),
    Eval(Eval),
    Report(Report),
    Convert(Convert),
    Inspect(Inspect),
    #[command(subcommand)]
    Tokenizer(Tokenizer),
    #[command(subcommand)]
    Bench(Bench),
}

/// Raise a model: curate, tokenizer, pack, pretrain, sft, eval, report.
#[derive(Debug, Args)]
#[command(
    long_about = "Raise a model from documents.\n\n\
        The stages run in order and each leaves a folder in the run: curate (documents/), tokenizer (tokenizer/), \
        pack (tokens/), pretrain (base/), sft (aligned/), eval (eval/), report (report.html). A stage that is \
        complete and whose inputs did not change is kept. Ctrl-C, or a power cut, loses at most the work since the \
        last checkpoint; the same command continues, and ends with the same weights to the last bit.",
    after_long_help = "Examples:\n  \
        alti raise\n  \
        alti raise --name notes --source ~/notes --source 'pages/*.warc.gz' --source data.jsonl.zst\n  \
        alti raise --size small --seed 7 --set train.learning_rate=0.001\n  \
        alti raise --recipe recipes/tiny.toml --until pretrain\n  \
        alti raise --force eval"
)]
pub struct Raise {
    /// The run's name; its folder is runs/<NAME>. [default: the size]
    #[arg(long, value_name = "NAME", conflicts_with = "out")]
    pub name: Option<String>,
    /// The run's folder, instead of runs/<NAME>.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How large a model: nano, tiny, small, 1b, 3b, 8b, 70b or 405b. It sets width, depth, batch, tokens and rate.
    #[arg(long, value_name = "SIZE")]
    pub size: Option<String>,
    /// A folder, file or glob to read (.txt .md .rs …, .html, .jsonl[.gz|.zst], .parquet, .warc[.gz]), or an address
    /// of such, as s3://bucket/prefix; may be repeated. `registry` means the crates that cargo downloaded to this machine, which is the default.
    #[arg(long = "source", value_name = "PATH")]
    pub sources: Vec<String>,
    /// The seed that everything random follows from. [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// A recipe: settings in TOML. Options on the command line go before it.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// One setting, as in a recipe: section.key=value; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Stop after this stage.
    #[arg(long, value_name = "STAGE")]
    pub until: Option<String>,
    /// Run this stage again even if it is complete; may be repeated.
    #[arg(long, value_name = "STAGE")]
    pub force: Vec<String>,
}

/// Talk to a model in the terminal.
#[derive(Debug, Args)]
#[command(
    long_about = "Talk to a model in the terminal. Its words appear as they are made.\n\n\
        In the conversation: /reset begins anew, /system TEXT sets the system message, /exit (or Ctrl-D) leaves, \
        Ctrl-C stops an answer.",
    after_long_help = "Examples:\n  \
        alti chat runs/tiny\n  \
        alti chat runs/tiny --prompt 'What is 12 plus 30?'\n  \
        alti chat runs/tiny/aligned --temperature 0.7 --system 'Answer in one word.'\n  \
        echo 'What is `serde` for?' | alti chat runs/tiny"
)]
pub struct Chat {
    /// A run, a model's folder, a GGUF file, or the name of a model that was pulled.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Ask one thing, print the answer and leave.
    #[arg(long, short, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// The system message.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Answer with the adapter in this folder, in peft's format (LoRA).
    #[arg(long, value_name = "FOLDER")]
    pub adapter: Option<PathBuf>,
    #[command(flatten)]
    /// How words are chosen.
    pub sampling: Sampling,
    /// One setting of the engine, such as engine.prefill_chunk=64; may be repeated. The run's recipe has the others.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// How words are chosen.
#[derive(Clone, Copy, Debug, Args)]
pub struct Sampling {
    /// 0 always takes the likeliest word; higher is freer.
    #[arg(long, default_value_t = 0.0, value_name = "T", allow_negative_numbers = true)]
    pub temperature: f32,
    /// Choose among the likeliest words that together have this probability.
    #[arg(long, default_value_t = 1.0, value_name = "P", allow_negative_numbers = true)]
    pub top_p: f32,
    /// The most tokens of one answer.
    #[arg(long, default_value = "256", value_name = "N")]
    pub max_tokens: NonZeroUsize,
    /// The seed of the choice.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

/// Serve a model over HTTP, compatible with OpenAI's API, with a chat page.
#[derive(Debug, Args)]
#[command(
    long_about = "Serve a model over HTTP.\n\n\
        POST /v1/chat/completions, /v1/completions and /v1/responses (streaming or not), /v1/embeddings and GET \
        /v1/models, compatible with OpenAI's API; a chat page at /, the API's description at /docs and /openapi.json; GET /healthz (alive), \
        /readyz (the model is loaded) and /metrics (Prometheus).\n\n\
        Ctrl-C or SIGTERM takes no more connections and lets running answers end; the second ends at once. Requests \
        beyond what can run and wait (engine.max_sequences, engine.max_queue) are refused with 429 and Retry-After.",
    after_long_help = "Examples:\n  \
        alti serve runs/tiny\n  \
        alti serve llama.gguf --listen 0.0.0.0:9000 --api-key-file keys.txt --log-format json 2> access.log\n  \
        alti serve runs/tiny --cors-origin https://chat.example --set serve.max_connections=64\n  \
        curl localhost:8080/v1/chat/completions -H 'content-type: application/json' \\\n       \
        -d '{\"model\":\"tiny\",\"messages\":[{\"role\":\"user\",\"content\":\"What is 12 plus 30?\"}]}'\n  \
        curl localhost:8080/metrics"
)]
pub struct Serve {
    /// A run, a model's folder, a GGUF file, or the name of a model that was pulled.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Address and port; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS", value_parser = address)]
    pub listen: SocketAddr,
    /// The model's name in the API. [default: the run's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// An adapter in peft's format (LoRA) that requests may ask for by this name as their `model`; may be repeated. Where a
    /// client may load others, serve.adapter_folders says.
    #[arg(long = "adapter", value_name = "NAME=FOLDER", value_parser = named_folder)]
    pub adapters: Vec<(String, PathBuf)>,
    /// Clients must bring this key as a bearer token; may be repeated. Without one, whoever reaches the port may ask.
    /// Other users of the machine can see it in the list of processes: --api-key-file keeps it from them.
    #[arg(long = "api-key", value_name = "KEY")]
    pub api_keys: Vec<String>,
    /// Keys as above, one a line; empty lines and lines that begin with # are passed over. May be repeated.
    #[arg(long = "api-key-file", value_name = "FILE")]
    pub api_key_files: Vec<PathBuf>,
    /// Let /metrics be read without a key.
    #[arg(long)]
    pub open_metrics: bool,
    /// Let pages of this web origin, such as https://chat.example, call the API from a browser; may be repeated. `*`
    /// allows all.
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    pub cors_origins: Vec<String>,
    /// Seconds that running answers get to finish after the first Ctrl-C or SIGTERM. [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_grace: Option<u64>,
    /// How each request's line on standard error is written: text, json, or none. No line holds any prompt or answer.
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT", hide_possible_values = true)]
    pub log_format: LogFormat,
    /// One setting of the engine or of the server, such as engine.max_sequences=8 or serve.max_body_bytes=1000000; may
    /// be repeated. The run's recipe has the others.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// A name and a folder.
fn named_folder(text: &str) -> Result<(String, PathBuf), String> {
    let parts = text.split_once('=').filter(|(name, folder)| !name.is_empty() && !folder.is_empty());
    let (name, folder) = parts.ok_or("write a name and a folder, such as french=adapters/french")?;
    Ok((name.to_owned(), folder.into()))
}

/// How the access log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line of words.
    Text,
    /// A JSON object a line.
    Json,
    /// Not at all.
    None,
}

/// An address with its port. `localhost` may stand for two addresses; the one of IPv4 is taken, as it is by default.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found: Vec<SocketAddr> = text.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let first = found.iter().find(|one| one.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| "write an address and a port, such as 127.0.0.1:9000".to_owned())
}

/// Show a run's stages: state, time and what each produced.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  alti status runs/tiny\n  alti status runs/tiny --json | jq '.stages.pretrain'"
)]
pub struct Status {
    /// The run.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Print the records as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Measure a run's models again, or the perplexity of any model.
#[derive(Debug, Args)]
#[command(
    long_about = "Measure a run's models again, before and after tuning, and write its report anew; or measure the \
        perplexity of any model on held-out text.",
    after_long_help = "Examples:\n  \
        alti eval runs/tiny\n  \
        alti eval runs/tiny --set eval.items_per_kind=500\n  \
        alti eval perplexity runs/tiny --source runs/tiny\n  \
        alti eval perplexity llama-f32.gguf --against llama-q8_0.gguf llama-q4_k_m.gguf --source held-out.txt",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Eval {
    /// What else to measure.
    #[command(subcommand)]
    pub what: Option<EvalWhat>,
    /// The run.
    #[arg(value_name = "RUN", required = true)]
    pub run: Option<PathBuf>,
    /// One setting, as in a recipe; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Write a run's report.html again.
#[derive(Debug, Args)]
#[command(
    long_about = "Write a run's report.html again from what the run recorded: one page that needs nothing else.",
    after_long_help = "Examples:\n  alti report runs/tiny\n  alti report runs/tiny --to tiny.html"
)]
pub struct Report {
    /// The run.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Where to write it. [default: RUN/report.html]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

/// Turn a model into another format, plain or quantised.
#[derive(Debug, Args)]
#[command(
    long_about = "Turn a model into another format, plain or quantised.\n\n\
        Read are Hugging Face folders (safetensors, sharded too), Meta's folders (params.json, consolidated.NN.pth, any \
        number of shards) and GGUF files (in parts too: name any of them), of Llama 2, 3, 3.1, 3.2 (text), 3.3 and models of the same architecture; a \
        model of another one is refused by name. The vocabulary goes along. Tensors pass one by one, so that a model \
        larger than the memory can be converted. Nothing in a file is executed.",
    after_long_help = "Examples:\n  \
        alti convert runs/tiny tiny.gguf --quantize q8_0\n  \
        alti convert Llama-3.2-1B-Instruct llama.gguf --quantize q4_k_m\n  \
        alti convert Meta-Llama-3-8B/original llama-3-8b --to hf --quantize bf16\n  \
        alti convert llama.gguf llama --to hf\n  \
        alti convert llama original --to meta"
)]
pub struct Convert {
    /// A run, a model's folder, a GGUF file, or the name of a model that was pulled.
    #[arg(value_name = "IN")]
    pub from: PathBuf,
    /// The file (GGUF) or folder (hf, meta) to write; it must not exist yet.
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// The format of OUT. [default: gguf where OUT ends in .gguf]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub to: Option<To>,
    /// How values are stored: f32, f16, bf16, and in GGUF q8_0, q6_k, q5_k_m, q5_1, q5_0, q4_k_m,
    /// q4_1 or q4_0. [default: as they are; bf16 for
    /// hf and meta where they are quantised]
    #[arg(long, value_name = "STORAGE", value_parser = storage)]
    pub quantize: Option<Storage>,
    /// Weights of a Hugging Face folder beyond this many bytes are cut into shards.
    #[arg(long, value_name = "BYTES", default_value = "5000000000")]
    pub shard_bytes: usize,
    /// What a GGUF file calls the model. [default: what IN calls it]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// Formats that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// A Hugging Face folder.
    Hf,
    /// A GGUF file.
    Gguf,
    /// Meta's folder, in one shard.
    Meta,
}

fn storage(text: &str) -> Result<Storage, String> {
    Storage::by_name(text).ok_or_else(|| {
        let known = Storage::ALL.map(Storage::name).join(", ");
        format!("write one of {known}")
    })
}

/// Show what is in a model, in adapters or in token shards.
#[derive(Debug, Args)]
#[command(
    long_about = "Show what is in a model, in adapters or in token shards.\n\n\
        Architecture, parameters, context, vocabulary, how the values are stored, and with --tensors each tensor. Headers \
        are read and checked; values are not touched, so the largest model takes no longer than the smallest.",
    after_long_help = "Examples:\n  \
        alti inspect runs/tiny\n  \
        alti inspect llama.gguf --tensors\n  \
        alti inspect Meta-Llama-3-8B/original --json | jq .parameters\n  \
        alti inspect runs/tiny/tokens/train"
)]
pub struct Inspect {
    /// A run, a model's folder, a GGUF file, the name of a model that was pulled, a folder of adapters, or token shards
    /// (.bin and .idx).
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// List every tensor as the file names it.
    #[arg(long)]
    pub tensors: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Train a tokenizer, or turn text into tokens and back.
#[derive(Debug, Subcommand)]
pub enum Tokenizer {
    Train(TrainTokenizer),
    Explain(TokenizerExplain),
    Compare(TokenizerCompare),
    /// Turn a text into tokens.
    #[command(
        long_about = "Turn a text into tokens.\n\nAny byte-level BPE of GPT-2, Llama 3 or Qwen will do, and SentencePiece's \
            BPE of Llama 2. Nothing is put before or after the text.",
        after_long_help = "Examples:\n  alti tokenizer encode runs/tiny 'How many llamas?'\n  \
        alti tokenizer encode runs/tiny --ids < README.md\n  \
        jq -c .text documents.jsonl | alti tokenizer encode gpt2/tokenizer.json --lines"
    )]
    Encode {
        /// A run, a tokenizer's folder, or a tokenizer.json or tokenizer.model.
        #[arg(value_name = "TOKENIZER")]
        tokenizer: PathBuf,
        /// The text; standard input without it.
        #[arg(value_name = "TEXT")]
        text: Option<String>,
        /// Print the token numbers alone.
        #[arg(long)]
        ids: bool,
        /// What the names of special tokens in the text mean: text, ids or refuse.
        #[arg(long, value_enum, default_value_t, value_name = "WHAT", hide_possible_values = true)]
        special: Special,
        /// Each line of standard input is a text, as a JSON string; print a JSON array of token numbers for each.
        #[arg(long, conflicts_with_all = ["text", "ids"])]
        lines: bool,
    },
    /// Turn token numbers into text.
    #[command(after_long_help = "Examples:\n  alti tokenizer decode runs/tiny 72 101 108\n  \
        echo '[72, 101]' | alti tokenizer decode runs/tiny --lines")]
    Decode {
        /// A run, a tokenizer's folder, or a tokenizer.json or tokenizer.model.
        #[arg(value_name = "TOKENIZER")]
        tokenizer: PathBuf,
        /// Token numbers; standard input without them.
        #[arg(value_name = "ID")]
        ids: Vec<u32>,
        /// Each line of standard input is a JSON array of token numbers; print a JSON string for each.
        #[arg(long, conflicts_with = "ids")]
        lines: bool,
    },
}

/// Measure what this machine makes of a recipe, a model, a tokenizer or the rules of curation.
#[derive(Debug, Subcommand)]
pub enum Bench {
    Train(BenchTrain),
    Engine(BenchEngine),
    Tokenizer(BenchTokenizer),
    Curate(BenchCurate),
}

/// Measure a training step: tokens a second, share of the machine's peak, memory, and time by operation.
#[derive(Debug, Args)]
#[command(
    long_about = "Measure a training step: tokens a second, share of the machine's peak, memory, and time by operation.\n\n\
        The recipe's model with random weights takes the very steps that training takes, on random tokens in documents \
        of a run's lengths; nothing is written. Each operation's time stands beside its roofline: the least time that its \
        arithmetic takes at the peak, or its bytes at the memory's speed, both measured here. Nothing else should run on \
        the machine meanwhile.",
    after_long_help = "Examples:\n  \
        alti bench train\n  \
        alti bench train recipes/tiny.toml --steps 50\n  \
        alti bench train runs/tiny --set train.recompute=all\n  \
        alti bench train --set size=small --set train.rows=2 --set train.accumulation=4\n  \
        alti bench train --shape big --precision f32 --threads 1\n  \
        alti bench train --json | jq '.breakdown.operations[] | [.name, .seconds, .roofline]'"
)]
pub struct BenchTrain {
    /// A recipe, or a run's folder, whose documents' lengths are then taken too. [default: what `alti raise` does]
    #[arg(value_name = "RECIPE", conflicts_with = "shape")]
    pub recipe: Option<PathBuf>,
    /// A shape of bench/README.md instead of a recipe: small, big or wide.
    #[arg(long, value_name = "SHAPE")]
    pub shape: Option<String>,
    /// Measured steps, after two to warm up.
    #[arg(long, default_value = "10", value_name = "N")]
    pub steps: NonZeroU32,
    /// Threads. [default: all processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// The arithmetic of the products: bf16 or f32. [default: what the recipe says]
    #[arg(long, value_name = "PRECISION", hide_possible_values = true)]
    pub precision: Option<Arithmetic>,
    /// One setting, as in a recipe: section.key=value; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Measure a model's answers: tokens read and written a second, share of the memory's speed.
#[derive(Debug, Args)]
#[command(
    long_about = "Measure a model's answers: tokens read and written a second, share of the memory's speed.\n\n\
        Random prompts, or stretches of a text, are read and answers written by the engine that `alti chat` and `alti serve` run, scheduling and \
        sampling included; nothing is written to disk. Each token of one answer reads all weights, so its speed stands \
        beside that of the memory, measured here. Nothing else should run on the machine meanwhile.",
    after_long_help = "Examples:\n  \
        alti bench engine runs/tiny\n  \
        alti bench engine llama.gguf --prompt 512 2048 --generate 128\n  \
        alti bench engine llama.gguf --prompt --streams 1 8 32 --set engine.kv_cache=q8\n  \
        alti bench engine llama.gguf --repeat 3 --set engine.speculative=lookup\n  \
        alti bench engine llama.gguf --text book.txt --after 256 --temperature 0.7 --set engine.speculative=lookup\n  \
        alti bench engine llama.gguf --adapter adapters/french\n  \
        alti bench engine llama.gguf --json | jq '.decode[] | [.streams, .tokens_per_second]'"
)]
pub struct BenchEngine {
    /// A run, a model's folder, or a GGUF file.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Tokens of the prompts that are read; none measures no reading.
    #[arg(long, value_name = "N", num_args = 0.., default_values_t = [512])]
    pub prompt: Vec<usize>,
    /// Tokens of the answers that are written; 0 measures no writing.
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub generate: usize,
    /// How many answers are written at once.
    #[arg(long, value_name = "N", num_args = 1.., default_values = ["1", "8"])]
    pub streams: Vec<NonZeroUsize>,
    /// Tokens of the prompts behind which answers are written.
    #[arg(long, value_name = "N", default_value = "16")]
    pub after: NonZeroUsize,
    /// Take stretches of this text for prompts instead of random tokens; may be repeated.
    #[arg(long = "text", value_name = "FILE")]
    pub texts: Vec<PathBuf>,
    /// The temperature of the answers; 0 takes the likeliest token.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f32,
    /// Read and answer with the adapter in this folder, in peft's format (LoRA).
    #[arg(long, value_name = "FOLDER")]
    pub adapter: Option<PathBuf>,
    /// Write answers with N tokens of the vocabulary alone, so that they repeat themselves: for engine.speculative.
    #[arg(long, value_name = "N")]
    pub repeat: Option<NonZeroUsize>,
    /// How often each is measured; the median counts.
    #[arg(long, default_value = "3", value_name = "N")]
    pub rounds: NonZeroU32,
    /// Threads. [default: all processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// One setting of the engine, such as engine.prefill_chunk=512; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Measure how fast texts become tokens, on one thread and on all.
#[derive(Debug, Args)]
#[command(
    long_about = "Measure how fast texts become tokens, on one thread and on all.\n\n\
        One thread encodes each file as one document; then one thread and all threads encode it cut into documents of \
        about 16 KiB, which shows how a batch scales. Any tokenizer will do that `alti tokenizer encode` takes. Nothing \
        else should run on the machine meanwhile.",
    after_long_help = "Examples:\n  \
        alti bench tokenizer runs/tiny README.md\n  \
        alti bench tokenizer tokenizer.model prose.txt code.txt --rounds 9\n  \
        alti bench tokenizer runs/tiny README.md --json | jq '.texts[] | [.name, .bytes_per_second]'"
)]
pub struct BenchTokenizer {
    /// A run, a tokenizer's folder, or a tokenizer.json or tokenizer.model.
    #[arg(value_name = "TOKENIZER")]
    pub tokenizer: PathBuf,
    /// Texts in UTF-8.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How often each is measured, after once to warm up; the median counts.
    #[arg(long, default_value = "5", value_name = "N")]
    pub rounds: NonZeroU32,
    /// Threads of the batch. [default: all processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The arithmetic of matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arithmetic {
    /// bf16 factors, f32 sums.
    Bf16,
    /// f32.
    F32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn addresses_have_a_port() {
        for (text, wanted) in [
            ("127.0.0.1:9000", Some("127.0.0.1:9000")),
            ("[::1]:0", Some("[::1]:0")),
            ("9000", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            let found = address(text).map(|address| address.to_string());
            assert_eq!(found.as_deref().ok(), wanted, "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent_and_every_verb_has_an_example() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        let mut verbs: Vec<clap::Command> = command.get_subcommands().cloned().collect();
        while let Some(mut verb) = verbs.pop() {
            if verb.has_subcommands() {
                verbs.extend(verb.get_subcommands().cloned());
                continue;
            }
            let help = verb.render_long_help().to_string();
            assert!(help.contains("Example"), "{} has no example:\n{help}", verb.get_name());
        }
    }
}
