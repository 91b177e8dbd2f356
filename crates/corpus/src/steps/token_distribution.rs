//! Removes documents whose tokens are distributed unlike those of all documents of their language (Llama Team 2024, section
//! 3.1.1: "a token-distribution Kullback-Leibler divergence to filter out documents containing excessive numbers of
//! outlier tokens compared to the training corpus distribution"). [`TokenCounts`] is fed all documents, in a fixed
//! table a language; the step [`TokenDistribution`] made from it judges.
//!
//! The divergence of a document with counts k of n tokens from the language's distribution p is D = Σ (k/n) ln((k/n)/p).
//! A short document diverges by its shortness alone: with each token different, D is the cross-entropy less ln n. So
//! what is judged is D less its expectation for n tokens drawn from p, which is (1/n) Σ E[k ln k] − ln n − Σ p ln p with k
//! by Poisson's law of mean np. A random text has 0 at any length, and a threshold means the same for all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use rayon::prelude::*;
use tokenizer::AnyTokenizer;

use super::measure::{Bound, Measure};
use super::words::token_hashes;
use super::{Removed, Step, Verdict};
use crate::Error;
use crate::batch::{Row, Rows};
use crate::kind::Class;
use crate::settings::{self, TokenUnit};

const NAME: &str = "token_distribution";

/// What is counted.
enum Tokens {
    Words,
    Bytes,
    Tokenizer(Box<AnyTokenizer>),
}

/// From texts to places in the tables.
struct Places {
    tokens: Tokens,
    bits: u32,
}

impl Places {
    /// The place of each token of a text, in order.
    fn of(&self, text: &str, places: &mut Vec<u32>) {
        let place = |hash: u64| (hash >> (64 - self.bits)) as u32;
        // Fibonacci hashing, for numbers that are no hashes.
        let spread = |number: u64| place(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        match &self.tokens {
            Tokens::Words => token_hashes(text, true, |hash| places.push(place(hash))),
            Tokens::Bytes => places.extend(text.as_bytes().windows(3).map(|three| {
                spread(u64::from(three[0]) << 16 | u64::from(three[1]) << 8 | u64::from(three[2]))
            })),
            Tokens::Tokenizer(tokenizer) => {
                let known = 1u64 << self.bits;
                places.extend(tokenizer.encode(text).into_iter().map(|id| {
                    // A table that holds the vocabulary has a place for each token.
                    if tokenizer.vocab_size() as u64 <= known { id } else { spread(u64::from(id)) }
                }));
            }
        }
    }
}

/// Counts the tokens of each language over documents.
pub struct TokenCounts {
    settings: settings::TokenDistribution,
    places: Arc<Places>,
    languages: BTreeMap<String, Vec<u64>>,
}

impl TokenCounts {
    /// Nothing counted yet; the tokenizer that the settings name is read.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when it cannot be.
    pub fn new(settings: &settings::TokenDistribution) -> Result<TokenCounts, Error> {
        let tokens = match (&settings.tokenizer, settings.unit) {
            (Some(path), _) => Tokens::Tokenizer(Box::new(AnyTokenizer::load(Path::new(path))?)),
            (None, TokenUnit::Words) => Tokens::Words,
            (None, TokenUnit::Bytes) => Tokens::Bytes,
        };
        let places = Arc::new(Places { tokens, bits: settings.places.ilog2() });
        Ok(TokenCounts { settings: settings.clone(), places, languages: BTreeMap::new() })
    }

    /// Counts the documents of some batches, in rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Batch`] when a column is missing.
    pub fn add(&mut self, batches: &[RecordBatch]) -> Result<(), Error> {
        let found: Vec<BTreeMap<String, Vec<u32>>> =
            batches.par_iter().map(|batch| self.batch(batch)).collect::<Result<_, _>>()?;
        for (language, places) in found.into_iter().flatten() {
            let counts = self.languages.entry(language).or_insert_with(|| vec![0; 1 << self.places.bits]);
            for place in places {
                counts[place as usize] += 1;
            }
        }
        Ok(())
    }

    fn batch(&self, batch: &RecordBatch) -> Result<BTreeMap<String, Vec<u32>>, Error> {
        let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for row in Rows::of(batch, NAME)?.iter() {
            if let Some(language) = language(&row) {
                if !found.contains_key(language) {
                    found.insert(language.to_string(), Vec::new());
                }
                if let Some(places) = found.get_mut(language) {
                    self.places.of(row.text, places);
                }
            }
        }
        Ok(found)
    }

    /// The step that judges by these counts.
    pub fn finish(self) -> TokenDistribution {
        let least = self.settings.min_language_tokens;
        let languages = self.languages.into_par_iter().filter_map(|(language, counts)| {
            let total: u64 = counts.iter().sum();
            (total >= least.max(1)).then(|| (language, Distribution::of(counts, total)))
        });
        TokenDistribution { languages: languages.collect(), settings: self.settings, places: self.places }
    }
}

/// The language that a document is judged in; code and data have none.
fn language<'a>(row: &Row<'a>) -> Option<&'a str> {
    match row.kind.class {
        Class::Code | Class::Data => None,
        Class::Web | Class::Prose | Class::Documentation => row.language,
    }
}

