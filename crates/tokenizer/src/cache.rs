//! A small cache of encoded pieces for each thread: natural text repeats its words, and the tables
//! of a large vocabulary are out of the processor's nearest caches. It changes no result.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::merge::merge;
use crate::vocabulary::{Vocabulary, hash_bytes};

/// Slots of a thread's cache, of one cache line each; a new piece replaces what its slot held.
const SLOTS: usize = 1 << 15;
/// Pieces of more tokens are not kept.
const PIECE_TOKENS: usize = 7;

/// A piece of at most 31 bytes: its bytes, zeros, and its length, as two numbers that are quick to compare.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key([u128; 2]);

impl Key {
    /// No piece has it: none is empty.
    const NONE: Key = Key([0; 2]);
    const BYTES: usize = 31;

    /// The key of the piece `text[start..end]`.
    #[inline(always)]
    fn of(text: &[u8], start: usize, end: usize) -> Option<Key> {
        let length = end - start;
        let sixteen = |from: usize, count: usize| match text.get(from..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) if count == 16 => u128::from_le_bytes(*bytes),
            Some(bytes) => u128::from_le_bytes(*bytes) & ((1 << (8 * count)) - 1),
            None => {
                let mut bytes = [0; 16];
                bytes[..count].copy_from_slice(&text[from..from + count]);
                u128::from_le_bytes(bytes)
            }
        };
        match length {
            0..16 => Some(Key([sixteen(start, length) | (length as u128) << 120, 0])),
            16..=Key::BYTES => {
                let rest = sixteen(start + 16, length - 16) | (length as u128) << 120;
                Some(Key([sixteen(start, 16), rest]))
            }
            _ => None,
        }
    }

    #[inline]
    fn slot(&self) -> usize {
        let Key([first, second]) = *self;
        let mixed = (first as u64 ^ 0x9E37_79B9_7F4A_7C15).wrapping_add(second as u64);
        let other = (first >> 64) as u64 ^ 0xD1B5_4A32_D192_ED03 ^ (second >> 64) as u64;
        let product = u128::from(mixed) * u128::from(other);
        ((product >> 64) as u64 ^ product as u64) as usize % SLOTS
    }
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Slot {
    key: Key,
    count: u32,
    tokens: [u32; PIECE_TOKENS],
}

const EMPTY: Slot = Slot { key: Key::NONE, count: 0, tokens: [0; PIECE_TOKENS] };

/// What one thread remembers of the vocabulary that it used last.
pub(crate) struct Cache {
    identity: u64,
    slots: Vec<Slot>,
}

thread_local! {
    static CACHE: RefCell<Cache> = const { RefCell::new(Cache { identity: 0, slots: Vec::new() }) };
}

/// A number that no other vocabulary in this process has; not zero.
pub(crate) fn new_identity() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Runs `work` with this thread's cache, emptied if it last served another vocabulary.
pub(crate) fn with(identity: u64, work: impl FnOnce(&mut Cache)) {
    CACHE.with_borrow_mut(|cache| {
        if cache.identity != identity {
            cache.identity = identity;
            cache.slots.clear();
            cache.slots.resize(SLOTS, EMPTY);
        }
        work(cache);
    });
}

impl Cache {
    /// Appends the tokens of the piece `text[start..end]`. A piece that is itself a token is emitted whole, as tiktoken
    /// does (and Hugging Face with `ignore_merges`): some of Llama 3's tokens cannot be reached by
    /// merging.
    // Each of the patterns has a loop of its own; left to itself, the compiler shares one copy of this between them, which
    // costs a sixth of the speed.
    #[inline(always)]
    pub(crate) fn encode(
        &mut self,
        vocabulary: &Vocabulary,
        (text, start, end): (&[u8], usize, usize),
        tokens: &mut Vec<u32>,
    ) {
        let Some(key) = Key::of(text, start, end) else {
            return encode_anew(vocabulary, &text[start..end], tokens);
        };
        let slot = &mut self.slots[key.slot()];
        if slot.key == key {
            if slot.count == 1 {
                return tokens.push(slot.tokens[0]);
            }
            return tokens.extend_from_slice(&slot.tokens[..slot.count as usize]);
        }
        let first = tokens.len();
        encode_anew(vocabulary, &text[start..end], tokens);
        let new = &tokens[first..];
        if new.len() <= PIECE_TOKENS {
            slot.key = key;
            slot.tokens[..new.len()].copy_from_slice(new);
            slot.count = new.len() as u32;
        }
    }
}

fn encode_anew(vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
    match vocabulary.id_hashed(piece, hash_bytes(piece)) {
        Some(id) => tokens.push(id),
        None => merge(vocabulary, piece, tokens),
    }
}
