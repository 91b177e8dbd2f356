//! A random Llama small enough for tests, and adapters over it, here and in `serve`.

use std::path::Path;

use kernels::gemm::Precision;
use ledger::seed::Seed;
use model::infer::Llama;
use model::{AdapterSettings, Adapters, Config, Weights, peft};

/// Two layers, two queries to a key.
pub fn config(vocab_size: usize, max_seq_len: usize) -> Config {
    Config {
        dim: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn_dim: 96,
        vocab_size,
        max_seq_len,
        ..Config::preset("1b").unwrap()
    }
}

/// The same weights each time.
pub fn llama(config: &Config, precision: Precision) -> Llama {
    let mut weights = Weights::init(config, &mut Seed(5).stream("weights", 0)).unwrap();
    // Random weights of the usual size give nearly equal scores; these give some tokens a clear lead.
    weights.data.iter_mut().for_each(|weight| *weight *= 4.0);
    Llama::new(&weights, precision, config.max_seq_len)
}

/// Writes a folder of adapters on all modules, others for each seed; `size` is the deviation of what they begin with.
pub fn adapter(folder: &Path, config: &Config, seed: u64, size: f32) {
    let settings = AdapterSettings { rank: 4, ..AdapterSettings::default() };
    let mut rng = Seed(seed).stream("adapters", 0);
    let mut adapters = Adapters::init(config, &settings, &mut rng).unwrap();
    adapters.data.iter_mut().for_each(|value| *value += size * rng.normal());
    std::fs::create_dir_all(folder).unwrap();
    peft::save(folder, &adapters, None).unwrap();
}
