//! Detects the language of every line of the given files: `cargo run --release -p corpus --example language -- FILE...`
//! prints a JSON line a file with the codes that were found and how often, and the megabytes a second.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    corpus::language::Model::get();
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path)?;
        let started = Instant::now();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut scores: Vec<(&str, f64)> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let found = corpus::language::detect(line);
            let (language, score) = found.map_or(("none", 0.0), |found| (found.language, found.score));
            *counts.entry(language).or_default() += 1;
            scores.push((language, score));
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{}",
            serde_json::json!({ "file": path, "counts": counts, "scores": scores, "bytes": text.len(), "seconds": seconds })
        );
    }
    Ok(())
}
