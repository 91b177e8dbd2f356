//! `tokenizer.json`: any bytes are a tokenizer that gives texts back, or an error that says what to do.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use tokenizer::{Allowed, AnyTokenizer, Tokenizer};

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("fuzz-{}.json", std::process::id())));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("the file is written");
    match Tokenizer::load(&FILE) {
        Ok(tokenizer) => {
            let text = "Any text, 12 and é.";
            let tokens = tokenizer.encode(text);
            assert_eq!(tokenizer.decode(&tokens), text);
            assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab_size()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(tokenizer) = AnyTokenizer::load(&FILE) {
        let text = "Any text, 12 and e\u{301}. <|eot_id|>";
        let tokens = tokenizer.encode_with_specials(text, Allowed::all()).expect("none is refused");
        tokenizer.decode(&tokens);
        assert!(tokens.iter().all(|&token| tokenizer.token_bytes(token).is_some()));
    }
});
