//! Hugging Face folders: `config.json`, `generation_config.json` and `model.safetensors`, whole or in shards.
//!
//! The tokenizer's files are the tokenizer's business. What is written here loads in transformers and vLLM; what
//! they write (f32, bf16 or f16) loads here.

pub mod config_json;
pub mod safetensors_file;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use ledger::atomic::AtomicFile;
use ledger::progress::{Progress, Silent, Unit};
use serde_json::{Value, json};

use super::checkpoint::{Found, RowOrder};
use super::map::Mapped;
use super::storage::Storage as AnyStorage;
use super::stream::{Memory, Outgoing, Tensors};
use super::{About, Checkpoint, Format, Metadata, Stored};
use crate::weights::tensors;
use crate::{Config, Error, Formats, Frozen, Weights};

pub use super::storage::Storage;

/// What a folder says beside the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveOptions {
    /// How values are stored: F32, F16 or BF16.
    pub storage: Storage,
    /// `<|begin_of_text|>`.
    pub bos_token_id: u32,
    /// The tokens that end a text: `<|end_of_text|>`, and `<|eot_id|>` for a chat model.
    pub eos_token_ids: Vec<u32>,
    /// Weights beyond this many bytes are cut into shards with an index.
    pub shard_bytes: usize,
}

impl SaveOptions {
    /// f32 in shards of 5 GB, as transformers does it.
    pub fn new(bos_token_id: u32, eos_token_ids: Vec<u32>) -> Self {
        Self { storage: Storage::F32, bos_token_id, eos_token_ids, shard_bytes: 5_000_000_000 }
    }
}

/// Writes `config.json`, `generation_config.json` and the weights into `dir`, which exists. Each file appears
/// whole or not at all, `config.json` last.
pub fn save(dir: &Path, weights: &Weights, options: &SaveOptions) -> Result<(), Error> {
    write(dir, weights, options, &Silent)
}

/// As [`save`], from wherever the model is, tensor by tensor.
///
/// # Errors
/// A storage that safetensors does not have, values that cannot be read, and a failure of the disk.
pub fn write(
    dir: &Path,
    model: &dyn Tensors,
    options: &SaveOptions,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let encoding = options.storage.plain().ok_or_else(|| not_plain(dir, options.storage))?;
    let config = model.config();
    let specs = tensors(config);
    let outgoing: Vec<Outgoing> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| Outgoing { spec, index, encoding, order: RowOrder::Halves })
        .collect();
    let total: usize = outgoing.iter().map(Outgoing::bytes).sum();
    let mut shards: Vec<Vec<&Outgoing>> = vec![Vec::new()];
    let mut bytes = 0;
    for tensor in &outgoing {
        if bytes > 0 && bytes + tensor.bytes() > options.shard_bytes {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += tensor.bytes();
        shards.last_mut().expect("one shard at least").push(tensor);
    }
    let count = shards.len();
    let task = progress.begin("write", Some(total as u64), Unit::Bytes);
    let mut memory = Memory::default();
    let mut index = BTreeMap::new();
    for (number, shard) in shards.iter().enumerate() {
        let name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        let path = dir.join(&name);
        let failed = |source| ledger::Error::Io { operation: "write", path: path.clone(), source };
        let mut file = BufWriter::new(AtomicFile::create(&path)?);
        let listed = shard.iter().map(|tensor| (&tensor.spec.name, &tensor.spec.shape, tensor.bytes()));
        file.write_all(&safetensors_file::header(encoding, listed)).map_err(failed)?;
        for tensor in shard {
            tensor.write(model, &mut memory, &mut file, &path, &*task)?;
            index.insert(tensor.spec.name.clone(), name.clone());
        }
        file.into_inner().map_err(|error| failed(error.into_error()))?.commit()?;
    }
    if count > 1 {
        let index = json!({ "metadata": { "total_size": total }, "weight_map": index });
        write_json(&dir.join("model.safetensors.index.json"), &index)?;
    }
    let generation = json!({
        "bos_token_id": options.bos_token_id,
        "do_sample": true,
        "eos_token_id": options.eos_token_ids,
        "temperature": 0.6,
        "top_p": 0.9,
    });
    write_json(&dir.join("generation_config.json"), &generation)?;
    write_json(&dir.join("config.json"), &config_json::write(config, options))
}

/// The refusal of blocks where only plain values have a place.
pub(super) fn not_plain(path: &Path, storage: AnyStorage) -> Error {
    Error::Unsupported {
        path: path.to_owned(),
        what: format!("{} is a format of GGUF files", storage.name()),
        hint: "write GGUF (--to gguf), or store plain values: bf16, f16 or f32".into(),
    }
}

