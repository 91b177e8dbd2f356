//! A Llama's weights: one flat vector of f32, and the names and shapes of the tensors in it.
//!
//! The order keeps `q, k, v` and `gate, up` next to each other, so that each group is one matrix product.

use std::ops::Range;

use kernels::buffer::Buffer;
use ledger::seed::Rng;

use crate::{Config, Error};

/// One tensor: its Hugging Face name, shape, and place in the flat vector.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Name in a Hugging Face checkpoint.
    pub name: String,
    /// Rows and columns, or one length for a norm.
    pub shape: Vec<usize>,
    /// Place in [`Weights::data`].
    pub range: Range<usize>,
}

/// Places of one block's tensors in the flat vector.
#[derive(Clone, Debug)]
pub struct LayerRanges {
    /// `[D]`, before attention.
    pub attention_norm: Range<usize>,
    /// `[(H + 2K) C, D]`: queries, keys, values.
    pub qkv: Range<usize>,
    /// `[D, H C]`.
    pub output: Range<usize>,
    /// `[D]`, before the feed-forward.
    pub ffn_norm: Range<usize>,
    /// `[2 F, D]`: gate, then up.
    pub gate_up: Range<usize>,
    /// `[D, F]`.
    pub down: Range<usize>,
}

impl LayerRanges {
    /// The same places so much further on.
    fn shifted(&self, by: usize) -> Self {
        let shift = |range: &Range<usize>| range.start + by..range.end + by;
        Self {
            attention_norm: shift(&self.attention_norm),
            qkv: shift(&self.qkv),
            output: shift(&self.output),
            ffn_norm: shift(&self.ffn_norm),
            gate_up: shift(&self.gate_up),
            down: shift(&self.down),
        }
    }
}

/// Places of all blocks' tensors. Blocks are alike, so a pass, which asks for this each time, makes no list of them.
#[derive(Clone, Debug)]
pub struct Layers {
    first: LayerRanges,
    stride: usize,
    count: usize,
}

impl Layers {
    /// `count` blocks (at least one): the first lies at `first`, the others after it, as `take` gives places.
    pub(crate) fn after(
        first: LayerRanges,
        count: usize,
        take: &mut impl FnMut(usize) -> Range<usize>,
    ) -> Self {
        let stride = first.down.end - first.attention_norm.start;
        take(stride * (count - 1));
        Self { first, stride, count }
    }

    /// The places of one block.
    ///
    /// # Panics
    /// When there is no such block.
    pub fn get(&self, index: usize) -> LayerRanges {
        assert!(index < self.count, "block {index} of {}", self.count);
        self.first.shifted(index * self.stride)
    }

    /// The places of all blocks, in order.
    pub fn iter(&self) -> impl Iterator<Item = LayerRanges> + '_ {
        (0..self.count).map(|index| self.get(index))
    }
}

/// Places of all tensors.
#[derive(Clone, Debug)]
pub struct Layout {
    /// `[V, D]`.
    pub embedding: Range<usize>,
    /// One for each block.
    pub layers: Layers,
    /// `[D]`.
    pub final_norm: Range<usize>,
    /// `[V, D]`; the embedding itself where it is tied.
    pub lm_head: Range<usize>,
    /// Number of parameters.
    pub len: usize,
}

/// Which ends of a model some of its layers are held with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The embedding is here.
    pub first: bool,
    /// The final norm and the output layer are here.
    pub last: bool,
}

impl Layout {
    /// The places for a configuration.
    pub fn new(config: &Config) -> Self {
        Self::of_stage(config, Ends { first: true, last: true })
    }

    /// The places in one stage of a pipeline, whose number of layers `config` has. What is elsewhere is empty here.
    pub fn of_stage(config: &Config, ends: Ends) -> Self {
        let mut end = 0;
        let mut take = |length: usize| {
            let start = end;
            end += length;
            start..end
        };
        let table = config.vocab_size * config.dim;
        let embedding = take(if ends.first { table } else { 0 });
        let layer = LayerRanges {
            attention_norm: take(config.dim),
            qkv: take(config.qkv_dim() * config.dim),
            output: take(config.dim * config.attention_dim()),
            ffn_norm: take(config.dim),
            gate_up: take(2 * config.ffn_dim * config.dim),
            down: take(config.dim * config.ffn_dim),
        };
        let layers = Layers::after(layer, config.layers, &mut take);
        let final_norm = take(if ends.last { config.dim } else { 0 });
        let lm_head = match ends {
            Ends { last: false, .. } => take(0),
            Ends { first: true, .. } if config.tied_embeddings => embedding.clone(),
            Ends { .. } => take(table),
        };
        Self { embedding, layers, final_norm, lm_head, len: end }
    }
}

