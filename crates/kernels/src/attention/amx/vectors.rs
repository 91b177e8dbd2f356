//! The vector work between two products: exponentials, the softmax of a panel, the gradients of its scores, and the
//! way from lanes back to rows.

use super::{KEYS, LANES, Seen};
use crate::gemm::amx_strips::{first_lanes, interleaved, rounded, transposed};
use std::arch::x86_64::*;

/// f32 values in a vector.
const WIDTH: usize = 16;

/// `2^x`. The error, 3e-6 of the value, is a thousandth of what rounding the weight to bf16 adds. `2^0` is 1 exactly,
/// so sums that need no rescaling keep their bits.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
#[inline]
fn exp2(x: __m512) -> __m512 {
    // `x` less the integer below it; the last instruction rounds down by itself, and underflows as it should.
    let r = _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x);
    // The best polynomial of degree 4 on [0, 1] that is 1 at 0.
    let mut p = _mm512_set1_ps(1.342_685_2e-2);
    for coefficient in [5.224_220_5e-2, 2.412_803_3e-1, 6.930_448_4e-1, 1.0] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
    }
    _mm512_scalef_ps(p, x)
}

/// `ln x` of positive numbers, within 2 units in the last place (Cephes' `logf`).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
#[inline]
fn ln(x: __m512) -> __m512 {
    let set = |value: f32| _mm512_set1_ps(value);
    let mantissa = _mm512_getmant_ps::<_MM_MANT_NORM_1_2, _MM_MANT_SIGN_SRC>(x);
    let exponent = _mm512_getexp_ps(x);
    let large = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(mantissa, set(std::f32::consts::SQRT_2));
    let mantissa = _mm512_mask_mul_ps(mantissa, large, mantissa, set(0.5));
    let exponent = _mm512_mask_add_ps(exponent, large, exponent, set(1.0));
    let f = _mm512_sub_ps(mantissa, set(1.0));
    let square = _mm512_mul_ps(f, f);
    let mut p = set(7.037_683_6e-2);
    for coefficient in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ] {
        p = _mm512_fmadd_ps(p, f, set(coefficient));
    }
    let p = _mm512_mul_ps(_mm512_mul_ps(f, square), p);
    let p = _mm512_fmadd_ps(exponent, set(-2.121_944_4e-4), p);
    let p = _mm512_fnmadd_ps(set(0.5), square, p);
    _mm512_fmadd_ps(exponent, set(0.693_359_4), _mm512_add_ps(f, p))
}

const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// The lanes that see a key.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
#[inline]
fn sees(mask: &Seen, vector: usize, key: i32) -> __mmask16 {
    // SAFETY: a mask has two vectors of each.
    let (first, count) = unsafe {
        let at = |values: &[i32; LANES]| _mm512_load_si512(values.as_ptr().add(vector * WIDTH).cast());
        (at(&mask.first), at(&mask.count))
    };
    _mm512_cmplt_epu32_mask(_mm512_sub_epi32(_mm512_set1_epi32(key), first), count)
}

/// Turns the scores of the keys `from..to` of a block, rows of 16 `VECTORS` lanes, into weights relative to the largest
/// score so far. They are left as a right operand with the keys as K: pairs, from row `from / 2` of `scores` on.
///
/// `state` holds the largest score of each lane and, `LANES` after it, the sum of its weights. Where a largest score has
/// grown, `sums`, `channels` rows of as many lanes, are brought to the new scale. Where `mask` is given, keys that a lane
/// does not see weigh nothing; `first` is the sequence's number of the block's first key.
///
/// # Safety
/// The places are writable and nobody else's; `from` and `to` are multiples of 4.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn softmax<const VECTORS: usize, const MASKED: bool>(
    scores: *mut f32,
    [from, to]: [usize; 2],
    first: usize,
    mask: &Seen,
    state: *mut f32,
    sums: *mut f32,
    channels: usize,
) {
    let lanes = WIDTH * VECTORS;
    let seen = |vector: usize, key: usize| {
        if MASKED { sees(mask, vector, (first + key) as i32) } else { !0 }
    };
    // SAFETY: rows of the caller's scores.
    let score =
        |key: usize, vector: usize| unsafe { _mm512_load_ps(scores.add(key * lanes + vector * WIDTH)) };
    // SAFETY: the caller's contract: state and sums have a place for each lane.
    unsafe {
        let mut grown = 0;
        let mut factors = [_mm512_setzero_ps(); VECTORS];
        let mut shifts = [_mm512_setzero_ps(); VECTORS];
        for vector in 0..VECTORS {
            let place = state.add(vector * WIDTH);
            let before = _mm512_load_ps(place);
            let mut largest = [before; 4];
            for key in (from..to).step_by(4) {
                for (next, largest) in largest.iter_mut().enumerate() {
                    let seen = seen(vector, key + next);
                    *largest = _mm512_mask_max_ps(*largest, seen, *largest, score(key + next, vector));
                }
            }
            let now =
                _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), _mm512_max_ps(largest[2], largest[3]));
            _mm512_store_ps(place, now);
            grown |= _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(before, now);
            factors[vector] = exp2(_mm512_mul_ps(_mm512_sub_ps(before, now), _mm512_set1_ps(LOG2_E)));
            shifts[vector] = _mm512_mul_ps(now, _mm512_set1_ps(-LOG2_E));
        }
        let mut totals = [[_mm512_setzero_ps(); 2]; VECTORS];
        for key in (from..to).step_by(2) {
            for vector in 0..VECTORS {
                let mut weights = [_mm512_setzero_ps(); 2];
                for (next, weight) in weights.iter_mut().enumerate() {
                    let score = score(key + next, vector);
                    let power = exp2(_mm512_fmadd_ps(score, _mm512_set1_ps(LOG2_E), shifts[vector]));
                    *weight = _mm512_maskz_mov_ps(seen(vector, key + next), power);
                    totals[vector][next] = _mm512_add_ps(totals[vector][next], *weight);
                }
                let place = scores.add(key / 2 * lanes + vector * WIDTH);
                _mm512_store_si512(place.cast(), interleaved(weights[0], weights[1]));
            }
        }
        for vector in 0..VECTORS {
            let place = state.add(LANES + vector * WIDTH);
            let total = _mm512_add_ps(totals[vector][0], totals[vector][1]);
            _mm512_store_ps(place, _mm512_fmadd_ps(_mm512_load_ps(place), factors[vector], total));
        }
        if grown != 0 {
            for channel in 0..channels {
                for (vector, &factor) in factors.iter().enumerate() {
                    let place = sums.add(channel * lanes + vector * WIDTH);
                    _mm512_store_ps(place, _mm512_mul_ps(_mm512_load_ps(place), factor));
                }
            }
        }
    }
}

