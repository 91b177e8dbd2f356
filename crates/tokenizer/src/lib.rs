//! Byte-level BPE as Llama 3 has it: train, encode, decode; and the format of its conversations.
//!
//! The files are those that tiktoken and transformers read, the results are theirs token for token.
//! Not a tokenizer for other split patterns or other algorithms (SentencePiece, WordPiece, Unigram); of SentencePiece's
//! files the vocabulary is read, for other formats to hold.
//!
//! A model's ids are the ordinary tokens by rank, and the 256 special tokens after them.

mod cache;
pub mod chat;
pub mod compression;
mod error;
mod hugging_face;
mod merge;
mod rank_file;
pub mod sentencepiece;
mod specials;
mod split;
mod stream;
pub mod table;
mod tokenizer;
pub mod train;
mod unicode;
mod unicode_tables;
mod vocabulary;

pub use error::Error;
pub use specials::{Allowed, SPECIAL_TOKENS, SpecialNames};
pub use split::PATTERN;
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
