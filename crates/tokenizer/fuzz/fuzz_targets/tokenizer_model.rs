//! `tokenizer.model`, of ranks or of SentencePiece: any bytes are a tokenizer, or an error that says what to do.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use tokenizer::{AnyTokenizer, Tokenizer, sentencepiece};

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("fuzz-{}.model", std::process::id())));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("the file is written");
    if let Ok(tokenizer) = Tokenizer::load(&FILE) {
        assert_eq!(tokenizer.decode(&tokenizer.encode("é 12")), "é 12");
    }
    if let Err(error) = sentencepiece::read(&FILE) {
        assert!(!error.to_string().is_empty());
    }
    match AnyTokenizer::load(&FILE) {
        Ok(tokenizer) => {
            let tokens = tokenizer.encode("  é 12 aaab\u{2581}<s>\n");
            tokenizer.decode(&tokens);
            assert!(tokens.iter().all(|&token| tokenizer.token_bytes(token).is_some()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
