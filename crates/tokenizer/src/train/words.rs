//! The different pieces as they are tokenized so far, laid out so that a merge touches one place in memory and no more.
//! Which pairs are merged is decided elsewhere.
//!
//! All lies in one array of 32-bit slots. A piece has two slots that hold its count, and one for each of its bytes. A
//! token of several bytes has its id in the first of its slots and in the last, so that both neighbours of a token are
//! found from it; between them lies nothing of meaning. Nothing ever moves while pairs are merged: a place stays a place,
//! and a merge in a piece of any length costs the same.

use super::run::Merge;
use super::weights::Weighed;
use crate::error::Error;

/// Slots from here on hold counts: 31 bits each. So they also end the pieces before and after.
const COUNT: u32 = 1 << 31;
/// In a slot that no token begins or ends at any more.
const NOTHING: u32 = COUNT - 1;
/// Slots of a piece beside its bytes.
const HEAD: usize = 2;
/// The most slots: places are 32 bits.
const MAX_SLOTS: u64 = u32::MAX as u64 - 1;
/// Tokens to the left that are looked at for the piece's count, before it is looked up.
const STEPS: usize = 24;
/// Most pieces are shorter, so that their beginning is always found within [`STEPS`].
const SHORT: usize = STEPS;

/// Memory while pairs are merged, in bytes for each slot: the slot, and the places of pairs, at first and of new tokens.
const BYTES_PER_SLOT: u64 = 12;
/// And apart from slots: tables of pairs and of tokens.
const BYTES_BESIDE: u64 = 64 << 20;

/// See above.
pub(super) struct Words {
    pub slots: Vec<u32>,
    /// Where pieces longer than [`SHORT`] have their first byte, in ascending order.
    long: Vec<u32>,
    /// Counts of the tokens of pieces that are gone, being one token each.
    finished: u64,
}

/// What was read, and what was left out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Different pieces.
    pub pieces: u64,
    /// Bytes of all pieces by their weighted counts.
    pub bytes: u64,
    /// Different pieces that were left out, lest the memory not suffice.
    pub pruned_pieces: u64,
    /// What counted less than this was left out, in weighted counts.
    pub pruned_below: u64,
    /// Bytes of these by their weighted counts.
    pub pruned_bytes: u64,
}

/// Which pieces are read.
#[derive(Clone, Copy)]
pub(super) struct Choice<'a> {
    pub weighed: &'a Weighed,
    /// Whether pieces of digits are.
    pub digits: bool,
    /// Bytes of memory that merging may use.
    pub memory: u64,
}

