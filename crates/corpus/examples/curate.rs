//! Curates the given sources (or the cargo registry) into a folder and prints the funnel:
//! `cargo run --release -p corpus --example curate -- OUT [SETTINGS.toml] [SOURCE]...`
#![allow(clippy::print_stdout)]

use std::path::Path;

use corpus::{Settings, Source, curate};
use ledger::progress::Silent;
use ledger::seed::Seed;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let out = arguments.next().ok_or("the folder to write is missing")?;
    let settings = match arguments.next_if(|argument| argument.ends_with(".toml")) {
        Some(path) => toml::from_str(&std::fs::read_to_string(path)?)?,
        None => Settings::default(),
    };
    let mut sources = arguments.map(|text| Source::parse(&text)).collect::<Result<Vec<_>, _>>()?;
    if sources.is_empty() {
        sources.push(Source::Registry);
    }
    let started = std::time::Instant::now();
    let funnel = curate(&settings, &sources, &[], Path::new(&out), Seed(1), &Silent)?;
    for step in &funnel.steps {
        println!(
            "{:20} {:>7} -> {:>7} documents, {:>11} -> {:>11} bytes",
            step.name, step.documents_in, step.documents_out, step.bytes_in, step.bytes_out
        );
        for (reason, count) in step.removed.iter().chain(&step.edits) {
            println!("    {count:>7} {reason}");
        }
    }
    println!("skipped {:?}\nignored {:?}", funnel.skipped, funnel.ignored);
    println!("languages {:?}\nkinds {:?}", funnel.languages, funnel.kinds);
    println!("train {:?} held out {:?} in {:.1?}", funnel.train, funnel.held_out, started.elapsed());
    Ok(())
}
