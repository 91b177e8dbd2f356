//! A run: one folder with everything that became of one recipe, and `manifest.json`, which says how each part
//! came about. Not a scheduler: it knows which stages are complete and current; what to run is the caller's
//! decision.
//!
//! Only one process writes in a run at a time: it holds the lock `.lock`, which the system releases when the
//! process ends, however it ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::{self, Digest};
use crate::machine::{self, Machine};
use crate::{Error, atomic, clock, lock};

/// The newest manifest format that this program reads and the one it writes.
pub const FORMAT_VERSION: u32 = 1;

const MANIFEST: &str = "manifest.json";
const LOCK: &str = ".lock";

/// How a run came about: the contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The format of this file, [`FORMAT_VERSION`] when this program wrote it.
    pub format_version: u32,
    /// When the run was begun, RFC 3339, UTC.
    pub created: String,
    /// The seed from which all its randomness follows.
    pub seed: u64,
    /// [`machine::commit`] of the program that began it.
    pub commit: String,
    /// [`machine::toolchain`] of the program that began it.
    pub toolchain: String,
    /// The machine on which it was begun.
    pub machine: Machine,
    /// The stages that were completed, by name.
    pub stages: BTreeMap<String, Stage>,
}

/// A completed stage as the manifest keeps it: the stage's own record, and what the ledger adds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Stage {
    /// What the stage reported.
    #[serde(flatten)]
    pub record: StageRecord,
    /// The size in bytes of each output.
    pub sizes: BTreeMap<String, u64>,
    /// [`machine::commit`] of the program that completed it.
    pub commit: String,
    /// [`machine::program`] of the program that completed it.
    pub program: Option<Digest>,
}

/// What a stage reports when it is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// What it was made from, by name.
    pub inputs: BTreeMap<String, Digest>,
    /// The digest of the settings that it was made with.
    pub settings: Digest,
    /// What it made: files and folders by their paths relative to the run's root (see [`Run::digests`]).
    pub outputs: BTreeMap<String, Digest>,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// What a person may want to know about it, an object.
    pub summary: serde_json::Value,
}

/// A run's folder. While a value from [`Run::open_or_create`] lives, no other process can open the run for
/// writing.
#[derive(Debug)]
pub struct Run {
    root: PathBuf,
    manifest: Manifest,
    /// `None` where the run was opened for reading only.
    lock: Option<File>,
}

impl Run {
    /// Opens the run at `path` for writing, or begins one where there is none or an empty folder. Leftovers
    /// of killed programs are cleared away first. Errors when another process writes in it
    /// ([`Error::Locked`]), when it was begun with another seed, and when the folder holds something else.
    pub fn open_or_create(path: &Path, seed: u64) -> Result<Self, Error> {
        if !path.join(MANIFEST).exists() && !is_empty(path)? {
            return Err(Error::NotARun { path: path.to_owned() });
        }
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        let lock = take_lock(path)?;
        atomic::recover(path)?;
        let checkpoints = path.join("checkpoints");
        atomic::recover(&checkpoints)?;
        for stage in subfolders(&checkpoints)? {
            atomic::recover(&stage)?;
        }
        let mut run = Self { root: path.to_owned(), manifest: Manifest::begin(seed), lock: Some(lock) };
        match read_manifest(path) {
            Ok(manifest) => run.manifest = manifest,
            Err(Error::NotARun { .. }) => run.write_manifest()?,
            Err(error) => return Err(error),
        }
        if run.manifest.seed != seed {
            return Err(Error::OtherSeed { path: run.root, recorded: run.manifest.seed, given: seed });
        }
        Ok(run)
    }

