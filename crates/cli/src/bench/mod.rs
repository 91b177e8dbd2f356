//! `alti bench`: what this machine makes of a recipe, a model or a tokenizer. It measures and writes nothing to disk.

mod engine;
mod text;
mod tokenizer;
mod train;

use crate::args;
use crate::errors::Error;
use crate::progress::Shown;

/// `alti bench`.
pub fn bench(args: &args::Bench, shown: &Shown) -> Result<(), Error> {
    match args {
        args::Bench::Train(args) => train::train(args, shown),
        args::Bench::Engine(args) => engine::engine(args, shown),
        args::Bench::Tokenizer(args) => tokenizer::tokenizer(args, shown),
    }
}
