//! `config.json` of the Llama architecture, as transformers 4 and 5 write it.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{SaveOptions, Storage};
use crate::formats::{other_family, unsupported};
use crate::{Config, Error, RopeScaling};

/// The configuration in a `config.json`.
///
/// # Errors
/// Keys that are missing or no numbers, sizes that no Llama can have, and other architectures, by name.
pub fn read(path: &Path, value: &Value) -> Result<Config, Error> {
    let fault = |reason: String| Error::file(path, reason);
    let object = value.as_object().ok_or_else(|| fault("is not a JSON object".into()))?;
    refuse_other_architectures(path, object)?;
    let count = |key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(fault(format!("{key} is {value}, not a whole number"))),
        },
    };
    let needed = |key: &str| count(key)?.ok_or_else(|| fault(format!("{key} is missing")));
    let (dim, heads) = (needed("hidden_size")?, needed("num_attention_heads")?);
    // Transformers 5 keeps theta and scaling together in `rope_parameters`; 4 keeps them apart.
    let table = |key: &str| object.get(key).and_then(Value::as_object);
    let rope = table("rope_parameters").or_else(|| table("rope_scaling"));
    let theta = rope.and_then(|rope| rope.get("rope_theta")).or_else(|| object.get("rope_theta"));
    let max_seq_len = count("max_position_embeddings")?.unwrap_or(2048);
    // What transformers' `MistralConfig` means where its file is silent.
    let is_mistral = object.get("model_type").is_some_and(|kind| kind == "mistral");
    let window = match object.get("sliding_window") {
        None if is_mistral => Some(4096),
        _ => count("sliding_window")?,
    };
    if let Some(window) = window.filter(|window| *window < max_seq_len) {
        let said = format!("sliding_window is {window}: attention that forgets is not supported");
        return Err(unsupported(path, said));
    }
    let config = Config {
        dim,
        layers: needed("num_hidden_layers")?,
        heads,
        kv_heads: count("num_key_value_heads")?.unwrap_or(if is_mistral { 8 } else { heads }),
        head_dim: match count("head_dim")? {
            Some(width) => width,
            None => dim.checked_div(heads).unwrap_or(0),
        },
        ffn_dim: needed("intermediate_size")?,
        vocab_size: needed("vocab_size")?,
        norm_eps: number(object, "rms_norm_eps").unwrap_or(1e-6),
        rope_theta: theta.and_then(Value::as_f64).map_or(10_000.0, |theta| theta as f32),
        rope_scaling: rope.map_or(Ok(None), |rope| scaling(path, rope))?,
        tied_embeddings: object.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
        max_seq_len,
    };
    config.validate().map_err(|error| fault(error.to_string()))?;
    Ok(config)
}

/// Refuses what would be computed otherwise than a Llama, each by its name.
fn refuse_other_architectures(path: &Path, object: &Map<String, Value>) -> Result<(), Error> {
    let model_type = object.get("model_type").and_then(Value::as_str).unwrap_or("nothing");
    // Mistral's first models are Llamas but for the sliding window, which is looked at with the context.
    if !["llama", "mistral"].contains(&model_type) {
        return Err(other_family(path, format!("model_type is {model_type:?}"), model_type));
    }
    for key in ["attention_bias", "mlp_bias"] {
        if object.get(key).and_then(Value::as_bool) == Some(true) {
            return Err(unsupported(path, format!("{key} is true; biases are not supported")));
        }
    }
    if let Some(activation) = object.get("hidden_act").and_then(Value::as_str)
        && activation != "silu"
    {
        return Err(unsupported(path, format!("hidden_act is {activation:?}; only \"silu\" is supported")));
    }
    if object.get("partial_rotary_factor").and_then(Value::as_f64).is_some_and(|share| share != 1.0) {
        let said = "partial_rotary_factor is not 1: heads that are turned in part are not supported";
        return Err(unsupported(path, said.into()));
    }
    if let Some(quantised) = object.get("quantization_config").filter(|value| !value.is_null()) {
        let method = quantised.get("quant_method").and_then(Value::as_str).unwrap_or("of no name");
        let said = format!("quantization_config is there: weights by {method} are not read");
        return Err(unsupported(path, said));
    }
    Ok(())
}

fn number(object: &Map<String, Value>, key: &str) -> Option<f32> {
    object.get(key).and_then(Value::as_f64).map(|value| value as f32)
}

fn scaling(path: &Path, rope: &Map<String, Value>) -> Result<Option<RopeScaling>, Error> {
    let kind =
        rope.get("rope_type").or_else(|| rope.get("type")).and_then(Value::as_str).unwrap_or("default");
    match kind {
        "default" => Ok(None),
        "llama3" => {
            let needed = |key: &str| {
                number(rope, key).ok_or_else(|| Error::file(path, format!("rope scaling has no {key}")))
            };
            Ok(Some(RopeScaling {
                factor: needed("factor")?,
                low_freq_factor: needed("low_freq_factor")?,
                high_freq_factor: needed("high_freq_factor")?,
                original_max_seq_len: needed("original_max_position_embeddings")? as usize,
            }))
        }
        other => Err(unsupported(
            path,
            format!("rope scaling is {other:?}; \"default\" and \"llama3\" are supported"),
        )),
    }
}

/// The `config.json` of a configuration, in the form of transformers 4, which 5 and others read too.
pub(super) fn write(config: &Config, options: &SaveOptions) -> Value {
    // A lone end token is written as a number: some readers expect no list.
    let eos = match options.eos_token_ids.as_slice() {
        [one] => json!(one),
        several => json!(several),
    };
    let scaling = config.rope_scaling.as_ref().map(|scaling| {
        json!({
            "factor": exact(scaling.factor),
            "high_freq_factor": exact(scaling.high_freq_factor),
            "low_freq_factor": exact(scaling.low_freq_factor),
            "original_max_position_embeddings": scaling.original_max_seq_len,
            "rope_type": "llama3",
        })
    });
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": options.bos_token_id,
        "eos_token_id": eos,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.dim,
        "initializer_range": 0.02,
        "intermediate_size": config.ffn_dim,
        "max_position_embeddings": config.max_seq_len,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": exact(config.norm_eps),
        "rope_scaling": scaling,
        "rope_theta": exact(config.rope_theta),
        "tie_word_embeddings": config.tied_embeddings,
        "torch_dtype": match options.storage {
            Storage::F16 => "float16",
            Storage::Bf16 => "bfloat16",
            _ => "float32",
        },
        "use_cache": true,
        "vocab_size": config.vocab_size,
    })
}

/// The decimal number that an f32 was written as: 1e-5, not 9.999999747378752e-6.
fn exact(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
