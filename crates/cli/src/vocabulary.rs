//! A model's vocabulary on its way from one format to another: beside the model in a Hugging Face or Meta folder, inside
//! a GGUF file. What cannot be carried over is said, and the model goes without it.

use std::path::{Path, PathBuf};

use ledger::progress::Progress;
use model::formats::gguf::{Array, Value};
use model::formats::{Checkpoint, Format, Metadata};
use tokenizer::chat::Layout;
use tokenizer::sentencepiece::{self, Piece};
use tokenizer::table::{self, Table, chat_template};
use tokenizer::{SpecialNames, Tokenizer};

use crate::errors::Error;

/// The files that make up a tokenizer in a Hugging Face folder, and what goes with it.
const FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// Kinds of tokens in a GGUF file.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

/// What a model's vocabulary was found to be.
pub struct Vocabulary {
    kind: Kind,
    /// The folder whose files say it, if a folder does.
    folder: Option<PathBuf>,
    /// The template of its conversations.
    template: Option<String>,
    /// What ends a text by `tokenizer_config.json`.
    end: Option<String>,
}

enum Kind {
    /// Llama 3's.
    Bytes(Tokenizer),
    /// Llama 2's.
    Pieces(Vec<Piece>),
    /// A GGUF file's own keys, of which another such file takes the vocabulary's as they are.
    Keys(Metadata),
    /// None that could be read.
    Nothing,
}

impl Vocabulary {
    /// Finds the vocabulary that goes with a model. What is no vocabulary is told to `progress`.
    pub fn find(checkpoint: &Checkpoint, progress: &dyn Progress) -> Self {
        if checkpoint.format() == Format::Gguf {
            let keys = Metadata::clone(checkpoint.metadata());
            let template = text(&keys, "tokenizer.chat_template").map(str::to_owned);
            return Self { kind: Kind::Keys(keys), folder: None, template, end: None };
        }
        let mut folder = checkpoint.path().to_owned();
        // Meta once kept one tokenizer above the folders of its models.
        if !has_tokenizer(&folder) && checkpoint.format() == Format::Meta {
            folder = folder.join("..");
        }
        let kind = if has_tokenizer(&folder) { read(checkpoint, &folder, progress) } else { Kind::Nothing };
        if matches!(kind, Kind::Nothing) {
            progress.warn("no tokenizer that can be carried over was found beside the model");
        }
        let config = json(&folder.join("tokenizer_config.json"));
        let jinja = std::fs::read_to_string(folder.join("chat_template.jinja")).ok();
        let template = jinja.or_else(|| config["chat_template"].as_str().map(str::to_owned));
        let end = config["eos_token"].as_str().or_else(|| config["eos_token"]["content"].as_str());
        let end = end.map(str::to_owned);
        Self { kind, folder: Some(folder), template, end }
    }

    /// The tokenizer, if it is of the kind that encodes text here; `path` is where it was found.
    ///
    /// # Errors
    /// A vocabulary of another kind, or none.
    pub fn tokenizer(&self, path: &Path) -> Result<Tokenizer, Error> {
        let layout = self.template.as_deref().map_or_else(Layout::default, Layout::of_template);
        let reason = match &self.kind {
            Kind::Bytes(tokenizer) => return Ok(tokenizer.clone().with_layout(layout)),
            Kind::Keys(keys) => match from_keys(keys, path) {
                Ok(tokenizer) => return Ok(tokenizer.with_layout(layout)),
                Err(reason) => reason,
            },
            Kind::Pieces(_) => "its tokenizer is SentencePiece's".to_owned(),
            Kind::Nothing => "it has no tokenizer".to_owned(),
        };
        Err(Error::Usage {
            message: format!("{} cannot talk: {reason}", path.display()),
            hint: "models with Llama 3's tokenizer can be talked to".into(),
        })
    }

    /// Begin and end of text, if they are known: for what a model's files do not say themselves.
    pub fn ends(&self) -> Option<(u32, Vec<u32>)> {
        match &self.kind {
            Kind::Bytes(tokenizer) => Some((tokenizer.bos(), vec![tokenizer.eos(), tokenizer.eot()])),
            Kind::Pieces(pieces) => Some((place(pieces, "<s>")?, vec![place(pieces, "</s>")?])),
            Kind::Keys(_) | Kind::Nothing => None,
        }
    }

