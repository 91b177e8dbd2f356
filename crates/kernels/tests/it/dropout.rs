//! Dropout: the share that it drops, the mean that it keeps, and the same mask both ways and everywhere.

use kernels::dropout::Dropout;
use kernels::isa::{self, Isa};

use crate::compare::{Random, assert_close, at_every_level};

#[derive(Debug)]
struct Case {
    length: usize,
    share: f64,
    threads: usize,
    seed: u64,
}

/// The mask, as the plainest instruction set finds it.
fn mask(case: &Case) -> Vec<f32> {
    isa::with(Isa::Portable, 1, || {
        let mut mask = vec![f32::NAN; case.length];
        Dropout::new(case.share, case.seed).forward(&mut mask, &vec![1.0; case.length]);
        mask
    })
}

fn check(case: &Case) {
    let mut random = Random::new(case.seed);
    let (x, dy, before) =
        (random.values(case.length), random.values(case.length), random.values(case.length));
    let mask = mask(case);
    assert!(
        mask.iter().all(|&m| m == 0.0 || (f64::from(m) * (1.0 - case.share) - 1.0).abs() < 1e-4),
        "{case:?}"
    );
    // Five standard deviations.
    let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64;
    let expected = case.length as f64 * case.share;
    assert!(
        (dropped - expected).abs() <= 5.0 * (expected * (1.0 - case.share)).sqrt() + 1.0,
        "{case:?}: {dropped}"
    );
    let kept: Vec<f64> = x.iter().zip(&mask).map(|(&x, &m)| f64::from(x) * f64::from(m)).collect();
    let added: Vec<f64> =
        (0..case.length).map(|i| f64::from(before[i]) + f64::from(dy[i]) * f64::from(mask[i])).collect();
    let run = || {
        let dropout = Dropout::new(case.share, case.seed);
        let (mut y, mut dx) = (vec![f32::NAN; case.length], before.clone());
        dropout.forward(&mut y, &x);
        dropout.backward(&mut dx, &dy);
        vec![y, dx]
    };
    at_every_level(case, case.threads, run, |level, found| {
        assert_close(&(level, case), "y", &found[0], &kept, 1e-6);
        assert_close(&(level, case), "dx", &found[1], &added, 1e-6);
        assert!(found[0].iter().zip(&mask).all(|(&y, &m)| m != 0.0 || y == 0.0), "{case:?} at {level:?}");
    });
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let (length, share) = (random.size(100_000), random.choose(&[0.0, 0.05, 0.1, 0.5, 0.9]));
    check(&Case { length, share, threads: random.choose(&[2, 3, 8]), seed });
}

#[test]
fn lengths_around_every_edge() {
    for length in [1, 3, 4, 5, 63, (1 << 14) - 1, (1 << 14) + 1, 50_000] {
        for share in [0.0, 0.1, 0.75] {
            check(&Case { length, share, threads: 3, seed: 1 });
        }
    }
}

#[test]
fn nothing_is_changed_where_nothing_is_dropped_and_other_keys_drop_others() {
    let mask = |share, key| mask(&Case { length: 4096, share, threads: 1, seed: key });
    assert_eq!(mask(0.0, 3), [1.0; 4096]);
    assert_eq!(mask(0.5, 3), mask(0.5, 3));
    let same = mask(0.5, 3).iter().zip(mask(0.5, 4)).filter(|(a, b)| **a == *b).count();
    assert!((1800..2300).contains(&same), "{same} of 4096 places agree");
}

#[test]
fn what_is_dropped_is_zero_whatever_it_was() {
    let mut y = vec![0.0; 1000];
    Dropout::new(0.5, 1).forward(&mut y, &[f32::INFINITY; 1000]);
    assert!(y.iter().all(|y| *y == 0.0 || *y == f32::INFINITY) && y.contains(&0.0));
}
