//! The `[sft]` section, and the plan that follows from it and the model.

use crate::Error;
use crate::tasks::Kind;
use model::Config;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use train::quantity::Tokens;
use train::schedule::{Schedule, Shape};

/// The `[sft]` section. `None` leaves a number to the model's size, see [`Settings::plan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Tokens to tune on, questions included, such as `"2M tokens"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// Rows of a micro-batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Tokens in a row; longer conversations are cut after the last answer that fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_len: Option<usize>,
    /// Micro-batches of a step.
    pub accumulation: u32,
    /// The highest learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f32>,
    /// Share of the steps that warm up.
    pub warmup_fraction: f64,
    /// The last learning rate, as a share of the highest.
    pub final_fraction: f64,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// How often each kind of generated conversation is drawn, against the others; kinds that are not named have
    /// their default, 0 leaves a kind out.
    pub mixture: BTreeMap<Kind, f64>,
    /// Most packages that registry questions are about.
    pub packages: usize,
    /// Share of the generated conversations that ask two or three questions in a row.
    pub several_turns: f64,
    /// Files of one's own conversations: OpenAI `messages`, Alpaca or ShareGPT.
    pub conversations: Vec<String>,
    /// Share of one's own conversations among all, where there are any.
    pub conversations_share: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tokens: None,
            rows: None,
            seq_len: None,
            accumulation: 1,
            learning_rate: None,
            warmup_fraction: 0.03,
            final_fraction: 0.05,
            weight_decay: 0.01,
            mixture: BTreeMap::new(),
            packages: 256,
            several_turns: 0.25,
            conversations: Vec::new(),
            conversations_share: 0.5,
        }
    }
}

/// What tuning a model means in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Rows of a micro-batch.
    pub rows: usize,
    /// Tokens in a row.
    pub seq_len: usize,
    /// Micro-batches of a step.
    pub accumulation: u32,
    /// Steps.
    pub steps: u64,
    /// Steps and learning rates.
    pub schedule: Schedule,
}

impl Plan {
    /// Tokens of all steps, questions and padding included.
    pub fn tokens(&self) -> u64 {
        self.steps * self.rows as u64 * self.seq_len as u64 * u64::from(self.accumulation)
    }
}

impl Settings {
    /// Checks every value and names all faults at once.
    pub fn validate(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        let mut require = |fine: bool, fault: String| {
            if !fine {
                faults.push(fault);
            }
        };
        require(self.tokens != Some(Tokens(0)), "tokens is 0".to_owned());
        require(self.rows != Some(0), "rows is 0".to_owned());
        require(self.seq_len.is_none_or(|length| length >= 32), "seq_len is below 32".to_owned());
        require(self.accumulation > 0, "accumulation is 0".to_owned());
        if let Some(rate) = self.learning_rate {
            require(rate > 0.0 && rate < 1.0, format!("learning_rate is {rate}, not between 0 and 1"));
        }
        for (name, value) in [
            ("warmup_fraction", self.warmup_fraction),
            ("final_fraction", self.final_fraction),
            ("weight_decay", f64::from(self.weight_decay)),
            ("several_turns", self.several_turns),
            ("conversations_share", self.conversations_share),
        ] {
            require((0.0..=1.0).contains(&value), format!("{name} is {value}, not between 0 and 1"));
        }
        for (kind, weight) in &self.mixture {
            require(weight.is_finite() && *weight >= 0.0, format!("mixture.{kind} is {weight}"));
        }
        let nothing =
            Kind::ALL.into_iter().all(|kind| self.weight(kind) == 0.0) && self.conversations.is_empty();
        require(!nothing, "mixture leaves every kind out and conversations is empty".to_owned());
        if faults.is_empty() { Ok(()) } else { Err(Error::Settings(faults)) }
    }

    /// How often a kind is drawn, against the others.
    pub fn weight(&self, kind: Kind) -> f64 {
        self.mixture.get(&kind).copied().unwrap_or_else(|| default_weight(kind))
    }

