//! How many products a second the machine reaches when nothing but registers is involved: what a share of its peak
//! refers to.

use super::Precision;
use super::ahead::Unit;
use super::kernel::{self, Tile, Words};
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// Steps of K in one round. Both strips stay in the level-1 cache.
const DEPTH: usize = 128;
const ROUNDS: usize = 64;

/// The best rate, in 10^9 operations a second (a multiplication and an addition are two), at which all threads of
/// the current pool multiply the kernel's tallest tile from the level-1 cache, measured for about `budget`.
pub fn measured_peak_gflops(precision: Precision, budget: Duration) -> f64 {
    let threads = rayon::current_num_threads();
    let deadline = Instant::now() + budget;
    let kernel = kernel::select(precision);
    let operations = 2 * kernel.rows * kernel.columns * DEPTH * ROUNDS;
    let mut best = 0.0f64;
    loop {
        let total: f64 = (0..threads)
            .into_par_iter()
            .with_max_len(1)
            .map(|_| {
                let left = vec![0u32; kernel.rows * DEPTH];
                let right = vec![0u32; kernel.columns * DEPTH];
                let mut c = vec![0.0f32; kernel.rows * kernel.columns];
                let tile = Tile {
                    left: Words { start: left.as_ptr(), step: kernel.rows },
                    right: Words { start: right.as_ptr(), step: kernel.columns },
                    depth: DEPTH,
                    c: c.as_mut_ptr(),
                    c_stride: kernel.columns,
                    columns: kernel.columns,
                    add: false,
                    ahead: Unit::nothing(right.as_ptr()),
                };
                let multiply = kernel.tile(kernel.rows, kernel.columns);
                let start = Instant::now();
                for _ in 0..ROUNDS {
                    // SAFETY: strips and tile have the kernel's sizes, and the processor has its instructions.
                    unsafe { multiply(&tile) }
                }
                operations as f64 / start.elapsed().as_secs_f64()
            })
            .sum();
        best = best.max(total / 1e9);
        if Instant::now() >= deadline {
            return best;
        }
    }
}