    /// Opens the run at `path` for reading, beside a process that may be writing in it.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        Ok(Self { root: path.to_owned(), manifest: read_manifest(path)?, lock: None })
    }

    /// The run's own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The curated documents.
    pub fn documents(&self) -> PathBuf {
        self.root.join("documents")
    }

    /// The tokenizer's files.
    pub fn tokenizer(&self) -> PathBuf {
        self.root.join("tokenizer")
    }

    /// The token shards.
    pub fn tokens(&self) -> PathBuf {
        self.root.join("tokens")
    }

    /// The pretrained model.
    pub fn base(&self) -> PathBuf {
        self.root.join("base")
    }

    /// The model after alignment.
    pub fn aligned(&self) -> PathBuf {
        self.root.join("aligned")
    }

    /// The evaluation's results.
    pub fn eval(&self) -> PathBuf {
        self.root.join("eval")
    }

    /// The checkpoints of a stage.
    pub fn checkpoints(&self, stage: &str) -> PathBuf {
        self.root.join("checkpoints").join(stage)
    }

    /// The page for people.
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// The recipe as it was given.
    pub fn recipe(&self) -> PathBuf {
        self.root.join("recipe.toml")
    }

    /// Every setting that was used.
    pub fn resolved(&self) -> PathBuf {
        self.root.join("resolved.toml")
    }

    /// How the run came about.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The record of a stage, where it was once completed. Whether it still holds says [`Run::is_current`].
    pub fn stage(&self, name: &str) -> Option<&StageRecord> {
        self.manifest.stages.get(name).map(|stage| &stage.record)
    }

    /// Whether a stage was completed from these inputs with these settings, and all its outputs still are
    /// what it made: there, of the same size, of the same digest. Reads the outputs whole. What cannot be
    /// read is not current.
    pub fn is_current(&self, name: &str, inputs: &BTreeMap<String, Digest>, settings: &Digest) -> bool {
        let Some(Stage { record, sizes, .. }) = self.manifest.stages.get(name) else { return false };
        // Sizes of all before digests of any: they are quick to compare and mostly tell.
        record.inputs == *inputs
            && record.settings == *settings
            && record.outputs.keys().all(|path| {
                sizes
                    .get(path)
                    .is_some_and(|size| digest::size(&self.root.join(path)).is_ok_and(|now| now == *size))
            })
            && record
                .outputs
                .iter()
                .all(|(path, digest)| Digest::of_path(&self.root.join(path)).is_ok_and(|now| now == *digest))
    }

    /// The digests of files and folders of this run, by their paths relative to its root, as
    /// [`StageRecord::outputs`] has them. Errors on one that does not exist.
    pub fn digests<P: AsRef<Path>>(
        &self,
        relative_paths: impl IntoIterator<Item = P>,
    ) -> Result<BTreeMap<String, Digest>, Error> {
        relative_paths
            .into_iter()
            .map(|path| {
                let digest = Digest::of_path(&self.root.join(path.as_ref()))?;
                Ok((path.as_ref().to_string_lossy().into_owned(), digest))
            })
            .collect()
    }

    /// Records that a stage is complete, in place of an earlier record. The manifest is replaced whole; after
    /// an error or a kill it is the one before. Errors when an output does not exist.
    pub fn complete(&mut self, name: &str, record: StageRecord) -> Result<(), Error> {
        if self.lock.is_none() {
            return Err(Error::ReadOnly { path: self.root.clone() });
        }
        if name.is_empty() {
            return Err(Error::Name { kind: "stage", name: String::new(), reason: "it is empty" });
        }
        let mut sizes = BTreeMap::new();
        for path in record.outputs.keys() {
            let full = self.root.join(path);
            if !full.exists() {
                return Err(Error::MissingOutput { stage: name.to_owned(), path: full });
            }
            sizes.insert(path.clone(), digest::size(&full)?);
        }
        let (commit, program) = (machine::commit().to_owned(), machine::program().cloned());
        let before = self.manifest.stages.insert(name.to_owned(), Stage { record, sizes, commit, program });
        self.write_manifest().inspect_err(|_| {
            match before {
                Some(before) => self.manifest.stages.insert(name.to_owned(), before),
                None => self.manifest.stages.remove(name),
            };
        })
    }

    fn write_manifest(&self) -> Result<(), Error> {
        let mut json = serde_json::to_vec_pretty(&self.manifest)
            .map_err(|source| Error::Encode { what: "a run's manifest", source })?;
        json.push(b'\n');
        atomic::write(&self.root.join(MANIFEST), &json)
    }
}

impl Manifest {
    fn begin(seed: u64) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            created: clock::now(),
            seed,
            commit: machine::commit().to_owned(),
            toolchain: machine::toolchain().to_owned(),
            machine: Machine::this(),
            stages: BTreeMap::new(),
        }
    }
}

fn read_manifest(root: &Path) -> Result<Manifest, Error> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let path = root.join(MANIFEST);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NotARun { path: root.to_owned() });
        }
        other => other.map_err(Error::io("read", &path))?,
    };
    let malformed = |error: serde_json::Error| Error::Malformed {
        path: path.clone(),
        line: error.line(),
        reason: error.to_string(),
    };
    // The version first: a newer manifest may not have the fields that this program knows.
    let Version { format_version } = serde_json::from_slice(&bytes).map_err(malformed)?;
    if format_version > FORMAT_VERSION {
        return Err(Error::Newer { path, found: format_version, known: FORMAT_VERSION });
    }
    serde_json::from_slice(&bytes).map_err(malformed)
}

fn take_lock(root: &Path) -> Result<File, Error> {
    let path = root.join(LOCK);
    let Some(mut file) = lock::hold(&path)? else {
        let pid = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        return Err(Error::Locked { path: root.to_owned(), pid });
    };
    let write_pid = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_pid(&mut file).map_err(Error::io("write", &path))?;
    Ok(file)
}

/// Whether a folder is absent or holds nothing but what a killed [`Run::open_or_create`] may have left.
fn is_empty(path: &Path) -> Result<bool, Error> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other.map_err(Error::io("list", path))?,
    };
    for entry in entries {
        let name = entry.map_err(Error::io("list", path))?.file_name();
        if name != LOCK && !atomic::is_temporary(&name) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn subfolders(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("list", path))?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", path))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests;
