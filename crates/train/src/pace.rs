//! How fast the steps go, as a person and the metrics are told.

use std::time::{Duration, Instant};

use kernels::gemm::{self, Precision};
use ledger::seed::Seed;
use model::{Batch, Config, Weights};

use crate::{Error, Settings, Stepper};

/// Weight of the newest step in the moving mean of the steps' seconds.
const NEWEST: f64 = 0.1;

pub(crate) struct Pace {
    /// Tokens of a step.
    pub(crate) tokens: f64,
    flops_per_token: f64,
    peak_gflops: f64,
    seconds: Option<f64>,
}

impl Pace {
    /// Measures the processor's peak of matrix products, which takes a tenth of a second.
    pub(crate) fn new(tokens: f64, flops_per_token: f64, precision: Precision) -> Self {
        let peak_gflops = gemm::measured_peak_gflops(precision, Duration::from_millis(100));
        Self { tokens, flops_per_token, peak_gflops, seconds: None }
    }

    /// A step took so long.
    pub(crate) fn add(&mut self, seconds: f64) {
        let before = self.seconds.unwrap_or(seconds);
        self.seconds = Some(before + NEWEST * (seconds - before));
    }

    /// The share of the peak at this many tokens a second.
    pub(crate) fn share_of_peak(&self, tokens_per_second: f64) -> f64 {
        if self.peak_gflops > 0.0 {
            tokens_per_second * self.flops_per_token / (self.peak_gflops * 1e9)
        } else {
            0.0
        }
    }

    /// Loss, speed, share of the peak and time left, for `steps` more steps.
    pub(crate) fn message(&self, loss: f64, steps: u64) -> String {
        let seconds = self.seconds.unwrap_or(0.0);
        let rate = if seconds > 0.0 { self.tokens / seconds } else { 0.0 };
        let share = 100.0 * self.share_of_peak(rate);
        format!(
            "loss {loss:.3}, {} tokens/s, {share:.0}% of peak, {} left",
            grouped(rate),
            span(seconds * steps as f64)
        )
    }
}

/// How long a step of one micro-batch of this shape takes on this machine, in seconds: the faster of two, after one
/// that finds its memory untouched, on random weights and tokens.
///
/// Holds what training holds, so it is for models that are trained in minutes.
pub fn trial(config: &Config, rows: usize, seq_len: usize, settings: &Settings) -> Result<f64, Error> {
    let seed = Seed(0);
    let mut weights = Weights::init(config, &mut seed.stream("trial.init", 0))?;
    let mut stepper = Stepper::new(&weights, rows, seq_len, settings);
    let mut tokens = seed.stream("trial.tokens", 0);
    let mut fill = |_, batch: &mut Batch| {
        for (input, target) in batch.inputs.iter_mut().zip(&mut batch.targets) {
            *input = tokens.below(config.vocab_size as u64) as u32;
            *target = *input;
        }
    };
    // One entry into the pool, as in a run.
    rayon::scope(|_| {
        let mut best = f64::INFINITY;
        for step in 1..=3 {
            let began = Instant::now();
            stepper.step(&mut weights, 1, step, 1e-3, &mut fill)?;
            if step > 1 {
                best = best.min(began.elapsed().as_secs_f64());
            }
        }
        Ok(best)
    })
}

/// A whole number with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A span of time in two units.
fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, _) => format!("{minutes} min {:02} s", whole % 60),
        (0, _, _) => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_read_well() {
        for (value, text) in [(0.4, "0"), (999.0, "999"), (5432.1, "5,432"), (1_234_567.0, "1,234,567")] {
            assert_eq!(grouped(value), text);
        }
        for (seconds, text) in [
            (0.2, "0 s"),
            (59.4, "59 s"),
            (61.0, "1 min 01 s"),
            (3_725.0, "1 h 02 min"),
            (90_000.0, "1 d 01 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn the_message_names_what_a_person_waits_for() {
        let mut pace = Pace { tokens: 4096.0, flops_per_token: 4e7, peak_gflops: 400.0, seconds: None };
        pace.add(1.0);
        pace.add(0.5);
        assert_eq!(pace.message(3.21987, 120), "loss 3.220, 4,312 tokens/s, 43% of peak, 1 min 54 s left");
    }
}
