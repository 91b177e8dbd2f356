//! The figures of a step for a person: the machine, the step, memory, and a table of the operations.

use std::fmt::Write;

use owo_colors::OwoColorize;
use train::bench::{Bound, Share};

use super::Report;
use crate::bench::text::{gauge, milliseconds, milliseconds_with_unit, plural, rate, wrapped, write_line};
use crate::report::scale::{bytes, count, figures, percent, short};

/// From so many columns on, names are whole and bars long.
const WIDE: usize = 100;
/// Operations with a smaller share of the step are counted together.
const SMALL: f64 = 0.001;

/// The whole page, for a terminal of so many columns.
pub fn of(report: &Report, width: usize) -> String {
    let mut page = format!("{} {}\n\n", "training step of".bold(), report.subject.bold());
    for (heading, figure, meaning) in lines(report) {
        let heading = format!("{heading:<9}");
        write_line(&mut page, &heading, &figure, &meaning, width);
    }
    page.push('\n');
    table(&mut page, report, width);
    page
}

/// Headings, figures and what they mean.
fn lines(report: &Report) -> Vec<(&'static str, String, String)> {
    let Report { plan, measured, roofline, machine, .. } = report;
    let model = &plan.model;
    let mut lines = vec![
        (
            "machine",
            plural(report.threads, "thread"),
            format!(
                "on {} of {}; {} products by {}",
                plural(machine.cores, "core"),
                machine.processor,
                report.precision(),
                report.instructions()
            ),
        ),
        (
            "",
            rate(roofline.peak, "FLOP/s"),
            "peak: the best large square product that was seen here".to_owned(),
        ),
        ("", rate(roofline.bandwidth.read, "B/s"), bandwidth(report)),
        (
            "model",
            short(measured.parameters as f64),
            format!(
                "parameters: {} layers, width {}, {} heads ({} for keys and values), feed-forward {}, {} tokens of \
                 vocabulary",
                model.layers,
                count(model.dim as u64),
                model.heads,
                model.kv_heads,
                count(model.ffn_dim as u64),
                count(model.vocab_size as u64)
            ),
        ),
        ("batch", format!("{} tokens", count(measured.tokens)), batch(report)),
    ];
    let (best, worst) = measured
        .seconds
        .iter()
        .fold((f64::INFINITY, 0.0f64), |(best, worst), &one| (best.min(one), worst.max(one)));
    lines.extend([
        (
            "step",
            milliseconds_with_unit(measured.median()),
            format!(
                "median of {}, between {} and {}",
                measured.seconds.len(), milliseconds_with_unit(best), milliseconds_with_unit(worst)
            ),
        ),
        (
            "",
            format!("{} tok/s", count(measured.tokens_per_second().round() as u64)),
            format!(
                "tokens a second at the median, between {} and {}",
                count((measured.tokens as f64 / worst).round() as u64),
                count((measured.tokens as f64 / best).round() as u64)
            ),
        ),
        (
            "",
            format!("{} of peak", percent(report.utilisation())),
            format!(
                "model FLOPs utilisation: a token counts {}FLOPs, 6 x weights in products + 6 x layers x width \
                 of all heads x row length, whatever borders of documents spare and `recompute` adds",
                spaced(short(measured.flops_per_token)),
            ),
        ),
        ("memory", measured.memory.peak.map_or("unknown".to_owned(), bytes), memory(report)),
    ]);
    lines
}

fn bandwidth(report: &Report) -> String {
    let found = report.roofline.bandwidth;
    let mut text = format!(
        "memory: all threads read {}, the best pass; {} where each value is read and replaced",
        bytes(found.buffer as u64),
        rate(found.update, "B/s")
    );
    if let Some(cache) = found.last_cache.filter(|cache| 2 * cache > found.buffer) {
        write!(text, " (the last cache holds {}, so part may come from there)", bytes(cache as u64))
            .unwrap_or_default();
    }
    text
}

fn batch(report: &Report) -> String {
    let Report { plan, measured, documents, .. } = report;
    let rows = plan.rows * measured.micro_batches as usize;
    let mut text = format!("{} rows of {}", count(rows as u64), count(plan.seq_len as u64));
    if measured.micro_batches > 1 {
        write!(text, ", in {} micro-batches", measured.micro_batches).unwrap_or_default();
    }
    let parts =
        if measured.documents == 1 { "document or part of one" } else { "documents or parts of them" };
    write!(text, "; {} {parts}, {documents}", count(measured.documents)).unwrap_or_default();
    if measured.micro_batches < plan.accumulation {
        write!(
            text,
            ". The recipe's step has {} micro-batches, which would take long, so adamw weighs {} times as much here",
            plan.accumulation,
            figures(f64::from(plan.accumulation) / f64::from(measured.micro_batches))
        )
        .unwrap_or_default();
    }
    text
}

