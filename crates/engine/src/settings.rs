//! How much the engine takes on at once: the `[engine]` section of a recipe.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Bounds of one engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Sequences that run together in one batch.
    pub max_sequences: usize,
    /// Requests that may wait beyond those that can run; the next is refused with [`Error::QueueFull`].
    pub max_queue: usize,
    /// Tokens of which keys and values are kept, in whole pages: those of running sequences, prompts and answers, and
    /// prompts that others may begin with too. A request reserves its prompt and its `max_tokens` before it starts, so
    /// one that runs never has to give way; what is kept for others does. Also bounds one context. Memory is taken as
    /// pages are first written.
    pub max_cache_tokens: usize,
    /// What keys and values are kept as.
    pub kv_cache: KvCache,
    /// What whoever opens the model multiplies its matrices in; an engine takes a model as it is. Matrices in blocks of
    /// integers are multiplied in integers whatever it says.
    pub precision: Precision,
    /// Prompt tokens read in one step, of all sequences together: the longest pause that a new prompt can cause to the
    /// answers that are being written.
    pub prefill_chunk: usize,
    /// Whether tokens are guessed, so that one pass can give an answer several; no answer changes.
    pub speculative: Speculative,
    /// Most tokens guessed at once for one sequence. Fewer are where guesses turn out wrong, and in large batches.
    pub max_draft_tokens: usize,
    /// Seed for requests that bring none. Absent: drawn from the system, so no two runs are alike.
    pub seed: Option<u64>,
    /// Adapters that may be loaded at once; each takes the memory of its parameters.
    pub max_adapters: usize,
    /// Adapters that requests may name, each with its folder in peft's format.
    pub adapters: BTreeMap<String, PathBuf>,
}

/// The arithmetic of a model's matrix products; sums are f32 in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the model's file holds bf16 or f16 and the processor multiplies bf16 faster than f32, else f32.
    #[default]
    Auto,
    /// f32: the scores of a model that computes in f32, whatever its file holds.
    F32,
    /// bf16 factors: half the memory, and activations are rounded to 8 bits of fraction before each product.
    Bf16,
}

/// Where the guesses of speculative decoding come from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speculative {
    /// Nothing is guessed.
    #[default]
    Off,
    /// From the sequence itself: what followed its last tokens where they occurred before. For answers that repeat their
    /// prompt, as summaries, edits and code do.
    Lookup,
    /// From a smaller model with the same vocabulary: a path, or the name of a model that was pulled. It keeps keys and
    /// values of its own, of as many tokens.
    Draft(PathBuf),
}

/// What keys and values are kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvCache {
    /// The smallest form that changes no bit of a score: f32 for a model that runs in f32, bf16 for one in bf16, which
    /// rounds keys and values anyway. So a greedy token is the one that training would have scored highest.
    #[default]
    Exact,
    /// 4 bytes a value.
    F32,
    /// 2 bytes a value.
    Bf16,
    /// 8 bits a value and a scale for each token and head: 1.06 bytes a value at a width of 64.
    Q8,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_sequences: 32,
            max_queue: 256,
            max_cache_tokens: 131_072,
            kv_cache: KvCache::Exact,
            precision: Precision::Auto,
            prefill_chunk: 256,
            speculative: Speculative::Off,
            max_draft_tokens: 8,
            seed: None,
            max_adapters: 64,
            adapters: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// All faults at once, or nothing.
    pub fn validate(&self) -> Result<(), Error> {
        let faults: Vec<String> = [
            ("max_sequences", self.max_sequences),
            ("max_cache_tokens", self.max_cache_tokens),
            ("prefill_chunk", self.prefill_chunk),
            ("max_draft_tokens", self.max_draft_tokens),
        ]
        .into_iter()
        .filter(|(_, value)| *value == 0)
        .map(|(name, _)| format!("`{name}` is 0 and must be at least 1"))
        .collect();
        if faults.is_empty() { Ok(()) } else { Err(Error::Settings { faults }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_named_at_once() {
        let settings = Settings { max_sequences: 0, prefill_chunk: 0, ..Settings::default() };
        let Err(Error::Settings { faults }) = settings.validate() else { panic!("accepted zero sequences") };
        assert_eq!(faults.len(), 2);
        assert!(faults[0].contains("max_sequences") && faults[1].contains("prefill_chunk"), "{faults:?}");
        assert_eq!(Settings::default().validate(), Ok(()));
    }

    #[test]
    fn speculative_decoding_is_a_word_or_a_model() {
        let check = |text: &str, wanted: Option<Speculative>| {
            let found: Result<Settings, _> = serde_json::from_str(&format!("{{\"speculative\": {text}}}"));
            assert_eq!(found.ok().map(|settings| settings.speculative), wanted, "{text}");
        };
        check("\"off\"", Some(Speculative::Off));
        check("\"lookup\"", Some(Speculative::Lookup));
        check("{\"draft\": \"a/b\"}", Some(Speculative::Draft("a/b".into())));
        check("\"draft\"", None);
        check("\"perhaps\"", None);
    }
}
