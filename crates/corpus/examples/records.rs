//! Reads sources and prints what is found, a JSON line each: `cargo run --release -p corpus --example records -- SOURCE...`
//! With `--count` before them it prints the counts alone, with the megabytes of text a second.
#![allow(clippy::print_stdout)]

use std::ops::ControlFlow;

use corpus::{Found, Settings, Source, records};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let count = arguments.next_if(|argument| argument == "--count").is_some();
    let sources = arguments.map(|text| Source::parse(&text)).collect::<Result<Vec<_>, _>>()?;
    let started = std::time::Instant::now();
    let (mut documents, mut skipped, mut ignored, mut bytes) = (0u64, 0u64, 0u64, 0usize);
    records(&sources, &Settings::default(), |found| {
        let line = match found {
            Found::Record(record) => {
                (documents, bytes) = (documents + 1, bytes + record.text.len());
                serde_json::json!({
                    "place": record.source, "kind": record.kind.label, "url": record.url, "date": record.date,
                    "text": record.text,
                })
            }
            Found::Skipped(input) => {
                skipped += 1;
                serde_json::json!({ "place": input.place, "skipped": input.reason })
            }
            Found::Ignored(label) => {
                ignored += 1;
                serde_json::json!({ "ignored": label })
            }
        };
        if !count {
            println!("{line}");
        }
        ControlFlow::Continue(())
    })?;
    if count {
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{}",
            serde_json::json!({
                "documents": documents, "skipped": skipped, "ignored": ignored, "seconds": seconds,
                "documents_a_second": documents as f64 / seconds,
                "megabytes_a_second": bytes as f64 / 1e6 / seconds,
            })
        );
    }
    Ok(())
}
