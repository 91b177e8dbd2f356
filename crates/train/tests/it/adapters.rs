//! Adapters learn over a quantised base, and a run of them is stopped and continued like any other.

use std::path::Path;

use kernels::quant::Format;
use ledger::progress::Silent;
use ledger::seed::Seed;
use model::{AdapterSettings, Adapters, Formats, Frozen};
use train::{Finished, Outcome, Tuned};

use crate::support::{Told, Watched, batches, bits, initial, losses, settings, train_from};

fn base(format: Format) -> Frozen {
    Frozen::new(&initial(), Formats { linear: format, embedding: Format::Bf16 }).unwrap()
}

fn tuned(base: &Frozen) -> Tuned<'_> {
    let settings = AdapterSettings { rank: 4, alpha: 16.0, dropout: 0.1, ..AdapterSettings::default() };
    let adapters = Adapters::init(base.config(), &settings, &mut Seed(6).stream("a", 0)).unwrap();
    Tuned { base, adapters, seed: Seed(7) }
}

/// Runs until all steps are done, stopped after each step of `stops`.
fn run<'a>(base: &'a Frozen, folder: &Path, stops: &[u64], told: &Told) -> Finished<Tuned<'a>> {
    for &step in stops {
        let mut batches = Watched::new(batches());
        batches.stop_at = Some(step);
        let outcome = train_from(tuned(base), folder, &batches, &settings(), 2, &Silent).unwrap();
        assert!(matches!(outcome, Outcome::Stopped(_)), "the stop at step {step} was not seen");
    }
    match train_from(tuned(base), folder, &Watched::new(batches()), &settings(), 3, told).unwrap() {
        Outcome::Finished(finished) => finished,
        Outcome::Stopped(stopped) => panic!("nobody asked for a stop: {stopped:?}"),
    }
}

#[test]
fn adapters_learn_and_interrupted_runs_end_with_the_same_bits() {
    let base = base(Format::Nf4 { double: true });
    let folder = tempfile::tempdir().unwrap();
    let undisturbed = run(&base, folder.path(), &[], &Told::default());
    let expected = losses(folder.path());
    let (first, last) = (f64::from_bits(expected[0].1), f64::from_bits(expected[19].1));
    assert!(last < first - 0.3, "nothing was learnt: {first} to {last}");

    let folder = tempfile::tempdir().unwrap();
    let finished = run(&base, folder.path(), &[3, 11], &Told::default());
    assert_eq!(losses(folder.path()), expected);
    assert_eq!(bits(&finished.weights.adapters.data), bits(&undisturbed.weights.adapters.data));
    let checkpoint = train::checkpoint::newest(&folder.path().join("checkpoints")).unwrap().unwrap();
    let bytes = std::fs::read(checkpoint.join("model.safetensors")).unwrap();
    let stored = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let names: Vec<String> =
        undisturbed.weights.adapters.tensors().into_iter().map(|tensor| tensor.name).collect();
    let mut found = stored.names();
    found.sort();
    let mut wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn a_checkpoint_over_another_base_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    run(&base(Format::Int8), folder.path(), &[], &Told::default());
    let told = Told::default();
    run(&base(Format::Bf16), folder.path(), &[], &told);
    let told = told.0.into_inner().unwrap();
    assert!(told[0].contains("other settings or from other data"), "{told:?}");
}
