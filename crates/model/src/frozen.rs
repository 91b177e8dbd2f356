//! A model that is read and not trained, its matrices in few bytes a value: what adapters stand on.
//!
//! It has no gradients and no optimizer's memory. Norms stay f32: they are a thousandth of the parameters.

use std::ops::Range;

use kernels::cross_entropy::LmHead;
use kernels::quant::{self, Format, Matrix};

use crate::forward::{BlockWeights, Linear, Storage};
use crate::low_rank::LowRank;
use crate::weights::Layout;
use crate::{Config, Error, Weights};

/// How the matrices of a [`Frozen`] are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// Attention and feed-forward.
    pub linear: Format,
    /// The embedding and the output layer. QLoRA leaves both in 16 bits: their rows are read one at a time, and a rare
    /// token's row is nobody's average.
    pub embedding: Format,
}

impl Formats {
    /// QLoRA's: NF4 with double quantisation, and bf16.
    pub const QLORA: Self = Self { linear: Format::Nf4 { double: true }, embedding: Format::Bf16 };
}

/// A frozen model.
#[derive(Clone, Debug)]
pub struct Frozen {
    config: Config,
    embedding: Matrix,
    layers: Vec<FrozenLayer>,
    final_norm: Vec<f32>,
    /// `None` where the embedding is the output layer.
    lm_head: Option<Matrix>,
}

#[derive(Clone, Debug)]
struct FrozenLayer {
    attention_norm: Vec<f32>,
    qkv: Matrix,
    output: Matrix,
    ffn_norm: Vec<f32>,
    gate_up: Matrix,
    down: Matrix,
}

impl Frozen {
    /// Stores a model's weights in these formats.
    pub fn new(weights: &Weights, formats: Formats) -> Result<Self, Error> {
        Self::build(&weights.config, formats, |place, values| {
            values.copy_from_slice(&weights.data[place..place + values.len()]);
            Ok(())
        })
    }

    /// Stores a model that is never whole in memory: `fill(place, values)` is asked for the values from a place of the
    /// flat vector (see [`Layout`]) on, in order, at most 16 MiB at a time.
    ///
    /// # Errors
    /// A configuration that no Llama can have, and the first error of `fill`.
    pub fn build(
        config: &Config,
        formats: Formats,
        fill: impl FnMut(usize, &mut [f32]) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let layout = Layout::new(config);
        let mut source = Source { fill, failed: None };
        let embedding = source.matrix(&layout.embedding, formats.embedding, config.vocab_size);
        let layers = layout.layers.iter().map(|places| FrozenLayer {
            attention_norm: source.vector(&places.attention_norm),
            qkv: source.matrix(&places.qkv, formats.linear, config.qkv_dim()),
            output: source.matrix(&places.output, formats.linear, config.dim),
            ffn_norm: source.vector(&places.ffn_norm),
            gate_up: source.matrix(&places.gate_up, formats.linear, 2 * config.ffn_dim),
            down: source.matrix(&places.down, formats.linear, config.dim),
        });
        let layers = layers.collect();
        let final_norm = source.vector(&layout.final_norm);
        let lm_head = (!config.tied_embeddings)
            .then(|| source.matrix(&layout.lm_head, formats.embedding, config.vocab_size));
        match source.failed {
            Some(error) => Err(error),
            None => Ok(Self { config: config.clone(), embedding, layers, final_norm, lm_head }),
        }
    }

    /// The weights in f32 as the products see them: what adapters are merged into.
    pub fn dequantised(&self) -> Result<Weights, Error> {
        let mut weights = Weights::zeros(&self.config)?;
        let mut end = 0;
        self.visit(|values| {
            weights.data[end..end + values.len()].copy_from_slice(values);
            end += values.len();
        });
        Ok(weights)
    }

    /// Calls `see` with the values of the flat vector (see [`Layout`]), as the products see them, in order and at most
    /// 16 MiB at a time.
    pub fn visit(&self, mut see: impl FnMut(&[f32])) {
        const STRIP: usize = 1 << 22;
        let mut strip = Vec::new();
        let mut matrix = |matrix: &Matrix, see: &mut dyn FnMut(&[f32])| {
            let len = matrix.rows() * matrix.cols();
            for start in (0..len).step_by(STRIP) {
                strip.resize(STRIP.min(len - start), 0.0);
                matrix.dequantise(start, &mut strip);
                see(&strip);
            }
        };
        matrix(&self.embedding, &mut see);
        for layer in &self.layers {
            see(&layer.attention_norm);
            matrix(&layer.qkv, &mut see);
            matrix(&layer.output, &mut see);
            see(&layer.ffn_norm);
            matrix(&layer.gate_up, &mut see);
            matrix(&layer.down, &mut see);
        }
        see(&self.final_norm);
        if let Some(lm_head) = &self.lm_head {
            matrix(lm_head, &mut see);
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes that the parameters take.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter().map(|layer| {
            let matrices = [&layer.qkv, &layer.output, &layer.gate_up, &layer.down];
            let norms = layer.attention_norm.len() + layer.ffn_norm.len();
            matrices.iter().map(|matrix| matrix.bytes()).sum::<usize>() + norms * size_of::<f32>()
        });
        let ends = self.embedding.bytes() + self.lm_head.as_ref().map_or(0, Matrix::bytes);
        layers.sum::<usize>() + ends + self.final_norm.len() * size_of::<f32>()
    }

    pub(crate) fn embed(&self, x: &mut [f32], tokens: &[u32]) {
        quant::embedding(x, &self.embedding, tokens);
    }

    /// A block's weights, each matrix with the adapters that stand beside it.
    pub(crate) fn block<'a>(
        &'a self,
        index: usize,
        [qkv, output, gate_up, down]: [LowRank<'a>; 4],
    ) -> BlockWeights<'a> {
        let layer = &self.layers[index];
        let frozen = |name, matrix, adapters| Linear::new(name, Storage::Frozen(matrix, adapters));
        BlockWeights {
            attention_norm: &layer.attention_norm,
            qkv: frozen("qkv", &layer.qkv, qkv),
            output: frozen("attn output", &layer.output, output),
            ffn_norm: &layer.ffn_norm,
            gate_up: frozen("gate_up", &layer.gate_up, gate_up),
            down: frozen("down", &layer.down, down),
        }
    }

    pub(crate) fn final_norm(&self) -> &[f32] {
        &self.final_norm
    }

    pub(crate) fn lm_head(&self) -> LmHead<'_> {
        LmHead::Frozen(self.lm_head.as_ref().unwrap_or(&self.embedding))
    }
}

/// Where the values of a frozen model come from, until one cannot be had.
struct Source<F> {
    fill: F,
    failed: Option<Error>,
}

impl<F: FnMut(usize, &mut [f32]) -> Result<(), Error>> Source<F> {
    fn values(&mut self, place: usize, values: &mut [f32]) {
        if self.failed.is_none() {
            self.failed = (self.fill)(place, values).err();
        }
    }

    fn matrix(&mut self, range: &Range<usize>, format: Format, rows: usize) -> Matrix {
        Matrix::from_strips(format, rows, range.len() / rows, |start, strip| {
            self.values(range.start + start, strip);
        })
    }

    fn vector(&mut self, range: &Range<usize>) -> Vec<f32> {
        let mut values = vec![0.0; range.len()];
        self.values(range.start, &mut values);
        values
    }
}