    /// The keys of a GGUF file for a model with so many tokens, as llama.cpp's converter writes them.
    ///
    /// # Errors
    /// A vocabulary that is larger than the model's.
    pub fn gguf_keys(&self, vocab_size: usize) -> Result<Vec<(String, Value)>, Error> {
        let mut keys = match &self.kind {
            Kind::Keys(keys) => {
                let own = keys.iter().filter(|(key, _)| key.starts_with("tokenizer."));
                return Ok(own.cloned().collect());
            }
            Kind::Nothing => return Ok(Vec::new()),
            Kind::Bytes(tokenizer) => bytes_keys(tokenizer, self.end.as_deref(), vocab_size)?,
            Kind::Pieces(pieces) => pieces_keys(pieces, vocab_size)?,
        };
        let own = matches!(self.kind, Kind::Bytes(_)).then(|| chat_template().to_owned());
        let beside =
            self.folder.as_ref().is_some_and(|folder| folder.join("tokenizer_config.json").is_file());
        // A lone tokenizer.model says nothing of conversations; a folder that has none, has none.
        if let Some(template) = self.template.clone().or(if beside { None } else { own }) {
            keys.push(("tokenizer.chat_template", Value::String(template)));
        }
        Ok(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Writes the files of a Hugging Face folder, or Meta's one file, into `dir`.
    pub fn write(
        &self,
        dir: &Path,
        format: Format,
        from: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let tokenizer = match (&self.kind, &self.folder) {
            (Kind::Nothing, _) => return Ok(()),
            (_, Some(folder)) if folder.join("tokenizer.json").is_file() || format == Format::Meta => {
                return self.copy(folder, dir, format);
            }
            (Kind::Pieces(_), Some(folder)) => return self.copy(folder, dir, format),
            (Kind::Bytes(tokenizer), _) => tokenizer.clone(),
            (Kind::Keys(keys), _) => match from_keys(keys, from) {
                Ok(tokenizer) => tokenizer,
                Err(reason) => {
                    progress.warn(&format!("the vocabulary is not carried over: {reason}"));
                    return Ok(());
                }
            },
            (Kind::Pieces(_), None) => return Ok(()),
        };
        if format == Format::Meta {
            return Ok(tokenizer.save_ranks(&dir.join("tokenizer.model"))?);
        }
        tokenizer.save(dir)?;
        // The model's own template, where it has another than ours.
        let path = dir.join("tokenizer_config.json");
        if let (Some(template), mut config @ serde_json::Value::Object(_)) = (&self.template, json(&path)) {
            config["chat_template"] = template.as_str().into();
            ledger::atomic::write(&path, format!("{config:#}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Takes the files over as they are.
    fn copy(&self, folder: &Path, dir: &Path, format: Format) -> Result<(), Error> {
        let wanted: &[&str] = if format == Format::Meta { &["tokenizer.model"] } else { &FILES };
        for name in wanted {
            let (from, to) = (folder.join(name), dir.join(name));
            if from.is_file() {
                let bytes = std::fs::read(&from).map_err(Error::io("read", &from))?;
                ledger::atomic::write(&to, &bytes)?;
            } else if let (Format::Meta, Kind::Bytes(tokenizer)) = (format, &self.kind) {
                tokenizer.save_ranks(&to)?;
            }
        }
        Ok(())
    }
}

fn has_tokenizer(folder: &Path) -> bool {
    ["tokenizer.json", "tokenizer.model"].iter().any(|name| folder.join(name).is_file())
}

fn json(path: &Path) -> serde_json::Value {
    std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn read(checkpoint: &Checkpoint, folder: &Path, progress: &dyn Progress) -> Kind {
    let ranks = folder.join("tokenizer.model");
    let found = if folder.join("tokenizer.json").is_file() {
        Tokenizer::load(folder)
    } else if checkpoint.config().rope_scaling.is_some() {
        // The file does not name the special tokens; scaled frequencies came with those of 3.1.
        Tokenizer::load_ranks(&ranks, SpecialNames::Llama31)
    } else {
        Tokenizer::load_ranks(&ranks, SpecialNames::Llama3)
    };
    match found {
        Ok(tokenizer) => Kind::Bytes(tokenizer),
        Err(error) => match sentencepiece::read(&ranks) {
            Ok(pieces) => Kind::Pieces(pieces),
            Err(_) => {
                progress.warn(&error.to_string());
                Kind::Nothing
            }
        },
    }
}

fn place(pieces: &[Piece], text: &str) -> Option<u32> {
    pieces.iter().position(|piece| piece.text == text).and_then(|place| u32::try_from(place).ok())
}

fn text<'a>(keys: &'a [(String, Value)], key: &str) -> Option<&'a str> {
    keys.iter().find(|(name, _)| name == key).and_then(|(_, value)| value.as_str())
}

/// Fills up to the model's number of tokens, which is often rounded up.
fn fill(tokens: &mut Vec<String>, kinds: &mut Vec<i32>, vocab_size: usize) -> Result<(), Error> {
    if tokens.len() > vocab_size {
        return Err(Error::Usage {
            message: format!("the tokenizer has {} tokens, and the model {vocab_size}", tokens.len()),
            hint: "is this the model's own tokenizer?".into(),
        });
    }
    for number in 0..vocab_size - tokens.len() {
        tokens.push(format!("[PAD{number}]"));
        kinds.push(UNUSED);
    }
    Ok(())
}

fn bytes_keys(
    tokenizer: &Tokenizer,
    end: Option<&str>,
    vocab_size: usize,
) -> Result<Vec<(&'static str, Value)>, Error> {
    let Table { mut tokens, ordinary, merges } = Table::of(tokenizer);
    let mut kinds: Vec<i32> =
        (0..tokens.len()).map(|id| if id < ordinary { NORMAL } else { CONTROL }).collect();
    fill(&mut tokens, &mut kinds, vocab_size)?;
    let eos = end.and_then(|end| tokenizer.special(end)).unwrap_or(tokenizer.eos());
    let mut keys = vec![
        ("tokenizer.ggml.model", Value::text("gpt2")),
        // llama.cpp's name for Llama 3's split pattern, whole pieces looked up before merging.
        ("tokenizer.ggml.pre", Value::text("llama-bpe")),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds))),
        ("tokenizer.ggml.merges", Value::Array(Array::String(merges))),
        ("tokenizer.ggml.bos_token_id", Value::U32(tokenizer.bos())),
        ("tokenizer.ggml.eos_token_id", Value::U32(eos)),
        ("tokenizer.ggml.eot_token_id", Value::U32(tokenizer.eot())),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
    ];
    if let Some(padding) = tokenizer.padding() {
        keys.push(("tokenizer.ggml.padding_token_id", Value::U32(padding)));
    }
    Ok(keys)
}

fn pieces_keys(pieces: &[Piece], vocab_size: usize) -> Result<Vec<(&'static str, Value)>, Error> {
    let mut tokens: Vec<String> = pieces.iter().map(|piece| piece.text.clone()).collect();
    let mut kinds: Vec<i32> = pieces.iter().map(|piece| piece.kind.cast_signed()).collect();
    let mut scores: Vec<f32> = pieces.iter().map(|piece| piece.score).collect();
    fill(&mut tokens, &mut kinds, vocab_size)?;
    // As llama.cpp's converter scores tokens that no text has.
    scores.resize(tokens.len(), -1000.0);
    let mut keys = vec![
        ("tokenizer.ggml.model", Value::text("llama")),
        ("tokenizer.ggml.pre", Value::text("default")),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))),
        ("tokenizer.ggml.scores", Value::Array(Array::F32(scores))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds))),
    ];
    for (key, text) in [
        ("tokenizer.ggml.bos_token_id", "<s>"),
        ("tokenizer.ggml.eos_token_id", "</s>"),
        ("tokenizer.ggml.unknown_token_id", "<unk>"),
    ] {
        keys.extend(place(pieces, text).map(|id| (key, Value::U32(id))));
    }
    keys.push(("tokenizer.ggml.add_bos_token", Value::Bool(true)));
    keys.push(("tokenizer.ggml.add_eos_token", Value::Bool(false)));
    Ok(keys)
}

