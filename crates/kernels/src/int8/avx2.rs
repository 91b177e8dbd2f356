//! Products by vectors of processors that have AVX2 alone: eight outputs a register.
//!
//! `vpmaddubsw` multiplies bytes without a sign by bytes with one and adds two products in 16 bits, where it saturates. It
//! never does here: codes of 4 bits leave room for the 32 products of a part, sixteen in each half of a lane's word
//! (15 · 127 · 16 = 30,480), those of 5 bits for eight (31 · 127 · 8 = 31,496), those of 6 bits for four
//! (63 · 127 · 4 = 32,004), and what has 8 bits is multiplied without its sign, which the activation takes over
//! (128 · 127 · 2 = 32,512). One `vpmaddwd` then multiplies with the part's scale, and goes on in 32 bits.
//!
//! Up to four rows go with a panel at once, so that its codes are unpacked for all of them: eight sums of sixteen registers. One
//! row goes with two panels, two streams through memory.

#![allow(clippy::needless_range_loop)] // Of arrays of registers, the same place of several.

use std::arch::x86_64::*;

use super::activations::{Row, Rows};
use super::layout::{Kind, LANES};
use super::matrix::{Matrix, Panel};
use super::{share, store};
use crate::gemm::ViewMut;
use crate::isa::{self, Isa};

#[macro_use]
mod words;
mod halves;
mod quarters;

/// Rows that are multiplied at once, at most.
const ROWS: usize = 4;
/// Panels that they are multiplied with, at most.
const PANELS: usize = 2;
/// Lanes of a register: a panel takes two.
const WIDTH: usize = LANES / 2;

/// Sums of some rows and panels.
type Sums = [[[f32; LANES]; ROWS]; PANELS];
/// Registers of `R` rows for each of `V` halves of panels.
type Cells<const R: usize, const V: usize> = [[__m256i; R]; V];

/// Whether this thread may use these instructions.
pub(super) fn available() -> bool {
    isa::current() >= Isa::Avx2 && std::is_x86_feature_detected!("f16c")
}

/// The product of rows that lie one after the other.
///
/// # Safety
/// [`available`] has returned true.
pub(super) unsafe fn product(y: &ViewMut, rows: &Rows, weights: &Matrix, add: bool) {
    let threads = rayon::current_num_threads();
    let at_once = if rows.count() == 1 && weights.panels() >= PANELS * threads { PANELS } else { 1 };
    share::run(threads, weights.panels().div_ceil(at_once), &|| (), &|(), item| {
        let first = item * at_once;
        let panels = at_once.min(weights.panels() - first);
        // SAFETY: the caller's contract; each item's columns are written by one thread.
        unsafe {
            match panels {
                PANELS => one_row(y, rows, weights, first, add),
                _ => all_rows(y, rows, weights, first, add),
            }
        }
    });
}

/// One row times the panels from `first` on.
///
/// # Safety
/// The processor has the instructions, and nobody else writes these columns.
unsafe fn one_row(y: &ViewMut, rows: &Rows, weights: &Matrix, first: usize, add: bool) {
    let panels: [Panel; PANELS] = std::array::from_fn(|panel| weights.panel(first + panel));
    let mut sums: Sums = [[[0.0; LANES]; ROWS]; PANELS];
    // SAFETY: the caller's contract; a panel and a row hold as many blocks as the matrix says.
    unsafe {
        multiply::<1, { 2 * PANELS }>(weights, &panels, &[rows.row(0); ROWS], &mut sums);
        for (panel, sums) in sums.iter().enumerate() {
            store(y, 0, first + panel, &sums[0], add);
        }
    }
}

/// All rows times a panel. Groups of rows are as equal as can be, so that none is left with one.
///
/// # Safety
/// The processor has the instructions, and nobody else writes these columns.
unsafe fn all_rows(y: &ViewMut, rows: &Rows, weights: &Matrix, panel: usize, add: bool) {
    let groups = rows.count().div_ceil(ROWS);
    let panels = [weights.panel(panel); PANELS];
    let mut sums: Sums = [[[0.0; LANES]; ROWS]; PANELS];
    for group in 0..groups {
        let (from, to) = (group * rows.count() / groups, (group + 1) * rows.count() / groups);
        let row: [Row; ROWS] = std::array::from_fn(|row| rows.row(from + row.min(to - from - 1)));
        // SAFETY: the caller's contract; a panel and a row hold as many blocks as the matrix says.
        unsafe {
            match to - from {
                1 => multiply::<1, 2>(weights, &panels, &row, &mut sums),
                2 => multiply::<2, 2>(weights, &panels, &row, &mut sums),
                3 => multiply::<3, 2>(weights, &panels, &row, &mut sums),
                _ => multiply::<4, 2>(weights, &panels, &row, &mut sums),
            }
            for (row, sums) in sums[0][..to - from].iter().enumerate() {
                store(y, from + row, panel, sums, add);
            }
        }
    }
}

kernel! {
    /// Writes the sums of `R` rows with the first `V / 2` panels.
    fn multiply(weights: &Matrix, panels: &[Panel; PANELS], rows: &[Row; ROWS], sums: &mut Sums) {
        *sums = [[[0.0; LANES]; ROWS]; PANELS];
        // Of a loop whose end it knows, the compiler makes one piece, adds in an order of its own and runs out of registers.
        let eight = std::hint::black_box(8);
        for block in 0..weights.blocks() {
            match weights.kind() {
                Kind::Q8_0 => halves::q8_0::<R, V>(panels, block, rows, sums, eight),
                Kind::Q5_1 => halves::block_of_32::<R, V, true, true>(panels, block, rows, sums, eight),
                Kind::Q5_0 => halves::block_of_32::<R, V, true, false>(panels, block, rows, sums, eight),
                Kind::Q4_1 => halves::block_of_32::<R, V, false, true>(panels, block, rows, sums, eight),
                Kind::Q4_0 => halves::block_of_32::<R, V, false, false>(panels, block, rows, sums, eight),
                Kind::Q5K => halves::parts_of_32::<R, V, true>(panels, block, rows, sums, eight),
                Kind::Q4K => halves::parts_of_32::<R, V, false>(panels, block, rows, sums, eight),
                Kind::Q6K if R * V <= 2 => quarters::q6_k_whole::<R, V>(panels, block, rows, sums, eight),
                Kind::Q6K => quarters::q6_k::<R, V>(panels, block, rows, sums, eight),
                Kind::Q3K => quarters::q3_k::<R, V>(panels, block, rows, sums, eight),
                Kind::Q2K => quarters::q2_k::<R, V>(panels, block, rows, sums, eight),
            }
        }
    }
}
