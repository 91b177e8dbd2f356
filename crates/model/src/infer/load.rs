//! A model ready to answer, straight from its files: what they hold in blocks of integers stays so, and is never whole in
//! floats.

use kernels::gemm::{Packed, Precision, View};
use kernels::int8::Arena;
use kernels::rope;

use super::{Llama, PackedLayer, Table};
use crate::Error;
use crate::formats::Checkpoint;
use crate::stacked::{Part, Stacked};

/// Tensors of a layer, in canonical order: norm, q, k, v, output, norm, gate, up, down.
const LAYER: usize = 9;

impl Llama {
    /// Packs a model as it is read, tensor by tensor. Matrices in blocks of integers are multiplied in integers; others
    /// become f32, one at a time, and are packed in `precision`. `max_seq_len` bounds the positions.
    ///
    /// # Errors
    /// A value that is not finite, named by its tensor, its place and its byte.
    pub fn open(checkpoint: &Checkpoint, precision: Precision, max_seq_len: usize) -> Result<Self, Error> {
        let config = checkpoint.config().clone();
        config.validate()?;
        let mut loader = Loader { checkpoint, precision, arena: Arena::new() };
        let end = LAYER * config.layers + 1;
        let layers = (0..config.layers).map(|layer| {
            let first = 1 + LAYER * layer;
            Ok(PackedLayer {
                attention_norm: loader.values(first)?,
                qkv: loader.stacked(&[first + 1, first + 2, first + 3])?,
                output: loader.stacked(&[first + 4])?,
                ffn_norm: loader.values(first + 5)?,
                gate_up: loader.stacked(&[first + 6, first + 7])?,
                down: loader.stacked(&[first + 8])?,
            })
        });
        let layers = layers.collect::<Result<_, Error>>()?;
        let final_norm = loader.values(end)?;
        let lm_head = loader.stacked(&[if config.tied_embeddings { 0 } else { end + 1 }])?;
        let embedding = if config.tied_embeddings && lm_head.blocks().is_some() {
            Table::Tied
        } else {
            match checkpoint.pack_tensor(0, &mut loader.arena)? {
                Some(matrix) => Table::Blocks(matrix),
                None => Table::Floats(loader.values(0)?),
            }
        };
        let table = rope::Table::new(&config.rope_frequencies(), max_seq_len.min(config.max_seq_len));
        Ok(Self { config, precision, embedding, layers, final_norm, lm_head, table })
    }
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    precision: Precision,
    arena: Arena,
}

impl Loader<'_> {
    /// Tensors one under the other.
    fn stacked(&mut self, tensors: &[usize]) -> Result<Stacked, Error> {
        tensors.iter().map(|&index| self.part(index)).collect::<Result<_, _>>().map(Stacked::new)
    }

    fn part(&mut self, index: usize) -> Result<Part, Error> {
        if let Some(matrix) = self.checkpoint.pack_tensor(index, &mut self.arena)? {
            return Ok(Part::Blocks(matrix));
        }
        let values = self.values(index)?;
        let cols = self.checkpoint.columns(index);
        let view = View::new(&values, values.len() / cols, cols, cols);
        Ok(Part::Floats(Packed::new(self.precision, view.transposed())))
    }

    fn values(&self, index: usize) -> Result<Vec<f32>, Error> {
        let mut values = vec![0.0; self.checkpoint.values(index)];
        self.checkpoint.read_tensor(index, 0, &mut values)?;
        Ok(values)
    }
}