/// Lengths for which the expectation is worked out: powers of two up to this.
const LENGTHS: usize = 25;

/// The distribution of one language.
struct Distribution {
    /// ln p of each place; of a place never seen that of half a token.
    logarithms: Vec<f32>,
    /// The expected divergence of a random text of 2^i tokens.
    expected: [f64; LENGTHS],
}

impl Distribution {
    fn of(counts: Vec<u64>, total: u64) -> Distribution {
        let whole = total as f64;
        let logarithm = |count: u64| ((count as f64).max(0.5) / whole).ln();
        // Most places share their count with others.
        let mut classes: BTreeMap<u64, u64> = BTreeMap::new();
        counts.iter().filter(|&&count| count > 0).for_each(|&count| *classes.entry(count).or_default() += 1);
        let entropy: f64 = classes
            .iter()
            .map(|(&count, &places)| -(places as f64) * count as f64 / whole * logarithm(count))
            .sum();
        let expected = std::array::from_fn(|index| {
            let length = 2f64.powi(index as i32);
            let sum: f64 = classes
                .iter()
                .map(|(&count, &places)| places as f64 * poisson_k_ln_k(length * count as f64 / whole))
                .sum();
            (sum / length - length.ln() + entropy).max(0.0)
        });
        Distribution { logarithms: counts.iter().map(|&count| logarithm(count) as f32).collect(), expected }
    }

    /// The divergence of a document in nats beyond that of a random text of its length. The places are sorted.
    fn excess(&self, places: &mut [u32]) -> f64 {
        let length = places.len() as f64;
        places.sort_unstable();
        let divergence: f64 = places
            .chunk_by(|a, b| a == b)
            .map(|same| {
                let share = same.len() as f64 / length;
                share * (share.ln() - f64::from(self.logarithms[same[0] as usize]))
            })
            .sum();
        divergence - self.expected(length)
    }

    fn expected(&self, length: f64) -> f64 {
        let place = length.max(1.0).log2().min(LENGTHS as f64 - 1.0);
        let (below, above) = (place.floor() as usize, place.ceil() as usize);
        let part = place - below as f64;
        self.expected[below] * (1.0 - part) + self.expected[above] * part
    }
}

/// E[k ln k] for k by Poisson's law, by a table over the logarithm of the mean.
fn poisson_k_ln_k(mean: f64) -> f64 {
    const STEPS: f64 = 64.0;
    /// ln of the least mean in the table; below it, E[k ln k] is the square of the mean times ln 2.
    const LEAST: f64 = -16.0;
    /// The table holds E[k ln k] / mean, which is smooth.
    static TABLE: LazyLock<Vec<f64>> = LazyLock::new(|| {
        let places = ((LARGE.ln() - LEAST) * STEPS).ceil() as usize + 2;
        (0..places)
            .map(|place| {
                let mean = (LEAST + place as f64 / STEPS).exp();
                poisson_by_series(mean) / mean
            })
            .collect()
    });
    if mean >= LARGE {
        return mean * mean.ln() + 0.5 + 1.0 / (12.0 * mean);
    }
    let place = (mean.ln() - LEAST) * STEPS;
    if place <= 0.0 {
        return mean * mean * std::f64::consts::LN_2;
    }
    let (below, part) = (place.floor(), place.fract());
    mean * (TABLE[below as usize] * (1.0 - part) + TABLE[below as usize + 1] * part)
}

/// From here on the expansion k ln k ≈ μ ln μ + 1/2 + 1/12μ is exact to 1e-4 of it.
const LARGE: f64 = 100.0;

fn poisson_by_series(mean: f64) -> f64 {
    let (mut probability, mut sum) = ((-mean).exp(), 0.0);
    for k in 1..400 {
        probability *= mean / f64::from(k);
        sum += probability * f64::from(k) * f64::from(k).ln();
    }
    sum
}

/// The step.
pub struct TokenDistribution {
    settings: settings::TokenDistribution,
    places: Arc<Places>,
    languages: BTreeMap<String, Distribution>,
}

impl TokenDistribution {
    /// The divergence of a text in nats beyond that of a random text of its length; nothing for a language of which too
    /// little was counted, and for a text that is too short.
    pub fn divergence(&self, text: &str, language: &str) -> Option<f64> {
        let distribution = self.languages.get(language)?;
        let mut places = Vec::with_capacity(text.len() / 4);
        self.places.of(text, &mut places);
        let asked = places.len() as u64 >= self.settings.min_tokens.max(1);
        asked.then(|| distribution.excess(&mut places))
    }
}

