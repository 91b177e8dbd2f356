//! Curation whose first pass others do, beside one in the process.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow_array::RecordBatch;
use ledger::progress::{Silent, Task};
use ledger::seed::Seed;

use super::tests::{corpus, files};
use super::*;
use crate::funnel::Funnel;

/// Does portions here, through JSON as they would travel, and cuts the batches otherwise than the worker did.
#[derive(Debug)]
pub(super) struct Here {
    portion_bytes: u64,
    rows: usize,
    /// Ends with an error after so many batches.
    left: AtomicU64,
    portions: AtomicU64,
}

impl Here {
    pub fn new(portion_bytes: u64, rows: usize) -> Here {
        Here { portion_bytes, rows, left: AtomicU64::new(u64::MAX), portions: AtomicU64::new(0) }
    }
}

impl Elsewhere for Here {
    fn portion_bytes(&self) -> u64 {
        self.portion_bytes
    }

    fn run(
        &self,
        job: &Job,
        portions: Vec<Portion>,
        _: &dyn Task,
        _: &(dyn Fn() -> bool + Sync),
        take: &mut dyn FnMut(usize, RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let job: Job = serde_json::from_str(&serde_json::to_string(job).unwrap()).unwrap();
        let worker = Worker::new(&job)?;
        for (index, portion) in portions.into_iter().enumerate() {
            self.portions.fetch_add(1, Ordering::Relaxed);
            let text = serde_json::to_string(&portion).unwrap();
            let travelled: Portion = serde_json::from_str(&text).unwrap();
            assert_eq!(travelled, portion);
            worker.run(travelled, &AtomicBool::new(false), |batch| {
                assert_eq!(batch.schema(), *worker.schema());
                if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    return Err(Error::Elsewhere { reason: "on purpose".into(), hint: None });
                }
                for from in (0..batch.num_rows()).step_by(self.rows) {
                    take(index, batch.slice(from, self.rows.min(batch.num_rows() - from)))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

fn settings(folder: &Path) -> Settings {
    let list = folder.join("domains.txt");
    std::fs::write(&list, "c.d\n").unwrap();
    let mut settings = Settings::default();
    settings.url.domain_files = vec![list.to_str().unwrap().into()];
    settings.gopher_quality.min_words = 20;
    settings.shard_bytes = 20_000;
    settings.removed.fraction = 0.3;
    // A value that an inexact way through text would change.
    settings.gopher_repetition.max_duplicate_line_fraction = 0.1 + 0.2;
    settings
}

fn run(folder: &Path, out: &str, sources: &[Source], options: &Options) -> Result<Funnel, Error> {
    let settings = settings(folder);
    curate_with(&settings, sources, &["ferry".into()], &folder.join(out), Seed(9), &Silent, options)
}

#[test]
fn portions_done_elsewhere_give_the_same_folder() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let sources = corpus(folder);
    run(folder, "calm", &sources, &Options::default()).unwrap();
    let calm = files(&folder.join("calm"));
    assert!(calm.keys().any(|name| name.starts_with("removed/")), "{:?}", calm.keys());
    for (portion_bytes, rows, keep_work, checkpoint_bytes) in
        [(1, 1, true, 3_000), (1, 1000, false, 128 << 20), (20_000, 3, true, 2_000), (u64::MAX, 7, false, 1)]
    {
        let here = Here::new(portion_bytes, rows);
        let work = folder.join("work");
        let options = Options {
            work: Some(&work),
            keep_work,
            checkpoint_bytes,
            elsewhere: Some(&here),
            ..Options::default()
        };
        run(folder, "out", &sources, &options).unwrap();
        assert!(files(&folder.join("out")) == calm, "{portion_bytes} {rows} {keep_work}");
        let portions = here.portions.load(Ordering::Relaxed);
        assert_eq!(
            portions,
            if portion_bytes == 1 {
                8
            } else if rows == 7 {
                1
            } else {
                portions.clamp(2, 7)
            }
        );
        if keep_work {
            // What others left, a curation in the process takes over.
            let options = Options { elsewhere: None, ..options };
            run(folder, "again", &sources, &options).unwrap();
            assert!(files(&folder.join("again")) == calm);
            std::fs::remove_dir_all(&work).unwrap();
        }
    }
}

#[test]
fn what_was_done_elsewhere_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let sources = corpus(folder);
    run(folder, "calm", &sources, &Options::default()).unwrap();
    let work = folder.join("work");
    let mut failures = 0;
    for attempt in 0.. {
        let here = Here::new(15_000, 5);
        here.left.store(9, Ordering::Relaxed);
        let elsewhere: Option<&dyn Elsewhere> = if attempt % 3 == 2 { None } else { Some(&here) };
        let stopped = AtomicBool::new(false);
        let stop = (attempt % 3 == 2).then(|| {
            stopped.store(failures < 4, Ordering::Relaxed);
            &stopped
        });
        let options =
            Options { work: Some(&work), checkpoint_bytes: 2_500, elsewhere, stop, ..Options::default() };
        match run(folder, "out", &sources, &options) {
            Ok(_) => break,
            Err(Error::Elsewhere { reason, .. }) => assert_eq!(reason, "on purpose"),
            Err(Error::Stopped) => {}
            Err(other) => panic!("{other}"),
        }
        failures += 1;
        assert!(failures < 60, "it never ends");
    }
    assert!(failures > 3, "{failures}");
    assert!(files(&folder.join("out")) == files(&folder.join("calm")));
}

/// Batches with the numbers of their portions.
type Sent = Vec<(usize, RecordBatch)>;

/// Spoils what travels.
#[derive(Debug)]
struct Spoiled(Mutex<Sent>, fn(Sent) -> Sent);

impl Elsewhere for Spoiled {
    fn portion_bytes(&self) -> u64 {
        20_000
    }

    fn run(
        &self,
        job: &Job,
        portions: Vec<Portion>,
        task: &dyn Task,
        go_on: &(dyn Fn() -> bool + Sync),
        take: &mut dyn FnMut(usize, RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        Here::new(1, 1000).run(job, portions, task, go_on, &mut |index, batch| {
            self.0.lock().unwrap().push((index, batch));
            Ok(())
        })?;
        let batches = std::mem::take(&mut *self.0.lock().unwrap());
        (self.1)(batches).into_iter().try_for_each(|(index, batch)| take(index, batch))
    }
}

#[test]
fn what_is_missing_or_differs_is_noticed() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let sources = corpus(folder);
    let spoilings: [fn(Sent) -> Sent; 4] = [
        |mut batches| {
            batches.pop();
            batches
        },
        |batches| batches.into_iter().filter(|(index, _)| *index != 1).collect(),
        |mut batches| {
            batches.extend(batches.last().cloned());
            batches
        },
        |_| Vec::new(),
    ];
    for (index, spoiling) in spoilings.into_iter().enumerate() {
        let spoiled = Spoiled(Mutex::default(), spoiling);
        let options = Options { elsewhere: Some(&spoiled), ..Options::default() };
        match run(folder, "out", &sources, &options) {
            Err(Error::Elsewhere { reason, .. }) => {
                assert!(reason.contains("not what was asked for"), "{reason}")
            }
            other => panic!("{index}: {other:?}"),
        }
    }

    // A worker on a machine whose files are others.
    let settings = settings(folder);
    let job = Job::new(&settings, &[], &Options::default()).unwrap();
    let inputs = source::expand_without(&sources, &settings, &[]).unwrap();
    let portion = Portion::new(&inputs.inputs, 0);
    let worker = Worker::new(&job).unwrap();
    let run = || worker.run(portion.clone(), &AtomicBool::new(false), |_| Ok(()));
    run().unwrap();
    let refused = |result: Result<(), Error>, file: &str| match result {
        Err(error @ Error::NotTheSame { .. }) => {
            assert!(error.to_string().contains(file) && error.hint().is_some(), "{error}");
        }
        other => panic!("{file}: {other:?}"),
    };
    let text = std::fs::read(folder.join("in/c3.txt")).unwrap();
    std::fs::write(folder.join("in/c3.txt"), &text[1..]).unwrap();
    refused(run(), "c3.txt");
    std::fs::remove_file(folder.join("in/c3.txt")).unwrap();
    refused(run(), "c3.txt");
    std::fs::write(folder.join("domains.txt"), "e.f\n").unwrap();
    refused(Worker::new(&job).map(|_| ()), "domains.txt");
    assert!(matches!(
        Worker::new(&job).map(|_| ()).and(worker.run(portion.clone(), &AtomicBool::new(true), |_| Ok(()))),
        Err(Error::NotTheSame { .. })
    ));
}
