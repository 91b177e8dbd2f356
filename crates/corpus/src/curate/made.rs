//! From what a folder of documents was made: `curation.json` in it, so that whoever finds the folder can make it again.

use std::path::Path;

use ledger::seed::Seed;
use serde::{Deserialize, Serialize};

use crate::{Error, Settings, Source};

/// What `curation.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The sources as they were given.
    pub sources: Vec<String>,
    /// The seed.
    pub seed: u64,
    /// The section `[curate]` with every value that was used. As JSON, since a later version may have other settings.
    pub settings: serde_json::Value,
}

pub(super) fn write(folder: &Path, sources: &[Source], settings: &Settings, seed: Seed) -> Result<(), Error> {
    let path = folder.join("curation.json");
    let failed = |error: serde_json::Error| Error::io("write", &path)(error.into());
    let sources = sources.iter().map(Source::to_string).collect();
    let settings = serde_json::to_value(settings).map_err(failed)?;
    let mut json = serde_json::to_vec_pretty(&Made { sources, seed: seed.0, settings }).map_err(failed)?;
    json.push(b'\n');
    std::fs::write(&path, json).map_err(Error::io("write", &path))
}
