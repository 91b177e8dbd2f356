//! Byte-pair encoding of one piece: merge the adjacent pair whose token has the lowest rank, the
//! leftmost of equals, until no pair is a token. Two ways to the same result: a scan for short
//! pieces, a heap for long ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::vocabulary::{ID_BITS, LENGTH_BITS, NONE, Vocabulary};

/// Up to this many bytes the quadratic scan wins: it touches one or two cache lines and allocates
/// nothing. Above it the heap bounds the work to O(n log n).
const SCAN_BYTES: usize = 64;

/// Appends the tokens of a piece that is not itself a token.
#[inline]
pub(crate) fn merge(vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
    merge_down_to(1, vocabulary, piece, tokens);
}

/// The two tokens that `token`, which has at least two bytes, is merged of when it stands alone, if it gets there.
/// `vocabulary` has to know such pairs of shorter tokens only.
pub(crate) fn last_pair(vocabulary: &Vocabulary, token: &[u8]) -> Option<(u32, u32)> {
    let mut tokens = Vec::with_capacity(2);
    merge_down_to(2, vocabulary, token, &mut tokens);
    match tokens[..] {
        [left, right] => Some((left, right)),
        _ => None,
    }
}

/// Merges until no pair is a token or only `least` tokens are left.
#[inline]
fn merge_down_to(least: u32, vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
    if piece.len() <= SCAN_BYTES {
        merge_by_scan(least, vocabulary, piece, tokens);
    } else {
        merge_by_heap(least, vocabulary, piece, tokens);
    }
}

/// O(n * merges). `piece` has at most [`SCAN_BYTES`] bytes.
fn merge_by_scan(least: u32, vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
    let mut scan = Scan::new(vocabulary, piece);
    while scan.starts.count_ones() > least && scan.merge_best(vocabulary) {}
    let mut starts = scan.starts;
    while starts != 0 {
        tokens.push(scan.ids[starts.trailing_zeros() as usize % SCAN_BYTES]);
        starts &= starts - 1;
    }
}

/// A piece while it is merged.
struct Scan {
    /// The token that starts at a byte.
    ids: [u32; SCAN_BYTES],
    /// At the first byte of a token: what it and the next one make, and below it the byte's index, so that the least is
    /// the leftmost of those that merge first; [`Scan::NOTHING`] where they make nothing. At the other bytes whatever was there.
    orders: [i32; SCAN_BYTES],
    /// Bit `i`: a token starts at byte `i`. Neighbours are found in it, so nothing has to be moved.
    starts: u64,
}

impl Scan {
    const NOTHING: i32 = i32::MAX;
    const INDEX_BITS: u32 = SCAN_BYTES.trailing_zeros();

    fn new(vocabulary: &Vocabulary, piece: &[u8]) -> Scan {
        let mut scan = Scan {
            ids: [0; SCAN_BYTES],
            orders: [Scan::NOTHING; SCAN_BYTES],
            starts: u64::MAX >> (SCAN_BYTES - piece.len()),
        };
        for (id, &byte) in scan.ids.iter_mut().zip(piece) {
            *id = vocabulary.byte(byte);
        }
        for (at, pair) in piece.windows(2).enumerate() {
            scan.orders[at] = Scan::order(vocabulary.two_bytes(pair[0], pair[1]), at);
        }
        scan
    }

    #[inline]
    fn order(rank: u32, at: usize) -> i32 {
        match rank {
            NONE => Scan::NOTHING,
            rank => (rank << Scan::INDEX_BITS | at as u32) as i32,
        }
    }

    /// The byte at which the token after the one at `at` starts.
    #[inline]
    fn next(&self, at: usize) -> Option<usize> {
        let later = self.starts & (u64::MAX << at << 1);
        (later != 0).then_some(later.trailing_zeros() as usize)
    }

    /// One merge; false: there is none left.
    #[inline]
    fn merge_best(&mut self, vocabulary: &Vocabulary) -> bool {
        let mut best = Scan::NOTHING;
        // One by one: a vector that is loaded right after one of its numbers was stored has to wait for the store.
        let mut starts = self.starts;
        while starts != 0 {
            best = best.min(self.orders[starts.trailing_zeros() as usize % SCAN_BYTES]);
            starts &= starts - 1;
        }
        let at = best as usize % SCAN_BYTES;
        let Some(right) = self.next(at).filter(|_| best != Scan::NOTHING) else { return false };
        let rank = best as u32 >> Scan::INDEX_BITS;
        self.ids[at] = rank;
        self.starts &= !(1 << right);
        self.orders[at] = match self.next(at) {
            Some(after) => Scan::order(vocabulary.merged(rank, self.ids[after]), at),
            None => Scan::NOTHING,
        };
        let earlier = self.starts & ((1 << at) - 1);
        if earlier != 0 {
            let previous = earlier.ilog2() as usize;
            self.orders[previous] = Scan::order(vocabulary.merged(self.ids[previous], rank), previous);
        }
        true
    }
}

/// A pair that could be merged, as one word for the sake of the heap: rank, start of the left
/// symbol, and how many bytes both have together. The order of the words is that of merging.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate(u64);

