//! One training step: the gradients of its micro-batches, clipping by global norm, AdamW. The loop of a run, the trial
//! behind an estimate and every timed step call this one.
//!
//! Not which batch or learning rate a step has, nor whether its numbers are healthy: the caller decides that, between
//! the two halves where it must.

use kernels::gemm::{Accumulate, Precision};
use model::forward::LossSums;
use model::{Batch, Workspace};

use crate::optimizer::Optimizer;
use crate::{Gradients, Settings, Trained};

/// Everything that steps work in beside the weights: gradients, both moments, activations, one micro-batch. Made once;
/// after a first step has grown each thread's scratch, a step allocates nothing.
///
/// Call it inside a rayon pool (`ThreadPool::install`, or `rayon::scope` for the global one), so that the operations of
/// a step do not enter the pool one by one.
///
/// ```
/// use train::{Settings, Size, Stepper};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = model::Config { vocab_size: 256, ..Size::Nano.plan().model };
/// let mut weights = model::Weights::init(&config, &mut ledger::seed::Seed(0).stream("weights", 0))?;
/// let mut stepper = Stepper::new(&weights, 1, 16, &Settings::default());
/// for step in 1..=2 {
///     let gradient = stepper.step(&mut weights, 1, step, 1e-3, |_, batch| batch.inputs.fill(7))?;
///     assert!(gradient.sums.mean() > 0.0 && gradient.norm > 0.0);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Stepper {
    optimizer: Optimizer,
    gradients: Gradients,
    workspace: Workspace,
    batch: Batch,
    precision: Precision,
    clip_norm: f64,
}

/// What a step's backward found, before the weights change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gradient {
    /// Losses and loss weights of all micro-batches.
    pub sums: LossSums,
    /// Euclidean norm of the gradient of the mean loss, before clipping; 0 where no token counts.
    pub norm: f64,
    /// What brings the summed gradients to those of the mean loss, and their norm down to `clip_norm`.
    scale: f32,
}

impl Stepper {
    /// For micro-batches of `rows` rows of `seq_len` tokens. Of the `[train]` section it obeys the optimizer's numbers,
    /// `clip_norm`, `z_loss`, `precision` and `recompute`.
    pub fn new(trained: &impl Trained, rows: usize, seq_len: usize, settings: &Settings) -> Self {
        let precision = settings.precision.resolve();
        let mut workspace =
            Workspace::keeping(trained.config(), rows, seq_len, &settings.recompute, precision);
        workspace.z_loss = settings.z_loss;
        Self {
            optimizer: trained.optimizer(settings),
            gradients: trained.gradients(),
            workspace,
            batch: Batch::new(rows, seq_len),
            precision,
            clip_norm: settings.clip_norm,
        }
    }

    /// A whole step, numbered from 1: [`Stepper::gradients`] of `micro_batches` of them, then [`Stepper::update`].
    pub fn step(
        &mut self,
        trained: &mut impl Trained,
        micro_batches: u32,
        step: u64,
        learning_rate: f32,
        fill: impl FnMut(u32, &mut Batch),
    ) -> Result<Gradient, model::Error> {
        let gradient = self.gradients(trained, micro_batches, step, fill)?;
        self.update(trained, &gradient, step, learning_rate);
        Ok(gradient)
    }

    /// Adds up the gradients of `micro_batches` micro-batches, in order. `step` counts from 1; what is drawn at random in a
    /// pass follows from it and from the micro-batch.
    ///
    /// `fill` is called with each one's index and with the batch to fill: at first one of zeros as [`Batch::new`] makes
    /// it, later with what it left there, so that a batch that stays the same is filled once. A batch that does not fit
    /// the model is an error.
    pub fn gradients(
        &mut self,
        trained: &impl Trained,
        micro_batches: u32,
        step: u64,
        mut fill: impl FnMut(u32, &mut Batch),
    ) -> Result<Gradient, model::Error> {
        let mut sums = LossSums::default();
        let mut accumulate = Accumulate::Overwrite;
        for micro in 0..micro_batches {
            fill(micro, &mut self.batch);
            let Self { batch, workspace, gradients, precision, .. } = self;
            let one = trained.pass(
                batch,
                workspace,
                gradients,
                accumulate,
                *precision,
                step << 32 | u64::from(micro),
            )?;
            sums.weighted += one.weighted;
            sums.weight += one.weight;
            accumulate = Accumulate::Add;
        }
        let mean = if sums.weight > 0.0 { 1.0 / sums.weight } else { 0.0 };
        let (norm, scale) = clip(self.gradients.sum_of_squares(), mean, self.clip_norm);
        Ok(Gradient { sums, norm, scale })
    }

