//! The tokenizer itself: text to token ids and back. Reading and writing its files is done in
//! `rank_file` and `hugging_face`, the format of conversations in [`crate::chat`].

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::byte_level::{Added, ByteLevel, Ids, Splitting};
use crate::chat::Layout;
use crate::error::Error;
use crate::specials::{
    Allowed, BEGIN_OF_TEXT, END_HEADER, END_OF_MESSAGE, END_OF_TEXT, END_OF_TURN, PADDING, START_HEADER,
    SpecialNames,
};
use crate::vocabulary::Vocabulary;
use crate::{hugging_face, rank_file};

/// A Llama 3 tokenizer: byte-level BPE by rank, and special tokens after the ordinary ones.
/// Cheap to clone; all clones share one table.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
    layout: Layout,
}

struct Inner {
    bytes: Arc<ByteLevel>,
    /// The pairs that training merged, in order; where absent, they follow from the ranks.
    merges: Option<Vec<(u32, u32)>>,
    bos: u32,
    eos: u32,
    eot: u32,
    start_header: u32,
    end_header: u32,
    stop_tokens: Vec<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens)", self.vocab_size())
    }
}

impl Tokenizer {
    /// Loads a folder that holds `tokenizer.json` or `tokenizer.model` (the former is taken, as it
    /// also names the special tokens), or one of these files. A lone `tokenizer.model` gets the
    /// special tokens of April 2024; see [`Tokenizer::load_ranks`] for others. A folder's chat template
    /// decides the [`Tokenizer::layout`] of conversations.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file = match path.is_dir() {
            false => path.to_owned(),
            true => ["tokenizer.json", "tokenizer.model"]
                .iter()
                .map(|name| path.join(name))
                .find(|file| file.exists())
                .ok_or_else(|| Error::NotFound { path: path.to_owned() })?,
        };
        let tokenizer = match file.extension().is_some_and(|extension| extension == "json") {
            true => hugging_face::load(&file)?,
            false => Self::load_ranks(&file, SpecialNames::default())?,
        };
        let template = path.is_dir().then(|| hugging_face::template_of(path)).flatten();
        Ok(tokenizer.with_layout(template.map_or_else(Layout::default, |text| Layout::of_template(&text))))
    }

    /// Loads a `tokenizer.model` with the special tokens of this release. The file lists only the
    /// ordinary tokens, one a line: base64 of the bytes, a space, the rank.
    pub fn load_ranks(path: &Path, names: SpecialNames) -> Result<Self, Error> {
        let tokens = rank_file::read(path)?;
        Self::from_tokens(tokens.iter().map(Vec::as_slice), names.list())
    }

    /// Writes `tokenizer.model`, `tokenizer.json`, `tokenizer_config.json` (with the chat template)
    /// and `special_tokens_map.json` into the folder `dir`. Each file appears whole or not at all;
    /// other files there stay.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        ledger::atomic::write(&dir.join("tokenizer.model"), &rank_file::to_bytes(self))?;
        for (name, contents) in hugging_face::files(self) {
            ledger::atomic::write(&dir.join(name), contents.as_bytes())?;
        }
        Ok(())
    }

    /// Writes `tokenizer.model` alone, which is what Meta's own code reads. It does not name the special tokens.
    pub fn save_ranks(&self, path: &Path) -> Result<(), Error> {
        Ok(ledger::atomic::write(path, &rank_file::to_bytes(self))?)
    }

    /// From the ordinary tokens in order of rank, and the names of the special ones after them.
    pub(crate) fn from_tokens<'a>(
        tokens: impl Iterator<Item = &'a [u8]>,
        special_names: Vec<String>,
    ) -> Result<Self, Error> {
        let vocabulary = Vocabulary::new(tokens)?;
        let first = vocabulary.len() as u32;
        let find = |name: &str| {
            let index = special_names.iter().position(|own| own == name);
            index.map(|index| first + index as u32)
        };
        let required = |name: &str| {
            let problem = || format!("the special token {name} is missing");
            find(name).ok_or_else(|| Error::Vocabulary { problem: problem() })
        };
        let (eos, eot) = (required(END_OF_TEXT)?, required(END_OF_TURN)?);
        let inner = Inner {
            bos: required(BEGIN_OF_TEXT)?,
            eos,
            eot,
            start_header: required(START_HEADER)?,
            end_header: required(END_HEADER)?,
            stop_tokens: [Some(eos), find(END_OF_MESSAGE), Some(eot)].into_iter().flatten().collect(),
            bytes: Arc::new(ByteLevel::new(
                vocabulary,
                special_names.into_iter().map(Added::special).collect(),
                Splitting::LLAMA3,
                Ids::Same,
            )?),
            merges: None,
        };
        Ok(Tokenizer { inner: Arc::new(inner), layout: Layout::default() })
    }

    /// The same tokenizer with this merge list, which must mean the same as the ranks.
    pub(crate) fn with_merges(mut self, merges: Vec<(u32, u32)>) -> Self {
        // Only ever called on a tokenizer that has just been made and has no clone.
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.merges = Some(merges);
        }
        self
    }

    /// The same tokenizer for a model that reads conversations in this layout.
    pub fn with_layout(self, layout: Layout) -> Self {
        Tokenizer { layout, ..self }
    }

    /// How conversations with its model are laid out; see [`crate::chat::prompt_with`].
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The same tokenizer with a smaller vocabulary: its first `vocab_size` - 256 ordinary tokens
    /// (more exactly, less the number of special tokens) and the special tokens after them. For a
    /// trained tokenizer this is what training to that size would have given.
    ///
    /// Errors when the 256 bytes are not all among the tokens that stay, or when there are not as
    /// many tokens as asked for.
    pub fn truncated(&self, vocab_size: usize) -> Result<Self, Error> {
        let specials = self.special_names().len();
        let fault = |problem: String| Error::Vocabulary { problem };
        if vocab_size > self.vocab_size() {
            return Err(fault(format!(
                "cannot cut a vocabulary of {} tokens down to {vocab_size}",
                self.vocab_size()
            )));
        }
        let ordinary = vocab_size.checked_sub(specials).ok_or_else(|| {
            fault(format!("a vocabulary of {vocab_size} tokens has no room for {specials} special tokens"))
        })?;
        let vocabulary = self.vocabulary();
        let smaller = Self::from_tokens(vocabulary.tokens().take(ordinary), self.special_names().to_vec())?;
        let stays = |&(left, right): &(u32, u32)| {
            vocabulary.joined(left, right).is_some_and(|made| (made as usize) < ordinary)
        };
        Ok(match &self.inner.merges {
            Some(merges) => smaller.with_merges(merges.iter().copied().filter(stays).collect()),
            None => smaller,
        })
    }

    /// Number of token ids: ordinary and special tokens. Llama 3 has 128,256.
    pub fn vocab_size(&self) -> usize {
        self.inner.bytes.vocab_size()
    }

    /// Number of ordinary tokens; ids from here on are special.
    pub fn ordinary_tokens(&self) -> usize {
        self.vocabulary().len()
    }

    /// Encodes `text`; the names of special tokens in it are ordinary text. Adds no begin-of-text
    /// token. Equal to tiktoken under Meta's wrapper, its cuts in very long runs included.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        // Nearly four bytes a token in English; a few reallocations elsewhere.
        let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
        self.encode_into(text, &mut tokens);
        tokens
    }

    /// [`Tokenizer::encode`] of each text, on all threads of rayon's pool.
    pub fn encode_batch(&self, texts: &[impl AsRef<str> + Sync]) -> Vec<Vec<u32>> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// As [`Tokenizer::encode`], appending to `tokens`.
    pub fn encode_into(&self, text: &str, tokens: &mut Vec<u32>) {
        self.inner.bytes.encode_into(text, tokens);
    }

    /// Encodes `text` and the special tokens in it, as `allowed` says. Errors when it holds one
    /// that is refused, or when `allowed` names a special token that does not exist.
    pub fn encode_with_specials(&self, text: &str, allowed: Allowed<'_>) -> Result<Vec<u32>, Error> {
        self.inner.bytes.encode_with_specials(text, allowed)
    }

    /// The text of `tokens`; what is not UTF-8 becomes U+FFFD, as with `errors="replace"` in Python.
    /// Special tokens are shown by their names. To decode token by token use
    /// [`crate::StreamDecoder`].
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes = self.decode_bytes(tokens);
        match String::from_utf8_lossy(&bytes) {
            Cow::Owned(text) => text,
            Cow::Borrowed(text) => text.to_owned(),
        }
    }

    /// The bytes of `tokens`, which need not be UTF-8. An id that is not of this tokenizer is shown
    /// as U+FFFD.
    pub fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        self.inner.bytes.decode_bytes(tokens)
    }

    /// The bytes of one token; a special token's name.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.inner.bytes.token_bytes(id)
    }

    /// The id of a special token by its name, such as `<|eot_id|>`.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.inner.bytes.added_id(name)
    }

    /// Whether `id` is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.bytes.is_special(id)
    }

    /// The names of the special tokens in order of their ids.
    pub fn special_names(&self) -> &[String] {
        self.inner.bytes.added.names()
    }

    /// `<|begin_of_text|>`
    pub fn bos(&self) -> u32 {
        self.inner.bos
    }

    /// `<|end_of_text|>`
    pub fn eos(&self) -> u32 {
        self.inner.eos
    }

    /// `<|eot_id|>`, the end of a message
    pub fn eot(&self) -> u32 {
        self.inner.eot
    }

    /// `<|start_header_id|>`
    pub fn start_header(&self) -> u32 {
        self.inner.start_header
    }

    /// `<|end_header_id|>`
    pub fn end_header(&self) -> u32 {
        self.inner.end_header
    }

    /// `<|finetune_right_pad_id|>`, which Llama 3 of April 2024 did not have.
    pub fn padding(&self) -> Option<u32> {
        self.special(PADDING)
    }

    /// The tokens that end a generation: `<|end_of_text|>`, `<|eom_id|>` where it exists,
    /// `<|eot_id|>`.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.inner.stop_tokens
    }

    /// What encodes: shared by all clones.
    pub(crate) fn byte_level(&self) -> &Arc<ByteLevel> {
        &self.inner.bytes
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.inner.bytes.vocabulary
    }

    /// The merge list: as trained or as read, else every split of every token by rank.
    pub(crate) fn merges(&self) -> Cow<'_, [(u32, u32)]> {
        match &self.inner.merges {
            Some(merges) => Cow::Borrowed(merges),
            None => Cow::Owned(self.vocabulary().all_merges()),
        }
    }
}