impl Step for TokenDistribution {
    fn name(&self) -> &'static str {
        NAME
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "Llama 3: Llama Team 2024, section 3.1.1"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        if self.languages.is_empty() {
            return Ok((batch, Removed::default()));
        }
        super::judge(batch, NAME, |row| {
            let Some(value) = language(&row).and_then(|language| self.divergence(row.text, language)) else {
                return Verdict::Keep;
            };
            let bound = Bound::AtMost(self.settings.max_divergence);
            let measure = Measure { rule: "outlier", value, bound };
            if measure.passes() { Verdict::Keep } else { Verdict::RemoveMeasured(measure) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{self, Builder, Record};
    use crate::kind;
    use arrow_array::StringArray;
    use ledger::seed::{Rng, Seed};

    fn batch_of(texts: &[String], language: &str) -> RecordBatch {
        let mut builder = Builder::new(0);
        for text in texts {
            let (text, kind) = (text.clone(), kind::TEXT);
            builder.push(&Record { text, kind, url: None, source: "x".into(), date: None, language: None });
        }
        let languages = StringArray::from_iter_values(texts.iter().map(|_| language));
        batch::with_column(&builder.finish(), "test", "lang", Arc::new(languages)).unwrap()
    }

    /// Words by Zipf's law.
    fn zipf(rng: &mut Rng, words: usize) -> String {
        let uniform = |rng: &mut Rng| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        (0..words).map(|_| letters(5000f64.powf(uniform(rng)) as u64) + " ").collect()
    }

    fn letters(mut number: u64) -> String {
        let mut word = String::new();
        while number > 0 {
            word.push(char::from(b'a' + (number % 26) as u8));
            number /= 26;
        }
        word
    }

    fn counted(unit: TokenUnit, texts: &[String]) -> TokenDistribution {
        let settings = settings::TokenDistribution {
            unit,
            min_language_tokens: 1000,
            max_divergence: 1.0,
            ..Default::default()
        };
        let mut counts = TokenCounts::new(&settings).unwrap();
        for part in texts.chunks(100) {
            counts.add(&[batch_of(part, "en")]).unwrap();
        }
        counts.finish()
    }

    #[test]
    fn the_expectation_over_poisson_is_that_of_its_series() {
        for mean in [1e-9, 1e-6, 0.01, 0.3, 1.0, 7.7, 60.0, 99.9, 100.1, 250.0] {
            let (table, series) = (poisson_k_ln_k(mean), poisson_by_series(mean));
            assert!((table - series).abs() <= 1e-4 * series.abs(), "{mean}: {table} {series}");
        }
    }

    #[test]
    fn random_texts_have_no_excess_at_any_length() {
        let mut rng = Seed(3).stream("zipf", 0);
        let texts: Vec<String> = (0..400).map(|_| zipf(&mut rng, 500)).collect();
        let step = counted(TokenUnit::Words, &texts);
        for words in [60, 200, 1000, 10_000] {
            let mean: f64 =
                (0..20).map(|_| step.divergence(&zipf(&mut rng, words), "en").unwrap()).sum::<f64>() / 20.0;
            assert!(mean.abs() < 0.05, "{words}: {mean}");
        }
        assert_eq!(step.divergence(&zipf(&mut rng, 100), "de"), None);
        assert_eq!(step.divergence("too short", "en"), None);
    }

    #[test]
    fn outliers_go_and_the_others_stay() {
        let mut rng = Seed(4).stream("zipf", 0);
        for unit in [TokenUnit::Words, TokenUnit::Bytes] {
            let mut texts: Vec<String> = (0..300).map(|_| zipf(&mut rng, 300)).collect();
            texts.push((0..400).map(|i| format!("{} ", letters(99_999_989 * (i + 7)))).collect());
            texts.push("qqxzj ".repeat(300));
            let step = counted(unit, &texts);
            let (kept, removed) = step.apply(batch_of(&texts, "en")).unwrap();
            let gone: Vec<u64> = removed.rows.iter().map(|row| row.ordinal).collect();
            assert_eq!((kept.num_rows(), gone), (300, vec![300, 301]), "{unit:?}");
            assert!(removed.rows.iter().all(|row| row.value.is_some_and(|(value, limit)| value > limit)));
        }
    }

    #[test]
    fn counts_do_not_depend_on_how_the_documents_were_cut() {
        let mut rng = Seed(5).stream("zipf", 0);
        let texts: Vec<String> = (0..50).map(|_| zipf(&mut rng, 60)).collect();
        let settings = settings::TokenDistribution { min_language_tokens: 1, ..Default::default() };
        let divergences = |rows: usize| {
            let mut counts = TokenCounts::new(&settings).unwrap();
            let batches: Vec<RecordBatch> = texts.chunks(rows).map(|part| batch_of(part, "en")).collect();
            counts.add(&batches).unwrap();
            let step = counts.finish();
            texts.iter().map(|text| step.divergence(text, "en")).collect::<Vec<_>>()
        };
        assert_eq!(divergences(1), divergences(17));
    }
}
