//! Trains a tokenizer on the lines of one text file and saves it: `train_small TEXT VOCAB_SIZE OUT`.
//! The script that makes the golden vectors runs it; it is no replacement for the command line.

use std::path::Path;

use ledger::progress::Silent;
use tokenizer::train::{Settings, train};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [text, vocab_size, out] = arguments.as_slice() else {
        return Err("expected: train_small TEXT VOCAB_SIZE OUT".into());
    };
    let settings = Settings { vocab_size: vocab_size.parse()?, ..Settings::default() };
    let text = std::fs::read_to_string(text)?;
    train(text.lines(), &settings, &Silent)?.save(Path::new(out))?;
    Ok(())
}
