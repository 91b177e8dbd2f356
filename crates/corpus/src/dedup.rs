//! Which documents repeat another one: of the same address, of the same text by fingerprint, and nearly, by MinHash with
//! banding (Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", chapter 3) and connected components, as FineWeb
//! does. It sees signatures only, never text, and finds the same whatever the memory and the threads: what is sorted
//! spills (see [`crate::spill`]). In memory stay 5 bytes a document, the sets of the components and a verdict each.

mod signatures;

use std::path::Path;

use crate::Error;
use crate::Settings;
use crate::settings::{ExactDedup, KeepUrl, MinHash, UrlDedup};
use crate::spill::{Combine, Sorted, Sorter};

pub use signatures::{Head, Signatures, Signed};

/// What becomes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// Another one of its address stays.
    SameUrl,
    /// An earlier one of the same text stays.
    SameText,
    /// An earlier one of nearly the same text stays.
    SimilarText,
}

impl Verdict {
    /// The reason that the funnel shows.
    pub fn reason(self) -> &'static str {
        match self {
            Verdict::Keep => "kept",
            Verdict::SameUrl => "same_url",
            Verdict::SameText => "same_text",
            Verdict::SimilarText => "similar_text",
        }
    }
}

/// For how many removed documents a kept one stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StandsFor {
    /// Those of the same address.
    pub same_url: u32,
    /// Those of the same text.
    pub same_text: u32,
    /// Those of nearly the same text.
    pub similar_text: u32,
}

/// A kept document, and those it stands for by [`StandsFor`]'s fields.
type Cluster = (u32, u32, u32, u32);

/// What was found.
pub struct Duplicates {
    /// By document.
    pub verdicts: Vec<Verdict>,
    /// The kept documents that stand for others.
    pub clusters: Clusters,
}

/// The kept documents that stand for others, in the order of the documents.
pub struct Clusters(Sorted<Cluster>);

impl Iterator for Clusters {
    type Item = Result<(u32, StandsFor), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let cluster = self.0.next()?;
        Some(cluster.map(|(kept, same_url, same_text, similar_text)| {
            (kept, StandsFor { same_url, same_text, similar_text })
        }))
    }
}

/// What counts as a duplicate; each may be switched off.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The same address.
    pub urls: &'a UrlDedup,
    /// The same text.
    pub texts: &'a ExactDedup,
    /// Nearly the same text.
    pub minhash: &'a MinHash,
}

impl<'a> Rules<'a> {
    /// Those of a recipe.
    pub fn of(settings: &'a Settings) -> Self {
        Self { urls: &settings.url_dedup, texts: &settings.exact_dedup, minhash: &settings.minhash }
    }
}

/// Finds the duplicates: those of an address first, of what stays those of a text, of what stays then those nearly of
/// a text. Each duplicate belongs to one kept document. What does not fit in `memory` bytes, beside the 5 bytes a
/// document, is spilled to `folder`, which exists and has no runs of another sorter. `step` is called after each
/// part, of which there are two and one for each band; where it says false, this ends with [`Error::Stopped`].
///
/// # Errors
/// [`Error::Io`] and [`Error::Malformed`] where signatures or runs cannot be written or read.
pub fn find(
    signatures: &mut Signatures,
    rules: &Rules,
    folder: &Path,
    memory: u64,
    mut step: impl FnMut() -> bool,
) -> Result<Duplicates, Error> {
    let Rules { urls, texts, minhash } = rules;
    let documents = signatures.len();
    let mut verdicts = vec![Verdict::Keep; documents as usize];
    let resident = u64::from(documents) * 5;
    // The pairs of what was found so far are sorted beside whatever is sorted at the time.
    let memory = memory.saturating_sub(resident);
    let mut pairs = Sorter::new(folder, "pairs", memory / 8);
    let budget = memory / 8 * 7;
    let mut go_on = || if step() { Ok(()) } else { Err(Error::Stopped) };
    if urls.enabled {
        same_url(signatures, urls.keep, folder, budget, &mut verdicts, &mut pairs)?;
    }
    go_on()?;
    if texts.enabled {
        same_text(signatures, folder, budget, &mut verdicts, &mut pairs)?;
    }
    go_on()?;
    let mut components = UnionFind::new(documents);
    if minhash.enabled {
        for band in 0..signatures.bands() {
            join_band(signatures, band, minhash.min_similarity, folder, budget, &verdicts, &mut components)?;
            go_on()?;
        }
        for index in 0..documents {
            if verdicts[index as usize] == Verdict::Keep && components.find(index) != index {
                verdicts[index as usize] = Verdict::SimilarText;
            }
        }
    }
    for pair in pairs.finish()? {
        let (kept, removed) = pair?;
        components.join(kept, removed);
    }
    let clusters = clusters(&verdicts, &mut components, folder, budget)?;
    Ok(Duplicates { verdicts, clusters: Clusters(clusters) })
}

