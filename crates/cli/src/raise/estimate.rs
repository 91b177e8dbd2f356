//! What a run will do and roughly how long it takes, said before it begins; and a refusal where memory cannot hold it.

use std::time::Duration;

use kernels::gemm;
use ledger::machine::Machine;
use owo_colors::OwoColorize;
use train::Plan;

use super::Context;
use crate::errors::Error;
use crate::report::scale::{bytes, count, short};

/// Bytes that training holds for each parameter: weights, gradients and both moments, all f32.
const TRAINING_BYTES: u64 = 16;

/// Says it. `stages` are those that are not known to be complete; those in `anew` begin from nothing.
pub fn announce(context: &Context, stages: &[&str], anew: &[&str]) {
    let plan = &context.plan;
    let model = &plan.model;
    let machine = Machine::this();
    let shown = context.shown;
    shown.line(&format!("{} {}", "raising".bold(), context.run.root().display().bold()));
    shown.line(&format!(
        "  model   {} parameters: {} layers, width {}, {} heads ({} for keys and values), {} tokens of vocabulary",
        short(model.parameters() as f64),
        model.layers,
        count(model.dim as u64),
        model.heads,
        model.kv_heads,
        count(model.vocab_size as u64),
    ));
    shown.line(&format!(
        "  train   {} tokens in {} steps of {}",
        short(plan.tokens as f64),
        count(plan.steps()),
        count(plan.tokens_per_step())
    ));
    shown.line(&format!("  read    {}", context.recipe.sources.join(", ")));
    let left =
        if stages.is_empty() { "nothing: all of it is complete".to_owned() } else { stages.join(" → ") };
    shown.line(&format!("  do      {left}"));
    let seconds = seconds(context, stages, anew);
    shown.line(&format!("  time    about {} on {} cores", rough(seconds), machine.cores));
    shown.line("");
}

/// Refuses a plan that memory cannot hold.
pub fn refuse(plan: &Plan) -> Result<(), Error> {
    let machine = Machine::this();
    let needed = plan.model.parameters().saturating_mul(TRAINING_BYTES);
    if machine.memory == 0 || needed <= machine.memory {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!(
            "training {} parameters holds {} and this machine has {}",
            short(plan.model.parameters() as f64),
            bytes(needed),
            bytes(machine.memory)
        ),
        hint: "choose a smaller size".to_owned(),
    })
}

/// Up to so many parameters, steps are tried; beyond, a trial would hold gigabytes and take seconds.
const TRIED: u64 = 30_000_000;
/// Share of the machine's peak that a training step of a large model reaches.
const SHARE_OF_PEAK: f64 = 0.6;

/// The trainings among `stages`: a small model's by the steps that are left and a trial of one of each, a large one's
/// from its operations and the machine's measured peak. The other stages by experience: reading the registry and
/// measuring take a minute, other sources mostly less.
fn seconds(context: &Context, stages: &[&str], anew: &[&str]) -> f64 {
    let plan = &context.plan;
    let has = |name: &str| stages.contains(&name);
    let mut seconds = 0.0;
    if has("curate") {
        seconds += if context.recipe.sources.iter().any(|source| source == "registry") { 60.0 } else { 20.0 };
    }
    let mut trainings = Vec::new();
    if has("pretrain") {
        trainings.push(Training {
            stage: "pretrain",
            rows: plan.rows,
            seq_len: plan.seq_len,
            accumulation: plan.accumulation,
            steps: plan.steps(),
        });
    }
    // Settings that have no plan, or cannot be trained, are refused where they are used.
    if has("sft")
        && let Ok(sft) = context.recipe.sft.plan(&plan.model)
    {
        trainings.push(Training {
            stage: "sft",
            rows: sft.rows,
            seq_len: sft.seq_len,
            accumulation: sft.accumulation,
            steps: sft.steps,
        });
    }
    let left = |training: &Training| match anew.contains(&training.stage) {
        true => training.steps,
        false => training.left(context),
    };
    seconds + trainings.iter().map(|training| training.seconds(context, left(training))).sum::<f64>()
}

/// A training that will be done.
struct Training {
    stage: &'static str,
    rows: usize,
    seq_len: usize,
    accumulation: u32,
    steps: u64,
}

impl Training {
    /// Of so many of its steps.
    fn seconds(&self, context: &Context, steps: u64) -> f64 {
        let (model, settings) = (&context.plan.model, &context.recipe.train);
        let passes = (steps * u64::from(self.accumulation)) as f64;
        if model.parameters() <= TRIED {
            let trial = train::trial(model, self.rows, self.seq_len, settings);
            return trial.map_or(f64::INFINITY, |seconds| seconds * passes);
        }
        let tokens = (self.rows * self.seq_len) as f64 * passes;
        let operations = model.training_flops_per_token(self.seq_len) * tokens;
        let peak = gemm::measured_peak_gflops(settings.precision.resolve(), Duration::from_millis(100)) * 1e9;
        operations / (peak * SHARE_OF_PEAK)
    }

    /// Steps that are left. A training that never ended goes on from its newest checkpoint, if that is still of the same
    /// settings, which only the training itself finds out.
    fn left(&self, context: &Context) -> u64 {
        if context.run.stage(self.stage).is_some() {
            return self.steps;
        }
        let checkpoints = train::checkpoint::list(&context.run.checkpoints(self.stage)).unwrap_or_default();
        self.steps - checkpoints.last().map_or(0, |(step, _)| *step).min(self.steps)
    }
}

/// A duration in the precision that an estimate has.
fn rough(seconds: f64) -> String {
    const YEAR: f64 = 365.25 * 86_400.0;
    match seconds {
        s if s < 90.0 => "a minute".to_owned(),
        s if s < 3_600.0 => format!("{:.0} minutes", s / 60.0),
        s if s < 2.0 * 86_400.0 => format!("{:.0} hours", s / 3_600.0),
        s if s < 2.0 * YEAR => format!("{:.0} days", s / 86_400.0),
        s => format!("{} years", short((s / YEAR).round())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_rough() {
        for (seconds, text) in [
            (20.0, "a minute"),
            (800.0, "13 minutes"),
            (20_000.0, "6 hours"),
            (1e6, "12 days"),
            (1e12, "31.7K years"),
        ] {
            assert_eq!(rough(seconds), text);
        }
    }
}
