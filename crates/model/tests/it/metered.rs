//! What a meter says about a pass: every product under its role, with the operations that its shape asks for.

use kernels::buffer::Buffer;
use kernels::gemm::{Accumulate, Precision};
use kernels::meter::{Entry, Meter, Operation, Pass};
use ledger::seed::Seed;
use model::backward::loss_and_gradients;
use model::recompute::{Again, Recompute};
use model::{Batch, Config, Weights, Workspace};

const ROWS: usize = 2;
const SEQ_LEN: usize = 24;

fn config() -> Config {
    Config {
        dim: 16,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        ffn_dim: 40,
        vocab_size: 50,
        ..Config::preset("8b").unwrap()
    }
}

fn pass(again: Again) -> Vec<Entry> {
    let config = config();
    let weights = Weights::init(&config, &mut Seed(1).stream("weights", 0)).unwrap();
    let mut workspace = Workspace::recomputing(&config, ROWS, SEQ_LEN, &Recompute::same(again));
    let mut gradients = Buffer::zeros(weights.data.len());
    let batch = Batch::new(ROWS, SEQ_LEN);
    let mut meter = Meter::start();
    loss_and_gradients(
        &weights,
        &batch,
        &mut workspace,
        &mut gradients,
        Accumulate::Overwrite,
        Precision::F32,
    )
    .unwrap();
    meter.take()
}

/// Calls and operations of a product's pass, computed before or not.
fn product(entries: &[Entry], role: &str, pass: Pass, again: bool) -> (u64, u64) {
    let same = |entry: &&Entry| {
        let name = entry.name;
        name.operation == Operation::Product && (name.role, name.pass, name.again) == (role, pass, again)
    };
    entries.iter().find(same).map_or((0, 0), |entry| (entry.calls, entry.cost.flops))
}

#[test]
fn every_product_is_known_by_its_role() {
    let (config, tokens) = (config(), (ROWS * SEQ_LEN) as u64);
    let entries = pass(Again::Nothing);
    let size = |a: usize, b: usize| (a * b) as u64;
    for (role, layers, weights) in [
        ("qkv", 3, size(config.qkv_dim(), config.dim)),
        ("attn output", 3, size(config.dim, config.attention_dim())),
        ("gate_up", 3, size(2 * config.ffn_dim, config.dim)),
        ("down", 3, size(config.dim, config.ffn_dim)),
        ("output layer", 1, size(config.vocab_size, config.dim)),
    ] {
        for kind in [Pass::Forward, Pass::InputGradient, Pass::WeightGradient] {
            let wanted = (layers, layers * 2 * weights * tokens);
            assert_eq!(product(&entries, role, kind, false), wanted, "{role} {kind:?}");
        }
    }
    assert_eq!(product(&entries, "", Pass::Whole, false), (0, 0), "a product without a name");

    // Together the operations that the model's own formula has, but for attention: it counts half of the square where
    // the mask lets one more through for each token, and scores that the backward computes again are not in it.
    let products: u64 =
        entries.iter().filter(|entry| entry.name.operation == Operation::Product).map(|e| e.cost.flops).sum();
    assert_eq!(products as f64, config.training_flops_per_token(0) * tokens as f64);
    let attention: u64 = entries
        .iter()
        .filter(|entry| entry.name.operation == Operation::Attention)
        .map(|entry| entry.cost.flops)
        .sum();
    let pairs = (ROWS * SEQ_LEN * (SEQ_LEN + 1) / 2) as u64;
    assert_eq!(attention, 3 * 14 * pairs * config.attention_dim() as u64);
}

#[test]
fn what_is_computed_again_is_named_so() {
    let (nothing, all) = (pass(Again::Nothing), pass(Again::All));
    for (role, calls) in [("qkv", 3), ("attn output", 3), ("gate_up", 3), ("down", 0), ("output layer", 0)] {
        assert_eq!(product(&nothing, role, Pass::Forward, true).0, 0, "{role}");
        assert_eq!(product(&all, role, Pass::Forward, true).0, calls, "{role}");
        assert_eq!(product(&all, role, Pass::Forward, false), product(&nothing, role, Pass::Forward, false));
    }
}
