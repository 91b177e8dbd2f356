//! What the keys of a GGUF file of architecture `llama` mean, in both directions, as llama.cpp's converter writes them.
//!
//! Llama 3.1's rope scaling has no keys there: the file holds a tensor of the factors that divide each frequency. The four
//! numbers behind them are found again from it, and are also written under keys of our own, which others pass over.

use std::path::Path;

use kernels::quant::Encoding;

use super::header::Header;
use super::value::Value;
use crate::formats::map::Mapped;
use crate::formats::{About, Stored, other_family, unsupported};
use crate::{Config, Error, RopeScaling};

/// The tensor of the factors, `[C / 2]`.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Factors are written in f32 by programs that compute them in different orders.
const TOLERANCE: f32 = 1e-4;

/// Keys that are read below, or that say nothing about the arithmetic.
const UNDERSTOOD: [&str; 17] = [
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "vocab_size",
];

/// The configuration that a header means, with the tensors of all parts; `files` are where they lie, for the factors.
///
/// # Errors
/// Another architecture, and keys that are missing, contradict each other, or ask for what is not computed here.
pub(super) fn read(
    path: &Path,
    header: &Header,
    tensors: &[Stored],
    files: &[Mapped],
) -> Result<(Config, About), Error> {
    let fault = |reason: String| Error::file(path, reason);
    let text = |key: &str| header.get(key).and_then(Value::as_str);
    let architecture = text("general.architecture").unwrap_or("nothing");
    if architecture != "llama" {
        return Err(other_family(path, format!("general.architecture is {architecture:?}"), architecture));
    }
    refuse_unknown_keys(path, header)?;

    let count = |key: &str| match header.get(&format!("llama.{key}")) {
        None => Ok(None),
        Some(value) => match value.as_u64().and_then(|count| usize::try_from(count).ok()) {
            Some(count) => Ok(Some(count)),
            None => Err(fault(format!("llama.{key} is no whole number"))),
        },
    };
    let needed = |key: &str| count(key)?.ok_or_else(|| fault(format!("llama.{key} is missing")));
    let number = |key: &str| match header.get(&format!("llama.{key}")) {
        None => Ok(None),
        Some(value) => value.as_f32().map(Some).ok_or_else(|| fault(format!("llama.{key} is no number"))),
    };
    let (dim, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
    let head_dim = match count("attention.key_length")? {
        Some(length) => length,
        None => dim.checked_div(heads).unwrap_or(0),
    };
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(length) = count(key)?.filter(|length| *length != head_dim) {
            let said =
                format!("llama.{key} is {length}, and a head's keys have {head_dim}; they are one here");
            return Err(unsupported(path, said));
        }
    }
    let tensor = |name: &str| tensors.iter().find(|tensor| tensor.name == name);
    let rows = || tensor("token_embd.weight").and_then(|tensor| tensor.shape.first().copied());
    let config = Config {
        dim,
        layers: needed("block_count")?,
        heads,
        kv_heads: count("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        ffn_dim: needed("feed_forward_length")?,
        vocab_size: match rows() {
            Some(rows) => rows,
            None => needed("vocab_size")?,
        },
        norm_eps: number("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| fault("llama.attention.layer_norm_rms_epsilon is missing".into()))?,
        rope_theta: number("rope.freq_base")?.unwrap_or(10_000.0),
        rope_scaling: None,
        tied_embeddings: tensor("output.weight").is_none(),
        max_seq_len: needed("context_length")?,
    };
    config.validate().map_err(|error| fault(error.to_string()))?;
    if let Some(window) =
        count("attention.sliding_window")?.filter(|window| (1..config.max_seq_len).contains(window))
    {
        return Err(unsupported(
            path,
            format!("llama.attention.sliding_window is {window}: attention that forgets"),
        ));
    }
    let rope_scaling = match tensor(ROPE_FACTORS) {
        None => None,
        Some(stored) => {
            let file = &files[stored.file];
            let mut factors = vec![0.0; stored.values()];
            stored.encoding.decode(&file.bytes[stored.bytes.clone()], 0, &mut factors);
            let found = own_scaling(header)
                .into_iter()
                .chain(usual_scaling(&factors))
                .chain(fitted_scaling(&config, &factors));
            let mut fitting = found.filter(|scaling| agrees(&config, scaling, &factors));
            let scaling = fitting.next().ok_or_else(|| Error::Damaged {
                path: file.path.clone(),
                byte: stored.bytes.start as u64,
                what: format!("tensor {ROPE_FACTORS}"),
                reason: "its factors are not those of Llama 3.1's scaling for any four numbers".into(),
            })?;
            Some(scaling)
        }
    };
    let config = Config { rope_scaling, ..config };
    config.validate().map_err(|error| fault(error.to_string()))?;

    let id = |key: &str| header.get(key).and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let mut eos_token_ids = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eom_token_id", "tokenizer.ggml.eot_token_id"] {
        eos_token_ids.extend(id(key).filter(|id| !eos_token_ids.contains(id)));
    }
    let name = text("general.name").map(str::to_owned);
    Ok((config, About { name, bos_token_id: id("tokenizer.ggml.bos_token_id"), eos_token_ids }))
}

/// A key of the architecture that is not understood could change what the model computes.
fn refuse_unknown_keys(path: &Path, header: &Header) -> Result<(), Error> {
    for (key, value) in &header.metadata {
        let Some(own) = key.strip_prefix("llama.") else { continue };
        let off = matches!(value, Value::Bool(false)) || value.as_u64() == Some(0);
        if !off && !UNDERSTOOD.contains(&own) {
            return Err(unsupported(path, format!("{key} is set, which is not computed here")));
        }
    }
    let kind = header.get("llama.rope.scaling.type").and_then(Value::as_str);
    let factor = header.get("llama.rope.scaling.factor").and_then(Value::as_f32);
    match (kind, factor) {
        (Some("none"), _) | (Some("linear") | None, None | Some(1.0)) => Ok(()),
        (kind, _) => {
            let kind = kind.unwrap_or("linear");
            Err(unsupported(
                path,
                format!("llama.rope.scaling.type is {kind:?}; Llama 3.1's scaling is read"),
            ))
        }
    }
}

/// By how much each frequency is divided, if any is.
pub(super) fn rope_factors(config: &Config) -> Option<Vec<f32>> {
    config.rope_scaling.as_ref()?;
    let plain = Config { rope_scaling: None, ..config.clone() }.rope_frequencies();
    Some(plain.iter().zip(config.rope_frequencies()).map(|(plain, scaled)| plain / scaled).collect())
}

const OWN: [&str; 4] = [
    "altiplano.rope_scaling.factor",
    "altiplano.rope_scaling.low_freq_factor",
    "altiplano.rope_scaling.high_freq_factor",
    "altiplano.rope_scaling.original_max_seq_len",
];

fn own_scaling(header: &Header) -> Option<RopeScaling> {
    let [factor, low, high, original] = OWN.map(|key| header.get(key));
    Some(RopeScaling {
        factor: factor?.as_f32()?,
        low_freq_factor: low?.as_f32()?,
        high_freq_factor: high?.as_f32()?,
        original_max_seq_len: usize::try_from(original?.as_u64()?).ok()?,
    })
}

/// What Meta's models have, but for the factor.
fn usual_scaling(factors: &[f32]) -> Option<RopeScaling> {
    Some(RopeScaling {
        factor: factors.iter().copied().reduce(f32::max)?,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_seq_len: 8192,
    })
}

/// Between the two bands the inverse factor is a line over the frequency, which gives the bands' borders. Only ratios of
/// them matter: the lower one is taken as 1, as all known models have it. Where a small model has one frequency between the
/// bands, the upper one is taken as 4 as well; where it has none, any border between its neighbours means the same model.
fn fitted_scaling(config: &Config, factors: &[f32]) -> Option<RopeScaling> {
    let largest = f64::from(factors.iter().copied().reduce(f32::max)?);
    let plain = Config { rope_scaling: None, ..config.clone() }.rope_frequencies();
    let is_kept = |factor: f32| factor < 1.0 + TOLERANCE;
    let is_divided = |factor: f32| f64::from(factor) > largest * (1.0 - 1e-4);
    let wavelength = |frequency: &f32| std::f64::consts::TAU / f64::from(*frequency);
    // 1 / f = (1 - s) / largest + s, and s = slope / wavelength - offset.
    let between: Vec<(f64, f64)> = plain
        .iter()
        .zip(factors)
        .filter(|(_, factor)| !is_kept(**factor) && !is_divided(**factor))
        .map(|(frequency, factor)| {
            let smooth = (1.0 / f64::from(*factor) - 1.0 / largest) / (1.0 - 1.0 / largest);
            (wavelength(frequency), smooth)
        })
        .collect();
    let (high, original) = match between.as_slice() {
        [] => {
            let kept = plain.iter().zip(factors).rfind(|(_, factor)| is_kept(**factor))?;
            let divided = plain.iter().zip(factors).find(|(_, factor)| is_divided(**factor))?;
            (4.0, (4.0 * wavelength(kept.0) * wavelength(divided.0)).sqrt())
        }
        [(wavelength, smooth)] => (4.0, wavelength * (3.0 * smooth + 1.0)),
        [first, .., last] => {
            let slope = (first.1 - last.1) / (1.0 / first.0 - 1.0 / last.0);
            let offset = slope / first.0 - first.1;
            (1.0 + 1.0 / offset, slope / offset)
        }
    };
    let sound = original.is_finite() && original >= 1.0 && high > 1.0;
    sound.then(|| RopeScaling {
        factor: largest as f32,
        low_freq_factor: 1.0,
        high_freq_factor: round_near(high) as f32,
        original_max_seq_len: round_near(original).round() as usize,
    })
}

/// The whole number that lies within a thousandth, if there is one.
fn round_near(value: f64) -> f64 {
    if (value - value.round()).abs() < 1e-3 * value { value.round() } else { value }
}

fn agrees(config: &Config, scaling: &RopeScaling, factors: &[f32]) -> bool {
    let config = Config { rope_scaling: Some(scaling.clone()), ..config.clone() };
    config.validate().is_ok()
        && rope_factors(&config).is_some_and(|meant| {
            let near = |(found, meant): (&f32, &f32)| (found - meant).abs() <= TOLERANCE * meant;
            meant.len() == factors.len() && factors.iter().zip(&meant).all(near)
        })
}

/// llama.cpp's number for what most values of a file are stored as (`llama_ftype`).
pub(super) fn file_type(mostly: Encoding) -> u32 {
    match mostly {
        Encoding::F32 => 0,
        Encoding::F16 => 1,
        Encoding::Q4_0 => 2,
        Encoding::Q4_1 => 3,
        Encoding::Q8_0 => 7,
        Encoding::Q5_0 => 8,
        Encoding::Q5_1 => 9,
        Encoding::Q2K => 10,
        // Of the mixtures, the medium one.
        Encoding::Q3K => 12,
        Encoding::Q4K => 15,
        Encoding::Q5K => 17,
        Encoding::Q6K => 18,
        Encoding::Bf16 => 32,
    }
}

/// The model's own keys.
pub(super) fn metadata(config: &Config, mostly: Encoding) -> Vec<(String, Value)> {
    let number = |value: usize| Value::U32(u32::try_from(value).unwrap_or(u32::MAX));
    let mut keys = vec![
        ("general.architecture", Value::text("llama")),
        ("general.type", Value::text("model")),
        ("general.file_type", Value::U32(file_type(mostly))),
        ("general.quantization_version", Value::U32(2)),
        ("llama.block_count", number(config.layers)),
        ("llama.context_length", number(config.max_seq_len)),
        ("llama.embedding_length", number(config.dim)),
        ("llama.feed_forward_length", number(config.ffn_dim)),
        ("llama.attention.head_count", number(config.heads)),
        ("llama.attention.head_count_kv", number(config.kv_heads)),
        ("llama.attention.key_length", number(config.head_dim)),
        ("llama.attention.value_length", number(config.head_dim)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(config.norm_eps)),
        ("llama.rope.dimension_count", number(config.head_dim)),
        ("llama.rope.freq_base", Value::F32(config.rope_theta)),
        ("llama.vocab_size", number(config.vocab_size)),
    ];
    if let Some(scaling) = &config.rope_scaling {
        keys.extend([
            (OWN[0], Value::F32(scaling.factor)),
            (OWN[1], Value::F32(scaling.low_freq_factor)),
            (OWN[2], Value::F32(scaling.high_freq_factor)),
            (OWN[3], number(scaling.original_max_seq_len)),
        ]);
    }
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The four numbers come back from the factors alone.
    #[test]
    fn scaling_is_found_again_from_its_factors() {
        for (factor, high, original) in
            [(8.0, 4.0, 8192), (32.0, 4.0, 8192), (4.0, 3.0, 2048), (16.0, 8.0, 32_768)]
        {
            let scaling = RopeScaling {
                factor,
                low_freq_factor: 1.0,
                high_freq_factor: high,
                original_max_seq_len: original,
            };
            let config = Config { rope_scaling: Some(scaling.clone()), ..Config::preset("1b").unwrap() };
            let factors = rope_factors(&config).unwrap();
            let found = usual_scaling(&factors).into_iter().chain(fitted_scaling(&config, &factors));
            let found: Vec<_> = found.filter(|found| agrees(&config, found, &factors)).collect();
            assert_eq!(found.first(), Some(&scaling));
        }
        let config = Config::preset("8b").unwrap();
        let linear = vec![2.0; 64];
        let found = usual_scaling(&linear).into_iter().chain(fitted_scaling(&config, &linear));
        assert_eq!(found.filter(|found| agrees(&config, found, &linear)).count(), 0);
    }
}
