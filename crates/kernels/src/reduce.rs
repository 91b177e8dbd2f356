//! Sums over whole vectors, in an order that the number of threads does not change.

use rayon::prelude::*;

use crate::isa;
use crate::math::sum_lanes;
use crate::meter::{self, Cost, Operation, Pass};

const BLOCK: usize = 1 << 14;
/// Partial sums kept at once on the stack, so that nothing is allocated.
const GROUP: usize = 64;

/// Sum of squares: f32 lanes within a block of 16,384 values, f64 over the blocks, in order.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let cost = || Cost::of(2 * values.len(), values.len(), 0);
    let _metered = meter::span(Operation::SumOfSquares, Pass::Whole, cost);
    let mut total = 0.0;
    for group in values.chunks(BLOCK * GROUP) {
        let mut partial = [0.0f64; GROUP];
        partial.par_iter_mut().zip(group.par_chunks(BLOCK)).for_each(|(sum, block)| {
            *sum = f64::from(square_sum(block));
        });
        total += partial[..group.len().div_ceil(BLOCK)].iter().sum::<f64>();
    }
    total
}

/// Fills with zeros on all threads.
pub fn zero(values: &mut [f32]) {
    let _metered = meter::span(Operation::Zero, Pass::Whole, || Cost::of(0, 0, values.len()));
    values.par_chunks_mut(BLOCK).for_each(|block| block.fill(0.0));
}

/// Copies on all threads.
pub fn copy(to: &mut [f32], from: &[f32]) {
    let _metered = meter::span(Operation::Copy, Pass::Whole, || Cost::of(0, from.len(), to.len()));
    to.par_chunks_mut(BLOCK).zip(from.par_chunks(BLOCK)).for_each(|(to, from)| to.copy_from_slice(from));
}

isa::dispatch! {
    fn square_sum<FMA>(block: &[f32]) -> f32 {
        sum_lanes([block], |[value]| value * value)
    }
}

/// Random values for this crate's own tests; those of whole operations are in `tests/it`.
#[cfg(test)]
pub(crate) mod testing {
    /// Pseudo-random values in `[-1, 1)`, the same each time (SplitMix64).
    pub(crate) struct Values(u64);

    impl Values {
        pub(crate) fn new(seed: u64) -> Self {
            Self(seed)
        }

        pub(crate) fn bits(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        pub(crate) fn take(&mut self, length: usize) -> Vec<f32> {
            (0..length).map(|_| (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_one_order_for_any_number_of_threads() {
        let values = testing::Values::new(3).take(BLOCK * (GROUP + 3) + 77);
        let exact: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let sums: Vec<u64> = [1, 2, 3, 8]
            .iter()
            .map(|&threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| sum_of_squares(&values)).to_bits()
            })
            .collect();
        assert!(sums.iter().all(|&sum| sum == sums[0]));
        assert!((f64::from_bits(sums[0]) - exact).abs() < 1e-5 * exact);
    }
}
