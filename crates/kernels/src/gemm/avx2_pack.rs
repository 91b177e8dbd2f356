//! Packing with AVX2: 8 lanes at a time, through a transposition in registers where K is contiguous in memory.

use super::kernel::{Format, Strip};
use super::portable;
use std::arch::x86_64::*;

const LANES: usize = 8;

/// Packs a strip.
///
/// # Safety
/// As [`super::kernel::PackFunction`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn pack(target: *mut u32, width: usize, strip: &Strip, format: Format) {
    for lane in (0..strip.padded_lanes).step_by(LANES) {
        let part = Strip {
            data: strip.data.wrapping_add(lane * strip.lane_stride),
            lanes: strip.lanes.saturating_sub(lane).min(LANES),
            padded_lanes: (strip.padded_lanes - lane).min(LANES),
            ..*strip
        };
        // SAFETY: the caller's contract, for 8 of the lanes.
        unsafe {
            let target = target.add(lane);
            match (strip.depth_stride == 1, format) {
                // Only operands that are packed once come in pairs here; nobody waits for them.
                (_, Format::Pairs) => portable::pack(target, width, &part, format),
                (true, Format::F32) => transpose::<false>(target, width, &part),
                (true, Format::Rounded) => transpose::<true>(target, width, &part),
                (false, Format::F32) => copy::<false>(target, width, &part),
                (false, Format::Rounded) => copy::<true>(target, width, &part),
                (_, Format::PaddedPairs | Format::RowsOfPairs) => unreachable!("tiles pack for themselves"),
            }
        }
    }
}

/// Lanes that are contiguous in memory: a word of K is a vector.
///
/// # Safety
/// As [`super::kernel::PackFunction`], for at most 8 lanes.
#[target_feature(enable = "avx2,fma")]
unsafe fn copy<const ROUND: bool>(target: *mut u32, width: usize, strip: &Strip) {
    let numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(strip.lanes as i32), numbers);
    for word in 0..strip.depth {
        // SAFETY: the lanes of the mask lie in the strip; there is room for every word at this pitch.
        unsafe {
            let values = _mm256_maskload_ps(strip.data.wrapping_add(word * strip.depth_stride), mask);
            let values = if ROUND { round(values) } else { values };
            store_first(target.add(word * width), values, strip.padded_lanes);
        }
    }
}

/// Lanes along which K is contiguous: 8 vectors of 8 words each are transposed.
///
/// # Safety
/// As [`super::kernel::PackFunction`], for at most 8 lanes.
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose<const ROUND: bool>(target: *mut u32, width: usize, strip: &Strip) {
    let whole = strip.depth - strip.depth % LANES;
    for word in (0..whole).step_by(LANES) {
        let mut block = [_mm256_setzero_ps(); LANES];
        for (lane, row) in block.iter_mut().enumerate().take(strip.lanes) {
            // SAFETY: 8 values of K from `word` on lie in the strip.
            *row = unsafe { _mm256_loadu_ps(strip.data.add(lane * strip.lane_stride + word)) };
            if ROUND {
                *row = round(*row);
            }
        }
        for (next, column) in transposed(block).into_iter().enumerate() {
            // SAFETY: there is room for every word at this pitch.
            unsafe { store_first(target.add((word + next) * width), column, strip.padded_lanes) }
        }
    }
    let rest = Strip { data: strip.data.wrapping_add(whole), depth: strip.depth - whole, ..*strip };
    // SAFETY: the rest lies in the strip, and its words have room after those before.
    unsafe {
        let format = if ROUND { Format::Rounded } else { Format::F32 };
        portable::pack(target.add(whole * width), width, &rest, format);
    }
}

/// The first `count` lanes, without the masked store that some processors run as a program.
///
/// # Safety
/// There is room for `count` words, of 8 at most.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn store_first(target: *mut u32, values: __m256, count: usize) {
    // SAFETY: the parts that are stored add up to `count` words.
    unsafe {
        if count >= LANES {
            return _mm256_storeu_ps(target.cast(), values);
        }
        let (mut part, mut target) = (_mm256_castps256_ps128(values), target);
        if count & 4 != 0 {
            _mm_storeu_ps(target.cast(), part);
            part = _mm256_extractf128_ps::<1>(values);
            target = target.add(4);
        }
        if count & 2 != 0 {
            _mm_storel_epi64(target.cast(), _mm_castps_si128(part));
            part = _mm_movehl_ps(part, part);
            target = target.add(2);
        }
        if count & 1 != 0 {
            _mm_store_ss(target.cast(), part);
        }
    }
}

/// Each f32 rounded to the nearest bf16, ties to even, and back; a NaN stays one.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn round(values: __m256) -> __m256 {
    let bits = _mm256_castps_si256(values);
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let nearest = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
    let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(values, values);
    let chosen = _mm256_blendv_ps(_mm256_castsi256_ps(nearest), _mm256_castsi256_ps(quiet), nan);
    _mm256_and_ps(chosen, _mm256_castsi256_ps(_mm256_set1_epi32(0xffff_0000_u32 as i32)))
}

/// 8 x 8 words, rows and columns exchanged.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn transposed(rows: [__m256; LANES]) -> [__m256; LANES] {
    let mut twos = rows;
    for row in (0..LANES).step_by(2) {
        twos[row] = _mm256_unpacklo_ps(rows[row], rows[row + 1]);
        twos[row + 1] = _mm256_unpackhi_ps(rows[row], rows[row + 1]);
    }
    // fours[4 i + c] holds in its half h the column 4 h + c of the rows 4 i to 4 i + 3.
    let mut fours = twos;
    for row in (0..LANES).step_by(4) {
        fours[row] = _mm256_shuffle_ps::<0x44>(twos[row], twos[row + 2]);
        fours[row + 1] = _mm256_shuffle_ps::<0xee>(twos[row], twos[row + 2]);
        fours[row + 2] = _mm256_shuffle_ps::<0x44>(twos[row + 1], twos[row + 3]);
        fours[row + 3] = _mm256_shuffle_ps::<0xee>(twos[row + 1], twos[row + 3]);
    }
    let mut columns = fours;
    for c in 0..4 {
        columns[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
        columns[4 + c] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
    }
    columns
}
