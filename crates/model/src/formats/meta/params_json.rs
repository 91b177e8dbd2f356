//! `params.json`, the arguments of Meta's model.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::{Config, Error, RopeScaling};

/// Keys that are read below, or that say nothing about the arithmetic.
const UNDERSTOOD: [&str; 14] = [
    "dim",
    "ffn_dim_multiplier",
    "head_dim",
    "max_batch_size",
    "max_seq_len",
    "model_parallel_size",
    "multiple_of",
    "n_heads",
    "n_kv_heads",
    "n_layers",
    "norm_eps",
    "rope_scaling_factor",
    "rope_theta",
    "use_scaled_rope",
];

/// The configuration in a `params.json`. The output layer is taken as untied; `vocabulary` is the number of its rows, for
/// files that leave the vocabulary open.
///
/// # Errors
/// Keys that are missing, of another type, or of another architecture, by name.
pub fn read(path: &Path, value: &Value, vocabulary: Option<usize>) -> Result<Config, Error> {
    let fault = |reason: String| Error::file(path, reason);
    let object = value.as_object().ok_or_else(|| fault("is not a JSON object".into()))?;
    refuse_unknown_keys(path, object)?;
    let get = |key: &str| object.get(key).filter(|value| !value.is_null());
    let count = |key: &str| match get(key) {
        None => Ok(None),
        Some(value) => match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(count) if count <= 1 << 28 => Ok(Some(count)),
            _ => Err(fault(format!("{key} is {value}, no size of a Llama"))),
        },
    };
    let needed = |key: &str| count(key)?.ok_or_else(|| fault(format!("{key} is missing")));
    let number = |key: &str| match get(key) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| fault(format!("{key} is {value}, no number"))),
    };
    let (dim, heads) = (needed("dim")?, needed("n_heads")?);
    let head_dim = dim.checked_div(heads).unwrap_or(0);
    if let Some(width) = count("head_dim")?.filter(|width| *width != head_dim) {
        return Err(fault(format!("head_dim is {width}, and {heads} heads of it are not {dim}")));
    }
    let vocab_size = match get("vocab_size").map(|value| (value, value.as_i64())) {
        // Llama 2's says -1: whatever the tokenizer has.
        None | Some((_, Some(-1))) => vocabulary,
        _ => count("vocab_size")?,
    };
    let multiplier = number("ffn_dim_multiplier")?;
    let rope_theta = number("rope_theta")?.unwrap_or(10_000.0) as f32;
    let is_scaled = match get("use_scaled_rope") {
        None => false,
        Some(value) => value.as_bool().ok_or_else(|| fault(format!("use_scaled_rope is {value}")))?,
    };
    let mut config = Config {
        dim,
        layers: needed("n_layers")?,
        heads,
        kv_heads: count("n_kv_heads")?.unwrap_or(heads),
        head_dim,
        ffn_dim: ffn_dim(dim, multiplier, needed("multiple_of")?.max(1)),
        vocab_size: vocab_size.ok_or_else(|| fault("vocab_size is missing".into()))?,
        norm_eps: number("norm_eps")?.unwrap_or(1e-5) as f32,
        rope_theta,
        rope_scaling: None,
        tied_embeddings: false,
        // Not in the file: the lengths that the releases with these values of theta and scaling were trained for.
        max_seq_len: match (is_scaled, rope_theta) {
            (true, _) => 131_072,
            (false, 500_000.0) => 8192,
            (false, 1_000_000.0) => 16_384,
            (false, _) => 4096,
        },
    };
    if is_scaled {
        let factor = number("rope_scaling_factor")?.map(|factor| factor as f32);
        let usual = scaling_of(&config);
        config.rope_scaling = Some(RopeScaling { factor: factor.unwrap_or(usual.factor), ..usual });
    }
    config.validate().map_err(|error| fault(error.to_string()))?;
    Ok(config)
}

fn refuse_unknown_keys(path: &Path, object: &Map<String, Value>) -> Result<(), Error> {
    let is_off = |value: &Value| value.is_null() || *value == Value::Bool(false) || value.as_u64() == Some(0);
    let unknown = |(key, value): &(&String, &Value)| {
        *key != "vocab_size" && !UNDERSTOOD.contains(&key.as_str()) && !is_off(value)
    };
    match object.iter().find(unknown) {
        None => Ok(()),
        Some((key, _)) => Err(Error::Unsupported {
            path: path.to_owned(),
            what: format!("{key} is set, which is not computed here"),
            hint: "Meta's text models of Llama 2, 3, 3.1, 3.2 and 3.3 are read, not vision, quantised or LoRA ones".into(),
        }),
    }
}

/// Width of the feed-forward, as in the reference model: both products are cut to whole numbers.
fn ffn_dim(dim: usize, multiplier: Option<f64>, multiple_of: usize) -> usize {
    let hidden = 2 * (4 * dim) / 3;
    let hidden = multiplier.map_or(hidden, |multiplier| (multiplier * hidden as f64) as usize);
    hidden.div_ceil(multiple_of).saturating_mul(multiple_of)
}

