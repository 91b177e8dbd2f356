//! SentencePiece's BPE: text to pieces and back, as Llama 2 has it. After `bpe_model.cc` and
//! `sentencepiece_processor.cc` of sentencepiece 0.2. Time is O(n log n) in the length of a text, and linear where words
//! are merged each on its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::path::Path;

use rustc_hash::FxHashMap;

use super::normalizer::{Normalizer, SPACE};
use super::{Model, Piece, kind};
use crate::error::Error;

/// Words whose pieces are remembered during one call.
const REMEMBERED_WORDS: usize = 1 << 16;

/// Pieces of more bytes are no pieces of any language model: the trainer's own limit is 16 characters.
const PIECE_BYTES: usize = 1 << 16;

/// A loaded `tokenizer.model` of SentencePiece that encodes and decodes.
pub(crate) struct SentencePiece {
    pieces: Vec<Piece>,
    /// The pieces that text can have: normal, user-defined and unused ones.
    by_text: FxHashMap<Box<str>, u32>,
    longest: usize,
    /// By id: how late a piece is merged. Equal scores have equal places.
    order: Vec<u32>,
    unknown: u32,
    /// The pieces of single bytes, for what no piece has.
    bytes: Option<Box<[u32; 256]>>,
    /// Cut out of the text before anything else: by first byte, the longest first.
    user_defined: Vec<Vec<u32>>,
    /// No piece reaches over the beginning of a word, so words can be merged one by one.
    by_words: bool,
    normalizer: Normalizer,
    unknown_surface: String,
}

