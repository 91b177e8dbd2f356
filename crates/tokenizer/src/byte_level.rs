//! Byte-level BPE of any of the known split patterns: text to token ids and back, special tokens in it or not. What
//! Llama 3 has beside that (names for its special tokens, conversations) is [`crate::Tokenizer`]'s.

use std::borrow::Cow;

use crate::cache;
use crate::error::Error;
use crate::normal_form::nfc;
use crate::specials::{Allowed, Specials};
use crate::split::{self, Pattern, stretches};
use crate::vocabulary::{NONE, Vocabulary};

/// Without Meta's cuts a piece can be as long as its text, and merging counts its bytes in 27 bits. No text that anyone
/// has seen holds so long a word; one that does is cut.
const PIECE_BYTES: usize = 1 << 26;

/// What happens to a text before its pieces are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Splitting {
    pub pattern: Pattern,
    /// Meta's cuts in very long texts and runs come first; Hugging Face's tokenizers make none.
    pub cuts: bool,
    /// Unicode's normal form C, of what lies between special tokens.
    pub nfc: bool,
    /// What lies between special tokens begins with a space; one is added where it does not.
    pub prefix_space: bool,
}

impl Splitting {
    /// Llama 3's, as Meta's code has it.
    pub(crate) const LLAMA3: Splitting =
        Splitting { pattern: Pattern::Llama3, cuts: true, nfc: false, prefix_space: false };
}

/// Which number a token has. Inside, the ordinary tokens are numbered by rank and the added ones follow.
pub(crate) enum Ids {
    /// The same outside.
    Same,
    /// Others, as where the special tokens come first: those outside by those inside, and back ([`NONE`]: no token).
    Listed { outer: Vec<u32>, inner: Vec<u32> },
}

impl Ids {
    /// Of the tokens inside, in order. Ids that occur twice are the caller's fault to find.
    pub(crate) fn new(outer: Vec<u32>) -> Ids {
        if (0..).zip(&outer).all(|(inner, &outer)| inner == outer) {
            return Ids::Same;
        }
        let mut inner = vec![NONE; outer.iter().max().map_or(0, |&last| last as usize + 1)];
        for (at, &id) in (0..).zip(&outer) {
            inner[id as usize] = at;
        }
        Ids::Listed { outer, inner }
    }
}

/// A token beside the ordinary ones that is found in text by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub name: String,
    /// Otherwise it is text like any other that only happens to be found first: no caller has to allow it.
    pub special: bool,
    /// It is looked for after normalisation, in what the others left.
    pub normalized: bool,
}

impl Added {
    /// A special token as all of Llama 3's are.
    pub(crate) fn special(name: String) -> Added {
        Added { name, special: true, normalized: false }
    }
}

pub(crate) struct ByteLevel {
    /// Tells this vocabulary from others in the caches.
    identity: u64,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) added: Specials,
    /// Which of them are special, and which are looked for after normalisation.
    special: Vec<bool>,
    normalized: Vec<bool>,
    splitting: Splitting,
    ids: Ids,
}

impl ByteLevel {
    /// Errors when an added token has no name, or two have the same.
    pub(crate) fn new(
        vocabulary: Vocabulary,
        added: Vec<Added>,
        splitting: Splitting,
        ids: Ids,
    ) -> Result<Self, Error> {
        Ok(ByteLevel {
            identity: cache::new_identity(),
            vocabulary,
            special: added.iter().map(|token| token.special).collect(),
            normalized: added.iter().map(|token| token.normalized).collect(),
            added: Specials::new(added.into_iter().map(|token| token.name).collect())?,
            splitting,
            ids,
        })
    }

    pub(crate) fn splitting(&self) -> Splitting {
        self.splitting
    }

    /// One more than the largest id.
    pub(crate) fn vocab_size(&self) -> usize {
        match &self.ids {
            Ids::Same => self.vocabulary.len() + self.added.names().len(),
            Ids::Listed { inner, .. } => inner.len(),
        }
    }

    /// Appends the tokens of `text`, in which the names of special tokens are text.
    pub(crate) fn encode_into(&self, text: &str, tokens: &mut Vec<u32>) {
        let first = tokens.len();
        if self.special.iter().all(|special| *special) {
            self.each_stretch(text, |stretch| self.encode_between(stretch, tokens));
        } else {
            let always: Vec<bool> = self.special.iter().map(|special| !special).collect();
            self.each_stretch(text, |stretch| self.encode_added(stretch, &always, tokens));
        }
        self.translate(&mut tokens[first..]);
    }

    /// The tokens of `text` and of the special tokens in it, as `allowed` says.
    pub(crate) fn encode_with_specials(&self, text: &str, allowed: Allowed<'_>) -> Result<Vec<u32>, Error> {
        let flags = |names| self.added.flags(names).map_err(|name| Error::UnknownSpecial { name });
        let mut wanted = flags(allowed.allowed)?;
        let mut refused = flags(allowed.refused)?;
        for (index, refused) in refused.iter_mut().enumerate() {
            wanted[index] |= !self.special[index];
            *refused &= !wanted[index];
        }
        let mut tokens = Vec::with_capacity(text.len() / 3 + 1);
        let mut found = None;
        // Meta cuts before it looks for special tokens, so a cut inside of one makes it text.
        self.each_stretch(text, |stretch| {
            if found.is_none() {
                found = self.added.find(stretch, 0, &refused).map(|(at, index)| {
                    let offset = stretch.as_ptr() as usize - text.as_ptr() as usize;
                    (self.added.names()[index].clone(), offset + at)
                });
                self.encode_added(stretch, &wanted, &mut tokens);
            }
        });
        if let Some((name, byte)) = found {
            return Err(Error::SpecialInText { name, byte });
        }
        self.translate(&mut tokens);
        Ok(tokens)
    }

