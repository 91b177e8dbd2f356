//! The rule over the corpus that removes semantic duplicates (see [`crate::semantic`]). A first look finds which texts have
//! no embedding yet; if there are any, a second look has them embedded. What was embedded is in the work folder from then
//! on, whatever happens to the program.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow_array::{RecordBatch, StringArray};
use ledger::digest::Digest;
use ledger::progress::Progress;
use ledger::seed::Seed;
use xxhash_rust::xxh3::xxh3_128;

use super::Options;
use super::over_corpus::CorpusRule;
use crate::batch::{self, Rows, column};
use crate::kind::Class;
use crate::semantic::prune::{Drawn, Gone, Placed, Prune, Pruned, draw};
use crate::semantic::store::Store;
use crate::semantic::{Embedder, EmbeddingFault, normalised};
use crate::spill::{Lookup, Sorted, Sorter};
use crate::steps::{Removed, Step};
use crate::{Error, settings};

const NAME: &str = "semantic_duplicates";

/// Embeddings are put on the disk after so many, or so long: the most that a machine without power can cost.
const SYNC_EVERY: u32 = 4096;
const SYNC_AFTER: Duration = Duration::from_secs(60);
/// Text that is held to be embedded together, at most.
const MAX_PENDING_BYTES: usize = 16 << 20;

/// A document: the hash of its text, ordinal, identity and bytes of text.
type Found = (u128, u64, (u128, u32));

/// The rule.
pub(super) struct Semantic<'a> {
    settings: settings::Semantic,
    folder: PathBuf,
    memory: u64,
    seed: Seed,
    embedder: &'a dyn Embedder,
    progress: &'a dyn Progress,
    options: &'a Options<'a>,
    store: Store,
    found: Sorter<Found>,
    /// The ordinals of those to embed, once they are known.
    missing: Option<Missing>,
    pending: Pending,
    pruned: Option<Pruned>,
}

/// The documents to embed, read along with all.
struct Missing {
    ordinals: Sorted<u64>,
    next: Option<u64>,
}

/// Texts that wait to be embedded together: where each came from, its hash, and the text.
#[derive(Default)]
struct Pending {
    texts: Vec<(String, u128, String)>,
    bytes: usize,
    /// Embedded since the last time that the disk was waited for, and when that was.
    since: u32,
    synced: Option<Instant>,
}

