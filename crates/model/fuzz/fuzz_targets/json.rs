//! `config.json` and `params.json`: any JSON is a configuration that a Llama can have, or an error.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    if let Ok(config) = model::formats::hf::config_json::read(Path::new("config.json"), &value) {
        assert!(config.validate().is_ok() && config.parameters() > 0);
    }
    if let Ok(config) = model::formats::meta::params_json::read(Path::new("params.json"), &value, Some(32)) {
        assert!(config.validate().is_ok() && config.parameters() > 0);
    }
});
