//! From a run's records to the page: which figure comes from which record. Nothing here draws.

use std::collections::BTreeMap;

use ledger::metrics::{self, Point};
use ledger::run::{Run, StageRecord};
use serde_json::Value;

use super::page::{Curves, Fact, Page, Sample};
use super::scale::{bytes, count, duration, percent, short};
use super::{dots, funnel, lineage};
use crate::errors::Error;
use crate::raise::STAGES;

/// Reads everything that the page shows. What a run has not reached yet is left empty.
pub fn gather(run: &Run) -> Result<Page, Error> {
    let none = Value::Null;
    let summary = |stage: &str| run.stage(stage).map_or(&none, |record| &record.summary);
    let points = metrics::read(run.root())?;
    let resolved = std::fs::read_to_string(run.resolved()).unwrap_or_default();
    let name = run
        .root()
        .canonicalize()
        .ok()
        .and_then(|root| root.file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "run".to_owned());
    let accuracy = accuracy(summary("eval"));
    Ok(Page {
        lead: lead(summary("pretrain"), summary("curate"), summary("tokenizer"), run.stage("sft").is_some()),
        headline: headline(run, &accuracy),
        curation: steps(&summary("curate")["funnel"]),
        skipped: skipped(&summary("curate")["funnel"]),
        languages: languages(&summary("curate")["funnel"]["languages"]),
        held_out: summary("curate")["funnel"]["held_out"]["documents"].as_u64().unwrap_or(0),
        kinds: counts(&summary("curate")["funnel"]["kinds"]),
        compression: compression(summary("tokenizer")),
        vocabulary: summary("tokenizer")["vocab_size"].as_u64().unwrap_or(0),
        pretrain: curves(&points, "pretrain"),
        sft: curves(&points, "sft"),
        bits_per_byte: bits_per_byte(summary("eval")),
        accuracy,
        samples: samples(summary("eval")),
        stages: stages(run),
        repeat: repeat(run, &name),
        resolved,
        name,
    })
}

fn lead(pretrain: &Value, curate: &Value, tokenizer: &Value, tuned: bool) -> String {
    let Some(parameters) = pretrain["model"]["parameters"].as_u64() else {
        return "A run that has not trained a model yet.".to_owned();
    };
    let text = curate["bytes"]
        .as_u64()
        .map(|size| format!(" on {} of curated text", bytes(size)))
        .unwrap_or_default();
    let then = if tuned { ", then taught to answer" } else { "" };
    let whole = if tokenizer["path"].is_string() { "" } else { " and its tokenizer" };
    format!("A Llama of {} parameters{whole}, trained from nothing{text}{then}.", short(parameters as f64))
}

fn headline(run: &Run, accuracy: &[dots::Row]) -> Vec<Fact> {
    let fact = |label: &str, value: String, note: String| Fact { label: label.to_owned(), value, note };
    let mut facts = Vec::new();
    if let Some(pretrain) = run.stage("pretrain").map(|record| &record.summary) {
        let model = &pretrain["model"];
        let number = |value: &Value| value.as_u64().map_or("?".to_owned(), count);
        facts.push(fact(
            "parameters",
            short(model["parameters"].as_f64().unwrap_or(0.0)),
            format!(
                "{} layers, width {}, {} heads ({} for keys and values)",
                number(&model["layers"]),
                number(&model["dim"]),
                number(&model["heads"]),
                number(&model["kv_heads"])
            ),
        ));
        facts.push(fact(
            "pretraining tokens",
            short(pretrain["tokens"].as_f64().unwrap_or(0.0)),
            format!(
                "{} tokens a second, {} of the machine's peak",
                short(pretrain["tokens_per_second"].as_f64().unwrap_or(0.0)),
                percent(pretrain["share_of_peak"].as_f64().unwrap_or(0.0))
            ),
        ));
    }
    if let Some(eval) = run.stage("eval").map(|record| &record.summary) {
        if let Some(bits) = eval["before"]["bits_per_byte"].as_f64() {
            facts.push(fact(
                "bits per byte",
                format!("{bits:.3}"),
                "of held-out documents, base model".to_owned(),
            ));
        }
        let mean = |pick: fn(&dots::Row) -> Option<dots::Accuracy>| {
            let values: Vec<f64> = accuracy.iter().filter_map(pick).map(|a| a.value).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        if let Some(after) = mean(|row| row.after) {
            let before =
                mean(|row| row.before).map_or(String::new(), |b| format!(", {} before tuning", percent(b)));
            facts.push(fact(
                "accuracy",
                percent(after),
                format!("mean of {} kinds of held-out questions{before}", accuracy.len()),
            ));
        }
    }
    let manifest = run.manifest();
    let total: f64 = manifest.stages.values().map(|stage| stage.record.seconds).sum();
    let machine = &manifest.machine;
    facts.push(fact(
        "work in all",
        duration(total),
        format!("{} cores, {}", machine.cores, machine.processor),
    ));
    facts
}

/// The steps of an account of curation, as `funnel.json` has it.
pub fn steps(funnel: &Value) -> Vec<funnel::Step> {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    funnel["steps"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| funnel::Step {
            name: readable(step["name"].as_str().unwrap_or_default()),
            documents_in: number(&step["documents_in"]),
            documents_out: number(&step["documents_out"]),
            bytes_in: number(&step["bytes_in"]),
            bytes_out: number(&step["bytes_out"]),
            removed: readable_counts(&step["removed"]),
            changed: readable_counts(&step["edits"]),
        })
        .collect()
}

/// An object of counts, the largest first.
fn counts(object: &Value) -> Vec<(String, u64)> {
    let mut pairs: Vec<(String, u64)> = object
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, n)| (name.clone(), n.as_u64().or_else(|| n["documents"].as_u64()).unwrap_or(0)))
        .filter(|(_, n)| *n > 0)
        .collect();
    pairs.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    pairs
}

