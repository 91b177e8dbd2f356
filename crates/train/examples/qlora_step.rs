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

use kernels::buffer::Buffer;
use kernels::gemm::{Accumulate, Precision};
use kernels::quant::Format;
use ledger::seed::Seed;
use model::backward::loss_and_gradients;
use model::recompute::{Again, Recompute};
use model::{Adapted, AdapterSettings, Adapters, Config, Formats, Frozen, Workspace};
use rayon::prelude::*;
use serde_json::json;
use train::optimizer::{self, Optimizer};
use train::{Settings, Size};

use shared::{Failure, batch, dtype, fill, peak_rss_mib, precision, rows_and_length};

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
        precision: train::settings::Precision::Auto.resolve(),
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
    let mut adapters = Adapters::init(&config, &arguments.settings, &mut Seed(1).stream("adapters", 0))?;
    let batch = batch(&config, arguments.rows, arguments.seq_len);
    let settings = Settings { weight_decay: 0.0, ..Settings::default() };
    let mut workspace =
        Workspace::recomputing(&config, arguments.rows, arguments.seq_len, &arguments.recompute);
    let mut optimizer = Optimizer::of_adapters(&adapters, &settings);
    let mut gradients = Buffer::zeros(adapters.data.len());

    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    for step in 1..=arguments.steps as u64 {
        let began = Instant::now();
        let adapted = Adapted { base: &base, adapters: &adapters };
        let (overwrite, precision) = (Accumulate::Overwrite, arguments.precision);
        let sums =
            loss_and_gradients(&adapted, &batch, &mut workspace, &mut gradients, overwrite, precision)?;
        let (_, scale) = optimizer::clip(&gradients, 1.0 / sums.weight, settings.clip_norm);
        optimizer.step(&mut adapters.data, &gradients, step, LEARNING_RATE, scale);
        seconds.push(began.elapsed().as_secs_f64());
        losses.push(sums.mean());
    }
    if let Some(folder) = &arguments.folder {
        std::fs::create_dir_all(folder)?;
        model::peft::save(folder, &adapters, None)?;
    }
    seconds.sort_by(f64::total_cmp);
    Ok(json!({
        "program": "altiplano",
        "version": env!("CARGO_PKG_VERSION"),
        "shape": arguments.shape,
        "linear": format!("{:?}", arguments.formats.linear),
        "embedding": format!("{:?}", arguments.formats.embedding),
        "dtype": dtype(arguments.precision),
        "recompute": arguments.recompute,
        "instructions": format!("{:?}", kernels::isa::detected()),
        "threads": arguments.threads,
        "rows": arguments.rows,
        "seq_len": arguments.seq_len,
        "parameters": config.parameters(),
        "trained": adapters.data.len(),
        "base_mib": base.bytes() >> 20,
        "workspace_mib": workspace.bytes() >> 20,
        "build_seconds": build_seconds,
        "rss_with_base_mib": rss_with_base,
        "peak_rss_mib": peak_rss_mib(),
        "tokens_per_second": batch.tokens() as f64 / seconds[seconds.len() / 2],
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
