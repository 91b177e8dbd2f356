//! The ordinary tokens: bytes by id, id by bytes, and which two tokens merge into which.
//! An ordinary token's id is its rank. Special tokens are not in here.

use std::hash::{BuildHasher, Hasher};

use rayon::prelude::*;
use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::error::Error;
use crate::merge::last_pair;

/// Marks an empty slot; no token has this id.
pub(crate) const NONE: u32 = u32::MAX;

/// Ids have this many bits, so that two tokens and what they make fit in one word.
pub(crate) const ID_BITS: u32 = 21;

/// Tokens have at most this many bits of length: more is no token of any language model.
pub(crate) const LENGTH_BITS: u32 = 16;

/// A token table. Look-ups are one probe or a few in tables that are at most half full.
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    /// Token `id` is `bytes[starts[id]..starts[id + 1]]`.
    starts: Vec<u32>,
    longest: usize,
    /// Open addressing by hash of the bytes: (upper half of the hash, id).
    by_bytes: Vec<(u32, u32)>,
    of_byte: [u32; 256],
    /// `two_bytes[a << 8 | b]`: the token made of bytes `a`, `b`. Most merges start here.
    two_bytes: Vec<u32>,
    /// Open addressing by (left id, right id): left, right and the token that they make, in
    /// [`ID_BITS`] each. Half the size of the plain form, and this table is where merging waits.
    ///
    /// It holds one pair for each token, not each way to write it as two. As long as no merge has crossed the borders of
    /// a token's bytes, those between them were merged in the order in which they are merged alone: the least of all
    /// pairs is also the least of those within. So when two tokens are left between the borders, they are the two that
    /// are left there when the bytes stand alone, and no other two are ever neighbours.
    by_pair: Vec<u64>,
    /// Bit `hash` is set where a pair of this hash is in `by_pair`. Most pairs that are asked for are in none, and this
    /// table, an eighth of the size, says so from a nearer cache.
    is_pair: Vec<u64>,
}

