//! A tiny model, documents that can be learnt, and a job over them.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ledger::progress::{Progress, Silent, Task, Unit};
use ledger::seed::Seed;
use model::{Batch, Config, Weights};
use train::quantity::Seconds;
use train::schedule::Shape;
use train::settings::Precision;
use train::{Batches, Error, Job, Outcome, PackedBatches, Schedule, Settings, Size, Trained};

pub const STEPS: u64 = 20;
pub const ROWS: usize = 3;
pub const SEQ_LEN: usize = 24;
pub const ACCUMULATION: u32 = 2;

pub fn config() -> Config {
    Config {
        dim: 16,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        ffn_dim: 24,
        vocab_size: 40,
        max_seq_len: 64,
        ..Size::Nano.plan().model
    }
}

pub fn initial() -> Weights {
    Weights::init(&config(), &mut Seed(3).stream("initial", 0)).unwrap()
}

/// Documents that count up by a step of their own, behind a first token as `<|begin_of_text|>` is.
pub fn batches() -> PackedBatches<Vec<Vec<u32>>> {
    let documents = (0..30)
        .map(|d| {
            (0..5 + d * 3 % 40)
                .map(|place| if place == 0 { 39 } else { (d + place * (1 + d % 3)) % 38 })
                .collect()
        })
        .collect();
    PackedBatches::new(documents, SEQ_LEN, ROWS, ACCUMULATION, Seed(5)).unwrap()
}

pub fn settings() -> Settings {
    Settings {
        precision: Precision::F32,
        checkpoint_steps: Some(3),
        checkpoint_interval: Seconds(3600.0),
        ..Settings::default()
    }
}

/// Batches that raise a flag while they fill a certain step, as Ctrl-C would, and may spoil it.
pub struct Watched<B> {
    pub inner: B,
    pub stop_at: Option<u64>,
    pub stop: AtomicBool,
    pub spoil: Option<(u64, f32)>,
}

impl<B> Watched<B> {
    pub fn new(inner: B) -> Self {
        Self { inner, stop_at: None, stop: AtomicBool::new(false), spoil: None }
    }
}

impl<B: Batches> Batches for Watched<B> {
    fn fill(&self, step: u64, micro: u32, batch: &mut Batch) {
        self.inner.fill(step, micro, batch);
        if self.stop_at == Some(step) {
            self.stop.store(true, Ordering::Relaxed);
        }
        if let Some((_, weight)) = self.spoil.filter(|&(spoilt, _)| spoilt == step) {
            batch.loss_weights.fill(weight);
        }
    }

    fn describe(&self, step: u64, micro: u32) -> String {
        self.inner.describe(step, micro)
    }
}

/// Trains all weights, in `folder` on `threads` threads.
pub fn train<B: Batches>(
    folder: &Path,
    batches: &Watched<B>,
    settings: &Settings,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Outcome, Error> {
    train_from(initial(), folder, batches, settings, threads, progress)
}

/// Trains `initial`.
pub fn train_from<T: Trained + Send, B: Batches>(
    initial: T,
    folder: &Path,
    batches: &Watched<B>,
    settings: &Settings,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Outcome<T>, Error> {
    let job = Job {
        stage: "pretrain",
        settings,
        schedule: Schedule {
            shape: Shape::Cosine,
            peak: 1e-2,
            final_fraction: 0.1,
            warmup_steps: 3,
            decay_steps: 0,
            steps: STEPS,
        },
        rows: ROWS,
        seq_len: SEQ_LEN,
        accumulation: ACCUMULATION,
        batches,
        inputs: Default::default(),
        initial,
        checkpoints: folder.join("checkpoints"),
        metrics: folder.to_owned(),
        progress,
        stop: &batches.stop,
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| train::run(job))
}

/// Step and bits of the loss of every line of metrics.
pub fn losses(folder: &Path) -> Vec<(u64, u64)> {
    let points = ledger::metrics::read(folder).unwrap();
    points.iter().map(|point| (point.step, point.values["loss"].to_bits())).collect()
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Keeps what a person would have been told.
#[derive(Default)]
pub struct Told(pub Mutex<Vec<String>>);

impl Progress for Told {
    fn begin(&self, _label: &str, _total: Option<u64>, _unit: Unit) -> Box<dyn Task> {
        Box::new(Silent)
    }

    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn warn(&self, text: &str) {
        self.note(text);
    }
}
