//! The arena of one training pass: every activation and every buffer, sized once from the configuration and the
//! batch. A step allocates nothing.

use kernels::attention::Shape;
use kernels::buffer::Buffer;
use kernels::{cross_entropy, rms_norm, rope};

use crate::{Batch, Config};

/// What one block keeps from its forward for its backward.
///
/// The normalised inputs are not kept: writing them again from `x` and one number a row costs a pass over
/// memory, keeping them would cost two matrices a layer.
pub(crate) struct Saved {
    /// `[T, D]`: what came into the block.
    pub x: Buffer,
    /// `[T]`.
    pub attention_inverse_rms: Buffer,
    /// `[T, (H + 2K) C]`, rotated.
    pub qkv: Buffer,
    /// `[T, H C]`.
    pub attention: Buffer,
    /// `[T, H]`.
    pub log_sums: Buffer,
    /// `[T, D]`: what went into the feed-forward's norm.
    pub middle: Buffer,
    /// `[T]`.
    pub ffn_inverse_rms: Buffer,
    /// `[T, 2F]`; the backward turns it into its gradient in place.
    pub gate_up: Buffer,
}

/// All buffers for passes over `rows` sequences of `seq_len` tokens.
pub struct Workspace {
    pub(crate) rows: usize,
    pub(crate) seq_len: usize,
    pub(crate) table: rope::Table,
    /// `[T]`: each token's position in its document.
    pub(crate) positions: Vec<u32>,
    pub(crate) saved: Vec<Saved>,
    /// `[T, D]`: the residual stream.
    pub(crate) x: Buffer,
    /// `[T, D]`: a normalised input.
    pub(crate) normed: Buffer,
    /// `[T]`.
    pub(crate) final_inverse_rms: Buffer,
    /// `[T, F]`: SwiGLU's output, and its gradient.
    pub(crate) hidden: Buffer,
    /// `[T, D]`: gradient of the residual stream.
    pub(crate) dx: Buffer,
    /// `[T, D]`: gradient of a normalised input.
    pub(crate) dnormed: Buffer,
    /// `[T, H C]`.
    pub(crate) dattention: Buffer,
    /// `[T, (H + 2K) C]`.
    pub(crate) dqkv: Buffer,
    /// `[T]`.
    pub(crate) losses: Buffer,
    pub(crate) norm_partial: Buffer,
    pub(crate) output: cross_entropy::Scratch,
    /// Weight of the z-loss that a pass adds to each token's cross-entropy; 0 at first.
    pub z_loss: f32,
}

impl Workspace {
    /// Buffers for training: forward and backward.
    pub fn new(config: &Config, rows: usize, seq_len: usize) -> Self {
        Self::with_layers(config, rows, seq_len, config.layers, true)
    }

    /// Buffers for the forward alone: one block's activations, used again by each.
    pub fn forward_only(config: &Config, rows: usize, seq_len: usize) -> Self {
        Self::with_layers(config, rows, seq_len, 1, false)
    }

    fn with_layers(config: &Config, rows: usize, seq_len: usize, layers: usize, backward: bool) -> Self {
        let tokens = rows * seq_len;
        let buffer = |width: usize| Buffer::zeros(tokens * width);
        let for_backward = |width: usize| Buffer::zeros(if backward { tokens * width } else { 0 });
        let saved = || Saved {
            x: buffer(config.dim),
            attention_inverse_rms: buffer(1),
            qkv: buffer(config.qkv_dim()),
            attention: buffer(config.attention_dim()),
            log_sums: buffer(config.heads),
            middle: buffer(config.dim),
            ffn_inverse_rms: buffer(1),
            gate_up: buffer(2 * config.ffn_dim),
        };
        Self {
            rows,
            seq_len,
            table: rope::Table::new(&config.rope_frequencies(), seq_len),
            positions: vec![0; tokens],
            saved: (0..layers).map(|_| saved()).collect(),
            x: buffer(config.dim),
            normed: buffer(config.dim),
            final_inverse_rms: buffer(1),
            hidden: buffer(config.ffn_dim),
            dx: for_backward(config.dim),
            dnormed: for_backward(config.dim),
            dattention: for_backward(config.attention_dim()),
            dqkv: for_backward(config.qkv_dim()),
            losses: buffer(1),
            norm_partial: Buffer::zeros(if backward { rms_norm::partial_len(tokens, config.dim) } else { 0 }),
            output: cross_entropy::Scratch::new(tokens, config.dim, config.vocab_size),
            z_loss: 0.0,
        }
    }

    /// Each token's cross-entropy of the last pass, in nats, 0 where its weight is 0: `[T]`.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// Reads the batch's positions. The batch was validated.
    pub(crate) fn prepare(&mut self, batch: &Batch) {
        assert!(
            batch.rows == self.rows && batch.seq_len == self.seq_len,
            "a batch of {} x {} in a workspace for {} x {}",
            batch.rows,
            batch.seq_len,
            self.rows,
            self.seq_len
        );
        for (place, (position, &start)) in self.positions.iter_mut().zip(&batch.document_starts).enumerate() {
            *position = (place % self.seq_len) as u32 - start;
        }
    }
}

/// The attention's shape.
pub(crate) fn attention_shape(config: &Config) -> Shape {
    Shape { heads: config.heads, kv_heads: config.kv_heads, head_dim: config.head_dim }
}
