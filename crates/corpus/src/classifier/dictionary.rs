//! The words that have vectors of their own and the labels, as fastText's files list them: words first, the most frequent
//! first, then labels.

use rustc_hash::FxHashMap;

use super::words::{END, Hashing, LABEL};

/// A word or label with its count in the training texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The word; a label with its `__label__`. Files of others may hold any bytes.
    pub word: Vec<u8>,
    pub count: u64,
}

/// The words and labels of a model.
pub(super) struct Dictionary {
    words: Vec<Entry>,
    labels: Vec<Entry>,
    /// The labels' names, where they are text.
    names: Vec<String>,
    /// From a word's hash to its row. Words that share a hash follow in `twins`.
    rows: FxHashMap<u32, u32>,
    twins: FxHashMap<u32, Vec<u32>>,
    /// The rows of each word with its n-grams of characters, the words' own rows first; empty without such n-grams.
    pieces: Vec<u32>,
    /// Where those of each word end.
    ends: Vec<u64>,
}

impl Dictionary {
    /// A dictionary of these, in their order; there are fewer than 2^31 of each.
    pub fn new(words: Vec<Entry>, labels: Vec<Entry>, hashing: &Hashing) -> Dictionary {
        let names = labels
            .iter()
            .map(|label| String::from_utf8_lossy(&label.word).trim_start_matches(LABEL).to_string())
            .collect();
        let mut rows = FxHashMap::with_capacity_and_hasher(words.len(), Default::default());
        let mut twins: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        for (row, entry) in words.iter().enumerate() {
            let row = row as u32;
            let hash = super::words::hash(&entry.word);
            if *rows.entry(hash).or_insert(row) != row {
                twins.entry(hash).or_default().push(row);
            }
        }
        let (mut pieces, mut ends) = (Vec::new(), Vec::new());
        if hashing.max_chars > 0 {
            for (row, entry) in words.iter().enumerate() {
                pieces.push(row as u32);
                if entry.word != END.as_bytes() {
                    hashing.characters(&entry.word, |bucket| pieces.push(words.len() as u32 + bucket));
                }
                ends.push(pieces.len() as u64);
            }
        }
        Dictionary { words, labels, names, rows, twins, pieces, ends }
    }

    /// How many words there are.
    pub fn words(&self) -> u32 {
        self.words.len() as u32
    }

    pub fn entries(&self) -> (&[Entry], &[Entry]) {
        (&self.words, &self.labels)
    }

    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The row of a word with this hash.
    pub fn word(&self, word: &[u8], hash: u32) -> Option<u32> {
        let first = *self.rows.get(&hash)?;
        if self.words[first as usize].word == word {
            return Some(first);
        }
        let twins = self.twins.get(&hash)?;
        twins.iter().copied().find(|&row| self.words[row as usize].word == word)
    }

    /// The first row of this hash, whatever its word.
    pub fn by_hash(&self, hash: u32) -> Option<u32> {
        self.rows.get(&hash).copied()
    }

    /// Adds a word's row, and those of its n-grams of characters.
    pub fn push_word(&self, row: u32, into: &mut Vec<u32>) {
        match self.ends.get(row as usize) {
            None => into.push(row),
            Some(&end) => {
                let start = if row == 0 { 0 } else { self.ends[row as usize - 1] };
                into.extend_from_slice(&self.pieces[start as usize..end as usize]);
            }
        }
    }
}
