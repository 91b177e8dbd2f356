//! From embeddings to the documents that go: clusters, and in each the members that are too similar to one before them.
//! What is sorted spills; held are the centres, and of one cluster at a time the list of its members.

use std::ops::Range;
use std::path::Path;

use ledger::progress::{Progress, Unit};
use ledger::seed::Seed;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::kmeans::Centres;
use super::pairs::most_similar_before;
use super::store::Store;
use crate::Error;
use crate::settings::{self, KeepSimilar};
use crate::spill::{Combine, Sorted, Sorter};

/// Vectors that centres are learned from, for each centre, as faiss has it.
const LEARNED_FROM: usize = 256;

/// A document and where its vector is: ordinal, number in the store, identity and bytes of text.
pub(crate) type Placed = (u64, u32, (u128, u32));
/// A document for the choice of those that centres are learned from: a hash, the ordinal, the number in the store.
pub(crate) type Drawn = (u64, u64, u32);
/// A document that goes: ordinal, the bits of the similarity, the identity of the one that stands for it.
pub(crate) type Gone = (u64, u32, u128);
/// A member of a cluster: the cluster, its rank there, the ordinal, number in the store and identity.
type Member = (u32, u64, u64, (u32, u128));

/// How and with what it is done.
pub(crate) struct Prune<'a> {
    pub store: &'a Store,
    pub settings: &'a settings::Semantic,
    pub folder: &'a Path,
    pub memory: u64,
    pub progress: &'a dyn Progress,
    pub go_on: &'a (dyn Fn() -> Result<(), Error> + Sync),
}

/// What is found.
pub(crate) struct Pruned {
    /// The documents that go, in their order.
    pub gone: Sorted<Gone>,
    /// The ordinals of those that stand for others, and for how many.
    pub stand_for: Sorted<(u64, u32)>,
}

/// The hash by which a text is drawn.
pub(crate) fn draw(key: u128, seed: Seed) -> u64 {
    let salt = seed.stream("corpus/semantic", 0).next_u64();
    xxh3_64_with_seed(&key.to_le_bytes(), salt)
}