    /// Moves the weights by the gradients that [`Stepper::gradients`] left here, clipped, with AdamW. `step` counts from 1.
    pub fn update(&mut self, trained: &mut impl Trained, gradient: &Gradient, step: u64, learning_rate: f32) {
        self.optimizer.step(trained.values_mut(), &self.gradients, step, learning_rate, gradient.scale);
    }

    /// The optimizer, whose moments a checkpoint holds.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The optimizer, whose moments a checkpoint restores.
    pub fn optimizer_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }

    /// The gradients of the last step.
    pub fn last_gradients(&self) -> &Gradients {
        &self.gradients
    }

    /// The buffers of the activations, for what they hold.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The arithmetic of the matrix products, as this processor resolved it.
    pub fn precision(&self) -> Precision {
        self.precision
    }
}

/// The norm of gradients, whose squares' sum is given, after multiplication by `scale`, and the factor that both applies
/// `scale` and brings the norm down to `limit` (0: no limit).
fn clip(sum_of_squares: f64, scale: f64, limit: f64) -> (f64, f32) {
    let norm = sum_of_squares.sqrt() * scale;
    let factor = if limit > 0.0 && norm > limit { scale * limit / norm } else { scale };
    (norm, factor as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;
    use ledger::seed::Seed;
    use model::{Config, Weights};

    #[test]
    fn clipping_scales_only_what_is_too_long() {
        for (scale, limit, norm, factor) in
            [(1.0, 10.0, 5.0, 1.0), (1.0, 1.0, 5.0, 0.2), (0.5, 1.0, 2.5, 0.2), (2.0, 0.0, 10.0, 2.0)]
        {
            let (found, applied) = clip(25.0, scale, limit);
            assert!(
                (found - norm).abs() < 1e-9 && (applied - factor).abs() < 1e-7,
                "{scale} {limit}: {found} {applied}"
            );
        }
        let (norm, _) = clip(f64::NAN, 1.0, 1.0);
        assert!(norm.is_nan());
    }

    fn weights() -> Weights {
        let config = Config { vocab_size: 64, ffn_dim: 64, layers: 2, ..Size::Nano.plan().model };
        Weights::init(&config, &mut Seed(4).stream("weights", 0)).unwrap()
    }

    /// Rows `first..first + batch.rows` of an endless batch.
    fn rows(first: usize, batch: &mut Batch) {
        let seq_len = batch.seq_len;
        for (place, (input, target)) in batch.inputs.iter_mut().zip(&mut batch.targets).enumerate() {
            let place = first * seq_len + place;
            (*input, *target) = (place as u32 * 7 % 64, place as u32 * 11 % 64);
            batch.loss_weights[place % (batch.rows * seq_len)] = (place % 3) as f32;
        }
    }

    #[test]
    fn micro_batches_are_one_batch_in_parts() {
        let settings = Settings { precision: crate::settings::Precision::F32, ..Settings::default() };
        let mut whole = Stepper::new(&weights(), 4, 24, &settings);
        let mut parts = Stepper::new(&weights(), 1, 24, &settings);
        let (mut one, mut other) = (weights(), weights());
        for step in 1..=3 {
            let expected = whole.step(&mut one, 1, step, 1e-3, |_, batch| rows(0, batch)).unwrap();
            let found =
                parts.step(&mut other, 4, step, 1e-3, |micro, batch| rows(micro as usize, batch)).unwrap();
            assert_eq!(found.sums.weight, expected.sums.weight);
            assert!((found.sums.mean() - expected.sums.mean()).abs() < 1e-5);
            assert!((found.norm - expected.norm).abs() < 1e-5 * expected.norm);
        }
        let largest = one.data.iter().zip(&*other.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-3, "weights differ by {largest}");
    }

    #[test]
    fn where_no_token_counts_the_gradient_is_0_and_finite() {
        let settings = Settings { weight_decay: 0.0, ..Settings::default() };
        let mut stepper = Stepper::new(&weights(), 1, 8, &settings);
        let mut trained = weights();
        let gradient =
            stepper.step(&mut trained, 2, 1, 1e-3, |_, batch| batch.loss_weights.fill(0.0)).unwrap();
        assert_eq!((gradient.sums.weight, gradient.norm), (0.0, 0.0));
        assert_eq!(trained.data, weights().data);
    }

    #[test]
    fn a_batch_that_does_not_fit_is_refused() {
        let mut stepper = Stepper::new(&weights(), 1, 8, &Settings::default());
        let refused = stepper.step(&mut weights(), 1, 1, 1e-3, |_, batch| batch.inputs[3] = 64);
        assert!(refused.unwrap_err().to_string().contains("token 64"));
    }
}
