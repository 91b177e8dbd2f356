//! `alti`: raise a Llama. This file only reads the command line and hands over to the verb.

mod args;
mod bench;
mod chat;
mod convert;
mod curate;
mod curate_classifier;
mod curate_cluster;
mod curate_judge;
mod curate_report;
mod embedder;
mod endpoint;
mod errors;
mod inspect;
mod interrupt;
mod mix;
mod open;
mod perplexity;
mod progress;
mod pull;
mod raise;
mod recipe;
mod report;
mod resumable;
mod serve;
mod status;
mod tokenizers;
mod tokens;
mod train_tokenizer;
mod vocabulary;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches};

use args::{Cli, EvalWhat, Verb};
use errors::Error;
use progress::Shown;

fn main() -> ExitCode {
    let command = Cli::command().color(early_color());
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let choice = match cli.color {
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
        ColorChoice::Auto => anstream::ColorChoice::Auto,
    };
    choice.write_global();
    let terminal = std::io::stderr().is_terminal();
    let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    match run(&cli.verb, &Shown::new(terminal, color)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => errors::show(&error),
    }
}

fn run(verb: &Verb, shown: &Shown) -> Result<(), Error> {
    match verb {
        Verb::Raise(args) => raise::raise(args, shown),
        Verb::Curate(args) => curate::curate(args, shown),
        Verb::Mix(verb) => mix::mix(verb, shown),
        Verb::Pack(args) => mix::pack(args, shown),
        Verb::Pull(args) => pull::pull(args, shown),
        Verb::Chat(args) => chat::chat(args, shown),
        Verb::Serve(args) => serve::serve(args, shown),
        Verb::Status(args) => status::status(args),
        Verb::Eval(args) => match (&args.what, &args.run) {
            (Some(EvalWhat::Perplexity(args)), _) => perplexity::perplexity(args, shown),
            // Without `what` there is a run: the command line requires one of the two.
            (None, run) => raise::eval(run.as_deref().unwrap_or(Path::new(".")), &args.set, shown),
        },
        Verb::Report(args) => report::report(args, shown),
        Verb::Convert(args) => convert::convert(args, shown),
        Verb::Inspect(args) => inspect::inspect(args),
        Verb::Tokenizer(args) => tokenizers::tokenizer(args, shown),
        Verb::Bench(args) => bench::bench(args, shown),
    }
}

/// How the person called this program, so that the commands shown work as they stand.
fn program() -> String {
    let name = std::env::args_os().next().map(|name| name.to_string_lossy().into_owned());
    name.filter(|name| name.contains(std::path::MAIN_SEPARATOR)).unwrap_or_else(|| "alti".to_owned())
}

/// `--color` as far as the help itself must know it, before the command line is parsed.
fn early_color() -> ColorChoice {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let says = |value: &str| {
        words.iter().any(|word| *word == format!("--color={value}"))
            || words.windows(2).any(|pair| pair[0] == "--color" && pair[1] == value)
    };
    if says("never") {
        ColorChoice::Never
    } else if says("always") {
        ColorChoice::Always
    } else {
        ColorChoice::Auto
    }
}