    fn each_stretch<'a>(&self, text: &'a str, mut take: impl FnMut(&'a str)) {
        if self.splitting.cuts {
            stretches(text).flatten().for_each(take);
        } else if !text.is_empty() {
            take(text);
        }
    }

    /// The added tokens of `wanted`, and the text between them.
    fn encode_added(&self, text: &str, wanted: &[bool], tokens: &mut Vec<u32>) {
        let of = |normalized: bool| -> Vec<bool> {
            wanted.iter().zip(&self.normalized).map(|(&wanted, &own)| wanted && own == normalized).collect()
        };
        let (raw, normalized) = (of(false), of(true));
        let late = normalized.contains(&true).then_some(normalized);
        self.cut_at(text, &raw, tokens, &mut |between, tokens| match &late {
            None => self.encode_between(between, tokens),
            Some(late) => {
                let normal = self.normal(between);
                self.cut_at(&normal, late, tokens, &mut |between, tokens| {
                    self.encode_normal(between, tokens);
                });
            }
        });
    }

    fn cut_at(
        &self,
        text: &str,
        wanted: &[bool],
        tokens: &mut Vec<u32>,
        between: &mut dyn FnMut(&str, &mut Vec<u32>),
    ) {
        let mut from = 0;
        while let Some((at, index)) = self.added.find(text, from, wanted) {
            between(&text[from..at], tokens);
            tokens.push((self.vocabulary.len() + index) as u32);
            from = at + self.added.names()[index].len();
        }
        between(&text[from..], tokens);
    }

    fn normal<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.splitting.nfc { nfc(text) } else { Cow::Borrowed(text) }
    }

    fn encode_between(&self, text: &str, tokens: &mut Vec<u32>) {
        self.encode_normal(&self.normal(text), tokens);
    }

    fn encode_normal(&self, text: &str, tokens: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut text = Cow::Borrowed(text);
        if self.splitting.prefix_space && !text.starts_with(' ') {
            text = Cow::Owned(format!(" {text}"));
        }
        match self.splitting.pattern {
            Pattern::Llama3 => self.encode_pieces(&text, split::pieces(&text), tokens),
            Pattern::Qwen2 => self.encode_pieces(&text, split::qwen2_pieces(&text), tokens),
            Pattern::Gpt2 => self.encode_pieces(&text, split::gpt2::pieces(&text), tokens),
        }
    }

    /// The pieces cover the text.
    #[inline]
    fn encode_pieces<'a>(&self, text: &str, pieces: impl Iterator<Item = &'a str>, tokens: &mut Vec<u32>) {
        if text.len() > PIECE_BYTES {
            return pieces.for_each(|piece| self.encode_long(piece, tokens));
        }
        cache::with(self.identity, |cache| {
            let mut start = 0;
            for piece in pieces {
                let end = start + piece.len();
                cache.encode(&self.vocabulary, (text.as_bytes(), start, end), tokens);
                start = end;
            }
        });
    }

    /// A piece of a text so long that the piece may have to be cut.
    #[cold]
    fn encode_long(&self, mut piece: &str, tokens: &mut Vec<u32>) {
        cache::with(self.identity, |cache| {
            while !piece.is_empty() {
                let (part, rest) = piece.split_at(piece.floor_char_boundary(PIECE_BYTES));
                cache.encode(&self.vocabulary, (part.as_bytes(), 0, part.len()), tokens);
                piece = rest;
            }
        });
    }

    fn translate(&self, tokens: &mut [u32]) {
        if let Ids::Listed { outer, .. } = &self.ids {
            for token in tokens {
                *token = outer[*token as usize];
            }
        }
    }

    /// The number inside of a token.
    fn inner(&self, id: u32) -> Option<u32> {
        match &self.ids {
            Ids::Same => Some(id),
            Ids::Listed { inner, .. } => inner.get(id as usize).copied().filter(|inner| *inner != NONE),
        }
    }

    /// The bytes of one token; an added token's name.
    pub(crate) fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let inner = self.inner(id)?;
        match (inner as usize).checked_sub(self.vocabulary.len()) {
            None => self.vocabulary.token(inner),
            Some(index) => self.added.names().get(index).map(|name| name.as_bytes()),
        }
    }

    /// Whether `id` is a special token: not one of those that are text.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        let index = self.inner(id).and_then(|inner| (inner as usize).checked_sub(self.vocabulary.len()));
        index.is_some_and(|index| self.special.get(index) == Some(&true))
    }

    /// The id of an added token by its name.
    pub(crate) fn added_id(&self, name: &str) -> Option<u32> {
        let inner = self.vocabulary.len() + self.added.index(name)?;
        match &self.ids {
            Ids::Same => Some(inner as u32),
            Ids::Listed { outer, .. } => outer.get(inner).copied(),
        }
    }

    /// The bytes of `tokens`, which need not be UTF-8. An id that is not of this tokenizer is shown as U+FFFD.
    pub(crate) fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for &token in tokens {
            bytes.extend_from_slice(self.token_bytes(token).unwrap_or("\u{FFFD}".as_bytes()));
        }
        bytes
    }
}
