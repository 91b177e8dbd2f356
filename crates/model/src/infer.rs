//! Inference: the same blocks over cached keys and values, for any number of sequences at once.
//!
//! Weights are packed once for the matrix product. Each token's result is the same to the bit alone, in any batch,
//! and however its prompt was cut into passes.

use kernels::attention::{CachedQueries, forward_cached};
use kernels::gemm::{Accumulate, Packed, Precision, View};
use kernels::{embedding, rms_norm, rope};

use crate::forward::{BlockBuffers, BlockWeights, Linear, Storage, block};
use crate::group::Solo;
use crate::weights::Layout;
use crate::workspace::attention_shape;
use crate::{Config, Error, Weights};

/// Positions that a cache grows by.
const CACHE_STEP: usize = 256;

/// A model ready to answer.
pub struct Llama {
    config: Config,
    precision: Precision,
    embedding: Vec<f32>,
    layers: Vec<PackedLayer>,
    final_norm: Vec<f32>,
    lm_head: Packed,
    table: rope::Table,
}

struct PackedLayer {
    attention_norm: Vec<f32>,
    qkv: Packed,
    output: Packed,
    ffn_norm: Vec<f32>,
    gate_up: Packed,
    down: Packed,
}

/// Keys and values of one sequence, layer by layer.
pub struct KvCache {
    /// Keys and values of each layer: `[capacity, K C]`.
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    width: usize,
    len: usize,
}

/// New tokens of one sequence, and its cache.
pub struct Segment<'a> {
    /// At least one token.
    pub tokens: &'a [u32],
    /// Grows by the tokens.
    pub cache: &'a mut KvCache,
}

/// Which tokens' logits a pass returns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted {
    /// Those of each segment's last token.
    Last,
    /// Those of all tokens.
    All,
}

/// Logits of a pass: rows in the order of segments (and tokens).
pub struct Logits<'a> {
    values: &'a [f32],
    vocab_size: usize,
}

impl Logits<'_> {
    /// The logits of a row, `[V]`.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.vocab_size..(index + 1) * self.vocab_size]
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.vocab_size
    }
}

/// Buffers of a pass; they grow to the largest and stay.
#[derive(Default)]
pub struct Scratch {
    x: Vec<f32>,
    normed: Vec<f32>,
    inverse_rms: Vec<f32>,
    second_inverse_rms: Vec<f32>,
    qkv: Vec<f32>,
    attention: Vec<f32>,
    gate_up: Vec<f32>,
    hidden: Vec<f32>,
    selected: Vec<f32>,
    logits: Vec<f32>,
    tokens: Vec<u32>,
    positions: Vec<u32>,
}

impl KvCache {
    /// An empty cache with room for `capacity` tokens; it grows when they are more.
    pub fn new(config: &Config, capacity: usize) -> Self {
        let width = config.kv_heads * config.head_dim;
        let room = || Vec::with_capacity(capacity * width);
        Self { layers: (0..config.layers).map(|_| (room(), room())).collect(), width, len: 0 }
    }

    /// Tokens held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all tokens from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn make_room(&mut self, tokens: usize) {
        let values = (self.len + tokens) * self.width;
        for (keys, held) in &mut self.layers {
            for cache in [keys, held] {
                if cache.len() < values {
                    cache.resize(values.next_multiple_of(CACHE_STEP * self.width), 0.0);
                }
            }
        }
    }
}

impl Llama {
    /// Packs a model's weights; `max_seq_len` bounds the positions (and the rotary table).
    pub fn new(weights: &Weights, precision: Precision, max_seq_len: usize) -> Self {
        let config = weights.config.clone();
        let layout = Layout::new(&config);
        let matrix = |range: &std::ops::Range<usize>, out: usize| {
            let values = &weights.data[range.clone()];
            let input = values.len() / out;
            Packed::new(precision, View::new(values, out, input, input).transposed())
        };
        let vector = |range: &std::ops::Range<usize>| weights.data[range.clone()].to_vec();
        let layers = layout
            .layers
            .iter()
            .map(|places| PackedLayer {
                attention_norm: vector(&places.attention_norm),
                qkv: matrix(&places.qkv, config.qkv_dim()),
                output: matrix(&places.output, config.dim),
                ffn_norm: vector(&places.ffn_norm),
                gate_up: matrix(&places.gate_up, 2 * config.ffn_dim),
                down: matrix(&places.down, config.dim),
            })
            .collect();
        Self {
            precision,
            embedding: vector(&layout.embedding),
            layers,
            final_norm: vector(&layout.final_norm),
            lm_head: matrix(&layout.lm_head, config.vocab_size),
            table: rope::Table::new(&config.rope_frequencies(), max_seq_len.min(config.max_seq_len)),
            config,
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of the matrices that a pass reads, however many tokens it has.
    pub fn pass_bytes(&self) -> usize {
        let layer = |layer: &PackedLayer| {
            [&layer.qkv, &layer.output, &layer.gate_up, &layer.down]
                .iter()
                .map(|one| one.bytes())
                .sum::<usize>()
        };
        self.layers.iter().map(layer).sum::<usize>() + self.lm_head.bytes()
    }

    /// Positions that a sequence can have.
    pub fn max_seq_len(&self) -> usize {
        self.table.positions()
    }

    /// Runs the new tokens of all segments in one pass, adds them to the caches, and returns logits.
    ///
    /// # Errors
    /// A token outside the vocabulary, a segment without tokens, or a sequence longer than
    /// [`Llama::max_seq_len`]; the caches are then as they were.
    pub fn forward<'s>(
        &self,
        segments: &mut [Segment],
        wanted: Wanted,
        scratch: &'s mut Scratch,
    ) -> Result<Logits<'s>, Error> {
        let config = &self.config;
        scratch.tokens.clear();
        scratch.positions.clear();
        for (index, segment) in segments.iter_mut().enumerate() {
            let (first, count) = (segment.cache.len, segment.tokens.len());
            if count == 0 {
                return Err(Error::Batch(format!("segment {index} has no tokens")));
            }
            if first + count > self.max_seq_len() {
                return Err(Error::Batch(format!(
                    "segment {index} would be {} tokens long; the model's limit is {}",
                    first + count,
                    self.max_seq_len()
                )));
            }
            if let Some(token) = segment.tokens.iter().find(|&&token| token as usize >= config.vocab_size) {
                let vocab_size = config.vocab_size;
                return Err(Error::Batch(format!("token {token} is outside the vocabulary of {vocab_size}")));
            }
            scratch.tokens.extend_from_slice(segment.tokens);
            scratch.positions.extend(first as u32..(first + count) as u32);
        }
        for segment in segments.iter_mut() {
            segment.cache.make_room(segment.tokens.len());
        }
        self.blocks(segments, scratch);
        for segment in segments.iter_mut() {
            segment.cache.len += segment.tokens.len();
        }
        Ok(self.output(segments, wanted, scratch))
    }

