use std::time::Duration;

use kernels::bandwidth::Bandwidth;
use kernels::meter::{Cost, Operation, Pass};
use ledger::progress::Silent;

use super::*;
use crate::PackedBatches;
use crate::packed::Documents;

fn bench(plan: &Plan, batches: &dyn Batches, steps: u32) -> Measured {
    let settings = Settings::default();
    run(&Bench { plan, settings: &settings, batches, steps, seed: Seed(1), progress: &Silent }).unwrap()
}

#[test]
fn the_operations_of_a_step_fit_in_it_and_are_those_of_the_model() {
    let plan = Plan { accumulation: 2, ..Shape::Nano.plan() };
    let found = bench(&plan, &TwoDocuments::new(plan.model.vocab_size, Seed(1)), 5);
    assert_eq!((found.seconds.len(), found.micro_batches, found.tokens), (5, 2, 128));
    // Two documents in each of two rows of two micro-batches.
    assert_eq!(found.documents, 8);
    assert_eq!(found.parameters, plan.model.parameters());
    let Breakdown { steps, seconds, operations } = &found.breakdown;
    assert_eq!(*steps, 3);
    assert!(found.seconds.iter().any(|one| one <= seconds) && found.seconds.iter().any(|one| one >= seconds));
    assert!(found.breakdown.rest() >= 0.0, "operations take longer than the step: {found:?}");
    assert!(operations.windows(2).all(|pair| pair[0].seconds >= pair[1].seconds));

    let calls = |operation: Operation| -> f64 {
        let same = operations.iter().filter(|share| share.name.operation == operation);
        same.map(|share| share.calls).sum()
    };
    let micro_batches = f64::from(found.micro_batches);
    let layers = plan.model.layers as f64;
    // Four products a layer and the output layer, forward and two gradients each.
    assert_eq!(calls(Operation::Product), micro_batches * 3.0 * (4.0 * layers + 1.0));
    assert_eq!(calls(Operation::Attention), micro_batches * 2.0 * layers);
    // Of the embedding's rows and of all other gradients.
    assert_eq!(calls(Operation::SumOfSquares), 2.0);
    let updated = operations.iter().find(|share| share.name.operation == Operation::AdamW).unwrap();
    // Of the embedding's gradient the rows that occurred alone are read.
    let table = (plan.model.vocab_size * plan.model.dim) as f64;
    let (read, written) = (16.0 * found.parameters as f64, 12.0 * found.parameters as f64);
    assert!(updated.written == written && updated.read > read - 4.0 * table && updated.read < read);
    let products: f64 =
        operations.iter().filter(|share| share.name.operation == Operation::Product).map(|s| s.flops).sum();
    assert_eq!(products, plan.model.training_flops_per_token(0) * found.tokens as f64);

    let memory = found.memory;
    assert_eq!(memory.weights, 4 * found.parameters);
    assert_eq!(memory.moments, 2 * memory.weights);
    assert!(memory.gradients > memory.weights - 4 * table as u64 && memory.gradients < memory.weights);
    assert!(memory.activations > 0 && memory.scratch > 0);
    assert!(memory.peak.is_none_or(|peak| peak > memory.named()), "{memory:?}");
}

#[test]
fn the_breakdown_leaves_disturbed_steps_out() {
    let name = |operation| Name { operation, role: "", pass: Pass::Whole, again: false };
    let entry = |operation, milliseconds, calls| Entry {
        name: name(operation),
        calls,
        time: Duration::from_millis(milliseconds),
        cost: Cost { flops: 100 * calls, read: 10 * calls, written: calls },
    };
    let step = |seconds, zero, copy| {
        (seconds, vec![entry(Operation::Zero, zero, 1), entry(Operation::Copy, copy, 2)])
    };
    let steps = vec![step(9.0, 8_000, 1), step(0.3, 100, 120), step(0.2, 40, 100), step(0.1, 1, 1)];
    let found = Breakdown::new(steps);
    assert_eq!(found.steps, 2);
    assert!((found.seconds - 0.25).abs() < 1e-12 && (found.rest() - 0.07).abs() < 1e-12, "{found:?}");
    let shares: Vec<_> =
        found.operations.iter().map(|share| (share.name.operation, share.calls, share.flops)).collect();
    assert_eq!(shares, [(Operation::Copy, 2.0, 200.0), (Operation::Zero, 1.0, 100.0)]);
    assert_eq!(Breakdown::new(vec![step(0.1, 1, 1)]).steps, 1);
}

