use serde_json::json;

use super::*;

fn record(run: &Run, outputs: &[&str]) -> StageRecord {
    StageRecord {
        inputs: [("documents".to_owned(), Digest::of_bytes(b"documents"))].into(),
        settings: Digest::of_bytes(b"settings"),
        outputs: run.digests(outputs).unwrap(),
        started: clock::now(),
        seconds: 1.25,
        summary: json!({"tokens": 3}),
    }
}

/// A run with one complete stage, whose outputs are a folder and a file.
fn complete_run(root: &Path) -> Run {
    let mut run = Run::open_or_create(root, 42).unwrap();
    fs::create_dir_all(run.tokens().join("sub")).unwrap();
    fs::write(run.tokens().join("sub/a"), "aaaa").unwrap();
    fs::write(run.report(), "page").unwrap();
    let record = record(&run, &["tokens", "report.html"]);
    run.complete("pack", record).unwrap();
    run
}

fn is_current(run: &Run) -> bool {
    let record = run.stage("pack").unwrap();
    run.is_current("pack", &record.inputs, &record.settings)
}

#[test]
fn a_run_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("runs/first");
    let run = complete_run(&root);
    assert!(is_current(&run));
    let read = Run::open_read_only(&root).unwrap();
    assert_eq!(read.manifest(), run.manifest());
    drop(run);
    let again = Run::open_or_create(&root, 42).unwrap();
    assert_eq!(again.manifest(), read.manifest());
    assert!(is_current(&again));
    let manifest = again.manifest();
    assert_eq!((manifest.seed, manifest.format_version), (42, FORMAT_VERSION));
    assert_eq!(manifest.machine, Machine::this());
    assert_eq!(
        manifest.stages["pack"].sizes,
        [("tokens".to_owned(), 4), ("report.html".to_owned(), 4)].into()
    );
    assert_eq!(manifest.stages["pack"].program.as_ref(), machine::program());
    assert!(again.stage("pretrain").is_none());
    assert!(!again.is_current("pretrain", &BTreeMap::new(), &Digest::of_bytes(b"")));
}

