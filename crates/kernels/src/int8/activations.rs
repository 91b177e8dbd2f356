//! Activations in 8 bits: codes from -127 to 127, a scale for each block, and sums of codes, which weights with an offset
//! or a minimum need.

use rayon::prelude::*;

use super::layout::Kind;
use super::{Matrix, has_wide_kernels, wants_tiles};
use crate::isa;

/// Rows that are side by side where they are laid out for tiles.
pub(super) const TILE: usize = 16;
/// Smaller values than this are zero: the inverse of their scale would not be finite.
const SMALLEST: f32 = 1e-30;
/// 1.5 * 2^23: a sum with it is rounded to a whole number, ties to even, which its last bits are.
const MAGIC: f32 = 12_582_912.0;

/// Activations `[T, cols]`, rounded once and multiplied with any number of matrices. The memory is kept for the next ones.
#[derive(Debug, Default)]
pub struct Activations {
    /// In blocks of 32, one row after the other, and as tiles want them.
    short: [Rows; 2],
    /// In blocks of 256, the same.
    long: [Rows; 2],
}

/// Activations in blocks of one length.
#[derive(Debug, Default)]
pub(super) struct Rows {
    count: usize,
    cols: usize,
    block: usize,
    /// Whether 16 rows lie beside each other, as tiles want them.
    tiled: bool,
    codes: Vec<i8>,
    scales: Vec<f32>,
    /// Of each 16 codes where blocks have 256, of each 32 elsewhere.
    sums: Vec<i32>,
    /// Of each 32 codes where blocks have 256.
    pairs: Vec<i16>,
}

impl Activations {
    /// Without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rounds `x [T, cols]` as products with these matrices need it.
    ///
    /// # Panics
    /// When `x` is not whole rows, or a matrix has other columns.
    pub fn round<'a>(&mut self, x: &[f32], cols: usize, matrices: impl IntoIterator<Item = &'a Matrix>) {
        for rows in self.short.iter_mut().chain(&mut self.long) {
            rows.block = 0;
        }
        for matrix in matrices {
            assert_eq!(matrix.cols(), cols, "columns of {matrix:?} and of its activations");
            let kind = matrix.kind();
            let tiled = wants_tiles(kind, x.len().checked_div(cols).unwrap_or(0));
            let layouts = if kind.block() == 32 { &mut self.short } else { &mut self.long };
            let rows = &mut layouts[usize::from(tiled)];
            if rows.block == 0 {
                rows.round(x, cols, kind.block(), tiled);
            }
        }
    }

    pub(super) fn rows_for(&self, kind: Kind) -> &Rows {
        let [flat, tiled] = if kind.block() == 32 { &self.short } else { &self.long };
        let rows = if tiled.block != 0 && has_wide_kernels(kind) { tiled } else { flat };
        assert_eq!(rows.block, kind.block(), "activations were not rounded for {}", kind.encoding().name());
        rows
    }
}

impl Rows {
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn tiled(&self) -> bool {
        self.tiled
    }

    fn blocks(&self) -> usize {
        self.cols / self.block
    }

    /// Values of a row that lie beside each other.
    fn piece(&self) -> usize {
        match (self.tiled, self.block) {
            (false, _) => self.cols,
            (true, 32) => 32,
            (true, _) => 64,
        }
    }

    /// Codes of a row's block, of which there may be 32.
    #[inline(always)]
    pub fn codes(&self, row: usize, block: usize) -> [i8; 256] {
        let mut codes = [0; 256];
        let piece = self.piece();
        let group = if self.tiled { TILE } else { 1 };
        let start = row / group * group * self.cols + row % group * piece;
        for (at, codes) in codes[..self.block].chunks_exact_mut(32).enumerate() {
            let col = block * self.block + 32 * at;
            codes.copy_from_slice(&self.codes[start + col / piece * piece * group + col % piece..][..32]);
        }
        codes
    }

    #[inline(always)]
    pub fn scale(&self, row: usize, block: usize) -> f32 {
        let blocks = self.blocks();
        match self.tiled {
            true => self.scales[(row / TILE * blocks + block) * TILE + row % TILE],
            false => self.scales[row * blocks + block],
        }
    }

