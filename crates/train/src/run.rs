//! The loop of training: batches in, weights out, and whatever happens in between recorded.
//!
//! The losses and weights of a run follow from its [`Job`] alone: not from the number of threads, nor from how often it
//! was interrupted and resumed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ledger::digest::Digest;
use ledger::events;
use ledger::metrics::Metrics;
use ledger::progress::{Progress, Task, Unit};
use model::Weights;
use serde_json::json;

use crate::checkpoint::{self, Saver, State, Tensors, TensorsMut};
use crate::optimizer::Optimizer;
use crate::pace::Pace;
use crate::trained::Trained;
use crate::{Batches, Error, Schedule, Settings, Stepper};

/// What is to be trained, on what, how, and where its records go.
pub struct Job<'a, T = Weights> {
    /// The stage, as metrics and events name it: `pretrain`, `sft`, ...
    pub stage: &'a str,
    /// The `[train]` section. Its plan numbers were applied by [`Settings::plan`]; here the optimizer's, the watch's and
    /// the checkpoints' count.
    pub settings: &'a Settings,
    /// Steps and learning rates.
    pub schedule: Schedule,
    /// Rows of a micro-batch.
    pub rows: usize,
    /// Tokens of a row.
    pub seq_len: usize,
    /// Micro-batches of a step.
    pub accumulation: u32,
    /// Where the batches come from.
    pub batches: &'a dyn Batches,
    /// Digests of what the batches are made from, so that a checkpoint of other data is never resumed.
    pub inputs: BTreeMap<String, Digest>,
    /// The weights to begin with: a model's ([`Weights`]), or adapters over a frozen one ([`crate::Tuned`]).
    pub initial: T,
    /// Folder of the checkpoints.
    pub checkpoints: PathBuf,
    /// Folder of `metrics.jsonl` and `events.jsonl`.
    pub metrics: PathBuf,
    /// Where to report.
    pub progress: &'a dyn Progress,
    /// Set by another thread to end the run after the current step, with a checkpoint.
    pub stop: &'a AtomicBool,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome<T = Weights> {
    /// All steps are done.
    Finished(Finished<T>),
    /// The stop flag was seen; running the same job again goes on from here.
    Stopped(Stopped),
}

/// A run that did all its steps.
#[derive(Debug)]
pub struct Finished<T = Weights> {
    /// The trained weights.
    pub weights: T,
    /// Steps, all resumes together.
    pub steps: u64,
    /// Tokens, all resumes together.
    pub tokens: u64,
    /// Seconds of training, all resumes together.
    pub seconds: f64,
    /// Mean loss of the last steps (up to 64), in nats a token.
    pub final_loss: f64,
    /// Tokens a second, all resumes together.
    pub tokens_per_second: f64,
    /// Share of the processor's measured peak of matrix products, in [0, 1].
    pub share_of_peak: f64,
}

/// A run that was asked to stop.
#[derive(Debug)]
pub struct Stopped {
    /// Steps that are done.
    pub step: u64,
    /// The checkpoint that holds them.
    pub checkpoint: PathBuf,
}

/// Trains, from the newest checkpoint under `job.checkpoints` where one of this very job exists.
///
/// Each step is: the gradients of `accumulation` micro-batches, added up; their mean over all loss weights; clipping by
/// global norm; AdamW. A loss that is not a number or a gradient far longer than usual is an error that names the step
/// and its documents; the checkpoints from before it stay.
///
/// Runs on the threads of rayon's current pool, or of the global one.
pub fn run<T: Trained + Send>(job: Job<T>) -> Result<Outcome<T>, Error> {
    // One entry into the pool for the whole run, not one for each operation.
    rayon::scope(|_| {
        let mut trainer = Trainer::new(job)?;
        while trainer.state.step < trainer.job.schedule.steps {
            trainer.step()?;
            if trainer.job.stop.load(Ordering::Relaxed) && trainer.state.step < trainer.job.schedule.steps {
                return trainer.stop().map(Outcome::Stopped);
            }
            trainer.save_if_due()?;
        }
        trainer.end().map(Outcome::Finished)
    })
}

struct Trainer<'a, T> {
    /// With the weights as they are now in place of the initial ones.
    job: Job<'a, T>,
    stepper: Stepper,
    state: State,
    saver: Saver,
    /// The newest checkpoint's step, where there is one.
    saved_step: Option<u64>,
    last_save: Instant,
    metrics: Metrics,
    task: Box<dyn Task>,
    pace: Pace,
}

