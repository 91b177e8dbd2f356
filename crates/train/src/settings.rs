//! The `[train]` section: every number of training that a recipe can change. Not the model's shape.

use kernels::isa;
use model::Recompute;
use serde::{Deserialize, Serialize};

use crate::quantity::{Seconds, Tokens};
use crate::schedule::Shape;
use crate::{Error, Plan, Size};

/// The arithmetic of the matrix products. Weights, sums and the optimizer are f32 in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the processor multiplies it faster than f32, else f32.
    #[default]
    Auto,
    /// f32.
    F32,
    /// bf16 factors, f32 sums.
    Bf16,
}

impl Precision {
    /// What the kernels are asked for on this processor.
    pub fn resolve(self) -> kernels::gemm::Precision {
        match self {
            Self::F32 => kernels::gemm::Precision::F32,
            Self::Bf16 => kernels::gemm::Precision::Bf16,
            Self::Auto if isa::bf16_pays() => kernels::gemm::Precision::Bf16,
            Self::Auto => kernels::gemm::Precision::F32,
        }
    }
}

/// The `[train]` section. `None` leaves a number to the size's [`Plan`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Tokens to train on, such as `"4M tokens"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    /// Rows of a micro-batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Tokens in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq_len: Option<usize>,
    /// Micro-batches of a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accumulation: Option<u32>,
    /// The highest learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f32>,
    /// Share of the steps that warm up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_fraction: Option<f64>,
    /// How the learning rate falls after the warm-up.
    pub schedule: Shape,
    /// The last learning rate, as a share of the highest.
    pub final_fraction: f64,
    /// Share of the steps in which `schedule = "warmup-stable-decay"` falls.
    pub decay_fraction: f64,
    /// AdamW's decay of the first moment. 0.9 in Llama 2; the Llama 3 paper names none.
    pub beta1: f32,
    /// AdamW's decay of the second moment. 0.95 in Llama 2.
    pub beta2: f32,
    /// AdamW's epsilon.
    pub epsilon: f32,
    /// Decoupled weight decay of the matrices: each step shrinks them by this times the learning rate.
    pub weight_decay: f32,
    /// Longest gradient that is used whole; longer ones are scaled down to it. 0 turns clipping off.
    pub clip_norm: f64,
    /// Weight of the z-loss, which keeps logits from drifting; 1e-4 is usual (PaLM), 0 leaves it out.
    pub z_loss: f32,
    /// Arithmetic of the matrix products.
    pub precision: Precision,
    /// What layers compute again in the backward instead of keeping it: `"none"`, `"attention"`, `"feed_forward"`,
    /// `"all"`, or a list of these that is repeated over the layers. It changes memory and time, and no number.
    pub recompute: Recompute,
    /// A gradient this many times as long as the usual one ends the run. 0 turns the watch off.
    pub spike_limit: f64,
    /// Steps between checkpoints; otherwise only the time counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_steps: Option<u64>,
    /// Time between checkpoints, such as `"5 min"`: what a power cut can cost.
    pub checkpoint_interval: Seconds,
    /// Checkpoints that are kept.
    pub keep_checkpoints: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tokens: None,
            rows: None,
            seq_len: None,
            accumulation: None,
            learning_rate: None,
            warmup_fraction: None,
            schedule: Shape::Cosine,
            final_fraction: 0.1,
            decay_fraction: 0.2,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
            z_loss: 0.0,
            precision: Precision::Auto,
            recompute: Recompute::default(),
            spike_limit: 100.0,
            checkpoint_steps: None,
            checkpoint_interval: Seconds(60.0),
            keep_checkpoints: 2,
        }
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
        let share = |value: f64| (0.0..=1.0).contains(&value);
        for (name, value) in [
            ("tokens", self.tokens.map(|tokens| tokens.0)),
            ("rows", self.rows.map(|rows| rows as u64)),
            ("accumulation", self.accumulation.map(u64::from)),
            ("checkpoint_steps", self.checkpoint_steps),
        ] {
            require(value != Some(0), format!("{name} is 0"));
        }
        require(self.seq_len.is_none_or(|length| length >= 2), "seq_len is below 2".to_owned());
        if let Some(rate) = self.learning_rate {
            require(rate > 0.0 && rate < 1.0, format!("learning_rate is {rate}, not between 0 and 1"));
        }
        for (name, value) in [
            ("warmup_fraction", self.warmup_fraction.unwrap_or(0.0)),
            ("final_fraction", self.final_fraction),
            ("decay_fraction", self.decay_fraction),
        ] {
            require(share(value), format!("{name} is {value}, not a share between 0 and 1"));
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            require((0.0..1.0).contains(&value), format!("{name} is {value}, not in [0, 1)"));
        }
        require(self.epsilon > 0.0 && self.epsilon.is_finite(), format!("epsilon is {}", self.epsilon));
        require(
            (0.0..=1.0).contains(&self.weight_decay),
            format!("weight_decay is {}, not in [0, 1]", self.weight_decay),
        );
        require((0.0..=1.0).contains(&self.z_loss), format!("z_loss is {}, not in [0, 1]", self.z_loss));
        require(self.clip_norm >= 0.0, format!("clip_norm is {}", self.clip_norm));
        require(
            self.spike_limit == 0.0 || self.spike_limit > 1.0,
            format!("spike_limit is {}, neither 0 nor above 1", self.spike_limit),
        );
        require(self.keep_checkpoints > 0, "keep_checkpoints is 0".to_owned());
        if faults.is_empty() { Ok(()) } else { Err(Error::Settings(faults)) }
    }

    /// These settings without those that decide nothing about the weights: how often they are saved, and what is
    /// computed again to spare memory. Runs that agree in what is left go on from each other's checkpoints.
    pub fn deciding(&self) -> Self {
        let Self { recompute, checkpoint_steps, checkpoint_interval, keep_checkpoints, .. } = Self::default();
        Self { recompute, checkpoint_steps, checkpoint_interval, keep_checkpoints, ..self.clone() }
    }

    /// The size's plan with this section's numbers in place of its own.
    pub fn plan(&self, size: Size) -> Result<Plan, Error> {
        self.over(size.plan())
    }

    /// Another plan with this section's numbers in place of its own.
    pub fn over(&self, plan: Plan) -> Result<Plan, Error> {
        self.validate()?;
        let seq_len = self.seq_len.unwrap_or(plan.seq_len);
        let mut model = plan.model;
        model.max_seq_len = model.max_seq_len.max(seq_len);
        Ok(Plan {
            model,
            rows: self.rows.unwrap_or(plan.rows),
            seq_len,
            accumulation: self.accumulation.unwrap_or(plan.accumulation),
            tokens: self.tokens.map_or(plan.tokens, |tokens| tokens.0),
            learning_rate: self.learning_rate.unwrap_or(plan.learning_rate),
            warmup_fraction: self.warmup_fraction.unwrap_or(plan.warmup_fraction),
        })
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
    fn values_replace_the_plans_numbers() {
        let json = r#"{"tokens": "1M tokens", "rows": 4, "seq_len": 4096, "accumulation": 2, "learning_rate": 1e-4,
            "warmup_fraction": 0.5, "schedule": "warmup-stable-decay", "checkpoint_interval": "2 min",
            "recompute": ["all", "none"]}"#;
        let settings: Settings = serde_json::from_str(json).unwrap();
        let plan = settings.plan(Size::Tiny).unwrap();
        assert_eq!((plan.tokens, plan.rows, plan.seq_len, plan.accumulation), (1_000_000, 4, 4096, 2));
        assert_eq!(plan.model.max_seq_len, 4096);
        assert_eq!(plan.steps(), 31);
        let schedule = plan.schedule(&settings);
        assert_eq!((schedule.warmup_steps, schedule.decay_steps, schedule.peak), (16, 6, 1e-4));
        assert_eq!(settings.checkpoint_interval, Seconds(120.0));
        assert_eq!([0, 1, 2].map(|layer| settings.recompute.layer(layer).word()), ["all", "none", "all"]);
    }

    #[test]
    fn unknown_keys_and_all_bad_values_are_refused() {
        let error = serde_json::from_str::<Settings>(r#"{"leaning_rate": 1}"#).unwrap_err();
        assert!(error.to_string().contains("leaning_rate"), "{error}");
        let settings = Settings {
            rows: Some(0),
            learning_rate: Some(f32::NAN),
            beta2: 1.0,
            final_fraction: -0.1,
            spike_limit: 0.5,
            keep_checkpoints: 0,
            ..Settings::default()
        };
        let message = settings.plan(Size::Nano).unwrap_err().to_string();
        for part in [
            "rows is 0",
            "learning_rate is NaN",
            "beta2",
            "final_fraction",
            "spike_limit",
            "keep_checkpoints",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}
