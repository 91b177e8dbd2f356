//! The arena of one training pass: every activation and every buffer, sized once from the configuration and the
//! batch. A step allocates nothing.

use kernels::attention::Shape;
use kernels::buffer::Buffer;
use kernels::gemm::Precision;
use kernels::kept::{Bf16Buffer, bf16};
use kernels::{cross_entropy, rms_norm, rope};

use crate::phases::{Phases, Working};
use crate::recompute::{Again, Recompute};
use crate::{Batch, Config};

/// What one block keeps from its forward for its backward.
///
/// The normalised inputs are not kept: writing them again from `x` and one number a row costs a pass over
/// memory, keeping them would cost two matrices a layer. What [`Again`] drops is empty here, and so is what is
/// [`Rounded`].
pub(crate) struct Saved {
    pub again: Again,
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
    pub rounded: Rounded,
}

/// What a block keeps in bf16 instead, where the workspace is asked to: shapes and uses as in [`Saved`]. The forward has
/// its values in f32, in buffers that all layers share; the backward has these. An input from which a layer computes
/// something again is not among them, since that has to come out as it was.
#[derive(Default)]
pub(crate) struct Rounded {
    pub x: Bf16Buffer,
    pub qkv: Bf16Buffer,
    pub attention: Bf16Buffer,
    pub middle: Bf16Buffer,
    pub gate_up: Bf16Buffer,
}

/// Which of the buffers of [`Saved`], or of [`Rounded`], there are.
#[derive(Clone, Copy, Default)]
struct Kept {
    x: bool,
    /// Of [`Saved`]'s alone.
    log_sums: bool,
    /// Queries, keys and values, and attention's output.
    attention: bool,
    middle: bool,
    gate_up: bool,
}

impl Saved {
    /// The buffers of a layer in a backward, or of the layers that share what they do not keep.
    fn new(config: &Config, tokens: usize, again: Again, plain: Kept, rounded: Kept) -> Self {
        let buffer = |kept: bool, width: usize| Buffer::zeros(if kept { tokens * width } else { 0 });
        let half = |kept: bool, width: usize| Bf16Buffer::zeros(if kept { tokens * width } else { 0 });
        Self {
            again,
            x: buffer(plain.x, config.dim),
            attention_inverse_rms: buffer(true, 1),
            qkv: buffer(plain.attention, config.qkv_dim()),
            attention: buffer(plain.attention, config.attention_dim()),
            log_sums: buffer(plain.log_sums, config.heads),
            middle: buffer(plain.middle, config.dim),
            ffn_inverse_rms: buffer(true, 1),
            gate_up: buffer(plain.gate_up, 2 * config.ffn_dim),
            rounded: Rounded {
                x: half(rounded.x, config.dim),
                qkv: half(rounded.attention, config.qkv_dim()),
                attention: half(rounded.attention, config.attention_dim()),
                middle: half(rounded.middle, config.dim),
                gate_up: half(rounded.gate_up, 2 * config.ffn_dim),
            },
        }
    }

    fn bytes(&self) -> usize {
        let Self {
            again: _,
            x,
            attention_inverse_rms,
            qkv,
            attention,
            log_sums,
            middle,
            ffn_inverse_rms,
            gate_up,
            rounded,
        } = self;
        let all = [x, attention_inverse_rms, qkv, attention, log_sums, middle, ffn_inverse_rms, gate_up];
        let plain: usize = all.iter().map(|buffer| buffer.len() * size_of::<f32>()).sum();
        let Rounded { x, qkv, attention, middle, gate_up } = rounded;
        plain + [x, qkv, attention, middle, gate_up].iter().map(|buffer| buffer.bytes()).sum::<usize>()
    }
}

/// Where one block's activations are: in the layer's own buffers, or in those that all layers share.
pub(crate) struct Activations<'a> {
    pub attention_inverse_rms: &'a mut [f32],
    pub qkv: &'a mut [f32],
    pub attention: &'a mut [f32],
    pub log_sums: &'a mut [f32],
    pub middle: &'a mut [f32],
    pub ffn_inverse_rms: &'a mut [f32],
    pub gate_up: &'a mut [f32],
    pub rounded: RoundedActivations<'a>,
}

/// [`Rounded`]: what the layer keeps, and to work on what any has; else empty.
#[derive(Default)]
pub(crate) struct RoundedActivations<'a> {
    pub x: &'a mut [bf16],
    pub qkv: &'a mut [bf16],
    pub attention: &'a mut [bf16],
    pub middle: &'a mut [bf16],
    pub gate_up: &'a mut [bf16],
}

