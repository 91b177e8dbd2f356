//! Packing with AVX-512: 16 lanes by up to 16 words at a time, through a transposition in registers where K is
//! contiguous in memory.

use super::kernel::{Format, Strip};
use std::arch::x86_64::*;

pub(super) const LANES: usize = 16;

/// Packs a strip.
///
/// # Safety
/// As [`super::kernel::PackFunction`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn pack(target: *mut u32, width: usize, strip: &Strip, format: Format) {
    for lane in (0..strip.padded_lanes).step_by(LANES) {
        let part = Strip {
            data: strip.data.wrapping_add(lane * strip.lane_stride),
            lanes: strip.lanes.saturating_sub(lane).min(LANES),
            padded_lanes: (strip.padded_lanes - lane).min(LANES),
            ..*strip
        };
        // SAFETY: the caller's contract, for 16 of the lanes.
        unsafe {
            let target = target.add(lane);
            match (strip.depth_stride == 1, format) {
                (true, Format::F32) => transpose::<false, false>(target, width, &part),
                (true, Format::Rounded) => transpose::<true, false>(target, width, &part),
                (true, Format::Pairs) => transpose::<true, true>(target, width, &part),
                (false, Format::F32) => copy::<false, false>(target, width, &part),
                (false, Format::Rounded) => copy::<true, false>(target, width, &part),
                (false, Format::Pairs) => copy::<true, true>(target, width, &part),
                (_, Format::PaddedPairs | Format::RowsOfPairs) => unreachable!("tiles pack for themselves"),
            }
        }
    }
}

/// Lanes that are contiguous in memory: a word of K is a vector.
///
/// # Safety
/// As [`super::kernel::PackFunction`], for at most 16 lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn copy<const ROUND: bool, const PAIRS: bool>(target: *mut u32, width: usize, strip: &Strip) {
    let (loaded, stored) = (first_lanes(strip.lanes), first_lanes(strip.padded_lanes));
    let load = |address: *const f32| {
        // SAFETY: only addresses of the strip's values of K are given, and the mask has its lanes.
        let values = _mm512_castps_si512(unsafe { _mm512_maskz_loadu_ps(loaded, address) });
        if ROUND { round(values) } else { values }
    };
    let (mut source, mut target) = (strip.data, target);
    for _ in 0..if PAIRS { strip.depth / 2 } else { strip.depth } {
        let vector = if PAIRS {
            pair(load(source), load(source.wrapping_add(strip.depth_stride)))
        } else {
            load(source)
        };
        // SAFETY: there is room for the strip's padded lanes of every word at this pitch. A prefetch touches nothing.
        unsafe {
            _mm512_mask_storeu_epi32(target.cast(), stored, vector);
            _mm_prefetch::<_MM_HINT_T0>(source.wrapping_add(8 * strip.depth_stride).cast());
        }
        source = source.wrapping_add(if PAIRS { 2 * strip.depth_stride } else { strip.depth_stride });
        target = target.wrapping_add(width);
    }
    if PAIRS && !strip.depth.is_multiple_of(2) {
        let last = pair(load(source), _mm512_setzero_si512());
        // SAFETY: as above.
        unsafe { _mm512_mask_storeu_epi32(target.cast(), stored, last) }
    }
}

/// Lanes along which K is contiguous: 16 vectors of 16 words each are transposed.
///
/// # Safety
/// As [`super::kernel::PackFunction`], for at most 16 lanes.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn transpose<const ROUND: bool, const PAIRS: bool>(target: *mut u32, width: usize, strip: &Strip) {
    let stored = first_lanes(strip.padded_lanes);
    let values = if PAIRS { 2 } else { 1 };
    let words = strip.depth.div_ceil(values);
    for word in (0..words).step_by(LANES) {
        if !PAIRS && words - word >= LANES && strip.lanes == strip.padded_lanes {
            // SAFETY: 16 values of K are left in each lane; what is stored has room as below.
            unsafe {
                for (next, column) in quarters::<ROUND>(strip, word).into_iter().enumerate() {
                    _mm512_mask_storeu_epi32(target.add((word + next) * width).cast(), stored, column);
                }
            }
            continue;
        }
        let depth = word * values;
        let rest = strip.depth - depth;
        let mut block = [_mm512_setzero_si512(); LANES];
        for (lane, row) in block.iter_mut().enumerate().take(strip.lanes) {
            let address = strip.data.wrapping_add(lane * strip.lane_stride + depth);
            // SAFETY: the lanes of the masks lie in the strip.
            *row = unsafe {
                let near = _mm512_castps_si512(_mm512_maskz_loadu_ps(first_lanes(rest), address));
                if PAIRS {
                    let mask = first_lanes(rest.saturating_sub(LANES));
                    let far = _mm512_maskz_loadu_ps(mask, address.wrapping_add(LANES));
                    neighbours(round(near), round(_mm512_castps_si512(far)))
                } else if ROUND {
                    round(near)
                } else {
                    near
                }
            };
        }
        let columns = transposed(block);
        for (next, column) in columns.into_iter().enumerate().take(words - word) {
            // SAFETY: there is room for the strip's padded lanes of every word at this pitch.
            unsafe { _mm512_mask_storeu_epi32(target.add((word + next) * width).cast(), stored, column) }
        }
    }
}