#[test]
fn whatever_changes_a_stage_makes_it_outdated() {
    type Change = fn(&Run);
    let changes: [(&str, Change); 8] = [
        ("a file removed", |run| fs::remove_file(run.report()).unwrap()),
        ("a folder removed", |run| fs::remove_dir_all(run.tokens()).unwrap()),
        ("a file in a folder removed", |run| fs::remove_file(run.tokens().join("sub/a")).unwrap()),
        ("a file truncated", |run| fs::write(run.report(), "pag").unwrap()),
        ("a file of the same size changed", |run| fs::write(run.report(), "pagE").unwrap()),
        ("a file in a folder changed", |run| fs::write(run.tokens().join("sub/a"), "aaab").unwrap()),
        ("a file added", |run| fs::write(run.tokens().join("b"), "").unwrap()),
        ("a file renamed", |run| {
            fs::write(run.tokens().join("sub/b"), "aaaa").unwrap();
            fs::remove_file(run.tokens().join("sub/a")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let folder = tempfile::tempdir().unwrap();
        let run = complete_run(folder.path());
        change(&run);
        assert!(!is_current(&run), "{what}");
    }

    let folder = tempfile::tempdir().unwrap();
    let mut run = complete_run(folder.path());
    fs::write(run.tokens().join(".new.b.tmp"), "half").unwrap();
    assert!(is_current(&run), "what is being written does not count");
    let StageRecord { inputs, settings, .. } = run.stage("pack").unwrap().clone();
    let other = Digest::of_bytes(b"other");
    assert!(!run.is_current("pack", &inputs, &other));
    assert!(!run.is_current("pack", &BTreeMap::new(), &settings));
    assert!(!run.is_current("pack", &[("documents".to_owned(), other)].into(), &settings));
    let without = record(&run, &[]);
    run.complete("pack", without).unwrap();
    assert!(is_current(&run), "a stage may have no outputs");
}

#[test]
fn an_incomplete_stage_is_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = complete_run(folder.path());
    let mut missing = record(&run, &["tokens"]);
    missing.outputs.insert("base".to_owned(), Digest::of_bytes(b""));
    assert!(matches!(run.complete("pretrain", missing.clone()), Err(Error::MissingOutput { .. })));
    assert!(run.complete("", record(&run, &[])).is_err());
    assert!(run.digests(["base"]).is_err());
    // While somebody holds the manifest's staging file it cannot be written, and memory agrees with the disk.
    let held = atomic::AtomicFile::create(&folder.path().join(MANIFEST)).unwrap();
    assert!(matches!(run.complete("pretrain", record(&run, &["tokens"])), Err(Error::Busy { .. })));
    drop(held);
    let mut reader = Run::open_read_only(folder.path()).unwrap();
    assert_eq!(reader.manifest(), run.manifest());
    assert!(run.stage("pretrain").is_none());
    assert!(matches!(reader.complete("pack", record(&run, &[])), Err(Error::ReadOnly { .. })));
}

#[test]
fn only_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = Run::open_or_create(folder.path(), 1).unwrap();
    match Run::open_or_create(folder.path(), 1) {
        Err(error @ Error::Locked { pid: Some(pid), .. }) => {
            assert_eq!(pid, std::process::id());
            assert!(
                error.to_string().contains(&pid.to_string())
                    && error.hint().unwrap().contains(&pid.to_string())
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(Run::open_read_only(folder.path()).is_ok());
    drop(first);
    assert!(Run::open_or_create(folder.path(), 1).is_ok());
    match Run::open_or_create(folder.path(), 2) {
        Err(error @ Error::OtherSeed { .. }) => assert!(error.hint().unwrap().contains("seed 1")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn other_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Run::open_read_only(folder.path()), Err(Error::NotARun { .. })));
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    assert!(matches!(Run::open_or_create(folder.path(), 1), Err(Error::NotARun { .. })));
    assert!(!folder.path().join(LOCK).exists());
}

#[test]
fn leftovers_of_a_killed_run_are_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    // Killed before the first manifest was there.
    fs::write(at(".lock"), "123\n").unwrap();
    fs::write(at(".new.manifest.json.tmp"), "{").unwrap();
    drop(Run::open_or_create(folder.path(), 1).unwrap());
    // Killed while a base model was replaced and while a checkpoint was written.
    fs::create_dir_all(at(".old.base.tmp/sub")).unwrap();
    fs::create_dir_all(at(".new.base.tmp")).unwrap();
    fs::create_dir_all(at("checkpoints/pretrain/.new.step-00000010.tmp")).unwrap();
    fs::create_dir_all(at("checkpoints/pretrain/step-00000005")).unwrap();
    drop(Run::open_or_create(folder.path(), 1).unwrap());
    assert!(at("base/sub").exists());
    for gone in [
        ".old.base.tmp",
        ".new.base.tmp",
        ".new.manifest.json.tmp",
        "checkpoints/pretrain/.new.step-00000010.tmp",
    ] {
        assert!(!at(gone).exists(), "{gone}");
    }
    assert!(at("checkpoints/pretrain/step-00000005").exists());
}

#[test]
fn manifests_of_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    // Format 1 as it was first written; it is read for ever.
    fs::write(folder.path().join(MANIFEST), include_str!("../../tests/data/manifest-1.json")).unwrap();
    let run = Run::open_read_only(folder.path()).unwrap();
    assert_eq!((run.manifest().seed, run.manifest().stages.len()), (18_446_744_073_709_551_615, 1));
    assert_eq!(run.stage("curate").unwrap().summary, json!({"documents": 12}));
    assert_eq!(run.manifest().stages["curate"].sizes["documents"], 1234);

    let check = |text: &str| {
        fs::write(folder.path().join(MANIFEST), text).unwrap();
        Run::open_read_only(folder.path()).unwrap_err()
    };
    assert!(matches!(check("{\"format_version\": 2, \"unknown\": {}}"), Error::Newer { found: 2, .. }));
    assert!(matches!(check("{\"format_version\": 1,\n\"seed\": \"x\"}"), Error::Malformed { line: 2, .. }));
    assert!(matches!(check("{\"format_ver"), Error::Malformed { line: 1, .. }));
    assert!(matches!(check(""), Error::Malformed { .. }));
}
