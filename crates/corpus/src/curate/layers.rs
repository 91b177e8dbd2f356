//! The layers of the first pass, and what tells whether what an earlier run left of one is still of use.

use std::path::Path;

use ledger::digest::Digest;
use serde::Serialize;

use super::Options;
use super::work::Layer;
use crate::location::State;
use crate::source::Inputs;
use crate::steps::{self, Step};
use crate::{Error, Settings};

/// The layers: the extraction, which takes most of the time and has no thresholds, and the rest. Where the work folder is
/// not kept, nothing can be filtered again, and they are one.
pub(super) fn layers(
    settings: &Settings,
    evaluation_texts: &[String],
    inputs: &Inputs,
    options: &Options,
) -> Result<Vec<Layer>, Error> {
    let steps = layer_steps(settings, evaluation_texts, options.keep_work)?;
    // What the lists say that the settings name.
    let lists: Vec<Option<Digest>> =
        settings.files().iter().map(|path| Digest::of_path(Path::new(path)).ok()).collect();
    let read = Digest::of_value(&(
        "curation 1",
        program(),
        origins(inputs),
        (&settings.registry, settings.include_hidden),
        (settings.text_part_bytes, settings.max_input_document_bytes),
    ))?;
    // What only the plan and the second pass look at.
    let mut filtering = settings.clone();
    let defaults = Settings::default();
    filtering.max_documents = defaults.max_documents;
    filtering.max_bytes = defaults.max_bytes;
    filtering.shard_bytes = defaults.shard_bytes;
    filtering.held_out = defaults.held_out;
    filtering.exact_dedup = defaults.exact_dedup;
    filtering.minhash.min_similarity = defaults.minhash.min_similarity;
    filtering.substring = defaults.substring;
    filtering.line_dedup = defaults.line_dedup;
    filtering.token_distribution = defaults.token_distribution;
    filtering.semantic = defaults.semantic;
    (filtering.url_dedup.enabled, filtering.url_dedup.keep) =
        (defaults.url_dedup.enabled, defaults.url_dedup.keep);
    let filtered = Digest::of_value(&(&read, options.keep_work, &filtering, evaluation_texts, &lists))?;
    let extracted = Digest::of_value(&(&read, &settings.url, &settings.removed, &lists))?;
    let layers: Vec<Layer> = match <[_; 2]>::try_from(steps) {
        Ok([extraction, filters]) => vec![
            Layer { name: "extracted", steps: extraction, fingerprint: extracted },
            Layer { name: "filtered", steps: filters, fingerprint: filtered },
        ],
        Err(steps) => steps
            .into_iter()
            .map(|steps| Layer { name: "filtered", steps, fingerprint: filtered.clone() })
            .collect(),
    };
    Ok(layers)
}

/// The steps of each layer.
pub(super) fn layer_steps(
    settings: &Settings,
    evaluation_texts: &[String],
    keep_work: bool,
) -> Result<Vec<Vec<Box<dyn Step>>>, Error> {
    let mut extraction = steps::per_document(settings, evaluation_texts)?;
    if !keep_work {
        return Ok(vec![extraction]);
    }
    let extracts = extraction.iter().position(|step| step.name() == steps::extract::NAME);
    let filters = extraction.split_off(extracts.map_or(0, |place| place + 1));
    Ok(vec![extraction, filters])
}

/// A digest of the file of this program: another one may filter otherwise. None where it cannot be read.
pub fn program() -> Option<Digest> {
    static PROGRAM: std::sync::OnceLock<Option<Digest>> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(|| Digest::of_file(&std::env::current_exe().ok()?).ok()).clone()
}

/// What tells whether an input is still the same, without reading it.
#[derive(Serialize)]
struct Origin<'a> {
    path: String,
    name: &'a str,
    url: Option<&'a str>,
    format: String,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: Option<u64>,
    /// What a store calls its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
}

fn origins(inputs: &Inputs) -> Vec<Origin<'_>> {
    let described = inputs.inputs.iter().map(|input| {
        let State { place, modified, etag } = input.location.state();
        let (path, format) =
            (place.display().to_string(), format!("{:?} {:?}", input.container, input.compression));
        let (name, url, bytes) = (input.name.as_str(), input.url.as_deref(), input.bytes);
        Origin { path, name, url, format, bytes, modified, etag }
    });
    described.collect()
}
