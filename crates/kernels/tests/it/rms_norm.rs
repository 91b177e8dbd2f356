//! RMSNorm against sums in f64.

use kernels::rms_norm::{again, backward, forward, partial_len};

use crate::compare::{Random, along, assert_close, assert_gradient, at_every_level, bits, widen};

const EPSILON: f64 = 1e-5;

#[derive(Debug)]
struct Case {
    rows: usize,
    dim: usize,
    threads: usize,
    seed: u64,
}

fn plain(x: &[f64], weight: &[f64]) -> Vec<f64> {
    x.chunks_exact(weight.len())
        .flat_map(|x| {
            let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
            x.iter().zip(weight).map(move |(x, weight)| x * weight / (square + EPSILON).sqrt())
        })
        .collect()
}

/// The gradients of `x` and of the weight, and the largest value that a sum of the latter has on its way over the rows.
fn plain_backward(x: &[f64], weight: &[f64], dy: &[f32]) -> (Vec<f64>, Vec<f64>, f64) {
    let dim = weight.len();
    let (mut dx, mut dweight, mut most) = (Vec::with_capacity(x.len()), vec![0.0; dim], 0.0f64);
    for (x, dy) in x.chunks_exact(dim).zip(dy.chunks_exact(dim)) {
        let square = x.iter().map(|x| x * x).sum::<f64>() / dim as f64 + EPSILON;
        let inverse = 1.0 / square.sqrt();
        let mean = (0..dim).map(|i| f64::from(dy[i]) * weight[i] * x[i]).sum::<f64>() / dim as f64 / square;
        for i in 0..dim {
            dx.push(inverse * (f64::from(dy[i]) * weight[i] - x[i] * mean));
            dweight[i] += f64::from(dy[i]) * x[i] * inverse;
            most = most.max(dweight[i].abs());
        }
    }
    (dx, dweight, most)
}

fn check(case: &Case) {
    let Case { rows, dim, .. } = *case;
    let mut random = Random::new(case.seed);
    let (x, weight, dy) = (random.values(rows * dim), random.values(dim), random.values(rows * dim));
    // Gradients are added to what is there.
    let (before, weight_before) = (random.values(rows * dim), random.values(dim));
    let (wide, wide_weight) = (widen(&x), widen(&weight));
    let y = plain(&wide, &wide_weight);
    let (mut dx, mut dweight, most) = plain_backward(&wide, &wide_weight, &dy);
    // In a shorter row a value near 0 turns within a finite difference's step.
    if dim >= 8 {
        assert_gradient(case, "x", &mut random, &wide, &dx, |x| along(&plain(x, &wide_weight), &dy));
        assert_gradient(case, "weight", &mut random, &wide_weight, &dweight, |w| {
            along(&plain(&wide, w), &dy)
        });
    }
    dx.iter_mut().zip(&before).for_each(|(dx, &before)| *dx += f64::from(before));
    dweight.iter_mut().zip(&weight_before).for_each(|(dweight, &before)| *dweight += f64::from(before));
    // Two terms of this size may cancel in the gradient of a short row.
    let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>() / dim as f64 + EPSILON;
    let inverse = wide.chunks_exact(dim).map(|x| 1.0 / square(x).sqrt()).fold(1.0, f64::max);
    // Each addition over the rows rounds by the size of the sum so far, which may be many times what is left of it in the end.
    let largest = dweight.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
    let on_the_way = (most / largest).max(1.0);
    let run = || {
        let (mut y, mut inverse) = (vec![f32::NAN; rows * dim], vec![f32::NAN; rows]);
        forward(&mut y, &mut inverse, &x, &weight, EPSILON as f32);
        let mut second = vec![f32::NAN; rows * dim];
        again(&mut second, &x, &inverse, &weight);
        let (mut dx, mut dweight) = (before.clone(), weight_before.clone());
        let mut partial = vec![f32::NAN; partial_len(rows, dim)];
        backward(&mut dx, &mut dweight, &dy, &x, &inverse, &weight, &mut partial);
        vec![y, second, dx, dweight]
    };
    at_every_level(case, case.threads, run, |level, found| {
        assert_close(&(level, case), "y", &found[0], &y, 1e-6);
        assert!(bits(&found[0]) == bits(&found[1]), "{case:?} at {level:?}: other bits the second time");
        assert_close(&(level, case), "dx", &found[2], &dx, 1e-6 * inverse);
        assert_close(&(level, case), "dweight", &found[3], &dweight, 3e-6 * on_the_way);
    });
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let (rows, dim, threads) = (random.size(400), random.size(1200), random.choose(&[2, 3, 8]));
    check(&Case { rows, dim, threads, seed });
}

#[test]
fn shapes_around_every_edge() {
    for (rows, dim) in [(1, 1), (1, 2), (3, 33), (64, 32), (65, 31), (130, 8)] {
        check(&Case { rows, dim, threads: 3, seed: 1 });
    }
}
