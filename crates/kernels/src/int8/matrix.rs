//! A matrix in panels of sixteen rows, made from the blocks of a file.

use rayon::prelude::*;

use super::layout::{Kind, LANES, LINE};
use super::memory::{Arena, Part};
use super::pack::pack_lane;
use crate::meter::{self, Cost, Operation, Pass};
use crate::quant::Encoding;

/// A matrix `[rows, cols]` as a file quantises it, in the order in which products read it. It takes the file's bytes (for
/// Q4_K, Q5_K and Q3_K two to four in a hundred more), and its rows can be read back as the file has them.
pub struct Matrix {
    kind: Kind,
    rows: usize,
    cols: usize,
    /// Bytes from one panel to the next: first the codes of all blocks, then their scales.
    panel: usize,
    bytes: Part,
}

/// Why bytes cannot be a [`Matrix`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpackable {
    /// Values that stand alone.
    #[error("{} values have no blocks of integers", .0.name())]
    Encoding(Encoding),
    /// A row ends within a block.
    #[error("rows of {cols} values are no whole blocks of {block} values of {}", .encoding.name())]
    Columns {
        /// Columns of the matrix.
        cols: usize,
        /// Values of a block.
        block: usize,
        /// The blocks.
        encoding: Encoding,
    },
}

/// Where a panel's codes and scales begin.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub codes: &'a [u8],
    pub scales: &'a [u8],
}

impl Matrix {
    /// [`Matrix::new_in`] in memory of its own.
    ///
    /// # Errors
    /// Those of it.
    pub fn new<'a>(
        encoding: Encoding,
        rows: usize,
        cols: usize,
        row: impl Fn(usize) -> &'a [u8] + Sync,
    ) -> Result<Self, Unpackable> {
        Self::new_in(&mut Arena::new(), encoding, rows, cols, row)
    }

    /// Packs a matrix whose row `i` is what `row(i)` says, in the file's blocks, on all threads. So rows may come in another
    /// order than they lie.
    ///
    /// # Errors
    /// An encoding without blocks, or columns that are no whole number of them.
    ///
    /// # Panics
    /// When a row has another number of bytes than `encoding.bytes(cols)`.
    pub fn new_in<'a>(
        arena: &mut Arena,
        encoding: Encoding,
        rows: usize,
        cols: usize,
        row: impl Fn(usize) -> &'a [u8] + Sync,
    ) -> Result<Self, Unpackable> {
        let kind = Kind::of(encoding).ok_or(Unpackable::Encoding(encoding))?;
        let block = kind.block();
        let Some(row_bytes) = encoding.bytes(cols) else {
            return Err(Unpackable::Columns { cols, block, encoding });
        };
        let blocks = cols / block;
        let code_bytes = blocks * kind.code_lines() * LINE;
        let panel = (code_bytes + blocks * kind.scale_bytes()).next_multiple_of(LINE);
        let bytes = arena.part(panel * rows.div_ceil(LANES), |bytes| {
            if panel == 0 {
                return;
            }
            bytes.par_chunks_exact_mut(panel).enumerate().for_each(|(index, panel)| {
                let (codes, scales) = panel.split_at_mut(code_bytes);
                let scales = &mut scales[..blocks * kind.scale_bytes()];
                let first = index * LANES;
                for lane in 0..LANES.min(rows - first) {
                    let bytes = row(first + lane);
                    assert_eq!(bytes.len(), row_bytes, "bytes of row {}", first + lane);
                    pack_lane(kind, lane, bytes, codes, scales);
                }
            });
        });
        Ok(Self { kind, rows, cols, panel, bytes })
    }

    /// Whether matrices of this encoding, with rows of so many values, can be packed.
    pub fn takes(encoding: Encoding, cols: usize) -> bool {
        Kind::of(encoding).is_some() && encoding.bytes(cols).is_some()
    }

    /// Rows: the outputs of a linear layer.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: its inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// How the file stored it.
    pub fn encoding(&self) -> Encoding {
        self.kind.encoding()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.bytes.bytes().len()
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn panels(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    pub(super) fn blocks(&self) -> usize {
        self.cols / self.kind.block()
    }

    pub(super) fn panel(&self, index: usize) -> Panel<'_> {
        let bytes = &self.bytes.bytes()[index * self.panel..][..self.panel];
        let (codes, scales) = bytes.split_at(self.blocks() * self.kind.code_lines() * LINE);
        Panel { codes, scales: &scales[..self.blocks() * self.kind.scale_bytes()] }
    }

    /// Writes the values of a row, as [`Encoding::decode`] gives them.
    ///
    /// # Panics
    /// When there is no such row, or `out` has not as many places as the matrix has columns.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} as {} values", out.len());
        let (panel, lane) = (self.panel(row / LANES), row % LANES);
        let (kind, block) = (self.kind, self.kind.block());
        for (index, out) in out.chunks_exact_mut(block).enumerate() {
            super::plain::values(kind, panel, index, lane, out);
        }
    }

    /// Writes `x [T, cols]`: the rows that `tokens [T]` name.
    ///
    /// # Panics
    /// When a token has no row, or `x` has another size.
    pub fn embedding(&self, x: &mut [f32], tokens: &[u32]) {
        let bytes = self.encoding().bytes(x.len()).unwrap_or(0) as u64;
        let cost = || Cost { flops: x.len() as u64, read: bytes, written: 4 * x.len() as u64 };
        let _metered = meter::span(Operation::Embedding, Pass::Forward, cost);
        assert_eq!(x.len(), tokens.len() * self.cols, "values of {} tokens", tokens.len());
        x.par_chunks_mut(self.cols.max(1))
            .zip(tokens)
            .for_each(|(row, &token)| self.row(token as usize, row));
    }
}

impl std::fmt::Debug for Matrix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { rows, cols, .. } = self;
        write!(formatter, "Matrix({} {rows} x {cols})", self.encoding().name())
    }
}
