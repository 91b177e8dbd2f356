//! What is decided over the whole corpus from signatures alone: which documents are duplicates, which are over the limit,
//! which are held out. It never sees a text.

use ledger::progress::{Progress, Unit};
use ledger::seed::Seed;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Options;
use super::work::Work;
use crate::dedup::{self, Clusters, Duplicates, Head, Signatures, Verdict};
use crate::spill::Sorter;
use crate::steps::Step;
use crate::steps::exclude::Exclude;
use crate::{Error, Settings, settings};

/// What becomes of each document of the first pass, by its number there.
pub(super) struct Plan {
    signatures: Signatures,
    verdicts: Vec<Verdict>,
    over_limit: Option<Bits>,
    held_out: Bits,
    shards: usize,
    url: bool,
    exact: bool,
    near: bool,
}

impl Plan {
    /// Decides; the clusters are for the second pass to name.
    pub fn new(
        work: &Work,
        settings: &Settings,
        seed: Seed,
        progress: &dyn Progress,
        options: &Options,
    ) -> Result<(Plan, Clusters), Error> {
        let shards = work.shards()?;
        let mut signatures = Signatures::open((0..shards).map(|shard| work.signatures(shard)).collect())?;
        let Duplicates { verdicts, clusters } = {
            let parts = 2 + signatures.bands() as u64;
            let task = progress.begin("finding duplicates", Some(parts), Unit::Items);
            let step = || {
                task.advance(1);
                options.go_on()
            };
            let rules = dedup::Rules::of(settings);
            dedup::find(&mut signatures, &rules, work.folder(), options.memory / 4 * 3, step)?
        };
        let mut plan = Plan {
            held_out: Bits::new(signatures.len()),
            over_limit: None,
            signatures,
            verdicts,
            shards,
            url: settings.url_dedup.enabled,
            exact: settings.exact_dedup.enabled,
            near: settings.minhash.enabled,
        };
        let memory = options.memory / 2;
        if settings.max_documents.is_some() || settings.max_bytes.is_some() {
            plan.limit(settings, seed, work, memory)?;
        }
        plan.hold_out(&settings.held_out, seed, work, memory)?;
        Ok((plan, clusters))
    }

    /// Documents that passed the first pass.
    pub fn documents(&self) -> u64 {
        u64::from(self.signatures.len())
    }

    pub fn shards(&self) -> usize {
        self.shards
    }

    pub fn is_held_out(&self, index: u32) -> bool {
        self.held_out.get(index)
    }

    fn stays(&self, index: u32) -> bool {
        self.verdicts[index as usize] == Verdict::Keep
            && !self.over_limit.as_ref().is_some_and(|bits| bits.get(index))
    }

    /// Calls `each` with the documents that stay.
    fn staying(&self, mut each: impl FnMut(u32, Head) -> Result<(), Error>) -> Result<(), Error> {
        self.signatures.heads(|index, head| if self.stays(index) { each(index, head) } else { Ok(()) })
    }

    fn limit(&mut self, settings: &Settings, seed: Seed, work: &Work, memory: u64) -> Result<(), Error> {
        let salt = seed.stream("corpus/limit", 0).next_u64();
        let mut order = Sorter::new(work.folder(), "limit", memory);
        self.staying(|index, head| order.push((hash(&head, salt), index, head.bytes)))?;
        let mut over = Bits::new(self.signatures.len());
        let (mut documents, mut bytes) = (0u64, 0u64);
        for record in order.finish()? {
            let (_, index, size) = record?;
            let size = u64::from(size);
            let fits = settings.max_documents.is_none_or(|most| documents < most)
                && settings.max_bytes.is_none_or(|most| bytes + size <= most);
            if fits {
                documents += 1;
                bytes += size;
            } else {
                over.set(index);
            }
        }
        self.over_limit = Some(over);
        Ok(())
    }

    /// The documents whose hash is below the fraction, smallest first until the cap on bytes; at least one, if a
    /// fraction above 0 is asked of two or more.
    fn hold_out(
        &mut self,
        settings: &settings::HeldOut,
        seed: Seed,
        work: &Work,
        memory: u64,
    ) -> Result<(), Error> {
        let salt = seed.stream("corpus/held-out", 0).next_u64();
        let limit = (settings.fraction * 2f64.powi(64)) as u128;
        let mut below = Sorter::new(work.folder(), "heldout", memory);
        let (mut survivors, mut least) = (0u64, None);
        self.staying(|index, head| {
            let hash = hash(&head, salt);
            survivors += 1;
            if least.is_none_or(|least| (hash, index) < least) {
                least = Some((hash, index));
            }
            if u128::from(hash) < limit { below.push((hash, index, head.bytes)) } else { Ok(()) }
        })?;
        let (mut bytes, mut chosen) = (0u64, false);
        for record in below.finish()? {
            let (_, index, size) = record?;
            if bytes + u64::from(size) <= settings.max_bytes {
                bytes += u64::from(size);
                self.held_out.set(index);
                chosen = true;
            }
        }
        if let Some((_, index)) = least.filter(|_| !chosen && settings.fraction > 0.0 && survivors > 1) {
            self.held_out.set(index);
        }
        Ok(())
    }

    /// The steps that remove what does not stay from a shard, and the number of its first document.
    pub fn exclusions(&self, shard: usize) -> Result<(u32, Vec<Box<dyn Step>>), Error> {
        let first = self.signatures.first_of(shard);
        let heads = self.signatures.heads_of(shard)?;
        let verdicts = &self.verdicts;
        let named = |name, belongs: &dyn Fn(u32) -> bool, reason: &'static str| -> Box<dyn Step> {
            let wanted = (first..).zip(&heads).filter(|(index, _)| belongs(*index));
            Box::new(Exclude::new(name, wanted.map(|(_, head)| (head.ordinal, reason)).collect()))
        };
        let of = |name, verdict: Verdict| {
            named(name, &|index| verdicts[index as usize] == verdict, verdict.reason())
        };
        let mut steps = Vec::new();
        if self.url {
            steps.push(of("url_duplicates", Verdict::SameUrl));
        }
        if self.exact {
            steps.push(of("exact_duplicates", Verdict::SameText));
        }
        if self.near {
            steps.push(of("near_duplicates", Verdict::SimilarText));
        }
        if let Some(over) = &self.over_limit {
            steps.push(named("limit", &|index| over.get(index), "over_limit"));
        }
        Ok((first, steps))
    }

    /// The names of the steps of [`Plan::exclusions`].
    pub fn names(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        names.extend(self.url.then_some("url_duplicates"));
        names.extend(self.exact.then_some("exact_duplicates"));
        names.extend(self.near.then_some("near_duplicates"));
        names.extend(self.over_limit.is_some().then_some("limit"));
        names
    }
}

fn hash(head: &Head, salt: u64) -> u64 {
    xxh3_64_with_seed(&head.fingerprint.to_le_bytes(), salt)
}

/// A bit a document.
struct Bits(Vec<u64>);

impl Bits {
    fn new(length: u32) -> Bits {
        Bits(vec![0; (length as usize).div_ceil(64)])
    }

    fn set(&mut self, index: u32) {
        self.0[index as usize / 64] |= 1 << (index % 64);
    }

    fn get(&self, index: u32) -> bool {
        self.0[index as usize / 64] >> (index % 64) & 1 == 1
    }
}
