//! How fastText cuts a text into words and hashes them and their n-grams (`src/dictionary.cc` of facebookresearch/fastText):
//! bytes and wrapping sums, the same here to the last bit, because files hold nothing but the vectors in that order.

use super::dictionary::Dictionary;

/// How labels begin in fastText's files. Words of a text that begin so are no words.
pub(super) const LABEL: &str = "__label__";
/// The word that ends a line.
pub(super) const END: &str = "</s>";

/// 32-bit FNV-1a, but for bytes from 0x80 on, which fastText takes for negative numbers.
pub(super) fn hash(word: &[u8]) -> u32 {
    word.iter().fold(2_166_136_261, |hash: u32, &byte| {
        (hash ^ i32::from(byte as i8) as u32).wrapping_mul(16_777_619)
    })
}

/// The words of a text: what lies between blanks (those of ASCII, and the zero byte), without labels.
pub(super) fn words(text: &str) -> impl Iterator<Item = &[u8]> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0B | 0x0C | 0);
    text.as_bytes().split(blank).filter(|word| !word.is_empty() && !word.starts_with(LABEL.as_bytes()))
}

/// How n-grams become rows behind those of the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hashing {
    /// Rows of hashed n-grams.
    pub buckets: u32,
    /// Words of the longest n-gram; 1 for none.
    pub word_ngrams: u32,
    /// Characters of the shortest n-gram within a word.
    pub min_chars: u32,
    /// Characters of the longest; 0 for none.
    pub max_chars: u32,
}

impl Hashing {
    /// The rows of a text: its words and the line's end, then its n-grams. `hashes` is working space.
    pub fn rows(&self, dictionary: &Dictionary, text: &str, hashes: &mut Vec<u32>, rows: &mut Vec<u32>) {
        hashes.clear();
        rows.clear();
        for word in words(text) {
            let hash = hash(word);
            hashes.push(hash);
            match dictionary.word(word, hash) {
                Some(row) => dictionary.push_word(row, rows),
                None => self.characters(word, |bucket| rows.push(dictionary.words() + bucket)),
            }
        }
        let end = hash(END.as_bytes());
        hashes.push(end);
        if let Some(row) = dictionary.word(END.as_bytes(), end) {
            rows.push(row);
        }
        self.word_ngrams(hashes, |bucket| rows.push(dictionary.words() + bucket));
    }

    /// The buckets of a line's n-grams of two words and more, from the hashes of its words.
    pub fn word_ngrams(&self, hashes: &[u32], mut bucket: impl FnMut(u32)) {
        if self.buckets == 0 {
            return;
        }
        // Hashes are signed there before they are widened.
        let wide = |hash: u32| hash as i32 as u64;
        for (first, &hash) in hashes.iter().enumerate() {
            let mut ngram = wide(hash);
            let others = hashes[first + 1..].iter().take(self.word_ngrams.saturating_sub(1) as usize);
            for &next in others {
                ngram = ngram.wrapping_mul(116_049_371).wrapping_add(wide(next));
                bucket((ngram % u64::from(self.buckets)) as u32);
            }
        }
    }

    /// The buckets of the n-grams of characters within a word, its two ends marked.
    pub fn characters(&self, word: &[u8], mut bucket: impl FnMut(u32)) {
        if self.max_chars == 0 || self.buckets == 0 {
            return;
        }
        let mut marked = Vec::with_capacity(word.len() + 2);
        marked.push(b'<');
        marked.extend_from_slice(word);
        marked.push(b'>');
        let inside = |at: usize| marked.get(at).is_some_and(|byte| byte & 0xC0 == 0x80);
        for start in 0..marked.len() {
            if inside(start) {
                continue;
            }
            let mut end = start;
            for count in 1..=self.max_chars {
                if end >= marked.len() {
                    break;
                }
                end += 1;
                while inside(end) {
                    end += 1;
                }
                let mark = count == 1 && (start == 0 || end == marked.len());
                if count >= self.min_chars && !mark {
                    bucket(hash(&marked[start..end]) % self.buckets);
                }
            }
        }
    }
}
