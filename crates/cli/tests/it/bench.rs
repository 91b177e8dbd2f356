//! `alti bench`, with the real program: the figures of a step as a program reads them and as a person does.

use std::fs;

use serde_json::Value;

use super::Place;

/// Runs `alti bench train` with `--json` and gives what it wrote to standard output, which must be JSON alone.
fn figures(place: &Place, args: &[&str]) -> Value {
    let args = [&["bench", "train", "--json", "--steps", "3"], args].concat();
    let output = place.command(&args).output().unwrap();
    assert!(output.status.success(), "{}", super::both(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_recipe_s_step_is_measured_by_operation() {
    let place = Place::new();
    fs::write(
        place.path("tiny.toml"),
        "size = \"nano\"\n[train]\nrows = 2\nseq_len = 64\naccumulation = 2\nrecompute = \"all\"\n",
    )
    .unwrap();
    let found =
        figures(&place, &["tiny.toml", "--threads", "1", "--precision", "f32", "--set", "train.rows=3"]);
    assert_eq!((&found["bench"], &found["version"]), (&"train".into(), &1.into()));
    assert_eq!((&found["precision"], &found["recompute"]), (&"f32".into(), &"all".into()));
    assert_eq!(found["machine"]["threads"], 1);
    assert_eq!(found["model"]["parameters"], 229_696);
    let batch = &found["batch"];
    assert_eq!((&batch["rows"], &batch["seq_len"], &batch["tokens"]), (&3.into(), &64.into(), &384.into()));
    assert_eq!((&batch["micro_batches"], &batch["recipe_micro_batches"]), (&2.into(), &2.into()));
    // Every row begins a document, or goes on with one.
    assert!(batch["documents"].as_u64().unwrap() >= 6);

    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number in {found}"));
    let seconds: Vec<f64> = found["step"]["seconds"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(seconds.len(), 3);
    assert!(seconds.contains(&number(&found["step"]["median_seconds"])));
    let rate = 384.0 / number(&found["step"]["median_seconds"]);
    assert!((number(&found["step"]["tokens_per_second"]) / rate - 1.0).abs() < 1e-9);
    let utilisation = number(&found["step"]["flops_utilisation"]);
    assert!(utilisation > 0.0 && utilisation < 1.5, "{utilisation}");
    // Random tokens cannot be foretold: the loss is that of guessing, or a little worse.
    assert!((5.0..12.0).contains(&number(&found["step"]["loss"])), "{found}");
    assert_eq!(found["memory"]["weights"], 4 * 229_696);

    let breakdown = &found["breakdown"];
    let operations = breakdown["operations"].as_array().unwrap();
    let sum: f64 = operations.iter().map(|operation| number(&operation["seconds"])).sum();
    let (step, rest) = (number(&breakdown["seconds"]), number(&breakdown["rest_seconds"]));
    assert!(rest >= 0.0 && (sum + rest - step).abs() < 1e-9 * step, "{sum} + {rest} is not {step}");
    for operation in operations {
        let ratio = number(&operation["least_seconds"]) / number(&operation["seconds"]);
        assert!((number(&operation["roofline"]) / ratio - 1.0).abs() < 1e-9, "{operation}");
        assert!(["compute", "memory"].contains(&operation["bound"].as_str().unwrap()), "{operation}");
    }
    let called = |name: &str| {
        let same = operations.iter().find(|operation| operation["name"] == name);
        same.map_or(0.0, |operation| number(&operation["calls"]))
    };
    // Two layers in two micro-batches, whose gates are computed twice.
    for (name, calls) in [
        ("gate_up forward", 4.0),
        ("gate_up forward again", 4.0),
        ("gate_up weight gradient", 4.0),
        ("down forward again", 0.0),
        // The gradients and, apart from them, the embedding's.
        ("sum_of_squares", 2.0),
    ] {
        assert_eq!(called(name), calls, "{name}: {found}");
    }
}

#[test]
fn a_person_sees_a_table() {
    let place = Place::new();
    let said = place.run(&["bench", "train", "--shape", "nano", "--steps", "2"]);
    for wanted in [
        "training step of the shape nano",
        "tok/s",
        "of peak",
        "adamw",
        "attention backward",
        "between operations",
    ] {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "colours where none were wanted:\n{said}");
}

/// A run's folder gives its recipe and the lengths of its documents.
pub fn run(place: &Place) {
    let found = figures(place, &["runs/calm", "--set", "train.rows=2", "--set", "train.seq_len=2048"]);
    assert_eq!((&found["batch"]["rows"], &found["model"]["vocab_size"]), (&2.into(), &600.into()));
    assert_eq!(found["subject"], "runs/calm");
    // Its pages are shorter than such a row.
    assert!(found["batch"]["documents"].as_u64() > found["batch"]["rows"].as_u64(), "{found}");
}

#[test]
fn the_stages_of_curation_are_measured_one_by_one() {
    let place = Place::new();
    let temporary = place.path("temporary");
    fs::create_dir(&temporary).unwrap();
    let rule = "curate.gopher_repetition.enabled=false";
    let mut command = place.command(&["bench", "curate", "pages", "--rounds", "2", "--json", "--set", rule]);
    let output = command.env("TMPDIR", &temporary).output().unwrap();
    assert!(output.status.success(), "{}", super::both(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stages = found["stages"].as_array().unwrap();
    let stage = |name: &str| {
        let same = stages.iter().find(|stage| stage["name"] == name);
        same.unwrap_or_else(|| panic!("{name} is missing in {found}"))
    };
    let documents = |name: &str| stage(name)["documents"].as_u64().unwrap();
    // What a stage is given is what those before it left.
    let order = ["read", "extract", "gopher_quality", "sign", "finding duplicates", "writing documents"];
    assert!(
        documents("read") > 0 && order.windows(2).all(|two| documents(two[0]) >= documents(two[1])),
        "{found}"
    );
    assert_eq!(documents("extract"), documents("read"));
    for stage in stages {
        let seconds = stage["seconds"].as_array().unwrap();
        assert!(
            seconds.len() == 2 && seconds.iter().all(|second| second.as_f64().unwrap() >= 0.0),
            "{stage}"
        );
    }
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "something is left");
}
