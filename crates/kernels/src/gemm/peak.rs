//! How many products a second the machine reaches on a large matrix: what a share of its peak refers to.

use super::{Accumulate, Precision, View, ViewMut, gemm};
use crate::buffer::Buffer;
use std::time::{Duration, Instant};

/// Sides of the square matrices: the second fills every cache level as training does, the first is for processors
/// that would take too long for it.
const SIDES: [usize; 2] = [768, 2048];

/// The best rate, in 10^9 operations a second (a multiplication and an addition are two), of [`gemm`] on square
/// matrices on all threads of the current pool, rounding and packing included, measured for about `budget` and at
/// least twice. Holds up to 48 MiB.
pub fn measured_peak_gflops(precision: Precision, budget: Duration) -> f64 {
    let began = Instant::now();
    let mut best = 0.0f64;
    for side in SIDES {
        let operations = 2.0 * (side as f64).powi(3);
        let expected = Duration::from_secs_f64(if best > 0.0 { operations / (best * 1e9) } else { 0.0 });
        if 2 * expected > budget {
            break;
        }
        // Not all the same value, and none that slows a multiplication down.
        let mut operand = Buffer::zeros(side * side);
        operand.iter_mut().enumerate().for_each(|(i, value)| *value = (i % 251) as f32 / 251.0 - 0.5);
        let mut c = Buffer::zeros(side * side);
        let (a, b) = (View::new(&operand, side, side, side), View::new(&operand, side, side, side));
        // Once more each time, since the first one finds its memory untouched.
        for round in 0.. {
            if round >= 2 && began.elapsed() + expected > budget {
                break;
            }
            let start = Instant::now();
            gemm(precision, ViewMut::new(&mut c, side, side, side), a, b.transposed(), Accumulate::Overwrite);
            best = best.max(operations / start.elapsed().as_secs_f64() / 1e9);
            if side != SIDES[1] && round >= 2 {
                break;
            }
        }
    }
    best
}
