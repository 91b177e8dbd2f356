//! What each step of curation costs on one thread: `stages PATH... [--rounds N]` prints a line of JSON with the documents,
//! the bytes of text that go in and the seconds of each, medians over the rounds.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::time::Instant;

use corpus::batch::{Builder, text_bytes};
use corpus::{Found, Settings, Source, records, steps};

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let mut rounds = 3;
    if let Some(at) = args.iter().position(|arg| arg == "--rounds") {
        rounds = args.get(at + 1).ok_or("--rounds needs a number")?.parse()?;
        args.drain(at..at + 2);
    }
    let sources: Vec<Source> = args.iter().map(|path| path.parse()).collect::<Result<_, _>>()?;
    let settings = Settings::default();
    let steps = steps::per_document(&settings, &[])?;
    let mut stages: Vec<(&str, u64, u64, Vec<f64>)> = vec![("read", 0, 0, Vec::new())];
    stages.extend(steps.iter().map(|step| (step.name(), 0, 0, Vec::new())));
    for _ in 0..rounds {
        let mut batches = Vec::new();
        let mut builder = Builder::new(0);
        let begun = Instant::now();
        records(&sources, &settings, |found| {
            if let Found::Record(record) = found {
                builder.push(&record);
                if builder.text_bytes() >= 1 << 20 {
                    batches.push(builder.finish());
                }
            }
            ControlFlow::Continue(())
        })?;
        batches.push(builder.finish());
        stages[0].3.push(begun.elapsed().as_secs_f64());
        stages[0].1 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        stages[0].2 = batches.iter().map(text_bytes).sum();
        for (step, stage) in steps.iter().zip(&mut stages[1..]) {
            stage.1 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
            stage.2 = batches.iter().map(text_bytes).sum();
            let begun = Instant::now();
            batches = batches
                .into_iter()
                .map(|batch| Ok(step.apply(batch)?.0))
                .collect::<Result<_, corpus::Error>>()?;
            stage.3.push(begun.elapsed().as_secs_f64());
        }
    }
    let json: Vec<_> = stages
        .into_iter()
        .map(|(name, documents, bytes, mut seconds)| {
            seconds.sort_by(f64::total_cmp);
            let seconds = seconds[seconds.len() / 2];
            BTreeMap::from([
                ("stage", serde_json::Value::from(name)),
                ("documents", documents.into()),
                ("bytes", bytes.into()),
                ("seconds", seconds.into()),
            ])
        })
        .collect();
    println!("{}", serde_json::to_string(&json)?);
    Ok(())
}