/// The tokenizer that a GGUF file's keys mean, or why it is none of ours.
fn from_keys(keys: &[(String, Value)], path: &Path) -> Result<Tokenizer, String> {
    let get = |key: &str| keys.iter().find(|(name, _)| name == key).map(|(_, value)| value);
    let kind = (text(keys, "tokenizer.ggml.model"), text(keys, "tokenizer.ggml.pre"));
    let (Some("gpt2"), Some("llama-bpe" | "llama3" | "llama-v3")) = kind else {
        let (model, pre) = (kind.0.unwrap_or("absent"), kind.1.unwrap_or("absent"));
        return Err(format!(
            "tokenizer.ggml.model is {model} and tokenizer.ggml.pre {pre}; Llama 3's are gpt2 and llama-bpe"
        ));
    };
    let lists =
        (get("tokenizer.ggml.tokens"), get("tokenizer.ggml.merges"), get("tokenizer.ggml.token_type"));
    let (Some(tokens), Some(merges), Some(Value::Array(Array::I32(kinds)))) = lists else {
        return Err("tokens, merges or token types are missing".into());
    };
    let (Some(tokens), Some(merges)) = (tokens.as_texts(), merges.as_texts()) else {
        return Err("tokens or merges are no texts".into());
    };
    // What a converter filled up with stands for nothing.
    let used = kinds.iter().rposition(|kind| *kind != UNUSED).map_or(0, |last| last + 1).min(tokens.len());
    let ordinary = kinds.iter().position(|kind| *kind != NORMAL).unwrap_or(used).min(used);
    table::tokenizer(&tokens[..used], ordinary, merges, path).map_err(|error| error.to_string())
}
