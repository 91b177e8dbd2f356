//! Curation that is interrupted, spoiled and asked again, beside one that runs through.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ledger::progress::{Progress, Silent, Task, Unit};
use ledger::seed::{Rng, Seed};
use proptest::prelude::*;

use super::*;

fn sentence(rng: &mut Rng) -> String {
    let words = [
        "the", "ferry", "of", "harbour", "and", "that", "sailor", "bread", "morning", "with", "quiet", "road",
    ];
    let mut text: String = (0..12).map(|_| format!("{} ", words[rng.below(12) as usize])).collect();
    text.truncate(text.len() - 1);
    format!("{text} {}.", ["north", "south", "inside", "later"][rng.below(4) as usize])
}

fn paragraph(rng: &mut Rng) -> String {
    (0..10).map(|_| format!("{}\n", sentence(rng))).collect()
}

/// Pages, lines and texts, some of them malformed, repeated, or of the same address.
pub(super) fn corpus(folder: &Path) -> Vec<Source> {
    let mut rng = Seed(5).stream("corpus", 0);
    std::fs::create_dir_all(folder.join("in")).unwrap();
    let mut warc = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    for page in 0..40u64 {
        let text = match page % 8 {
            7 => texts[rng.below(texts.len() as u64) as usize].clone(),
            _ => paragraph(&mut rng),
        };
        texts.push(text.clone());
        let paragraphs: String = text.lines().map(|line| format!("<p>{line}</p>")).collect();
        let body = format!("<html><body><article>{paragraphs}</article></body></html>");
        let http = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{body}");
        warc.extend_from_slice(
            format!(
                "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.b/{}?utm_source={page}\r\n\
                 WARC-Date: 2024-01-{:02}T00:00:00Z\r\nContent-Length: {}\r\n\r\n{http}\r\n\r\n",
                page % 30,
                1 + page % 28,
                http.len()
            )
            .as_bytes(),
        );
        if page == 20 {
            warc.extend_from_slice(
                b"WARC/1.0\r\nWARC-Type: request\r\nContent-Length: 2\r\n\r\nab\r\n\r\nnonsense\r\n",
            );
        }
    }
    std::fs::write(folder.join("in/a.warc"), warc).unwrap();
    let mut lines = String::new();
    for line in 0..40u64 {
        let text = match line % 5 {
            0 => texts[rng.below(40) as usize].clone(),
            1 => "too short".to_string(),
            _ => paragraph(&mut rng),
        };
        lines.push_str(&format!("{}\n", serde_json::json!({ "text": text })));
        if line % 11 == 3 {
            lines.push_str("not json\n");
        }
    }
    std::fs::write(folder.join("in/b.jsonl"), lines).unwrap();
    for name in 0..6 {
        std::fs::write(folder.join(format!("in/c{name}.txt")), paragraph(&mut rng)).unwrap();
    }
    vec![Source::Path(folder.join("in").to_str().unwrap().into())]
}

/// What is in a folder, and in those within it.
pub(super) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(
                files(&entry.path()).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

/// Stops the work after so many reports, and notes which tasks were begun.
struct Stopping<'a> {
    left: &'a AtomicU64,
    stop: &'a AtomicBool,
    begun: Mutex<Vec<String>>,
}

struct Step_<'a>(&'a AtomicU64, &'a AtomicBool);

impl Task for Step_<'static> {
    fn advance(&self, _: u64) {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.1.store(true, Ordering::SeqCst);
        }
    }
    fn position(&self, _: u64) {}
    fn message(&self, _: &str) {
        self.advance(1);
    }
}

impl Progress for Stopping<'static> {
    fn begin(&self, label: &str, _: Option<u64>, _: Unit) -> Box<dyn Task> {
        self.begun.lock().unwrap().push(label.to_string());
        Box::new(Step_(self.left, self.stop))
    }
    fn note(&self, _: &str) {}
    fn warn(&self, _: &str) {}
}

