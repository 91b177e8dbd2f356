//! The `[eval]` section: how much is measured, and what the model is shown writing.

use crate::Error;
use serde::{Deserialize, Serialize};

/// The `[eval]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Held-out questions of each kind.
    pub items_per_kind: usize,
    /// Most tokens of an answer; a longer one is wrong.
    pub max_tokens: usize,
    /// Most held-out tokens that bits per byte are measured on, in whole documents from the first; at least one.
    pub held_out_tokens: u64,
    /// Rows of the batches in which bits per byte are measured.
    pub rows: usize,
    /// Tokens of their rows. A document is measured in stretches of this length.
    pub seq_len: usize,
    /// What the model is asked to continue, as text.
    pub continuations: Vec<String>,
    /// What the model is asked in conversation.
    pub questions: Vec<String>,
    /// Most tokens of each of these.
    pub sample_tokens: usize,
    /// Temperature at which continuations are drawn; answers to questions are greedy.
    pub temperature: f32,
}

impl Default for Settings {
    fn default() -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Self {
            items_per_kind: 48,
            max_tokens: 64,
            held_out_tokens: 150_000,
            rows: 8,
            seq_len: 256,
            continuations: owned(&[
                "/// Returns the number of",
                "use std::collections::HashMap;\n\n",
                "# Installation\n\n",
                "fn main() {\n",
            ]),
            questions: owned(&[
                "Hello!",
                "Who are you?",
                "What is 38 + 47?",
                "What is twenty-six plus thirty-seven?",
                "Spell the word planet.",
                "What day is 4 days after Thursday?",
                "What is `serde` for?",
                "How do I kill a process?",
            ]),
            sample_tokens: 64,
            temperature: 0.7,
        }
    }
}

impl Settings {
    /// Checks every value and names all faults at once.
    pub fn validate(&self) -> Result<(), Error> {
        let mut faults: Vec<String> = [
            ("items_per_kind", self.items_per_kind),
            ("max_tokens", self.max_tokens),
            ("rows", self.rows),
            ("sample_tokens", self.sample_tokens),
        ]
        .into_iter()
        .filter(|(_, value)| *value == 0)
        .map(|(name, _)| format!("{name} is 0"))
        .collect();
        if self.seq_len < 2 {
            faults.push("seq_len is below 2".to_owned());
        }
        if !(0.0..=10.0).contains(&self.temperature) {
            faults.push(format!("temperature is {}, not between 0 and 10", self.temperature));
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Settings(faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_a_round_trip() {
        let settings = Settings::default();
        settings.validate().unwrap();
        let json = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), settings);
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), settings);
    }

    #[test]
    fn unknown_keys_and_all_bad_values_are_refused() {
        assert!(serde_json::from_str::<Settings>(r#"{"item_per_kind": 3}"#).is_err());
        let settings = Settings { rows: 0, seq_len: 1, temperature: -1.0, ..Settings::default() };
        let message = settings.validate().unwrap_err().to_string();
        for part in ["rows is 0", "seq_len", "temperature is -1"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
