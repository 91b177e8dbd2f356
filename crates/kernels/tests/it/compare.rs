//! What every comparison shares: random values and shapes, each instruction set in turn, and distances from sums in f64.

use std::fmt::Debug;

use kernels::gemm::Precision;
use kernels::isa::{self, Isa};

/// Numbers that look random and follow from a seed alone (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    pub fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// One time in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A size from 1 to `most`: each power of two as likely as the next, and often beside a multiple of a vector, a
    /// panel or a block, where the edges are.
    pub fn size(&mut self, most: usize) -> usize {
        let size = 1 << self.below(most.ilog2() as usize + 1);
        let size = size + self.below(size);
        let unit = self.choose(&[1, 1, 8, 16, 64]);
        (size.next_multiple_of(unit) + self.below(3)).saturating_sub(1).clamp(1, most)
    }

    /// Values in `[-1, 1)`.
    pub fn values(&mut self, length: usize) -> Vec<f32> {
        (0..length).map(|_| (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
    }

    pub fn precision(&mut self) -> Precision {
        self.choose(&[Precision::F32, Precision::Bf16])
    }
}

/// Each value as it is in f64.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// A value as a product in this precision reads it.
pub fn rounded(precision: Precision, value: f32) -> f64 {
    if precision == Precision::Bf16 { half::bf16::from_f32(value).to_f64() } else { f64::from(value) }
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Runs on each instruction set of this processor, on one thread and on `threads`, which must give the same bits, and
/// hands what came out to `compare`.
pub fn at_every_level(
    case: &dyn Debug,
    threads: usize,
    run: impl Fn() -> Vec<Vec<f32>> + Sync,
    compare: impl Fn(Isa, &[Vec<f32>]),
) {
    for level in isa::available() {
        let one = isa::with(level, 1, &run);
        let many = isa::with(level, threads, &run);
        for (one, many) in one.iter().zip(&many) {
            assert!(bits(one) == bits(many), "{case:?} at {level:?}: other bits on {threads} threads");
        }
        compare(level, &one);
    }
}

/// Asserts that no value is further from the exact one than `error` times the largest exact one, or `error` itself where
/// all of them are small.
pub fn assert_close(case: &dyn Debug, what: &str, found: &[f32], exact: &[f64], error: f64) {
    assert_eq!(found.len(), exact.len(), "{case:?}: {what}");
    let largest = exact.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    for (place, (&found, &exact)) in found.iter().zip(exact).enumerate() {
        let distance = (f64::from(found) - exact).abs();
        assert!(
            distance <= error * largest,
            "{case:?}: {what}[{place}] is {found}, not {exact}: off by {distance:.1e}, largest value {largest:.1e}"
        );
    }
}

/// A sum in f64, and how far one in f32 may be from it in whatever order it adds.
#[derive(Clone, Copy)]
pub struct Sum {
    pub exact: f64,
    pub error: f64,
}

impl FromIterator<f64> for Sum {
    fn from_iter<I: IntoIterator<Item = f64>>(terms: I) -> Self {
        let (mut exact, mut size, mut count) = (0.0, 0.0, 1.0);
        for term in terms {
            exact += term;
            size += term.abs();
            count += 1.0;
        }
        Self { exact, error: size * count * f64::from(f32::EPSILON) }
    }
}

/// Asserts that each value is within the error of its sum; rows are `stride` values long.
pub fn assert_sums(case: &dyn Debug, what: &str, found: &[f32], sums: &[Sum], stride: usize) {
    assert_eq!(found.len(), sums.len(), "{case:?}: {what}");
    for (place, (&found, sum)) in found.iter().zip(sums).enumerate() {
        let distance = (f64::from(found) - sum.exact).abs();
        let (row, col) = (place / stride, place % stride);
        assert!(distance <= sum.error, "{case:?}: {what} at {row}, {col} is {found}, not {}", sum.exact);
    }
}

/// Compares a plain gradient in f64 with central differences of a plain loss, at a few places.
pub fn assert_gradient(
    case: &dyn Debug,
    what: &str,
    random: &mut Random,
    values: &[f64],
    gradient: &[f64],
    loss: impl Fn(&[f64]) -> f64,
) {
    const STEP: f64 = 1e-4;
    let largest = gradient.iter().fold(1.0f64, |most, value| most.max(value.abs()));
    let mut changed = values.to_vec();
    for _ in 0..4 {
        let place = random.below(values.len());
        let mut at = |offset: f64| {
            changed[place] = values[place] + offset;
            let value = loss(&changed);
            changed[place] = values[place];
            value
        };
        // Of fourth order: a step that is large for rounding leaves no truncation error either.
        let numeric = (8.0 * (at(STEP) - at(-STEP)) - (at(2.0 * STEP) - at(-2.0 * STEP))) / (12.0 * STEP);
        assert!(
            (numeric - gradient[place]).abs() < 1e-7 * largest,
            "{case:?}: the plain gradient of {what}[{place}] is {}, its finite difference {numeric}",
            gradient[place]
        );
    }
}

/// Sum of products of what came out and the gradient that goes in: a loss whose gradient is that one.
pub fn along(values: &[f64], gradient: &[f32]) -> f64 {
    values.iter().zip(gradient).map(|(value, &gradient)| value * f64::from(gradient)).sum()
}
