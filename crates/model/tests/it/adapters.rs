//! Adapters over a frozen model against the model that they are merged into, and against finite differences.

use kernels::gemm::{Accumulate, Precision};
use kernels::quant::Format;
use ledger::seed::Seed;
use model::adapters::Module;
use model::backward::loss_and_gradients;
use model::recompute::{Again, Recompute};
use model::{
    Adapted, AdapterSettings, Adapters, Formats, Frozen, Parameters, TensorSpec, Workspace, forward,
    weights::tensors,
};

use crate::golden::{Golden, worst};

const PLAIN: Formats = Formats { linear: Format::F32, embedding: Format::F32 };
const SETS: [&[Module]; 4] = [
    &Module::ALL,
    &[Module::QProj, Module::VProj],
    &[Module::UpProj, Module::KProj, Module::OProj],
    &[Module::DownProj],
];

fn settings(modules: &[Module]) -> AdapterSettings {
    let (rank_stabilised, modules) = (modules.len() == 2, modules.to_vec());
    AdapterSettings { rank: 3, alpha: 5.0, rank_stabilised, modules, ..AdapterSettings::default() }
}

/// Adapters that have learnt something: no `B` is zero.
fn trained(golden: &Golden, settings: &AdapterSettings) -> Adapters {
    let mut rng = Seed(8).stream("adapters", 0);
    let mut adapters = Adapters::init(&golden.weights.config, settings, &mut rng).unwrap();
    for tensor in adapters.tensors().iter().filter(|tensor| tensor.name.contains("lora_B")) {
        adapters.data[tensor.range.clone()].fill_with(|| 0.1 * rng.normal());
    }
    adapters
}

fn pass(golden: &Golden, parameters: &impl Parameters, recompute: &Recompute) -> (Vec<f32>, Vec<f32>) {
    let batch = &golden.batch;
    let mut workspace = Workspace::recomputing(parameters.config(), batch.rows, batch.seq_len, recompute);
    let mut gradients = vec![f32::NAN; parameters.layout().len];
    let (overwrite, precision) = (Accumulate::Overwrite, Precision::F32);
    loss_and_gradients(parameters, batch, &mut workspace, &mut gradients, overwrite, precision).unwrap();
    (workspace.losses().to_vec(), gradients)
}

fn find<'a>(tensors: &'a [TensorSpec], name: &str) -> &'a TensorSpec {
    tensors.iter().find(|tensor| tensor.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
}

/// The gradient of `A [r, in]` is `s Bᵀ dW`, that of `B [out, r]` is `s dW Aᵀ`, with `dW` of the merged model.
fn check_merged(case: &str, modules: &[Module]) {
    let golden = Golden::read(case);
    let base = Frozen::new(&golden.weights, PLAIN).unwrap();
    let adapters = trained(&golden, &settings(modules));
    let adapted = Adapted::new(&base, &adapters);
    let (losses, gradients) = pass(&golden, &adapted, &Recompute::default());

    let mut merged = golden.weights.clone();
    adapters.merge(&mut merged);
    let (expected_losses, expected) = pass(&golden, &merged, &Recompute::default());
    assert!(worst(&losses, &expected_losses) < 1e-5, "{case}: losses");
    let (own, whole) = (adapters.tensors(), tensors(&merged.config));
    let (rank, scale) = (adapters.settings().rank, adapters.settings().scale());
    assert_eq!(own.len(), 2 * modules.len() * merged.config.layers);
    for tensor in &own {
        let path = tensor.name.strip_prefix("base_model.model.").unwrap();
        let (path, part) = path.split_once(".lora_").unwrap();
        let matrix = find(&whole, &format!("{path}.weight"));
        let [out, input] = matrix.shape[..] else { panic!("{path} is no matrix") };
        let dw = |row: usize, col: usize| expected[matrix.range.start + row * input + col];
        let sum = |terms: &mut dyn Iterator<Item = f32>| scale * terms.sum::<f32>();
        let from = |other: &str| {
            let name = format!("base_model.model.{path}.lora_{other}.weight");
            &adapters.data[find(&own, &name).range.clone()]
        };
        let expected: Vec<f32> = if part.starts_with('A') {
            let b = from("B");
            let places = (0..rank).flat_map(|r| (0..input).map(move |i| (r, i)));
            places.map(|(r, i)| sum(&mut (0..out).map(|o| b[o * rank + r] * dw(o, i)))).collect()
        } else {
            let a = from("A");
            let places = (0..out).flat_map(|o| (0..rank).map(move |r| (o, r)));
            places.map(|(o, r)| sum(&mut (0..input).map(|i| dw(o, i) * a[r * input + i]))).collect()
        };
        let worst = worst(&gradients[tensor.range.clone()], &expected);
        assert!(worst < 2e-5, "{case}: gradient of {} differs by {worst} of its largest", tensor.name);
    }
}

