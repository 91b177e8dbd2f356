//! How often each piece occurs, for counting at the speed of memory: most pieces lie within their slot, the others in
//! chunks that never move. What it holds is known to the byte, so that a bound on memory can be kept. It neither reads
//! nor writes files.

use std::cmp::Ordering;

use xxhash_rust::xxh3::xxh3_64;

/// Pieces of at most so many bytes lie in their slot, which has room for them and their length.
const SHORT: usize = 15;
/// Slots of a table at first, and the fewest that it may always have.
const FIRST_SLOTS: usize = 256;
const ALWAYS_SLOTS: usize = 1024;
/// Bytes of a chunk of longer pieces.
const CHUNK: usize = 1 << 16;

/// Memory that may be used, and that is.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes that tables may hold.
    pub limit: usize,
    /// Bytes that they hold.
    pub used: usize,
}

impl Budget {
    /// Takes so many bytes, if they are left.
    fn take(&mut self, bytes: usize) -> bool {
        let fits = self.used.saturating_add(bytes) <= self.limit;
        if fits {
            self.used += bytes;
        }
        fits
    }
}

/// The budget does not allow another piece.
#[derive(Debug)]
pub(super) struct Full;

/// Pieces and their counts.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Open addressing; a power of two, or none.
    short: Vec<ShortSlot>,
    short_count: usize,
    long: Vec<LongSlot>,
    long_count: usize,
    chunks: Vec<Vec<u8>>,
}

/// `count` is 0 in a free slot.
#[derive(Clone, Copy, Debug, Default)]
struct ShortSlot {
    /// The piece's bytes, zeros, and its length: 16 bytes, big-endian, so that keys are ordered as pieces are.
    key: [u64; 2],
    count: u64,
}

/// `count` is 0 in a free slot.
#[derive(Clone, Copy, Debug, Default)]
struct LongSlot {
    hash: u64,
    count: u64,
    chunk: u32,
    /// Where the piece lies in its chunk, and how long it is.
    at: u32,
    length: u32,
}

impl Table {
    /// Counts the piece of `length` bytes, at least one, that begins at `start` of `text`, `count` times more.
    #[inline]
    pub fn add(
        &mut self,
        (text, start, length): (&[u8], usize, usize),
        count: u64,
        budget: &mut Budget,
    ) -> Result<(), Full> {
        if length > SHORT {
            return self.add_long(&text[start..start + length], count, budget);
        }
        let key = key(text, start, length);
        if !self.short.is_empty() {
            let mask = self.short.len() - 1;
            let mut at = short_hash(key) as usize & mask;
            loop {
                let slot = &mut self.short[at];
                if slot.count == 0 {
                    break;
                }
                if slot.key == key {
                    slot.count += count;
                    return Ok(());
                }
                at = (at + 1) & mask;
            }
            if self.short_count < self.short.len() / 8 * 7 {
                self.short[at] = ShortSlot { key, count };
                self.short_count += 1;
                return Ok(());
            }
        }
        self.grow_short(budget)?;
        place_short(&mut self.short, ShortSlot { key, count });
        self.short_count += 1;
        Ok(())
    }

    #[cold]
    fn grow_short(&mut self, budget: &mut Budget) -> Result<(), Full> {
        let bytes = |slots: usize| slots * size_of::<ShortSlot>();
        let slots = (2 * self.short.len()).max(FIRST_SLOTS);
        if !budget.take(bytes(slots)) {
            if slots > ALWAYS_SLOTS {
                return Err(Full);
            }
            budget.used += bytes(slots);
        }
        let mut grown = vec![ShortSlot::default(); slots];
        for slot in self.short.iter().filter(|slot| slot.count > 0) {
            place_short(&mut grown, *slot);
        }
        budget.used -= bytes(self.short.len());
        self.short = grown;
        Ok(())
    }

    fn add_long(&mut self, piece: &[u8], count: u64, budget: &mut Budget) -> Result<(), Full> {
        let hash = xxh3_64(piece);
        let mut free = None;
        if !self.long.is_empty() {
            let mask = self.long.len() - 1;
            let mut at = hash as usize & mask;
            loop {
                let slot = &mut self.long[at];
                if slot.count == 0 {
                    break;
                }
                if slot.hash == hash && of_chunk(&self.chunks, slot) == piece {
                    slot.count += count;
                    return Ok(());
                }
                at = (at + 1) & mask;
            }
            free = (self.long_count < self.long.len() / 8 * 7).then_some(at);
        }
        if free.is_none() {
            self.grow_long(budget)?;
        }
        let (chunk, at) = self.store(piece, budget)?;
        let slot = LongSlot { hash, count, chunk, at, length: piece.len() as u32 };
        match free {
            Some(free) => self.long[free] = slot,
            None => place_long(&mut self.long, slot),
        }
        self.long_count += 1;
        Ok(())
    }