type Pairs = Sorter<(u32, u32)>;

fn same_url(
    signatures: &Signatures,
    keep: KeepUrl,
    folder: &Path,
    memory: u64,
    verdicts: &mut [Verdict],
    pairs: &mut Pairs,
) -> Result<(), Error> {
    let mut sorter = Sorter::new(folder, "urls", memory);
    signatures.heads(|index, head| {
        // The one that stays comes first.
        let rank = match keep {
            KeepUrl::Longest => u64::MAX - u64::from(head.bytes),
            KeepUrl::Last => u64::MAX - head.date,
        };
        if head.url == 0 { Ok(()) } else { sorter.push((head.url, rank, index)) }
    })?;
    let mut first = None;
    for record in sorter.finish()? {
        let (url, _, index) = record?;
        match first {
            Some((of, kept)) if of == url => {
                verdicts[index as usize] = Verdict::SameUrl;
                pairs.push((kept, index))?;
            }
            _ => first = Some((url, index)),
        }
    }
    Ok(())
}

fn same_text(
    signatures: &Signatures,
    folder: &Path,
    memory: u64,
    verdicts: &mut [Verdict],
    pairs: &mut Pairs,
) -> Result<(), Error> {
    let mut sorter = Sorter::new(folder, "texts", memory);
    signatures.heads(|index, head| match verdicts[index as usize] {
        Verdict::Keep => sorter.push((head.fingerprint, index)),
        _ => Ok(()),
    })?;
    let mut first = None;
    for record in sorter.finish()? {
        let (fingerprint, index) = record?;
        match first {
            Some((of, kept)) if of == fingerprint => {
                verdicts[index as usize] = Verdict::SameText;
                pairs.push((kept, index))?;
            }
            _ => first = Some((fingerprint, index)),
        }
    }
    Ok(())
}

/// Members of a bucket that no earlier one stood for, against which later members are compared. Beyond so many a
/// bucket is boilerplate, and comparing each pair would take quadratic time.
const MAX_REPRESENTATIVES: usize = 64;

/// Joins the documents that share a band's key and are similar enough.
fn join_band(
    signatures: &mut Signatures,
    band: usize,
    min_similarity: f64,
    folder: &Path,
    memory: u64,
    verdicts: &[Verdict],
    components: &mut UnionFind,
) -> Result<(), Error> {
    let mut sorter = Sorter::new(folder, "band", memory);
    signatures.keys(band, |index, key| match verdicts[index as usize] {
        Verdict::Keep => sorter.push((key, index)),
        _ => Ok(()),
    })?;
    let mut bucket = Bucket::default();
    for record in sorter.finish()? {
        let (key, index) = record?;
        if bucket.key != Some(key) {
            bucket.key = Some(key);
            bucket.representatives.clear();
        }
        bucket.join(index, min_similarity, signatures, components)?;
    }
    Ok(())
}

