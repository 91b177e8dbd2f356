//! `alti inspect`: what is in a model, in adapters or in token shards, without reading their values.

use std::collections::BTreeMap;
use std::path::Path;

use corpus::indexed::Dataset;
use kernels::quant::Encoding;
use model::formats::{self, Checkpoint};
use model::{Config, peft};
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use crate::args::Inspect;
use crate::convert::size_of_model;
use crate::errors::Error;
use crate::open;
use crate::report::scale::{bytes, count, percent, short};

/// `alti inspect`.
pub fn inspect(args: &Inspect) -> Result<(), Error> {
    let found = if args.path.join("adapter_config.json").is_file() {
        adapters(&args.path)?
    } else if let Some(prefix) = token_shards(&args.path) {
        tokens(&prefix)?
    } else {
        model_of(&formats::open(&open::model_path(&args.path)?)?, args.tensors)
    };
    if args.json {
        anstream::println!("{:#}", found.json);
    } else {
        anstream::print!("{}", found.text());
    }
    Ok(())
}

/// What is said of a path, for people and for programs.
struct Found {
    title: String,
    kind: &'static str,
    lines: Vec<(&'static str, String)>,
    table: Vec<[String; 4]>,
    json: Value,
}

impl Found {
    fn text(&self) -> String {
        let mut text = format!("{}  {}\n", self.title.bold(), self.kind);
        let wide = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.lines {
            text.push_str(&format!("  {}  {value}\n", format!("{name:wide$}").dimmed()));
        }
        let widths: [usize; 4] =
            std::array::from_fn(|column| self.table.iter().map(|row| row[column].len()).max().unwrap_or(0));
        for [name, shape, encoding, size] in &self.table {
            let [a, b, c, d] = widths;
            text.push_str(&format!("  {name:a$}  {shape:>b$}  {encoding:c$}  {size:>d$}\n"));
        }
        text
    }
}

fn model_of(checkpoint: &Checkpoint, with_tensors: bool) -> Found {
    let config = checkpoint.config();
    let mut mix: BTreeMap<Encoding, (u64, u64)> = BTreeMap::new();
    for stored in checkpoint.stored() {
        let sums = mix.entry(stored.encoding).or_default();
        sums.0 += stored.values() as u64;
        sums.1 += stored.bytes.len() as u64;
    }
    let values: u64 = mix.values().map(|sums| sums.0).sum();
    let held: u64 = mix.values().map(|sums| sums.1).sum();
    let size = size_of_model(checkpoint);
    let files = checkpoint.files().count();
    let about = checkpoint.about();
    let rope = match &config.rope_scaling {
        None => format!("theta {}", count(config.rope_theta as u64)),
        Some(scaling) => format!(
            "theta {}, stretched {} times from {} tokens on (Llama 3.1's way, bands {} and {})",
            count(config.rope_theta as u64),
            scaling.factor,
            count(scaling.original_max_seq_len as u64),
            scaling.low_freq_factor,
            scaling.high_freq_factor
        ),
    };
    let mixed: Vec<String> = mix
        .iter()
        .map(|(encoding, sums)| {
            format!("{} {}", encoding.name(), percent(sums.0 as f64 / values.max(1) as f64))
        })
        .collect();
    let per_value = 8.0 * held as f64 / values.max(1) as f64;
    let mut lines = vec![
        ("architecture", architecture(config)),
        ("parameters", format!("{} ({})", short(config.parameters() as f64), count(config.parameters()))),
        ("context", format!("{} tokens", count(config.max_seq_len as u64))),
        (
            "vocabulary",
            format!(
                "{} tokens, {}",
                count(config.vocab_size as u64),
                if config.tied_embeddings {
                    "the output layer is the embedding"
                } else {
                    "an output layer of its own"
                }
            ),
        ),
        ("rope", rope),
        ("stored as", format!("{} of the values; {per_value:.2} bits a value", mixed.join(", "))),
        ("size", format!("{} in {files} {}", bytes(size), if files == 1 { "file" } else { "files" })),
    ];
    lines.extend(about.name.clone().map(|name| ("name", name)));
    let tensors: Vec<Value> = checkpoint
        .stored()
        .iter()
        .map(|stored| {
            let file = checkpoint.files().nth(stored.file).and_then(Path::file_name).unwrap_or_default();
            json!({
                "name": stored.name, "shape": stored.shape, "encoding": stored.encoding.name(),
                "file": file.to_string_lossy(), "byte": stored.bytes.start, "bytes": stored.bytes.len(),
            })
        })
        .collect();
    let table = checkpoint.stored().iter().filter(|_| with_tensors).map(|stored| {
        let shape: Vec<String> = stored.shape.iter().map(usize::to_string).collect();
        [
            stored.name.clone(),
            shape.join(" × "),
            stored.encoding.name().to_owned(),
            bytes(stored.bytes.len() as u64),
        ]
    });
    let mut json = json!({
        "path": checkpoint.path(),
        "format": checkpoint.format().name(),
        "name": about.name,
        "parameters": config.parameters(),
        "config": {
            "dim": config.dim, "layers": config.layers, "heads": config.heads, "kv_heads": config.kv_heads,
            "head_dim": config.head_dim, "ffn_dim": config.ffn_dim, "vocab_size": config.vocab_size,
            "norm_eps": exact(config.norm_eps), "rope_theta": exact(config.rope_theta), "tied_embeddings": config.tied_embeddings,
            "max_seq_len": config.max_seq_len,
            "rope_scaling": config.rope_scaling.as_ref().map(|scaling| json!({
                "factor": scaling.factor, "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor, "original_max_seq_len": scaling.original_max_seq_len,
            })),
        },
        "bos_token_id": about.bos_token_id,
        "eos_token_ids": about.eos_token_ids,
        "bytes": size,
        "encodings": mix.iter().map(|(encoding, sums)| (encoding.name(), sums.0)).collect::<BTreeMap<_, _>>(),
    });
    if with_tensors {
        json["tensors"] = tensors.into();
    }
    let title = checkpoint.path().display().to_string();
    Found { title, kind: checkpoint.format().name(), lines, table: table.collect(), json }
}

/// The decimal number that an f32 was written as.
fn exact(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

fn architecture(config: &Config) -> String {
    format!(
        "Llama: {} layers, {} wide; {} heads of {} over {} of keys and values; feed-forward of {}",
        config.layers,
        count(config.dim as u64),
        config.heads,
        config.head_dim,
        config.kv_heads,
        count(config.ffn_dim as u64)
    )
}

fn adapters(path: &Path) -> Result<Found, Error> {
    let settings = peft::load_settings(path)?;
    let modules: Vec<&str> = settings.modules.iter().map(|module| module.name()).collect();
    let file = path.join("adapter_model.safetensors");
    let size = file.metadata().map_err(Error::io("read", &file))?.len();
    let json = json!({
        "path": path, "format": "peft", "rank": settings.rank, "alpha": settings.alpha,
        "rank_stabilised": settings.rank_stabilised, "modules": modules, "bytes": size,
    });
    let kind = if settings.rank_stabilised { "rank-stabilised LoRA" } else { "LoRA" };
    let lines = vec![
        ("adapters", format!("{kind} of rank {}, alpha {}", settings.rank, settings.alpha)),
        ("modules", modules.join(", ")),
        ("size", bytes(size)),
    ];
    Ok(Found { title: path.display().to_string(), kind: "adapters (peft)", lines, table: Vec::new(), json })
}

/// The common part of the names of a pair of files `.bin` and `.idx`, of which `path` names either, or their prefix.
fn token_shards(path: &Path) -> Option<std::path::PathBuf> {
    let extension = path.extension().unwrap_or_default();
    let prefix =
        if extension == "bin" || extension == "idx" { path.with_extension("") } else { path.to_owned() };
    let has = |extension: &str| {
        let mut name = prefix.clone().into_os_string();
        name.push(extension);
        Path::new(&name).is_file()
    };
    (has(".bin") && has(".idx")).then_some(prefix)
}

fn tokens(prefix: &Path) -> Result<Found, Error> {
    let shards = Dataset::open(prefix)?;
    let (documents, tokens) = (shards.len() as u64, shards.total_tokens());
    let longest = shards.sizes().iter().copied().max().unwrap_or(0);
    let json = json!({
        "path": prefix, "format": "Megatron", "documents": documents, "tokens": tokens, "longest_document": longest,
    });
    let lines = vec![
        ("documents", count(documents)),
        ("tokens", format!("{} ({})", short(tokens as f64), count(tokens))),
        ("longest", format!("{} tokens", count(longest))),
    ];
    Ok(Found {
        title: prefix.display().to_string(),
        kind: "token shards (Megatron)",
        lines,
        table: Vec::new(),
        json,
    })
}