/// 16 values of K, a vector each, for the strip's lanes; further lanes repeat the last one. Quarters of vectors go
/// to their place while they are loaded, which takes half the shuffles of [`transposed`].
///
/// # Safety
/// 16 values from `depth` on lie in the strip.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline]
unsafe fn quarters<const ROUND: bool>(strip: &Strip, depth: usize) -> [__m512i; LANES] {
    let quarter = |lane: usize, depth: usize| {
        let address = strip.data.wrapping_add(lane.min(strip.lanes - 1) * strip.lane_stride + depth);
        // SAFETY: the lane, and 4 values from `depth` on, lie in the strip.
        unsafe { _mm_loadu_si128(address.cast()) }
    };
    let mut columns = [_mm512_setzero_si512(); LANES];
    for part in (0..LANES).step_by(4) {
        // rows[i] holds in its quarter q the values of lane 4 q + i.
        let mut rows = [_mm512_setzero_si512(); 4];
        for (lane, row) in rows.iter_mut().enumerate() {
            *row = _mm512_castsi128_si512(quarter(lane, depth + part));
            *row = _mm512_inserti32x4::<1>(*row, quarter(lane + 4, depth + part));
            *row = _mm512_inserti32x4::<2>(*row, quarter(lane + 8, depth + part));
            *row = _mm512_inserti32x4::<3>(*row, quarter(lane + 12, depth + part));
            if ROUND {
                *row = round(*row);
            }
        }
        let (low, high) = (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[0], rows[1]));
        let (low2, high2) =
            (_mm512_unpacklo_epi32(rows[2], rows[3]), _mm512_unpackhi_epi32(rows[2], rows[3]));
        columns[part] = _mm512_unpacklo_epi64(low, low2);
        columns[part + 1] = _mm512_unpackhi_epi64(low, low2);
        columns[part + 2] = _mm512_unpacklo_epi64(high, high2);
        columns[part + 3] = _mm512_unpackhi_epi64(high, high2);
    }
    columns
}

/// Each f32 rounded to the nearest bf16, ties to even, and back; a NaN stays one.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline]
fn round(values: __m512i) -> __m512i {
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(values), _mm512_set1_epi32(1));
    let nearest = _mm512_add_epi32(_mm512_add_epi32(values, _mm512_set1_epi32(0x7fff)), odd);
    let floats = _mm512_castsi512_ps(values);
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(floats, floats);
    let nearest = _mm512_mask_or_epi32(nearest, nan, values, _mm512_set1_epi32(0x0040_0000));
    _mm512_and_si512(nearest, _mm512_set1_epi32(0xffff_0000_u32 as i32))
}

/// Of two vectors of bf16 held in f32, pairs lane by lane.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline]
fn pair(first: __m512i, second: __m512i) -> __m512i {
    _mm512_or_si512(_mm512_srli_epi32::<16>(first), second)
}

/// Of 32 consecutive bf16 held in f32, pairs of neighbours.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline]
fn neighbours(near: __m512i, far: __m512i) -> __m512i {
    let upper_halves = _mm512_set_epi16(
        63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19, 17, 15,
        13, 11, 9, 7, 5, 3, 1,
    );
    _mm512_permutex2var_epi16(near, upper_halves, far)
}

/// 16 x 16 words, rows and columns exchanged.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
#[inline]
pub(crate) fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut twos = rows;
    for row in (0..LANES).step_by(2) {
        twos[row] = _mm512_unpacklo_epi32(rows[row], rows[row + 1]);
        twos[row + 1] = _mm512_unpackhi_epi32(rows[row], rows[row + 1]);
    }
    // fours[4 i + c] holds in its 128-bit part q the column 4 q + c of the rows 4 i to 4 i + 3.
    let mut fours = twos;
    for row in (0..LANES).step_by(4) {
        fours[row] = _mm512_unpacklo_epi64(twos[row], twos[row + 2]);
        fours[row + 1] = _mm512_unpackhi_epi64(twos[row], twos[row + 2]);
        fours[row + 2] = _mm512_unpacklo_epi64(twos[row + 1], twos[row + 3]);
        fours[row + 3] = _mm512_unpackhi_epi64(twos[row + 1], twos[row + 3]);
    }
    let mut columns = fours;
    for c in 0..4 {
        let even_top = _mm512_shuffle_i32x4::<0x88>(fours[c], fours[4 + c]);
        let odd_top = _mm512_shuffle_i32x4::<0xdd>(fours[c], fours[4 + c]);
        let even_low = _mm512_shuffle_i32x4::<0x88>(fours[8 + c], fours[12 + c]);
        let odd_low = _mm512_shuffle_i32x4::<0xdd>(fours[8 + c], fours[12 + c]);
        columns[c] = _mm512_shuffle_i32x4::<0x88>(even_top, even_low);
        columns[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even_top, even_low);
        columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd_top, odd_low);
        columns[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd_top, odd_low);
    }
    columns
}

/// The mask of the first `count` lanes, or of all.
#[inline(always)]
pub(crate) fn first_lanes(count: usize) -> __mmask16 {
    if count >= LANES { !0 } else { (1 << count) - 1 }
}
