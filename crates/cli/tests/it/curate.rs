//! `alti curate` as a person has it: killed and run again, with changed rules, and wrong.

use std::fs;
use std::path::Path;

use ledger::digest::Digest;
use serde_json::{Value, json};

use crate::Place;
use crate::corpus::prose;
use crate::kills::{End, end_early};

const SETTINGS: [&str; 4] =
    ["--set", "curate.gopher_repetition.enabled=false", "--set", "curate.held_out.fraction=0.1"];

fn sources(place: &Place) {
    fs::create_dir(place.path("many")).unwrap();
    let lines = |from: u64, to: u64| -> String {
        (from..to).map(|i| format!("{}\n", json!({"text": prose(i % 1_900)}))).collect()
    };
    fs::write(place.path("many/a.jsonl"), lines(0, 1_500)).unwrap();
    fs::write(place.path("many/b.jsonl"), lines(1_500, 2_500)).unwrap();
}

/// Parts that are on the disk.
fn parts(work: &Path) -> usize {
    (0..).take_while(|part| work.join(format!("filtered-{part:06}.json")).exists()).count()
}

#[test]
fn killed_and_run_again_it_writes_the_same_documents() {
    let place = Place::new();
    sources(&place);
    let curate = |out: &'static str| {
        let args = ["curate", "pages", "many", "--out", out, "--checkpoint", "100kB", "--threads", "2"];
        [&args[..], &SETTINGS].concat()
    };
    let said = place.run(&curate("calm"));
    for wanted in
        ["exact duplicates", "same text 7", "near duplicates", "documents kept", "calm.work let a changed"]
    {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    let calm = Digest::of_dir(&place.path("calm")).unwrap();

    let work = place.path("stormy.work");
    for kill in 0..4 {
        let before = parts(&work);
        let end = if kill == 2 { End::Interrupt } else { End::Kill };
        end_early(&place, &curate("stormy"), &end, || parts(&work) > before);
        assert!(!place.path("stormy").exists());
    }
    let said = place.run(&curate("stormy"));
    assert!(said.contains("going on in stormy.work, where"), "{said}");
    assert_eq!(Digest::of_dir(&place.path("stormy")).unwrap(), calm);

    // A rule of the plan, a rule of the filters, and other memory and threads, beside curations that begin anew.
    let again = |more: &[&str], fresh: &'static str| {
        let said = place.run(&[&curate("stormy")[..], more].concat());
        place.run(&[&curate(fresh)[..], more, &["--discard-work"]].concat());
        assert!(!place.path(&format!("{fresh}.work")).exists());
        let (kept, anew) = (place.path("stormy"), place.path(fresh));
        assert_eq!(Digest::of_dir(&kept).unwrap(), Digest::of_dir(&anew).unwrap());
        said
    };
    let said = again(&["--set", "curate.minhash.min_similarity=0.3"], "fresh1");
    assert!(said.contains("parts are done"), "{said}");
    let said = again(&["--set", "curate.gopher_quality.min_words=150", "--memory", "256MB"], "fresh2");
    assert!(said.contains("need not be read again, all are to be filtered again"), "{said}");

    let said = place.run(&[&curate("stormy")[..], &["--json"]].concat());
    let json = &said[said.find('{').unwrap()..=said.rfind('}').unwrap()];
    let funnel: Value = serde_json::from_str(json).unwrap();
    let written: Value =
        serde_json::from_slice(&fs::read(place.path("stormy/funnel.json")).unwrap()).unwrap();
    assert_eq!(funnel, written);
}

#[test]
fn what_is_wrong_is_said() {
    let place = Place::new();
    let check = |args: &[&str], code: i32, wanted: &str| {
        let said = place.fails(&[&["curate"], args].concat(), code);
        assert!(said.contains(wanted) && said.contains("hint:"), "{said}");
    };
    check(&["pages", "--out", "o", "--memory", "1MB"], 2, "too little");
    check(&["pages", "--out", ".."], 2, "cannot be written as a folder");
    check(&["pages", "--out", "o", "--set", "curate.minhash.band=3"], 2, "unknown field `band`");
    check(&["nowhere/*.warc", "--out", "o"], 1, "matches no file");
    assert!(!place.path("o").exists());
}