/// The layer's input where it is kept (else empty), and its other activations.
pub(crate) fn activations<'a>(
    own: Option<&'a mut Saved>,
    shared: &'a mut Saved,
    working: Working<'a>,
) -> (&'a mut [f32], Activations<'a>) {
    fn choose<'a, T>(own: &'a mut [T], shared: &'a mut [T]) -> &'a mut [T] {
        if own.is_empty() { shared } else { own }
    }
    let Saved { attention_inverse_rms, log_sums, middle, ffn_inverse_rms, rounded: shared_rounded, .. } =
        shared;
    let Working { qkv, attention, gate_up } = working;
    let Some(own) = own else {
        let rounded = RoundedActivations::default();
        let activations = Activations {
            attention_inverse_rms,
            qkv,
            attention,
            log_sums,
            middle,
            ffn_inverse_rms,
            gate_up,
            rounded,
        };
        return (&mut [], activations);
    };
    let Rounded { x, qkv: own_qkv, attention: own_attention, middle: own_middle, gate_up: own_gate_up } =
        &mut own.rounded;
    let rounded = RoundedActivations {
        x,
        qkv: own_qkv,
        attention: own_attention,
        middle: own_middle,
        gate_up: choose(own_gate_up, &mut shared_rounded.gate_up),
    };
    let activations = Activations {
        attention_inverse_rms: &mut own.attention_inverse_rms,
        qkv: choose(&mut own.qkv, qkv),
        attention: choose(&mut own.attention, attention),
        log_sums: choose(&mut own.log_sums, log_sums),
        middle: choose(&mut own.middle, middle),
        ffn_inverse_rms: &mut own.ffn_inverse_rms,
        gate_up: choose(&mut own.gate_up, gate_up),
        rounded,
    };
    (&mut own.x, activations)
}

/// All buffers for passes over `rows` sequences of `seq_len` tokens.
pub struct Workspace {
    pub(crate) rows: usize,
    pub(crate) seq_len: usize,
    pub(crate) table: rope::Table,
    /// `[T]`: each token's position in its document.
    pub(crate) positions: Vec<u32>,
    /// Whether layers keep what they can in bf16.
    pub(crate) rounds: bool,
    /// What each layer keeps; empty in a workspace for the forward alone.
    pub(crate) saved: Vec<Saved>,
    /// What the layers do not keep, written by each in turn, as far as it is not in `output`'s memory.
    pub(crate) shared: Saved,
    /// `[T, D]`: the residual stream. Where layers round, a backward has a layer's input here, or its middle.
    pub(crate) x: Buffer,
    /// `[T, D]`: a normalised input.
    pub(crate) normed: Buffer,
    /// `[T]`.
    pub(crate) final_inverse_rms: Buffer,
    /// `[T, D]`: gradient of the residual stream.
    pub(crate) dx: Buffer,
    /// `[T, D]`: gradient of a normalised input.
    pub(crate) dnormed: Buffer,
    /// `[T]`.
    pub(crate) losses: Buffer,
    pub(crate) norm_partial: Buffer,
    /// What a layer works in lies in this one's memory: no layer runs while the output layer does.
    pub(crate) output: cross_entropy::Scratch,
    pub(crate) phases: Phases,
    /// Weight of the z-loss that a pass adds to each token's cross-entropy; 0 at first.
    pub z_loss: f32,
}

impl Workspace {
    /// Buffers for training: forward and backward, with everything kept that the backward needs.
    pub fn new(config: &Config, rows: usize, seq_len: usize) -> Self {
        Self::recomputing(config, rows, seq_len, &Recompute::default())
    }

    /// Buffers for training whose layers compute again what `recompute` says. The results are the same bits.
    pub fn recomputing(config: &Config, rows: usize, seq_len: usize, recompute: &Recompute) -> Self {
        Self::keeping(config, rows, seq_len, recompute, Precision::F32)
    }

    /// [`Workspace::recomputing`], whose layers keep their activations in a precision. In bf16 that is half the memory, and
    /// spares products the rounding of what they read. The forward is not changed by it; gradients are those of rounded
    /// activations, as under PyTorch's autocast, again the same bits whatever `recompute` says.
    pub fn keeping(
        config: &Config,
        rows: usize,
        seq_len: usize,
        recompute: &Recompute,
        kept: Precision,
    ) -> Self {
        let layers: Vec<Again> = (0..config.layers).map(|index| recompute.layer(index)).collect();
        let any = |drops: fn(Again) -> bool| layers.iter().any(|&again| drops(again));
        let rounds = kept == Precision::Bf16;
        // Where layers round, all of them work in the shared buffers; the stream's own has the layer's input and middle.
        let shared = Kept {
            x: false,
            log_sums: any(Again::attention),
            attention: rounds || any(Again::attention),
            middle: !rounds && any(|again| again == Again::All),
            gate_up: rounds || any(Again::feed_forward),
        };
        Self::with_layers(config, rows, seq_len, &layers, shared, rounds)
    }

