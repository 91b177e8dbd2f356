//! Randomness that is the same on every machine, for ever: named, independent streams from one seed.
//! Not for secrets: who knows the seed knows every number.
//!
//! The algorithm is frozen, and golden values in the tests hold it. The stream (seed, name, index) is the key
//! stream of ChaCha8 (block counter 0, nonce 0) under the key `blake3::derive_key("altiplano ledger seed
//! stream v1", seed as 8 bytes LE || index as 8 bytes LE || name as UTF-8)`; [`Rng::next_u64`] reads it 8
//! bytes at a time, little-endian.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

const CONTEXT: &str = "altiplano ledger seed stream v1";

/// The one number from which all randomness of a run follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The stream of this name and index. Streams that differ in seed, name or index are independent, so work
    /// can be divided among threads and steps in any way and still draw the same numbers.
    pub fn stream(&self, name: &str, index: u64) -> Rng {
        let mut material = Vec::with_capacity(16 + name.len());
        material.extend_from_slice(&self.0.to_le_bytes());
        material.extend_from_slice(&index.to_le_bytes());
        material.extend_from_slice(name.as_bytes());
        Rng { source: ChaCha8Rng::from_seed(blake3::derive_key(CONTEXT, &material)) }
    }
}

/// A stream of random numbers, from [`Seed::stream`].
#[derive(Clone, Debug)]
pub struct Rng {
    source: ChaCha8Rng,
}

impl Rng {
    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.source.next_u64()
    }

    /// A number from 0 up to but not including `n`, each equally likely (Lemire 2019, "Fast random integer
    /// generation in an interval": the high half of a 128-bit product, with the short intervals rejected).
    ///
    /// # Panics
    /// When `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a random number below 0 was asked for");
        let mut product = u128::from(self.next_u64()) * u128::from(n);
        if (product as u64) < n {
            let threshold = n.wrapping_neg() % n;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(n);
            }
        }
        (product >> 64) as u64
    }

    /// A number in [0, 1), a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number from the normal distribution of mean 0 and standard deviation 1, by inverting its
    /// distribution function at a point drawn from the midpoints of 2^52 equal intervals (so at most 8.2 in
    /// size). One draw of 64 bits each.
    pub fn normal(&mut self) -> f32 {
        let midpoint = ((self.next_u64() >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64);
        normal_quantile(midpoint) as f32
    }

    /// Puts `items` in random order (Fisher and Yates, from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.below(last as u64 + 1) as usize;
            items.swap(last, chosen);
        }
    }

    /// One of `items`, each equally likely.
    ///
    /// # Panics
    /// When `items` is empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        assert!(!items.is_empty(), "one of no items was asked for");
        &items[self.below(items.len() as u64) as usize]
    }
}

/// The point below which a standard normal variable lies with probability `p`, 0 < p < 1: Wichura's AS 241
/// (PPND16), relative error about 1e-16. It is used because it takes only +, -, *, / and square roots, which
/// IEEE 754 fixes to the bit, and a logarithm, which [`ln`] makes of the same; a library's `ln` or `cos` may
/// differ in the last bit.
fn normal_quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * ratio(r, &CENTRE);
    }
    let r = (-ln(if q < 0.0 { p } else { 1.0 - p })).sqrt();
    let size = if r <= 5.0 { ratio(r - 1.6, &MIDDLE) } else { ratio(r - 5.0, &TAIL) };
    if q < 0.0 { -size } else { size }
}

/// Numerator and denominator polynomials, highest power first.
type Ratio = ([f64; 8], [f64; 8]);

const CENTRE: Ratio = (
    [
        2.509_080_928_730_122_6e3,
        3.343_057_558_358_813e4,
        6.726_577_092_700_87e4,
        4.592_195_393_154_987e4,
        1.373_169_376_550_946e4,
        1.971_590_950_306_551_3e3,
        1.331_416_678_917_843_8e2,
        3.387_132_872_796_366_5,
    ],
    [
        5.226_495_278_852_854e3,
        2.872_908_573_572_194_3e4,
        3.930_789_580_009_271e4,
        2.121_379_430_158_659_7e4,
        5.394_196_021_424_751e3,
        6.871_870_074_920_579e2,
        4.231_333_070_160_091e1,
        1.0,
    ],
);
const MIDDLE: Ratio = (
    [
        7.745_450_142_783_414e-4,
        2.272_384_498_926_918_4e-2,
        2.417_807_251_774_506e-1,
        1.270_458_252_452_368_4,
        3.647_848_324_763_204_5,
        5.769_497_221_460_691,
        4.630_337_846_156_546,
        1.423_437_110_749_683_5,
    ],
    [
        1.050_750_071_644_416_9e-9,
        5.475_938_084_995_345e-4,
        1.519_866_656_361_645_7e-2,
        1.481_039_764_274_800_8e-1,
        6.897_673_349_851e-1,
        1.676_384_830_183_803_8,
        2.053_191_626_637_759,
        1.0,
    ],
);
const TAIL: Ratio = (
    [
        2.010_334_399_292_288_1e-7,
        2.711_555_568_743_487_6e-5,
        1.242_660_947_388_078_4e-3,
        2.653_218_952_657_612_4e-2,
        2.965_605_718_285_048_7e-1,
        1.784_826_539_917_291_3,
        5.463_784_911_164_114,
        6.657_904_643_501_103,
    ],
    [
        2.044_263_103_389_939_8e-15,
        1.421_511_758_316_446e-7,
        1.846_318_317_510_054_8e-5,
        7.868_691_311_456_133e-4,
        1.487_536_129_085_061_5e-2,
        1.369_298_809_227_358e-1,
        5.998_322_065_558_88e-1,
        1.0,
    ],
);

fn ratio(x: f64, (numerator, denominator): &Ratio) -> f64 {
    let horner = |coefficients: &[f64; 8]| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    horner(numerator) / horner(denominator)
}

/// The natural logarithm of a positive normal number, by basic operations only: x = m 2^e with m in [√½, √2),
/// and ln m = 2 artanh((m - 1) / (m + 1)) by its series, whose next term is below 1e-17.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..=10).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    2.0 * s * series + exponent as f64 * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests;
