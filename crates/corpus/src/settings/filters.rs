//! The settings of the scrub and of the filters that need lists, counts of the corpus or a place to show what they took.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// URL rules: blocked domains and addresses, and words in addresses (Penedo et al. 2023, "The RefinedWeb Dataset",
/// section G.1). Documents without a URL pass. They come before the extraction, which costs the most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Url {
    /// Whether these rules apply at all.
    pub enabled: bool,
    /// Use the small lists of words that the program brings.
    pub builtin: bool,
    /// Files with a blocked domain a line, as the blacklists of Université Toulouse Capitole (UT1) have them; a domain
    /// blocks what lies below it too.
    pub domain_files: Vec<String>,
    /// Files with a blocked address a line, without scheme; what lies below its path is blocked too.
    pub address_files: Vec<String>,
    /// Domains that pass whatever the rules say, with what lies below them.
    pub allowed_domains: Vec<String>,
    /// More words that block an address in which they stand whole.
    pub hard_words: Vec<String>,
    /// More words of which an address must have `min_soft_words` to be blocked.
    pub soft_words: Vec<String>,
    /// More strings that block an address whose letters and digits contain them.
    pub subwords: Vec<String>,
    /// How many soft words block an address.
    pub min_soft_words: u64,
}

impl Default for Url {
    fn default() -> Self {
        Url {
            enabled: true,
            builtin: true,
            domain_files: Vec::new(),
            address_files: Vec::new(),
            allowed_domains: Vec::new(),
            hard_words: Vec::new(),
            soft_words: Vec::new(),
            subwords: Vec::new(),
            min_soft_words: 2,
        }
    }
}

/// Counting of dirty words (Llama Team 2024, "The Llama 3 Herd of Models", section 3.1.1; lists as in Raffel et al. 2020),
/// in documents that are no code or data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirtyWords {
    /// Whether this rule applies at all.
    pub enabled: bool,
    /// Use the short lists that the program brings (19 languages).
    pub builtin: bool,
    /// Files with a word or phrase a line, by the language (ISO 639-1) of the documents that they apply to; `all` for
    /// documents of every language.
    pub files: BTreeMap<String, String>,
    /// Most occurrences in a document; none for any number, 0 for C4's rule.
    pub max_count: Option<u64>,
    /// Greatest share of the words of a document.
    pub max_fraction: f64,
    /// Documents with fewer occurrences are not asked for their share, lest one word decide about a short text.
    pub fraction_from: u64,
}

impl Default for DirtyWords {
    fn default() -> Self {
        DirtyWords {
            enabled: true,
            builtin: true,
            files: BTreeMap::new(),
            max_count: None,
            max_fraction: 0.01,
            fraction_from: 3,
        }
    }
}

/// The threshold on a score for content that is not safe for work, 0 to 1: the column `nsfw_score` where documents have
/// one, as a classifier writes it, else a score from the dirty words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nsfw {
    /// Whether this rule applies at all.
    pub enabled: bool,
    /// Greatest score of a document.
    pub max_score: f64,
}

impl Default for Nsfw {
    fn default() -> Self {
        Nsfw { enabled: true, max_score: 0.5 }
    }
}

/// What is replaced by a placeholder. Documents are changed by this, never removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scrub {
    /// Mail addresses.
    pub emails: bool,
    /// Public IP addresses.
    pub ip_addresses: bool,
    /// Private keys, cloud keys and tokens.
    pub secrets: bool,
    /// Telephone numbers; like the kinds below, not in code and data.
    pub phone_numbers: bool,
    /// Numbers of payment cards that pass Luhn's check.
    pub credit_cards: bool,
    /// International bank account numbers (ISO 13616) whose check digits are right.
    pub ibans: bool,
    /// Personal numbers of states that have check digits and a form of their own, and those that are called such.
    pub national_ids: bool,
}

impl Default for Scrub {
    fn default() -> Self {
        Scrub {
            emails: true,
            ip_addresses: true,
            secrets: true,
            phone_numbers: true,
            credit_cards: true,
            ibans: true,
            national_ids: true,
        }
    }
}

/// What a token is where the distribution of tokens is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenUnit {
    /// A word in lower case, by its hash.
    Words,
    /// Three bytes in a row, by their hash.
    Bytes,
}

/// Outliers by their distribution of tokens: the Kullback-Leibler divergence of a document from all documents of its
/// language (Llama Team 2024, section 3.1.1), in nats, beyond that of a random text of its length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenDistribution {
    /// Whether this rule applies at all.
    pub enabled: bool,
    /// What is counted where no tokenizer is named.
    pub unit: TokenUnit,
    /// A `tokenizer.json` or `tokenizer.model` whose tokens are counted.
    pub tokenizer: Option<String>,
    /// Tokens are counted in so many places, a power of two; those that share one count together. A language takes 8
    /// bytes a place.
    pub places: u64,
    /// Greatest divergence in nats.
    pub max_divergence: f64,
    /// Shorter documents, in tokens, are not asked.
    pub min_tokens: u64,
    /// Languages with fewer tokens in all are not asked: of them a document is too large a part.
    pub min_language_tokens: u64,
}

impl Default for TokenDistribution {
    fn default() -> Self {
        TokenDistribution {
            enabled: true,
            unit: TokenUnit::Words,
            tokenizer: None,
            places: 1 << 16,
            max_divergence: 2.0,
            min_tokens: 50,
            min_language_tokens: 1_000_000,
        }
    }
}

/// Lines that are frequent over documents (Wenzek et al. 2020, "CCNet", section 3, as Llama Team 2024, section 3.1.1, has
/// it). Applied to web pages and plain text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LineDedup {
    /// Whether this rule applies at all.
    pub enabled: bool,
    /// Lines that are seen more often in a bucket are removed from all its documents.
    pub max_occurrences: u64,
    /// Documents in a bucket.
    pub bucket_documents: u64,
    /// Fewest words that a document may be left with.
    pub min_words: u64,
}

impl Default for LineDedup {
    fn default() -> Self {
        LineDedup { enabled: true, max_occurrences: 6, bucket_documents: 30_000_000, min_words: 50 }
    }
}

/// The removed documents that are written to `documents/removed/`, a file of JSON lines for each step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemovedSamples {
    /// The first so many of each reason are written.
    pub first: u64,
    /// Of the others this fraction, chosen by a hash of their identity.
    pub fraction: f64,
    /// Bytes of text shown of each, at most.
    pub max_text_bytes: u64,
}

impl Default for RemovedSamples {
    fn default() -> Self {
        RemovedSamples { first: 100, fraction: 0.001, max_text_bytes: 4000 }
    }
}