    #[cold]
    fn grow_long(&mut self, budget: &mut Budget) -> Result<(), Full> {
        let bytes = |slots: usize| slots * size_of::<LongSlot>();
        let slots = (2 * self.long.len()).max(FIRST_SLOTS);
        if !budget.take(bytes(slots)) {
            if slots > ALWAYS_SLOTS {
                return Err(Full);
            }
            budget.used += bytes(slots);
        }
        let mut grown = vec![LongSlot::default(); slots];
        for slot in self.long.iter().filter(|slot| slot.count > 0) {
            place_long(&mut grown, *slot);
        }
        budget.used -= bytes(self.long.len());
        self.long = grown;
        Ok(())
    }

    /// Puts a piece into a chunk that has room for it.
    fn store(&mut self, piece: &[u8], budget: &mut Budget) -> Result<(u32, u32), Full> {
        let has_room = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= piece.len();
        if !self.chunks.last().is_some_and(has_room) {
            let size = piece.len().max(CHUNK);
            if !budget.take(size) {
                // The first one is always allowed: a table that could hold nothing would never come to an end.
                if !self.chunks.is_empty() {
                    return Err(Full);
                }
                budget.used += size;
            }
            self.chunks.push(Vec::with_capacity(size));
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let at = chunk.len();
        chunk.extend_from_slice(piece);
        Ok((index as u32, at as u32))
    }

    /// All pieces in the order of their bytes. Takes no memory of its own.
    pub fn into_sorted(self) -> Sorted {
        let Table { mut short, mut long, chunks, .. } = self;
        short.retain(|slot| slot.count > 0);
        short.sort_unstable_by_key(|slot| slot.key);
        long.retain(|slot| slot.count > 0);
        long.sort_unstable_by(|a, b| of_chunk(&chunks, a).cmp(of_chunk(&chunks, b)));
        Sorted { short, long, chunks }
    }
}

#[inline]
fn key(text: &[u8], start: usize, length: usize) -> [u64; 2] {
    let sixteen = match text.get(start..start + 16).and_then(|bytes| bytes.first_chunk()) {
        Some(bytes) => u128::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 16];
            bytes[..length].copy_from_slice(&text[start..start + length]);
            u128::from_be_bytes(bytes)
        }
    };
    let kept = sixteen & (u128::MAX << (128 - 8 * length)) | length as u128;
    [(kept >> 64) as u64, kept as u64]
}

/// Both halves multiplied, and the halves of the product combined, as wyhash does.
#[inline]
fn short_hash(key: [u64; 2]) -> u64 {
    let product =
        u128::from(key[0] ^ 0xA076_1D64_78BD_642F).wrapping_mul(u128::from(key[1] ^ 0xE703_7ED1_A0B4_28DB));
    (product >> 64) as u64 ^ product as u64
}

fn place_short(slots: &mut [ShortSlot], slot: ShortSlot) {
    let mask = slots.len() - 1;
    let mut at = short_hash(slot.key) as usize & mask;
    while slots[at].count > 0 {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

fn place_long(slots: &mut [LongSlot], slot: LongSlot) {
    let mask = slots.len() - 1;
    let mut at = slot.hash as usize & mask;
    while slots[at].count > 0 {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

#[inline]
fn of_chunk<'a>(chunks: &'a [Vec<u8>], slot: &LongSlot) -> &'a [u8] {
    &chunks[slot.chunk as usize][slot.at as usize..][..slot.length as usize]
}

/// The pieces of a table in the order of their bytes.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    short: Vec<ShortSlot>,
    long: Vec<LongSlot>,
    chunks: Vec<Vec<u8>>,
}

impl Sorted {
    /// How many pieces there are.
    pub fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }

    /// Bytes of all pieces.
    pub fn bytes(&self) -> u64 {
        let short: u64 = self.short.iter().map(|slot| slot.key[1] & 0xFF).sum();
        short + self.long.iter().map(|slot| u64::from(slot.length)).sum::<u64>()
    }

    pub fn iter(&self) -> SortedIter<'_> {
        SortedIter { sorted: self, short: 0, long: 0, bytes: [0; 16] }
    }
}

