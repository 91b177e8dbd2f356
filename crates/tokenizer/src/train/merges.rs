//! Which pairs are merged, in which order: the most frequent first; among equals the one with the smaller left id, then
//! the one with the smaller right id. What is merged lies in [`Words`]; whether the result makes a tokenizer is not
//! decided here.
//!
//! A pair's count only ever falls once the pair is there, since a merge makes pairs of the new token alone. So pairs
//! that are rarer than a threshold are not kept track of: as long as any that are tracked reach it, the best of these is
//! the best of all. Where none does, the threshold falls, and all pairs are counted again. Most pairs of a large corpus
//! never come near, and cost nothing but that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, Ordering};

use ledger::progress::Task;
use rustc_hash::FxHashMap;

use super::words::Words;
use crate::error::Error;

/// The first threshold: a pair that is merged has at least about this part of the pairs that fall to each merge. The last
/// merge of natural text has some hundredth.
const FIRST_SHARE: u64 = 32;
/// How far the threshold falls at once.
const FALL: u64 = 8;
/// Sums of pairs by their hash, with which most rare pairs are told without a table of all.
const BUCKETS: usize = 1 << 20;

/// What was found.
pub(super) struct Found {
    /// Pair `i` makes token 256 + i. Fewer than asked for where no other pair is frequent enough.
    pub merges: Vec<(u32, u32)>,
    /// Bytes of each token.
    pub lengths: Vec<u32>,
}

/// Merges `wanted` pairs, each occurring at least `minimum` times.
///
/// Errors only when `stop` was set.
pub(super) fn find(
    words: &mut Words,
    wanted: usize,
    minimum: u64,
    task: &dyn Task,
    stop: &AtomicBool,
) -> Result<Found, Error> {
    let mut pairs = Pairs::count(words, wanted, minimum);
    let mut merges = Vec::with_capacity(wanted);
    while merges.len() < wanted {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        let Some((pair, places)) = pairs.take_best() else {
            if pairs.lower_threshold(words) {
                continue;
            }
            break;
        };
        let (left, right) = ((pair >> 32) as u32, pair as u32);
        merges.push((left, right));
        pairs.merge((left, right), &places, words);
        task.advance(1);
    }
    Ok(Found { merges, lengths: pairs.lengths })
}

