//! A model on the disk after its tables were checked: which bytes of which file make up each canonical tensor.
//!
//! Values are converted where they are asked for, so a model of any size is read in the memory of the answer.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use kernels::int8::{self, Arena};
use kernels::quant::Encoding;
use rayon::prelude::*;

use super::gguf::Value;
use super::map::Mapped;
use super::{Fault, Format};
use crate::weights::tensors;
use crate::{Config, Error, Formats, Frozen, TensorSpec, Weights};

/// A tensor as it lies in a file, under the file's own name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The file's name for it.
    pub name: String,
    /// Rows and columns, or one length.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub encoding: Encoding,
    /// Which of [`Checkpoint::files`] it lies in.
    pub file: usize,
    /// Its bytes in that file.
    pub bytes: Range<usize>,
}

impl Stored {
    /// Number of values.
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a model's files say beside its shape and its values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// What its makers call it.
    pub name: Option<String>,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text.
    pub eos_token_ids: Vec<u32>,
}

/// Keys and values in the file's order, shared: a vocabulary has hundreds of thousands of texts.
pub type Metadata = Arc<Vec<(String, Value)>>;

/// In which order the rows of a head of queries or keys lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowOrder {
    /// The first half of the head, then the second, as the rotary embedding of Hugging Face and of ours turns them. Also
    /// the order of tensors that have no heads.
    Halves,
    /// Pairs that turn together lie together, as Meta and GGUF have them; heads of so many rows.
    Pairs(usize),
}

impl RowOrder {
    /// Where the row lies that is `row` in the order of halves.
    ///
    /// Of a head's `C` rows, row `half * C / 2 + pair` lies at `2 * pair + half`.
    pub(super) fn stored(self, row: usize) -> usize {
        match self {
            Self::Halves => row,
            Self::Pairs(head) => {
                let (first, within) = (row - row % head, row % head);
                let (half, pair) = (within / (head / 2), within % (head / 2));
                first + 2 * pair + half
            }
        }
    }
}

/// A rectangle of a canonical tensor that one stored tensor holds. Rows are counted in stored order.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) stored: usize,
    pub(super) rows: Range<usize>,
    pub(super) cols: Range<usize>,
}

/// A canonical tensor and where it lies. Norms are one row.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) spec: TensorSpec,
    pub(super) order: RowOrder,
    pub(super) pieces: Vec<Piece>,
}

impl Tensor {
    /// Values of a row.
    pub(super) fn cols(&self) -> usize {
        self.spec.shape.last().copied().unwrap_or(1)
    }
}

/// A model on the disk, opened and checked.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) config: Config,
    pub(super) about: About,
    pub(super) files: Vec<Mapped>,
    pub(super) stored: Vec<Stored>,
    pub(super) metadata: Metadata,
    /// In the order of [`tensors`].
    pub(super) tensors: Vec<Tensor>,
}

impl Checkpoint {
    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which kind of files these are.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the files say beside it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The keys of a GGUF file, or of a model's first part, with its vocabulary; other formats have none.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The files that hold values.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// All tensors as the files name them, in the files' order.
    pub fn stored(&self) -> &[Stored] {
        &self.stored
    }

    /// The whole model in f32.
    ///
    /// # Errors
    /// A value that is not finite, named by its tensor, its place and its byte.
    pub fn weights(&self) -> Result<Weights, Error> {
        let mut weights = Weights::zeros(&self.config)?;
        for (index, tensor) in self.tensors.iter().enumerate() {
            self.read_tensor(index, 0, &mut weights.data[tensor.spec.range.clone()])?;
        }
        Ok(weights)
    }

    /// The model as a frozen one: quantised as it is read, and never whole in f32.
    ///
    /// # Errors
    /// Those of [`Checkpoint::weights`].
    pub fn frozen(&self, formats: Formats) -> Result<Frozen, Error> {
        Frozen::build(&self.config, formats, |mut place, mut values| {
            while !values.is_empty() {
                let index = self.tensors.partition_point(|tensor| tensor.spec.range.end <= place);
                let range = &self.tensors[index].spec.range;
                let (now, rest) = values.split_at_mut((range.end - place).min(values.len()));
                self.read_tensor(index, place - range.start, now)?;
                place += now.len();
                values = rest;
            }
            Ok(())
        })
    }

