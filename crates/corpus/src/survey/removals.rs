//! What the files in `removed/` show: for each step and reason the bound, and some of the documents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ledger::progress::Task;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::hosts::Greatest;
use super::{Faults, lines};
use crate::{Error, RemovedDocument};

/// Files, and reasons of a step, that are told apart.
const MOST_STEPS: usize = 100;
const MOST_REASONS: usize = 200;

/// What is known of the documents that a step removed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RemovedBy {
    /// The step.
    pub step: String,
    /// By reason.
    pub reasons: BTreeMap<String, Reason>,
}

/// What is known of the documents that a step removed for one reason.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reason {
    /// The paper that the rule follows; empty where there is none.
    pub paper: String,
    /// Documents, or parts of documents, in the file, which need not be all.
    pub listed: u64,
    /// The least and the greatest bound that was broken; one number but for rules whose bound differs by document.
    pub limit: Option<(f64, f64)>,
    /// The least and the greatest value that was measured.
    pub value: Option<(f64, f64)>,
    /// Some of them, chosen by a hash, their texts cut.
    pub samples: Vec<RemovedDocument>,
}

/// The file of a step, and its size.
pub(super) struct StepFile {
    pub step: String,
    pub path: PathBuf,
    pub bytes: u64,
}

/// The files of the folder; nothing where there is no folder.
pub(super) fn files(folder: &Path) -> Result<Option<Vec<StepFile>>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("list", folder))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let is_lines = path.extension().is_some_and(|ending| ending == "jsonl") && path.is_file();
        if let Some(step) = path.file_stem().filter(|_| is_lines) {
            let bytes = path.metadata().map_err(Error::io("read", &path))?.len();
            let step = step.to_string_lossy().into_owned();
            files.push(StepFile { step, path, bytes });
        }
    }
    files.sort_by(|a, b| a.step.cmp(&b.step));
    files.truncate(MOST_STEPS);
    Ok(Some(files))
}

/// How samples are chosen and cut.
pub(super) struct Sampling {
    pub most: usize,
    pub seed: u64,
    pub excerpt_bytes: usize,
}

/// Reads a step's file.
pub(super) fn read(
    step: String,
    path: &Path,
    sampling: &Sampling,
    threads: usize,
    task: &dyn Task,
    faults: &mut Faults,
) -> Result<RemovedBy, Error> {
    let cut = |document: RemovedDocument| {
        let part = document.part.as_deref().unwrap_or_default();
        let hash = xxh3_64_with_seed(format!("{}{part}", document.id).as_bytes(), sampling.seed);
        let short = |text: Option<String>| {
            text.map(|text| text[..text.floor_char_boundary(sampling.excerpt_bytes)].to_string())
        };
        let (text, part) = (short(document.text), short(document.part));
        (hash, RemovedDocument { text, part, ..document })
    };
    let mut reasons: BTreeMap<String, (Reason, Greatest<Chosen>)> = BTreeMap::new();
    let mut number = 0u64;
    lines::each(path, threads, task, cut, |line| {
        let (hash, document) = match line {
            Ok(line) => line,
            Err((line, reason)) => {
                faults.add(format!("removed/{step}.jsonl: line {line}"), reason);
                return Ok(());
            }
        };
        number += 1;
        if !reasons.contains_key(&document.reason) && reasons.len() >= MOST_REASONS {
            return Ok(());
        }
        let (reason, chosen) = reasons
            .entry(document.reason.clone())
            .or_insert_with(|| (Reason::default(), Greatest::new(sampling.most)));
        reason.listed += 1;
        if reason.paper.is_empty() {
            reason.paper.clone_from(&document.paper);
        }
        widen(&mut reason.limit, document.limit);
        widen(&mut reason.value, document.value);
        chosen.offer(Chosen { key: (u64::MAX - hash, u64::MAX - number), document });
        Ok(())
    })?;
    let finish = |(name, (mut reason, chosen)): (String, (Reason, Greatest<Chosen>))| {
        reason.samples = chosen.descending().map(|chosen| chosen.document).collect();
        (name, reason)
    };
    Ok(RemovedBy { step, reasons: reasons.into_iter().map(finish).collect() })
}

fn widen(extent: &mut Option<(f64, f64)>, value: Option<f64>) {
    if let Some(value) = value {
        *extent = Some(extent.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
    }
}

/// A document, compared by its key.
struct Chosen {
    key: (u64, u64),
    document: RemovedDocument,
}

impl PartialEq for Chosen {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Chosen {}

impl PartialOrd for Chosen {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Chosen {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}