/// A pair as one number, in whose order pairs are.
fn packed(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

struct PairUse {
    count: u64,
    /// Where it may begin, in ascending order; in some of these places it no longer does.
    places: Box<[u32]>,
}

/// How often the pairs that matter are adjacent, and which is the most frequent.
struct Pairs {
    minimum: u64,
    /// Pairs that occur at least so often are in `uses`.
    threshold: u64,
    uses: FxHashMap<u64, PairUse>,
    /// Each of them with a count that it has or once had; corrected when it comes up.
    queue: BinaryHeap<(u64, Reverse<u64>)>,
    /// Bytes of each token.
    lengths: Vec<u32>,
    /// By the token to the left of the merged pair, and by the one to the right.
    on_left: Side,
    on_right: Side,
}

/// What one merge does to pairs with a neighbour on one side.
#[derive(Default)]
struct Side {
    by_neighbour: Vec<Gain>,
    touched: Vec<u32>,
    /// Each neighbour with the place where the new pair begins.
    places: Vec<(u32, u32)>,
    /// Of the neighbours whose new pair is frequent enough.
    kept: Vec<Vec<u32>>,
}

#[derive(Clone, Copy, Default)]
struct Gain {
    count: u64,
    places: u32,
    /// Its index in `kept`, plus one.
    kept: u32,
}

impl Side {
    #[inline]
    fn add(&mut self, neighbour: u32, place: usize, count: u64) {
        let gain = &mut self.by_neighbour[neighbour as usize];
        if gain.places == 0 {
            self.touched.push(neighbour);
        }
        gain.count += count;
        gain.places += 1;
        self.places.push((neighbour, place as u32));
    }

    /// Collects the places of those neighbours whose new pair occurs `threshold` times.
    fn collect(&mut self, threshold: u64) {
        for &neighbour in &self.touched {
            let gain = &mut self.by_neighbour[neighbour as usize];
            if gain.count >= threshold {
                self.kept.push(Vec::with_capacity(gain.places as usize));
                gain.kept = self.kept.len() as u32;
            }
        }
        if self.kept.is_empty() {
            self.places.clear();
        }
        for (neighbour, place) in self.places.drain(..) {
            let kept = self.by_neighbour[neighbour as usize].kept;
            if kept > 0 {
                self.kept[kept as usize - 1].push(place);
            }
        }
    }
}

impl Pairs {
    fn count(words: &Words, wanted: usize, minimum: u64) -> Pairs {
        let mut pairs = Pairs {
            minimum,
            threshold: minimum,
            uses: FxHashMap::default(),
            queue: BinaryHeap::new(),
            lengths: vec![1; 256],
            on_left: Side::default(),
            on_right: Side::default(),
        };
        // All tokens are bytes yet, and a pair of bytes is an index.
        let index = |left: u32, right: u32| (left << 8 | right) as usize;
        let mut sums = vec![(0u64, 0u32); 1 << 16];
        let mut total = 0u64;
        words.for_each_pair(&pairs.lengths, |count, _, left, right| {
            let sum = &mut sums[index(left, right)];
            *sum = (sum.0 + count, sum.1 + 1);
            total = total.saturating_add(count);
        });
        pairs.threshold = (total / FIRST_SHARE / wanted.max(1) as u64).max(minimum);
        let mut places: Vec<Vec<u32>> = sums
            .iter()
            .map(|&(sum, places)| Vec::with_capacity(if sum < pairs.threshold { 0 } else { places as usize }))
            .collect();
        words.for_each_pair(&pairs.lengths, |_, place, left, right| {
            let index = index(left, right);
            if sums[index].0 >= pairs.threshold {
                places[index].push(place as u32);
            }
        });
        for (index, places) in places.into_iter().enumerate() {
            if sums[index].0 >= pairs.threshold {
                pairs.track(packed(index as u32 >> 8, index as u32 & 0xFF), sums[index].0, places);
            }
        }
        pairs
    }

    fn track(&mut self, pair: u64, count: u64, places: Vec<u32>) {
        self.queue.push((count, Reverse(pair)));
        self.uses.insert(pair, PairUse { count, places: places.into_boxed_slice() });
    }

    /// Tracks rarer pairs. False when all that may be merged are tracked already.
    fn lower_threshold(&mut self, words: &mut Words) -> bool {
        if self.threshold == self.minimum {
            return false;
        }
        self.threshold = (self.threshold / FALL).max(self.minimum);
        self.uses = FxHashMap::default();
        self.queue.clear();
        words.drop_finished(&self.lengths);

        let bucket = |left: u32, right: u32| {
            let mixed = packed(left, right).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed >> (64 - BUCKETS.ilog2())) as usize
        };
        let mut sums = vec![0u64; BUCKETS];
        words.for_each_pair(&self.lengths, |count, _, left, right| sums[bucket(left, right)] += count);
        let mut counts: FxHashMap<u64, (u64, u32)> = FxHashMap::default();
        words.for_each_pair(&self.lengths, |count, _, left, right| {
            if sums[bucket(left, right)] >= self.threshold {
                let sum = counts.entry(packed(left, right)).or_default();
                *sum = (sum.0 + count, sum.1 + 1);
            }
        });
        drop(sums);
        counts.retain(|_, (sum, _)| *sum >= self.threshold);
        let mut places: FxHashMap<u64, Vec<u32>> =
            counts.iter().map(|(&pair, &(_, places))| (pair, Vec::with_capacity(places as usize))).collect();
        words.for_each_pair(&self.lengths, |_, place, left, right| {
            if let Some(places) = places.get_mut(&packed(left, right)) {
                places.push(place as u32);
            }
        });
        for (pair, (sum, _)) in counts {
            let places = places.remove(&pair).unwrap_or_default();
            self.track(pair, sum, places);
        }
        true
    }

    /// Removes the most frequent pair: it, packed, and where it may be.
    fn take_best(&mut self) -> Option<(u64, Box<[u32]>)> {
        loop {
            let (count, Reverse(pair)) = self.queue.pop()?;
            let Some(pair_use) = self.uses.get(&pair) else { continue };
            let now = pair_use.count;
            if now == count || now < self.threshold {
                let pair_use = self.uses.remove(&pair)?;
                if now == count {
                    return Some((pair, pair_use.places));
                }
            } else {
                self.queue.push((now, Reverse(pair)));
            }
        }
    }

    /// Replaces the pair by a new token wherever it is, and corrects all counts.
    fn merge(&mut self, (left, right): (u32, u32), places: &[u32], words: &mut Words) {
        let merged = self.lengths.len() as u32;
        let (left_length, right_length) = (self.lengths[left as usize], self.lengths[right as usize]);
        self.lengths.push(left_length + right_length);
        for side in [&mut self.on_left, &mut self.on_right] {
            side.by_neighbour.resize(merged as usize + 1, Gain::default());
        }
        // How often the pair follows itself: then the first one's neighbour does not stay what it was.
        let mut followed = 0;
        for &place in places {
            let place = place as usize;
            let middle = place + left_length as usize;
            // The first is compared first: only then is the second within the piece, or just after it.
            if words.slots[place] != left || words.slots[middle] != right {
                continue;
            }
            let end = middle + right_length as usize;
            let count = words.count_at(place, &self.lengths);
            words.join((place, middle, end), merged);
            if let Some(before) = words.token(place - 1) {
                if before == merged {
                    // It took this `left` for its neighbour, which it no longer is.
                    self.on_right.by_neighbour[left as usize].count -= count;
                    followed += count;
                }
                self.on_left.add(before, place - self.lengths[before as usize] as usize, count);
            }
            if let Some(after) = words.token(end) {
                self.on_right.add(after, place, count);
            }
        }
        self.on_left.collect(self.threshold);
        self.on_right.collect(self.threshold);
        self.lose(left, right, merged, followed);
        self.gain(merged);
    }

    /// Takes from the old pairs what the new ones have.
    fn lose(&mut self, left: u32, right: u32, merged: u32, followed: u64) {
        let uses = &mut self.uses;
        let mut lose = |pair: u64, count: u64| {
            if let Some(pair_use) = uses.get_mut(&pair) {
                pair_use.count -= count;
            }
        };
        for &neighbour in self.on_left.touched.iter().filter(|&&neighbour| neighbour != merged) {
            lose(packed(neighbour, left), self.on_left.by_neighbour[neighbour as usize].count);
        }
        for &neighbour in &self.on_right.touched {
            let lost = self.on_right.by_neighbour[neighbour as usize].count;
            lose(packed(right, neighbour), if neighbour == left { lost + followed } else { lost });
        }
    }

    fn gain(&mut self, merged: u32) {
        for is_left in [true, false] {
            let side = if is_left { &mut self.on_left } else { &mut self.on_right };
            let mut kept = std::mem::take(&mut side.kept);
            let mut touched = std::mem::take(&mut side.touched);
            for &neighbour in &touched {
                let side = if is_left { &mut self.on_left } else { &mut self.on_right };
                let gain = std::mem::take(&mut side.by_neighbour[neighbour as usize]);
                if gain.kept > 0 {
                    let places = std::mem::take(&mut kept[gain.kept as usize - 1]);
                    let pair = if is_left { packed(neighbour, merged) } else { packed(merged, neighbour) };
                    self.track(pair, gain.count, places);
                }
            }
            touched.clear();
            kept.clear();
            let side = if is_left { &mut self.on_left } else { &mut self.on_right };
            (side.touched, side.kept) = (touched, kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ledger::progress::Silent;
    use proptest::prelude::*;

    use super::*;
    use crate::train::run::{Merge, Stream};
    use crate::train::table::{Budget, Sorted, Table};
    use crate::train::weights::Weighed;
    use crate::train::words::Choice;

    fn sorted(pieces: &[(Vec<u8>, u64)]) -> Sorted {
        let mut table = Table::default();
        let mut budget = Budget { limit: usize::MAX, used: 0 };
        for (piece, count) in pieces {
            table.add((piece, 0, piece.len()), *count, &mut budget).unwrap();
        }
        table.into_sorted()
    }

    fn load(sorted: &Sorted, memory: u64) -> (Words, crate::train::Loaded) {
        let weighed = Weighed { one: 1, by_group: vec![1] };
        let choice = Choice { weighed: &weighed, digits: true, memory };
        let bound = (sorted.len() as u64, sorted.bytes());
        Words::load(|| Merge::new([Stream::memory(0, sorted)]), bound, choice).unwrap()
    }

    /// The definition: count all pairs anew for each merge.
    fn plainly(pieces: &[(Vec<u8>, u64)], wanted: usize, minimum: u64) -> (Vec<(u32, u32)>, u64) {
        let mut words: Vec<(Vec<u32>, u64)> = pieces
            .iter()
            .map(|(piece, count)| (piece.iter().map(|&byte| byte.into()).collect(), *count))
            .collect();
        let mut merges = Vec::new();
        while merges.len() < wanted {
            let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
            for (word, count) in &words {
                for pair in word.windows(2) {
                    *counts.entry((pair[0], pair[1])).or_default() += count;
                }
            }
            let best = counts.iter().max_by_key(|(pair, count)| (**count, Reverse(**pair)));
            let Some((&(left, right), _)) = best.filter(|(_, count)| **count >= minimum) else { break };
            let merged = 256 + merges.len() as u32;
            merges.push((left, right));
            for (word, _) in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if (word[at], word[at + 1]) == (left, right) {
                        word[at] = merged;
                        word.remove(at + 1);
                    }
                    at += 1;
                }
            }
        }
        (merges, words.iter().map(|(word, count)| word.len() as u64 * count).sum())
    }

    fn pieces() -> impl Strategy<Value = Vec<(Vec<u8>, u64)>> {
        let piece = prop_oneof![
            4 => "[ab]{1,9}|[a-d]{1,8}|(abc|ba){1,5}|é{1,6}",
            // Long enough that their counts are not found step by step.
            1 => "[ab]{30,120}|a{20,90}|[a-h]{25,60}",
        ];
        // Counts far apart, so that the threshold falls several times.
        let count = prop_oneof![1..9u64, 1..1_000u64, 1..10_000_000u64];
        proptest::collection::btree_map(piece.prop_map(String::into_bytes), count, 1..40)
            .prop_map(|pieces| pieces.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        #[test]
        fn merges_are_those_of_the_definition(
            pieces in pieces(),
            wanted in prop_oneof![0..20usize, Just(10_000)],
            minimum in prop_oneof![1..4u64, 1..2_000u64],
        ) {
            let (expected, tokens) = plainly(&pieces, wanted, minimum);
            let (mut words, loaded) = load(&sorted(&pieces), u64::MAX);
            prop_assert_eq!(loaded.pieces, pieces.len() as u64);
            let found = find(&mut words, wanted, minimum, &Silent, &AtomicBool::new(false)).unwrap();
            prop_assert_eq!(&found.merges, &expected);
            prop_assert_eq!(words.tokens(&found.lengths), tokens);
        }
    }

    #[test]
    fn a_piece_of_any_length_takes_time_in_its_length_alone() {
        // Rewriting the whole piece at each of its 20,000 different pairs would take minutes.
        let mut state = 1u32;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        };
        let piece: Vec<u8> = (0..2_000_000).map(|_| random()).collect();
        let mut table = Table::default();
        let mut budget = Budget { limit: usize::MAX, used: 0 };
        table.add((&piece, 0, piece.len()), 3, &mut budget).unwrap();
        let (mut words, _) = load(&table.into_sorted(), u64::MAX);
        let begun = std::time::Instant::now();
        let found = find(&mut words, 20_000, 2, &Silent, &AtomicBool::new(false)).unwrap();
        assert_eq!(found.merges.len(), 20_000);
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    }

    #[test]
    fn where_memory_ends_the_rarest_pieces_are_left_out() {
        // 40,000 pieces of 8 bytes need 400,000 slots.
        let pieces: Vec<_> =
            (0..40_000u64).map(|number| (format!("p{number:07}").into_bytes(), number / 100 + 1)).collect();
        let sorted = sorted(&pieces);
        let (_, whole) = load(&sorted, u64::MAX);
        assert_eq!((whole.pieces, whole.pruned_pieces, whole.pruned_below), (40_000, 0, 0));
        let (words, loaded) = load(&sorted, (64 << 20) + 12 * 200_000);
        assert!(words.slots.len() <= 200_001 && words.slots.len() > 180_000, "{}", words.slots.len());
        let kept = pieces.iter().filter(|(_, count)| *count >= loaded.pruned_below);
        assert_eq!(loaded.pieces, kept.clone().count() as u64);
        assert_eq!(loaded.pieces + loaded.pruned_pieces, 40_000);
        assert_eq!(loaded.bytes, kept.map(|(_, count)| 8 * count).sum::<u64>());
        assert_eq!(loaded.bytes + loaded.pruned_bytes, whole.bytes);
    }

    #[test]
    fn who_asks_to_stop_is_heard() {
        let (mut words, _) = load(&sorted(&[(b"abab".to_vec(), 9)]), u64::MAX);
        assert!(matches!(find(&mut words, 2, 1, &Silent, &AtomicBool::new(true)), Err(Error::Stopped)));
    }
}