/// Of the start; splitting leaves no piece longer than 25,000 characters of either kind.
const START_BITS: u32 = u64::BITS - ID_BITS - LENGTH_BITS;

impl Candidate {
    fn new(rank: u32, start: u32, length: u32) -> Candidate {
        let rank_and_start = u64::from(rank) << START_BITS | u64::from(start);
        Candidate(rank_and_start << LENGTH_BITS | u64::from(length))
    }

    fn rank(self) -> u32 {
        (self.0 >> (START_BITS + LENGTH_BITS)) as u32
    }

    fn start(self) -> u32 {
        (self.0 >> LENGTH_BITS) as u32 & ((1 << START_BITS) - 1)
    }

    fn end(self) -> u32 {
        self.start() + (self.0 as u32 & ((1 << LENGTH_BITS) - 1))
    }
}

/// O(n log n) in time and O(n) in memory: candidates in a heap, symbols in a linked list.
fn merge_by_heap(least: u32, vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
    /// A token that starts at this index of the piece; `id` is NONE once merged into its left.
    #[derive(Clone, Copy)]
    struct Symbol {
        id: u32,
        previous: u32,
        next: u32,
    }
    debug_assert!(piece.len() < 1 << START_BITS);
    let end = piece.len() as u32;
    let symbols = (0..end).zip(piece).map(|(at, &byte)| Symbol {
        id: vocabulary.byte(byte),
        previous: at.wrapping_sub(1), // NONE for the first
        next: at + 1,
    });
    let mut symbols: Vec<Symbol> = symbols.collect();
    let candidates = (0..end).zip(piece.windows(2)).filter_map(|(at, pair)| {
        let rank = vocabulary.two_bytes(pair[0], pair[1]);
        (rank != NONE).then(|| Reverse(Candidate::new(rank, at, 2)))
    });
    let mut candidates: BinaryHeap<Reverse<Candidate>> = candidates.collect();
    let mut left_over = end;
    while left_over > least
        && let Some(Reverse(candidate)) = candidates.pop()
    {
        let (rank, left, right_end) = (candidate.rank(), candidate.start(), candidate.end());
        let Symbol { id, previous, next: right } = symbols[left as usize];
        // An earlier merge may have taken the left symbol, or moved either end of the right one.
        if id == NONE || right >= right_end || symbols[right as usize].next != right_end {
            continue;
        }
        left_over -= 1;
        symbols[right as usize].id = NONE;
        symbols[left as usize].id = rank;
        symbols[left as usize].next = right_end;
        if right_end < end {
            let after = &mut symbols[right_end as usize];
            after.previous = left;
            let merged = vocabulary.merged(rank, after.id);
            if merged != NONE {
                candidates.push(Reverse(Candidate::new(merged, left, after.next - left)));
            }
        }
        if previous != NONE {
            let merged = vocabulary.merged(symbols[previous as usize].id, rank);
            if merged != NONE {
                candidates.push(Reverse(Candidate::new(merged, previous, right_end - previous)));
            }
        }
    }
    let mut at = 0;
    while at < end {
        tokens.push(symbols[at as usize].id);
        at = symbols[at as usize].next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, in its plainest form: look at all pairs again after each merge.
    fn merge_plainly(vocabulary: &Vocabulary, piece: &[u8]) -> Vec<u32> {
        let mut ids: Vec<u32> = piece.iter().map(|&byte| vocabulary.byte(byte)).collect();
        loop {
            // Whatever two tokens make together, not only what the table of pairs holds.
            let joined = |pair: &[u32]| vocabulary.joined(pair[0], pair[1]).unwrap_or(NONE);
            let ranks = ids.windows(2).map(joined);
            let best = ranks.enumerate().map(|(at, rank)| (rank, at)).min();
            match best {
                Some((rank, at)) if rank != NONE => {
                    ids[at] = rank;
                    ids.remove(at + 1);
                }
                _ => return ids,
            }
        }
    }

    proptest! {
        #[test]
        fn both_ways_follow_the_definition(
            extra in proptest::collection::btree_set("[ab]{2,6}|[abc]{2,3}", 0..40),
            order in any::<u64>(),
            piece in "[abc]{1,120}",
        ) {
            // Any set of tokens in any order, also such as no training would give.
            let mut extra: Vec<Vec<u8>> = extra.into_iter().map(String::into_bytes).collect();
            extra.sort_by_key(|token| crate::vocabulary::hash_bytes(token) ^ order);
            let bytes = (0..=255u8).map(|byte| vec![byte]);
            let tokens: Vec<Vec<u8>> = bytes.chain(extra).collect();
            let vocabulary = Vocabulary::new(tokens.iter().map(Vec::as_slice)).expect("complete");
            let expected = merge_plainly(&vocabulary, piece.as_bytes());
            let mut by_heap = Vec::new();
            merge_by_heap(1, &vocabulary, piece.as_bytes(), &mut by_heap);
            prop_assert_eq!(&by_heap, &expected);
            if piece.len() <= SCAN_BYTES {
                let mut by_scan = Vec::new();
                merge_by_scan(1, &vocabulary, piece.as_bytes(), &mut by_scan);
                prop_assert_eq!(&by_scan, &expected);
            }
        }
    }
}