fn memory(report: &Report) -> String {
    let memory = report.measured.memory;
    let mut text = format!(
        "at the peak: weights {}, gradients {}, moments {}, activations {}, scratch {}",
        bytes(memory.weights),
        bytes(memory.gradients),
        bytes(memory.moments),
        bytes(memory.activations),
        bytes(memory.scratch)
    );
    if let Some(rest) = memory.peak.and_then(|peak| peak.checked_sub(memory.named())) {
        write!(text, ", the program and packed operands {}", bytes(rest)).unwrap_or_default();
    }
    text
}

/// Widths of the table's columns that depend on the terminal's.
struct Columns {
    name: usize,
    bar: usize,
    whole_names: bool,
}

impl Columns {
    fn of(width: usize) -> Self {
        if width >= WIDE {
            Self { name: 32, bar: (width - 82).min(24), whole_names: true }
        } else {
            Self { name: 25, bar: 6, whole_names: false }
        }
    }

    fn name(&self, share: &Share) -> String {
        let name = share.name.to_string();
        if self.whole_names { name } else { name.replace(" gradient", " grad") }
    }

    fn row(&self, [name, calls, time, share, flops, moved]: [&str; 6]) -> String {
        let wide = self.name;
        format!("{name:<wide$} {calls:>5} {time:>6} {share:>5} {flops:>7} {moved:>5}")
    }
}

fn table(page: &mut String, report: &Report, width: usize) {
    let columns = Columns::of(width);
    let breakdown = &report.measured.breakdown;
    let step = breakdown.seconds;
    let heading = columns.row(["operation", "calls", "ms", "step", "GFLOP/s", "GB/s"]);
    let bar = columns.bar + 5;
    page.push_str(&format!("{}\n", format!("{heading}  {:<bar$} bound", "roofline").bold()));
    let (shown, small): (Vec<Share>, Vec<Share>) =
        breakdown.operations.iter().partition(|share| share.seconds >= SMALL * step);
    for share in &shown {
        operation(page, report, &columns, share);
    }
    let sum = |shares: &[Share]| shares.iter().map(|share| share.seconds).sum::<f64>();
    if !small.is_empty() {
        let name = format!("{} smaller ones", small.len());
        let calls = small.iter().map(|share| share.calls).sum::<f64>();
        let (time, part) = (milliseconds(sum(&small)), percent(sum(&small) / step));
        page.push_str(columns.row([&name, &calls_text(calls), &time, &part, "", ""]).trim_end());
        page.push('\n');
    }
    let rest = breakdown.rest();
    let line = columns.row(["between operations", "", &milliseconds(rest), &percent(rest / step), "", ""]);
    page.push_str(line.trim_end());
    page.push('\n');

    let all: Vec<&Share> = breakdown.operations.iter().collect();
    let flops = all.iter().map(|share| share.flops).sum::<f64>();
    let moved = all.iter().map(|share| share.read + share.written).sum::<f64>();
    let least: f64 = all.iter().map(|share| report.roofline.least(share).seconds).sum();
    let calls = calls_text(all.iter().map(|share| share.calls).sum());
    let total = columns.row([
        &format!("step (mean of {})", breakdown.steps),
        &calls,
        &milliseconds(step),
        "100%",
        &giga(flops / step),
        &giga(moved / step),
    ]);
    page.push_str(&format!("{}  {}\n", total.bold(), gauge(least / step, columns.bar, 1.0)));
    if all.iter().any(|share| report.roofline.least(share).seconds > share.seconds) {
        let note =
            "Above 100%: faster than what was measured above, as where operands were still in a cache.";
        page.push('\n');
        for line in wrapped(note, width) {
            page.push_str(&format!("{}\n", line.dimmed()));
        }
    }
}

fn operation(page: &mut String, report: &Report, columns: &Columns, share: &Share) {
    let part = share.seconds / report.measured.breakdown.seconds;
    let least = report.roofline.least(share);
    let row = columns.row([
        &columns.name(share),
        &calls_text(share.calls),
        &milliseconds(share.seconds),
        &percent(part),
        &giga(share.flops / share.seconds),
        &giga((share.read + share.written) / share.seconds),
    ]);
    let bound = match least.bound {
        Bound::Compute => "compute",
        Bound::Memory => "memory",
    };
    let gauge = gauge(least.seconds / share.seconds, columns.bar, part);
    page.push_str(&format!("{row}  {gauge} {}\n", bound.dimmed()));
}

/// Calls of a step on average.
fn calls_text(calls: f64) -> String {
    count(calls.round() as u64)
}

/// Thousands of millions; nothing for none.
fn giga(value: f64) -> String {
    match value / 1e9 {
        0.0 => "–".to_owned(),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 0.1 => format!("{value:.1}"),
        _ => "<0.1".to_owned(),
    }
}

/// `55.6 M` of `55.6M`.
fn spaced(mut short: String) -> String {
    if short.ends_with(|c: char| c.is_ascii_alphabetic()) {
        short.insert(short.len() - 1, ' ');
    }
    short.replace('B', "G")
}

#[cfg(test)]
mod tests {
    use kernels::bandwidth::Bandwidth;
    use kernels::gemm::Precision;
    use kernels::meter::{Name, Operation, Pass};
    use ledger::machine::Machine;
    use train::Settings;
    use train::bench::{Breakdown, Measured, Memory, Roofline, Shape};