    /// Values of canonical tensor `index` from place `start` on, in the canonical order.
    pub(crate) fn read_tensor(&self, index: usize, start: usize, out: &mut [f32]) -> Result<(), Error> {
        let tensor = &self.tensors[index];
        match (tensor.order, tensor.pieces.as_slice()) {
            (RowOrder::Halves, [piece]) => {
                let stored = &self.stored[piece.stored];
                stored.encoding.decode(self.bytes(stored), start, out);
            }
            _ => {
                let cols = tensor.cols();
                let first = (start.next_multiple_of(cols) - start).min(out.len());
                let (head, rest) = out.split_at_mut(first);
                self.read_row(tensor, start, head);
                let start = start + first;
                rest.par_chunks_mut(cols).enumerate().for_each(|(row, out)| {
                    self.read_row(tensor, start + row * cols, out);
                });
            }
        }
        match out.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(place) => Err(self.not_finite(tensor, start + place, out[place])),
        }
    }

    /// Number of values of canonical tensor `index`.
    pub(crate) fn values(&self, index: usize) -> usize {
        self.tensors[index].spec.range.len()
    }

    /// Values of a row of it.
    pub(crate) fn columns(&self, index: usize) -> usize {
        self.tensors[index].cols()
    }

    /// Canonical tensor `index` packed for products in integers, its rows in the canonical order; `None` where it does not lie
    /// in one piece of blocks that can be.
    ///
    /// # Errors
    /// A scale that is not finite.
    pub(crate) fn pack_tensor(&self, index: usize, arena: &mut Arena) -> Result<Option<int8::Matrix>, Error> {
        let tensor = &self.tensors[index];
        let [piece] = tensor.pieces.as_slice() else { return Ok(None) };
        let stored = &self.stored[piece.stored];
        let (rows, cols) = rows_and_cols(&tensor.spec.shape);
        let (encoding, bytes) = (stored.encoding, self.bytes(stored));
        let Some(row_bytes) = encoding.bytes(cols).filter(|_| int8::Matrix::takes(encoding, cols)) else {
            return Ok(None);
        };
        let finite = AtomicBool::new(true);
        let matrix = int8::Matrix::new_in(arena, encoding, rows, cols, |row| {
            let bytes = &bytes[tensor.order.stored(row) * row_bytes..][..row_bytes];
            if !encoding.is_finite(bytes) {
                finite.store(false, Relaxed);
            }
            bytes
        });
        if !finite.into_inner() {
            // Values say which one it is.
            self.read_tensor(index, 0, &mut vec![0.0; rows * cols])?;
        }
        Ok(matrix.ok())
    }

    /// Values of one row, from any place of it on.
    fn read_row(&self, tensor: &Tensor, start: usize, out: &mut [f32]) {
        if out.is_empty() {
            return;
        }
        let (row, col) = (tensor.order.stored(start / tensor.cols()), start % tensor.cols());
        let end = col + out.len();
        for piece in tensor.pieces.iter().filter(|piece| piece.rows.contains(&row)) {
            let (from, to) = (col.max(piece.cols.start), end.min(piece.cols.end));
            if from < to {
                let stored = &self.stored[piece.stored];
                let place = (row - piece.rows.start) * piece.cols.len() + from - piece.cols.start;
                stored.encoding.decode(self.bytes(stored), place, &mut out[from - col..to - col]);
            }
        }
    }

    /// The bytes of canonical tensor `index` where they lie in this order and encoding in one stretch.
    pub(super) fn verbatim(&self, index: usize, order: RowOrder, encoding: Encoding) -> Option<&[u8]> {
        let tensor = &self.tensors[index];
        match tensor.pieces.as_slice() {
            [piece] if tensor.order == order && self.stored[piece.stored].encoding == encoding => {
                Some(self.bytes(&self.stored[piece.stored]))
            }
            _ => None,
        }
    }

    pub(super) fn encoding_of(&self, index: usize) -> Encoding {
        self.stored[self.tensors[index].pieces[0].stored].encoding
    }

    fn bytes(&self, stored: &Stored) -> &[u8] {
        &self.files[stored.file].bytes[stored.bytes.clone()]
    }

    fn not_finite(&self, tensor: &Tensor, place: usize, value: f32) -> Error {
        let cols = tensor.cols();
        let (row, col) = (tensor.order.stored(place / cols), place % cols);
        let holds = |piece: &&Piece| piece.rows.contains(&row) && piece.cols.contains(&col);
        let piece = tensor.pieces.iter().find(holds).expect("pieces cover their tensor");
        let stored = &self.stored[piece.stored];
        let within = (row - piece.rows.start) * piece.cols.len() + col - piece.cols.start;
        let block = within / stored.encoding.block_values() * stored.encoding.block_bytes();
        let reason = format!("value {within} is {value}");
        Fault::new(stored.bytes.start + block, format!("tensor {}", stored.name), reason)
            .of(&self.files[stored.file].path, 0)
    }
}