impl<'a> Semantic<'a> {
    pub fn new(
        settings: &settings::Semantic,
        (folder, memory): (&Path, u64),
        seed: Seed,
        progress: &'a dyn Progress,
        options: &'a Options<'a>,
    ) -> Result<Semantic<'a>, Error> {
        let embedder = options.embedder.ok_or(Error::NoEmbedder)?;
        let identity = embedder.identity().map_err(|fault| fault_of(fault, "the documents".to_string()))?;
        let identity = Digest::of_value(&(identity, settings.max_tokens, settings.pooling))?;
        Ok(Semantic {
            settings: settings.clone(),
            folder: folder.to_path_buf(),
            memory,
            seed,
            embedder,
            progress,
            options,
            store: Store::open(folder, identity)?,
            found: Sorter::new(folder, "semantic-texts", memory / 4),
            missing: None,
            pending: Pending::default(),
            pruned: None,
        })
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let ids: &StringArray = column(batch, NAME, "id")?;
        for (index, row) in Rows::of(batch, NAME)?.iter().enumerate() {
            let is_asked =
                !matches!(row.kind.class, Class::Code | Class::Data) && !row.text.trim().is_empty();
            if !is_asked {
                continue;
            }
            let key = xxh3_128(row.text.as_bytes());
            let id = u128::from_str_radix(ids.value(index), 16).map_err(|_| Error::Batch {
                step: NAME,
                reason: format!("the identity {:?} is none", ids.value(index)),
            })?;
            let bytes = u32::try_from(row.text.len()).unwrap_or(u32::MAX);
            self.found.push((key, row.ordinal, (id, bytes)))?;
            if let Some(missing) = &mut self.missing
                && missing.is_next(row.ordinal)?
            {
                self.pending.bytes += row.text.len();
                self.pending.texts.push((row.source.to_string(), key, row.text.to_string()));
                let full = self.pending.texts.len() >= self.embedder.batch().max(1)
                    || self.pending.bytes >= MAX_PENDING_BYTES;
                if full {
                    self.embed()?;
                }
            }
        }
        Ok(())
    }

    /// Embeds what waits. What came back before a fault is kept.
    fn embed(&mut self) -> Result<(), Error> {
        self.options.check().inspect_err(|_| self.pending.texts.clear())?;
        let texts = std::mem::take(&mut self.pending.texts);
        self.pending.bytes = 0;
        if texts.is_empty() {
            return Ok(());
        }
        let bare: Vec<&str> = texts.iter().map(|(_, _, text)| text.as_str()).collect();
        let vectors = self.embedder.embed(&bare).map_err(|fault| {
            let source = texts[fault.text.unwrap_or(0).min(texts.len() - 1)].0.clone();
            // Who stops the work stops the embedder too, which is no fault of its.
            if self.options.go_on() { fault_of(fault, source) } else { Error::Stopped }
        });
        let kept = vectors.and_then(|vectors| self.keep(&texts, &vectors));
        self.store.flush()?;
        let now = Instant::now();
        let synced = *self.pending.synced.get_or_insert(now);
        if kept.is_err() || self.pending.since >= SYNC_EVERY || now - synced >= SYNC_AFTER {
            self.store.sync()?;
            (self.pending.since, self.pending.synced) = (0, Some(Instant::now()));
        }
        kept
    }

    fn keep(&mut self, texts: &[(String, u128, String)], vectors: &[Vec<f32>]) -> Result<(), Error> {
        let fault =
            |document: &str, reason| Error::Embedding { document: document.to_string(), reason, hint: None };
        if vectors.len() != texts.len() {
            let reason = format!("{} vectors came back for {} texts", vectors.len(), texts.len());
            return Err(fault(&texts[0].0, reason));
        }
        for ((source, key, _), vector) in texts.iter().zip(vectors) {
            let vector = normalised(vector, self.store.width()).map_err(|reason| fault(source, reason))?;
            self.store.append(*key, &vector)?;
            self.pending.since += 1;
        }
        Ok(())
    }

    /// Calls `each` with every document, in the order of the hashes, and where the vector of its text is, if it is.
    fn each_placed(
        &self,
        found: Sorted<Found>,
        mut each: impl FnMut(Found, Option<u32>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut known = Sorter::new(&self.folder, "semantic-known", self.memory / 4);
        self.store.keys(|key, number| known.push((key, number)))?;
        let mut known = known.finish()?;
        let mut next = known.next_record()?;
        for document in found {
            let document = document?;
            while next.is_some_and(|(key, _)| key < document.0) {
                next = known.next_record()?;
            }
            each(document, next.filter(|(key, _)| *key == document.0).map(|(_, number)| number))?;
        }
        Ok(())
    }

    /// Where the vectors of all documents are, as far as there are any.
    fn place(&mut self) -> Result<Places, Error> {
        // Another name, for the runs of the former are still read.
        let next = Sorter::new(&self.folder, "semantic-texts-again", self.memory / 4);
        let found = std::mem::replace(&mut self.found, next);
        let mut places = Places {
            documents: found.len(),
            texts: 0,
            placed: Sorter::new(&self.folder, "semantic-placed", self.memory / 4),
            drawn: Sorter::new(&self.folder, "semantic-drawn", self.memory / 8),
            missing: Sorter::new(&self.folder, "semantic-missing", self.memory / 8),
        };
        let mut former = None;
        self.each_placed(found.finish()?, |(key, ordinal, about), number| {
            let is_new = former.replace(key) != Some(key);
            places.texts += u64::from(is_new);
            match number {
                Some(number) => {
                    places.placed.push((ordinal, number, about))?;
                    places.drawn.push((draw(key, self.seed), ordinal, number))
                }
                None if is_new => places.missing.push(ordinal),
                None => Ok(()),
            }
        })?;
        Ok(places)
    }

    fn prune(&self, places: Places) -> Result<Pruned, Error> {
        let prune = Prune {
            store: &self.store,
            settings: &self.settings,
            folder: &self.folder,
            memory: self.memory,
            progress: self.progress,
            go_on: &|| self.options.check(),
        };
        prune.run(places.documents, places.placed.finish()?, places.drawn.finish()?)
    }
}

