//! Tuning from end to end on a model of seconds: it learns, and interruptions leave no trace.

use align::sft::{Job, Outcome, sft};
use align::tasks::Kind;
use align::{Error, Settings};
use ledger::progress::{Progress, Silent, Task, Unit};
use ledger::seed::Seed;
use model::{Config, Weights};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokenizer::Tokenizer;
use train::quantity::Tokens;

const VOCABULARY: usize = 540;

fn tokenizer() -> Tokenizer {
    let texts =
        ["Spell the word. How do you spell it? Please spell the letters of a word for me: a b c d e."; 6];
    let settings = tokenizer::train::Settings { vocab_size: VOCABULARY, ..Default::default() };
    tokenizer::train::train(texts.iter(), &settings, &Silent).unwrap()
}

fn settings(steps: u64) -> Settings {
    let mut settings = Settings {
        tokens: Some(Tokens(steps * 4 * 64)),
        rows: Some(4),
        seq_len: Some(64),
        learning_rate: Some(3e-3),
        ..Settings::default()
    };
    settings.mixture = Kind::ALL.into_iter().map(|kind| (kind, 0.0)).collect();
    settings.mixture.insert(Kind::Spelling, 1.0);
    settings
}

fn tune(
    folder: &Path,
    settings: &Settings,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, Error> {
    let config = Config { vocab_size: VOCABULARY, ..train::Size::Nano.plan().model };
    let base = Weights::init(&config, &mut Seed(7).stream("base", 0)).unwrap();
    let train = train::Settings { precision: train::settings::Precision::F32, ..Default::default() };
    sft(Job {
        settings,
        train: &train,
        base,
        tokenizer: &tokenizer(),
        packages: &[],
        seed: Seed(7),
        checkpoints: folder.join("checkpoints"),
        metrics: folder.join("metrics"),
        progress,
        stop,
    })
}

fn finished(outcome: Outcome) -> train::Finished {
    match outcome.training {
        train::Outcome::Finished(finished) => finished,
        train::Outcome::Stopped(stopped) => panic!("stopped at step {}", stopped.step),
    }
}

/// Raises the stop flag when the training task has done so many steps.
struct StopAfter {
    steps: u64,
    stop: Arc<AtomicBool>,
}

struct Counted {
    done: AtomicU64,
    steps: u64,
    stop: Arc<AtomicBool>,
}

impl Progress for StopAfter {
    fn begin(&self, label: &str, _total: Option<u64>, _unit: Unit) -> Box<dyn Task> {
        if label != align::sft::STAGE {
            return Silent.begin(label, None, Unit::Items);
        }
        Box::new(Counted { done: AtomicU64::new(0), steps: self.steps, stop: self.stop.clone() })
    }

    fn note(&self, _text: &str) {}

    fn warn(&self, _text: &str) {}
}

impl Task for Counted {
    fn advance(&self, n: u64) {
        self.position(self.done.load(Ordering::Relaxed) + n);
    }

    fn position(&self, n: u64) {
        self.done.store(n, Ordering::Relaxed);
        if n >= self.steps {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn message(&self, _text: &str) {}
}

#[test]
fn tuning_lowers_the_loss() {
    let folder = tempfile::tempdir().unwrap();
    let never = AtomicBool::new(false);
    let outcome = tune(folder.path(), &settings(60), &Silent, &never).unwrap();
    assert_eq!(outcome.summary["steps"], 60);
    assert_eq!(outcome.summary["mixture"]["spelling"], 1.0);
    let finished = finished(outcome);
    let points = ledger::metrics::read(&folder.path().join("metrics")).unwrap();
    let losses: Vec<f64> = points.iter().filter_map(|point| point.values.get("loss").copied()).collect();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(first > 5.5 && last < 4.0, "from {first} to {last}");
    assert_eq!(finished.steps, 60);
}

#[test]
fn an_interrupted_run_ends_with_the_same_weights() {
    let whole = tempfile::tempdir().unwrap();
    let never = AtomicBool::new(false);
    let undisturbed = finished(tune(whole.path(), &settings(12), &Silent, &never).unwrap());

    let parts = tempfile::tempdir().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let progress = StopAfter { steps: 5, stop: stop.clone() };
    let outcome = tune(parts.path(), &settings(12), &progress, &stop).unwrap();
    let train::Outcome::Stopped(stopped) = outcome.training else { panic!("was not stopped") };
    assert!((5..12).contains(&stopped.step), "{}", stopped.step);
    let resumed = finished(tune(parts.path(), &settings(12), &Silent, &never).unwrap());
    assert!(undisturbed.weights.data == resumed.weights.data, "the weights differ");
    assert_eq!(undisturbed.final_loss, resumed.final_loss);
}

#[test]
fn own_conversations_join_and_what_is_malformed_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.jsonl");
    std::fs::write(&path, "{\"instruction\": \"word\", \"output\": \"a b\"}\nnonsense\n").unwrap();
    let mut settings = settings(2);
    settings.conversations = vec![path.display().to_string()];
    let never = AtomicBool::new(false);
    let outcome = tune(folder.path(), &settings, &Silent, &never).unwrap();
    assert_eq!(outcome.summary["own_conversations"], 1);
    assert_eq!(outcome.summary["malformed"], 1);

    settings.conversations = vec![folder.path().join("none.jsonl").display().to_string()];
    let error = tune(folder.path(), &settings, &Silent, &never).unwrap_err();
    assert!(error.to_string().contains("none.jsonl") && error.hint().is_some(), "{error}");
}
