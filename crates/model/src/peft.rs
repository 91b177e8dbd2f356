//! Adapter folders of Hugging Face's peft: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! What is written here loads in peft and vLLM. What they write loads here where it is plain LoRA on linear layers; kinds
//! that would need other arithmetic, or another base, are refused by name rather than read as if they were plain.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

use crate::adapters::{AdapterSettings, Adapters, Module};
use crate::formats::Fault;
use crate::formats::hf::{read_json, safetensors_file, write_json};
use crate::{Config, Error};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

const MERGE_HINT: &str = "merge it into its base with peft (`merge_and_unload`, then `save_pretrained`) and load the result as a model";

/// Writes both files into `dir`, which exists, each whole or not at all, the configuration last. `base` is what peft is
/// to load the adapters over: a folder, or a name on the Hub.
pub fn save(dir: &Path, adapters: &Adapters, base: Option<&str>) -> Result<(), Error> {
    let path = dir.join(WEIGHTS);
    let failed = |error: safetensors::SafeTensorError| Error::file(&path, error);
    let tensors = adapters.tensors();
    let mut views = Vec::with_capacity(tensors.len());
    for tensor in &tensors {
        let bytes = bytemuck::cast_slice(&adapters.data[tensor.range.clone()]);
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).map_err(failed)?;
        views.push((tensor.name.as_str(), view));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    ledger::atomic::write(&path, &safetensors::serialize(views, Some(metadata)).map_err(failed)?)?;
    write_json(&dir.join(CONFIG), &config_json(adapters.settings(), base))
}

/// The settings in a folder of adapters, whatever model they are for.
pub fn load_settings(dir: &Path) -> Result<AdapterSettings, Error> {
    let path = dir.join(CONFIG);
    settings(&path, &read_json(&path)?)
}

/// Reads the adapters of a folder for a model of this shape.
///
/// # Errors
/// Files that are missing or cut short, adapters of another kind or for another shape, tensors that are missing, too
/// many, of another shape or type, or that hold values which are not finite. The error names the file and the key or the
/// tensor.
pub fn load(dir: &Path, config: &Config) -> Result<Adapters, Error> {
    let settings = load_settings(dir)?;
    let path = dir.join(CONFIG);
    let mut adapters = Adapters::zeros(config, &settings).map_err(|error| Error::file(&path, error))?;
    let path = dir.join(WEIGHTS);
    let bytes = std::fs::read(&path).map_err(|error| Error::file(&path, error))?;
    let stored = safetensors_file::parse(&bytes).map_err(|fault| fault.of(&path, 0))?;
    let mut unknown: BTreeMap<&str, _> = stored.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for tensor in adapters.tensors() {
        let name = &tensor.name;
        let Some(stored) = unknown.remove(name.as_str()) else {
            return Err(Error::file(&path, format!("tensor {name} is missing")));
        };
        let fault =
            |byte: usize, reason: String| Fault::new(byte, format!("tensor {name}"), reason).of(&path, 0);
        if stored.shape != tensor.shape {
            let (found, meant) = (&stored.shape, &tensor.shape);
            let reason = format!("shape {found:?}, where the configuration means {meant:?}");
            return Err(fault(stored.bytes.start, reason));
        }
        let values = &mut adapters.data[tensor.range.clone()];
        stored.encoding.decode(&bytes[stored.bytes.clone()], 0, values);
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let byte = stored.bytes.start + place * stored.encoding.block_bytes();
            return Err(fault(byte, format!("value {place} is {}", values[place])));
        }
    }
    let Some(name) = unknown.keys().next() else { return Ok(adapters) };
    // peft saves whole layers beside the adapters where the vocabulary has grown (`save_embedding_layers`), whatever the
    // configuration says.
    match name.split('.').find_map(layer_of_words) {
        Some(layer) => Err(unsupported(&path, format!("tensor {name} changes {layer}; {READ}"))),
        None => Err(Error::file(&path, format!("tensor {name} belongs to no module of {CONFIG}"))),
    }
}

/// What is read of all that peft can adapt.
const READ: &str = "adapters are read on the seven linear layers of a block";