/// The documents of a key, as far as later ones are compared with them.
#[derive(Default)]
struct Bucket {
    key: Option<u64>,
    /// Each with its MinHash, once that was asked for.
    representatives: Vec<(u32, Option<Vec<u32>>)>,
}

impl Bucket {
    /// Joins a document to all earlier ones that are similar enough; where there is none, later ones are compared
    /// with it. Of documents that are in one component already no MinHash is read.
    fn join(
        &mut self,
        index: u32,
        min_similarity: f64,
        signatures: &mut Signatures,
        components: &mut UnionFind,
    ) -> Result<(), Error> {
        let mut own = None;
        let mut joined = false;
        for (earlier, minhash) in &mut self.representatives {
            if components.find(*earlier) == components.find(index) {
                joined = true;
                continue;
            }
            let similar = min_similarity <= 0.0 || {
                let own = filled(&mut own, index, signatures)?;
                similarity(filled(minhash, *earlier, signatures)?, own) >= min_similarity
            };
            if similar {
                components.join(*earlier, index);
                joined = true;
            }
        }
        if !joined && self.representatives.len() < MAX_REPRESENTATIVES {
            self.representatives.push((index, own));
        }
        Ok(())
    }
}

fn filled<'a>(
    minhash: &'a mut Option<Vec<u32>>,
    index: u32,
    signatures: &mut Signatures,
) -> Result<&'a [u32], Error> {
    if minhash.is_none() {
        *minhash = Some(signatures.minhash(index)?);
    }
    Ok(minhash.as_deref().unwrap_or_default())
}

/// The Jaccard similarity of two documents as their signatures estimate it: the fraction of equal rows, with a
/// standard error of sqrt(s(1-s)/rows), 0.04 at 112 rows and s = 0.7.
pub fn similarity(a: &[u32], b: &[u32]) -> f64 {
    let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
    equal as f64 / a.len().max(1) as f64
}

/// The kept document of each component that has several, in the order of the documents.
fn clusters(
    verdicts: &[Verdict],
    components: &mut UnionFind,
    folder: &Path,
    memory: u64,
) -> Result<Sorted<Cluster>, Error> {
    // In each component one is kept, which comes first here.
    let mut members = Sorter::new(folder, "members", memory / 2);
    let mut several = vec![0u64; verdicts.len().div_ceil(64)];
    for (index, verdict) in (0u32..).zip(verdicts) {
        if *verdict != Verdict::Keep {
            let root = components.find(index);
            several[root as usize / 64] |= 1 << (root % 64);
            members.push((root, *verdict as u8, index))?;
        }
    }
    for (index, verdict) in (0u32..).zip(verdicts) {
        let root = components.find(index);
        if *verdict == Verdict::Keep && several[root as usize / 64] >> (root % 64) & 1 == 1 {
            members.push((root, Verdict::Keep as u8, index))?;
        }
    }
    let add: Combine<Cluster> = |sum, more| {
        if sum.0 == more.0 {
            (sum.1, sum.2, sum.3) = (sum.1 + more.1, sum.2 + more.2, sum.3 + more.3);
        }
        sum.0 == more.0
    };
    let mut clusters = Sorter::combining(folder, "clusters", memory / 2, add);
    let mut current = None;
    for record in members.finish()? {
        let (root, verdict, index) = record?;
        let kept = match current {
            Some((of, kept)) if of == root => kept,
            _ => index,
        };
        current = Some((root, kept));
        let of = |wanted: Verdict| u32::from(verdict == wanted as u8);
        if verdict != Verdict::Keep as u8 {
            clusters.push((kept, of(Verdict::SameUrl), of(Verdict::SameText), of(Verdict::SimilarText)))?;
        }
    }
    clusters.finish()
}

/// Disjoint sets whose representative is always the least member, so that the order of joins does not matter.
struct UnionFind {
    parent: Vec<u32>,
}

impl UnionFind {
    fn new(size: u32) -> UnionFind {
        UnionFind { parent: (0..size).collect() }
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
