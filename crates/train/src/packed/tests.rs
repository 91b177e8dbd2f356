//! Every token is predicted once an epoch, never across documents, whatever the order in which steps are asked for.

use std::collections::BTreeMap;

use super::*;

/// Documents whose tokens say which document and place they are: `document * 1000 + place`.
fn documents(sizes: &[usize]) -> Vec<Vec<u32>> {
    sizes
        .iter()
        .enumerate()
        .map(|(d, &size)| (0..size).map(|place| (d * 1000 + place) as u32).collect())
        .collect()
}

fn batch(batches: &PackedBatches<Vec<Vec<u32>>>, step: u64, micro: u32) -> Batch {
    let mut batch = Batch::new(batches.rows, batches.seq_len);
    // Whatever a batch held before must not matter.
    batch.loss_weights.fill(9.0);
    batch.document_starts.fill(7);
    batches.fill(step, micro, &mut batch);
    batch
}

fn check(sizes: &[usize], seq_len: usize, rows: usize, accumulation: u32) {
    let batches = PackedBatches::new(documents(sizes), seq_len, rows, accumulation, Seed(7)).unwrap();
    let config = model::Config { vocab_size: 1000 * sizes.len(), ..crate::Size::Nano.plan().model };
    let rows_per_epoch = batches.rows_per_epoch as usize;
    let (mut seen, mut predicted) = (BTreeMap::new(), BTreeMap::new());
    let mut row = 0;
    'epoch: for step in 0.. {
        for micro in 0..accumulation {
            let batch = batch(&batches, step, micro);
            batch.validate(&config).unwrap();
            for place in 0..batch.tokens() {
                let (input, target) = (batch.inputs[place], batch.targets[place]);
                let column = place % seq_len;
                let same = input / 1000 == target / 1000;
                assert_eq!(
                    batch.loss_weights[place],
                    if same { 1.0 } else { 0.0 },
                    "{sizes:?} {input} {target}"
                );
                if same {
                    assert_eq!(target, input + 1);
                    *predicted.entry(target).or_insert(0) += 1;
                } else {
                    assert_eq!(target % 1000, 0);
                }
                if input % 1000 == 0 || column == 0 {
                    assert_eq!(batch.document_starts[place], column as u32);
                } else {
                    assert_eq!(batch.document_starts[place], batch.document_starts[place - 1]);
                }
                *seen.entry(input).or_insert(0) += 1;
                row += usize::from(column + 1 == seq_len);
                if row == rows_per_epoch {
                    break 'epoch;
                }
            }
        }
    }
    let total: usize = sizes.iter().sum();
    assert_eq!(seen.len(), rows_per_epoch * seq_len, "{sizes:?}: no token is an input twice");
    assert!(predicted.values().all(|&times| times == 1));
    assert!(total - seen.len() <= seq_len, "{sizes:?}: at most a row's tokens are left out");
}

#[test]
fn every_token_is_seen_once_and_never_predicted_across_documents() {
    check(&[50], 7, 2, 1);
    check(&[5, 1, 9, 30, 2, 2, 17], 8, 3, 2);
    check(&[0, 4, 0, 0, 11, 0], 5, 1, 1);
    check(&[1, 1, 1, 1, 1, 1, 1], 3, 2, 1);
    check(&[900, 3, 400], 16, 4, 3);
    check(&[8, 8, 8, 8], 8, 1, 1);
}

#[test]
fn any_step_can_be_asked_for_first() {
    let sizes = [5, 1, 9, 30, 2, 2, 17];
    let forward = PackedBatches::new(documents(&sizes), 8, 3, 2, Seed(7)).unwrap();
    let backward = PackedBatches::new(documents(&sizes), 8, 3, 2, Seed(7)).unwrap();
    let steps: Vec<_> = (0..12).flat_map(|step| [(step, 0), (step, 1)]).collect();
    let first: Vec<_> = steps.iter().map(|&(step, micro)| batch(&forward, step, micro)).collect();
    for (&(step, micro), expected) in steps.iter().zip(&first).rev() {
        assert_eq!(&batch(&backward, step, micro), expected, "step {step}");
    }
}

#[test]
fn epochs_and_seeds_have_orders_of_their_own() {
    let sizes = [40; 20];
    let order = |seed: u64, epoch: u64| {
        let batches = PackedBatches::new(documents(&sizes), 8, 1, 1, Seed(seed)).unwrap();
        let rows = batches.rows_per_epoch;
        (0..rows).map(|row| batch(&batches, epoch * rows + row, 0).inputs).collect::<Vec<_>>()
    };
    let first = order(1, 0);
    assert_eq!(first, order(1, 0));
    assert_ne!(first, order(1, 1));
    assert_ne!(first, order(2, 0));
}

#[test]
fn a_batch_names_its_documents() {
    let batches = PackedBatches::new(documents(&[40; 3]), 119, 1, 1, Seed(1)).unwrap();
    assert_eq!(batches.describe(0, 0), "3 training documents: 0, 1, 2");
    assert_eq!(batches.steps_per_epoch(), 1);
}

#[test]
fn too_few_tokens_are_refused_with_their_number() {
    let error = PackedBatches::new(documents(&[3, 4]), 7, 1, 1, Seed(1)).err().unwrap();
    assert_eq!(error.to_string(), "7 tokens in 2 documents do not fill one row of 8 tokens");
    assert!(error.hint().unwrap().contains("--size"));
}

#[test]
fn token_shards_give_the_same_batches_as_documents_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let in_memory = documents(&[5, 1, 9, 30, 2, 2, 17]);
    for vocab_size in [10_000, 100_000] {
        let prefix = folder.path().join(format!("train-{vocab_size}"));
        let mut writer = corpus::indexed::Writer::create(&prefix, vocab_size).unwrap();
        in_memory.iter().for_each(|document| writer.push_document(document).unwrap());
        writer.finish().unwrap();
        let shards = PackedBatches::new(Dataset::open(&prefix).unwrap(), 8, 3, 2, Seed(7)).unwrap();
        let memory = PackedBatches::new(in_memory.clone(), 8, 3, 2, Seed(7)).unwrap();
        for step in 0..5 {
            let mut found = Batch::new(3, 8);
            shards.fill(step, 1, &mut found);
            assert_eq!(found, batch(&memory, step, 1), "step {step}");
        }
    }
}
