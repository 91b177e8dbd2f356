//! Semantic deduplication as a person has it: vectors of an endpoint that stumbles and refuses, and of a model in the process;
//! killed and run again, with changed rules, and wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledger::digest::Digest;
use serde_json::{Value, json};

use crate::Place;
use crate::corpus::prose;
use crate::kills::{End, end_early};
use crate::server::{Asked, Reply, Server};

const DOCUMENTS: u64 = 270;

/// Prose, and of every third text another one with its sentences in another order.
fn documents(place: &Place) {
    let mut lines = String::new();
    for number in 0..DOCUMENTS {
        let text = prose(number + 1);
        lines.push_str(&format!("{}\n", json!({"text": text})));
        if number % 3 == 0 {
            let mut sentences: Vec<&str> = text.split_inclusive(". ").collect();
            sentences.reverse();
            lines.push_str(&format!("{}\n", json!({"text": sentences.concat()})));
        }
    }
    fs::write(place.path("meanings.jsonl"), lines).unwrap();
}

/// A vector for each text, which knows of words and not of their order.
fn vectors(asked: &Asked) -> Reply {
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    let texts = body["input"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
    let vector = |text: &str| {
        let mut counts = vec![0i64; 257];
        for word in text.split_whitespace() {
            let hash = word.bytes().fold(1u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
            counts[(hash % 257) as usize] += 1;
        }
        counts
    };
    let data: Vec<Value> =
        texts.enumerate().map(|(at, text)| json!({"index": at, "embedding": vector(text)})).rev().collect();
    Reply::status(200).body(json!({"data": data}).to_string())
}

fn args<'a>(out: &'a str, sets: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["curate", "meanings.jsonl", "--out", out, "--threads", "2"];
    for set in [
        "curate.semantic.enabled=true",
        "curate.minhash.enabled=false",
        "curate.line_dedup.enabled=false",
        "curate.gopher_repetition.enabled=false",
    ]
    .iter()
    .chain(sets)
    {
        args.extend(["--set", set]);
    }
    args
}

fn lines(place: &Place, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn embeddings(place: &Place, work: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(place.path(work)).ok()?.flatten().map(|entry| entry.path());
    entries.into_iter().find(|path| path.extension().is_some_and(|own| own == "vectors"))
}

#[test]
fn an_endpoint_embeds_and_what_it_said_is_kept() {
    let place = Place::new();
    documents(&place);
    let number = AtomicU64::new(0);
    let server = Server::start(move |asked| {
        if asked.path.ends_with("/models") {
            return Reply::status(200).body(json!({"data": [{"id": "words"}]}).to_string());
        }
        let body: Value = serde_json::from_slice(&asked.body).unwrap();
        assert_eq!(body["model"], "words");
        let texts = body["input"].as_array().unwrap();
        let longest = texts.iter().map(|text| text.as_str().unwrap().len()).max().unwrap();
        match number.fetch_add(1, Ordering::SeqCst) {
            1 => Reply::status(429).header("retry-after", 0),
            3 => Reply::status(500),
            _ if longest > 6000 => Reply::status(400).body(r#"{"error": {"message": "too long"}}"#),
            _ => {
                std::thread::sleep(Duration::from_millis(20));
                vectors(asked)
            }
        }
    });
    let endpoint = format!("curate.semantic.endpoint='{}'", server.address);
    let sets = [&endpoint, "curate.semantic.min_similarity=0.9999", "curate.semantic.max_tokens=3000"];
    let said = place.run(&args("calm", &sets));
    assert!(said.contains("semantic duplicates") && said.contains("similar meaning 90"), "{said}");
    let removed = lines(&place, "calm/removed/semantic_duplicates.jsonl");
    let kept: BTreeSet<String> = lines(&place, "calm/clusters.jsonl")
        .iter()
        .filter(|line| line["similar_meaning"] == 1)
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((removed.len(), kept.len()), (90, 90));
    assert!(removed.iter().all(|line| kept.contains(line["duplicate_of"].as_str().unwrap())));
    let calm = Digest::of_dir(&place.path("calm")).unwrap();

    // Killed and stopped while documents are embedded, it asks for none twice.
    server.asked();
    let length = || embeddings(&place, "stormy.work").map_or(0, |path| fs::metadata(path).unwrap().len());
    for end in [End::Kill, End::Interrupt] {
        let before = length();
        end_early(&place, &args("stormy", &sets), &end, || length() > before);
        assert!(!place.path("stormy").exists());
    }
    let said = place.run(&args("stormy", &sets));
    let of_request = |asked: &Asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        body["input"].as_array().map_or(0, Vec::len)
    };
    // But for those that were on the way when it was killed.
    let asked: usize = server.asked().iter().map(of_request).sum();
    assert!((360..=360 + 64).contains(&asked), "{asked}");
    assert!(said.contains("of 360 texts were embedded before"), "{said}");
    assert_eq!(Digest::of_dir(&place.path("stormy")).unwrap(), calm);

    // Another threshold embeds nothing again, and gives what it gives where nothing was there.
    server.asked();
    let sets = [&endpoint, "curate.semantic.min_similarity=0.9", "curate.semantic.max_tokens=3000"];
    place.run(&args("stormy", &sets));
    let texts = server.asked().iter().filter(|asked| asked.path.ends_with("/embeddings")).count();
    assert_eq!(texts, 0);
    place.run(&[&args("fresh", &sets)[..], &["--memory", "256MB", "--discard-work"]].concat());
    assert_eq!(Digest::of_dir(&place.path("stormy")).unwrap(), Digest::of_dir(&place.path("fresh")).unwrap());
    assert!(!place.path("fresh.work").exists());

    // A text that is refused is sent again in part.
    fs::write(
        place.path("meanings.jsonl"),
        format!("{}\n", json!({"text": (700..704).map(prose).collect::<String>()})),
    )
    .unwrap();
    place.run(&args("long", &sets));

    let locked = Server::start(|_| Reply::status(401));
    let endpoint = format!("curate.semantic.endpoint='{}'", locked.address);
    let said = place.fails(&args("locked", &[&endpoint, "curate.semantic.model='m'"]), 1);
    assert!(said.contains("cannot embed") && said.contains("meanings.jsonl:line 1"), "{said}");
    assert!(said.contains("401") && said.contains("hint: give a file with a key"), "{said}");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_read() {
    let place = Place::new();
    documents(&place);
    let check = |sets: &[&str], code: i32, wanted: &str| {
        let said = place.fails(&args("o", sets), code);
        assert!(said.contains(wanted) && said.contains("hint:"), "{said}");
        assert!(!place.path("o.work").exists());
    };
    check(&[], 2, "needs a semantic.model or a semantic.endpoint");
    check(&["curate.semantic.model='nobody'"], 1, "nobody");
    check(&["curate.semantic.model='a/b'"], 2, "no model of this name was pulled");
    check(&["curate.semantic.min_similarity=1.5", "curate.semantic.model='m'"], 2, "min_similarity = 1.5");
    check(&["curate.semantic.keep='best'"], 2, "unknown variant `best`");
}

/// The tuned model of the run embeds: texts that it reads the same beginning of are the same to it.
pub fn run(place: &Place) {
    let mut lines_of_texts = String::new();
    for number in 0..12 {
        let text = prose(number + 500);
        lines_of_texts.push_str(&format!("{}\n", json!({"text": text})));
        if number % 4 == 0 {
            let more = format!("{text} {}", prose(number + 900));
            lines_of_texts.push_str(&format!("{}\n", json!({"text": more})));
        }
    }
    fs::write(place.path("meanings.jsonl"), lines_of_texts).unwrap();
    let least = "curate.semantic.min_similarity=0.99999";
    let sets = ["curate.semantic.model='runs/calm'", "curate.semantic.max_tokens=60", least];
    for (out, pooling) in [("mean", "mean"), ("last", "last")] {
        let pooling = format!("curate.semantic.pooling='{pooling}'");
        place.run(&args(out, &[&sets[..], &[&pooling, "curate.semantic.keep='first'"]].concat()));
        let removed = lines(place, &format!("{out}/removed/semantic_duplicates.jsonl"));
        let sources: Vec<&str> = removed.iter().map(|line| line["source"].as_str().unwrap()).collect();
        let wanted = [2, 7, 12].map(|line| format!("meanings.jsonl:line {line}"));
        assert_eq!(sources, wanted);
    }
    let known = |work: &str| fs::read(embeddings(place, work).unwrap()).unwrap();
    let before = known("mean.work");
    place.run(&args("mean", &[&sets[..2], &["curate.semantic.min_similarity=0.2"]].concat()));
    assert!(known("mean.work") == before, "nothing is embedded again");
    assert!(lines(place, "mean/removed/semantic_duplicates.jsonl").len() > 3);
}
