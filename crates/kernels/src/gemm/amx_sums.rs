//! The sums of a tile's rows for a few panels, between the scratch that tiles write, one tile after the other, and C.

use super::amx::{COLUMNS, ROWS};
use super::avx512_pack::{LANES, first_lanes};
use std::arch::x86_64::*;

/// Rows and columns of C.
pub(super) struct Place {
    pub c: *mut f32,
    pub c_stride: usize,
    /// At most a tile's.
    pub rows: usize,
    pub columns: usize,
}

/// The scratch's value of a row and column.
fn at(row: usize, column: usize) -> usize {
    column / COLUMNS * (ROWS * COLUMNS) + row * COLUMNS + column % COLUMNS
}

/// C is read into the scratch.
///
/// # Safety
/// The place lies in C and nobody writes to it; the scratch, which begins at a cache line, has room for whole tiles.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load(sums: *mut f32, place: &Place) {
    for row in 0..place.rows {
        let from = place.c.wrapping_add(row * place.c_stride);
        for column in (0..place.columns).step_by(LANES) {
            let mask = first_lanes((place.columns - column).min(LANES));
            // SAFETY: the mask holds columns of the place; the scratch has room for whole vectors.
            unsafe {
                let values = _mm512_maskz_loadu_ps(mask, from.wrapping_add(column));
                _mm512_store_ps(sums.wrapping_add(at(row, column)), values);
            }
        }
    }
}

/// The scratch is written to C, past the caches if `stream` says so and C lies at cache lines.
///
/// # Safety
/// The place lies in C and belongs to the caller alone; the scratch holds its sums.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn store(sums: *const f32, place: &Place, stream: bool) {
    let lines = (place.c as usize).is_multiple_of(64)
        && place.c_stride.is_multiple_of(LANES)
        && place.columns.is_multiple_of(LANES);
    for row in 0..place.rows {
        let to = place.c.wrapping_add(row * place.c_stride);
        for column in (0..place.columns).step_by(LANES) {
            // SAFETY: the scratch has whole vectors; the mask holds columns of the place, or all of a vector does.
            unsafe {
                let values = _mm512_load_ps(sums.wrapping_add(at(row, column)));
                if stream && lines {
                    _mm512_stream_ps(to.wrapping_add(column), values);
                } else {
                    let mask = first_lanes((place.columns - column).min(LANES));
                    _mm512_mask_storeu_ps(to.wrapping_add(column), mask, values);
                }
            }
        }
    }
    if stream && lines {
        // What was written past the caches is not ordered with what tells other threads that it is there.
        _mm_sfence();
    }
}