/// From a panel's state, as [`softmax`] leaves it: what the sums are to be multiplied with, and the log of the
/// softmax's denominator, each in the place of what it was made from.
///
/// # Safety
/// `state` has two values for each lane of a panel.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn finish(state: *mut f32) {
    for vector in 0..LANES / WIDTH {
        // SAFETY: the caller's contract.
        unsafe {
            let (largest, total) = (state.add(vector * WIDTH), state.add(LANES + vector * WIDTH));
            let (m, sum) = (_mm512_load_ps(largest), _mm512_load_ps(total));
            _mm512_store_ps(largest, _mm512_div_ps(_mm512_set1_ps(1.0), sum));
            _mm512_store_ps(total, _mm512_add_ps(m, ln(sum)));
        }
    }
}

/// What the backward keeps of a panel's scores.
pub(super) struct Gradients {
    /// Scores, rows of a panel's lanes; they become the scores' gradients, a right operand with the keys as K.
    pub scores: *mut f32,
    /// The weights' gradients, of the same shape; only read.
    pub dscores: *const f32,
    /// Weights, and the scores' gradients, as left operands: a row a key, K along the lanes.
    pub weight_rows: *mut u32,
    pub dscore_rows: *mut u32,
    /// For each lane, the log of the softmax's denominator, and the product of output and its gradient.
    pub log_sums: *const f32,
    pub along: *const f32,
}

/// Weights and the gradients of the scores of the keys `from..to` of a block, in the forms that products want.
///
/// # Safety
/// As [`softmax`], for the places of [`Gradients`]; the rows have room for a block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn gradients<const MASKED: bool>(
    places: &Gradients,
    [from, to]: [usize; 2],
    first: usize,
    mask: &Seen,
) {
    const VECTORS: usize = LANES / WIDTH;
    debug_assert!(to <= KEYS);
    // SAFETY: the caller's contract.
    unsafe {
        let mut shifts = [_mm512_setzero_ps(); VECTORS];
        let mut along = [_mm512_setzero_ps(); VECTORS];
        for vector in 0..VECTORS {
            let log_sums = _mm512_load_ps(places.log_sums.add(vector * WIDTH));
            shifts[vector] = _mm512_mul_ps(log_sums, _mm512_set1_ps(-LOG2_E));
            along[vector] = _mm512_load_ps(places.along.add(vector * WIDTH));
        }
        for key in (from..to).step_by(2) {
            let mut dscores = [[_mm512_setzero_ps(); VECTORS]; 2];
            for (next, dscores) in dscores.iter_mut().enumerate() {
                let key = key + next;
                let mut weights = [_mm512_setzero_ps(); VECTORS];
                for vector in 0..VECTORS {
                    let place = key * LANES + vector * WIDTH;
                    let score = _mm512_load_ps(places.scores.add(place));
                    let weight = exp2(_mm512_fmadd_ps(score, _mm512_set1_ps(LOG2_E), shifts[vector]));
                    let dweight = _mm512_load_ps(places.dscores.add(place));
                    let dscore = _mm512_mul_ps(weight, _mm512_sub_ps(dweight, along[vector]));
                    let seen = if MASKED { sees(mask, vector, (first + key) as i32) } else { !0 };
                    weights[vector] = _mm512_maskz_mov_ps(seen, weight);
                    dscores[vector] = _mm512_maskz_mov_ps(seen, dscore);
                }
                let store = |rows: *mut u32, [near, far]: [__m512; VECTORS]| {
                    _mm512_store_si512(rows.add(key * WIDTH).cast(), rounded(near, far));
                };
                store(places.weight_rows, weights);
                store(places.dscore_rows, *dscores);
            }
            let [even, odd] = dscores;
            for (vector, (even, odd)) in even.into_iter().zip(odd).enumerate() {
                let place = places.scores.add(key / 2 * LANES + vector * WIDTH);
                _mm512_store_si512(place.cast(), interleaved(even, odd));
            }
        }
    }
}