/// The weights of one model.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The shape that they belong to.
    pub config: Config,
    /// All parameters, in the order of [`Layout`].
    pub data: Buffer,
}

impl Weights {
    /// All zeros.
    pub fn zeros(config: &Config) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self { config: config.clone(), data: Buffer::zeros(Layout::new(config).len) })
    }

    /// Random weights: norms 1, matrices normal.
    ///
    /// A matrix has the deviation `1 / sqrt(inputs)`, so that what comes out of it is as large as what went in; those
    /// that write to the residual stream (attention output, down) are smaller by `sqrt(2 * layers)`, as in GPT-2 and
    /// its descendants. The embedding has the deviation 1, as in torchtitan's Llama 3, unless it is the output layer
    /// too. `docs/log.md` has what this is worth against 0.02 everywhere.
    pub fn init(config: &Config, rng: &mut Rng) -> Result<Self, Error> {
        let mut weights = Self::zeros(config)?;
        let residual = (2.0 * config.layers as f32).sqrt();
        for tensor in tensors(config) {
            let name = tensor.name.as_str();
            if name.ends_with("norm.weight") {
                weights.data[tensor.range].fill(1.0);
                continue;
            }
            let kept = (tensor.shape[1] as f32).sqrt();
            let deviation = if name == "model.embed_tokens.weight" && !config.tied_embeddings {
                1.0
            } else if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
                1.0 / (kept * residual)
            } else {
                1.0 / kept
            };
            for value in &mut weights.data[tensor.range] {
                *value = rng.normal() * deviation;
            }
        }
        Ok(weights)
    }

    /// Values of a tensor by its Hugging Face name. The tied `lm_head.weight` is not a tensor of its own.
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        tensors(&self.config)
            .into_iter()
            .find(|tensor| tensor.name == name)
            .map(|tensor| &self.data[tensor.range])
    }
}

/// All tensors of a model in the order of the flat vector, with their Hugging Face names.
pub fn tensors(config: &Config) -> Vec<TensorSpec> {
    let layout = Layout::new(config);
    let (dim, head_dim) = (config.dim, config.head_dim);
    let mut all = Vec::with_capacity(9 * config.layers + 3);
    let mut push = |name: String, shape: &[usize], start: usize| {
        let length: usize = shape.iter().product();
        all.push(TensorSpec { name, shape: shape.to_vec(), range: start..start + length });
        start + length
    };
    push("model.embed_tokens.weight".into(), &[config.vocab_size, dim], layout.embedding.start);
    for (index, layer) in layout.layers.iter().enumerate() {
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        push(name("input_layernorm"), &[dim], layer.attention_norm.start);
        let keys = push(name("self_attn.q_proj"), &[config.heads * head_dim, dim], layer.qkv.start);
        let values = push(name("self_attn.k_proj"), &[config.kv_heads * head_dim, dim], keys);
        push(name("self_attn.v_proj"), &[config.kv_heads * head_dim, dim], values);
        push(name("self_attn.o_proj"), &[dim, config.attention_dim()], layer.output.start);
        push(name("post_attention_layernorm"), &[dim], layer.ffn_norm.start);
        let up = push(name("mlp.gate_proj"), &[config.ffn_dim, dim], layer.gate_up.start);
        push(name("mlp.up_proj"), &[config.ffn_dim, dim], up);
        push(name("mlp.down_proj"), &[dim, config.ffn_dim], layer.down.start);
    }
    push("model.norm.weight".into(), &[dim], layout.final_norm.start);
    if !config.tied_embeddings {
        push("lm_head.weight".into(), &[config.vocab_size, dim], layout.lm_head.start);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tensors_cover_the_flat_vector_once() {
        for tied_embeddings in [false, true] {
            let config = Config {
                dim: 24,
                layers: 3,
                heads: 6,
                kv_heads: 2,
                head_dim: 4,
                ffn_dim: 40,
                vocab_size: 50,
                tied_embeddings,
                ..Config::preset("8b").unwrap()
            };
            let mut end = 0;
            for tensor in tensors(&config) {
                assert_eq!(tensor.range.start, end, "{}", tensor.name);
                assert_eq!(tensor.range.len(), tensor.shape.iter().product::<usize>());
                end = tensor.range.end;
            }
            assert_eq!(end as u64, config.parameters());
        }
    }
}
