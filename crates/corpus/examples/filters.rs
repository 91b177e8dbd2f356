//! What each rule says about each document, and how fast the steps are; `bench/curate/filters.py` calls it.
//!
//! `filters judge FILE [SETTINGS.toml]`: FILE has a JSON object a line (`text`, `kind`, `lang`, `url`); for each a JSON line
//! with every measure of every rule. `filters speed FILE ROUNDS [SETTINGS.toml]`: one thread takes the documents through all
//! steps of a curation as often as that and prints what each step took.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use corpus::Settings;
use corpus::batch::{Builder, Record, Rows, text_bytes};
use corpus::kind::{self, Kind};
use corpus::steps::line_dedup::LineCounts;
use corpus::steps::token_distribution::TokenCounts;
use corpus::steps::{self, Step, c4, code, fineweb, gopher_quality, gopher_repetition, measure::Measure};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = |at: usize| arguments.get(at).map(String::as_str);
    let (mode, file) = (text(0).unwrap_or_default(), text(1).ok_or("filters judge|speed FILE …")?);
    let settings = |at: usize| -> Result<Settings, Failure> {
        Ok(text(at).map_or(Ok(Settings::default()), |path| {
            toml::from_str(&std::fs::read_to_string(path).unwrap_or_default())
        })?)
    };
    let documents: Vec<Value> =
        std::fs::read_to_string(file)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    match mode {
        "judge" => judge(&documents, &settings(2)?),
        "speed" => {
            let (rounds, settings) = (text(2).unwrap_or("5").parse::<usize>()?.max(1), settings(3)?);
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
            pool.install(|| speed(&documents, rounds, &settings).map_err(|error| error.to_string()))?;
            Ok(())
        }
        other => Err(format!("{other:?} is neither judge nor speed").into()),
    }
}

fn record(document: &Value) -> Record {
    let field = |name: &str| document[name].as_str().map(String::from);
    Record {
        text: field("text").unwrap_or_default(),
        kind: document["kind"].as_str().and_then(Kind::of_label).unwrap_or(kind::WEB_TEXT),
        url: field("url"),
        source: "bench".into(),
        date: None,
        language: field("lang"),
    }
}

fn judge(documents: &[Value], settings: &Settings) -> Result<(), Failure> {
    let page_rules = c4::Rules(settings.c4.clone());
    for document in documents {
        let mut builder = Builder::new(0);
        builder.push(&record(document));
        let batch = builder.finish();
        let rows = Rows::of(&batch, "judge")?;
        let mut row = rows.iter().next().ok_or("a batch of one document has one row")?;
        row.language = document["lang"].as_str();
        let table = |measures: Vec<Measure>| -> Value {
            measures.into_iter().map(|m| (m.rule.to_string(), json!([m.value, m.passes()]))).collect()
        };
        let page = page_rules.page(row.kind, row.text);
        println!(
            "{}",
            json!({
                "gopher_quality": table(gopher_quality::measures(row, &settings.gopher_quality)),
                "gopher_repetition": table(gopher_repetition::measures(row, &settings.gopher_repetition)),
                "fineweb": table(fineweb::measures(row, &settings.fineweb)),
                "code": table(code::measures(row, &settings.code)),
                "c4": {
                    "text": page.text.clone().ok(), "refused": page.text.err(),
                    "dropped": page.dropped.into_iter().map(|(k, v)| (k.to_string(), json!(v))).collect::<Value>(),
                },
            })
        );
    }
    Ok(())
}

fn speed(documents: &[Value], rounds: usize, settings: &Settings) -> Result<(), Failure> {
    let mut batches = Vec::new();
    let mut builder = Builder::new(0);
    for document in documents {
        builder.push(&record(document));
        if builder.text_bytes() >= 1 << 20 || builder.len() >= 1024 {
            batches.push(builder.finish());
        }
    }
    if !builder.is_empty() {
        batches.push(builder.finish());
    }
    let steps = steps::per_document(settings, &[])?;
    let mut seen = vec![(0u64, 0u64, 0u64); steps.len()];
    let mut spent = vec![Vec::new(); steps.len()];
    for round in 0..rounds {
        let mut taken = vec![Duration::ZERO; steps.len()];
        for batch in &batches {
            let mut batch = batch.clone();
            for (index, step) in steps.iter().enumerate() {
                let (documents, bytes) = (batch.num_rows() as u64, text_bytes(&batch));
                let begun = Instant::now();
                let (kept, _) = step.apply(batch)?;
                taken[index] += begun.elapsed();
                if round == 0 {
                    let all = &mut seen[index];
                    *all = (all.0 + documents, all.1 + bytes, all.2 + kept.num_rows() as u64);
                }
                batch = kept;
            }
        }
        for (all, taken) in spent.iter_mut().zip(taken) {
            all.push(taken);
        }
    }
    for (step, ((documents, bytes, kept), spent)) in steps.iter().zip(seen.into_iter().zip(spent)) {
        report(step.name(), documents, kept, bytes, spent);
    }
    over_the_corpus(&batches, rounds, settings)
}

/// The steps that need counts of all documents: what counting them takes and what judging takes, over all that was read.
fn over_the_corpus(batches: &[RecordBatch], rounds: usize, settings: &Settings) -> Result<(), Failure> {
    let detect = steps::language::DetectLanguage::new(&settings.language);
    let batches: Vec<RecordBatch> =
        batches.iter().map(|batch| Ok(detect.apply(batch.clone())?.0)).collect::<Result<_, Failure>>()?;
    let documents = batches.iter().map(|batch| batch.num_rows() as u64).sum();
    let bytes = batches.iter().map(text_bytes).sum();
    let mut spent: [Vec<Duration>; 4] = Default::default();
    let mut kept = [documents; 4];
    for _ in 0..rounds {
        let folder = tempfile::tempdir()?;
        let begun = Instant::now();
        let mut lines = LineCounts::new(&settings.line_dedup, folder.path(), 256 << 20);
        for batch in &batches {
            lines.add(LineCounts::lines(batch)?)?;
        }
        let lines: Box<dyn Step> = Box::new(lines.finish()?);
        spent[0].push(begun.elapsed());
        let begun = Instant::now();
        let mut tokens = TokenCounts::new(&settings.token_distribution)?;
        tokens.add(&batches)?;
        let tokens: Box<dyn Step> = Box::new(tokens.finish());
        spent[2].push(begun.elapsed());
        for (place, step) in [(1, lines), (3, tokens)] {
            let begun = Instant::now();
            kept[place] = 0;
            for batch in &batches {
                kept[place] += step.apply(batch.clone())?.0.num_rows() as u64;
            }
            spent[place].push(begun.elapsed());
        }
    }
    let names =
        ["line_dedup (counting)", "line_dedup", "token_distribution (counting)", "token_distribution"];
    for (name, (kept, spent)) in names.into_iter().zip(kept.into_iter().zip(spent)) {
        report(name, documents, kept, bytes, spent);
    }
    Ok(())
}

fn report(step: &str, documents: u64, kept: u64, bytes: u64, mut spent: Vec<Duration>) {
    spent.sort();
    let seconds = spent[spent.len() / 2].as_secs_f64();
    let speed = bytes as f64 / 1e6 / seconds.max(1e-12);
    println!(
        "{}",
        json!({
            "step": step, "documents": documents, "kept": kept, "bytes": bytes, "seconds": seconds,
            "megabytes_a_second": speed,
        })
    );
}
