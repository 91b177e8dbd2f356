//! How long each stage of curation takes a core: the same readers, steps and passes, with a clock between them.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ledger::progress::{Progress, Silent, Task, Unit};
use ledger::seed::Seed;

use super::{BATCH_BYTES, BATCH_DOCUMENTS, Options, curate_with, first_pass};
use crate::batch::{Builder, Record};
use crate::funnel::Count;
use crate::read::{self, Flow, Sink};
use crate::source::{self, Source};
use crate::steps::{self, Step};
use crate::{Error, Settings};

/// What a stage was given, and how long it took one thread.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The step's name, or what the pass is called while it runs.
    pub name: String,
    /// Documents that came in.
    pub documents: u64,
    /// Bytes of text that came in, pages as they are. Of reading: what came out.
    pub bytes: u64,
    /// Time.
    pub time: Duration,
}

impl Stage {
    fn new(name: String) -> Self {
        Self { name, documents: 0, bytes: 0, time: Duration::ZERO }
    }

    fn add(&mut self, given: Count, time: Duration) {
        self.documents += given.documents;
        self.bytes += given.bytes;
        self.time += time;
    }
}

/// Curates the sources once and says how long each stage took one thread: reading, each step over documents, and the passes
/// over the corpus in their order. What comes out goes to `scratch`, a folder that is empty or not there, and is of no use
/// afterwards. Call it in a pool of one thread; the passes use rayon's current one.
///
/// Documents are read twice: once through the steps, on the calling thread, with a clock between them, and once by
/// [`curate_with`], which lends the passes that follow their input. What writing and reading the work folder takes during the
/// first pass is in neither.
///
/// # Errors
/// As [`curate_with`].
pub fn stages(
    settings: &Settings,
    sources: &[Source],
    scratch: &Path,
    seed: Seed,
    options: &Options,
) -> Result<Vec<Stage>, Error> {
    settings.validate()?;
    let inputs = source::expand_without(sources, settings, &[scratch])?;
    let steps = steps::per_document(settings, &[])?;
    let names = std::iter::once("read").chain(steps.iter().map(|step| step.name()));
    let stages = names.map(|name| Stage::new(name.to_owned())).collect();
    let mut clocked =
        Clocked { settings, steps, stages, builder: Builder::new(0), began: Instant::now(), failed: None };
    for input in &inputs.inputs {
        options.check()?;
        if read::read(input, settings, &Silent, &mut clocked)?.is_break() {
            break;
        }
    }
    let _ = clocked.send();
    if let Some(error) = clocked.failed {
        return Err(error);
    }
    let mut stages = clocked.stages;

    let passes = Passes::default();
    let out = scratch.join("documents");
    let funnel = curate_with(settings, sources, &[], &out, seed, &passes, options)?;
    // Each pass is given what the one before left; looking for duplicates and for rules of the whole corpus removes nothing yet.
    let is_stage = |name: &str| stages.iter().any(|stage| stage.name == name);
    let last = funnel.steps.iter().rfind(|step| is_stage(&step.name));
    let given =
        last.map_or(Count::default(), |step| Count { documents: step.documents_out, bytes: step.bytes_out });
    let ended = std::mem::take(&mut *passes.0.lock().unwrap_or_else(PoisonError::into_inner));
    for (name, time) in ended.into_iter().filter(|(name, _)| name != first_pass::READING) {
        match stages.iter_mut().find(|stage| stage.name == name) {
            Some(stage) => stage.time += time,
            None => {
                let mut stage = Stage::new(name);
                stage.add(given, time);
                stages.push(stage);
            }
        }
    }
    Ok(stages)
}

/// Takes what is read through the steps at once; what is not spent in them was spent on reading.
struct Clocked<'a> {
    settings: &'a Settings,
    steps: Vec<Box<dyn Step>>,
    /// Reading, then a stage a step.
    stages: Vec<Stage>,
    builder: Builder,
    /// When the reader went on.
    began: Instant,
    failed: Option<Error>,
}

impl Clocked<'_> {
    fn send(&mut self) -> Flow {
        let mut batch = self.builder.finish();
        self.stages[0].add(first_pass::count(&batch), self.began.elapsed());
        for (step, stage) in self.steps.iter().zip(&mut self.stages[1..]) {
            let given = first_pass::count(&batch);
            let start = Instant::now();
            match first_pass::apply_all(std::slice::from_ref(step), &self.settings.removed, batch) {
                Ok((kept, _)) => batch = kept,
                Err(error) => {
                    self.failed = Some(error);
                    return Flow::Break(());
                }
            }
            stage.add(given, start.elapsed());
        }
        self.began = Instant::now();
        Flow::Continue(())
    }
}

impl Sink for Clocked<'_> {
    fn record(&mut self, record: Record) -> Flow {
        self.builder.push(&record);
        match self.builder.text_bytes() >= BATCH_BYTES || self.builder.len() >= BATCH_DOCUMENTS {
            true => self.send(),
            false => Flow::Continue(()),
        }
    }

    fn skip(&mut self, _: String, _: String) -> Flow {
        Flow::Continue(())
    }

    fn ignore(&mut self, _: &str) {}
}

/// The passes that have ended, with their times.
#[derive(Default)]
struct Passes(Arc<Mutex<Vec<(String, Duration)>>>);

struct Pass {
    ended: Arc<Mutex<Vec<(String, Duration)>>>,
    name: String,
    began: Instant,
}

impl Progress for Passes {
    fn begin(&self, label: &str, _: Option<u64>, _: Unit) -> Box<dyn Task> {
        Box::new(Pass { ended: self.0.clone(), name: label.to_owned(), began: Instant::now() })
    }

    fn note(&self, _: &str) {}

    fn warn(&self, _: &str) {}
}

impl Task for Pass {
    fn advance(&self, _: u64) {}

    fn position(&self, _: u64) {}

    fn message(&self, _: &str) {}
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push((std::mem::take(&mut self.name), self.began.elapsed()));
    }
}
