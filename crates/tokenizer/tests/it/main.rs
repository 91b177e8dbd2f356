//! The tokenizer against its specification, on tokenizers and files made on the spot.

mod chat;
mod encode;
mod family;
mod files;
mod golden;
mod stream;
mod train;

use std::sync::LazyLock;

use ledger::progress::Silent;
use tokenizer::Tokenizer;
use tokenizer::train::Settings;

/// English with numbers, code, other scripts and odd spacing; enough for a few hundred merges.
const TEXT: &str = include_str!("text.txt");

/// A tokenizer trained on [`TEXT`].
fn trained(vocab_size: usize) -> Tokenizer {
    static LARGEST: LazyLock<Tokenizer> = LazyLock::new(|| train(900));
    match vocab_size {
        0..900 => LARGEST.truncated(vocab_size).expect("smaller"),
        _ => train(vocab_size),
    }
}

fn train(vocab_size: usize) -> Tokenizer {
    // The golden file has numbers of several digits.
    let settings = Settings { vocab_size, merge_digits: Some(true), ..Settings::default() };
    tokenizer::train::train(TEXT.lines(), &settings, &Silent).expect("the text is large enough")
}
