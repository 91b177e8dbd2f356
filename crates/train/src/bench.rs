//! The figures of a training step on this machine: its time, where that time goes by operation, and where memory goes.
//!
//! The step is [`crate::Stepper`]'s, as in a run, under the meter of `kernels`. Not here: how it is shown, and the step
//! beside PyTorch's, which is `bench/train`.

mod documents;
mod roofline;
mod shape;

use std::time::Instant;

use kernels::gemm::Precision;
use kernels::meter::{Entry, Meter, Name};
use ledger::machine;
use ledger::median;
use ledger::progress::{Progress, Unit};
use ledger::seed::Seed;
use model::{Batch, Weights};

pub use documents::{RandomDocuments, TwoDocuments};
pub use roofline::{Bound, Least, Roofline};
pub use shape::Shape;

use crate::{Batches, Error, Plan, Settings, Stepper, Trained};

/// Steps before the measured ones. The first finds its memory untouched; by the second it is known how long one takes.
const WARM_UP: u64 = 2;
/// A step of this many seconds is long enough to measure. Longer ones get fewer micro-batches, but at least one.
const LONG: f64 = 3.0;

/// What is to be measured.
pub struct Bench<'a> {
    /// The model and the micro-batch.
    pub plan: &'a Plan,
    /// The `[train]` section, as a run obeys it.
    pub settings: &'a Settings,
    /// Batches of the plan's rows and length.
    pub batches: &'a dyn Batches,
    /// Measured steps; at least one.
    pub steps: u32,
    /// What the random weights follow from.
    pub seed: Seed,
    /// Where to report.
    pub progress: &'a dyn Progress,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The arithmetic of the products.
    pub precision: Precision,
    /// Trained parameters.
    pub parameters: u64,
    /// Micro-batches of a measured step; fewer than the plan's where those would take too long.
    pub micro_batches: u32,
    /// Tokens of a measured step.
    pub tokens: u64,
    /// Documents, or parts of them, in the first measured step's batches.
    pub documents: u64,
    /// Seconds of each measured step, in order.
    pub seconds: Vec<f64>,
    /// Mean loss of the last step, in nats.
    pub loss: f64,
    /// [`Trained::flops_per_token`] at the plan's row length.
    pub flops_per_token: f64,
    /// Where memory went.
    pub memory: Memory,
    /// Where the time went.
    pub breakdown: Breakdown,
}

/// Bytes that a training step holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Parameters.
    pub weights: u64,
    /// Their gradients; of an untied embedding those of the tokens that occurred.
    pub gradients: u64,
    /// AdamW's two moments.
    pub moments: u64,
    /// What layers keep from their forward for their backward.
    pub activations: u64,
    /// Other buffers of a pass: the residual stream, gradients on their way, logits.
    pub scratch: u64,
    /// The most that the process held, all of these and the program included; `None` where the system does not say.
    pub peak: Option<u64>,
}

/// The operations of a step, on average over the half of the steps whose times are nearest to the median: a step that
/// another program disturbed is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Breakdown {
    /// Steps that the means are over.
    pub steps: usize,
    /// Seconds of such a step.
    pub seconds: f64,
    /// Operations, the longest first.
    pub operations: Vec<Share>,
}

/// One kind of operation in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Which.
    pub name: Name,
    /// Calls.
    pub calls: f64,
    /// Seconds, without those of operations that it calls.
    pub seconds: f64,
    /// Floating-point operations.
    pub flops: f64,
    /// Bytes that must be read at least.
    pub read: f64,
    /// Bytes that must be written at least.
    pub written: f64,
}

impl Measured {
    /// The median step's seconds.
    pub fn median(&self) -> f64 {
        median(&self.seconds)
    }

    /// Tokens a second at the median.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.median()
    }

    /// Floating-point operations a second at the median, by the model's formula.
    pub fn flops_per_second(&self) -> f64 {
        self.flops_per_token * self.tokens_per_second()
    }
}

impl Memory {
    /// All that is known by name.
    pub fn named(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.activations + self.scratch
    }
}

impl Breakdown {
    /// Seconds of a step that no operation accounts for: filling batches, and what happens between operations.
    pub fn rest(&self) -> f64 {
        self.seconds - self.operations.iter().map(|share| share.seconds).sum::<f64>()
    }