/// The layers before and after the blocks, which peft adapts and saves by these names.
fn layer_of_words(name: &str) -> Option<&'static str> {
    match name {
        "embed_tokens" => Some("the embedding"),
        "lm_head" => Some("the output layer"),
        _ => None,
    }
}

/// Adapters of another kind, which peft can merge into their base.
fn unsupported(path: &Path, what: String) -> Error {
    Error::Unsupported { path: path.to_owned(), what, hint: MERGE_HINT.to_owned() }
}

/// As peft's `LoraConfig` saves itself, with the keys that say something about plain LoRA.
fn config_json(settings: &AdapterSettings, base: Option<&str>) -> Value {
    let alpha = match settings.alpha {
        whole if whole.fract() == 0.0 => json!(whole as i64),
        broken => json!(broken),
    };
    json!({
        "alpha_pattern": {},
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": settings.rank,
        "rank_pattern": {},
        "target_modules": settings.modules.iter().map(|module| module.name()).collect::<Vec<_>>(),
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": settings.rank_stabilised,
    })
}

/// Keys that are read above or that say nothing about the arithmetic. Every other key, of today's peft or of a later one,
/// has to be off.
const UNDERSTOOD: [&str; 17] = [
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "revision",
    "target_modules",
    "task_type",
    "use_rslora",
];

fn settings(path: &Path, value: &Value) -> Result<AdapterSettings, Error> {
    let fault = |reason: String| Error::file(path, reason);
    let unsupported = |what: String| unsupported(path, what);
    let object: &Map<String, Value> =
        value.as_object().ok_or_else(|| fault("is not a JSON object".to_owned()))?;
    let get = |key: &str| object.get(key).unwrap_or(&Value::Null);
    if get("peft_type") != "LORA" {
        return Err(unsupported(format!("peft_type is {}; only \"LORA\" is read", get("peft_type"))));
    }
    for (key, value) in object.iter().filter(|(key, _)| !UNDERSTOOD.contains(&key.as_str())) {
        let off = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if !off {
            return Err(unsupported(format!("{key} is {value}; only plain LoRA is read")));
        }
    }
    if !matches!(get("bias"), Value::Null) && get("bias") != "none" {
        return Err(unsupported(format!("bias is {}; Llama's linear layers have none", get("bias"))));
    }
    // PiSSA, OLoRA and their like subtract from the base what they begin with; only peft can undo that.
    if let Value::String(way) = get("init_lora_weights")
        && !["gaussian", "eva", "orthogonal"].contains(&way.as_str())
    {
        return Err(unsupported(format!(
            "init_lora_weights is {way:?}, which changes the base model's weights"
        )));
    }
    let rank = get("r").as_u64().and_then(|rank| usize::try_from(rank).ok());
    let rank = rank.ok_or_else(|| fault(format!("r is {}, not a whole number", get("r"))))?;
    let alpha = get("lora_alpha").as_f64();
    let alpha = alpha.ok_or_else(|| fault(format!("lora_alpha is {}, not a number", get("lora_alpha"))))?;
    let dropout = match get("lora_dropout") {
        Value::Null => 0.0,
        value => value.as_f64().ok_or_else(|| fault(format!("lora_dropout is {value}, not a number")))?,
    };
    let modules = match get("target_modules") {
        Value::String(word) if word == "all-linear" => Module::ALL.to_vec(),
        Value::Array(names) => {
            names.iter().map(|name| module(name).map_err(unsupported)).collect::<Result<_, _>>()?
        }
        other => return Err(unsupported(format!("target_modules is {other}, not a list of names"))),
    };
    let rank_stabilised = get("use_rslora").as_bool().unwrap_or(false);
    Ok(AdapterSettings { rank, alpha: alpha as f32, rank_stabilised, dropout, modules })
}

fn module(name: &Value) -> Result<Module, String> {
    Module::ALL.into_iter().find(|module| name == module.name()).ok_or_else(|| {
        if let Some(layer) = name.as_str().and_then(layer_of_words) {
            return format!("target_modules names {name}, {layer}; {READ}");
        }
        let known = Module::ALL.map(Module::name).join(", ");
        format!("target_modules names {name}; known are {known}")
    })
}
