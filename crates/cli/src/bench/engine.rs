//! `alti bench engine`: how fast this machine reads prompts with a model and writes answers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use engine::bench::{Bench, Measured, Rate};
use kernels::bandwidth::{Bandwidth, measured_bandwidth};
use ledger::machine::Machine;
use ledger::seed::Seed;
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::text::{gauge, milliseconds_with_unit, plural, rate, write_line};
use super::{machine, program, show, too_many};
use crate::args;
use crate::errors::Error;
use crate::open;
use crate::progress::Shown;
use crate::report::scale::{bytes, count, figures};

/// Of the JSON. A number that changes its meaning raises it.
const VERSION: u32 = 1;
/// How long memory is measured.
const BANDWIDTH_TIME: Duration = Duration::from_secs(2);
/// What the engine calls the adapter.
const ADAPTER: &str = "adapter";
/// Columns of a share's bar.
const BAR: usize = 12;

/// Everything that is shown or written.
struct Report {
    name: String,
    /// What the prompts and answers were like.
    requests: Value,
    /// Bytes of the weights that a pass reads, however many tokens it has.
    pass_bytes: usize,
    machine: Machine,
    threads: usize,
    settings: engine::Settings,
    bandwidth: Bandwidth,
    measured: Measured,
}

/// `alti bench engine`.
pub fn engine(args: &args::BenchEngine, shown: &Shown) -> Result<(), Error> {
    let machine = Machine::this();
    let threads = args.threads.map_or(machine.cores, usize::from);
    // The engine's thread works on the global pool, which is not there yet.
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(too_many(threads))?;
    let found = open::find(&args.run)?;
    let mut settings = open::engine_settings(&found, &args.set)?;
    // Others of the recipe would only take memory.
    settings.adapters = args.adapter.iter().map(|folder| (ADAPTER.to_owned(), folder.clone())).collect();
    let texts = args.texts.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let (llama, tokenizer) = open::load(&found, settings.precision, shown)?;
    let engine = open::engine((Arc::clone(&llama), tokenizer), settings.clone(), shown)?;
    let text = texts.iter().flat_map(|text| engine.tokenizer().encode(text)).collect::<Vec<u32>>();
    let streams: Vec<usize> = args.streams.iter().map(|&streams| usize::from(streams)).collect();
    let measured = engine::bench::run(
        &engine,
        &Bench {
            prompts: &args.prompt,
            generate: args.generate,
            after: usize::from(args.after),
            streams: &streams,
            rounds: args.rounds.get(),
            repeat: args.repeat.map(usize::from),
            text: (!args.texts.is_empty()).then_some(&text[..]),
            temperature: args.temperature,
            adapter: args.adapter.is_some().then_some(ADAPTER),
            seed: Seed(0),
            progress: shown,
        },
    )?;
    engine.shutdown();
    let report = Report {
        name: found.name,
        requests: json!({
            "after": args.after, "texts": args.texts, "temperature": args.temperature, "adapter": args.adapter,
        }),
        pass_bytes: llama.pass_bytes(),
        machine,
        threads,
        settings,
        bandwidth: measured_bandwidth(BANDWIDTH_TIME),
        measured,
    };
    show(args.json, "the figures of an engine", || report.json(), |width| report.page(width))
}

/// The text of a file; an empty one leaves nothing to take stretches of.
fn read(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let refuse = |what: String| Error::Usage {
        message: format!("{}{what}", path.display()),
        hint: "--text takes files of plain text".into(),
    };
    match String::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => Err(refuse(" holds no text".into())),
        Ok(text) => Ok(text),
        Err(error) => Err(refuse(format!(", byte {}: is no UTF-8", error.utf8_error().valid_up_to()))),
    }
}

impl Report {
    /// The share of the memory's speed that the weights alone make up where one pass gives each answer a token.
    fn share_of_bandwidth(&self, decode: &Rate) -> f64 {
        let passes = decode.tokens_per_second() / decode.size as f64;
        passes * self.pass_bytes as f64 / self.bandwidth.read
    }

