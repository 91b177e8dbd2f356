//! The one dial: a size, and the plan of training that follows from it.
//!
//! From `1b` upwards these are Meta's configurations to the parameter; below, sizes that a desk can train.

use std::fmt;
use std::str::FromStr;

use kernels::isa::{self, Isa};
use model::Config;

use crate::schedule::{Schedule, Shape};
use crate::{Error, Settings};

/// A size of model and of its training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Size {
    /// Seconds of training: for tests and for looking at the machinery.
    Nano,
    /// Minutes on two cores, with the more tokens the more the processor does at once: the default.
    Tiny,
    /// 126M parameters: days on a desk, hours on a large machine.
    Small,
    /// Llama 3.2 1B.
    B1,
    /// Llama 3.2 3B.
    B3,
    /// Llama 3 8B.
    B8,
    /// Llama 3 70B.
    B70,
    /// Llama 3.1 405B.
    B405,
}

/// What a size stands for. Every number can be changed by [`Settings`].
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The model, its vocabulary included.
    pub model: Config,
    /// Rows of a micro-batch.
    pub rows: usize,
    /// Tokens in a row.
    pub seq_len: usize,
    /// Micro-batches of a step.
    pub accumulation: u32,
    /// Tokens of the whole training.
    pub tokens: u64,
    /// The highest learning rate.
    pub learning_rate: f32,
    /// Share of the steps that warm up.
    pub warmup_fraction: f64,
}

impl Size {
    /// All sizes, from small to large.
    pub const ALL: [Self; 8] =
        [Self::Nano, Self::Tiny, Self::Small, Self::B1, Self::B3, Self::B8, Self::B70, Self::B405];
    /// Their names, in the same order.
    pub const NAMES: [&'static str; 8] = ["nano", "tiny", "small", "1b", "3b", "8b", "70b", "405b"];

    /// The size's name, as [`FromStr`] reads it.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The model and the numbers of its training.
    ///
    /// Learning rates of 8b, 70b and 405b, and 405b's batch and warm-up, are the Llama 3 paper's; its batch grew from
    /// 4M tokens to 16M, and the last and longest phase stands here. The paper does not give the others' batches: they
    /// take its first, 4M tokens. What is smaller than 1b is this project's own.
    pub fn plan(self) -> Plan {
        let (model, rows, seq_len, accumulation, tokens, learning_rate, warmup_fraction) = match self {
            Self::Nano => (nano(), 8, 256, 1, 400_000, 3e-3, 0.05),
            // Short steps: so early in training, many small ones learn more from the same tokens than few large ones.
            Self::Tiny => (tiny(), 2, 512, 1, minutes([1_000_000, 500_000, 400_000]), 2e-3, 0.05),
            // Twenty tokens a parameter (Hoffmann et al. 2022), in batches of half a million.
            Self::Small => (small(), 8, 1024, 64, 2_500_000_000, 6e-4, 0.02),
            Self::B1 => (meta("1b"), 1, 8192, 512, 9_000_000_000_000, 3e-4, 0.001),
            Self::B3 => (meta("3b"), 1, 8192, 512, 9_000_000_000_000, 3e-4, 0.001),
            Self::B8 => (meta("8b"), 1, 8192, 512, 15_000_000_000_000, 3e-4, 0.001),
            Self::B70 => (meta("70b"), 1, 8192, 512, 15_000_000_000_000, 1.5e-4, 0.001),
            Self::B405 => (meta("405b"), 1, 8192, 2048, 15_600_000_000_000, 8e-5, 8_000.0 / 1_200_000.0),
        };
        Plan { model, rows, seq_len, accumulation, tokens, learning_rate, warmup_fraction }
    }
}

impl Plan {
    /// Tokens that one step sees.
    pub fn tokens_per_step(&self) -> u64 {
        self.rows as u64 * self.seq_len as u64 * u64::from(self.accumulation)
    }

