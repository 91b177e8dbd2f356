//! `alti mix search` and `alti pack` as a person has them: proxies trained once, a proposal, shards by it, and errors.

use std::fs;

use ledger::digest::Digest;
use serde_json::{Value, json};

use crate::{LOOSE, Place};

fn value(place: &Place, path: &str) -> Value {
    serde_json::from_slice(&fs::read(place.path(path)).unwrap()).unwrap()
}

/// A second source beside the run's documents: numbers in words.
fn second(place: &Place) {
    let words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let mut lines = String::new();
    for n in 0..400usize {
        let text: Vec<&str> = (0..40).map(|k| words[(n * 7 + k * k + n * k) % 10]).collect();
        lines.push_str(&json!({"text": format!("Number {n} is {}.", text.join(" "))}).to_string());
        lines.push('\n');
    }
    fs::write(place.path("numbers.jsonl"), lines).unwrap();
    let mut args = vec![
        "raise",
        "--out",
        "runs/numbers",
        "--size",
        "nano",
        "--source",
        "numbers.jsonl",
        "--until",
        "curate",
    ];
    for set in ["curate.held_out.fraction=0.1"].into_iter().chain(LOOSE) {
        args.extend(["--set", set]);
    }
    place.run(&args);
}

pub fn run(place: &Place) {
    second(place);
    let sources = ["prose=runs/calm", "numbers=runs/numbers", "--tokenizer", "runs/calm"];
    let search = [&["mix", "search"], &sources[..], &["--out", "mix", "--candidates", "6"]].concat();
    let search = [&search[..], &["--set", "train.tokens=20K tokens", "--target", "numbers=1"]].concat();
    let said = place.run(&search);
    for wanted in ["natural", "proposed", "foretold", "left-out runs", "mix/mixture.json"] {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    let found = value(place, "mix/mixture.json");
    let share = |name: &str| found["mixture"][name].as_f64().unwrap();
    assert!((share("prose") + share("numbers") - 1.0).abs() < 1e-9, "{found}");
    // Who is measured on numbers alone learns them best from numbers.
    assert!(share("numbers") > found["natural"]["numbers"].as_f64().unwrap(), "{found}");
    assert!(found["loss"]["low"].as_f64() <= found["loss"]["high"].as_f64());
    assert_eq!(found["candidates"].as_array().unwrap().len(), 6);
    let svg = fs::read_to_string(place.path("mix/mixture.svg")).unwrap();
    assert!(svg.contains("<svg") && svg.contains("numbers") && svg.matches("<circle").count() == 6, "{svg}");

    // A candidate that is gone is trained again, to the same losses; the others are kept.
    let kept = fs::metadata(place.path("mix/candidates/0001.json")).unwrap().modified().unwrap();
    let before = value(place, "mix/candidates/0003.json");
    fs::remove_file(place.path("mix/candidates/0003.json")).unwrap();
    place.run(&search);
    assert_eq!(fs::metadata(place.path("mix/candidates/0001.json")).unwrap().modified().unwrap(), kept);
    assert_eq!(value(place, "mix/candidates/0003.json")["bits_per_byte"], before["bits_per_byte"]);
    assert_eq!(value(place, "mix/mixture.json")["mixture"], found["mixture"]);
    assert!(!place.path("mix/candidates/0003.work").exists());

    let pack =
        |out: &'static str, more: &[&'static str]| [&["pack"], &sources[..], &["--out", out], more].concat();
    let said = place.run(&pack("blended", &["--mixture", "mix/mixture.json", "--tokens", "30000"]));
    assert!(said.contains("blended: 30") && said.contains("epochs"), "{said}");
    let facts = value(place, "blended/pack.json");
    let tokens = |name: &str| facts["sources"][name]["tokens"].as_f64().unwrap();
    let total = facts["packed"]["train"]["tokens"].as_f64().unwrap();
    assert!((tokens("numbers") / total - share("numbers")).abs() < 0.05, "{facts}");
    place.run(&pack("again", &["--mixture", "mix/mixture.json", "--tokens", "30000"]));
    let of = |out: &str| Digest::of_dir(&place.path(out)).unwrap();
    assert_eq!(of("blended"), of("again"));
    let said = place.run(&["inspect", "blended/train"]);
    assert!(said.contains("Megatron"), "{said}");

    for (args, wanted) in [
        (pack("x", &["--mixture", "numbers=1", "--tokens", "9000000"]), "more than --max-epochs 4"),
        (pack("x", &["--mixture", "verse=1"]), "which is not one of the sources"),
        (pack("x", &["--mixture", "absent.json"]), "write a name and a weight"),
        (pack("x", &["--mixture", "numbers=0"]), "sum to 0"),
        (
            vec!["mix", "search", "a=runs/calm", "a=runs/numbers", "--tokenizer", "runs/calm", "--out", "y"],
            "two sources have the name a",
        ),
        ([&search[..], &["--candidates", "2"]].concat(), "cannot be used multiple times"),
    ] {
        let said = place.fails(&args, 2);
        assert!(said.contains(wanted), "alti {args:?} said:\n{said}");
    }
    assert!(!place.path("x").exists());
}
