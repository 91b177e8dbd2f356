//! How many documents come from which host: counted exactly, in memory that is bounded however many hosts there are.
//! Hosts are compared by 64-bit hashes; a name is looked up only for those that are shown.

use std::collections::BTreeSet;
use std::path::Path;

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::tables::Place;
use crate::Error;
use crate::funnel::Count;
use crate::spill::{Combine, Sorter};
use crate::url;

/// Hash of the host, documents, bytes of text, and the place of its first document.
type Record = (u64, u64, u64, u64);

const TOGETHER: Combine<Record> = |host, other| {
    let same = host.0 == other.0;
    if same {
        host.1 += other.1;
        host.2 += other.2;
        host.3 = host.3.min(other.3);
    }
    same
};

/// The hosts of some documents that fit in memory.
#[derive(Default)]
pub(super) struct Part {
    hosts: FxHashMap<u64, (Count, u32)>,
    /// Documents without an address that has a host.
    without: Count,
}

impl Part {
    /// Counts a document; its row is greater than those before.
    pub(super) fn add(&mut self, address: Option<&str>, bytes: u64, row: u32) {
        match address.and_then(url::host) {
            Some(host) => {
                self.hosts.entry(xxh3_64(host.as_bytes())).or_insert((Count::default(), row)).0.add(bytes)
            }
            None => self.without.add(bytes),
        }
    }
}

/// The hosts of all documents.
pub(super) struct Whole {
    sorter: Sorter<Record>,
    without: Count,
}

/// Those that are shown, still without their names.
pub(super) struct Ranked {
    pub distinct: u64,
    pub without: Count,
    pub by_documents: Vec<(Count, Place)>,
    pub by_bytes: Vec<(Count, Place)>,
}

impl Whole {
    /// Spills into `folder` what does not fit into `memory` bytes.
    pub(super) fn new(folder: &Path, memory: u64) -> Whole {
        Whole { sorter: Sorter::combining(folder, "hosts", memory, TOGETHER), without: Count::default() }
    }

    /// Takes the hosts of a unit.
    pub(super) fn take(&mut self, unit: u32, part: Part) -> Result<(), Error> {
        self.without.merge(part.without);
        for (hash, (count, row)) in part.hosts {
            self.sorter.push((hash, count.documents, count.bytes, Place { unit, row }.number()))?;
        }
        Ok(())
    }

    /// The `most` hosts with the most documents, and those with the most text.
    pub(super) fn rank(self, most: usize) -> Result<Ranked, Error> {
        let mut distinct = 0;
        let mut by_documents = Greatest::new(most);
        let mut by_bytes = Greatest::new(most);
        for record in self.sorter.finish()? {
            let (hash, documents, bytes, place) = record?;
            distinct += 1;
            by_documents.offer((documents, bytes, u64::MAX - hash, place));
            by_bytes.offer((bytes, documents, u64::MAX - hash, place));
        }
        let documents = by_documents.descending();
        let bytes = by_bytes.descending();
        Ok(Ranked {
            distinct,
            without: self.without,
            by_documents: documents
                .map(|(documents, bytes, _, place)| (Count { documents, bytes }, Place::of_number(place)))
                .collect(),
            by_bytes: bytes
                .map(|(bytes, documents, _, place)| (Count { documents, bytes }, Place::of_number(place)))
                .collect(),
        })
    }
}

/// The greatest of what was offered.
pub(super) struct Greatest<T> {
    most: usize,
    held: BTreeSet<T>,
}

impl<T: Ord> Greatest<T> {
    /// Holds `most` of them.
    pub(super) fn new(most: usize) -> Greatest<T> {
        Greatest { most, held: BTreeSet::new() }
    }

    /// Takes it where it is among the greatest so far.
    pub(super) fn offer(&mut self, value: T) {
        if self.held.len() < self.most {
            self.held.insert(value);
        } else if self.held.first().is_some_and(|least| *least < value) {
            self.held.insert(value);
            // One that was held already takes no place.
            if self.held.len() > self.most {
                self.held.pop_first();
            }
        }
    }

    /// The greatest first.
    pub(super) fn descending(self) -> impl Iterator<Item = T> {
        self.held.into_iter().rev()
    }
}
