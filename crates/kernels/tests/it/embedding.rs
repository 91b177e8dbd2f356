//! The embedding's gather and scatter, each the other's transpose.

use kernels::adamw::{AdamW, adamw, adamw_rows};
use kernels::embedding::{RowGradients, backward, forward};

use crate::compare::{Random, assert_close, at_every_level};

#[derive(Debug)]
struct Case {
    tokens: usize,
    dim: usize,
    vocab_size: usize,
    threads: usize,
    seed: u64,
}

fn check(case: &Case) {
    let Case { tokens, dim, vocab_size, .. } = *case;
    let mut random = Random::new(case.seed);
    let (table, dx, before) =
        (random.values(vocab_size * dim), random.values(tokens * dim), random.values(vocab_size * dim));
    let names: Vec<u32> = (0..tokens).map(|_| random.below(vocab_size) as u32).collect();
    let gathered: Vec<f32> =
        names.iter().flat_map(|&name| table[name as usize * dim..][..dim].to_vec()).collect();
    let mut scattered: Vec<f64> = before.iter().map(|&value| f64::from(value)).collect();
    for (dx, &name) in dx.chunks_exact(dim).zip(&names) {
        for (sum, &dx) in scattered[name as usize * dim..][..dim].iter_mut().zip(dx) {
            *sum += f64::from(dx);
        }
    }
    let run = || {
        let (mut x, mut dtable) = (vec![f32::NAN; tokens * dim], before.clone());
        forward(&mut x, &table, &names, dim);
        backward(&mut dtable, &dx, &names, dim);
        vec![x, dtable]
    };
    at_every_level(case, case.threads, run, |level, found| {
        assert_eq!(found[0], gathered, "{case:?} at {level:?}");
        assert_close(&(level, case), "the table's gradient", &found[1], &scattered, 1e-5);
    });
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let (tokens, dim) = (random.size(600), random.size(300));
    let (vocab_size, threads) = (random.size(500), random.choose(&[2, 3, 8]));
    check(&Case { tokens, dim, vocab_size, threads, seed });
}

/// The rows of the tokens that occurred hold the table's gradient, and update it to the same bits, batch after batch.
#[test]
fn rows_are_the_table_s_gradient() {
    for (vocab_size, dim, names) in
        [(1, 1, 1..2), (300, 7, 3..40), (5, 64, 0..200), (700, 48, 0..700), (3000, 33, 100..900)]
    {
        let mut random = Random::new(7);
        let table = random.values(vocab_size * dim);
        let mut rows = RowGradients::new(vocab_size, dim);
        let fresh = || [table.clone(), vec![0.0; table.len()], vec![0.0; table.len()]];
        let (mut sparse, mut dense) = (fresh(), fresh());
        for step in 1..=3 {
            let mut gradient = vec![0.0; table.len()];
            rows.clear();
            for _ in 0..2 {
                let names: Vec<u32> = names.clone().map(|_| random.below(vocab_size) as u32).collect();
                let dx = random.values(names.len() * dim);
                backward(&mut gradient, &dx, &names, dim);
                rows.add(&dx, &names);
            }
            for (token, expected) in gradient.chunks_exact(dim).enumerate() {
                assert_eq!(rows.row(token).unwrap_or(&vec![0.0; dim]), expected, "{vocab_size} {dim}");
            }
            assert_eq!(
                rows.rows().iter().filter(|&&v| v != 0.0).count(),
                gradient.iter().filter(|&&v| v != 0.0).count()
            );
            let numbers = AdamW {
                learning_rate: 0.1,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                step,
                gradient_scale: 0.3,
            };
            let [weights, first, second] = &mut sparse;
            adamw_rows(weights, &rows, first, second, &numbers);
            let [weights, first, second] = &mut dense;
            adamw(weights, &gradient, first, second, &numbers);
            assert_eq!(sparse, dense, "{vocab_size} {dim}, step {step}");
        }
    }
}

#[test]
fn shapes_around_every_edge() {
    for (tokens, dim, vocab_size) in [(1, 1, 1), (3, 3, 4), (200, 7, 5), (65, 64, 300)] {
        check(&Case { tokens, dim, vocab_size, threads: 3, seed: 1 });
    }
}
