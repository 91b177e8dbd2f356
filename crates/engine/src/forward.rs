//! What the engine asks of a model: to read tokens into caches and to score what may come next.
//! `model::infer::Llama` is one; tests bring smaller ones.

use model::infer::{KvCache, Llama, Scratch, Wanted};

use crate::Error;

/// A model that the engine can run.
///
/// The scores of a sequence must depend on its own tokens alone, bit for bit: not on the other segments of the call, nor
/// on how its tokens were cut into calls. The engine's promise, the same tokens alone or in any batch, rests on that.
pub trait Forward: Send + Sync + 'static {
    /// Keys and values of one sequence.
    type Cache: Send;
    /// Room for intermediate results, used again from call to call.
    type Scratch: Send;

    /// Scores given for each position.
    fn vocab_size(&self) -> usize;

    /// Most tokens that one sequence can hold.
    fn context(&self) -> usize;

    /// An empty cache for at most `capacity` tokens.
    fn cache(&self, capacity: usize) -> Self::Cache;

    /// Room for calls of this model.
    fn scratch(&self) -> Self::Scratch;

    /// Appends each segment's tokens to its cache. Writes to `logits` one row of `vocab_size` scores for each segment,
    /// in their order: those that follow its last token. Fails with [`Error::Model`].
    fn forward(
        &self,
        segments: &mut [Segment<'_, Self::Cache>],
        scratch: &mut Self::Scratch,
        logits: &mut Vec<f32>,
    ) -> Result<(), Error>;
}

/// The next tokens of one sequence; at least one.
pub struct Segment<'a, Cache> {
    /// Tokens that follow what the cache holds.
    pub tokens: &'a [u32],
    /// The sequence's cache.
    pub cache: &'a mut Cache,
}

impl Forward for Llama {
    type Cache = KvCache;
    type Scratch = Scratch;

    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn context(&self) -> usize {
        self.max_seq_len()
    }

    fn cache(&self, capacity: usize) -> KvCache {
        KvCache::new(self.config(), capacity)
    }

    fn scratch(&self) -> Scratch {
        Scratch::default()
    }

    fn forward(
        &self,
        segments: &mut [Segment<'_, KvCache>],
        scratch: &mut Scratch,
        logits: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let mut segments: Vec<_> = segments
            .iter_mut()
            .map(|segment| model::infer::Segment { tokens: segment.tokens, cache: &mut *segment.cache })
            .collect();
        let scores = Llama::forward(self, &mut segments, Wanted::Last, scratch)
            .map_err(|error| Error::Model { reason: error.to_string() })?;
        logits.clear();
        (0..scores.rows()).for_each(|row| logits.extend_from_slice(scores.row(row)));
        Ok(())
    }
}
