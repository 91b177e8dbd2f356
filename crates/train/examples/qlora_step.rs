//! One step of low-rank adapters over a frozen, quantised model, timed, with the most memory that it took: at the shape of
//! Llama 3.2 1B by default, on random weights.
//!
//!     cargo run --release -p train --example qlora_step -- --linear nf4 --embedding bf16 --tokens 1x512
//!
//! The last line is one JSON object. `--adapters FOLDER` also writes the adapters as peft reads them.

// An example is its own command line.
#![allow(clippy::print_stdout)]

mod shared;

use std::path::PathBuf;
use std::time::Instant;

use kernels::quant::Format;
use ledger::seed::Seed;
use model::recompute::{Again, Recompute};
use model::{AdapterSettings, Adapters, Config, Formats, Frozen};
use rayon::prelude::*;
use serde_json::json;
use train::settings::Precision;
use train::{Settings, Size, Stepper, Tuned};

use shared::{Failure, dtype, fill, fill_batch, peak_rss_mib, precision, rows_and_length};

/// QLoRA's for models up to 13B (Dettmers et al. 2023, appendix B).
const LEARNING_RATE: f32 = 2e-4;

struct Arguments {
    shape: String,
    formats: Formats,
    settings: AdapterSettings,
    precision: Precision,
    recompute: Recompute,
    rows: usize,
    seq_len: usize,
    steps: usize,
    threads: usize,
    folder: Option<PathBuf>,
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build()?;
    let line = pool.install(|| measure(&arguments))?;
    println!("{line}");
    Ok(())
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments {
        shape: "1b".to_owned(),
        formats: Formats::QLORA,
        settings: AdapterSettings::default(),
        precision: Precision::Auto,
        recompute: Recompute::same(Again::All),
        rows: 1,
        seq_len: 512,
        steps: 3,
        threads: std::thread::available_parallelism()?.get(),
        folder: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(option) = words.next() {
        let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--shape" => arguments.shape = value,
            "--linear" => arguments.formats.linear = format(&value)?,
            "--embedding" => arguments.formats.embedding = format(&value)?,
            "--dropout" => arguments.settings.dropout = value.parse()?,
            "--rank" => arguments.settings.rank = value.parse()?,
            "--precision" => arguments.precision = precision(&value)?,
            "--recompute" => arguments.recompute = Recompute::same(value.parse()?),
            "--tokens" => (arguments.rows, arguments.seq_len) = rows_and_length(&value)?,
            "--steps" => arguments.steps = value.parse()?,
            "--threads" => arguments.threads = value.parse()?,
            "--adapters" => arguments.folder = Some(value.into()),
            _ => return Err(format!("there is no option {option}").into()),
        }
    }
    if arguments.steps == 0 {
        return Err("--steps must be above 0".into());
    }
    Ok(arguments)
}

fn format(word: &str) -> Result<Format, Failure> {
    Ok(match word {
        "f32" => Format::F32,
        "bf16" => Format::Bf16,
        "int8" => Format::Int8,
        "nf4" => Format::Nf4 { double: true },
        "nf4-plain" => Format::Nf4 { double: false },
        _ => return Err(format!("a format is f32, bf16, int8, nf4 or nf4-plain, not {word}").into()),
    })
}

fn measure(arguments: &Arguments) -> Result<serde_json::Value, Failure> {
    let config = match arguments.shape.as_str() {
        "nano" => Size::Nano.plan().model,
        name => {
            Config::preset(name).ok_or_else(|| format!("--shape is nano or one of Meta's, not {name}"))?
        }
    };
    let began = Instant::now();
    let base = base(&config, arguments.formats)?;
    let build_seconds = began.elapsed().as_secs_f64();
    let rss_with_base = peak_rss_mib();
    let adapters = Adapters::init(&config, &arguments.settings, &mut Seed(1).stream("adapters", 0))?;
    let mut tuned = Tuned { base: &base, adapters, seed: Seed(1) };
    let settings = Settings {
        weight_decay: 0.0,
        precision: arguments.precision,
        recompute: arguments.recompute.clone(),
        ..Settings::default()
    };
    let mut stepper = Stepper::new(&tuned, arguments.rows, arguments.seq_len, &settings);

    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    for step in 1..=arguments.steps as u64 {
        let began = Instant::now();
        let gradient = stepper.step(&mut tuned, 1, step, LEARNING_RATE, |_, batch| {
            if step == 1 {
                fill_batch(batch, &config);
            }
        })?;
        seconds.push(began.elapsed().as_secs_f64());
        losses.push(gradient.sums.mean());
    }
    if let Some(folder) = &arguments.folder {
        std::fs::create_dir_all(folder)?;
        model::peft::save(folder, &tuned.adapters, None)?;
    }
    seconds.sort_by(f64::total_cmp);
    Ok(json!({
        "program": "altiplano",
        "version": env!("CARGO_PKG_VERSION"),
        "shape": arguments.shape,
        "linear": format!("{:?}", arguments.formats.linear),
        "embedding": format!("{:?}", arguments.formats.embedding),
        "dtype": dtype(stepper.precision()),
        "recompute": arguments.recompute,
        "instructions": format!("{:?}", kernels::isa::detected()),
        "threads": arguments.threads,
        "rows": arguments.rows,
        "seq_len": arguments.seq_len,
        "parameters": config.parameters(),
        "trained": tuned.adapters.data.len(),
        "base_mib": base.bytes() >> 20,
        "workspace_mib": stepper.workspace().bytes() >> 20,
        "build_seconds": build_seconds,
        "rss_with_base_mib": rss_with_base,
        "peak_rss_mib": peak_rss_mib(),
        "tokens_per_second": (arguments.rows * arguments.seq_len) as f64 / seconds[seconds.len() / 2],
        "losses": losses,
    }))
}

/// A random model, made a strip at a time: it is never whole in f32.
fn base(config: &Config, formats: Formats) -> Result<Frozen, Failure> {
    let tensors = model::weights::tensors(config);
    let built = Frozen::build(config, formats, |place, values| {
        values.par_chunks_mut(1 << 16).enumerate().for_each(|(index, mut values)| {
            let mut place = place + (index << 16);
            while !values.is_empty() {
                let tensor = &tensors[tensors.partition_point(|tensor| tensor.range.end <= place)];
                let (now, rest) = values.split_at_mut((tensor.range.end - place).min(values.len()));
                fill(now, tensor, place - tensor.range.start);
                place += now.len();
                values = rest;
            }
        });
        Ok(())
    });
    Ok(built?)
}
