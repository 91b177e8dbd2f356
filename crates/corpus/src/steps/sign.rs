//! Adds what deduplication compares: the column `fingerprint` (a 128-bit hash of the normalised text) and
//! `minhash` (a MinHash signature, Broder 1997). It removes nothing; [`crate::dedup`] decides.

use std::sync::Arc;

use arrow_array::builder::FixedSizeBinaryBuilder;
use arrow_array::{ArrayRef, FixedSizeListArray, RecordBatch, UInt32Array};
use arrow_schema::{DataType, Field};
use xxhash_rust::xxh3::Xxh3;

use super::words::token_hashes;
use super::{Removed, Step};
use crate::Error;
use crate::batch::{self, Rows};
use crate::kind::Class;
use crate::settings::MinHash;

const NAME: &str = "sign";

/// The step.
pub struct Sign {
    ngram_words: usize,
    /// A pair (multiplier, addend) a row of the signature.
    functions: Vec<(u64, u64)>,
}

impl Sign {
    /// The step with these settings; with MinHash off the signature has no rows.
    pub fn new(settings: &MinHash) -> Sign {
        let rows = if settings.enabled { settings.bands * settings.rows } else { 0 };
        // Fixed, not seeded by the run: signatures of the same text can be compared between runs.
        let mut rng = ledger::seed::Seed(0x4D69_6E48_6173_6821).stream("corpus/minhash", 0);
        let functions = (0..rows).map(|_| (rng.next_u64() | 1, rng.next_u64())).collect();
        Sign { ngram_words: settings.ngram_words as usize, functions }
    }

    /// The MinHash signature of a text: for each hash function the least value over the text's shingles. A text
    /// shorter than a shingle is one shingle.
    pub fn signature(&self, text: &str, blank_digits: bool) -> Vec<u32> {
        let mut words = Vec::with_capacity(text.len() / 6);
        if !self.functions.is_empty() {
            token_hashes(text, blank_digits, |hash| words.push(hash));
        }
        let mut shingles: Vec<u32> = words
            .windows(self.ngram_words.min(words.len()).max(1))
            .map(|shingle| {
                let hash = shingle.iter().fold(0u64, |hash, word| {
                    (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
                });
                (hash >> 32) as u32
            })
            .collect();
        shingles.sort_unstable();
        shingles.dedup();
        let mut least = vec![u32::MAX; self.functions.len()];
        for shingle in shingles {
            let shingle = u64::from(shingle);
            // Multiply-add-shift of Dietzfelbinger 1996: strongly universal on 32-bit keys.
            for (least, (multiplier, addend)) in least.iter_mut().zip(&self.functions) {
                let value = (multiplier.wrapping_mul(shingle).wrapping_add(*addend) >> 32) as u32;
                *least = (*least).min(value);
            }
        }
        least
    }
}

impl Step for Sign {
    fn name(&self) -> &'static str {
        NAME
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let failed = |cause: arrow_schema::ArrowError| Error::Batch { step: NAME, reason: cause.to_string() };
        let mut fingerprints = FixedSizeBinaryBuilder::new(16);
        let mut signatures = Vec::with_capacity(batch.num_rows() * self.functions.len());
        for row in Rows::of(&batch, NAME)?.iter() {
            fingerprints.append_value(fingerprint(row.text).to_be_bytes()).map_err(failed)?;
            let code = matches!(row.kind.class, Class::Code | Class::Data);
            signatures.extend(self.signature(row.text, !code));
        }
        let batch = batch::with_column(&batch, NAME, "fingerprint", Arc::new(fingerprints.finish()))?;
        if self.functions.is_empty() {
            return Ok((batch, Removed::default()));
        }
        let item = Arc::new(Field::new_list_field(DataType::UInt32, false));
        let signatures: ArrayRef = Arc::new(
            FixedSizeListArray::try_new(
                item,
                self.functions.len() as i32,
                Arc::new(UInt32Array::from(signatures)),
                None,
            )
            .map_err(failed)?,
        );
        Ok((batch::with_column(&batch, NAME, "minhash", signatures)?, Removed::default()))
    }
}

/// A hash of the text in lower case with every run of blanks as one space and none at the ends.
pub fn fingerprint(text: &str) -> u128 {
    let mut hasher = Xxh3::new();
    let mut buffer = String::with_capacity(256);
    for word in text.split_whitespace() {
        if word.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
            buffer.extend(word.chars().flat_map(char::to_lowercase));
        } else {
            buffer.push_str(word);
        }
        buffer.push(' ');
        if buffer.len() > 128 {
            hasher.update(buffer.as_bytes());
            buffer.clear();
        }
    }
    hasher.update(buffer.as_bytes());
    hasher.digest128()
}