    /// `steps` are their seconds and entries; at least one.
    fn new(mut steps: Vec<(f64, Vec<Entry>)>) -> Self {
        steps.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let quarter = steps.len() / 4;
        let middle = &steps[quarter..steps.len() - quarter];
        let count = middle.len() as f64;
        let mut operations: Vec<Share> = Vec::new();
        for entry in middle.iter().flat_map(|(_, entries)| entries) {
            let one = Share {
                name: entry.name,
                calls: entry.calls as f64 / count,
                seconds: entry.time.as_secs_f64() / count,
                flops: entry.cost.flops as f64 / count,
                read: entry.cost.read as f64 / count,
                written: entry.cost.written as f64 / count,
            };
            match operations.iter_mut().find(|share| share.name == one.name) {
                Some(share) => {
                    share.calls += one.calls;
                    share.seconds += one.seconds;
                    share.flops += one.flops;
                    share.read += one.read;
                    share.written += one.written;
                }
                None => operations.push(one),
            }
        }
        operations.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        let seconds = middle.iter().map(|(seconds, _)| seconds).sum::<f64>() / count;
        Self { steps: middle.len(), seconds, operations }
    }
}

/// Trains random weights for a few steps and gives their figures. It holds what training holds.
///
/// Runs on the threads of rayon's current pool, or of the global one.
pub fn run(bench: &Bench) -> Result<Measured, Error> {
    // One entry into the pool, as in a run; and the meter hears one thread only.
    rayon::scope(|_| measure(bench))
}

fn measure(bench: &Bench) -> Result<Measured, Error> {
    let Bench { plan, settings, batches, steps, seed, progress } = *bench;
    let steps = u64::from(steps.max(1));
    let task = progress.begin("measure", Some(WARM_UP + steps), Unit::Steps);
    let mut weights = Weights::init(&plan.model, &mut seed.stream("bench.init", 0))?;
    let mut stepper = Stepper::new(&weights, plan.rows, plan.seq_len, settings);
    let mut meter = Meter::start();
    let (mut micro_batches, mut documents, mut loss) = (1, 0, f64::NAN);
    let mut measured = Vec::with_capacity(steps as usize);
    for step in 0..WARM_UP + steps {
        meter.take();
        let began = Instant::now();
        let fill = |micro, batch: &mut Batch| batches.fill(step, micro, batch);
        let gradient = stepper.step(&mut weights, micro_batches, step + 1, plan.learning_rate, fill)?;
        let seconds = began.elapsed().as_secs_f64();
        let entries = meter.take();
        task.position(step + 1);
        if step + 1 == WARM_UP {
            micro_batches = plan.accumulation.clamp(1, (LONG / seconds).max(1.0) as u32);
            documents = count_documents(plan, batches, WARM_UP, micro_batches);
        } else if step >= WARM_UP {
            measured.push((seconds, entries));
            loss = gradient.sums.mean();
        }
    }
    drop(meter);
    let bytes = 4 * weights.values().len() as u64;
    let activations = stepper.workspace().activation_bytes() as u64;
    let memory = Memory {
        weights: bytes,
        gradients: stepper.last_gradients().bytes() as u64,
        moments: 2 * bytes,
        activations,
        scratch: stepper.workspace().bytes() as u64 - activations,
        peak: machine::peak_memory(),
    };
    Ok(Measured {
        precision: stepper.precision(),
        parameters: plan.model.parameters(),
        micro_batches,
        tokens: (plan.rows * plan.seq_len) as u64 * u64::from(micro_batches),
        documents,
        seconds: measured.iter().map(|(seconds, _)| *seconds).collect(),
        loss,
        flops_per_token: weights.flops_per_token(plan.seq_len),
        memory,
        breakdown: Breakdown::new(measured),
    })
}

/// How many documents, or parts of them, the rows of a step hold.
fn count_documents(plan: &Plan, batches: &dyn Batches, step: u64, micro_batches: u32) -> u64 {
    let mut batch = Batch::new(plan.rows, plan.seq_len);
    let mut count = 0;
    for micro in 0..micro_batches {
        batches.fill(step, micro, &mut batch);
        let places = batch.document_starts.iter().enumerate();
        count += places.filter(|&(place, &start)| place % plan.seq_len == start as usize).count() as u64;
    }
    count
}

#[cfg(test)]
mod tests;
