//! The account of a curation: what went into each step, what came out and why the rest did not. Data only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::steps::{Removed, Sample, Step};

/// The whole account; written as `funnel.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Funnel {
    /// The steps in the order in which they were applied; the first is the reading.
    pub steps: Vec<FunnelStep>,
    /// Files read.
    pub inputs: u64,
    /// Inputs, or places in them, that were unreadable or malformed.
    pub skipped: Skipped,
    /// What was seen and is no document by its kind (pictures in folders, requests in WARC files), by label.
    pub ignored: BTreeMap<String, u64>,
    /// Documents kept, by language; `none` for code and data.
    pub languages: BTreeMap<String, Count>,
    /// Documents kept, by kind.
    pub kinds: BTreeMap<String, Count>,
    /// Documents kept for training.
    pub train: Count,
    /// Documents kept and held out.
    pub held_out: Count,
}

/// One step of the funnel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FunnelStep {
    /// The step's name.
    pub name: String,
    /// Documents that came in.
    pub documents_in: u64,
    /// Documents that went on.
    pub documents_out: u64,
    /// Bytes of text that came in.
    pub bytes_in: u64,
    /// Bytes of text that went on.
    pub bytes_out: u64,
    /// Documents removed, by reason.
    pub removed: BTreeMap<String, u64>,
    /// The paper and section that the rule behind each of these reasons follows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub papers: BTreeMap<String, String>,
    /// Changes inside documents that went on, by what was changed.
    pub edits: BTreeMap<String, u64>,
    /// A few removed documents of each reason.
    pub samples: Vec<Sample>,
}

/// Documents and their bytes of text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
}

impl Count {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.documents += 1;
        self.bytes += bytes;
    }

    pub(crate) fn merge(&mut self, other: Count) {
        self.documents += other.documents;
        self.bytes += other.bytes;
    }
}

/// Inputs that were skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// The first few; `skipped.jsonl` has more.
    pub examples: Vec<SkippedInput>,
}

/// An input, or a place in one, that was unreadable or malformed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedInput {
    /// The file, with line, row or byte where it is a part of one.
    pub place: String,
    /// Why.
    pub reason: String,
}

impl FunnelStep {
    /// An empty account of a step.
    pub fn new(name: &str) -> FunnelStep {
        FunnelStep { name: name.to_string(), ..FunnelStep::default() }
    }

    /// Adds one batch: documents and bytes before and after, and what the step says it removed.
    pub(crate) fn add(&mut self, before: Count, after: Count, removed: Removed) {
        let Removed { reasons, samples, edits, rows: _ } = removed;
        self.merge(FunnelStep {
            name: String::new(),
            documents_in: before.documents,
            documents_out: after.documents,
            bytes_in: before.bytes,
            bytes_out: after.bytes,
            removed: reasons,
            papers: BTreeMap::new(),
            edits,
            samples,
        });
    }

    /// Adds the account of later documents by the same step.
    pub(crate) fn merge(&mut self, later: FunnelStep) {
        self.documents_in += later.documents_in;
        self.documents_out += later.documents_out;
        self.bytes_in += later.bytes_in;
        self.bytes_out += later.bytes_out;
        let later =
            Removed { reasons: later.removed, samples: later.samples, edits: later.edits, rows: Vec::new() };
        let mut account = Removed {
            reasons: std::mem::take(&mut self.removed),
            samples: std::mem::take(&mut self.samples),
            edits: std::mem::take(&mut self.edits),
            rows: Vec::new(),
        };
        account.merge(later);
        (self.removed, self.samples, self.edits) = (account.reasons, account.samples, account.edits);
    }
}

impl FunnelStep {
    /// Names the papers of the rules that removed something.
    pub(crate) fn cite(&mut self, step: &dyn Step) {
        let cited = self.removed.keys().map(|reason| (reason.clone(), step.paper(reason).to_string()));
        self.papers = cited.filter(|(_, paper)| !paper.is_empty()).collect();
    }
}

impl Funnel {
    /// The step and reason that removed the most documents.
    pub fn greatest_loss(&self) -> Option<(&str, &str, u64)> {
        let losses = self.steps.iter().flat_map(|step| {
            step.removed.iter().map(move |(reason, count)| (step.name.as_str(), reason.as_str(), *count))
        });
        losses.max_by_key(|(_, _, count)| *count)
    }
}
