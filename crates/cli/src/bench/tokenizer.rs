//! `alti bench tokenizer`: how fast this machine turns texts into tokens.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use ledger::machine::Machine;
use ledger::median;
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use tokenizer::AnyTokenizer;

use super::text::{plural, write_line};
use super::{machine, program, show, too_many};
use crate::args;
use crate::errors::Error;
use crate::open;
use crate::progress::Shown;
use crate::report::scale::{bytes, count, figures};

/// Of the JSON. A number that changes its meaning raises it.
const VERSION: u32 = 1;
/// Documents of a batch have about this many bytes: a long web page.
const DOCUMENT_BYTES: usize = 16 << 10;

struct Report {
    name: String,
    vocab_size: usize,
    machine: Machine,
    threads: usize,
    texts: Vec<Text>,
}

struct Text {
    name: String,
    bytes: usize,
    /// Of the text as one document.
    tokens: usize,
    /// Seconds of one thread for the whole text, by round.
    alone: Vec<f64>,
    /// Seconds of one thread for the same text cut into documents, by round.
    batch_alone: Vec<f64>,
    /// Seconds of all threads for these documents, by round.
    batch: Vec<f64>,
}

/// `alti bench tokenizer`.
pub fn tokenizer(args: &args::BenchTokenizer, shown: &Shown) -> Result<(), Error> {
    let machine = Machine::this();
    let threads = args.threads.map_or(machine.cores, usize::from);
    let pool =
        |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(too_many(threads));
    let pools = [pool(1)?, pool(threads)?];
    let tokenizer = open::any_tokenizer(&args.tokenizer)?;
    let mut texts = Vec::new();
    for path in &args.files {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let text = String::from_utf8_lossy(&bytes);
        shown.line(&format!("measuring {}", path.display()));
        texts.push(measure(&tokenizer, path, &text, args.rounds.get(), &pools));
    }
    let name = args.tokenizer.display().to_string();
    let report = Report { name, vocab_size: tokenizer.vocab_size(), machine, threads, texts };
    show(args.json, "the figures of a tokenizer", || report.json(), |width| report.page(width))
}

fn measure(
    tokenizer: &AnyTokenizer,
    path: &Path,
    text: &str,
    rounds: u32,
    pools: &[rayon::ThreadPool; 2],
) -> Text {
    let documents = documents(text);
    let mut tokens = tokenizer.encode(text);
    for pool in pools {
        pool.install(|| tokenizer.encode_batch(&documents));
    }
    let (mut alone, mut batches) = (Vec::new(), [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        tokens.clear();
        let start = Instant::now();
        tokenizer.encode_into(text, &mut tokens);
        alone.push(start.elapsed().as_secs_f64());
        for (pool, seconds) in pools.iter().zip(&mut batches) {
            let start = Instant::now();
            let encoded = pool.install(|| tokenizer.encode_batch(&documents));
            seconds.push(start.elapsed().as_secs_f64());
            drop(encoded);
        }
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let [batch_alone, batch] = batches;
    Text { name, bytes: text.len(), tokens: tokens.len(), alone, batch_alone, batch }
}

/// The text in parts, cut at the first end of a line after [`DOCUMENT_BYTES`].
fn documents(mut text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    while !text.is_empty() {
        let from = text.floor_char_boundary(DOCUMENT_BYTES);
        let end = text[from..].find('\n').map_or(text.len(), |found| from + found + 1);
        let (document, rest) = text.split_at(end);
        documents.push(document);
        text = rest;
    }
    documents
}

impl Text {
    fn rate(&self, seconds: &[f64]) -> f64 {
        self.bytes as f64 / median(seconds)
    }

    /// How many times as fast the documents are encoded by all threads as by one.
    fn scaling(&self) -> f64 {
        median(&self.batch_alone) / median(&self.batch)
    }
}

impl Report {
    fn page(&self, width: usize) -> String {
        let mut page = format!("{} {}\n\n", "tokens of".bold(), self.name.bold());
        let machine = format!("on {} of {}", plural(self.machine.cores, "core"), self.machine.processor);
        write_line(&mut page, "machine  ", &plural(self.threads, "thread"), &machine, width);
        write_line(&mut page, "tokenizer", &count(self.vocab_size as u64), "tokens of vocabulary", width);
        let names = self.texts.iter().map(|text| text.name.chars().count()).max().unwrap_or(0).clamp(4, 40);
        let heading = [
            "size".to_owned(),
            "bytes/token".to_owned(),
            "MB/s, 1 thread".to_owned(),
            "in documents".to_owned(),
            plural(self.threads, "thread"),
            "times".to_owned(),
        ];
        let line = |name: &str, cells: &[String; 6]| {
            let [size, ratio, alone, one, all, times] = cells;
            format!("{name:<names$} {size:>9} {ratio:>12} {alone:>15} {one:>13} {all:>10} {times:>6}")
        };
        let _ = writeln!(page, "\n{}", line("", &heading).bold());
        for text in &self.texts {
            let cells = [
                bytes(text.bytes as u64),
                figures(text.bytes as f64 / text.tokens.max(1) as f64),
                figures(text.rate(&text.alone) / 1e6),
                figures(text.rate(&text.batch_alone) / 1e6),
                figures(text.rate(&text.batch) / 1e6),
                figures(text.scaling()),
            ];
            let name: String = text.name.chars().take(names).collect();
            let _ = writeln!(page, "{}", line(&name, &cells));
        }
        page
    }

    fn json(&self) -> Value {
        let texts = self.texts.iter().map(|text| {
            json!({
                "name": text.name,
                "bytes": text.bytes,
                "tokens": text.tokens,
                "seconds": text.alone,
                "bytes_per_second": text.rate(&text.alone),
                "batch_one_thread_seconds": text.batch_alone,
                "batch_one_thread_bytes_per_second": text.rate(&text.batch_alone),
                "batch_scaling": text.scaling(),
                "batch_seconds": text.batch,
                "batch_bytes_per_second": text.rate(&text.batch),
            })
        });
        json!({
            "bench": "tokenizer",
            "version": VERSION,
            "program": program(),
            "machine": machine(&self.machine, self.threads, json!({})),
            "tokenizer": {"name": self.name, "vocab_size": self.vocab_size},
            "texts": texts.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_ends_of_lines_and_nothing_is_lost() {
        let text = "a line that is long é\n".repeat(3000);
        let found = documents(&text);
        assert!(found.len() > 2 && found.iter().all(|part| part.ends_with('\n')));
        assert_eq!(found.concat(), text);
        assert!(documents("").is_empty());
        assert_eq!(documents("é").concat(), "é");
    }

    #[test]
    fn rates_are_bytes_by_the_median_second() {
        let text = |name: &str| Text {
            name: name.to_owned(),
            bytes: 4_000_000,
            tokens: 1_000_000,
            alone: vec![0.5, 0.04, 0.01],
            batch_alone: vec![0.05],
            batch: vec![0.02],
        };
        let report = Report {
            name: "llama".to_owned(),
            vocab_size: 128_256,
            machine: Machine { processor: "A Processor of 2026".to_owned(), cores: 2, ..Machine::default() },
            threads: 2,
            texts: vec![text("prose.txt"), text(&"long".repeat(20))],
        };
        let page = anstream::adapter::strip_str(&report.page(80)).to_string();
        let row = page.lines().find(|line| line.starts_with("prose.txt")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells[cells.len() - 5..], ["4", "100", "80", "200", "2.5"], "{page}");
        assert_eq!(report.json()["texts"][0]["bytes_per_second"], 1e8);
    }
}