/// What a reader found, before it is known to be whole: [`Found::whole_tensors`] checks it.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) config: Config,
    pub(super) about: About,
    pub(super) files: Vec<Mapped>,
    pub(super) stored: Vec<Stored>,
    pub(super) metadata: Metadata,
}

impl Found {
    /// A checkpoint in which each canonical tensor is one stored one. Names for which `is_spare` holds may be there too.
    ///
    /// # Errors
    /// Tensors that are missing, of another shape than the configuration means, there twice, or that no Llama has.
    pub(super) fn whole_tensors(
        self,
        order: RowOrder,
        is_spare: impl Fn(&str) -> bool,
    ) -> Result<Checkpoint, Error> {
        let mut by_name = std::collections::BTreeMap::new();
        for (index, stored) in self.stored.iter().enumerate() {
            if by_name.insert(stored.name.as_str(), index).is_some() {
                return Err(self.fault(stored, "is there twice"));
            }
        }
        let mut missing = Vec::new();
        let mut all = Vec::new();
        for spec in self.specs()? {
            let own = super::names::name(&spec.name, self.format);
            let Some(index) = by_name.remove(own.as_str()) else {
                missing.push(own);
                continue;
            };
            let stored = &self.stored[index];
            if stored.shape != spec.shape {
                let (found, meant) = (&stored.shape, &spec.shape);
                return Err(
                    self.fault(stored, format!("shape {found:?}, where the configuration means {meant:?}"))
                );
            }
            let (rows, cols) = rows_and_cols(&spec.shape);
            let order = if super::names::is_rotated(&spec.name) { order } else { RowOrder::Halves };
            all.push(Tensor {
                spec,
                order,
                pieces: vec![Piece { stored: index, rows: 0..rows, cols: 0..cols }],
            });
        }
        if let Some(first) = missing.first() {
            let more = missing.len() - 1;
            let reason = format!("tensor {first} is missing (and {more} more)");
            let file = self.files.first().map_or(self.path.as_path(), |file| file.path.as_path());
            return Err(Error::file(file, reason));
        }
        if let Some((_, index)) = by_name.into_iter().find(|(name, _)| !is_spare(name)) {
            return Err(self.fault(
                &self.stored[index],
                "belongs to no Llama of this configuration; leaving it out would change what the model computes",
            ));
        }
        let Self { path, format, config, about, files, stored, metadata } = self;
        Ok(Checkpoint { path, format, config, about, files, stored, metadata, tensors: all })
    }

    /// The canonical tensors.
    ///
    /// # Errors
    /// More layers than the files could hold: the list alone would fill the memory.
    pub(super) fn specs(&self) -> Result<Vec<TensorSpec>, Error> {
        let (layers, stored) = (self.config.layers, self.stored.len());
        if layers > stored {
            let reason =
                format!("the configuration means {layers} layers, and the files hold {stored} tensors");
            return Err(Error::file(&self.path, reason));
        }
        Ok(tensors(&self.config))
    }

    pub(super) fn fault(&self, stored: &Stored, reason: impl Into<String>) -> Error {
        let what = format!("tensor {}", stored.name);
        Fault::new(stored.bytes.start, what, reason).of(&self.files[stored.file].path, 0)
    }
}

/// A norm is one row.
pub(super) fn rows_and_cols(shape: &[usize]) -> (usize, usize) {
    match shape {
        [rows, cols] => (*rows, *cols),
        other => (1, other.iter().product()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Meta's matrices, seen as `[heads, C / 2, 2]`, become `[heads, 2, C / 2]`.
    #[test]
    fn pairs_become_halves() {
        let order = RowOrder::Pairs(6);
        let stored: Vec<usize> = (0..12).map(|row| order.stored(row)).collect();
        assert_eq!(stored, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
