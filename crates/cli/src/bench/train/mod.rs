//! `alti bench train`: what this machine makes of a recipe. It measures and writes nothing to disk.

mod json;
mod page;

use std::path::{Path, PathBuf};

use corpus::indexed::Dataset;
use kernels::gemm::Precision;
use kernels::isa::{self, Isa};
use ledger::machine::Machine;
use ledger::seed::Seed;
use train::bench::{Bench, Measured, RandomDocuments, Roofline, Shape, TwoDocuments};
use train::{Batches, PackedBatches, Plan, Settings};

use crate::args;
use crate::bench::{show, too_many};
use crate::errors::Error;
use crate::progress::Shown;
use crate::recipe::{Given, Recipe};

/// Rows that the random documents fill at least, so that measured rows differ as a run's do.
const ROWS: u64 = 256;

/// Everything that is shown or written.
struct Report {
    /// What was measured, as the person called it.
    subject: String,
    /// The model and its step.
    plan: Plan,
    /// The `[train]` section.
    settings: Settings,
    /// What the lengths of the documents are like.
    documents: &'static str,
    machine: Machine,
    threads: usize,
    measured: Measured,
    roofline: Roofline,
}

/// `alti bench train`.
pub fn train(args: &args::BenchTrain, shown: &Shown) -> Result<(), Error> {
    let machine = Machine::this();
    let threads = args.threads.map_or(machine.cores, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(too_many(threads))?;
    let (subject, plan, settings, documents) = subject(args)?;
    crate::raise::refuse(&plan)?;
    let (batches, documents) = batches(&plan, documents)?;
    let (measured, roofline) = pool.install(|| -> Result<_, Error> {
        let measured = train::bench::run(&Bench {
            plan: &plan,
            settings: &settings,
            batches: &*batches,
            steps: args.steps.get(),
            seed: Seed(0),
            progress: shown,
        })?;
        // Afterwards: the buffers of these measurements would count as the step's memory.
        let roofline = Roofline::measure(measured.precision, shown);
        Ok((measured, roofline))
    })?;
    let report = Report { subject, plan, settings, documents, machine, threads, measured, roofline };
    show(args.json, "the figures of a step", || json::of(&report), |width| page::of(&report, width))
}

/// Where the batches' documents come from.
enum Source {
    /// Two a row, as `bench/train` has them.
    Two,
    /// Lengths as those of the default run.
    Usual,
    /// The lengths of a run's own documents.
    Shards(PathBuf),
}

/// What is measured: its name, plan, settings and documents.
fn subject(args: &args::BenchTrain) -> Result<(String, Plan, Settings, Source), Error> {
    let mut set = args.set.clone();
    if let Some(precision) = args.precision {
        let word = match precision {
            args::Arithmetic::Bf16 => "bf16",
            args::Arithmetic::F32 => "f32",
        };
        set.push(format!("train.precision={word}"));
    }
    if let Some(name) = &args.shape {
        let shape: Shape = name.parse()?;
        if let Some(setting) =
            set.iter().find(|setting| setting.split('=').next().map(str::trim) == Some("size"))
        {
            return Err(Error::Usage {
                message: format!("--shape {shape} and --set {setting} both choose the model"),
                hint: "leave one of them out".to_owned(),
            });
        }
        let recipe = Given::load(None, &set)?.recipe()?;
        let plan = with_vocabulary(recipe.train.over(shape.plan())?, &recipe);
        return Ok((format!("the shape {shape}"), plan, recipe.train, Source::Two));
    }
    let (file, shards) = match &args.recipe {
        None => (None, None),
        Some(path) if path.is_dir() => {
            let file = path.join("recipe.toml");
            if !file.is_file() {
                return Err(Error::Usage {
                    message: format!("the folder {} is no run: it has no recipe.toml", path.display()),
                    hint: "name a run's folder or a recipe, such as recipes/tiny.toml".to_owned(),
                });
            }
            let shards = path.join("tokens").join("train");
            (Some(file), shards.with_extension("idx").is_file().then_some(shards))
        }
        Some(path) => (Some(path.clone()), None),
    };
    let recipe = Given::load(file.as_deref(), &set)?.recipe()?;
    let plan = with_vocabulary(recipe.train.plan(recipe.size.parse()?)?, &recipe);
    let subject = match &args.recipe {
        Some(path) => path.display().to_string(),
        None => format!("the default recipe, size {}", recipe.size),
    };
    Ok((subject, plan, recipe.train, shards.map_or(Source::Usual, Source::Shards)))
}

fn with_vocabulary(mut plan: Plan, recipe: &Recipe) -> Plan {
    plan.model.vocab_size = recipe.tokenizer.vocab_size.unwrap_or(plan.model.vocab_size);
    plan
}

/// Batches of the plan's shape, and what is said of their documents.
fn batches(plan: &Plan, source: Source) -> Result<(Box<dyn Batches>, &'static str), Error> {
    let (seed, vocab_size) = (Seed(0), plan.model.vocab_size);
    let tokens = ROWS.max(4 * plan.rows as u64) * (plan.seq_len as u64 + 1);
    let (documents, said) = match source {
        Source::Two => {
            return Ok((Box::new(TwoDocuments::new(vocab_size, seed)), "two in each row"));
        }
        Source::Usual => {
            (RandomDocuments::like_the_default_run(tokens, vocab_size, seed), "as long as the default run's")
        }
        Source::Shards(shards) => (lengths(&shards, vocab_size, seed)?, "as long as this run's"),
    };
    let batches = PackedBatches::new(documents, plan.seq_len, plan.rows, plan.accumulation, seed)?;
    Ok((Box::new(batches), said))
}

/// Random tokens in documents of the lengths of a run's.
fn lengths(shards: &Path, vocab_size: usize, seed: Seed) -> Result<RandomDocuments, Error> {
    let dataset = Dataset::open(shards)?;
    let sizes = dataset.sizes().iter().map(|&size| u32::try_from(size).unwrap_or(u32::MAX));
    Ok(RandomDocuments::of_sizes(sizes, vocab_size, seed))
}

impl Report {
    /// The instructions that multiply in the precision that was measured.
    fn instructions(&self) -> &'static str {
        match (isa::detected(), self.measured.precision) {
            (Isa::Amx, Precision::Bf16) => "AMX",
            (Isa::Avx512Bf16, Precision::Bf16) => "AVX-512 with bf16",
            (Isa::Amx | Isa::Avx512Bf16 | Isa::Avx512, _) => "AVX-512",
            (Isa::Avx2, _) => "AVX2",
            (Isa::Portable, _) => "portable code",
        }
    }

    fn precision(&self) -> &'static str {
        match self.measured.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// The share of the peak that the step comes to, by the model's formula.
    fn utilisation(&self) -> f64 {
        self.measured.flops_per_second() / self.roofline.peak
    }
}