    use train::Plan;

    use super::*;

    fn report() -> Report {
        let share = |operation, role, pass, seconds, flops, read| Share {
            name: Name { operation, role, pass, again: false },
            calls: 12.0,
            seconds,
            flops,
            read,
            written: 0.0,
        };
        let bandwidth =
            Bandwidth { read: 20e9, update: 30e9, buffer: 512 << 20, last_cache: Some(480 << 20) };
        Report {
            subject: "the shape big".to_owned(),
            plan: Plan { accumulation: 64, ..Shape::Big.plan() },
            settings: Settings::default(),
            documents: "two in each row",
            machine: Machine { processor: "A Processor of 2026".to_owned(), cores: 2, ..Machine::default() },
            threads: 1,
            roofline: Roofline { peak: 1e12, bandwidth },
            measured: Measured {
                precision: Precision::F32,
                parameters: 125_848_320,
                micro_batches: 4,
                tokens: 4_096,
                documents: 16,
                seconds: vec![2.0, 2.1, 2.5],
                loss: 10.4,
                flops_per_token: 250e6,
                memory: Memory {
                    weights: 500_000_000,
                    gradients: 500_000_000,
                    moments: 1_000_000_000,
                    activations: 400_000_000,
                    scratch: 90_000_000,
                    peak: Some(2_550_000_000),
                },
                breakdown: Breakdown {
                    steps: 2,
                    seconds: 2.0,
                    operations: vec![
                        share(Operation::Product, "output layer", Pass::WeightGradient, 1.0, 5e11, 1e9),
                        share(Operation::AdamW, "", Pass::Whole, 0.9, 1e9, 3.6e9),
                        share(Operation::Copy, "", Pass::Whole, 0.05, 0.0, 4e9),
                        share(Operation::Zero, "", Pass::Whole, 0.001, 0.0, 1e6),
                        share(Operation::Rope, "", Pass::Forward, 0.0005, 1e6, 1e6),
                    ],
                },
            },
        }
    }

    #[test]
    fn the_page_fits_its_terminal() {
        for (width, name) in [(80, "output layer weight grad "), (120, "output layer weight gradient")] {
            let page = anstream::adapter::strip_str(&of(&report(), width)).to_string();
            let widest = page.lines().map(|line| line.chars().count()).max();
            assert!(widest.is_some_and(|widest| widest <= width), "{widest:?} of {width}:\n{page}");
            assert!(page.contains(name), "{page}");
            assert!(page.lines().all(|line| line == line.trim_end()), "{page}");
        }
    }

    #[test]
    fn the_page_says_what_was_measured() {
        let page = anstream::adapter::strip_str(&of(&report(), 120)).to_string();
        let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
        for wanted in [
            "training step of the shape big",
            "1 thread on 2 cores of A Processor of 2026; f32 products by",
            "1 TFLOP/s",
            "20 GB/s memory: all threads read 537 MB, the best pass; 30 GB/s where each value is read and replaced",
            "2,100 ms median of 3, between 2,000 ms and 2,500 ms",
            "1,950 tok/s",
            "49% of peak",
            "8 rows of 512, in 4 micro-batches; 16 documents or parts of them, two in each row.",
            "has 64 micro-batches, which would take long, so adamw weighs 16 times as much here",
            "the program and packed operands 60 MB",
            "output layer weight gradient 12 1,000 50% 500 1.0 ████████████ 50% compute",
            "adamw 12 900.0 45% 1.1 4.0",
            "20% memory",
            "copy 12 50.00 2.5% – 80.0",
            "400% memory",
            "2 smaller ones 24 1.50",
            "between operations 48.50 2.4%",
            "Above 100%",
        ] {
            assert!(flat.contains(wanted), "{wanted} is missing in:\n{page}");
        }
        let mut quiet = report();
        quiet.measured.breakdown.operations.truncate(1);
        quiet.measured.micro_batches = 64;
        let page = of(&quiet, 120);
        assert!(
            !page.contains("Above 100%") && !page.contains("adamw") && !page.contains("smaller"),
            "{page}"
        );
    }

    #[test]
    fn words_are_wrapped_and_none_is_lost() {
        assert_eq!(wrapped("a bb ccc dddd", 6), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrapped("longer than wide", 3), ["longer", "than", "wide"]);
        assert_eq!(wrapped("", 3), [""]);
    }

    #[test]
    fn figures_fit_their_columns() {
        for (seconds, wanted) in
            [(0.000_12, "0.12"), (0.0421, "42.10"), (0.1234, "123.4"), (12.3456, "12,346")]
        {
            assert_eq!(milliseconds(seconds), wanted);
        }
        for (value, wanted) in [(0.0, "–"), (4e7, "<0.1"), (1.24e10, "12.4"), (1.183e12, "1183")] {
            assert_eq!(giga(value), wanted);
        }
        assert_eq!(
            (spaced("38.1M".to_owned()), spaced("2B".to_owned())),
            ("38.1 M".to_owned(), "2 G".to_owned())
        );
    }
}
