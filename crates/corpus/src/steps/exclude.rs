//! Removes the documents that a decision over the whole corpus named: duplicates, and what lies over a limit.
//! The decision is a table from ordinals to reasons; this is the join with it.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;

use super::{Removed, Step, Verdict};
use crate::Error;

/// The step.
pub struct Exclude {
    name: &'static str,
    reasons: BTreeMap<u64, &'static str>,
}

impl Exclude {
    /// A step of this name that removes the documents with these ordinals, each for its reason.
    pub fn new(name: &'static str, reasons: BTreeMap<u64, &'static str>) -> Exclude {
        Exclude { name, reasons }
    }
}

impl Step for Exclude {
    fn name(&self) -> &'static str {
        self.name
    }

    fn paper(&self, reason: &str) -> &'static str {
        match reason {
            "similar_text" => "MinHash: Broder 1997; FineWeb: Penedo et al. 2024, section 3.4",
            _ => "",
        }
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        super::judge(batch, self.name, |row| match self.reasons.get(&row.ordinal) {
            Some(reason) => Verdict::Remove(reason),
            None => Verdict::Keep,
        })
    }
}
