//! A run as its users have it, under kills at random moments.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ledger::digest::Digest;
use ledger::metrics::{self, Metrics};
use ledger::run::{Run, StageRecord};
use ledger::{Error, atomic, clock, events};
use serde_json::json;

const ROOT: &str = "LEDGER_TEST_ROOT";

/// Not a test of its own: what the killed child does, over and over, without end. Each round writes a folder
/// and a file that agree within themselves, records the stage and logs.
#[test]
fn child() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let mut run = Run::open_or_create(Path::new(&root), 7).unwrap();
    let first = metrics::read(run.root()).unwrap().last().map_or(0, |point| point.step + 1);
    let mut metrics = Metrics::open(run.root(), Some(first)).unwrap();
    for round in first.. {
        let folder = atomic::AtomicDir::create(&run.base()).unwrap();
        for part in ["a", "b"] {
            fs::write(folder.path().join(part), round.to_string().repeat(2_000)).unwrap();
        }
        folder.commit().unwrap();
        atomic::write(&run.report(), round.to_string().repeat(2_000).as_bytes()).unwrap();
        let outputs = run.digests(["base", "report.html"]).unwrap();
        let record = StageRecord {
            inputs: BTreeMap::new(),
            settings: Digest::of_bytes(b""),
            outputs,
            started: clock::now(),
            seconds: 0.0,
            summary: json!({"round": round}),
        };
        run.complete("stage", record).unwrap();
        metrics.log("stage", round, &[("round", round as f64)]).unwrap();
        events::append(run.root(), "round", json!({"round": round})).unwrap();
    }
}

fn is_of_one_round(text: &str) -> bool {
    (1..=6).any(|digits| text.len() == digits * 2_000 && text == text[..digits].repeat(2_000))
}

#[test]
fn killed_at_random_moments_a_run_is_whole_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    let mut rounds = 0;
    let mut rng = ledger::seed::Seed(1).stream("kills", 0);
    for kill in 0..25 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child"])
            .env(ROOT, &root)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The first one is given the time to get somewhere, the others are killed wherever they are.
        let begun = Instant::now();
        while kill == 0
            && begun.elapsed() < Duration::from_secs(20)
            && metrics::read(&root).unwrap().len() < 3
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_micros(rng.below(60_000)));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!complaint.contains("panicked"), "the child failed by itself: {complaint}");

        // What a reader sees at once: whole lines, a whole manifest.
        let points = metrics::read(&root).unwrap();
        events::read(&root).unwrap();
        let steps: Vec<u64> = points.iter().map(|point| point.step).collect();
        assert!(steps.iter().copied().eq(0..steps.len() as u64), "{steps:?}");
        rounds = rounds.max(points.len());
        assert!(points.len() >= rounds, "logged points are lost");

        // What the next writer finds: every artifact of one round; current exactly where it is the recorded
        // round's.
        let run = Run::open_or_create(&root, 7).unwrap();
        let read = |path: &Path| fs::read_to_string(path).ok();
        let (a, b) = (read(&run.base().join("a")), read(&run.base().join("b")));
        let report = read(&run.report());
        assert_eq!(a, b);
        if let Some(record) = run.stage("stage") {
            let (a, report) = (a.unwrap(), report.unwrap());
            assert!(is_of_one_round(&a) && is_of_one_round(&report));
            let recorded = record.summary["round"].to_string().repeat(2_000);
            let current = run.is_current("stage", &record.inputs, &record.settings);
            assert_eq!(current, a == recorded && report == recorded);
        }
        for entry in fs::read_dir(&root).unwrap() {
            assert!(!atomic::is_temporary(&entry.unwrap().file_name()));
        }
    }
    assert!(rounds >= 3, "only {rounds} rounds were reached");
}

#[test]
fn a_killed_process_gives_its_lock_back_and_a_living_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env(ROOT, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while metrics::read(folder.path()).unwrap().is_empty() && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(5));
    }
    match Run::open_or_create(folder.path(), 7) {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, Some(child.id())),
        other => panic!("{other:?}"),
    }
    assert!(Run::open_read_only(folder.path()).is_ok());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Run::open_or_create(folder.path(), 7).is_ok());
}