    fn blocks(&self, segments: &mut [Segment], scratch: &mut Scratch) {
        let config = &self.config;
        let count = scratch.tokens.len();
        let Scratch {
            x,
            normed,
            inverse_rms,
            second_inverse_rms,
            qkv,
            attention,
            gate_up,
            hidden,
            tokens,
            positions,
            ..
        } = scratch;
        x.resize(count * config.dim, 0.0);
        normed.resize(count * config.dim, 0.0);
        inverse_rms.resize(count, 0.0);
        qkv.resize(count * config.qkv_dim(), 0.0);
        attention.resize(count * config.attention_dim(), 0.0);
        gate_up.resize(count * 2 * config.ffn_dim, 0.0);
        hidden.resize(count * config.ffn_dim, 0.0);
        embedding::forward(x, &self.embedding, tokens, config.dim);
        second_inverse_rms.resize(count, 0.0);
        for (index, layer) in self.layers.iter().enumerate() {
            let weights = BlockWeights {
                attention_norm: &layer.attention_norm,
                qkv: Linear::new("qkv", Storage::Packed(&layer.qkv)),
                output: Linear::new("attn output", Storage::Packed(&layer.output)),
                ffn_norm: &layer.ffn_norm,
                gate_up: Linear::new("gate_up", Storage::Packed(&layer.gate_up)),
                down: Linear::new("down", Storage::Packed(&layer.down)),
            };
            let buffers = BlockBuffers {
                normed,
                attention_inverse_rms: inverse_rms,
                qkv,
                attention,
                middle: None,
                ffn_inverse_rms: second_inverse_rms,
                gate_up,
                hidden,
            };
            block(config, &weights, &Solo, x, buffers, positions, &self.table, self.precision, |out, qkv| {
                self.attend(segments, index, out, qkv);
            });
        }
    }

    /// Moves the new keys and values of one layer into the caches, and attends.
    fn attend(&self, segments: &mut [Segment], layer: usize, mut out: &mut [f32], mut qkv: &mut [f32]) {
        let config = &self.config;
        let (width, out_width) = (config.qkv_dim(), config.attention_dim());
        let kv_width = config.kv_heads * config.head_dim;
        let mut sequences = Vec::with_capacity(segments.len());
        for segment in segments.iter_mut() {
            let (first, count) = (segment.cache.len, segment.tokens.len());
            let (rows, rest) = std::mem::take(&mut qkv).split_at_mut(count * width);
            qkv = rest;
            let (out_rows, rest) = std::mem::take(&mut out).split_at_mut(count * out_width);
            out = rest;
            let (keys, values) = &mut segment.cache.layers[layer];
            for (token, row) in rows.chunks_exact(width).enumerate() {
                let place = (first + token) * kv_width..(first + token + 1) * kv_width;
                keys[place.clone()].copy_from_slice(&row[out_width..out_width + kv_width]);
                values[place].copy_from_slice(&row[out_width + kv_width..]);
            }
            sequences.push(CachedQueries {
                queries: rows,
                stride: width,
                keys,
                values,
                first,
                out: out_rows,
            });
        }
        forward_cached(&mut sequences, attention_shape(config), self.precision);
    }

    fn output<'s>(&self, segments: &[Segment], wanted: Wanted, scratch: &'s mut Scratch) -> Logits<'s> {
        let Config { dim, vocab_size, norm_eps, .. } = self.config;
        let Scratch { x, normed, inverse_rms, selected, logits, .. } = scratch;
        let hidden: &[f32] = match wanted {
            Wanted::All => x,
            Wanted::Last => {
                selected.clear();
                let mut end = 0;
                for segment in segments {
                    end += segment.tokens.len();
                    selected.extend_from_slice(&x[(end - 1) * dim..end * dim]);
                }
                selected
            }
        };
        let rows = hidden.len() / dim;
        let normed = &mut normed[..rows * dim];
        rms_norm::forward(normed, &mut inverse_rms[..rows], hidden, &self.final_norm, norm_eps);
        logits.resize(rows * vocab_size, 0.0);
        let lm_head = Linear::new("output layer", Storage::Packed(&self.lm_head));
        lm_head.forward(logits, normed, vocab_size, self.precision, Accumulate::Overwrite);
        Logits { values: logits, vocab_size }
    }
}