/// Documents, and where their vectors are.
struct Places {
    documents: u64,
    /// Different texts.
    texts: u64,
    placed: Sorter<Placed>,
    drawn: Sorter<Drawn>,
    /// The documents of which no text has an embedding, one for each text.
    missing: Sorter<u64>,
}

fn fault_of(fault: EmbeddingFault, document: String) -> Error {
    Error::Embedding { document, reason: fault.reason, hint: fault.hint }
}

impl Missing {
    /// Whether a document is to be embedded; they are asked for in ascending order.
    fn is_next(&mut self, ordinal: u64) -> Result<bool, Error> {
        let is_next = self.next == Some(ordinal);
        if is_next {
            self.next = self.ordinals.next_record()?;
        }
        Ok(is_next)
    }
}

impl CorpusRule for Semantic<'_> {
    fn label(&self) -> &'static str {
        if self.missing.is_some() { "embedding documents" } else { "looking for embeddings" }
    }

    fn look(&mut self, batches: &[RecordBatch]) -> Result<(), Error> {
        batches.iter().try_for_each(|batch| self.batch(batch))
    }

    fn end_look(&mut self) -> Result<bool, Error> {
        self.embed()?;
        self.store.sync()?;
        let places = self.place()?;
        let missing = places.missing.len();
        if missing == 0 {
            self.pruned = Some(self.prune(places)?);
            return Ok(false);
        }
        if self.missing.is_some() {
            let reason = format!("the embeddings of {missing} texts have gone");
            return Err(Error::Malformed { path: self.folder.clone(), byte: 0, reason });
        }
        if missing < places.texts {
            let kept = places.texts - missing;
            self.progress.note(&format!("{kept} of {} texts were embedded before", places.texts));
        }
        let mut ordinals = places.missing.finish()?;
        let next = ordinals.next_record()?;
        self.missing = Some(Missing { ordinals, next });
        Ok(true)
    }

    fn stand_for(&mut self) -> Option<Sorted<(u64, u32)>> {
        let empty = Sorter::new(&self.folder, "none", 0).finish().ok()?;
        self.pruned.as_mut().map(|pruned| std::mem::replace(&mut pruned.stand_for, empty))
    }

    fn step(self: Box<Self>) -> Result<Box<dyn Step>, Error> {
        let gone = match self.pruned {
            Some(pruned) => pruned.gone,
            None => Sorter::new(&self.folder, "none", 0).finish()?,
        };
        let path = self.folder.join("semantic-gone-000000.run");
        let gone = Lookup::write(path, gone, |gone: &Gone| gone.0)?;
        Ok(Box::new(Removing { gone, min_similarity: self.settings.min_similarity }))
    }
}

/// The step.
struct Removing {
    gone: Lookup<Gone>,
    min_similarity: f64,
}

impl Step for Removing {
    fn name(&self) -> &'static str {
        NAME
    }

    fn paper(&self, _reason: &str) -> &'static str {
        "SemDeDup: Abbas et al. 2023, section 3"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut removed = Removed::default();
        let rows = Rows::of(&batch, NAME)?;
        let Some((first, last)) = rows.span() else {
            return Ok((batch, removed));
        };
        let mut gone = self.gone.between(first, last)?.into_iter().peekable();
        let mut keep = Vec::with_capacity(batch.num_rows());
        for row in rows.iter() {
            while gone.next_if(|gone| gone.0 < row.ordinal).is_some() {}
            let found = gone.next_if(|gone| gone.0 == row.ordinal);
            keep.push(found.is_none());
            if let Some((_, cosine, kept)) = found {
                let value = (f64::from(f32::from_bits(cosine)), self.min_similarity);
                removed.count_measured("similar_meaning", row, Some(value));
                if let Some(row) = removed.rows.last_mut() {
                    row.duplicate_of = Some(format!("{kept:032x}"));
                }
            }
        }
        Ok((batch::keep_rows(&batch, NAME, keep)?, removed))
    }
}

#[cfg(test)]
#[path = "semantic_tests.rs"]
mod tests;
