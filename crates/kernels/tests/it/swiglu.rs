//! SwiGLU against its formula in f64.

use kernels::kept::{bf16, nearest, widened};
use kernels::swiglu::{backward, backward_kept, forward, forward_keeping};

use crate::compare::{Random, along, assert_close, assert_gradient, at_every_level, widen};

#[derive(Debug)]
struct Case {
    rows: usize,
    ffn_dim: usize,
    threads: usize,
    seed: u64,
}

fn plain(gate_up: &[f64], ffn_dim: usize) -> Vec<f64> {
    gate_up
        .chunks_exact(2 * ffn_dim)
        .flat_map(|row| (0..ffn_dim).map(|i| row[i] / (1.0 + (-row[i]).exp()) * row[ffn_dim + i]))
        .collect()
}

fn plain_backward(gate_up: &[f64], dy: &[f32], ffn_dim: usize) -> Vec<f64> {
    let mut gradient = vec![0.0; gate_up.len()];
    for (row, values) in gate_up.chunks_exact(2 * ffn_dim).enumerate() {
        for i in 0..ffn_dim {
            let (gate, up, dy) = (values[i], values[ffn_dim + i], f64::from(dy[row * ffn_dim + i]));
            let sigmoid = 1.0 / (1.0 + (-gate).exp());
            gradient[row * 2 * ffn_dim + i] = dy * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
            gradient[row * 2 * ffn_dim + ffn_dim + i] = dy * gate * sigmoid;
        }
    }
    gradient
}

fn check(case: &Case) {
    let Case { rows, ffn_dim, .. } = *case;
    let mut random = Random::new(case.seed);
    let mut gate_up = random.values(rows * 2 * ffn_dim);
    gate_up.iter_mut().for_each(|value| *value *= 10.0);
    let dy = random.values(rows * ffn_dim);
    let wide = widen(&gate_up);
    let (y, gradient) = (plain(&wide, ffn_dim), plain_backward(&wide, &dy, ffn_dim));
    assert_gradient(case, "gate_up", &mut random, &wide, &gradient, |x| along(&plain(x, ffn_dim), &dy));
    let run = || {
        let mut y = vec![f32::NAN; rows * ffn_dim];
        forward(&mut y, &gate_up, ffn_dim);
        let (mut gradient, mut y_again) = (gate_up.clone(), dy.clone());
        backward(&mut gradient, &mut y_again, ffn_dim);
        // Kept in bf16: the same output, and the gradient of the rounded values, rounded.
        let mut kept = vec![bf16::ZERO; gate_up.len()];
        let (mut y_keeping, mut y_kept) = (vec![f32::NAN; y.len()], dy.clone());
        forward_keeping(&mut y_keeping, &mut kept, &gate_up, ffn_dim);
        assert!(kept.iter().zip(&gate_up).all(|(&kept, &value)| kept == nearest(value)));
        let mut of_rounded: Vec<f32> = kept.iter().map(|&kept| widened(kept)).collect();
        let mut y_of_rounded = dy.clone();
        backward(&mut of_rounded, &mut y_of_rounded, ffn_dim);
        backward_kept(&mut kept, &mut y_kept, ffn_dim);
        assert!(y == y_keeping && y_kept == y_of_rounded);
        assert!(kept.iter().zip(&of_rounded).all(|(&kept, &value)| kept == nearest(value)));
        vec![y, y_again, gradient]
    };
    at_every_level(case, case.threads, run, |level, found| {
        assert_close(&(level, case), "y", &found[0], &y, 1e-6);
        assert!(found[0] == found[1], "{case:?} at {level:?}: another output the second time");
        assert_close(&(level, case), "the gradient", &found[2], &gradient, 3e-6);
    });
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let (rows, ffn_dim, threads) = (random.size(200), random.size(1000), random.choose(&[2, 3, 8]));
    check(&Case { rows, ffn_dim, threads, seed });
}

#[test]
fn shapes_around_every_edge() {
    for (rows, ffn_dim) in [(1, 1), (2, 17), (33, 32), (70, 5)] {
        check(&Case { rows, ffn_dim, threads: 3, seed: 1 });
    }
}
