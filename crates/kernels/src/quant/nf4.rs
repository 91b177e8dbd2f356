//! 4-bit NormalFloat: 16 values that are about equally often the nearest to a normally distributed weight, after its
//! block was divided by its largest absolute value (Dettmers et al. 2023, "QLoRA", section 3 and appendix E).

use super::BLOCK;
use super::double::Scales;
use super::int8::largest;
use crate::isa;

/// The values of the 16 codes, as in bitsandbytes (`get_4bit_type("nf4")` in `bitsandbytes/functional.py`).
pub const CODE: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// What is above the n-th of these has a code above n; bitsandbytes' `dQuantizeNF4` asks for the same midpoints.
const MIDPOINTS: [f32; 15] = {
    let mut midpoints = [0.0; 15];
    let mut place = 0;
    while place < 15 {
        midpoints[place] = ((CODE[place] as f64 + CODE[place + 1] as f64) / 2.0) as f32;
        place += 1;
    }
    midpoints
};

isa::dispatch! {
    /// Writes two codes a byte, the first in its upper half, and each block's largest absolute value.
    pub(super) fn quantise<FMA>(codes: &mut [u8], absmax: &mut [f32], from: &[f32]) {
        for ((codes, absmax), from) in codes.chunks_mut(BLOCK / 2).zip(absmax).zip(from.chunks(BLOCK)) {
            *absmax = largest(from);
            // A block of zeros, or of subnormal values, whose scale would be infinite, is stored as zeros.
            let scale = if *absmax >= f32::MIN_POSITIVE { 1.0 / *absmax } else { 0.0 };
            let mut nearest = [0u8; BLOCK];
            for (code, value) in nearest.iter_mut().zip(from) {
                let scaled = value * scale;
                for midpoint in MIDPOINTS {
                    *code += u8::from(scaled > midpoint);
                }
            }
            for (byte, pair) in codes.iter_mut().zip(nearest.as_chunks::<2>().0) {
                *byte = pair[0] << 4 | pair[1];
            }
        }
    }
}

/// Writes the values of whole blocks, the first of them `block`; the last may be cut short.
pub(super) fn dequantise(out: &mut [f32], codes: &[u8], scales: &Scales, block: usize) {
    #[cfg(target_arch = "x86_64")]
    if isa::current() >= isa::Isa::Avx2 {
        let whole = out.len() / BLOCK;
        let (blocks, rest) = out.split_at_mut(whole * BLOCK);
        // SAFETY: `current` never exceeds what the processor was found to have.
        unsafe {
            if isa::current() >= isa::Isa::Avx512 {
                shuffled::avx512(blocks, codes, scales, block);
            } else {
                shuffled::avx2(blocks, codes, scales, block);
            }
        }
        return dequantise_plain(rest, &codes[whole * BLOCK / 2..], scales, block + whole);
    }
    dequantise_plain(out, codes, scales, block);
}

isa::dispatch! {
    fn dequantise_plain<FMA>(out: &mut [f32], codes: &[u8], scales: &Scales, block: usize) {
        for (index, (out, codes)) in out.chunks_mut(BLOCK).zip(codes.chunks(BLOCK / 2)).enumerate() {
            let scaled = CODE.map(|value| value * scales.get(block + index));
            for (pair, byte) in out.chunks_mut(2).zip(codes) {
                pair[0] = scaled[usize::from(byte >> 4)];
                if let Some(second) = pair.get_mut(1) {
                    *second = scaled[usize::from(byte & 15)];
                }
            }
        }
    }
}

/// The table in registers, from which a permutation takes as many values as one holds.
#[cfg(target_arch = "x86_64")]
mod shuffled {
    use std::arch::x86_64::*;

    use super::{BLOCK, CODE, Scales};