#[test]
fn gradients_are_those_of_the_merged_model() {
    for case in ["gqa", "odd", "tied_scaled"] {
        for modules in SETS {
            check_merged(case, modules);
        }
    }
}

/// With `draw`, the pass drops the same inputs each time.
fn check_finite_differences(dropout: f64, draw: Option<u64>) {
    const STEP: f32 = 1e-2;
    let golden = Golden::read("gqa");
    let base = Frozen::new(&golden.weights, PLAIN).unwrap();
    let mut adapters = trained(&golden, &AdapterSettings { dropout, ..settings(&Module::ALL) });
    fn adapted<'a>(base: &'a Frozen, adapters: &'a Adapters, draw: Option<u64>) -> Adapted<'a> {
        let adapted = Adapted::new(base, adapters);
        draw.map_or(adapted, |draw| adapted.dropping(Seed(9), draw))
    }
    let (_, gradients) = pass(&golden, &adapted(&base, &adapters, draw), &Recompute::default());
    let batch = &golden.batch;
    let mut workspace = Workspace::forward_only(base.config(), batch.rows, batch.seq_len);
    for tensor in adapters.tensors() {
        let largest = gradients[tensor.range.clone()].iter().fold(0.0f32, |a, b| a.max(b.abs()));
        for place in tensor.range.clone().step_by(tensor.range.len() / 3) {
            let value = adapters.data[place];
            let mut at = |offset: f32| {
                adapters.data[place] = value + offset;
                let sums =
                    forward::loss(&adapted(&base, &adapters, draw), batch, &mut workspace, Precision::F32)
                        .unwrap();
                adapters.data[place] = value;
                sums.weighted
            };
            // Fourth order, as in the kernels' own checks.
            let numeric = (8.0 * (at(STEP) - at(-STEP)) - (at(2.0 * STEP) - at(-2.0 * STEP)))
                / (12.0 * f64::from(STEP));
            let error = (numeric - f64::from(gradients[place])).abs();
            let name = &tensor.name;
            assert!(error < 5e-3 * f64::from(largest), "{name}: {} and {numeric}", gradients[place]);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    check_finite_differences(0.0, None);
    check_finite_differences(0.4, Some(7));
}

#[test]
fn dropout_follows_from_the_draw_and_evaluation_drops_nothing() {
    let golden = Golden::read("gqa");
    let base = Frozen::new(&golden.weights, PLAIN).unwrap();
    let dropping = trained(&golden, &AdapterSettings { dropout: 0.2, ..settings(&Module::ALL) });
    let plain = trained(&golden, &settings(&Module::ALL));
    let none = Recompute::default();
    let evaluated = pass(&golden, &Adapted::new(&base, &plain), &none);
    assert!(pass(&golden, &Adapted::new(&base, &dropping), &none) == evaluated);
    assert!(pass(&golden, &Adapted::new(&base, &plain).dropping(Seed(9), 1), &none) == evaluated);
    let one = pass(&golden, &Adapted::new(&base, &dropping).dropping(Seed(9), 1), &none);
    assert!(one.0 != evaluated.0 && one.1 != evaluated.1);
    assert!(pass(&golden, &Adapted::new(&base, &dropping).dropping(Seed(9), 2), &none).0 != one.0);
    assert!(pass(&golden, &Adapted::new(&base, &dropping).dropping(Seed(10), 1), &none).0 != one.0);
    // What is computed again drops the same.
    for again in [Again::Attention, Again::FeedForward, Again::All] {
        assert!(
            pass(&golden, &Adapted::new(&base, &dropping).dropping(Seed(9), 1), &Recompute::same(again))
                == one
        );
    }
    // What each token's loss is on average is what evaluation says, but for the model's bends.
    let mut mean = vec![0.0f64; one.0.len()];
    for draw in 0..200 {
        let losses = pass(&golden, &Adapted::new(&base, &dropping).dropping(Seed(9), draw), &none).0;
        mean.iter_mut().zip(losses).for_each(|(mean, loss)| *mean += f64::from(loss) / 200.0);
    }
    let (found, expected) =
        (mean.iter().sum::<f64>(), evaluated.0.iter().map(|&loss| f64::from(loss)).sum::<f64>());
    assert!((found / expected - 1.0).abs() < 0.02, "{found}, and {expected} in evaluation");
}

#[test]
fn fresh_adapters_change_no_bit_and_the_base_has_no_gradient() {
    let golden = Golden::read("odd");
    let base = Frozen::new(&golden.weights, PLAIN).unwrap();
    let settings = settings(&Module::ALL);
    let adapters =
        Adapters::init(&golden.weights.config, &settings, &mut Seed(1).stream("adapters", 0)).unwrap();
    let adapted = Adapted::new(&base, &adapters);
    let (losses, gradients) = pass(&golden, &adapted, &Recompute::default());
    let (expected, _) = pass(&golden, &golden.weights, &Recompute::default());
    assert_eq!(losses, expected);
    assert_eq!(gradients.len(), adapters.data.len());
    for tensor in adapters.tensors() {
        let values = &adapters.data[tensor.range.clone()];
        let bound = 1.0 / (tensor.shape[1] as f32).sqrt();
        let gradient = &gradients[tensor.range];
        if tensor.name.contains("lora_A") {
            assert!(values.iter().all(|value| value.abs() <= bound));
            assert!(
                values.iter().any(|value| *value > 0.8 * bound)
                    && values.iter().any(|value| *value < -0.8 * bound)
            );
            assert!(gradient.iter().all(|value| *value == 0.0), "{}", tensor.name);
        } else {
            assert!(values.iter().all(|value| *value == 0.0));
            assert!(gradient.iter().any(|value| *value != 0.0), "{}", tensor.name);
        }
    }
}

#[test]
fn a_quantised_base_is_the_base_that_it_stands_for_whatever_is_computed_again() {
    let formats = [Format::Bf16, Format::Int8, Format::Nf4 { double: false }, Format::Nf4 { double: true }];
    for case in ["gqa", "tied_scaled"] {
        let golden = Golden::read(case);
        let adapters = trained(&golden, &settings(&Module::ALL));
        for linear in formats {
            let base = Frozen::new(&golden.weights, Formats { linear, embedding: Format::Bf16 }).unwrap();
            let adapted = Adapted::new(&base, &adapters);
            let (losses, gradients) = pass(&golden, &adapted, &Recompute::default());
            let plain = Frozen::new(&base.dequantised().unwrap(), PLAIN).unwrap();
            let (expected, expected_gradients) =
                pass(&golden, &Adapted::new(&plain, &adapters), &Recompute::default());
            assert_eq!(losses, expected, "{case}, {linear:?}");
            assert!(worst(&gradients, &expected_gradients) < 1e-5, "{case}, {linear:?}");
            assert!(base.bytes() < plain.bytes());

            let again = pass(&golden, &adapted, &Recompute::same(Again::All));
            assert!(again == (losses, gradients), "{case}, {linear:?}");
        }
    }
}

#[test]
fn settings_that_do_not_fit_are_all_named() {
    let golden = Golden::read("gqa");
    let settings = AdapterSettings {
        rank: 0,
        alpha: f32::NAN,
        dropout: 1.5,
        modules: vec![Module::QProj, Module::QProj],
        ..AdapterSettings::default()
    };
    let error = Adapters::zeros(&golden.weights.config, &settings).unwrap_err().to_string();
    for part in ["rank is 0", "alpha is NaN", "dropout is 1.5", "q_proj twice"] {
        assert!(error.contains(part), "{error}");
    }
}
