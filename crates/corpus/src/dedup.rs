//! Which documents repeat an earlier one: exactly, by fingerprint, and nearly, by MinHash with banding
//! (Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", chapter 3) and connected components, as FineWeb
//! does. It sees signatures only, never text.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::settings::MinHash;

/// What deduplication holds of each document, in the order of the inputs: 24 bytes and the signature.
#[derive(Default)]
pub struct Signatures {
    ordinals: Vec<u64>,
    fingerprints: Vec<u128>,
    /// `rows` numbers a document.
    minhashes: Vec<u32>,
}

impl Signatures {
    /// Adds a document; all must have signatures of the same length, and ordinals must grow.
    pub fn push(&mut self, ordinal: u64, fingerprint: u128, minhash: &[u32]) {
        self.ordinals.push(ordinal);
        self.fingerprints.push(fingerprint);
        self.minhashes.extend_from_slice(minhash);
    }

    /// Documents held.
    pub fn len(&self) -> usize {
        self.ordinals.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.ordinals.is_empty()
    }

    /// The ordinals of documents whose fingerprint an earlier document has, ascending.
    pub fn exact_duplicates(&self) -> Vec<u64> {
        let mut seen = FxHashMap::default();
        let mut duplicates = Vec::new();
        for (index, fingerprint) in self.fingerprints.iter().enumerate() {
            if seen.insert(*fingerprint, index).is_some() {
                duplicates.push(self.ordinals[index]);
            }
        }
        duplicates
    }

    /// The ordinals of documents that are near-duplicates of an earlier one, ascending, among the documents that
    /// are not in `excluded`. Of each connected component the first document stays.
    pub fn near_duplicates(&self, settings: &MinHash, excluded: &BTreeMap<u64, &'static str>) -> Vec<u64> {
        let rows = settings.rows as usize;
        let width = settings.bands as usize * rows;
        if !settings.enabled || width == 0 || self.minhashes.len() < self.len() * width {
            return Vec::new();
        }
        let signature = |index: u32| &self.minhashes[index as usize * width..][..width];
        let candidates: Vec<u32> =
            (0..self.len() as u32).filter(|&i| !excluded.contains_key(&self.ordinals[i as usize])).collect();
        let mut components = UnionFind::new(self.len());
        let mut keyed: Vec<(u64, u32)> = Vec::with_capacity(candidates.len());
        for band in 0..settings.bands as usize {
            keyed.clear();
            keyed.extend(candidates.iter().map(|&index| {
                let part = &signature(index)[band * rows..(band + 1) * rows];
                let mut bytes = [0u8; 4 * 64];
                for (four, value) in bytes.chunks_exact_mut(4).zip(part) {
                    four.copy_from_slice(&value.to_le_bytes());
                }
                (xxh3_64(&bytes[..4 * rows]), index)
            }));
            keyed.sort_unstable();
            for bucket in keyed.chunk_by(|a, b| a.0 == b.0).filter(|bucket| bucket.len() > 1) {
                join_bucket(bucket, &mut components, settings.min_similarity, signature);
            }
        }
        candidates
            .into_iter()
            .filter(|&index| components.find(index) != index)
            .map(|index| self.ordinals[index as usize])
            .collect()
    }
}

/// Members of a bucket that no earlier one stood for, against which later members are compared. Beyond so many a
/// bucket is boilerplate, and comparing each pair would take quadratic time.
const MAX_REPRESENTATIVES: usize = 64;

/// Joins each member of a bucket to the first earlier member that is similar enough.
fn join_bucket<'a>(
    bucket: &[(u64, u32)],
    components: &mut UnionFind,
    min_similarity: f64,
    signature: impl Fn(u32) -> &'a [u32],
) {
    let mut representatives: Vec<u32> = Vec::new();
    for &(_, index) in bucket {
        let own = signature(index);
        let similar = representatives.iter().find(|&&earlier| {
            min_similarity <= 0.0
                || components.find(earlier) == components.find(index)
                || similarity(signature(earlier), own) >= min_similarity
        });
        match similar {
            Some(&earlier) => components.join(earlier, index),
            None if representatives.len() < MAX_REPRESENTATIVES => representatives.push(index),
            None => {}
        }
    }
}

/// The Jaccard similarity of two documents as their signatures estimate it: the fraction of equal rows, with a
/// standard error of sqrt(s(1-s)/rows), 0.04 at 112 rows and s = 0.7.
pub fn similarity(a: &[u32], b: &[u32]) -> f64 {
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    equal as f64 / a.len().max(1) as f64
}

/// Disjoint sets whose representative is always the least member, so that the order of joins does not matter.
struct UnionFind {
    parent: Vec<u32>,
}

impl UnionFind {
    fn new(size: usize) -> UnionFind {
        UnionFind { parent: (0..size as u32).collect() }
    }

    fn find(&mut self, mut member: u32) -> u32 {
        while self.parent[member as usize] != member {
            let grandparent = self.parent[self.parent[member as usize] as usize];
            self.parent[member as usize] = grandparent;
            member = grandparent;
        }
        member
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }
}

#[cfg(test)]
mod tests;
