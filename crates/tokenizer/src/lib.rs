//! Byte-level BPE as Llama 3 has it: train, encode, decode; and the format of its conversations.
//!
//! The files are those that tiktoken and transformers read, the results are theirs token for token.
//! [`Tokenizer`] is Llama 3's, which models are trained and served with. [`AnyTokenizer`] only encodes and decodes: with
//! the byte-level BPE of GPT-2, Llama 3 or Qwen, or with SentencePiece's BPE of Llama 2. WordPiece, Unigram and split
//! patterns that no scanner was written for are refused by name.
//!
//! A model's ids are the ordinary tokens by rank, and the 256 special tokens after them.

mod any;
mod byte_level;
mod cache;
pub mod chat;
pub mod compression;
mod error;
mod hugging_face;
mod merge;
mod normal_form;
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

pub use any::AnyTokenizer;
pub use error::Error;
pub use specials::{Allowed, SPECIAL_TOKENS, SpecialNames};
pub use split::PATTERN;
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