impl<'a, T: Trained> Trainer<'a, T> {
    fn new(mut job: Job<'a, T>) -> Result<Self, Error> {
        job.settings.validate()?;
        check(&job)?;
        let specs = job.initial.tensors();
        let identity = identity(&job)?;
        let mut stepper = Stepper::new(&job.initial, job.rows, job.seq_len, job.settings);
        let optimizer = stepper.optimizer_mut();
        let mut into = TensorsMut {
            weights: job.initial.values_mut(),
            first: &mut optimizer.first,
            second: &mut optimizer.second,
        };
        let restored =
            checkpoint::restore_newest(&job.checkpoints, &identity, &specs, &mut into, job.progress)?;
        let (state, from) = match restored {
            Some((state, path)) => (state, Some(path)),
            None => (State::new(job.stage, identity), None),
        };
        let metrics = Metrics::open_stage(&job.metrics, job.stage, state.step + 1)?;
        let kind = if from.is_some() { "resume" } else { "start" };
        events::append(
            &job.metrics,
            kind,
            json!({"stage": job.stage, "step": state.step, "steps": job.schedule.steps}),
        )?;
        if let Some(path) = &from {
            job.progress.note(&format!("{} goes on from {}", job.stage, path.display()));
        }

        let flops = job.initial.flops_per_token(job.seq_len);
        let tokens = job.rows * job.seq_len * job.accumulation as usize;
        let task = job.progress.begin(job.stage, Some(job.schedule.steps), Unit::Steps);
        task.position(state.step);
        Ok(Self {
            saver: Saver::new(job.checkpoints.clone(), specs, job.settings.keep_checkpoints),
            saved_step: from.map(|_| state.step),
            last_save: Instant::now(),
            pace: Pace::new(tokens as f64, flops, stepper.precision()),
            stepper,
            state,
            metrics,
            task,
            job,
        })
    }

    fn step(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        let index = self.state.step;
        let Job { batches, accumulation, .. } = self.job;
        let fill = |micro, batch: &mut _| batches.fill(index, micro, batch);
        let gradient = self.stepper.gradients(&self.job.initial, accumulation, index + 1, fill)?;
        if gradient.sums.weight == 0.0 {
            let stage = self.job.stage.to_owned();
            return Err(Error::NothingToPredict { stage, step: index + 1, documents: self.documents(index) });
        }
        let (loss, norm) = (gradient.sums.mean(), gradient.norm);
        if let Some(what) = self.state.watch.judge(loss, norm, self.job.settings.spike_limit) {
            return Err(self.fault(index, what));
        }
        let rate = self.job.schedule.learning_rate(index);
        self.stepper.update(&mut self.job.initial, &gradient, index + 1, rate);

        let seconds = began.elapsed().as_secs_f64();
        self.pace.add(seconds);
        self.state.step += 1;
        self.state.seconds += seconds;
        self.state.watch.remember(loss, norm);
        let tokens_per_second = self.pace.tokens / seconds;
        let values = [
            ("loss", loss),
            ("learning_rate", f64::from(rate)),
            ("gradient_norm", norm),
            ("tokens_per_second", tokens_per_second),
            ("share_of_peak", self.pace.share_of_peak(tokens_per_second)),
            ("tokens", self.pace.tokens * self.state.step as f64),
        ];
        self.metrics.log(self.job.stage, self.state.step, &values)?;
        self.task.position(self.state.step);
        self.task.message(&self.pace.message(loss, self.job.schedule.steps - self.state.step));
        Ok(())
    }

    /// Begins a checkpoint when its time has come. The last step's is written by [`Trainer::end`].
    fn save_if_due(&mut self) -> Result<(), Error> {
        let settings = self.job.settings;
        let by_steps = settings.checkpoint_steps.is_some_and(|every| self.state.step.is_multiple_of(every));
        let by_time =
            self.last_save.elapsed().as_secs_f64() >= settings.checkpoint_interval.0 && !self.saver.is_busy();
        if (by_steps || by_time) && self.state.step < self.job.schedule.steps {
            // No checkpoint on the disk is newer than the metrics beside it.
            self.metrics.sync()?;
            let began = Instant::now();
            let tensors = tensors(&self.job.initial, self.stepper.optimizer());
            self.saver.begin(self.state.clone(), &tensors)?;
            self.last_save = Instant::now();
            self.saved_step = Some(self.state.step);
            let stall = began.elapsed().as_secs_f64();
            let fields = json!({"stage": self.job.stage, "step": self.state.step, "stall_seconds": stall});
            events::append(&self.job.metrics, "checkpoint", fields)?;
        }
        Ok(())
    }

