//! Checkpoints: everything that a training run needs to go on as if it had never stopped.
//!
//! A checkpoint is a folder `step-00001000` that appears whole or not at all: `model.safetensors`,
//! `optimizer.safetensors` (both moments, as `m.<tensor>` and `v.<tensor>`), `state.json`, and `COMPLETE` with the size
//! and checksum of each, written last. What is incomplete or damaged is passed over with a warning.

mod saver;
mod tensors;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ledger::atomic::{self, AtomicDir};
use ledger::digest::Digest;
use ledger::progress::Progress;
use model::TensorSpec;
use serde::{Deserialize, Serialize};

pub use saver::Saver;

use crate::Error;
use crate::watch::Watch;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const COMPLETE: &str = "COMPLETE";
const PREFIX: &str = "step-";
/// Raised when what is written changes its meaning; older numbers stay readable.
const FORMAT: u32 = 1;

/// What is to be known about a checkpoint beside its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Version of this format.
    pub format: u32,
    /// The stage that was being trained.
    pub stage: String,
    /// Digest of everything that decides the run's numbers: settings, schedule, data and initial weights.
    pub identity: Digest,
    /// Steps that are done.
    pub step: u64,
    /// Seconds of training up to here, over all resumes.
    pub seconds: f64,
    pub(crate) watch: Watch,
}

/// The tensors of a checkpoint, flat, in the order of what is trained.
pub struct Tensors<'a> {
    /// The weights.
    pub weights: &'a [f32],
    /// AdamW's first moments.
    pub first: &'a [f32],
    /// AdamW's second moments.
    pub second: &'a [f32],
}

/// Where [`restore_newest`] puts a checkpoint's tensors.
pub struct TensorsMut<'a> {
    /// The weights.
    pub weights: &'a mut [f32],
    /// AdamW's first moments.
    pub first: &'a mut [f32],
    /// AdamW's second moments.
    pub second: &'a mut [f32],
}

#[derive(Serialize, Deserialize)]
struct Complete {
    format: u32,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Serialize, Deserialize)]
struct FileRecord {
    bytes: u64,
    blake3: Digest,
}

impl State {
    pub(crate) fn new(stage: &str, identity: Digest) -> Self {
        Self {
            format: FORMAT,
            stage: stage.to_owned(),
            identity,
            step: 0,
            seconds: 0.0,
            watch: Watch::default(),
        }
    }
}

/// The folder of a step's checkpoint.
pub fn path(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{step:08}"))
}

/// Writes `dir/step-<state.step>` with the tensors that `specs` names and places, then removes the oldest checkpoints beyond `keep` and those of later steps, which
/// belong to a past that was given up. Returns the new folder.
pub fn save(
    dir: &Path,
    state: &State,
    specs: &[TensorSpec],
    tensors: &Tensors,
    keep: usize,
) -> Result<PathBuf, Error> {
    let path = path(dir, state.step);
    let folder = AtomicDir::create(&path)?;
    tensors::write(&folder.path().join(MODEL), specs.iter().map(|t| (t.name.clone(), t, tensors.weights)))?;
    let moments = [("m", tensors.first), ("v", tensors.second)];
    let moments = moments
        .iter()
        .flat_map(|&(prefix, values)| specs.iter().map(move |t| (format!("{prefix}.{}", t.name), t, values)));
    tensors::write(&folder.path().join(OPTIMIZER), moments)?;
    write_json(&folder.path().join(STATE), state)?;

    let mut files = BTreeMap::new();
    for name in [MODEL, OPTIMIZER, STATE] {
        let file = folder.path().join(name);
        let bytes = fs::metadata(&file).map_err(|error| fault(&file, &error))?.len();
        files.insert(name.to_owned(), FileRecord { bytes, blake3: Digest::of_file(&file)? });
    }
    write_json(&folder.path().join(COMPLETE), &Complete { format: FORMAT, files })?;
    folder.commit()?;
    prune(dir, state.step, keep)?;
    Ok(path)
}

