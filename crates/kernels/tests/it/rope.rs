//! The rotary embedding against rotations in f64, and back again.

use kernels::rope::{Table, Turn, rotate};

use crate::compare::{Random, assert_close, at_every_level};

#[derive(Debug)]
struct Case {
    half: usize,
    heads: usize,
    /// Values behind the heads of a row, which stay as they are.
    behind: usize,
    tokens: usize,
    threads: usize,
    seed: u64,
}

fn check(case: &Case) {
    let Case { half, heads, behind, tokens, .. } = *case;
    let mut random = Random::new(case.seed);
    let width = 2 * half * heads + behind;
    let frequencies: Vec<f32> = (0..half).map(|i| 500_000f32.powf(-(i as f32) / half as f32)).collect();
    let table = Table::new(&frequencies, tokens + 50);
    assert_eq!(table.positions(), tokens + 50);
    let x = random.values(width * tokens);
    let positions: Vec<u32> = (0..tokens).map(|_| random.below(tokens + 50) as u32).collect();
    let plain = |sign: f64| -> Vec<f64> {
        let mut turned: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        for (row, &position) in turned.chunks_exact_mut(width).zip(&positions) {
            for head in row.chunks_exact_mut(2 * half).take(heads) {
                for i in 0..half {
                    // The reference computes angles in f32.
                    let (sin, cos) = (sign * f64::from(position as f32 * frequencies[i])).sin_cos();
                    let (a, b) = (head[i], head[i + half]);
                    (head[i], head[i + half]) = (a * cos - b * sin, b * cos + a * sin);
                }
            }
        }
        turned
    };
    let (forward, backward) = (plain(1.0), plain(-1.0));
    let run = || {
        let turned = |turn| {
            let mut turned = x.clone();
            rotate(&mut turned, width, heads, &positions, &table, turn);
            turned
        };
        vec![turned(Turn::Forward), turned(Turn::Backward)]
    };
    at_every_level(case, case.threads, run, |level, found| {
        assert_close(&(level, case), "forward", &found[0], &forward, 1e-6);
        assert_close(&(level, case), "backward", &found[1], &backward, 1e-6);
        for (row, x) in found[0].chunks_exact(width).zip(x.chunks_exact(width)) {
            assert_eq!(row[width - behind..], x[width - behind..], "{case:?} at {level:?}: behind the heads");
        }
    });
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let (half, heads, behind) = (random.size(70), random.size(12), random.below(130));
    let (tokens, threads) = (random.size(200), random.choose(&[2, 3, 8]));
    check(&Case { half, heads, behind, tokens, threads, seed });
}

#[test]
fn shapes_around_every_edge() {
    for (half, heads, behind, tokens) in [(1, 1, 0, 1), (5, 3, 10, 70), (64, 2, 256, 64), (16, 4, 1, 65)] {
        check(&Case { half, heads, behind, tokens, threads: 3, seed: 1 });
    }
}
