//! What the engine asks of a model: to read tokens into pages and to score what may come next.
//! `model::infer::Llama` is one; tests bring smaller ones.

use std::path::Path;

pub use model::infer::{Adapter, Outputs, Segment, Wanted};

use model::infer::{KvStorage, Llama, Pages, Scratch};

use crate::{Error, KvCache};

/// A model that the engine can run.
///
/// The scores of a sequence must depend on its own tokens alone, bit for bit: not on the other segments of the call, nor
/// on how its tokens were cut into calls, nor on the pages they are kept in. The engine's promise, the same tokens alone
/// or in any batch, with pages that others have filled or without, rests on that.
pub trait Forward: Send + Sync + 'static {
    /// Memory for the pages of all sequences.
    type Pages: Send;
    /// Room for intermediate results, used again from call to call.
    type Scratch: Send;

    /// Scores given for each position.
    fn vocab_size(&self) -> usize;

    /// Most tokens that one sequence can hold.
    fn context(&self) -> usize;

    /// Tokens of a page.
    fn page_tokens(&self) -> usize;

    /// Memory for `count` pages. It should be taken page by page as they are written.
    fn pages(&self, count: usize, kv_cache: KvCache) -> Self::Pages;

    /// Room for calls of this model.
    fn scratch(&self) -> Self::Scratch;

    /// Reads an adapter for this model from a folder in peft's format. Fails with [`Error::Adapter`], whose name the caller
    /// fills in; so does a model that takes none.
    fn adapter(&self, _folder: &Path) -> Result<Adapter, Error> {
        Err(Error::Adapter { name: String::new(), reason: "this model takes no adapters".into(), hint: None })
    }

    /// Reads each segment's tokens into its pages, and returns what is wanted of them. Fails with [`Error::Model`].
    fn forward<'s>(
        &self,
        pages: &mut Self::Pages,
        segments: &[Segment],
        scratch: &'s mut Self::Scratch,
    ) -> Result<Outputs<'s>, Error>;
}

impl Forward for Llama {
    type Pages = Pages;
    type Scratch = Scratch;

    fn vocab_size(&self) -> usize {
        self.config().vocab_size
    }

    fn context(&self) -> usize {
        self.max_seq_len()
    }

    fn page_tokens(&self) -> usize {
        PAGE_TOKENS
    }

    fn pages(&self, count: usize, kv_cache: KvCache) -> Pages {
        let storage = match kv_cache {
            KvCache::Exact => self.exact_storage(),
            KvCache::F32 => KvStorage::F32,
            KvCache::Bf16 => KvStorage::Bf16,
            KvCache::Q8 => KvStorage::Q8,
        };
        Llama::pages(self, storage, PAGE_TOKENS, count)
    }

    fn scratch(&self) -> Scratch {
        Scratch::default()
    }

    fn adapter(&self, folder: &Path) -> Result<Adapter, Error> {
        let read =
            model::peft::load(folder, self.config()).and_then(|adapters| Llama::adapter(self, &adapters));
        read.map_err(|error| Error::Adapter {
            name: String::new(),
            reason: error.to_string(),
            hint: error.hint(),
        })
    }

    fn forward<'s>(
        &self,
        pages: &mut Pages,
        segments: &[Segment],
        scratch: &'s mut Scratch,
    ) -> Result<Outputs<'s>, Error> {
        Llama::forward(self, pages, segments, scratch)
            .map_err(|error| Error::Model { reason: error.to_string() })
    }
}

/// Tokens of a Llama's page: docs/decisions/engine-paging.md.
const PAGE_TOKENS: usize = 64;