impl Words {
    /// Reads the pieces that `merge` yields each time it is called; at most `at_most` pieces and bytes of pieces. Where
    /// they need more memory than there is, the rarest are left out: all that count less than some number, the smallest
    /// that suffices on a scale of 16 steps an octave.
    pub fn load<'a>(
        merge: impl Fn() -> Result<Merge<'a>, Error>,
        (pieces, bytes): (u64, u64),
        choice: Choice,
    ) -> Result<(Words, Loaded), Error> {
        let most = choice.memory.saturating_sub(BYTES_BESIDE) / BYTES_PER_SLOT;
        let most = most.clamp(1 << 12, MAX_SLOTS);
        let bound = pieces * HEAD as u64 + bytes;
        let (below, needed) = match bound <= most {
            true => (0, bound),
            false => least_count(&mut merge()?, choice, most)?,
        };
        let mut words =
            Words { slots: Vec::with_capacity(needed as usize + 1), long: Vec::new(), finished: 0 };
        let mut loaded = Loaded { pruned_below: below, ..Loaded::default() };
        let mut merge = merge()?;
        while let Some((piece, counts)) = merge.next()? {
            let count = choice.weighed.sum(counts);
            // The sum of all weighted bytes was found to fit; of a damaged run it need not.
            let bytes = (piece.len() as u64).saturating_mul(count);
            if !choice.takes(piece) {
                // Each digit stays a token.
                loaded.pieces += 1;
                loaded.bytes = loaded.bytes.saturating_add(bytes);
                words.finished = words.finished.saturating_add(bytes);
                continue;
            }
            if count < below && piece.len() > 1 {
                loaded.pruned_pieces += 1;
                loaded.pruned_bytes = loaded.pruned_bytes.saturating_add(bytes);
                continue;
            }
            loaded.pieces += 1;
            loaded.bytes = loaded.bytes.saturating_add(bytes);
            words.push(piece, count);
        }
        words.slots.push(COUNT);
        Ok((words, loaded))
    }

    fn push(&mut self, piece: &[u8], count: u64) {
        // A single byte has no pair.
        if piece.len() == 1 {
            self.finished = self.finished.saturating_add(count);
            return;
        }
        self.slots.push(COUNT | (count >> 31) as u32);
        self.slots.push(COUNT | count as u32);
        if piece.len() > SHORT {
            self.long.push(self.slots.len() as u32);
        }
        self.slots.extend(piece.iter().map(|&byte| u32::from(byte)));
    }

    /// The token that begins or ends at a place, if the place is within a piece.
    #[inline]
    pub fn token(&self, place: usize) -> Option<u32> {
        let slot = self.slots[place];
        (slot < COUNT).then_some(slot)
    }

    /// How often the piece occurs that has a token at `place`.
    #[inline]
    pub fn count_at(&self, place: usize, lengths: &[u32]) -> u64 {
        let mut at = place - 1;
        for _ in 0..STEPS {
            let slot = self.slots[at];
            if slot >= COUNT {
                return self.count_that_ends_at(at);
            }
            at -= lengths[slot as usize] as usize;
        }
        let before = self.long.partition_point(|&start| start as usize <= place);
        self.count_that_ends_at(self.long[before - 1] as usize - 1)
    }

    #[inline]
    fn count_that_ends_at(&self, at: usize) -> u64 {
        u64::from(self.slots[at - 1] & !COUNT) << 31 | u64::from(self.slots[at] & !COUNT)
    }

    /// Makes the tokens that begin at `left` and at `right`, and end before `end`, one.
    #[inline]
    pub fn join(&mut self, (left, right, end): (usize, usize, usize), merged: u32) {
        self.slots[left] = merged;
        self.slots[right] = NOTHING;
        self.slots[end - 1] = merged;
    }

    /// Calls `visit` with the count of each piece and the place of each of its tokens that has a right neighbour, and
    /// both ids.
    pub fn for_each_pair(&self, lengths: &[u32], mut visit: impl FnMut(u64, usize, u32, u32)) {
        let mut at = 0;
        while at + HEAD < self.slots.len() {
            let count = self.count_that_ends_at(at + 1);
            at += HEAD;
            let mut left = self.slots[at];
            loop {
                let next = at + lengths[left as usize] as usize;
                let right = self.slots[next];
                if right >= COUNT {
                    at = next;
                    break;
                }
                visit(count, at, left, right);
                (at, left) = (next, right);
            }
        }
    }

    /// Takes out the pieces that have become one token. Places change.
    pub fn drop_finished(&mut self, lengths: &[u32]) {
        let (mut read, mut write) = (0, 0);
        self.long.clear();
        while read + HEAD < self.slots.len() {
            let start = read + HEAD;
            let first = self.slots[start];
            let mut end = start;
            while self.slots[end] < COUNT {
                end += lengths[self.slots[end] as usize] as usize;
            }
            if end == start + lengths[first as usize] as usize {
                self.finished = self.finished.saturating_add(self.count_that_ends_at(start - 1));
            } else {
                self.slots.copy_within(read..end, write);
                if end - start > SHORT {
                    self.long.push((write + HEAD) as u32);
                }
                write += end - read;
            }
            read = end;
        }
        self.slots.truncate(write);
        self.slots.push(COUNT);
    }

    /// Tokens of all pieces by their counts.
    pub fn tokens(&self, lengths: &[u32]) -> u64 {
        let (mut at, mut tokens) = (0, self.finished);
        while at + HEAD < self.slots.len() {
            let count = self.count_that_ends_at(at + 1);
            at += HEAD;
            while self.slots[at] < COUNT {
                tokens = tokens.saturating_add(count);
                at += lengths[self.slots[at] as usize] as usize;
            }
        }
        tokens
    }
}

impl Choice<'_> {
    fn takes(&self, piece: &[u8]) -> bool {
        self.digits || !piece[0].is_ascii_digit()
    }
}

/// The count below which pieces have to be left out for the rest to have at most so many slots, and the slots of the rest.
fn least_count(merge: &mut Merge, choice: Choice, most: u64) -> Result<(u64, u64), Error> {
    let mut slots = vec![0u64; 64 * 16];
    while let Some((piece, counts)) = merge.next()? {
        if choice.takes(piece) && piece.len() > 1 {
            slots[step(choice.weighed.sum(counts))] += (piece.len() + HEAD) as u64;
        }
    }
    let mut needed = 0;
    for (step, slots) in slots.iter().enumerate().rev() {
        if needed + slots > most {
            return Ok((first_of_step(step + 1), needed));
        }
        needed += slots;
    }
    Ok((0, needed))
}

/// 16 steps from each power of two to the next; up to 16, each number is its own.
fn step(count: u64) -> usize {
    let octave = count.checked_ilog2().unwrap_or(0).saturating_sub(4);
    (octave as usize) * 16 + (count >> octave) as usize
}

/// The smallest count of a step.
fn first_of_step(step: usize) -> u64 {
    match step < 32 {
        true => step as u64,
        false => (step as u64 % 16 + 16) << (step / 16 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_in_order_and_begin_where_they_say() {
        for count in
            (0..5_000).chain((5..62).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]))
        {
            let at = step(count);
            assert!(
                at < 64 * 16 && first_of_step(at) <= count && count < first_of_step(at + 1),
                "{count}: {at}"
            );
            assert_eq!(step(first_of_step(at)), at);
        }
    }
}
