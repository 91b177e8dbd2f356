//! A tokenizer of any kind that is read here, to encode and decode with and to be looked at. Models are trained and served
//! with [`crate::Tokenizer`] alone.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::byte_level::ByteLevel;
use crate::error::Error;
use crate::sentencepiece::SentencePiece;
use crate::specials::{Allowed, SpecialNames};
use crate::tokenizer::Tokenizer;
use crate::{hugging_face, rank_file};

/// Byte-level BPE of GPT-2, Llama 3 or Qwen, or SentencePiece's BPE of Llama 2. Cheap to clone.
#[derive(Clone)]
pub struct AnyTokenizer {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Bytes(Arc<ByteLevel>),
    Pieces(Arc<SentencePiece>),
}

impl std::fmt::Debug for AnyTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AnyTokenizer({}, {} tokens)", self.description(), self.vocab_size())
    }
}

impl From<&Tokenizer> for AnyTokenizer {
    fn from(tokenizer: &Tokenizer) -> Self {
        AnyTokenizer { kind: Kind::Bytes(Arc::clone(tokenizer.byte_level())) }
    }
}

impl AnyTokenizer {
    /// Loads a `tokenizer.json`, a `tokenizer.model` of ranks or of SentencePiece, or a folder with one of them (the former
    /// is taken, unless only the latter can be read). A file of ranks gets the special tokens of April 2024.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged, with the place; or one of another algorithm, normaliser or split pattern,
    /// by its name.
    pub fn load(path: &Path) -> Result<Self, Error> {
        if !path.is_dir() {
            return match path.extension().is_some_and(|extension| extension == "json") {
                true => Ok(AnyTokenizer { kind: Kind::Bytes(Arc::new(hugging_face::load_family(path)?)) }),
                false => Self::load_model(path),
            };
        }
        let (json, model) = (path.join("tokenizer.json"), path.join("tokenizer.model"));
        match (json.exists(), model.exists()) {
            (true, true) => Self::load(&json).or_else(|error| Self::load(&model).map_err(|_| error)),
            (true, false) => Self::load(&json),
            (false, true) => Self::load(&model),
            (false, false) => Err(Error::NotFound { path: path.to_owned() }),
        }
    }

    fn load_model(path: &Path) -> Result<Self, Error> {
        if rank_file::is_text(path)? {
            return Ok(Self::from(&Tokenizer::load_ranks(path, SpecialNames::default())?));
        }
        Ok(AnyTokenizer { kind: Kind::Pieces(Arc::new(SentencePiece::load(path)?)) })
    }

    /// What kind it is, in a few words.
    pub fn description(&self) -> String {
        match &self.kind {
            Kind::Bytes(bytes) => {
                let splitting = bytes.splitting();
                let normal = if splitting.nfc { ", in normal form C" } else { "" };
                format!("byte-level BPE, {}'s split pattern{normal}", splitting.pattern.name())
            }
            Kind::Pieces(_) => "SentencePiece's BPE".to_owned(),
        }
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.vocab_size(),
            Kind::Pieces(pieces) => pieces.vocab_size(),
        }
    }

    /// Encodes `text`, in which the names of special tokens are text; nothing is put before or after it. The ids are those
    /// of Hugging Face's tokenizers (with `encode_special_tokens`), of tiktoken under Meta's cuts, or of sentencepiece.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
        self.encode_into(text, &mut tokens);
        tokens
    }

    /// As [`AnyTokenizer::encode`], appending to `tokens`.
    pub fn encode_into(&self, text: &str, tokens: &mut Vec<u32>) {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.encode_into(text, tokens),
            Kind::Pieces(pieces) => pieces.encode_into(text, tokens),
        }
    }

    /// [`AnyTokenizer::encode`] of each text, on all threads of rayon's pool.
    pub fn encode_batch(&self, texts: &[impl AsRef<str> + Sync]) -> Vec<Vec<u32>> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// Encodes `text` and the special tokens in it, as `allowed` says. SentencePiece finds none in any text.
    ///
    /// # Errors
    /// A special token that is refused, with its place, or one that does not exist.
    pub fn encode_with_specials(&self, text: &str, allowed: Allowed<'_>) -> Result<Vec<u32>, Error> {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.encode_with_specials(text, allowed),
            Kind::Pieces(pieces) => match allowed.names().find(|name| pieces.special(name).is_none()) {
                Some(name) => Err(Error::UnknownSpecial { name: name.to_owned() }),
                None => Ok(self.encode(text)),
            },
        }
    }

    /// The text of `tokens`. Bytes that are not UTF-8 and ids that do not exist become U+FFFD. Special tokens are shown by
    /// their names; SentencePiece shows none, and takes away the space that its encoding puts first.
    pub fn decode(&self, tokens: &[u32]) -> String {
        match &self.kind {
            Kind::Bytes(bytes) => match String::from_utf8_lossy(&bytes.decode_bytes(tokens)) {
                Cow::Owned(text) => text,
                Cow::Borrowed(text) => text.to_owned(),
            },
            Kind::Pieces(pieces) => pieces.decode(tokens),
        }
    }

    /// What one token stands for: its bytes, which need not be UTF-8; a special token's name.
    pub fn token_bytes(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.token_bytes(id).map(Cow::Borrowed),
            Kind::Pieces(pieces) => pieces.token_bytes(id).map(Cow::Owned),
        }
    }

    /// Whether `id` is a special token, which text alone does not have.
    pub fn is_special(&self, id: u32) -> bool {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.is_special(id),
            Kind::Pieces(pieces) => pieces.is_special(id),
        }
    }

    /// Number of tokens that texts can have: those that exist and are not special.
    pub fn text_tokens(&self) -> usize {
        let ids = 0..self.vocab_size() as u32;
        ids.filter(|&id| self.token_bytes(id).is_some() && !self.is_special(id)).count()
    }
}
