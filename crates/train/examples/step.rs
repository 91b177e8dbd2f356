//! One training step, timed: our side of `bench/train`. The weights, tokens and step are those of its PyTorch twin,
//! `bench/train/peer.py`, so the losses of both must agree.
//!
//!     cargo run --release -p train --example step -- --shape small --precision f32 --steps 8
//!
//! The last line is one JSON object.

// An example is its own command line.
#![allow(clippy::print_stdout)]

mod shared;

use std::time::{Duration, Instant};

use kernels::isa::{self, Isa};
use model::Weights;
use model::recompute::{Again, Recompute};
use serde_json::json;
use train::bench::Shape;
use train::settings::Precision;
use train::{Plan, Settings, Stepper};

use shared::{Failure, dtype, fill, fill_batch, peak_rss_mib, precision, rows_and_length};

const LEARNING_RATE: f32 = 1e-3;

struct Arguments {
    shape: String,
    precision: Precision,
    steps: usize,
    warm: usize,
    threads: usize,
    recompute: Recompute,
    /// What kernels are held to; the processor's best otherwise.
    isa: Isa,
    tokens: Option<(usize, usize)>,
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    let line = isa::with(arguments.isa, arguments.threads, || measure(&arguments))?;
    println!("{line}");
    Ok(())
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments {
        shape: "small".to_owned(),
        precision: Precision::F32,
        steps: 8,
        warm: 2,
        threads: std::thread::available_parallelism()?.get(),
        recompute: Recompute::default(),
        isa: isa::detected(),
        tokens: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(option) = words.next() {
        let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--shape" => arguments.shape = value,
            "--precision" => arguments.precision = precision(&value)?,
            "--steps" => arguments.steps = value.parse()?,
            "--warm" => arguments.warm = value.parse()?,
            "--threads" => arguments.threads = value.parse()?,
            "--recompute" => {
                let words: Result<Vec<Again>, _> = value.split(',').map(str::parse).collect();
                arguments.recompute = Recompute::repeated(words?).ok_or("--recompute needs a word")?;
            }
            "--isa" => {
                let known = |isa: &Isa| format!("{isa:?}").eq_ignore_ascii_case(&value);
                let found = isa::available().find(known);
                arguments.isa = found.ok_or_else(|| format!("this processor has no {value}"))?;
            }
            "--tokens" => arguments.tokens = Some(rows_and_length(&value)?),
            _ => return Err(format!("there is no option {option}").into()),
        }
    }
    if arguments.steps <= arguments.warm {
        return Err("--steps must be above --warm".into());
    }
    Ok(arguments)
}

fn measure(arguments: &Arguments) -> Result<serde_json::Value, Failure> {
    let Plan { model: config, rows, seq_len, .. } = arguments.shape.parse::<Shape>()?.plan();
    let (rows, seq_len) = arguments.tokens.unwrap_or((rows, seq_len));
    let mut weights = Weights::zeros(&config)?;
    for tensor in model::weights::tensors(&config) {
        fill(&mut weights.data[tensor.range.clone()], &tensor, 0);
    }
    let Arguments { precision, recompute, .. } = arguments;
    let settings = Settings { precision: *precision, recompute: recompute.clone(), ..Settings::default() };
    let mut stepper = Stepper::new(&weights, rows, seq_len, &settings);

    let (mut seconds, mut losses, mut norms) = (Vec::new(), Vec::new(), Vec::new());
    for step in 1..=arguments.steps as u64 {
        let began = Instant::now();
        let gradient = stepper.step(&mut weights, 1, step, LEARNING_RATE, |_, batch| {
            if step == 1 {
                fill_batch(batch, &config);
            }
        })?;
        seconds.push(began.elapsed().as_secs_f64());
        losses.push(gradient.sums.mean());
        norms.push(gradient.norm);
    }
    let timed = &mut seconds[arguments.warm..];
    timed.sort_by(f64::total_cmp);
    let (best, median) = (timed[0], timed[timed.len() / 2]);
    let tokens = (rows * seq_len) as f64;
    let flops = config.training_flops_per_token(seq_len) * tokens;
    let peak_rss = peak_rss_mib();
    let peak = kernels::gemm::measured_peak_gflops(stepper.precision(), Duration::from_millis(300));
    Ok(json!({
        "program": "altiplano",
        "version": env!("CARGO_PKG_VERSION"),
        "shape": arguments.shape,
        "dtype": dtype(stepper.precision()),
        "instructions": format!("{:?}", isa::current()),
        "threads": arguments.threads,
        "parameters": weights.data.len(),
        "tokens_per_second": tokens / median,
        "best_tokens_per_second": tokens / best,
        "gflops": flops / median / 1e9,
        "peak_gflops": peak,
        "peak_rss_mib": peak_rss,
        "recompute": arguments.recompute,
        "rows": rows,
        "seq_len": seq_len,
        "workspace_mib": stepper.workspace().bytes() >> 20,
        "losses": losses,
        "gradient_norms": norms,
    }))
}
