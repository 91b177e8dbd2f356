//! A small cache of encoded pieces for each thread: natural text repeats its words, and the tables
//! of a large vocabulary are out of the processor's nearest caches. It changes no result.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::merge::merge;
use crate::vocabulary::{Vocabulary, hash_bytes};

/// Slots of a thread's cache, of one cache line each; a new piece replaces what its slot held.
const SLOTS: usize = 1 << 13;
/// Longer pieces are not kept.
const PIECE_BYTES: usize = 30;
/// Pieces of more tokens are not kept.
const PIECE_TOKENS: usize = 8;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Slot {
    tokens: [u32; PIECE_TOKENS],
    token_count: u8,
    /// Zero marks an empty slot.
    piece_length: u8,
    piece: [u8; PIECE_BYTES],
}

const EMPTY: Slot =
    Slot { tokens: [0; PIECE_TOKENS], token_count: 0, piece_length: 0, piece: [0; PIECE_BYTES] };

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
    /// Appends the tokens of `piece`. A piece that is itself a token is emitted whole, as tiktoken
    /// does (and Hugging Face with `ignore_merges`): some of Llama 3's tokens cannot be reached by
    /// merging.
    #[inline]
    pub(crate) fn encode(&mut self, vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
        if let &[byte] = piece {
            tokens.push(vocabulary.byte(byte));
            return;
        }
        let hash = hash_bytes(piece);
        if piece.len() > PIECE_BYTES {
            encode_anew(vocabulary, piece, hash, tokens);
            return;
        }
        let slot = &mut self.slots[hash as usize % SLOTS];
        if slot.piece[..slot.piece_length as usize] == *piece {
            tokens.extend_from_slice(&slot.tokens[..slot.token_count as usize]);
            return;
        }
        let first = tokens.len();
        encode_anew(vocabulary, piece, hash, tokens);
        let new = &tokens[first..];
        if new.len() <= PIECE_TOKENS {
            slot.piece[..piece.len()].copy_from_slice(piece);
            slot.piece_length = piece.len() as u8;
            slot.tokens[..new.len()].copy_from_slice(new);
            slot.token_count = new.len() as u8;
        }
    }
}

fn encode_anew(vocabulary: &Vocabulary, piece: &[u8], hash: u64, tokens: &mut Vec<u32>) {
    match vocabulary.id_hashed(piece, hash) {
        Some(id) => tokens.push(id),
        None => merge(vocabulary, piece, tokens),
    }
}