    /// The numbers of tuning a model of this configuration.
    ///
    /// What the settings leave open follows from the number of parameters: the learning rate is 1e-3 at 6.6M
    /// parameters and falls with the square root of their number, which is 2.9e-5 at 8B, where Llama 3 was tuned at
    /// 1e-5 (Llama Team 2024, section 4.1.3); tokens grow from 300,000 to 20M. Small models take small steps: with the
    /// same tokens, 512 a step taught a third more than 1,024.
    pub fn plan(&self, model: &Config) -> Result<Plan, Error> {
        self.validate()?;
        let parameters = model.parameters() as f64;
        let small = parameters < 2e7;
        let rows = self.rows.unwrap_or(if small { 2 } else { 4 });
        let seq_len = self.seq_len.unwrap_or(if small { 256 } else { 2048 }).min(model.max_seq_len);
        let tokens = self.tokens.map_or_else(
            || match parameters {
                ..1e6 => 300_000,
                ..2e7 => train::size::minutes([6_000_000, 2_750_000, 1_600_000]),
                _ => 20_000_000,
            },
            |tokens| tokens.0,
        );
        let rate =
            self.learning_rate.unwrap_or_else(|| (1e-3 * (6.6e6 / parameters).sqrt()).min(2e-3) as f32);
        let steps = tokens.div_ceil(rows as u64 * seq_len as u64 * u64::from(self.accumulation)).max(1);
        let schedule = Schedule {
            shape: Shape::Cosine,
            peak: rate,
            final_fraction: self.final_fraction,
            warmup_steps: (self.warmup_fraction * steps as f64).round() as u64,
            decay_steps: 0,
            steps,
        };
        Ok(Plan { rows, seq_len, accumulation: self.accumulation, steps, schedule })
    }
}

/// More of what is hard to learn: arithmetic has the largest domain, registry questions the most facts.
fn default_weight(kind: Kind) -> f64 {
    match kind {
        Kind::Arithmetic => 1.5,
        Kind::ArithmeticWords => 1.5,
        Kind::Registry => 3.0,
        Kind::Identity | Kind::Refusal => 0.6,
        Kind::Borderline => 0.8,
        Kind::Spelling | Kind::CountingLetters | Kind::Sorting | Kind::Reversing => 1.2,
        Kind::Dates | Kind::Units => 1.0,
        Kind::Repeating => 1.5,
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
    fn the_mixture_is_named_by_kind() {
        let settings: Settings =
            serde_json::from_str(r#"{"tokens": "1M tokens", "mixture": {"spelling": 0, "registry": 5}}"#)
                .unwrap();
        assert_eq!((settings.weight(Kind::Spelling), settings.weight(Kind::Registry)), (0.0, 5.0));
        assert_eq!(settings.weight(Kind::Dates), default_weight(Kind::Dates));
        assert!(serde_json::from_str::<Settings>(r#"{"mixture": {"singing": 1}}"#).is_err());
        assert!(serde_json::from_str::<Settings>(r#"{"mixtures": {}}"#).is_err());
    }

    #[test]
    fn all_bad_values_are_named() {
        let settings = Settings {
            rows: Some(0),
            seq_len: Some(3),
            learning_rate: Some(f32::NAN),
            several_turns: 2.0,
            mixture: Kind::ALL.into_iter().map(|kind| (kind, 0.0)).collect(),
            ..Settings::default()
        };
        let message = settings.validate().unwrap_err().to_string();
        for part in ["rows is 0", "seq_len", "learning_rate is NaN", "several_turns", "leaves every kind out"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn plans_follow_the_model() {
        let plan = |name: &str| Settings::default().plan(&Config::preset(name).unwrap()).unwrap();
        let rate = plan("8b").schedule.peak;
        assert!((2e-5..4e-5).contains(&rate), "{rate}");
        assert!(plan("405b").schedule.peak < rate);
        let tiny = train::Size::Tiny.plan().model;
        let settings = Settings { tokens: Some(Tokens(102_401)), ..Settings::default() };
        let plan = settings.plan(&tiny).unwrap();
        assert_eq!((plan.seq_len, plan.steps, plan.schedule.steps), (256, 201, 201));
    }
}
