//! The learning rate of each step: warm-up, then cosine or warm-up, stable, decay.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Half a cosine from the peak to the floor over all remaining steps, as Llama 3 was trained.
    #[default]
    Cosine,
    /// Stays at the peak, then falls in a straight line to the floor in the last part
    /// (Hu et al. 2024, "MiniCPM"; also the annealing at the end of Llama 3).
    WarmupStableDecay,
    /// Stays at the peak.
    Constant,
}

/// The learning rate as a function of the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// How it falls.
    pub shape: Shape,
    /// The highest learning rate.
    pub peak: f32,
    /// The last learning rate, as a share of the peak.
    pub final_fraction: f64,
    /// Steps of linear warm-up; the step after them has the peak.
    pub warmup_steps: u64,
    /// Steps of the last part of [`Shape::WarmupStableDecay`].
    pub decay_steps: u64,
    /// All steps.
    pub steps: u64,
}

impl Schedule {
    /// The learning rate of `step`, counted from 0. The first step of a warm-up is not wasted on a rate of 0; the last
    /// step has `peak * final_fraction`, and so has every step after it.
    pub fn learning_rate(&self, step: u64) -> f32 {
        let peak = f64::from(self.peak);
        if step < self.warmup_steps {
            return (peak * (step + 1) as f64 / (self.warmup_steps + 1) as f64) as f32;
        }
        let floor = peak * self.final_fraction;
        let last = self.steps.saturating_sub(1);
        let rate = match self.shape {
            Shape::Constant => peak,
            Shape::Cosine => {
                let done = fraction(step, self.warmup_steps, last);
                floor + (peak - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
            Shape::WarmupStableDecay => {
                let begin = last.saturating_sub(self.decay_steps).max(self.warmup_steps);
                peak + (floor - peak) * fraction(step, begin, last)
            }
        };
        rate as f32
    }
}

/// How far `step` is on the way from `begin` to `end`, in [0, 1].
fn fraction(step: u64, begin: u64, end: u64) -> f64 {
    if step <= begin {
        return 0.0;
    }
    if step >= end {
        return 1.0;
    }
    (step - begin) as f64 / (end - begin) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: Shape, expected: &[(u64, f32)]) {
        let schedule =
            Schedule { shape, peak: 1.0, final_fraction: 0.1, warmup_steps: 4, decay_steps: 20, steps: 105 };
        for &(step, rate) in expected {
            let found = schedule.learning_rate(step);
            assert!((found - rate).abs() < 1e-6, "{shape:?} at {step}: {found}, not {rate}");
        }
    }

    #[test]
    fn the_rate_at_every_turn() {
        let warmup = [(0, 0.2), (3, 0.8), (4, 1.0)];
        check(Shape::Cosine, &warmup);
        check(Shape::Cosine, &[(54, 0.55), (104, 0.1), (105, 0.1), (1_000_000, 0.1)]);
        check(Shape::WarmupStableDecay, &warmup);
        check(Shape::WarmupStableDecay, &[(60, 1.0), (84, 1.0), (94, 0.55), (104, 0.1), (200, 0.1)]);
        check(Shape::Constant, &warmup);
        check(Shape::Constant, &[(104, 1.0), (200, 1.0)]);
    }

    #[test]
    fn the_published_schedule_of_405b() {
        // Peak 8e-5, 8,000 steps of warm-up, cosine to 8e-7 over 1,200,000 steps.
        let schedule = Schedule {
            shape: Shape::Cosine,
            peak: 8e-5,
            final_fraction: 0.01,
            warmup_steps: 8000,
            decay_steps: 0,
            steps: 1_200_000,
        };
        assert_eq!(schedule.learning_rate(8000), 8e-5);
        assert!((schedule.learning_rate(1_199_999) - 8e-7).abs() < 1e-12);
    }

    #[test]
    fn short_runs_have_a_finite_rate() {
        for (warmup_steps, steps) in [(0, 0), (0, 1), (5, 3), (1, 2)] {
            for shape in [Shape::Cosine, Shape::WarmupStableDecay, Shape::Constant] {
                let schedule =
                    Schedule { shape, peak: 1e-3, final_fraction: 0.1, warmup_steps, decay_steps: 2, steps };
                for step in 0..8 {
                    let rate = schedule.learning_rate(step);
                    assert!(rate > 0.0 && rate <= 1e-3, "{schedule:?} at {step}: {rate}");
                }
            }
        }
    }
}
