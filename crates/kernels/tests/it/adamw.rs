//! AdamW against the paper's algorithm in f64.

use kernels::adamw::{AdamW, adamw};
use kernels::reduce::sum_of_squares;

use crate::compare::{Random, assert_close, at_every_level, widen};

#[derive(Debug)]
struct Case {
    length: usize,
    numbers: AdamW,
    steps: u64,
    threads: usize,
    seed: u64,
}

fn check(case: &Case) {
    let Case { length, numbers, .. } = *case;
    let mut random = Random::new(case.seed);
    let begin = random.values(length);
    let gradients: Vec<Vec<f32>> = (0..case.steps).map(|_| random.values(length)).collect();
    let (mut p, mut m, mut v) = (widen(&begin), vec![0.0; length], vec![0.0; length]);
    let [rate, beta1, beta2, epsilon, decay, scale] = [
        numbers.learning_rate,
        numbers.beta1,
        numbers.beta2,
        numbers.epsilon,
        numbers.weight_decay,
        numbers.gradient_scale,
    ]
    .map(f64::from);
    for (step, gradients) in (1..).zip(&gradients) {
        for (i, &gradient) in gradients.iter().enumerate() {
            let gradient = f64::from(gradient) * scale;
            m[i] = beta1 * m[i] + (1.0 - beta1) * gradient;
            v[i] = beta2 * v[i] + (1.0 - beta2) * gradient * gradient;
            let (mean, square) = (m[i] / (1.0 - beta1.powi(step)), v[i] / (1.0 - beta2.powi(step)));
            p[i] = p[i] * (1.0 - rate * decay) - rate * mean / (square.sqrt() + epsilon);
        }
    }
    let run = || {
        let (mut parameters, mut first, mut second) = (begin.clone(), vec![0.0; length], vec![0.0; length]);
        for (step, gradients) in (1..).zip(&gradients) {
            let numbers = AdamW { step, ..numbers };
            adamw(&mut parameters, gradients, &mut first, &mut second, &numbers);
        }
        let norm = sum_of_squares(&gradients[0]) as f32;
        vec![parameters, first, second, vec![norm]]
    };
    let norm: f64 = gradients[0].iter().map(|&gradient| f64::from(gradient) * f64::from(gradient)).sum();
    at_every_level(case, case.threads, run, |level, found| {
        for (what, found, exact) in
            [("parameters", &found[0], &p), ("first", &found[1], &m), ("second", &found[2], &v)]
        {
            assert_close(&(level, case), what, found, exact, 3e-6);
        }
        assert_close(&(level, case), "the sum of squares", &found[3], &[norm], 1e-6);
    });
}

fn numbers() -> AdamW {
    AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 1,
        gradient_scale: 0.5,
    }
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let numbers = AdamW {
        learning_rate: random.choose(&[1e-1, 1e-3, 1e-5]),
        beta1: random.choose(&[0.0, 0.9, 0.95]),
        beta2: random.choose(&[0.95, 0.999]),
        epsilon: random.choose(&[1e-8, 1e-5]),
        weight_decay: random.choose(&[0.0, 0.1]),
        step: 1,
        gradient_scale: random.choose(&[1.0, 0.01, 300.0]),
    };
    let (length, steps) = (random.size(70_000), random.below(6) as u64 + 1);
    let threads = random.choose(&[2, 3, 8]);
    check(&Case { length, numbers, steps, threads, seed });
}

#[test]
fn lengths_around_every_edge() {
    for length in [1, 15, 16, 17, (1 << 14) - 1, (1 << 14) + 1] {
        check(&Case { length, numbers: numbers(), steps: 3, threads: 3, seed: 1 });
    }
}