    /// Steps that see at least [`Plan::tokens`] tokens; at least one.
    pub fn steps(&self) -> u64 {
        self.tokens.div_ceil(self.tokens_per_step()).max(1)
    }

    /// The learning rate over all steps, falling as the settings say.
    pub fn schedule(&self, settings: &Settings) -> Schedule {
        let steps = self.steps();
        let part = |fraction: f64| (fraction * steps as f64).round() as u64;
        Schedule {
            shape: settings.schedule,
            peak: self.learning_rate,
            final_fraction: settings.final_fraction,
            warmup_steps: part(self.warmup_fraction),
            decay_steps: if settings.schedule == Shape::WarmupStableDecay {
                part(settings.decay_fraction)
            } else {
                0
            },
            steps,
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let name = text.trim().to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|size| size.name() == name)
            .ok_or_else(|| Error::UnknownSize(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Tokens for the sizes that are meant in minutes, by how much of them a processor sees in that time: `[where bf16 is
/// faster, with AVX-512 alone, others]`. Never by a measurement, so that equal machines do equal runs.
pub fn minutes(tokens: [u64; 3]) -> u64 {
    match isa::detected() {
        _ if isa::bf16_pays() => tokens[0],
        Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512 => tokens[1],
        Isa::Avx2 | Isa::Portable => tokens[2],
    }
}

fn meta(name: &'static str) -> Config {
    Config::preset(name).expect("the model crate knows Meta's sizes")
}

/// Llama 3 8B's constants with another shape; heads share the width evenly.
fn shaped(
    dim: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    ffn_dim: usize,
    vocab_size: usize,
) -> Config {
    Config { dim, layers, heads, kv_heads, head_dim: dim / heads, ffn_dim, vocab_size, ..meta("8b") }
}

fn nano() -> Config {
    Config { max_seq_len: 1024, ..shaped(64, 2, 4, 2, 192, 1024) }
}

fn tiny() -> Config {
    Config { max_seq_len: 2048, ..shaped(256, 6, 8, 2, 768, 4096) }
}

fn small() -> Config {
    Config { max_seq_len: 4096, ..shaped(768, 12, 12, 4, 2048, 32_768) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for size in Size::ALL {
            assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
        assert_eq!(" 8B ".parse::<Size>().unwrap(), Size::B8);
        let error = "9b".parse::<Size>().unwrap_err();
        assert!(error.to_string().contains("9b") && error.hint().unwrap().contains("nano"), "{error}");
    }

    #[test]
    fn parameters_of_every_size() {
        for (size, parameters) in [
            (Size::Nano, 229_696),
            (Size::Tiny, 6_622_464),
            (Size::Small, 125_848_320),
            (Size::B1, 1_235_814_400),
            (Size::B3, 3_212_749_824),
            (Size::B8, 8_030_261_248),
            (Size::B70, 70_553_706_496),
            (Size::B405, 405_853_388_800),
        ] {
            let plan = size.plan();
            plan.model.validate().unwrap();
            assert_eq!(plan.model.parameters(), parameters, "{size}");
            assert!(plan.seq_len <= plan.model.max_seq_len, "{size}");
        }
    }

    #[test]
    fn the_published_batches_and_warmup() {
        let plan = Size::B405.plan();
        assert_eq!(plan.tokens_per_step(), 16 << 20);
        let warmup = plan.schedule(&Settings::default()).warmup_steps;
        assert!((6_000..8_000).contains(&warmup), "{warmup}");
        assert_eq!(Size::B8.plan().tokens_per_step(), 4 << 20);
    }

    #[test]
    fn steps_cover_the_tokens() {
        let plan = Plan { tokens: 1001, rows: 2, seq_len: 100, accumulation: 5, ..Size::Nano.plan() };
        assert_eq!((plan.tokens_per_step(), plan.steps()), (1000, 2));
        assert_eq!(Plan { tokens: 0, ..plan }.steps(), 1);
    }
}