    /// As `dequantise_plain`, for whole blocks: the table is one register, 16 values a permutation.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn avx512(out: &mut [f32], codes: &[u8], scales: &Scales, block: usize) {
        // SAFETY: 16 values are read.
        let table = unsafe { _mm512_loadu_ps(CODE.as_ptr()) };
        let (blocks, _) = out.as_chunks_mut::<BLOCK>();
        let (codes, _) = codes.as_chunks::<{ BLOCK / 2 }>();
        for (index, (out, codes)) in blocks.iter_mut().zip(codes).enumerate() {
            let scaled = _mm512_mul_ps(table, _mm512_set1_ps(scales.get(block + index)));
            let (halves, _) = codes.as_chunks::<16>();
            for (half, out) in halves.iter().zip(out.as_chunks_mut::<32>().0) {
                for (codes, out) in in_order(half).into_iter().zip(out.as_chunks_mut::<16>().0) {
                    let values = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(codes), scaled);
                    // SAFETY: `out` has room for 16 values.
                    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), values) };
                }
            }
        }
    }

    /// As `dequantise_plain`, for whole blocks: the table is two registers, 8 values a permutation of each, and the
    /// highest bit of a code chooses between them.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(out: &mut [f32], codes: &[u8], scales: &Scales, block: usize) {
        // SAFETY: 8 values are read, twice.
        let tables = unsafe { [_mm256_loadu_ps(CODE.as_ptr()), _mm256_loadu_ps(CODE.as_ptr().add(8))] };
        let (blocks, _) = out.as_chunks_mut::<BLOCK>();
        let (codes, _) = codes.as_chunks::<{ BLOCK / 2 }>();
        for (index, (out, codes)) in blocks.iter_mut().zip(codes).enumerate() {
            let scale = _mm256_set1_ps(scales.get(block + index));
            let [low, high] = [_mm256_mul_ps(tables[0], scale), _mm256_mul_ps(tables[1], scale)];
            let (halves, _) = codes.as_chunks::<16>();
            for (half, out) in halves.iter().zip(out.as_chunks_mut::<32>().0) {
                for (codes, out) in in_order(half).into_iter().zip(out.as_chunks_mut::<16>().0) {
                    let eights = [codes, _mm_srli_si128::<8>(codes)];
                    for (codes, out) in eights.into_iter().zip(out.as_chunks_mut::<8>().0) {
                        let codes = _mm256_cvtepu8_epi32(codes);
                        let is_high = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
                        let values = _mm256_blendv_ps(
                            _mm256_permutevar8x32_ps(low, codes),
                            _mm256_permutevar8x32_ps(high, codes),
                            is_high,
                        );
                        // SAFETY: `out` has room for 8 values.
                        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) };
                    }
                }
            }
        }
    }

    /// The 32 codes of 16 bytes, one a byte, in the order of the values: upper and lower halves in turns.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn in_order(bytes: &[u8; 16]) -> [__m128i; 2] {
        let low = _mm_set1_epi8(15);
        // SAFETY: 16 bytes are read.
        let bytes = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
        let upper = _mm_and_si128(_mm_srli_epi16::<4>(bytes), low);
        let lower = _mm_and_si128(bytes, low);
        [_mm_unpacklo_epi8(upper, lower), _mm_unpackhi_epi8(upper, lower)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as bitsandbytes 0.45 publishes it, in all of its digits; `CODE` has those that an f32 keeps.
    #[test]
    fn codes_are_those_of_bitsandbytes() {
        let published = [
            -1.0f64,
            -0.6961928009986877,
            -0.5250730514526367,
            -0.39491748809814453,
            -0.28444138169288635,
            -0.18477343022823334,
            -0.09105003625154495,
            0.0,
            0.07958029955625534,
            0.16093020141124725,
            0.24611230194568634,
            0.33791524171829224,
            0.44070982933044434,
            0.5626170039176941,
            0.7229568362236023,
            1.0,
        ];
        assert_eq!(CODE.map(f64::from), published);
        // Three of the thresholds of its `dQuantizeNF4`.
        for (place, threshold) in [(14, 0.8614784_f32), (7, 0.03979015), (0, -0.8480964)] {
            assert!((MIDPOINTS[place] - threshold).abs() < 1e-7, "{place}: {}", MIDPOINTS[place]);
        }
    }

    #[test]
    fn every_value_takes_the_nearest_code_and_the_first_of_a_pair_is_above() {
        let mut codes = [0u8; 32];
        let mut absmax = [0.0];
        let mut from = [0.0; BLOCK];
        from[..16].copy_from_slice(&CODE.map(|value| value * 3.0));
        quantise(&mut codes, &mut absmax, &from);
        assert_eq!(absmax, [3.0]);
        assert_eq!(codes[..8], [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert_eq!(codes[8..], [0x77; 24]);
        for step in 0..=2000 {
            let value = step as f32 / 1000.0 - 1.0;
            from = [value; BLOCK];
            from[63] = 1.0;
            quantise(&mut codes, &mut absmax, &from);
            let distance = |code: &f32| (code - value).abs();
            let nearest = CODE.iter().map(distance).fold(f32::MAX, f32::min);
            assert!(distance(&CODE[usize::from(codes[0] >> 4)]) <= nearest + 1e-7, "{value}");
        }
    }
}
