//! What `clusters.jsonl` says: which documents stand for how many duplicates.

use std::collections::BTreeMap;
use std::path::Path;

use ledger::progress::Task;
use serde::Deserialize;

use super::hosts::Greatest;
use super::{Excerpt, Faults, lines};
use crate::Error;

/// The clusters of duplicates, each a document that stayed and those that it stands for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clusters {
    /// How many.
    pub clusters: u64,
    /// Removed documents of the same address, the same text and similar text.
    pub same_url: u64,
    /// See `same_url`.
    pub same_text: u64,
    /// See `same_url`.
    pub similar_text: u64,
    /// By size: clusters of more than half of this many documents and at most this many (a power of two), with how many
    /// documents were removed from them.
    pub sizes: BTreeMap<u64, (u64, u64)>,
    /// The largest, by what was removed from them.
    pub largest: Vec<Cluster>,
}

/// A cluster of duplicates.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The identity of the document that stayed.
    pub id: String,
    /// Where it came from.
    pub source: String,
    /// Documents of the same address that were removed for it.
    pub same_url: u64,
    /// Documents of the same text.
    pub same_text: u64,
    /// Documents of similar text.
    pub similar_text: u64,
    /// It, where it is among the documents: rules that come later may have removed it.
    pub document: Option<Excerpt>,
}

impl Cluster {
    /// Documents that were removed for it.
    pub fn removed(&self) -> u64 {
        self.same_url.saturating_add(self.same_text).saturating_add(self.similar_text)
    }
}

#[derive(Deserialize)]
struct Line {
    id: String,
    source: String,
    #[serde(default)]
    same_url: u64,
    #[serde(default)]
    same_text: u64,
    #[serde(default)]
    similar_text: u64,
}

/// Reads the file.
pub(super) fn read(
    path: &Path,
    name: &str,
    most: usize,
    threads: usize,
    task: &dyn Task,
    faults: &mut Faults,
) -> Result<Clusters, Error> {
    let mut clusters = Clusters::default();
    let mut largest = Greatest::new(most);
    let cluster = |line: Line| Cluster {
        id: line.id,
        source: line.source,
        same_url: line.same_url,
        same_text: line.same_text,
        similar_text: line.similar_text,
        document: None,
    };
    lines::each(path, threads, task, cluster, |line| {
        let cluster = match line {
            Ok(cluster) => cluster,
            Err((number, reason)) => {
                faults.add(format!("{name}: line {number}"), reason);
                return Ok(());
            }
        };
        let removed = cluster.removed();
        clusters.clusters += 1;
        clusters.same_url = clusters.same_url.saturating_add(cluster.same_url);
        clusters.same_text = clusters.same_text.saturating_add(cluster.same_text);
        clusters.similar_text = clusters.similar_text.saturating_add(cluster.similar_text);
        let size = removed.saturating_add(1).min(1 << 62).next_power_of_two();
        let (many, gone) = clusters.sizes.entry(size).or_default();
        *many += 1;
        *gone = gone.saturating_add(removed);
        let Cluster { id, source, same_url, same_text, similar_text, .. } = cluster;
        // Of equally large ones those with the least identities, whatever order they come in.
        largest.offer((removed, std::cmp::Reverse(id), source, (same_url, same_text, similar_text)));
        Ok(())
    })?;
    clusters.largest = largest
        .descending()
        .map(|(_, id, source, (same_url, same_text, similar_text))| Cluster {
            id: id.0,
            source,
            same_url,
            same_text,
            similar_text,
            document: None,
        })
        .collect();
    Ok(clusters)
}
