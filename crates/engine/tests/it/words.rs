//! The tokenizer of the small models of tests, here and in `serve`.

use ledger::progress::Silent;
use tokenizer::Tokenizer;

/// Bytes, a few words and the special tokens.
pub fn tokenizer() -> Tokenizer {
    let texts = ["the quick brown fox jumps over the lazy dog; the dog sleeps on. café, naïve"];
    let settings = tokenizer::train::Settings { vocab_size: 544, ..Default::default() };
    tokenizer::train::train(texts.iter().cycle().take(20), &settings, &Silent).unwrap()
}
