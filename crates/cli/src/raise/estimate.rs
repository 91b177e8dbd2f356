//! What a run will do and roughly how long it takes, said before it begins; and a refusal where memory cannot hold it.

use std::time::Duration;

use kernels::gemm;
use ledger::machine::Machine;
use owo_colors::OwoColorize;
use train::Plan;

use super::{Context, STAGES};
use crate::errors::Error;
use crate::report::scale::{bytes, count, short};

/// Bytes that training holds for each parameter: weights, gradients and both moments, all f32.
const TRAINING_BYTES: u64 = 16;

/// Says it.
pub fn announce(context: &Context) {
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
    shown.line(&format!("  do      {}", STAGES.join(" → ")));
    let seconds = seconds(context);
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
        hint: "choose a smaller --size".to_owned(),
    })
}

/// Up to so many parameters, steps are tried; beyond, a trial would hold gigabytes and take seconds.
const TRIED: u64 = 30_000_000;
/// Share of the machine's peak that a training step of a large model reaches.
const SHARE_OF_PEAK: f64 = 0.6;

/// Both trainings: a small model's by the steps that it takes and a trial of one of each, a large one's from its
/// operations and the machine's measured peak. The other stages by experience: reading the registry and measuring take
/// a minute, other sources mostly less.
fn seconds(context: &Context) -> f64 {
    let plan = &context.plan;
    let reading = if context.recipe.sources.iter().any(|source| source == "registry") { 60.0 } else { 20.0 };
    // Settings that have no plan, or cannot be trained, are refused where they are used.
    let tuning = context.recipe.sft.plan(&plan.model).ok();
    if plan.model.parameters() <= TRIED {
        let settings = &context.recipe.train;
        let step =
            |rows, seq_len| train::trial(&plan.model, rows, seq_len, settings).unwrap_or(f64::INFINITY);
        let pretraining =
            step(plan.rows, plan.seq_len) * (plan.steps() * u64::from(plan.accumulation)) as f64;
        let tuning = tuning.map_or(0.0, |sft| {
            step(sft.rows, sft.seq_len) * (sft.steps * u64::from(sft.accumulation)) as f64
        });
        return reading + pretraining + tuning;
    }
    let tokens = plan.tokens + tuning.map_or(0, |sft| sft.tokens());
    let operations = plan.model.training_flops_per_token(plan.seq_len) * tokens as f64;
    let precision = context.recipe.train.precision.resolve();
    let peak = gemm::measured_peak_gflops(precision, Duration::from_millis(100)) * 1e9;
    reading + operations / (peak * SHARE_OF_PEAK)
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
