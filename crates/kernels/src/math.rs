//! Scalar functions that loops over slices inline and the compiler vectorises.

use crate::isa::mul_add;

/// `e^x` for `x` in `[-87, 88]` (clamped), within 2 units in the last place: Cody-Waite reduction to
/// `[-ln 2 / 2, ln 2 / 2]` and a polynomial of degree 6, without a branch, so that a loop over it vectorises.
///
/// `FMA` says whether the processor fuses `a * b + c`; without it `f32::mul_add` would be a library call.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    // ln 2 in two parts, the first with zeros at its end, so that n * LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer in every instruction set.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, x));
    let mut p = 1.987_569_1e-4;
    p = mul_add::<FMA>(p, r, 1.398_2e-3);
    p = mul_add::<FMA>(p, r, 8.333_452e-3);
    p = mul_add::<FMA>(p, r, 4.166_579_6e-2);
    p = mul_add::<FMA>(p, r, 1.666_666_6e-1);
    p = mul_add::<FMA>(p, r, 0.5);
    let value = mul_add::<FMA>(p, r * r, r) + 1.0;
    f32::from_bits(value.to_bits().wrapping_add((n as i32 as u32) << 23))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Sum over `f(i)` for `i < length` in 32 lanes, then over the lanes: the same order on every processor, and the
/// same result when zeros follow the last value.
#[inline(always)]
pub fn sum_lanes(length: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 32];
    let whole = length / 32 * 32;
    for start in (0..whole).step_by(32) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    for (lane, sum) in lanes.iter_mut().enumerate().take(length - whole) {
        *sum += f(whole + lane);
    }
    // A fixed tree, which also vectorises.
    let mut width = 16;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Largest value; negative infinity of nothing.
#[inline(always)]
pub fn max_lanes(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 32];
    let (chunks, rest) = values.as_chunks::<32>();
    for chunk in chunks {
        for (lane, largest) in lanes.iter_mut().enumerate() {
            *largest = if chunk[lane] > *largest { chunk[lane] } else { *largest };
        }
    }
    rest.iter().chain(&lanes).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for step in -87_000..88_000 {
            let x = step as f32 / 1000.0;
            let exact = f64::from(x).exp();
            for value in [exp::<true>(x), exp::<false>(x)] {
                let unit = f64::from(f32::from_bits((exact as f32).to_bits() + 1)) - f64::from(exact as f32);
                assert!((f64::from(value) - exact).abs() <= 2.0 * unit, "exp({x}) = {value}, not {exact}");
            }
        }
        assert_eq!(exp::<true>(0.0), 1.0);
        assert!(exp::<true>(-1e30) < 1e-37);
    }

    #[test]
    fn lanes_sum_everything_and_ignore_trailing_zeros() {
        for length in [0usize, 1, 31, 32, 33, 100] {
            let values: Vec<f32> = (0..length).map(|i| (i * 7 % 13) as f32 - 5.5).collect();
            let mut padded = values.clone();
            padded.resize(length.div_ceil(32) * 32 + 64, 0.0);
            let sum = sum_lanes(length, |i| values[i]);
            assert_eq!(sum, values.iter().sum::<f32>());
            assert_eq!(sum.to_bits(), sum_lanes(padded.len(), |i| padded[i]).to_bits());
            let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max_lanes(&values), largest);
        }
    }
}