    fn page(&self, width: usize) -> String {
        let mut page = format!("{} {}\n\n", "answers of".bold(), self.name.bold());
        let machine = format!("on {} of {}", plural(self.machine.cores, "core"), self.machine.processor);
        write_line(&mut page, "machine  ", &plural(self.threads, "thread"), &machine, width);
        let memory = format!(
            "memory: all threads read {} again and again, the best pass",
            bytes(self.bandwidth.buffer as u64)
        );
        write_line(&mut page, "         ", &rate(self.bandwidth.read, "B/s"), &memory, width);
        let weights = "of weights are read for each token of one answer, and once for all answers that are written \
                       at once";
        write_line(&mut page, "model    ", &bytes(self.pass_bytes as u64), weights, width);
        page.push('\n');
        let heading = format!("{:<28} {:>9} {:>11}  of the memory's speed", "", "tokens/s", "median");
        page.push_str(&format!("{}\n", heading.bold()));
        for prefill in &self.measured.prefill {
            let what = format!("read a prompt of {}", count(prefill.size as u64));
            page.push_str(&row(&what, prefill));
            page.push('\n');
        }
        for decode in &self.measured.decode {
            let what = match decode.size {
                1 => "write one answer".to_owned(),
                streams => format!("write {streams} answers at once"),
            };
            let gauge = gauge(self.share_of_bandwidth(decode), BAR, 1.0);
            page.push_str(&format!("{}  {gauge}\n", row(&what, decode)));
            if let (drafted @ 1.., right) = decode.drafted {
                let share = 100.0 * right as f64 / drafted as f64;
                page.push_str(&format!(
                    "  of {} tokens guessed {share:.0}% were right\n",
                    count(drafted as u64)
                ));
            }
        }
        page
    }

    fn json(&self) -> Value {
        let prefill = self.measured.prefill.iter().map(|one| {
            json!({"tokens": one.size, "seconds": one.seconds, "tokens_per_second": one.tokens_per_second()})
        });
        let decode = self.measured.decode.iter().map(|one| {
            json!({
                "streams": one.size,
                "tokens": one.tokens,
                "seconds": one.seconds,
                "tokens_per_second": one.tokens_per_second(),
                "share_of_bandwidth": self.share_of_bandwidth(one),
                "drafted_tokens": one.drafted.0,
                "accepted_tokens": one.drafted.1,
            })
        });
        json!({
            "bench": "engine",
            "version": VERSION,
            "program": program(),
            "machine": machine(
                &self.machine,
                self.threads,
                json!({ "read_bytes_per_second": self.bandwidth.read }),
            ),
            "model": {"name": self.name, "pass_bytes": self.pass_bytes},
            "engine": self.settings,
            "requests": self.requests,
            "prefill": prefill.collect::<Vec<_>>(),
            "decode": decode.collect::<Vec<_>>(),
        })
    }
}

/// `write 8 answers at once        31.2    1.2 s`.
fn row(what: &str, found: &Rate) -> String {
    let rate = found.tokens_per_second();
    format!("{what:<28} {:>9} {:>11}", figures(rate), milliseconds_with_unit(found.tokens as f64 / rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_held_against_the_memory_and_many_share_a_pass() {
        let report = Report {
            name: "a-llama".to_owned(),
            requests: Value::Null,
            pass_bytes: 1_000_000_000,
            machine: Machine { processor: "A Processor of 2026".to_owned(), cores: 2, ..Machine::default() },
            threads: 2,
            settings: engine::Settings::default(),
            bandwidth: Bandwidth { read: 40e9, update: 40e9, buffer: 512 << 20, last_cache: None },
            measured: Measured {
                prefill: vec![Rate {
                    size: 512,
                    tokens: 512,
                    seconds: vec![1.0, 4.0, 2.0],
                    ..Rate::default()
                }],
                decode: vec![
                    Rate { size: 1, tokens: 64, seconds: vec![2.0], ..Rate::default() },
                    Rate { size: 8, tokens: 512, seconds: vec![4.0], drafted: (200, 150) },
                ],
            },
        };
        let page = anstream::adapter::strip_str(&report.page(80)).to_string();
        for line in page.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        // 32 passes a second of a gigabyte are 80 % of 40 GB/s; 128 tokens a second of 8 answers are 16 passes.
        let found: Vec<&str> = page.lines().skip_while(|line| !line.contains("tokens/s")).skip(1).collect();
        assert!(found[0].starts_with("read a prompt of 512") && found[0].contains(" 256 "), "{page}");
        assert!(found[1].starts_with("write one answer") && found[1].ends_with("80%"), "{page}");
        assert!(found[2].starts_with("write 8 answers at once") && found[2].ends_with("40%"), "{page}");
        assert_eq!(found[3], "  of 200 tokens guessed 75% were right", "{page}");
        let json = report.json();
        assert_eq!(json["decode"][1]["accepted_tokens"], 150);
        assert_eq!(json["decode"][1]["share_of_bandwidth"], 0.4);
        assert_eq!(json["prefill"][0]["tokens_per_second"], 256.0);
    }
}
