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
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer in every instruction set. Between the two, the
    // integer stands in the lowest bits, so it reaches the exponent by a shift; Rust's conversion saturates, which
    // the compiler would do for one element at a time.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, x));
    let mut p = 1.987_569_1e-4;
    p = mul_add::<FMA>(p, r, 1.398_2e-3);
    p = mul_add::<FMA>(p, r, 8.333_452e-3);
    p = mul_add::<FMA>(p, r, 4.166_579_6e-2);
    p = mul_add::<FMA>(p, r, 1.666_666_6e-1);
    p = mul_add::<FMA>(p, r, 0.5);
    let value = mul_add::<FMA>(p, r * r, r) + 1.0;
    f32::from_bits(value.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// Values that are worked on together: two of the widest vectors, so that one's latency hides behind the other.
const LANES: usize = 32;

/// `f` of each value, in place. The rest of a slice goes through a padded block, so that all of it is vectorised.
#[inline(always)]
pub fn map_lanes(values: &mut [f32], f: impl Fn(f32) -> f32) {
    // A loop, since `array::map` is not inlined and so would be compiled for the baseline.
    let apply = |block: &mut [f32; LANES]| {
        for value in block {
            *value = f(*value);
        }
    };
    let (blocks, rest) = values.as_chunks_mut::<LANES>();
    for block in blocks {
        apply(block);
    }
    if !rest.is_empty() {
        let mut padded = padded(rest, 0.0);
        apply(&mut padded);
        rest.copy_from_slice(&padded[..rest.len()]);
    }
}

/// As [`map_lanes`], over several slices of one length: `f` gives the new values at a place from the old ones.
#[inline(always)]
pub fn map_lanes_of<const N: usize>(mut slices: [&mut [f32]; N], f: impl Fn([f32; N]) -> [f32; N]) {
    let length = slices[0].len();
    for start in (0..length).step_by(LANES) {
        let end = length.min(start + LANES);
        let mut blocks = [[0.0; LANES]; N];
        for (block, slice) in blocks.iter_mut().zip(&slices) {
            match slice[start..end].try_into() {
                Ok(whole) => *block = whole,
                Err(_) => *block = padded(&slice[start..end], 0.0),
            }
        }
        map_block(&mut blocks, &f);
        for (block, slice) in blocks.iter().zip(&mut slices) {
            slice[start..end].copy_from_slice(&block[..end - start]);
        }
    }
}

/// Sum over `f` of the values at the same place of all `slices`, in 32 lanes, then over the lanes: the same order on
/// every processor, and the same result when zeros follow the last value. `f` of zeros is 0.
#[inline(always)]
pub fn sum_lanes<const N: usize>(slices: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let length = slices[0].len();
    let whole = length - length % LANES;
    for start in (0..whole).step_by(LANES) {
        let mut blocks = [[0.0; LANES]; N];
        for (block, slice) in blocks.iter_mut().zip(slices) {
            block.copy_from_slice(&slice[start..start + LANES]);
        }
        add_block(&mut lanes, &blocks, &f);
    }
    if whole < length {
        let mut blocks = [[0.0; LANES]; N];
        for (block, slice) in blocks.iter_mut().zip(slices) {
            *block = padded(&slice[whole..], 0.0);
        }
        add_block(&mut lanes, &blocks, &f);
    }
    fold(lanes, |a, b| a + b)
}

#[inline(always)]
fn map_block<const N: usize>(blocks: &mut [[f32; LANES]; N], f: &impl Fn([f32; N]) -> [f32; N]) {
    for lane in 0..LANES {
        let mut values = [0.0; N];
        for (value, block) in values.iter_mut().zip(blocks.iter()) {
            *value = block[lane];
        }
        for (value, block) in f(values).into_iter().zip(blocks.iter_mut()) {
            block[lane] = value;
        }
    }
}

#[inline(always)]
fn add_block<const N: usize>(
    sums: &mut [f32; LANES],
    blocks: &[[f32; LANES]; N],
    f: &impl Fn([f32; N]) -> f32,
) {
    for (lane, sum) in sums.iter_mut().enumerate() {
        let mut values = [0.0; N];
        for (value, block) in values.iter_mut().zip(blocks) {
            *value = block[lane];
        }
        *sum += f(values);
    }
}

/// Largest value; negative infinity of nothing.
#[inline(always)]
pub fn max_lanes(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks.iter().chain(&[padded(rest, f32::NEG_INFINITY)]) {
        for (largest, &value) in lanes.iter_mut().zip(block) {
            *largest = larger(*largest, value);
        }
    }
    fold(lanes, larger)
}

/// A block of the last few values, filled up.
#[inline(always)]
fn padded(rest: &[f32], filling: f32) -> [f32; LANES] {
    let mut block = [filling; LANES];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// All lanes into one, by a fixed tree, which also vectorises.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = f(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
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
            let sum = sum_lanes([&values], |[value]| value);
            assert_eq!(sum, values.iter().sum::<f32>());
            assert_eq!(sum.to_bits(), sum_lanes([&padded], |[value]| value).to_bits());
            let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max_lanes(&values), largest);
        }
    }

    #[test]
    fn every_value_is_mapped() {
        for length in [0usize, 1, 31, 32, 33, 100] {
            let values: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let (mut doubled, mut other) = (values.clone(), values.clone());
            map_lanes(&mut doubled, |value| 2.0 * value);
            assert!(doubled.iter().zip(&values).all(|(a, b)| *a == 2.0 * b), "{length}");
            map_lanes_of([&mut doubled, &mut other], |[a, b]| [b, a + b]);
            assert!(doubled == values && other.iter().zip(&values).all(|(a, b)| *a == 3.0 * b), "{length}");
        }
    }
}