    fn save_now(&mut self) -> Result<PathBuf, Error> {
        let path = checkpoint::path(&self.job.checkpoints, self.state.step);
        self.metrics.sync()?;
        self.saver.finish()?;
        if self.saved_step != Some(self.state.step) {
            self.saver.save_now(&self.state, &tensors(&self.job.initial, self.stepper.optimizer()))?;
            self.saved_step = Some(self.state.step);
        }
        Ok(path)
    }

    fn stop(mut self) -> Result<Stopped, Error> {
        let checkpoint = self.save_now()?;
        let step = self.state.step;
        events::append(&self.job.metrics, "stop", json!({"stage": self.job.stage, "step": step}))?;
        self.job.progress.note(&format!(
            "{} stopped after step {step} of {}; the same command goes on from there",
            self.job.stage, self.job.schedule.steps
        ));
        Ok(Stopped { step, checkpoint })
    }

    fn end(mut self) -> Result<Finished<T>, Error> {
        self.save_now()?;
        let (steps, seconds) = (self.state.step, self.state.seconds);
        let tokens = steps * self.pace.tokens as u64;
        let tokens_per_second = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        let finished = Finished {
            weights: self.job.initial,
            steps,
            tokens,
            seconds,
            final_loss: self.state.watch.loss(),
            tokens_per_second,
            share_of_peak: self.pace.share_of_peak(tokens_per_second),
        };
        let fields =
            json!({"stage": self.job.stage, "step": steps, "loss": finished.final_loss, "seconds": seconds});
        events::append(&self.job.metrics, "finish", fields)?;
        Ok(finished)
    }

    /// The error for a step that went wrong, after everything begun was brought to an end.
    fn fault(&mut self, index: u64, what: String) -> Error {
        let documents = self.documents(index);
        let fields =
            json!({"stage": self.job.stage, "step": index + 1, "fault": what, "documents": documents});
        let recorded = events::append(&self.job.metrics, "fault", fields);
        if let Err(error) = self.saver.finish().and(recorded.map_err(Error::from)) {
            self.job.progress.warn(&error.to_string());
        }
        let checkpoint = checkpoint::newest(&self.job.checkpoints).ok().flatten();
        Error::Diverged { stage: self.job.stage.to_owned(), step: index + 1, what, documents, checkpoint }
    }

    fn documents(&self, index: u64) -> String {
        let parts: Vec<_> =
            (0..self.job.accumulation).map(|micro| self.job.batches.describe(index, micro)).collect();
        parts.join("; ")
    }
}

fn tensors<'a>(trained: &'a impl Trained, optimizer: &'a Optimizer) -> Tensors<'a> {
    Tensors { weights: trained.values(), first: &optimizer.first, second: &optimizer.second }
}

fn check<T: Trained>(job: &Job<T>) -> Result<(), Error> {
    job.initial.config().validate()?;
    let parameters = job.initial.tensors().last().map_or(0, |tensor| tensor.range.end);
    let weights = job.initial.values().len();
    let fault = if weights != parameters {
        format!("its configuration has {parameters} parameters, and there are {weights} weights")
    } else if job.rows == 0 || job.seq_len == 0 || job.accumulation == 0 {
        format!("a step has {} x {} rows of {} tokens", job.accumulation, job.rows, job.seq_len)
    } else {
        return Ok(());
    };
    Err(Error::Job { stage: job.stage.to_owned(), reason: fault })
}

/// Digest of everything that decides the numbers of a run.
fn identity<T: Trained>(job: &Job<T>) -> Result<Digest, Error> {
    let initial = Digest::of_bytes(bytemuck::cast_slice(job.initial.values()));
    Ok(Digest::of_value(&json!({
        "stage": job.stage,
        "settings": job.settings.deciding(),
        "schedule": job.schedule,
        "shape": [job.rows as u64, job.seq_len as u64, u64::from(job.accumulation)],
        "inputs": job.inputs,
        "model": job.initial.describe()?,
        "initial": initial,
    }))?)
}
