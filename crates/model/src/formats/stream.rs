//! The way of a tensor from where it is to a file that is being written: strip by strip, in bounded memory.

use std::io::Write;
use std::path::Path;

use kernels::quant::Encoding;
use ledger::progress::Task;

use super::checkpoint::{Checkpoint, RowOrder, rows_and_cols};
use crate::weights::tensors;
use crate::{Config, Error, TensorSpec, Weights};

/// Values of a strip, more or less: 16 MiB in f32.
const STRIP: usize = 1 << 22;
/// The largest value that formats with a scale in f16 are sure to hold.
const F16_MAX: f32 = 65_504.0;

/// A model whose canonical tensors can be read a part at a time: one in memory, or one on the disk.
pub trait Tensors: Sync {
    /// Its shape; [`tensors`] of it are what can be read.
    fn config(&self) -> &Config;

    /// Writes the values of the `index`-th canonical tensor from place `start` on, all of them finite.
    fn read(&self, index: usize, start: usize, out: &mut [f32]) -> Result<(), Error>;

    /// How the values of the `index`-th tensor are stored.
    fn encoding(&self, index: usize) -> Encoding;

    /// The model as a checkpoint, if it is one, whose bytes may be copied as they are.
    fn checkpoint(&self) -> Option<&Checkpoint> {
        None
    }
}

impl Tensors for Checkpoint {
    fn config(&self) -> &Config {
        &self.config
    }

    fn read(&self, index: usize, start: usize, out: &mut [f32]) -> Result<(), Error> {
        self.read_tensor(index, start, out)
    }

    fn encoding(&self, index: usize) -> Encoding {
        self.encoding_of(index)
    }

    fn checkpoint(&self) -> Option<&Checkpoint> {
        Some(self)
    }
}

impl Tensors for Weights {
    fn config(&self) -> &Config {
        &self.config
    }

    fn read(&self, index: usize, start: usize, out: &mut [f32]) -> Result<(), Error> {
        let range = &tensors(&self.config)[index].range;
        out.copy_from_slice(&self.data[range.start + start..range.start + start + out.len()]);
        Ok(())
    }

    fn encoding(&self, _index: usize) -> Encoding {
        Encoding::F32
    }
}

/// One canonical tensor on its way into a file.
pub(super) struct Outgoing<'a> {
    pub(super) spec: &'a TensorSpec,
    /// Its place among the canonical tensors.
    pub(super) index: usize,
    pub(super) encoding: Encoding,
    pub(super) order: RowOrder,
}

impl Outgoing<'_> {
    /// Bytes in the file.
    pub(super) fn bytes(&self) -> usize {
        let values = self.spec.range.len();
        self.encoding.bytes(values).expect("an encoding is chosen so that rows are whole blocks")
    }

    /// Writes the tensor's bytes.
    ///
    /// # Errors
    /// Values that cannot be read or that the encoding cannot hold, and a failure of the disk.
    pub(super) fn write(
        &self,
        from: &dyn Tensors,
        memory: &mut Memory,
        file: &mut impl Write,
        path: &Path,
        task: &dyn Task,
    ) -> Result<(), Error> {
        task.message(&self.spec.name);
        let failed = |source| ledger::Error::Io { operation: "write", path: path.to_owned(), source };
        let verbatim = from
            .checkpoint()
            .and_then(|checkpoint| checkpoint.verbatim(self.index, self.order, self.encoding));
        let (rows, cols) = rows_and_cols(&self.spec.shape);
        // Rows move within a head, so a strip holds whole heads.
        let unit = match self.order {
            RowOrder::Halves => 1,
            RowOrder::Pairs(head) => head,
        };
        let height = (STRIP / cols.max(1) / unit).max(1) * unit;
        for first in (0..rows).step_by(height) {
            let values = height.min(rows - first) * cols;
            memory.values.resize(values, 0.0);
            // What is copied as it is, is read all the same: that finds values that are not finite.
            from.read(self.index, first * cols, &mut memory.values)?;
            let encoded = |values: usize| self.encoding.bytes(values).unwrap_or(0);
            let bytes = match verbatim {
                Some(all) => &all[encoded(first * cols)..encoded(first * cols + values)],
                None => {
                    self.check_range(&memory.values, first * cols, path)?;
                    memory.bytes.resize(encoded(values), 0);
                    self.encoding.encode(
                        ordered(self.order, cols, &memory.values, &mut memory.other),
                        &mut memory.bytes,
                    );
                    &memory.bytes
                }
            };
            file.write_all(bytes).map_err(failed)?;
            task.advance(bytes.len() as u64);
        }
        Ok(())
    }

    fn check_range(&self, values: &[f32], start: usize, path: &Path) -> Result<(), Error> {
        if matches!(self.encoding, Encoding::F32 | Encoding::Bf16) {
            return Ok(());
        }
        let Some(place) = values.iter().position(|value| value.abs() > F16_MAX) else { return Ok(()) };
        Err(Error::Unsupported {
            path: path.to_owned(),
            what: format!(
                "tensor {}: value {} is {}, which {} cannot hold",
                self.spec.name,
                start + place,
                values[place],
                self.encoding.name()
            ),
            hint: "store the model as bf16 or f32".into(),
        })
    }
}

/// What is used again from tensor to tensor.
#[derive(Default)]
pub(super) struct Memory {
    values: Vec<f32>,
    other: Vec<f32>,
    bytes: Vec<u8>,
}

/// Whole heads in the order that the file wants.
fn ordered<'a>(order: RowOrder, cols: usize, values: &'a [f32], other: &'a mut Vec<f32>) -> &'a [f32] {
    if order == RowOrder::Halves {
        return values;
    }
    other.resize(values.len(), 0.0);
    for (row, values) in values.chunks(cols).enumerate() {
        other[order.stored(row) * cols..][..cols].copy_from_slice(values);
    }
    other
}