/// Reads a folder's configuration alone.
pub fn load_config(dir: &Path) -> Result<Config, Error> {
    let path = dir.join("config.json");
    config_json::read(&path, &read_json(&path)?)
}

/// Reads a folder: configuration and weights, as f32.
///
/// # Errors
/// Files that are missing, cut short or of another architecture; tensors that are missing, of another shape or
/// type, or that hold values which are not finite. The error names the file, the tensor and the byte.
pub fn load(dir: &Path) -> Result<Weights, Error> {
    open(dir)?.weights()
}

/// Reads a folder as a frozen model: its weights are quantised as they are read, and are never whole in memory.
///
/// # Errors
/// Those of [`load`].
pub fn load_frozen(dir: &Path, formats: Formats) -> Result<Frozen, Error> {
    open(dir)?.frozen(formats)
}

/// Opens a folder: its tables are read and checked, its values are not touched.
pub fn open(dir: &Path) -> Result<Checkpoint, Error> {
    let path = dir.join("config.json");
    let json = read_json(&path)?;
    let config = config_json::read(&path, &json)?;
    let about = about(dir, &json);
    let (mut files, mut stored) = (Vec::new(), Vec::new());
    for path in weight_files(dir)? {
        let file = Mapped::open(&path)?;
        let tensors = safetensors_file::parse(&file.bytes).map_err(|fault| fault.of(&path, 0))?;
        let number = files.len();
        stored.extend(tensors.into_iter().map(|tensor| Stored { file: number, ..tensor }));
        files.push(file);
    }
    let tied = config.tied_embeddings;
    let (path, format) = (dir.to_owned(), Format::HuggingFace);
    let found = Found { path, format, config, about, files, stored, metadata: Metadata::default() };
    found.whole_tensors(RowOrder::Halves, |name| {
        // Frequencies that transformers once stored, and what safetensors' own tools repeat of tied weights.
        name.ends_with("rotary_emb.inv_freq") || (tied && name == "lm_head.weight")
    })
}

/// The tokens that begin and end a text. `generation_config.json`, where it is there, knows all that end one.
fn about(dir: &Path, config: &Value) -> About {
    let generation = read_json(&dir.join("generation_config.json")).unwrap_or_default();
    let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = |value: &Value| match value {
        Value::Array(list) => list.iter().filter_map(number).collect(),
        one => number(one).into_iter().collect::<Vec<u32>>(),
    };
    let eos = ids(&generation["eos_token_id"]);
    About {
        name: config["_name_or_path"].as_str().filter(|name| !name.is_empty()).map(str::to_owned),
        bos_token_id: number(&config["bos_token_id"]).or_else(|| number(&generation["bos_token_id"])),
        eos_token_ids: if eos.is_empty() { ids(&config["eos_token_id"]) } else { eos },
    }
}

fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let (index, whole) = (dir.join("model.safetensors.index.json"), dir.join("model.safetensors"));
    if !index.exists() {
        if !whole.exists()
            && (dir.join("pytorch_model.bin").exists() || dir.join("pytorch_model.bin.index.json").exists())
        {
            return Err(Error::Unsupported {
                path: dir.to_owned(),
                what: "holds pytorch_model.bin; safetensors are read".into(),
                hint: "save it again from transformers: model.save_pretrained(folder)".into(),
            });
        }
        return Ok(vec![whole]);
    }
    let value = read_json(&index)?;
    let map = value.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| Error::file(&index, "has no weight_map"))?;
    let mut names = std::collections::BTreeSet::new();
    for (tensor, file) in map {
        match file.as_str() {
            // A shard lies beside its index; a path would let a downloaded index read any file.
            Some(file) if !file.contains(['/', '\\']) && file != ".." => names.insert(file),
            _ => {
                return Err(Error::file(&index, format!("the shard of {tensor} is not a file name: {file}")));
            }
        };
    }
    if names.is_empty() {
        return Err(Error::file(&index, "weight_map is empty"));
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

pub(crate) fn read_json(path: &Path) -> Result<Value, Error> {
    let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::file(path, error))
}

pub(crate) fn write_json(path: &Path, value: &Value) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Error::file(path, error))?;
    text.push('\n');
    Ok(ledger::atomic::write(path, text.as_bytes())?)
}

impl Error {
    pub(crate) fn file(path: &Path, reason: impl ToString) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }
}