impl Prune<'_> {
    /// Clusters and compares `documents` documents.
    pub fn run(&self, documents: u64, placed: Sorted<Placed>, drawn: Sorted<Drawn>) -> Result<Pruned, Error> {
        if documents == 0 {
            let nothing = Sorter::new(self.folder, "semantic-gone", 0).finish()?;
            return Ok(Pruned { gone: nothing, stand_for: Sorter::new(self.folder, "none", 0).finish()? });
        }
        // Products in a loop are to wake the pool once.
        rayon::scope(|_| {
            let centres = self.learn(documents, drawn)?;
            let members = self.assign(documents, placed, &centres)?;
            self.compare(documents, members)
        })
    }

    fn width(&self) -> usize {
        self.store.width().unwrap_or(1)
    }

    fn learn(&self, documents: u64, drawn: Sorted<Drawn>) -> Result<Centres, Error> {
        let wanted = self.settings.clusters.unwrap_or_else(|| documents.isqrt().max(1));
        let count = wanted.min(documents).max(1) as usize;
        let mut learned_from: Vec<(u64, u32, bool)> = Vec::new();
        for record in drawn.take(count * LEARNED_FROM) {
            let (_, ordinal, number) = record?;
            learned_from.push((ordinal, number, learned_from.len() < count));
        }
        // Neighbours on the disk are read together.
        learned_from.sort_unstable();
        let first: Vec<usize> = (0..learned_from.len()).filter(|&at| learned_from[at].2).collect();
        let numbers: Vec<u32> = learned_from.into_iter().map(|(_, number, _)| number).collect();
        let rounds = self.settings.iterations as usize;
        let label = format!("clustering {} embeddings", numbers.len());
        let task = self.progress.begin(&label, Some(rounds as u64), Unit::Items);
        let mut read = |range: Range<usize>, out: &mut [f32]| {
            (self.go_on)()?;
            self.store.read(&numbers[range], out)
        };
        let mut round = |_, cosine: f64| {
            task.advance(1);
            task.message(&format!("{count} clusters, mean cosine {cosine:.4}"));
            Ok(())
        };
        Centres::learn((numbers.len(), self.width()), &first, rounds, &mut read, &mut round)
    }

    /// The members of the clusters, in the order in which one stands for those behind it.
    fn assign(
        &self,
        documents: u64,
        mut placed: Sorted<Placed>,
        centres: &Centres,
    ) -> Result<Sorted<Member>, Error> {
        let task = self.progress.begin("assigning documents to clusters", Some(documents), Unit::Documents);
        let mut members = Sorter::new(self.folder, "semantic-members", self.memory / 4);
        let mut block = Vec::new();
        let (mut numbers, mut vectors) = (Vec::new(), Vec::new());
        loop {
            (self.go_on)()?;
            block.clear();
            while block.len() < centres.block_rows()
                && let Some(document) = placed.next_record()?
            {
                block.push(document);
            }
            if block.is_empty() {
                return members.finish();
            }
            numbers.clear();
            numbers.extend(block.iter().map(|(_, number, _)| *number));
            vectors.resize(block.len() * self.width(), 0.0);
            self.store.read(&numbers, &mut vectors)?;
            for (document, (centre, cosine)) in block.iter().zip(centres.nearest(&vectors)) {
                let (ordinal, number, (id, bytes)) = *document;
                let rank = match self.settings.keep {
                    KeepSimilar::Farthest => ascending(cosine),
                    KeepSimilar::Nearest => u64::MAX - ascending(cosine),
                    KeepSimilar::Longest => u64::MAX - u64::from(bytes),
                    KeepSimilar::First => 0,
                };
                members.push((centre, rank, ordinal, (number, id)))?;
            }
            task.advance(block.len() as u64);
        }
    }

    fn compare(&self, documents: u64, mut members: Sorted<Member>) -> Result<Pruned, Error> {
        let task = self.progress.begin("comparing documents in clusters", Some(documents), Unit::Documents);
        let add: Combine<(u64, u32)> = |sum, more| {
            if sum.0 == more.0 {
                sum.1 += more.1;
            }
            sum.0 == more.0
        };
        let mut gone = Sorter::new(self.folder, "semantic-gone", self.memory / 8);
        let mut stand_for = Sorter::combining(self.folder, "semantic-stand-for", self.memory / 8, add);
        let mut cluster: Vec<Member> = Vec::new();
        let least = self.settings.min_similarity as f32;
        while members.next_group(&mut cluster, |member| member.0)? {
            let similar = self.similar(&cluster)?;
            // The one that stands for each: itself, or that of the most similar one before.
            let mut stands: Vec<u32> = (0..cluster.len() as u32).collect();
            for (member, similar) in similar.into_iter().enumerate() {
                let Some((cosine, before)) = similar.filter(|(cosine, _)| *cosine >= least) else { continue };
                stands[member] = stands[before as usize];
                let (_, _, ordinal_of_kept, (_, id)) = cluster[stands[member] as usize];
                gone.push((cluster[member].2, cosine.to_bits(), id))?;
                stand_for.push((ordinal_of_kept, 1))?;
            }
            task.advance(cluster.len() as u64);
        }
        Ok(Pruned { gone: gone.finish()?, stand_for: stand_for.finish()? })
    }

    /// For each member of a cluster the most similar one before it. A cluster whose vectors fit in the memory is read once.
    fn similar(&self, cluster: &[Member]) -> Result<Vec<Option<(f32, u32)>>, Error> {
        let (count, width) = (cluster.len(), self.width());
        let numbers: Vec<u32> = cluster.iter().map(|(_, _, _, (number, _))| *number).collect();
        let mut go_on = || (self.go_on)();
        let mut similar = if count as u64 * width as u64 * 4 <= self.memory / 4 {
            let mut vectors = vec![0.0; count * width];
            self.store.read(&numbers, &mut vectors)?;
            let mut read = |range: Range<usize>, out: &mut [f32]| {
                out.copy_from_slice(&vectors[range.start * width..range.end * width]);
                Ok(())
            };
            most_similar_before(count, width, &mut read, &mut go_on)?
        } else {
            let mut read = |range: Range<usize>, out: &mut [f32]| self.store.read(&numbers[range], out);
            most_similar_before(count, width, &mut read, &mut go_on)?
        };
        for (member, found) in similar.iter_mut().enumerate() {
            if let Some((cosine, before)) = found {
                // What rounding makes of the same text, and beyond 1, is nobody's similarity.
                let same = numbers[*before as usize] == numbers[member];
                *cosine = if same { 1.0 } else { cosine.min(1.0) };
            }
        }
        Ok(similar)
    }
}

/// A number in whose order cosines ascend.
fn ascending(cosine: f32) -> u64 {
    let bits = cosine.to_bits();
    u64::from(if bits >> 31 == 1 { !bits } else { bits | 1 << 31 })
}
