//! Trains and applies a classifier on files of fastText's form, a line `__label__NAME text` a text, for measurements:
//! `cargo run --release -p corpus --example classify -- train FILE MODEL [KEY=VALUE …]` (the keys of
//! `corpus::classifier::Settings`) and `… -- predict MODEL FILE [ROUNDS]` on one thread. Prints a line of JSON.
#![allow(clippy::print_stdout)]

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use corpus::classifier::{Classifier, Sample, Scratch, Settings, train};
use ledger::progress::Silent;

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["train", file, model, ref settings @ ..] => {
            train_file(file.as_ref(), model.as_ref(), &settings.join("\n"))
        }
        ["predict", model, file] => predict_file(model.as_ref(), file.as_ref(), 1),
        ["predict", model, file, rounds] => predict_file(model.as_ref(), file.as_ref(), rounds.parse()?),
        _ => Err("train FILE MODEL [KEY=VALUE …], or predict MODEL FILE [ROUNDS]".into()),
    }
}

fn split(line: &str) -> Result<(&str, &str), Failed> {
    let (label, text) = line.split_once(' ').ok_or("a line without a text")?;
    Ok((label.strip_prefix("__label__").ok_or("a line without a label")?, text))
}

fn lines(path: &Path) -> Result<impl Iterator<Item = std::io::Result<String>>, Failed> {
    Ok(std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(path)?).lines())
}

fn train_file(file: &Path, model: &Path, settings: &str) -> Result<(), Failed> {
    let settings = Settings { held_out: 0.0, ..toml::from_str(settings)? };
    let mut labels: Vec<String> = Vec::new();
    for line in lines(file)? {
        let line = line?;
        let (label, _) = split(&line)?;
        if !labels.iter().any(|known| known == label) {
            labels.push(label.to_owned());
        }
    }
    let begun = Instant::now();
    let work = model.with_extension("work");
    std::fs::create_dir_all(&work)?;
    let trained = train::<Failed>(&settings, &labels, &work, &Silent, |push| {
        for line in lines(file)? {
            let line = line?;
            let (label, text) = split(&line)?;
            let label = labels.iter().position(|known| known == label).unwrap_or_default();
            push(Sample { label, text: text.to_owned() })?;
        }
        Ok(())
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    trained.write(model)?;
    std::fs::remove_dir_all(&work)?;
    println!("{}", serde_json::json!({"seconds": seconds, "words": trained.tokens(), "loss": trained.loss}));
    Ok(())
}

fn predict_file(model: &Path, file: &Path, rounds: u32) -> Result<(), Failed> {
    let begun = Instant::now();
    let classifier = Classifier::open(model)?;
    let opened = begun.elapsed().as_secs_f64();
    let labels = classifier.labels();
    let lines: Vec<String> = lines(file)?.collect::<Result<_, _>>()?;
    let texts: Vec<(&str, &str)> = lines.iter().map(|line| split(line)).collect::<Result<_, _>>()?;
    let mut scratch = Scratch::default();
    let (mut seconds, mut right) = (Vec::new(), 0);
    for _ in 0..rounds.max(1) {
        let begun = Instant::now();
        right = 0;
        for (label, text) in &texts {
            let shares = classifier.predict(text, &mut scratch).unwrap_or_default();
            let best =
                (0..shares.len()).fold(0, |best, one| if shares[one] > shares[best] { one } else { best });
            right += usize::from(labels[best] == *label);
        }
        seconds.push(begun.elapsed().as_secs_f64());
    }
    let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
    let accuracy = f64::from(right as u32) / texts.len() as f64;
    println!(
        "{}",
        serde_json::json!({"opened": opened, "seconds": seconds, "bytes": bytes, "texts": texts.len(), "accuracy": accuracy})
    );
    Ok(())
}
