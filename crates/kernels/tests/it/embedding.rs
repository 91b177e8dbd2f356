//! The embedding's gather and scatter, each the other's transpose.

use kernels::embedding::{backward, forward};

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

#[test]
fn shapes_around_every_edge() {
    for (tokens, dim, vocab_size) in [(1, 1, 1), (3, 3, 4), (200, 7, 5), (65, 64, 300)] {
        check(&Case { tokens, dim, vocab_size, threads: 3, seed: 1 });
    }
}
