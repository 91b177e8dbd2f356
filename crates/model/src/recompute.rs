//! What a layer computes again in its backward instead of keeping it from its forward: memory against time.
//!
//! Losses and gradients are the same bits whatever is chosen, because the backward calls the forward's own functions on
//! the same inputs.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// What one layer computes again. The numbers of values that it keeps or drops for each token stand beside each.
///
/// Every choice keeps the layer's input `x` (`D`). The normalised inputs and SwiGLU's output are computed again in any
/// case, because that costs a pass over memory and no product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// Nothing: queries, keys and values `(H + 2K)C`, attention's output `HC` and its sums `H`, the residual stream
    /// between the halves `D`, gate and up `2F` are kept.
    #[default]
    Nothing,
    /// The attention half up to the attention's output: norm, product with `qkv`, rotation, attention. Dropped are
    /// `(H + 2K)C + HC + H`. Megatron-LM's `selective` drops less (what lies inside of the softmax, which is never
    /// stored here in the first place).
    Attention,
    /// The feed-forward half up to gate and up: norm and one product. Dropped are `2F`, the largest part by far.
    FeedForward,
    /// Both halves and the residual stream between them: only `x` is kept. The down projection is not run again.
    All,
}

impl Again {
    const WORDS: [(&'static str, Self); 4] = [
        ("none", Self::Nothing),
        ("attention", Self::Attention),
        ("feed_forward", Self::FeedForward),
        ("all", Self::All),
    ];

    /// The word that recipes use.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize].0
    }

    /// Whether the attention half is run again.
    pub fn attention(self) -> bool {
        matches!(self, Self::Attention | Self::All)
    }

    /// Whether the feed-forward half is run again.
    pub fn feed_forward(self) -> bool {
        matches!(self, Self::FeedForward | Self::All)
    }
}

impl std::str::FromStr for Again {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|&(_, again)| again).ok_or_else(|| {
            let words: Vec<_> = Self::WORDS.iter().map(|(known, _)| format!("{known:?}")).collect();
            format!("{word:?} is not one of {}", words.join(", "))
        })
    }
}

/// The choice of every layer: one word, or a list of words that is repeated over the layers, the first layer first.
///
/// `"all"`; `["all", "none"]` is every second layer; a list as long as the model has layers names each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recompute(Vec<Again>);

impl Recompute {
    /// The same in all layers.
    pub fn same(again: Again) -> Self {
        Self(vec![again])
    }

    /// A list that is repeated over the layers; `None` where it is empty.
    pub fn repeated(list: Vec<Again>) -> Option<Self> {
        (!list.is_empty()).then_some(Self(list))
    }

    /// What a layer, counted from 0, computes again.
    pub fn layer(&self, index: usize) -> Again {
        self.0[index % self.0.len()]
    }
}

impl Default for Recompute {
    fn default() -> Self {
        Self::same(Again::Nothing)
    }
}

impl Serialize for Recompute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0[..] {
            [one] => serializer.serialize_str(one.word()),
            _ => serializer.collect_seq(self.0.iter().map(|again| again.word())),
        }
    }
}

impl<'de> Deserialize<'de> for Recompute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = Recompute;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a word (\"none\", \"attention\", \"feed_forward\", \"all\") or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Recompute, E> {
                word.parse().map(Recompute::same).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Recompute, A::Error> {
                let mut list = Vec::new();
                while let Some(word) = words.next_element::<String>()? {
                    list.push(word.parse().map_err(A::Error::custom)?);
                }
                Recompute::repeated(list).ok_or_else(|| A::Error::custom("the list of words is empty"))
            }
        }

        deserializer.deserialize_any(Words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_or_a_list_is_read_and_written_and_anything_else_is_named() {
        for (json, layers) in [
            ("\"none\"", ["none"; 5]),
            ("\"feed_forward\"", ["feed_forward"; 5]),
            ("[\"all\",\"none\"]", ["all", "none", "all", "none", "all"]),
            ("[\"all\",\"attention\",\"none\"]", ["all", "attention", "none", "all", "attention"]),
        ] {
            let read: Recompute = serde_json::from_str(json).unwrap();
            assert_eq!([0, 1, 2, 3, 4].map(|index| read.layer(index).word()), layers);
            assert_eq!(serde_json::to_string(&read).unwrap(), json);
        }
        for (json, part) in [
            ("\"full\"", "\"full\" is not one of"),
            ("[]", "empty"),
            ("[\"all\", \"x\"]", "\"x\""),
            ("3", "a word"),
        ] {
            let error = serde_json::from_str::<Recompute>(json).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