    /// Buffers for the forward alone: one block's activations, used again by each.
    pub fn forward_only(config: &Config, rows: usize, seq_len: usize) -> Self {
        let shared = Kept { x: false, log_sums: true, attention: true, middle: true, gate_up: true };
        Self::with_layers(config, rows, seq_len, &[], shared, false)
    }

    fn with_layers(
        config: &Config,
        rows: usize,
        seq_len: usize,
        layers: &[Again],
        shared: Kept,
        rounds: bool,
    ) -> Self {
        let tokens = rows * seq_len;
        let backward = !layers.is_empty();
        let buffer = |width: usize| Buffer::zeros(tokens * width);
        let for_backward = |width: usize| Buffer::zeros(if backward { tokens * width } else { 0 });
        let saved = |&again: &Again| {
            let all = Kept {
                x: true,
                log_sums: !again.attention(),
                attention: !again.attention(),
                middle: again != Again::All,
                gate_up: !again.feed_forward(),
            };
            if !rounds {
                return Saved::new(config, tokens, again, all, Kept::default());
            }
            // What is computed again is computed from these as they were.
            let (x, middle) = (again.attention(), again == Again::FeedForward);
            let plain = Kept { x, middle, log_sums: all.log_sums, ..Kept::default() };
            let rounded = Kept { x: !x, middle: all.middle && !middle, ..all };
            Saved::new(config, tokens, again, plain, rounded)
        };
        let again = layers.iter().any(|again| again.feed_forward());
        let shared_rounded = Kept { gate_up: rounds && again, ..Kept::default() };
        let phases = Phases::new(config, tokens, shared.attention, shared.gate_up, again, backward);
        let shared = Kept { attention: false, gate_up: false, ..shared };
        let output = if rounds { cross_entropy::Scratch::rounding } else { cross_entropy::Scratch::new };
        Self {
            rows,
            seq_len,
            table: rope::Table::new(&config.rope_frequencies(), seq_len),
            positions: vec![0; tokens],
            rounds,
            saved: layers.iter().map(saved).collect(),
            shared: Saved::new(config, tokens, Again::Nothing, shared, shared_rounded),
            x: buffer(config.dim),
            normed: buffer(config.dim),
            final_inverse_rms: buffer(1),
            dx: for_backward(config.dim),
            dnormed: for_backward(config.dim),
            losses: buffer(1),
            norm_partial: Buffer::zeros(if backward { rms_norm::partial_len(tokens, config.dim) } else { 0 }),
            output: output(tokens, config.dim, config.vocab_size).with_memory(phases.len()),
            phases,
            z_loss: 0.0,
        }
    }

    /// Bytes held by the buffers; the rotary table is not counted.
    pub fn bytes(&self) -> usize {
        let Self { x, normed, final_inverse_rms, dx, dnormed, .. } = self;
        let buffers = [x, normed, final_inverse_rms, dx, dnormed];
        let floats = buffers.iter().map(|buffer| buffer.len()).sum::<usize>()
            + self.losses.len()
            + self.norm_partial.len();
        let positions = self.positions.len() * size_of::<u32>();
        self.activation_bytes() + floats * size_of::<f32>() + positions + self.output.bytes()
    }

    /// Of these, the bytes of what the layers keep from their forward for their backward, and share where they do not.
    pub fn activation_bytes(&self) -> usize {
        self.saved.iter().chain([&self.shared]).map(Saved::bytes).sum()
    }

    /// Each token's cross-entropy of the last pass, in nats, 0 where its weight is 0: `[T]`.
    pub fn losses(&self) -> &[f32] {
        &self.losses
    }

    /// The residual stream `[T, D]` after the last layer of the last forward: what a stage of a pipeline hands on. A backward
    /// may overwrite it.
    pub fn stream(&self) -> &[f32] {
        &self.x
    }

    /// The gradient `[T, D]` of what went into the first layer of the last backward: what a stage hands back.
    pub fn stream_gradient(&self) -> &[f32] {
        &self.dx
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