/// Languages as the funnel counts them; code and data have none.
fn languages(object: &Value) -> Vec<(String, u64)> {
    let name = |name: String| if name == "none" { "none (code, data)".to_owned() } else { name };
    counts(object).into_iter().map(|(language, n)| (name(language), n)).collect()
}

fn readable_counts(object: &Value) -> Vec<(String, u64)> {
    counts(object).into_iter().map(|(name, n)| (readable(&name), n)).collect()
}

/// A name of a program's as a person writes it.
pub fn readable(name: &str) -> String {
    name.replace(['_', '-'], " ")
}

fn skipped(funnel: &Value) -> (u64, Vec<(String, String)>) {
    let skipped = &funnel["skipped"];
    let examples = skipped["examples"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (
        skipped["count"].as_u64().unwrap_or(0),
        examples.map(|example| (text(&example["place"]), text(&example["reason"]))).collect(),
    )
}

fn compression(tokenizer: &Value) -> Vec<(f64, f64)> {
    let specials = match (tokenizer["vocab_size"].as_f64(), tokenizer["ordinary_tokens"].as_f64()) {
        (Some(all), Some(ordinary)) => all - ordinary,
        _ => 0.0,
    };
    tokenizer["compression"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|point| {
            Some((point["vocab_size"].as_f64()? - specials, point["bytes_per_token"].as_f64()?))
        })
        .collect()
}

fn curves(points: &[Point], stage: &str) -> Curves {
    let column = |name: &str| -> Vec<(f64, f64)> {
        points
            .iter()
            .filter(|point| point.stage == stage)
            .filter_map(|point| Some((point.step as f64, *point.values.get(name)?)))
            .collect()
    };
    Curves {
        loss: column("loss"),
        held_out: column("held_out_loss"),
        learning_rate: column("learning_rate"),
        throughput: column("tokens_per_second"),
    }
}

fn accuracy(eval: &Value) -> Vec<dots::Row> {
    let mut rows: BTreeMap<String, dots::Row> = BTreeMap::new();
    let mut order = Vec::new();
    for side in ["before", "after"] {
        for (kind, value) in eval[side]["accuracy"].as_object().into_iter().flatten() {
            let number = |name: &str| value[name].as_f64().unwrap_or(0.0);
            let one = dots::Accuracy {
                correct: value["correct"].as_u64().unwrap_or(0),
                total: value["total"].as_u64().unwrap_or(0),
                value: number("value"),
                low: number("low"),
                high: number("high"),
            };
            let row = rows.entry(kind.clone()).or_insert_with(|| {
                order.push(kind.clone());
                dots::Row { kind: readable(kind), ..dots::Row::default() }
            });
            if side == "before" { row.before = Some(one) } else { row.after = Some(one) }
        }
    }
    order.iter().filter_map(|kind| rows.remove(kind)).collect()
}

fn bits_per_byte(eval: &Value) -> Vec<(String, Option<f64>, Option<f64>)> {
    let side = |side: &str| eval[side]["bits_per_byte"].as_f64();
    match (side("before"), side("after")) {
        (None, None) => Vec::new(),
        (before, after) => vec![("all held-out documents".to_owned(), before, after)],
    }
}

fn samples(eval: &Value) -> Vec<Sample> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    eval["samples"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|sample| Sample {
            chat: sample["chat"].as_bool().unwrap_or(false),
            prompt: text(&sample["prompt"]),
            text: text(&sample["text"]),
        })
        .collect()
}

fn stages(run: &Run) -> Vec<lineage::Stage> {
    let pairs = |map: &BTreeMap<String, ledger::digest::Digest>| {
        map.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect()
    };
    let stage = |name: &&str| -> Option<lineage::Stage> {
        let record: &StageRecord = run.stage(name)?;
        Some(lineage::Stage {
            name: (*name).to_owned(),
            inputs: pairs(&record.inputs),
            outputs: pairs(&record.outputs),
            settings: record.settings.to_string(),
            started: record.started.get(..19).unwrap_or(&record.started).to_owned(),
            seconds: record.seconds,
        })
    };
    // The report cannot hold its own hash.
    STAGES.iter().filter(|name| **name != "report").filter_map(stage).collect()
}

fn repeat(run: &Run, name: &str) -> Vec<(String, String)> {
    let manifest = run.manifest();
    let machine = &manifest.machine;
    let row = |label: &str, value: String| (label.to_owned(), value);
    let recipe = match std::fs::read_to_string(run.recipe()).unwrap_or_default().trim() {
        "" => "# empty: every setting at its default".to_owned(),
        text => text.to_owned(),
    };
    vec![
        row("command", format!("alti raise --name {name} --recipe recipe.toml")),
        row("recipe.toml", recipe),
        row("commit", manifest.commit.clone()),
        row("toolchain", manifest.toolchain.clone()),
        row("seed", manifest.seed.to_string()),
        row(
            "machine",
            format!(
                "{}, {} cores, {} of memory, {}",
                machine.processor,
                machine.cores,
                bytes(machine.memory),
                machine.system
            ),
        ),
        row("begun", manifest.created.clone()),
    ]
}