fn stopping(after: u64) -> Stopping<'static> {
    let left = Box::leak(Box::new(AtomicU64::new(after)));
    Stopping { left, stop: Box::leak(Box::new(AtomicBool::new(false))), begun: Mutex::default() }
}

struct Bench {
    folder: tempfile::TempDir,
    sources: Vec<Source>,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let sources = corpus(folder.path());
        Bench { folder, sources }
    }

    fn run(&self, settings: &Settings, progress: &dyn Progress, options: &Options) -> Result<Funnel, Error> {
        let out = self.folder.path().join("out");
        curate_with(settings, &self.sources, &[], &out, Seed(1), progress, options)
    }

    fn whole(&self, settings: &Settings) -> BTreeMap<String, Vec<u8>> {
        self.run(settings, &Silent, &Options::default()).unwrap();
        let whole = files(&self.folder.path().join("out"));
        std::fs::remove_dir_all(self.folder.path().join("out")).unwrap();
        whole
    }

    fn out(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.folder.path().join("out"))
    }
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    // The made-up sentences repeat themselves.
    settings.gopher_repetition.enabled = false;
    settings.minhash.min_similarity = 0.8;
    settings.held_out.fraction = 0.2;
    settings
}

#[test]
fn the_corpus_of_these_tests_loses_documents_everywhere() {
    let bench = Bench::new();
    let funnel = bench.run(&settings(), &Silent, &Options::default()).unwrap();
    let removed = |name: &str| {
        let step = funnel.steps.iter().find(|step| step.name == name).unwrap();
        step.removed.values().sum::<u64>()
    };
    assert_eq!(funnel.steps[0].documents_in, 86);
    assert_eq!(removed("url_duplicates"), 10);
    assert_eq!(removed("gopher_quality"), 8);
    assert!(removed("exact_duplicates") >= 6, "{}", removed("exact_duplicates"));
    assert!(funnel.train.documents > 30 && funnel.held_out.documents > 3);
    assert_eq!(funnel.skipped.count, 5);
    assert_eq!(funnel.ignored.values().sum::<u64>(), 1);
    assert!(!bench.folder.path().join("out.work").exists());
    let out = bench.out();
    for step in ["url_duplicates", "gopher_quality", "exact_duplicates"] {
        let lines = out[&format!("removed/{step}.jsonl")].iter().filter(|&&byte| byte == b'\n').count();
        assert!(lines as u64 >= removed(step).min(settings().removed.first), "{step}: {lines}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn interrupted_anywhere_it_ends_as_an_unbroken_run(
        stops in proptest::collection::vec(1u64..60, 1..5),
        checkpoint_bytes in prop_oneof![Just(1u64), 1_000u64..40_000, Just(1 << 30)],
        (keep_work, memory, threads) in (any::<bool>(), prop_oneof![Just(1u64), Just(4_000_000_000)], 1usize..4),
        spoil in 0u8..4,
    ) {
        let bench = Bench::new();
        let whole = bench.whole(&settings());
        let work = bench.folder.path().join("out.work");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut ended = false;
        for after in stops {
            let progress = stopping(after);
            let options = Options {
                memory, work: Some(&work), keep_work, checkpoint_bytes, stop: Some(progress.stop),
                ..Options::default()
            };
            match pool.install(|| bench.run(&settings(), &progress, &options)) {
                Ok(_) => ended = true,
                Err(Error::Stopped) => {}
                Err(other) => panic!("{other}"),
            }
            if ended {
                break;
            }
            // What a kill leaves: files without accounts, runs, and files that were still being written.
            std::fs::write(work.join("filtered-000077.parquet"), "PAR1").unwrap();
            std::fs::write(work.join("band-000001.run"), "").unwrap();
            let last = (0..).take_while(|n| work.join(format!("filtered-{n:06}.json")).exists()).last();
            if let (1, Some(last)) = (spoil, last) {
                std::fs::remove_file(work.join(format!("filtered-{last:06}.json"))).unwrap();
            }
            if let (2, Some(last)) = (spoil, last) {
                std::fs::write(work.join(format!("filtered-{last:06}.signatures")), "ALTI").unwrap();
            }
            if spoil == 3 {
                std::fs::write(work.join("filtered-000000.json"), "{").unwrap();
            }
        }
        if !ended {
            let options =
                Options { memory, work: Some(&work), keep_work, checkpoint_bytes, ..Options::default() };
            pool.install(|| bench.run(&settings(), &Silent, &options)).unwrap();
        }
        prop_assert!(bench.out() == whole);
        prop_assert_eq!(work.exists(), keep_work);
    }
}

#[test]
fn a_changed_rule_runs_only_what_depends_on_it() {
    let bench = Bench::new();
    let work = bench.folder.path().join("out.work");
    let run = |settings: &Settings| {
        let progress = stopping(u64::MAX);
        let options =
            Options { work: Some(&work), keep_work: true, checkpoint_bytes: 20_000, ..Options::default() };
        bench.run(settings, &progress, &options).unwrap();
        let mut begun = progress.begun.into_inner().unwrap();
        assert_eq!(begun.iter().filter(|label| label.starts_with("counting")).count(), 2);
        begun.retain(|label| !label.starts_with("counting"));
        let out = bench.out();
        assert!(out == bench.whole(settings), "as if nothing had been there");
        begun
    };
    let (read, again) = ("reading and filtering documents", "filtering documents again");
    let (dedup, write) = ("finding duplicates", "writing documents");
    let mut settings = settings();
    assert_eq!(run(&settings), [read, dedup, write]);
    assert_eq!(run(&settings), [dedup, write]);
    settings.minhash.min_similarity = 0.3;
    settings.held_out.fraction = 0.5;
    settings.max_documents = Some(20);
    settings.url_dedup.keep = crate::settings::KeepUrl::Longest;
    settings.line_dedup.max_occurrences = 3;
    assert_eq!(run(&settings), [dedup, write]);
    settings.gopher_quality.min_words = 1;
    assert_eq!(run(&settings), [again, dedup, write]);
    settings.minhash.rows = 4;
    assert_eq!(run(&settings), [again, dedup, write]);
    settings.include_hidden = true;
    assert_eq!(run(&settings), [read, dedup, write]);
    std::fs::write(bench.folder.path().join("in/c0.txt"), paragraph(&mut Seed(9).stream("new", 0))).unwrap();
    assert_eq!(run(&settings), [read, dedup, write]);
}

#[test]
fn a_work_folder_in_use_is_refused_and_others_files_are_left() {
    let bench = Bench::new();
    let work = bench.folder.path().join("out.work");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("notes.json"), "mine").unwrap();
    let options = Options { work: Some(&work), ..Options::default() };
    {
        let lock = std::fs::File::create(work.join("lock")).unwrap();
        lock.lock().unwrap();
        match bench.run(&settings(), &Silent, &options) {
            Err(error @ Error::Busy { .. }) => assert!(error.hint().is_some()),
            other => panic!("{:?}", other.err()),
        }
    }
    bench.run(&settings(), &Silent, &options).unwrap();
    assert_eq!(files(&work).into_keys().collect::<Vec<_>>(), ["notes.json"]);
}

#[test]
fn what_curation_wrote_among_its_sources_is_not_read() {
    let bench = Bench::new();
    let folder = bench.folder.path().to_path_buf();
    let sources = vec![Source::Path(folder.to_str().unwrap().into())];
    let (out, work) = (folder.join("in/out"), folder.join("in/out.work"));
    let options = Options { work: Some(&work), keep_work: true, ..Options::default() };
    let run = || curate_with(&settings(), &sources, &[], &out, Seed(1), &Silent, &options).unwrap();
    assert_eq!(run(), run());
}
