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
pub(crate) fn merge(vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
    if piece.len() <= SCAN_BYTES {
        merge_by_scan(vocabulary, piece, tokens);
    } else {
        merge_by_heap(vocabulary, piece, tokens);
    }
}

/// O(n * merges). `piece` has at most [`SCAN_BYTES`] bytes.
fn merge_by_scan(vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
    let mut ids = [0u32; SCAN_BYTES];
    // ranks[i] is the token that ids[i] and ids[i + 1] make.
    let mut ranks = [NONE; SCAN_BYTES];
    let mut length = piece.len();
    for (id, &byte) in ids.iter_mut().zip(piece) {
        *id = vocabulary.byte(byte);
    }
    for (rank, pair) in ranks.iter_mut().zip(piece.windows(2)) {
        *rank = vocabulary.two_bytes(pair[0], pair[1]);
    }
    while length > 1 {
        let (mut best, mut at) = (NONE, 0);
        for (index, &rank) in ranks[..length - 1].iter().enumerate() {
            if rank < best {
                (best, at) = (rank, index);
            }
        }
        if best == NONE {
            break;
        }
        ids[at] = best;
        ids.copy_within(at + 2..length, at + 1);
        if at + 2 < length {
            ranks.copy_within(at + 2..length, at + 1);
        }
        length -= 1;
        ranks[at] = match at + 1 < length {
            true => vocabulary.merged(best, ids[at + 1]),
            false => NONE,
        };
        if at > 0 {
            ranks[at - 1] = vocabulary.merged(ids[at - 1], best);
        }
    }
    tokens.extend_from_slice(&ids[..length]);
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
fn merge_by_heap(vocabulary: &Vocabulary, piece: &[u8], tokens: &mut Vec<u32>) {
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
    while let Some(Reverse(candidate)) = candidates.pop() {
        let (rank, left, right_end) = (candidate.rank(), candidate.start(), candidate.end());
        let Symbol { id, previous, next: right } = symbols[left as usize];
        // An earlier merge may have taken the left symbol, or moved either end of the right one.
        if id == NONE || right >= right_end || symbols[right as usize].next != right_end {
            continue;
        }
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
            let ranks = ids.windows(2).map(|pair| vocabulary.merged(pair[0], pair[1]));
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
            merge_by_heap(&vocabulary, piece.as_bytes(), &mut by_heap);
            prop_assert_eq!(&by_heap, &expected);
            if piece.len() <= SCAN_BYTES {
                let mut by_scan = Vec::new();
                merge_by_scan(&vocabulary, piece.as_bytes(), &mut by_scan);
                prop_assert_eq!(&by_scan, &expected);
            }
        }
    }
}