/// How Meta scales the frequencies of a model of this shape. `params.json` says only that it does: the 1B and the 3B were
/// trained with 32, as their Hugging Face configurations say, all others with 8.
pub(super) fn scaling_of(config: &Config) -> RopeScaling {
    let is_small = [(2048, 16), (3072, 28)].contains(&(config.dim, config.layers));
    RopeScaling {
        factor: if is_small { 32.0 } else { 8.0 },
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_seq_len: 8192,
    }
}

/// The `params.json` of a configuration that it can express.
pub(super) fn write(config: &Config) -> Value {
    let (multiplier, multiple_of) = ffn_parameters(config.dim, config.ffn_dim);
    let mut object = Map::new();
    object.insert("dim".into(), config.dim.into());
    if let Some(multiplier) = multiplier {
        object.insert("ffn_dim_multiplier".into(), json!(multiplier));
    }
    object.insert("multiple_of".into(), multiple_of.into());
    object.insert("n_heads".into(), config.heads.into());
    object.insert("n_kv_heads".into(), config.kv_heads.into());
    object.insert("n_layers".into(), config.layers.into());
    object.insert("norm_eps".into(), json!(config.norm_eps.to_string().parse::<f64>().unwrap_or_default()));
    object.insert("rope_theta".into(), json!(f64::from(config.rope_theta)));
    if config.rope_scaling.is_some() {
        object.insert("use_scaled_rope".into(), true.into());
    }
    object.insert("vocab_size".into(), config.vocab_size.into());
    Value::Object(object)
}

/// A multiplier and a multiple that lead to a width: the roundest that do.
fn ffn_parameters(dim: usize, width: usize) -> (Option<f64>, usize) {
    let multiples = [4096, 1024, 256, 64, 16, 4, 1];
    let plain = multiples.into_iter().find(|multiple| ffn_dim(dim, None, *multiple) == width);
    if let Some(multiple) = plain {
        return (None, multiple);
    }
    let hidden = (2 * (4 * dim) / 3) as f64;
    for digits in [10.0, 100.0, 1000.0, 1e6, 1e9] {
        for multiple in multiples {
            // Anything in the last multiple below the width is rounded up to it.
            for target in [width as f64, width as f64 - multiple as f64 / 2.0, width as f64 + 0.5] {
                let multiplier = (target / hidden * digits).round() / digits;
                if multiplier > 0.0 && ffn_dim(dim, Some(multiplier), multiple) == width {
                    return (Some(multiplier), multiple);
                }
            }
        }
    }
    (Some((width as f64 + 0.5) / hidden), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_parameters_mean_the_released_models() {
        for (name, multiplier, multiple_of) in
            [("8b", 1.3, 1024), ("70b", 1.3, 4096), ("405b", 1.2, 4096), ("1b", 1.5, 256), ("3b", 1.0, 256)]
        {
            let meant = Config::preset(name).unwrap();
            let mut value = json!({
                "dim": meant.dim, "n_layers": meant.layers, "n_heads": meant.heads, "n_kv_heads": meant.kv_heads,
                "vocab_size": meant.vocab_size, "multiple_of": multiple_of, "ffn_dim_multiplier": multiplier,
                "norm_eps": 1e-5, "rope_theta": 500000.0,
            });
            if meant.rope_scaling.is_some() {
                value["use_scaled_rope"] = true.into();
            }
            let found = read(Path::new("params.json"), &value, None).unwrap();
            assert_eq!(found, Config { tied_embeddings: false, ..meant.clone() }, "{name}");
            let again = read(Path::new("params.json"), &write(&meant), None).unwrap();
            assert_eq!(again, found, "{name}");
        }
    }

    #[test]
    fn llama_2_leaves_the_vocabulary_open() {
        let value = json!({"dim": 4096, "multiple_of": 256, "n_heads": 32, "n_layers": 32, "norm_eps": 1e-05, "vocab_size": -1});
        let found = read(Path::new("params.json"), &value, Some(32_000)).unwrap();
        assert_eq!((found.ffn_dim, found.vocab_size, found.kv_heads), (11_008, 32_000, 32));
        assert_eq!((found.rope_theta, found.max_seq_len), (10_000.0, 4096));
        assert!(read(Path::new("params.json"), &value, None).unwrap_err().to_string().contains("vocab_size"));
    }

    #[test]
    fn any_width_has_parameters() {
        for dim in [8, 30, 64, 288, 4096] {
            for width in (1..400).chain([1000, 4097, 11_008, 14_336, 28_672]) {
                let (multiplier, multiple) = ffn_parameters(dim, width);
                assert_eq!(ffn_dim(dim, multiplier, multiple), width, "{dim}: {multiplier:?} {multiple}");
            }
        }
    }

    #[test]
    fn what_is_not_computed_is_named() {
        for (key, part) in
            [("quantization_args", "quantization_args"), ("vision_chunk_size", "vision_chunk_size")]
        {
            let value = json!({"dim": 8, "multiple_of": 4, "n_heads": 2, "n_layers": 1, "vocab_size": 9, (key): {"a": 1}});
            let error = read(Path::new("params.json"), &value, None).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        let huge = json!({"dim": u64::MAX, "multiple_of": 4, "n_heads": 2, "n_layers": 1, "vocab_size": 9});
        assert!(read(Path::new("params.json"), &huge, None).unwrap_err().to_string().contains("dim is"));
    }
}