impl SentencePiece {
    /// # Errors
    /// A file that cannot be read, is damaged, or is of another algorithm, by its name.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let model = super::load(path)?;
        let refused = |place: &str, problem: String| {
            Err(Error::Unsupported { path: path.to_owned(), place: place.to_owned(), problem })
        };
        match model.algorithm {
            Some(2) => {}
            other => {
                let name = match other {
                    None | Some(1) => "Unigram",
                    Some(3) => "words",
                    Some(4) => "characters",
                    Some(_) => "of no known kind",
                };
                return refused("trainer_spec.model_type", format!("is {name}, not BPE"));
            }
        }
        if model.space_as_suffix {
            return refused("trainer_spec.treat_whitespace_as_suffix", "is set".into());
        }
        if model.has_denormalizer {
            return refused("denormalizer_spec", "has rules of its own".into());
        }
        Self::new(model).or_else(|problem| refused("pieces", problem))
    }

    fn new(model: Model) -> Result<Self, String> {
        let Model { pieces, normalizer, byte_fallback, unknown_surface, .. } = model;
        let mut by_text: FxHashMap<Box<str>, u32> = FxHashMap::default();
        let mut user_defined: Vec<Vec<u32>> = vec![Vec::new(); 256];
        let mut bytes = Box::new([None; 256]);
        let mut unknown = None;
        for (id, piece) in (0u32..).zip(&pieces) {
            if piece.text.len() > PIECE_BYTES {
                return Err(format!("hold no. {id} of {} bytes, which is too long", piece.text.len()));
            }
            if piece.text.is_empty() || piece.text.contains('\0') || piece.score.is_nan() {
                return Err(format!("hold no. {id} without a text or a score"));
            }
            match piece.kind {
                kind::NORMAL | kind::USER_DEFINED | kind::UNUSED => {
                    if by_text.insert(piece.text.as_str().into(), id).is_some() {
                        return Err(format!("hold {:?} twice", piece.text));
                    }
                    if piece.kind == kind::USER_DEFINED {
                        user_defined[usize::from(piece.text.as_bytes()[0])].push(id);
                    }
                }
                kind::BYTE => match byte_of(&piece.text) {
                    Some(byte) => bytes[usize::from(byte)] = Some(id),
                    None => return Err(format!("hold {:?} as a byte", piece.text)),
                },
                kind::UNKNOWN => match unknown {
                    None => unknown = Some(id),
                    Some(_) => return Err("hold two unknown ones".into()),
                },
                kind::CONTROL => {}
                other => {
                    return Err(format!("hold {:?} of the kind {other}, which is not known", piece.text));
                }
            }
        }
        for ids in &mut user_defined {
            ids.sort_by_key(|&id| Reverse(pieces[id as usize].text.len()));
        }
        let bytes = match byte_fallback {
            false => None,
            true => {
                let all: Option<Vec<u32>> = bytes.iter().copied().collect();
                let all = all.and_then(|all| <Box<[u32; 256]>>::try_from(all).ok());
                Some(all.ok_or("do not hold every byte, although byte_fallback is set")?)
            }
        };
        let begins_late =
            |text: &str| text.match_indices(SPACE).any(|(at, _)| at > 0 && !text[..at].ends_with(SPACE));
        let mut by_score: Vec<f32> = pieces.iter().map(|piece| piece.score).collect();
        by_score.sort_by(|a, b| b.total_cmp(a));
        by_score.dedup();
        let order = |piece: &Piece| by_score.partition_point(|score| *score > piece.score) as u32;
        Ok(SentencePiece {
            longest: by_text.keys().map(|text| text.len()).max().unwrap_or(0),
            order: pieces.iter().map(order).collect(),
            unknown: unknown.ok_or("hold no unknown one")?,
            bytes,
            // Pieces that are taken apart again are, all over a text, taken apart as they came about last.
            by_words: normalizer.escape_whitespaces
                && pieces.iter().all(|piece| !matches!(piece.kind, kind::UNUSED | kind::USER_DEFINED))
                && !by_text.keys().any(|text| begins_late(text)),
            normalizer: Normalizer::new(normalizer).map_err(|error| error.to_string())?,
            pieces,
            by_text,
            user_defined,
            unknown_surface,
        })
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// Appends the tokens of `text`, as `SentencePieceProcessor.encode` gives them: no begin or end, and the names of
    /// control pieces are text.
    pub(crate) fn encode_into(&self, text: &str, tokens: &mut Vec<u32>) {
        let normal = self.normalizer.normalize(text, |rest| self.user_defined(rest));
        if self.bytes.is_some() {
            return self.encode_normal(&normal, tokens);
        }
        // One unknown piece stands for all that are beside each other.
        let mut own = Vec::new();
        self.encode_normal(&normal, &mut own);
        own.dedup_by(|a, b| *a == self.unknown && *b == self.unknown);
        tokens.append(&mut own);
    }

    fn encode_normal(&self, normal: &str, tokens: &mut Vec<u32>) {
        if !self.by_words {
            return self.merge(normal, tokens);
        }
        let mut seen: FxHashMap<&str, Range<usize>> = FxHashMap::default();
        for word in words(normal) {
            if let Some(known) = seen.get(word) {
                tokens.extend_from_within(known.clone());
                continue;
            }
            let first = tokens.len();
            self.merge(word, tokens);
            if seen.len() < REMEMBERED_WORDS {
                seen.insert(word, first..tokens.len());
            }
        }
    }

    /// The length of the user-defined piece that `text` begins with.
    fn user_defined(&self, text: &str) -> Option<usize> {
        let candidates = &self.user_defined[usize::from(*text.as_bytes().first()?)];
        let found = candidates.iter().map(|&id| &self.pieces[id as usize].text);
        found.map(String::as_str).find(|piece| text.starts_with(*piece)).map(str::len)
    }

    fn piece(&self, text: &str) -> Option<u32> {
        if text.len() > self.longest { None } else { self.by_text.get(text).copied() }
    }

    /// Merges the pair with the highest score, the leftmost of equals, until no pair is a piece.
    fn merge(&self, text: &str, tokens: &mut Vec<u32>) {
        const NONE: usize = usize::MAX;
        /// What begins at a place; `length` is zero once it was merged into its left.
        struct Symbol {
            start: usize,
            length: usize,
            previous: usize,
            next: usize,
            /// A user-defined piece, which merges with nothing.
            frozen: bool,
        }
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut start = 0;
        while let Some(first) = text[start..].chars().next() {
            let own = self.user_defined(&text[start..]);
            let length = own.unwrap_or(first.len_utf8());
            let at = symbols.len();
            let previous = at.checked_sub(1).unwrap_or(NONE);
            symbols.push(Symbol { start, length, previous, next: at + 1, frozen: own.is_some() });
            start += length;
        }
        let Some(last) = symbols.last_mut() else { return };
        last.next = NONE;

        // Of the pieces that are not to be used: what they came from, to be taken apart again.
        let mut parts: FxHashMap<&str, usize> = FxHashMap::default();
        let mut candidate = |symbols: &[Symbol], left: usize, right: usize| {
            if left == NONE || right == NONE || symbols[left].frozen || symbols[right].frozen {
                return None;
            }
            let (start, length) = (symbols[left].start, symbols[left].length + symbols[right].length);
            let id = self.piece(&text[start..start + length])?;
            if self.pieces[id as usize].kind == kind::UNUSED {
                parts.insert(&text[start..start + length], symbols[left].length);
            }
            Some(Reverse((self.order[id as usize], left, right, length)))
        };
        let pairs = (1..symbols.len()).filter_map(|right| candidate(&symbols, right - 1, right));
        let mut candidates: BinaryHeap<_> = pairs.collect::<Vec<_>>().into();
        while let Some(Reverse((_, left, right, length))) = candidates.pop() {
            let (left_length, right_length) = (symbols[left].length, symbols[right].length);
            // An earlier merge may have taken or lengthened either.
            if left_length == 0 || right_length == 0 || left_length + right_length != length {
                continue;
            }
            let after = symbols[right].next;
            symbols[left].length = length;
            symbols[left].next = after;
            symbols[right].length = 0;
            if after != NONE {
                symbols[after].previous = left;
            }
            let before = symbols[left].previous;
            candidates.extend(candidate(&symbols, before, left));
            candidates.extend(candidate(&symbols, left, after));
        }
        let mut at = 0;
        let mut apart = Vec::new();
        while at != NONE {
            let Symbol { start, length, next, .. } = symbols[at];
            apart.push(&text[start..start + length]);
            while let Some(found) = apart.pop() {
                match (self.piece(found), parts.get(found)) {
                    (Some(id), Some(&cut)) if self.pieces[id as usize].kind == kind::UNUSED => {
                        let (left, right) = found.split_at(cut);
                        apart.extend([right, left]);
                    }
                    (Some(id), _) => tokens.push(id),
                    (None, _) => self.push_unknown(found, tokens),
                }
            }
            at = next;
        }
    }

    fn push_unknown(&self, text: &str, tokens: &mut Vec<u32>) {
        match &self.bytes {
            Some(bytes) => tokens.extend(text.bytes().map(|byte| bytes[usize::from(byte)])),
            None => tokens.push(self.unknown),
        }
    }

    /// The text of `tokens`, as `SentencePieceProcessor.decode` gives it: control pieces are not shown, and the space that
    /// encoding puts first is taken away.
    pub(crate) fn decode(&self, tokens: &[u32]) -> String {
        let settings = &self.normalizer.settings;
        let strips = settings.add_dummy_prefix || settings.remove_extra_whitespaces;
        let mut text = String::new();
        let mut bytes: Vec<u8> = Vec::new();
        let (mut at_start, mut stripped) = (true, false);
        for &token in tokens {
            let Some(piece) = self.pieces.get(token as usize) else {
                push_bytes(&mut bytes, &mut text);
                text.push(char::REPLACEMENT_CHARACTER);
                continue;
            };
            if piece.kind == kind::BYTE {
                bytes.extend(byte_of(&piece.text));
                continue;
            }
            push_bytes(&mut bytes, &mut text);
            at_start &= !stripped && text.is_empty();
            stripped = false;
            match piece.kind {
                kind::CONTROL => {}
                kind::UNKNOWN => text.push_str(&self.unknown_surface),
                _ => {
                    let mut shown = piece.text.as_str();
                    if at_start
                        && strips
                        && let Some(rest) = shown.strip_prefix(SPACE)
                    {
                        shown = rest;
                        stripped = !settings.remove_extra_whitespaces;
                    }
                    text.push_str(&shown.replace(SPACE, " "));
                }
            }
        }
        push_bytes(&mut bytes, &mut text);
        text
    }

    /// What one piece stands for: its text with spaces, a byte, a name.
    pub(crate) fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let piece = self.pieces.get(id as usize)?;
        Some(match (piece.kind, byte_of(&piece.text)) {
            (kind::BYTE, Some(byte)) => vec![byte],
            _ => piece.text.replace(SPACE, " ").into_bytes(),
        })
    }

    /// Whether no text has this piece.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.pieces.get(id as usize).is_some_and(|piece| matches!(piece.kind, kind::CONTROL | kind::UNKNOWN))
    }

    /// The id of a control piece by its name, such as `<s>`.
    pub(crate) fn special(&self, name: &str) -> Option<u32> {
        let place = self.pieces.iter().position(|piece| piece.kind == kind::CONTROL && piece.text == name);
        place.map(|place| place as u32)
    }
}

/// `<0x41>` is `A`.
fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

/// The characters that bytes make; each byte that begins none is U+FFFD.
fn push_bytes(bytes: &mut Vec<u8>, text: &mut String) {
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let valid = match std::str::from_utf8(rest) {
            Ok(all) => all,
            Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
        };
        text.push_str(valid);
        rest = &rest[valid.len()..];
        if !rest.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[1..];
        }
    }
    bytes.clear();
}

/// The text cut before each run of `▁`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let letters = rest.len() - rest.trim_start_matches(SPACE).len();
        let end = rest[letters..].find(SPACE).map_or(rest.len(), |at| letters + at);
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}