/// Fills `into` from the newest checkpoint under `dir` that is complete, undamaged and of this `identity`. Damaged ones
/// are named in a warning and passed over. `None` where there is none; `into` is untouched then.
pub fn restore_newest(
    dir: &Path,
    identity: &Digest,
    specs: &[TensorSpec],
    into: &mut TensorsMut,
    progress: &dyn Progress,
) -> Result<Option<(State, PathBuf)>, Error> {
    atomic::recover(dir)?;
    for (_, path) in list(dir)?.into_iter().rev() {
        let state = match verify(&path) {
            Ok(state) => state,
            Err(error) => {
                progress.warn(&format!("{error}; it is passed over for the one before it"));
                continue;
            }
        };
        if state.identity != *identity {
            progress.note(&format!(
                "{} is not used: it was made with other settings or from other data",
                path.display()
            ));
            continue;
        }
        let mut model = tensors::Reader::open(&path.join(MODEL))?;
        let mut optimizer = tensors::Reader::open(&path.join(OPTIMIZER))?;
        for tensor in specs {
            let range = tensor.range.clone();
            model.read(&tensor.name, &tensor.shape, &mut into.weights[range.clone()])?;
            optimizer.read(&format!("m.{}", tensor.name), &tensor.shape, &mut into.first[range.clone()])?;
            optimizer.read(&format!("v.{}", tensor.name), &tensor.shape, &mut into.second[range])?;
        }
        return Ok(Some((state, path)));
    }
    Ok(None)
}

/// The newest checkpoint under `dir` that is complete and undamaged, whatever run it belongs to.
pub fn newest(dir: &Path) -> Result<Option<PathBuf>, Error> {
    Ok(list(dir)?.into_iter().rev().find(|(_, path)| verify(path).is_ok()).map(|(_, path)| path))
}

/// Checks that a checkpoint is complete and that each of its files is as it was written. The error names the file.
pub fn verify(path: &Path) -> Result<State, Error> {
    let complete: Complete = read_json(&path.join(COMPLETE))?;
    if complete.format > FORMAT {
        let reason =
            format!("its format is {}, and this program knows formats up to {FORMAT}", complete.format);
        return Err(Error::Checkpoint { path: path.to_owned(), reason });
    }
    for name in [MODEL, OPTIMIZER, STATE] {
        let file = path.join(name);
        let broken = |reason: String| Error::Checkpoint { path: file.clone(), reason };
        let record =
            complete.files.get(name).ok_or_else(|| broken("COMPLETE does not list it".to_owned()))?;
        let bytes = fs::metadata(&file).map_err(|error| fault(&file, &error))?.len();
        if bytes != record.bytes {
            return Err(broken(format!("it has {bytes} bytes, not {}", record.bytes)));
        }
        if Digest::of_file(&file)? != record.blake3 {
            return Err(broken(
                "its contents do not have the checksum that they were written with".to_owned(),
            ));
        }
    }
    read_json(&path.join(STATE))
}

/// Step and path of each checkpoint under `dir`, complete or not, oldest first.
pub fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| fault(dir, &error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fault(dir, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(step) = name.strip_prefix(PREFIX).and_then(|digits| digits.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

fn prune(dir: &Path, newest: u64, keep: usize) -> Result<(), Error> {
    let (past, later): (Vec<_>, Vec<_>) = list(dir)?.into_iter().partition(|&(step, _)| step <= newest);
    let old = past.len().saturating_sub(keep.max(1));
    for (_, path) in past.into_iter().take(old).chain(later) {
        fs::remove_dir_all(&path).map_err(|error| fault(&path, &error))?;
    }
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let fail = |reason: String| Error::Checkpoint { path: path.to_owned(), reason };
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| fail(error.to_string()))?;
    text.push(b'\n');
    fs::write(path, text).map_err(|error| fault(path, &error))
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, Error> {
    let text = fs::read(path).map_err(|error| fault(path, &error))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Checkpoint { path: path.to_owned(), reason: error.to_string() })
}

fn fault(path: &Path, error: &io::Error) -> Error {
    Error::Checkpoint { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
