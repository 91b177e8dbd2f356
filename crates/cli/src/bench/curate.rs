//! `alti bench curate`: how long each stage of curation takes a core.

use std::fmt::Write as _;

use corpus::{Options, Source, Stage};
use ledger::atomic::AtomicDir;
use ledger::machine::Machine;
use ledger::median;
use ledger::progress::{Progress, Unit};
use ledger::seed::Seed;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::text::{plural, write_line};
use super::{machine, program, show, too_many};
use crate::args::BenchCurate;
use crate::errors::Error;
use crate::progress::Shown;
use crate::recipe::Given;
use crate::report::scale::{bytes, count, figures, percent};
use crate::resumable::check_memory;
use crate::{embedder, interrupt};

/// Of the JSON. A number that changes its meaning raises it.
const VERSION: u32 = 1;

struct Report {
    sources: Vec<String>,
    machine: Machine,
    stages: Vec<Figures>,
}

/// A stage, with its seconds by round.
struct Figures {
    name: String,
    documents: u64,
    bytes: u64,
    seconds: Vec<f64>,
}

/// `alti bench curate`.
pub fn curate(args: &BenchCurate, shown: &Shown) -> Result<(), Error> {
    let recipe = Given::load(args.recipe.as_deref(), &args.set)?.recipe()?;
    check_memory(args.memory)?;
    let sources: Vec<Source> =
        args.sources.iter().map(|text| Ok(Source::parse(text)?)).collect::<Result<_, Error>>()?;
    interrupt::listen("removing what was made; once more to stop at once");
    let embedder = embedder::of(&recipe, shown)?;
    let options = Options {
        memory: args.memory,
        stop: Some(interrupt::flag()),
        embedder: embedder.as_deref(),
        ..Options::default()
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(too_many(1))?;
    let task = shown.begin("curating", Some(u64::from(args.rounds.get())), Unit::Items);
    let mut stages: Vec<Figures> = Vec::new();
    for round in 0..args.rounds.get() {
        let name = format!("alti-bench-curate-{}-{round}", std::process::id());
        // Never committed, so it goes when it is dropped.
        let scratch = AtomicDir::create(&std::env::temp_dir().join(name))?;
        let seed = Seed(recipe.seed);
        let found =
            pool.install(|| corpus::stages(&recipe.curate, &sources, scratch.path(), seed, &options))?;
        add(&mut stages, found);
        task.advance(1);
    }
    drop(task);
    let report = Report { sources: args.sources.clone(), machine: Machine::this(), stages };
    show(args.json, "the figures of curation", || report.json(), |width| report.page(width))
}

/// Adds a round's times.
fn add(stages: &mut Vec<Figures>, round: Vec<Stage>) {
    for Stage { name, documents, bytes, time } in round {
        match stages.iter_mut().find(|stage| stage.name == name) {
            Some(stage) => stage.seconds.push(time.as_secs_f64()),
            None => stages.push(Figures { name, documents, bytes, seconds: vec![time.as_secs_f64()] }),
        }
    }
}

impl Figures {
    fn seconds(&self) -> f64 {
        median(&self.seconds).max(1e-9)
    }
}

impl Report {
    fn seconds(&self) -> f64 {
        self.stages.iter().map(Figures::seconds).sum()
    }

    fn page(&self, width: usize) -> String {
        let mut page = format!("{} {}\n\n", "stages of curating".bold(), self.sources.join(" ").bold());
        let machine = format!("on {} of {}", plural(self.machine.cores, "core"), self.machine.processor);
        write_line(&mut page, "machine", "1 thread", &machine, width);
        let whole = self.stages.first().map_or(0.0, |read| read.documents as f64 / self.seconds());
        let meaning = "documents read, through all stages";
        write_line(&mut page, "whole  ", &format!("{} a second", figures(whole)), meaning, width);
        let names = self.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
        let line = |name: &str, cells: [String; 5]| {
            let [documents, size, share, rate, speed] = cells;
            format!("{name:<names$} {documents:>11} {size:>9} {share:>8} {rate:>15} {speed:>9}")
        };
        let heading = ["documents", "text", "of time", "documents/s", "MB/s"].map(str::to_owned);
        let _ = writeln!(page, "\n{}", line("", heading).bold());
        for stage in &self.stages {
            let cells = [
                count(stage.documents),
                bytes(stage.bytes),
                percent(stage.seconds() / self.seconds()),
                figures(stage.documents as f64 / stage.seconds()),
                figures(stage.bytes as f64 / stage.seconds() / 1e6),
            ];
            let _ = writeln!(page, "{}", line(&stage.name.replace('_', " "), cells));
        }
        page
    }

    fn json(&self) -> Value {
        let stages = self.stages.iter().map(|stage| {
            json!({
                "name": stage.name,
                "documents": stage.documents,
                "bytes": stage.bytes,
                "seconds": stage.seconds,
                "documents_per_second": stage.documents as f64 / stage.seconds(),
                "bytes_per_second": stage.bytes as f64 / stage.seconds(),
            })
        });
        json!({
            "bench": "curate",
            "version": VERSION,
            "program": program(),
            "machine": machine(&self.machine, 1, json!({})),
            "sources": self.sources,
            "stages": stages.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stage_is_its_median_round_and_shares_add_up() {
        let round = |read: u64, extract: u64| {
            let stage = |name: &str, documents, milliseconds| Stage {
                name: name.to_owned(),
                documents,
                bytes: 2_000_000,
                time: Duration::from_millis(milliseconds),
            };
            vec![stage("read", 100, read), stage("gopher_quality", 50, extract)]
        };
        let mut stages = Vec::new();
        for (read, extract) in [(100, 300), (900, 300), (100, 9_000)] {
            add(&mut stages, round(read, extract));
        }
        let report = Report { sources: vec!["pages".to_owned()], machine: Machine::default(), stages };
        let page = anstream::adapter::strip_str(&report.page(100)).to_string();
        let row = page.lines().find(|line| line.starts_with("gopher quality")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells[cells.len() - 2..], ["167", "6.67"], "{page}");
        assert!(row.contains("75"), "{page}");
        assert!(page.contains("250 a second"), "{page}");
        assert_eq!(report.json()["stages"][0]["documents_per_second"], 1_000.0);
    }
}
