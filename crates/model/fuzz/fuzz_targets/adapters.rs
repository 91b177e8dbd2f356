//! An adapter folder: any `adapter_config.json` beside any weights are adapters for a model, or an error that says what to do.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use model::{Config, peft};

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fuzz-adapters-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the files");
    folder
});

libfuzzer_sys::fuzz_target!(|files: (&str, &[u8])| {
    let config = Config {
        dim: 8,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        ffn_dim: 12,
        vocab_size: 5,
        ..Config::preset("8b").expect("a preset")
    };
    let write = |name: &str, bytes: &[u8]| std::fs::write(FOLDER.join(name), bytes).expect("a file is written");
    write("adapter_config.json", files.0.as_bytes());
    write("adapter_model.safetensors", files.1);
    match peft::load(&FOLDER, &config) {
        Ok(adapters) => assert!(adapters.data.iter().all(|value| value.is_finite())),
        Err(error) => assert!(error.hint().is_some(), "{error}"),
    }
});
