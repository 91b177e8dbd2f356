//! Hugging Face folders: `config.json`, `generation_config.json` and `model.safetensors`, whole or in shards.
//!
//! The tokenizer's files are the tokenizer's business. What is written here loads in transformers and vLLM; what
//! they write (f32, bf16 or f16) loads here.

mod config_json;
mod tensors_file;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::bf16;
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::weights::tensors;
use crate::{Config, Error, Formats, Frozen, Weights};
pub(crate) use tensors_file::copy_tensor;
use tensors_file::{check_shape, copy_part};

/// How values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// Four bytes, exact.
    #[default]
    F32,
    /// Two bytes, rounded to nearest even.
    Bf16,
}

/// What a folder says beside the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct SaveOptions {
    /// How values are stored.
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
    let (dtype, width) = match options.storage {
        Storage::F32 => (Dtype::F32, 4),
        Storage::Bf16 => (Dtype::BF16, 2),
    };
    let mut shards = vec![Vec::new()];
    let mut bytes = 0;
    for tensor in tensors(&weights.config) {
        let size = tensor.range.len() * width;
        if bytes > 0 && bytes + size > options.shard_bytes {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        shards.last_mut().expect("one shard at least").push(tensor);
    }
    let count = shards.len();
    let mut index = BTreeMap::new();
    for (number, shard) in shards.iter().enumerate() {
        let file = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        let stored: Vec<Vec<u8>> = shard
            .iter()
            .map(|tensor| match options.storage {
                Storage::F32 => Vec::new(),
                Storage::Bf16 => {
                    let values = &weights.data[tensor.range.clone()];
                    values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
                }
            })
            .collect();
        let path = dir.join(&file);
        let failed = |error: safetensors::SafeTensorError| Error::file(&path, error);
        let mut views = Vec::with_capacity(shard.len());
        for (tensor, stored) in shard.iter().zip(&stored) {
            let bytes: &[u8] = match options.storage {
                Storage::F32 => bytemuck::cast_slice(&weights.data[tensor.range.clone()]),
                Storage::Bf16 => stored,
            };
            index.insert(tensor.name.clone(), file.clone());
            let view = TensorView::new(dtype, tensor.shape.clone(), bytes).map_err(failed)?;
            views.push((tensor.name.as_str(), view));
        }
        let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
        ledger::atomic::write(&path, &safetensors::serialize(views, Some(metadata)).map_err(failed)?)?;
    }
    if count > 1 {
        let total = weights.data.len() * width;
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
    write_json(&dir.join("config.json"), &config_json::write(&weights.config, options))
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
/// type, or that hold values which are not finite. The error names the file and the tensor.
pub fn load(dir: &Path) -> Result<Weights, Error> {
    let config = load_config(dir)?;
    let mut weights = Weights::zeros(&config)?;
    let mut missing: BTreeMap<String, _> =
        tensors(&config).into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let files = weight_files(dir)?;
    for path in &files {
        let bytes = map(path)?;
        let stored = SafeTensors::deserialize(&bytes).map_err(|error| Error::file(path, error))?;
        for (name, view) in stored.iter() {
            if let Some(tensor) = missing.remove(name) {
                copy_tensor(path, &tensor, &view, &mut weights.data[tensor.range.clone()])?;
            }
        }
    }
    match missing.keys().next() {
        None => Ok(weights),
        Some(name) => {
            let more = missing.len() - 1;
            Err(Error::file(&files[0], format!("tensor {name} is missing (and {more} more)")))
        }
    }
}

/// Reads a folder as a frozen model: its weights are quantised as they are read, and are never whole in memory.
///
/// # Errors
/// Those of [`load`].
pub fn load_frozen(dir: &Path, formats: Formats) -> Result<Frozen, Error> {
    let config = load_config(dir)?;
    config.validate()?;
    let files = weight_files(dir)?;
    let maps = files.iter().map(|path| map(path)).collect::<Result<Vec<_>, _>>()?;
    let mut stored = Vec::with_capacity(files.len());
    for (path, bytes) in files.iter().zip(&maps) {
        stored.push((path, SafeTensors::deserialize(bytes).map_err(|error| Error::file(path, error))?));
    }
    let tensors = tensors(&config);
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in &tensors {
        let found = stored.iter().find_map(|(path, file)| Some((*path, file.tensor(&tensor.name).ok()?)));
        let missing = || Error::file(&files[0], format!("tensor {} is missing", tensor.name));
        let (path, view) = found.ok_or_else(missing)?;
        check_shape(path, tensor, &view)?;
        views.push((path, view));
    }
    Frozen::build(&config, formats, |mut place, mut values| {
        while !values.is_empty() {
            let index = tensors.partition_point(|tensor| tensor.range.end <= place);
            let (tensor, (path, view)) = (&tensors[index], &views[index]);
            let (now, rest) = values.split_at_mut((tensor.range.end - place).min(values.len()));
            copy_part(path, tensor, view, place - tensor.range.start, now)?;
            place += now.len();
            values = rest;
        }
        Ok(())
    })
}

fn map(path: &Path) -> Result<Mmap, Error> {
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    // SAFETY: the file is read as bytes; if somebody cuts it short meanwhile, the process gets SIGBUS, which every
    // program that maps model files accepts.
    unsafe { Mmap::map(&file) }.map_err(|error| Error::file(path, error))
}

fn weight_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let index = dir.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec![dir.join("model.safetensors")]);
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

pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value, Error> {
    let bytes = std::fs::read(path).map_err(|error| Error::file(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::file(path, error))
}

pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Error::file(path, error))?;
    text.push('\n');
    Ok(ledger::atomic::write(path, text.as_bytes())?)
}

impl Error {
    pub(crate) fn file(path: &Path, reason: impl ToString) -> Self {
        Self::File { path: path.to_owned(), reason: reason.to_string() }
    }
}