#[test]
fn the_roofline_is_the_longest_of_its_times() {
    let bandwidth = Bandwidth { read: 10.0, update: 15.0, buffer: 1, last_cache: None };
    let roofline = Roofline { peak: 100.0, bandwidth };
    let name = Name { operation: Operation::Copy, role: "", pass: Pass::Whole, again: false };
    for (flops, read, written, seconds, bound) in [
        (500.0, 10.0, 0.0, 5.0, Bound::Compute),
        (500.0, 80.0, 0.0, 8.0, Bound::Memory),
        (0.0, 80.0, 10.0, 8.0, Bound::Memory),
        (0.0, 60.0, 60.0, 8.0, Bound::Memory),
        (0.0, 0.0, 30.0, 2.0, Bound::Memory),
    ] {
        let share = Share { name, calls: 1.0, seconds: 9.0, flops, read, written };
        assert_eq!(roofline.least(&share), Least { seconds, bound });
    }
}

#[test]
fn random_documents_have_the_lengths_and_tokens_that_were_asked_for() {
    let seed = Seed(3);
    let documents = RandomDocuments::of_sizes([5, 70_000, 3], 17, seed);
    assert_eq!((documents.len(), documents.size(1)), (3, 70_000));
    let mut tokens = vec![99; 70_000];
    documents.read(1, 0, &mut tokens);
    assert!(tokens.iter().all(|&token| token < 17) && tokens[..100].iter().any(|&token| token != tokens[0]));
    let mut part = vec![99; 40];
    documents.read(1, 66_000, &mut part);
    assert_eq!(part, tokens[66_000..66_040]);

    let documents = RandomDocuments::like_the_default_run(4_000_000, 100, seed);
    let mut sizes: Vec<_> = (0..documents.len()).map(|document| documents.size(document)).collect();
    assert!(sizes.iter().sum::<usize>() >= 4_000_000);
    sizes.sort_unstable();
    let middle = sizes[sizes.len() / 2] as f64 / RandomDocuments::MEDIAN;
    assert!((0.85..1.15).contains(&middle), "{middle}");

    // As training packs them, and never outside the vocabulary.
    let batches = PackedBatches::new(documents, 64, 2, 1, seed).unwrap();
    let mut batch = Batch::new(2, 64);
    batches.fill(0, 0, &mut batch);
    batch.validate(&model::Config { vocab_size: 100, ..Shape::Nano.plan().model }).unwrap();
}

#[test]
fn two_documents_make_a_batch_that_training_takes() {
    let config = Shape::Nano.plan().model;
    let batches = TwoDocuments::new(config.vocab_size, Seed(1));
    let mut batch = Batch::new(3, 16);
    batches.fill(1, 0, &mut batch);
    batch.validate(&config).unwrap();
    assert_eq!(batch.document_starts[..8], [0, 0, 0, 0, 0, 0, 6, 6]);
    assert_eq!(batch.inputs[1..], batch.targets[..47]);
}

#[test]
fn shapes_have_names() {
    for shape in Shape::ALL {
        assert_eq!(shape.to_string().parse::<Shape>().unwrap(), shape);
        let plan = shape.plan();
        plan.model.validate().unwrap();
        assert!(plan.seq_len <= plan.model.max_seq_len && plan.accumulation == 1);
    }
    let error = "tall".parse::<Shape>().unwrap_err();
    assert!(error.to_string().contains("tall") && error.hint().unwrap().contains("wide"), "{error}");
}

#[test]
fn the_median_is_in_the_middle() {
    for (values, wanted) in [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0], 2.5), (&[7.0], 7.0)] {
        assert_eq!(median(values), wanted);
    }
}