    /// A row's codes, where rows lie one after the other.
    pub fn row(&self, row: usize) -> Row<'_> {
        debug_assert!(!self.tiled);
        let (cols, blocks) = (self.cols, self.blocks());
        let sums = if self.block == 32 { blocks } else { cols / 16 };
        let pairs = if self.block == 32 { 0 } else { cols / 32 };
        Row {
            codes: &self.codes[row * cols..][..cols],
            scales: &self.scales[row * blocks..][..blocks],
            sums: &self.sums[row * sums..][..sums],
            pairs: &self.pairs[row * pairs..][..pairs],
        }
    }

    /// Sixteen rows, where they lie beside each other; those beyond the last are zeros.
    #[cfg(target_arch = "x86_64")]
    pub fn tile(&self, tile: usize) -> Row<'_> {
        debug_assert!(self.tiled);
        let (cols, blocks) = (TILE * self.cols, TILE * self.blocks());
        let pairs = if self.block == 32 { 0 } else { cols / 32 };
        Row {
            codes: &self.codes[tile * cols..][..cols],
            scales: &self.scales[tile * blocks..][..blocks],
            sums: &[],
            pairs: &self.pairs[tile * pairs..][..pairs],
        }
    }

    fn round(&mut self, x: &[f32], cols: usize, block: usize, tiled: bool) {
        let count = x.len().checked_div(cols).unwrap_or(0);
        assert!(
            x.len() == count * cols && cols.is_multiple_of(block),
            "{} values in rows of {cols}",
            x.len()
        );
        (self.count, self.cols, self.block, self.tiled) = (count, cols, block, tiled);
        if count == 0 {
            return;
        }
        let group = if self.tiled { TILE } else { 1 };
        let (padded, blocks, piece) = (count.next_multiple_of(group), self.blocks(), self.piece());
        let sums = if block == 32 { blocks } else { cols / 16 };
        let pairs = if block == 32 { 1 } else { cols / 32 };
        self.codes.resize(padded * cols, 0);
        self.scales.resize(padded * blocks, 0.0);
        self.sums.resize(padded * sums, 0);
        self.pairs.resize(padded * pairs, 0);
        let codes = self.codes[..padded * cols].par_chunks_mut(group * cols);
        let scales = self.scales[..padded * blocks].par_chunks_mut(group * blocks);
        let sums = self.sums[..padded * sums].par_chunks_mut(group * sums);
        let pairs = self.pairs[..padded * pairs].par_chunks_mut(group * pairs);
        codes.zip(scales).zip(sums).zip(pairs).zip(x.par_chunks(group * cols)).for_each(
            |((((codes, scales), sums), pairs), x)| {
                if x.len() < group * cols {
                    codes.fill(0);
                    scales.fill(0.0);
                    pairs.fill(0);
                }
                for (row, x) in x.chunks_exact(cols).enumerate() {
                    round_row(codes, scales, sums, pairs, x, Place { row, group, block, piece });
                }
            },
        );
    }
}

/// Rows to multiply: one, or sixteen side by side.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    /// All of a row's, or 32 (or 64, where blocks have 256) of each row, then the next ones.
    pub codes: &'a [i8],
    /// Those of a block of all rows side by side.
    pub scales: &'a [f32],
    pub sums: &'a [i32],
    /// Those of a row's block side by side, then those of the next row.
    pub pairs: &'a [i16],
}

#[cfg(target_arch = "x86_64")]
impl Row<'_> {
    /// What is read of them.
    pub fn bytes(&self) -> usize {
        size_of_val(self.codes) + size_of_val(self.scales) + size_of_val(self.pairs)
    }
}

/// Which row of a group is rounded, and how it lies.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    group: usize,
    block: usize,
    piece: usize,
}

isa::dispatch! {
    /// Rounds one row to its place in its group.
    fn round_row<FMA>(codes: &mut [i8], scales: &mut [f32], sums: &mut [i32], pairs: &mut [i16], x: &[f32], place: Place) {
        let Place { row, group, block, piece } = place;
        let cols = x.len();
        for (index, x) in x.chunks_exact(block).enumerate() {
            let (x, _) = x.as_chunks::<32>();
            let (scale, inverse) = scale(x);
            scales[index * group + row] = scale;
            for (part, x) in x.iter().enumerate() {
                let col = index * block + 32 * part;
                let to = &mut codes[row * piece + col / piece * piece * group + col % piece..][..32];
                let mut halves = [0; 2];
                for ((to, x), sum) in to.chunks_exact_mut(16).zip(x.chunks_exact(16)).zip(&mut halves) {
                    let mut codes = [0i32; 16];
                    if !scale.is_nan() {
                        for (code, x) in codes.iter_mut().zip(x) {
                            *code = (x * inverse + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
                        }
                    }
                    *sum = codes.iter().sum::<i32>();
                    for (to, code) in to.iter_mut().zip(codes) {
                        *to = code as i8;
                    }
                }
                let sum = halves[0] + halves[1];
                if block == 32 {
                    sums[row * (cols / 32) + index] = sum;
                } else {
                    sums[row * (cols / 16) + col / 16..][..2].copy_from_slice(&halves);
                    // Those of a block beside each other, for each row of the group.
                    pairs[(index * group + row) * 8 + part] = sum as i16;
                }
            }
        }
    }
}

/// The scale of a block, and what its values are multiplied with. A value that is not finite makes the scale NaN and every
/// code zero.
#[inline(always)]
fn scale(x: &[[f32; 32]]) -> (f32, f32) {
    // As integers, absolute values have the order of the floats, and what is not finite is above all others.
    let mut lanes = [0u32; 32];
    for x in x {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = (*lane).max(x.to_bits() & 0x7fff_ffff);
        }
    }
    let largest = f32::from_bits(lanes.iter().fold(0, |largest, &lane| largest.max(lane)));
    if !largest.is_finite() {
        return (f32::NAN, 0.0);
    }
    let inverse = if largest > SMALLEST { 127.0 / largest } else { 0.0 };
    (largest / 127.0, inverse)
}
