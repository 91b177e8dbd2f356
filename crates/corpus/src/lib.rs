//! Sources, extraction, filters, deduplication and packing: from files on the user's machine to curated documents
//! (Parquet) and from those to token shards (Megatron's `.bin` and `.idx`). It trains nothing and knows no model.
//!
//! - [`curate`] reads [`Source`]s, applies the [`steps`], removes duplicates and writes documents and a [`Funnel`].
//! - [`extract`] finds the main text of a web page.
//! - [`classifier`] trains linear n-gram classifiers of documents and reads those of others.
//! - [`language`] tells the natural language of a text.
//! - [`Embedder`] is whoever makes vectors of texts, so that curation can remove what means the same.
//! - [`documents`] reads them back.
//! - [`pack`] turns them into token shards, which [`indexed`] reads and writes; [`blend`] mixes those of several sources.
//! - [`Texts`] streams the texts of sources as they are, for what needs no curation.
//! - [`spill`] sorts records that memory does not hold.
//! - [`survey`] tells what a folder of documents holds.
//! - [`registry`] lists the crates on this machine.

pub mod batch;
pub mod blend;
pub mod classifier;
mod curate;
pub mod dedup;
mod documents;
mod error;
pub mod extract;
pub mod funnel;
pub mod indexed;
pub mod kind;
pub mod language;
mod listing;
mod location;
mod pack;
mod read;
mod records;
pub mod registry;
mod removed;
mod semantic;
pub mod settings;
mod source;
pub mod spill;
pub mod steps;
pub mod survey;
mod texts;
pub mod url;

pub use curate::{
    Elsewhere, Job, Made, Options, Portion, Stage, Worker, curate, curate_with, program, stages,
};
pub use documents::{Document, Documents, Split, count, documents};
pub use error::Error;
pub use funnel::{Funnel, FunnelStep};
pub use pack::{PackSummary, PackedSplit, pack, pack_blend};
pub use read::decode_html;
pub use records::{Found, records};
pub use removed::RemovedDocument;
pub use semantic::{Embedder, EmbeddingFault};
pub use settings::Settings;
pub use source::{Source, digest_listing};
pub use texts::{Origin, Text, TextSink, Texts, count_words};