/// Goes through [`Sorted`]; what it lends lives until the next step.
pub(super) struct SortedIter<'a> {
    sorted: &'a Sorted,
    short: usize,
    long: usize,
    bytes: [u8; 16],
}

impl SortedIter<'_> {
    /// The next piece and its count.
    pub fn next(&mut self) -> Option<(&[u8], u64)> {
        let short = self.sorted.short.get(self.short);
        let long = self.sorted.long.get(self.long);
        if let Some(slot) = short {
            self.bytes[..8].copy_from_slice(&slot.key[0].to_be_bytes());
            self.bytes[8..].copy_from_slice(&slot.key[1].to_be_bytes());
            let piece = &self.bytes[..usize::from(self.bytes[SHORT])];
            if long.is_none_or(|long| piece.cmp(of_chunk(&self.sorted.chunks, long)) == Ordering::Less) {
                self.short += 1;
                return Some((piece, slot.count));
            }
        }
        let slot = long?;
        self.long += 1;
        Some((of_chunk(&self.sorted.chunks, slot), slot.count))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn collect(sorted: &Sorted) -> Vec<(Vec<u8>, u64)> {
        let mut found = Vec::new();
        let mut iter = sorted.iter();
        while let Some((piece, count)) = iter.next() {
            found.push((piece.to_vec(), count));
        }
        found
    }

    proptest! {
        #[test]
        fn counts_and_sorts_as_a_tree_does(
            pieces in proptest::collection::vec(
                (proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(255u8), any::<u8>()], 1..40), 1..5u64),
                0..2_000,
            ),
            repeats in 1..3usize,
        ) {
            let mut table = Table::default();
            let mut budget = Budget { limit: usize::MAX, used: 0 };
            let mut expected = BTreeMap::new();
            for (piece, count) in pieces.iter().cycle().take(repeats * pieces.len()) {
                // Within other bytes, and at the end.
                let text = [&b"before"[..], piece, b"and sixteen bytes more"].concat();
                table.add((&text, 6, piece.len()), *count, &mut budget).unwrap();
                table.add((&text[..6 + piece.len()], 6, piece.len()), *count, &mut budget).unwrap();
                *expected.entry(piece.clone()).or_insert(0) += 2 * count;
            }
            let holds = table.short.len() * 24 + table.long.len() * size_of::<LongSlot>()
                + table.chunks.iter().map(Vec::capacity).sum::<usize>();
            prop_assert_eq!(budget.used, holds);
            let sorted = table.into_sorted();
            prop_assert_eq!(sorted.len(), expected.len());
            prop_assert_eq!(sorted.bytes(), expected.keys().map(|piece| piece.len() as u64).sum::<u64>());
            prop_assert_eq!(collect(&sorted), expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_budget_is_kept_and_what_was_counted_stays() {
        for long in [false, true] {
            let mut table = Table::default();
            let mut budget = Budget { limit: 1 << 20, used: 0 };
            let piece = |number: u64| match long {
                true => format!("a piece that is long, {number}").into_bytes(),
                false => number.to_be_bytes().to_vec(),
            };
            let full_at = (0..1_000_000).find(|&number| {
                let piece = piece(number);
                table.add((&piece, 0, piece.len()), 1, &mut budget).is_err()
            });
            let full_at = full_at.expect("a megabyte is soon full");
            assert!(full_at > 5_000 && budget.used <= budget.limit, "{full_at}");
            // What is known is counted even then.
            assert!(table.add((&piece(7), 0, piece(7).len()), 5, &mut budget).is_ok());
            let found = collect(&table.into_sorted());
            assert_eq!(found.len() as u64, full_at);
            assert_eq!(found.iter().map(|(_, count)| count).sum::<u64>(), full_at + 5);
        }
    }

    #[test]
    fn a_budget_of_nothing_still_lets_a_table_begin() {
        let mut table = Table::default();
        let mut budget = Budget { limit: 0, used: 0 };
        for piece in [&b"short"[..], b"a piece that is not short"] {
            assert!(table.add((piece, 0, piece.len()), 1, &mut budget).is_ok());
        }
    }
}
