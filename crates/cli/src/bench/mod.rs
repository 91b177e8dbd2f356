//! `alti bench`: what this machine makes of a recipe, a model, a tokenizer or the rules of curation. It measures and leaves
//! nothing on the disk.

mod curate;
mod engine;
mod text;
mod tokenizer;
mod train;

use ledger::machine::{self, Machine};
use serde_json::{Value, json};

use crate::args;
use crate::errors::Error;
use crate::progress::Shown;

/// `alti bench`.
pub fn bench(args: &args::Bench, shown: &Shown) -> Result<(), Error> {
    match args {
        args::Bench::Train(args) => train::train(args, shown),
        args::Bench::Engine(args) => engine::engine(args, shown),
        args::Bench::Curate(args) => curate::curate(args, shown),
        args::Bench::Tokenizer(args) => tokenizer::tokenizer(args, shown),
    }
}

/// What became of a pool of so many threads.
fn too_many(threads: usize) -> impl Fn(rayon::ThreadPoolBuildError) -> Error {
    move |error| Error::Usage {
        message: format!("{threads} threads cannot be started: {error}"),
        hint: "choose fewer --threads".to_owned(),
    }
}

/// Prints a report as JSON or as a page of the terminal's width; `what` it is in the error of JSON that cannot be written.
fn show(
    as_json: bool,
    what: &'static str,
    json: impl FnOnce() -> Value,
    page: impl FnOnce(usize) -> String,
) -> Result<(), Error> {
    if as_json {
        let text =
            serde_json::to_string_pretty(&json()).map_err(|source| ledger::Error::Encode { what, source })?;
        anstream::println!("{text}");
    } else {
        anstream::print!("{}", page(text::width()));
    }
    Ok(())
}

/// Which program measured.
fn program() -> Value {
    json!({"version": env!("CARGO_PKG_VERSION"), "commit": machine::commit()})
}

/// Where it was measured, and what `more` was found out about that.
fn machine(machine: &Machine, threads: usize, more: Value) -> Value {
    let mut all = json!({
        "processor": machine.processor,
        "cores": machine.cores,
        "memory": machine.memory,
        "system": machine.system,
        "threads": threads,
    });
    if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
        all.extend(more);
    }
    all
}
