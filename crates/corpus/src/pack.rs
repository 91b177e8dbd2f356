//! From curated documents to token shards: each document becomes `<|begin_of_text|>`, its tokens,
//! `<|end_of_text|>`. Sequences of a training length are cut later, where they are read.

use std::path::Path;

use ledger::atomic::AtomicDir;
use ledger::progress::{Progress, Task, Unit};
use ledger::seed::Seed;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tokenizer::Tokenizer;

use crate::Error;
use crate::blend::{Blend, Taken};
use crate::documents::{self, Document, Split};
use crate::indexed::{Dataset, Writer};

/// What packing made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackSummary {
    /// Tokens that the tokenizer knows, special ones among them; decides the width of a stored token.
    pub vocab_size: usize,
    /// `train.bin` and `train.idx`.
    pub train: PackedSplit,
    /// `heldout.bin` and `heldout.idx`.
    pub held_out: PackedSplit,
}

/// What one pair of files holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedSplit {
    /// Documents.
    pub documents: u64,
    /// Tokens, the two that frame each document among them.
    pub tokens: u64,
    /// Bytes of text; 0 where only tokens were copied.
    pub bytes: u64,
}

/// Text that is encoded together; small enough to hold, large enough to keep all threads busy.
const GROUP_BYTES: usize = 8 << 20;

/// Encodes the documents that [`crate::curate`] wrote to `documents` into the folder `out`, which is replaced
/// whole: `train.bin`, `train.idx`, `heldout.bin`, `heldout.idx` (see [`crate::indexed`]). Documents keep their
/// order; the output does not depend on the number of threads.
///
/// # Errors
/// [`Error::NoDocuments`], [`Error::Parquet`] or [`Error::Io`] when documents cannot be read,
/// [`Error::DoesNotFit`] when a token cannot be stored, [`Error::Ledger`] when `out` cannot be written.
pub fn pack(
    documents: &Path,
    tokenizer: &Tokenizer,
    out: &Path,
    progress: &dyn Progress,
) -> Result<PackSummary, Error> {
    let folder = AtomicDir::create(out)?;
    let total = documents::count(documents, Split::Train)? + documents::count(documents, Split::HeldOut)?;
    let task = progress.begin("encoding documents", Some(total), Unit::Documents);
    let split = |split| pack_split(documents, split, tokenizer, folder.path(), task.as_ref());
    let (train, held_out) = (split(Split::Train)?, split(Split::HeldOut)?);
    folder.commit()?;
    Ok(PackSummary { vocab_size: tokenizer.vocab_size(), train, held_out })
}

/// Writes one pair of files of a mixture of token shards into the folder `out`, which is replaced whole: `train.bin` and
/// `train.idx` in the order of a [`Blend`], and `heldout.bin` and `heldout.idx` of what all sources held out, one after another.
/// `sources` are folders that [`pack`] wrote with one tokenizer of `vocab_size` tokens.
///
/// # Errors
/// [`Error::Blend`]; [`Error::Io`] or [`Error::Malformed`] when shards cannot be read; [`Error::DoesNotFit`],
/// [`Error::Ledger`].
pub fn pack_blend(
    sources: &[&Path],
    shares: &[f64],
    tokens: u64,
    vocab_size: usize,
    seed: Seed,
    out: &Path,
    progress: &dyn Progress,
) -> Result<(PackSummary, Vec<Taken>), Error> {
    let open = |split: Split| -> Result<Vec<Dataset>, Error> {
        sources.iter().map(|source| Dataset::open(&source.join(split.file_stem()))).collect()
    };
    let (train, held_out) = (open(Split::Train)?, open(Split::HeldOut)?);
    let blend = Blend::new(train.iter().collect(), shares, tokens, seed)?;
    let folder = AtomicDir::create(out)?;
    let task = progress.begin("writing the mixture", Some(blend.len() as u64), Unit::Documents);
    let mut summary =
        PackSummary { vocab_size, train: PackedSplit::default(), held_out: PackedSplit::default() };
    let mut writer = Writer::create(&folder.path().join(Split::Train.file_stem()), vocab_size)?;
    for document in 0..blend.len() {
        copy(&mut writer, &blend.document(document).to_vec(), &mut summary.train)?;
        task.advance(1);
    }
    writer.finish()?;
    let mut writer = Writer::create(&folder.path().join(Split::HeldOut.file_stem()), vocab_size)?;
    for source in &held_out {
        for document in 0..source.len() {
            copy(&mut writer, &source.document(document).to_vec(), &mut summary.held_out)?;
        }
    }
    writer.finish()?;
    folder.commit()?;
    Ok((summary, blend.taken().to_vec()))
}

fn copy(writer: &mut Writer, tokens: &[u32], summary: &mut PackedSplit) -> Result<(), Error> {
    summary.documents += 1;
    summary.tokens += tokens.len() as u64;
    writer.push_document(tokens)
}

fn pack_split(
    dir: &Path,
    split: Split,
    tokenizer: &Tokenizer,
    out: &Path,
    task: &dyn Task,
) -> Result<PackedSplit, Error> {
    let mut writer = Writer::create(&out.join(split.file_stem()), tokenizer.vocab_size())?;
    let mut summary = PackedSplit::default();
    let mut documents = documents::documents(dir, split)?;
    let mut group: Vec<Document> = Vec::new();
    loop {
        let mut bytes = 0;
        for document in documents.by_ref() {
            let document = document?;
            bytes += document.text.len();
            group.push(document);
            if bytes >= GROUP_BYTES {
                break;
            }
        }
        if group.is_empty() {
            break;
        }
        let encoded: Vec<Vec<u32>> =
            group.par_iter().with_max_len(1).map(|document| encode(tokenizer, &document.text)).collect();
        for tokens in &encoded {
            writer.push_document(tokens)?;
            summary.tokens += tokens.len() as u64;
        }
        summary.documents += group.len() as u64;
        summary.bytes += bytes as u64;
        task.advance(group.len() as u64);
        task.message(&format!("{} tokens of {}", summary.tokens, split.file_stem()));
        group.clear();
    }
    writer.finish()?;
    Ok(summary)
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut tokens = Vec::with_capacity(text.len() / 3 + 2);
    tokens.push(tokenizer.bos());
    tokenizer.encode_into(text, &mut tokens);
    tokens.push(tokenizer.eos());
    tokens
}