/// The sum of the products of two heads' values, for each head of a row, to `sums`.
///
/// # Safety
/// `sums` is writable for every head.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn dots(sums: *mut f32, a: &[f32], b: &[f32], head_dim: usize) {
    for (head, (a, b)) in a.chunks_exact(head_dim).zip(b.chunks_exact(head_dim)).enumerate() {
        let mut sum = _mm512_setzero_ps();
        for channel in (0..head_dim).step_by(WIDTH) {
            let mask = first_lanes(head_dim - channel);
            // SAFETY: the mask has the head's channels.
            let load = |values: &[f32]| unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().add(channel)) };
            sum = _mm512_fmadd_ps(load(a), load(b), sum);
        }
        // SAFETY: the caller's contract.
        unsafe { *sums.add(head) = _mm512_reduce_add_ps(sum) }
    }
}

/// Copies values, each times `factor`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) fn scaled(to: &mut [f32], from: &[f32], factor: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from * factor;
    }
}

/// Writes `sums`, rows of `stride` lanes, each lane times its factor, as one row of `channels` values for each of the
/// first `lanes` lanes, to where `place` says.
///
/// # Safety
/// The sums have rows for whole vectors of channels, the factors are as many as a row's lanes, and what `place` gives
/// is writable and nobody else's.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn write_rows(
    sums: *const f32,
    stride: usize,
    factors: *const f32,
    lanes: usize,
    channels: usize,
    place: impl Fn(usize) -> *mut f32,
) {
    for lane in (0..lanes).step_by(WIDTH) {
        // SAFETY: the caller's contract.
        let factor = unsafe { _mm512_load_ps(factors.add(lane)) };
        for channel in (0..channels).step_by(WIDTH) {
            let mut rows = [_mm512_setzero_si512(); WIDTH];
            for (next, row) in rows.iter_mut().enumerate() {
                // SAFETY: the caller's contract.
                let sums = unsafe { _mm512_load_ps(sums.add((channel + next) * stride + lane)) };
                *row = _mm512_castps_si512(_mm512_mul_ps(sums, factor));
            }
            let stored = first_lanes(channels - channel);
            for (next, row) in transposed(rows).into_iter().enumerate().take(lanes - lane) {
                let place = place(lane + next).wrapping_add(channel);
                // SAFETY: the mask has the row's channels.
                unsafe { _mm512_mask_storeu_ps(place, stored, _mm512_castsi512_ps(row)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{self, Isa};

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
    fn first(f: impl Fn(__m512) -> __m512, x: f32) -> f32 {
        _mm512_cvtss_f32(f(_mm512_set1_ps(x)))
    }

    #[test]
    fn powers_and_logarithms_are_as_exact_as_they_say() {
        if isa::detected() < Isa::Amx {
            return;
        }
        // SAFETY: the processor has the instructions.
        unsafe {
            for step in -125_000..127_000 {
                let x = step as f32 / 1000.0;
                let (power, exact) = (f64::from(first(|x| exp2(x), x)), f64::from(x).exp2());
                assert!((power / exact - 1.0).abs() < 3.2e-6, "2^{x} = {power}, not {exact}");
            }
            assert_eq!(first(|x| exp2(x), 0.0), 1.0);
            assert_eq!(first(|x| exp2(x), -1e30), 0.0);
            assert_eq!(first(|x| exp2(x), f32::NEG_INFINITY), 0.0);
            assert!(first(|x| exp2(x), f32::NAN).is_nan());
            for step in 1..200_000 {
                let x = (step as f32 / 20_000.0 - 3.0).exp2();
                let (found, exact) = (first(|x| ln(x), x), f64::from(x).ln());
                let unit = f64::from(f32::EPSILON) * exact.abs().max(1e-6);
                assert!((f64::from(found) - exact).abs() <= 2.0 * unit, "ln {x} = {found}, not {exact}");
            }
            assert_eq!(first(|x| ln(x), 1.0), 0.0);
        }
    }
}