impl Vocabulary {
    /// From the tokens in order of their ranks. All 256 bytes must be there, none twice. Two tokens merge if what they
    /// make is a token.
    pub(crate) fn new<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let mut vocabulary = Self::without_pairs(tokens)?;
        vocabulary.index_pairs(|_, _| true);
        Ok(vocabulary)
    }

    /// As [`Vocabulary::new`], but only the pairs of `merges` merge. Unless `whole`, a piece that is a token is not taken
    /// for it where merging does not get there: tiktoken's way, which Hugging Face's tokenizers call `ignore_merges`.
    pub(crate) fn with_merges<'a>(
        tokens: impl Iterator<Item = &'a [u8]>,
        merges: &[(u32, u32)],
        whole: bool,
    ) -> Result<Self, Error> {
        let mut vocabulary = Self::without_pairs(tokens)?;
        let pairs: FxHashSet<u64> = merges.iter().map(|&(left, right)| pair_key(left, right)).collect();
        let reached = vocabulary.index_pairs(|left, right| pairs.contains(&pair_key(left, right)));
        if !whole {
            vocabulary.by_bytes.fill((0, NONE));
            for id in (0..vocabulary.len() as u32).filter(|&id| reached[id as usize]) {
                // Each was in the table before, beside no other of the same bytes.
                vocabulary.insert(id);
            }
        }
        Ok(vocabulary)
    }

    fn without_pairs<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let fault = |problem: String| Error::Vocabulary { problem };
        let (mut bytes, mut starts, mut longest) = (Vec::new(), vec![0u32], 0);
        for token in tokens {
            let id = starts.len() - 1;
            if token.is_empty() {
                return Err(fault(format!("token {id} is empty")));
            }
            if token.len() >> LENGTH_BITS > 0 {
                return Err(fault(format!("token {id} has {} bytes, which is too long", token.len())));
            }
            // The last id marks an empty slot.
            if (id + 1) >> ID_BITS > 0 {
                return Err(fault(format!("there are more than {id} tokens")));
            }
            bytes.extend_from_slice(token);
            let end =
                u32::try_from(bytes.len()).map_err(|_| fault("the tokens are longer than 4 GB".into()))?;
            starts.push(end);
            longest = longest.max(token.len());
        }
        let mut vocabulary = Vocabulary {
            by_bytes: vec![(0, NONE); (2 * starts.len()).next_power_of_two()],
            bytes,
            starts,
            longest,
            of_byte: [NONE; 256],
            two_bytes: Vec::new(),
            by_pair: Vec::new(),
            is_pair: Vec::new(),
        };
        for id in 0..vocabulary.len() as u32 {
            if let Some(first) = vocabulary.insert(id) {
                return Err(fault(format!("tokens {first} and {id} have the same bytes")));
            }
        }
        for byte in 0..=255u8 {
            vocabulary.of_byte[byte as usize] =
                vocabulary.id(&[byte]).ok_or_else(|| fault(format!("no token for the byte {byte:#04x}")))?;
        }
        Ok(vocabulary)
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The bytes of token `id`.
    #[inline]
    pub(crate) fn token(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let (start, end) = (*self.starts.get(id)?, *self.starts.get(id + 1)?);
        Some(&self.bytes[start as usize..end as usize])
    }

    /// All tokens in order of their ids.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &[u8]> {
        self.starts.windows(2).map(|ends| &self.bytes[ends[0] as usize..ends[1] as usize])
    }

    /// The token with exactly these bytes.
    #[inline]
    pub(crate) fn id(&self, bytes: &[u8]) -> Option<u32> {
        self.id_hashed(bytes, hash_bytes(bytes))
    }

    /// [`Vocabulary::id`] where [`hash_bytes`] of the bytes is known already.
    #[inline]
    pub(crate) fn id_hashed(&self, bytes: &[u8], hash: u64) -> Option<u32> {
        if bytes.len() > self.longest {
            return None;
        }
        let mask = self.by_bytes.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let (tag, id) = self.by_bytes[slot];
            if id == NONE {
                return None;
            }
            if tag == (hash >> 32) as u32 && self.token(id) == Some(bytes) {
                return Some(id);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The token for one byte.
    #[inline]
    pub(crate) fn byte(&self, byte: u8) -> u32 {
        self.of_byte[byte as usize]
    }

    /// The token for two bytes, or [`NONE`].
    #[inline]
    pub(crate) fn two_bytes(&self, left: u8, right: u8) -> u32 {
        self.two_bytes[(left as usize) << 8 | right as usize]
    }

    /// The token whose bytes are those of `left` and then `right`.
    pub(crate) fn joined(&self, left: u32, right: u32) -> Option<u32> {
        self.id(&[self.token(left)?, self.token(right)?].concat())
    }

    /// The token that `left` and `right` are merged into where merging makes them neighbours, or [`NONE`]. Other pairs
    /// may be absent, though their bytes are a token: see [`Vocabulary::joined`].
    #[inline]
    pub(crate) fn merged(&self, left: u32, right: u32) -> u32 {
        let key = pair_key(left, right);
        let hash = hash_pair(key);
        if self.is_pair[hash / 64 % self.is_pair.len()] >> (hash % 64) & 1 == 0 {
            return NONE;
        }
        let mask = self.by_pair.len() - 1;
        let mut slot = hash & mask;
        loop {
            let found = self.by_pair[slot];
            if found == EMPTY_PAIR {
                return NONE;
            }
            if found >> ID_BITS == key {
                return found as u32 & ((1 << ID_BITS) - 1);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Every way to write each token as two tokens, in order of (token, left, right). This is the
    /// merge list that transformers' `TikTokenConverter` derives from ranks.
    pub(crate) fn all_merges(&self) -> Vec<(u32, u32)> {
        let mut merges = Vec::new();
        for token in self.tokens() {
            let first = merges.len();
            merges.extend(
                (1..token.len()).filter_map(|cut| Some((self.id(&token[..cut])?, self.id(&token[cut..])?))),
            );
            merges[first..].sort_unstable();
        }
        merges
    }

    /// Adds `id` to the table; an id with the same bytes, if there is one already.
    fn insert(&mut self, id: u32) -> Option<u32> {
        let token = &self.bytes[self.starts[id as usize] as usize..self.starts[id as usize + 1] as usize];
        let hash = hash_bytes(token);
        let mask = self.by_bytes.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let (tag, found) = self.by_bytes[slot];
            if found == NONE {
                self.by_bytes[slot] = ((hash >> 32) as u32, id);
                return None;
            }
            if tag == (hash >> 32) as u32 && self.token(found) == Some(token) {
                return Some(found);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Which tokens merging gets to, where the pairs merge that `may` be merged.
    fn index_pairs(&mut self, may: impl Fn(u32, u32) -> bool + Sync) -> Vec<bool> {
        let mut reached: Vec<bool> = self.tokens().map(|token| token.len() == 1).collect();
        self.two_bytes = vec![NONE; 1 << 16];
        self.by_pair = vec![EMPTY_PAIR; (self.len() * 3 / 2 + 1).next_power_of_two()];
        // Eight bits for each slot.
        self.is_pair = vec![0; (self.by_pair.len() / 8).max(1)];
        // A token's pair follows from the pairs of shorter tokens.
        let lengths: Vec<u32> = self.starts.windows(2).map(|ends| ends[1] - ends[0]).collect();
        let mut by_length: Vec<u32> = (0..self.len() as u32).collect();
        by_length.sort_by_key(|&id| lengths[id as usize]);
        for of_one_length in by_length.chunk_by(|&a, &b| lengths[a as usize] == lengths[b as usize]) {
            let pair = |&id: &u32| {
                let token = self.token(id).filter(|token| token.len() > 1)?;
                let pair = last_pair(self, token).filter(|&(left, right)| may(left, right))?;
                Some((pair, id))
            };
            let pairs: Vec<((u32, u32), u32)> = of_one_length.par_iter().filter_map(pair).collect();
            for ((left, right), id) in pairs {
                self.insert_pair(left, right, id);
                reached[id as usize] = true;
            }
        }
        reached
    }

    fn insert_pair(&mut self, left: u32, right: u32, id: u32) {
        if let Some(&[left, right]) = self.token(id) {
            self.two_bytes[(left as usize) << 8 | right as usize] = id;
        }
        let key = pair_key(left, right);
        let hash = hash_pair(key);
        let words = self.is_pair.len();
        self.is_pair[hash / 64 % words] |= 1 << (hash % 64);
        let mask = self.by_pair.len() - 1;
        let mut slot = hash & mask;
        while self.by_pair[slot] != EMPTY_PAIR {
            slot = (slot + 1) & mask;
        }
        self.by_pair[slot] = key << ID_BITS | u64::from(id);
    }
}

/// No pair has these two ids.
const EMPTY_PAIR: u64 = u64::MAX;

#[inline]
fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << ID_BITS | u64::from(right)
}

#[inline]
fn hash_pair(key: u64) -> usize {
    // Fibonacci hashing: the upper half of the product depends on all bits of the key.
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}

#[inline]
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = FxBuildHasher.build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(extra: &[&str]) -> Vec<Vec<u8>> {
        let bytes = (0..=255u8).map(|byte| vec![byte]);
        bytes.chain(extra.iter().map(|token| token.as_bytes().to_vec())).collect()
    }

    fn vocabulary(extra: &[&str]) -> Result<Vocabulary, Error> {
        Vocabulary::new(tokens(extra).iter().map(Vec::as_slice))
    }

    #[test]
    fn finds_tokens_and_pairs() {
        let vocabulary = vocabulary(&["ab", "bc", "abc"]).expect("complete");
        assert_eq!(vocabulary.id(b"abc"), Some(258));
        assert_eq!(vocabulary.id(b"ac"), None);
        assert_eq!(vocabulary.joined(b'a'.into(), 257), Some(258));
        assert_eq!(vocabulary.merged(256, b'c'.into()), 258);
        // "ab" is merged before "bc", so "a" never stands before "bc".
        assert_eq!(vocabulary.merged(b'a'.into(), 257), NONE);
        assert_eq!(vocabulary.merged(256, 257), NONE);
        assert_eq!(vocabulary.two_bytes(b'b', b'c'), 257);
        assert_eq!(vocabulary.all_merges(), [(97, 98), (98, 99), (97, 257), (256, 99)]);
    }

    #[test]
    fn refuses_what_is_no_vocabulary() {
        let problem = |tokens: &[Vec<u8>]| {
            Vocabulary::new(tokens.iter().map(Vec::as_slice)).err().map(|error| error.to_string())
        };
        let twice = tokens(&["ab", "ab"]);
        assert_eq!(problem(&twice).as_deref(), Some("tokens 256 and 257 have the same bytes"));
        assert_eq!(problem(&tokens(&[])[..255]).as_deref(), Some("no token for the byte 0xff"));
        assert_eq!(problem(&tokens(&[""])).as_deref(), Some("token 256 is empty"));
    }
}
