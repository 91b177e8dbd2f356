//! All of Llama 3's forward: embedding, blocks of attention and feed-forward, final norm, output layer.
//!
//! [`block`] is the one definition of a block; training, evaluation and serving differ only in where attention
//! finds its keys and values. Shapes: `T` tokens, `D` width, `H`/`K` query and key/value heads of width `C`, `F`
//! feed-forward width, `V` vocabulary.

use kernels::cross_entropy::LmHead;
use kernels::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use kernels::kept::{self, bf16};
use kernels::meter::{self, Pass};
use kernels::rope::Turn;
use kernels::{attention, cross_entropy, quant, reduce, rms_norm, rope, swiglu};

use crate::group::{Group, Solo};
use crate::infer::Added;
use crate::low_rank::LowRank;
use crate::parameters::Parameters;
use crate::phases::Forward;
use crate::stacked::Stacked;
use crate::weights::{LayerRanges, Layout};
use crate::workspace::{Activations, activations, attention_shape};
use crate::{Batch, Config, Error, Workspace};

/// Writes each token's cross-entropy to [`Workspace::losses`]; returns the weighted sum and the sum of weights.
///
/// A [`Workspace::forward_only`] is enough. The batch must have the workspace's shape.
pub fn loss(
    parameters: &impl Parameters,
    batch: &Batch,
    workspace: &mut Workspace,
    precision: Precision,
) -> Result<LossSums, Error> {
    stage(parameters, &Solo, batch, None, workspace, precision)?;
    let layout = parameters.layout();
    final_norm(parameters, &layout, workspace);
    Ok(output_layer(parameters, &layout, batch, workspace, None, precision))
}

/// Logits `[T, V]` of every token of a batch; for comparisons with other implementations on small models.
pub fn logits(
    parameters: &impl Parameters,
    batch: &Batch,
    workspace: &mut Workspace,
    precision: Precision,
) -> Result<Vec<f32>, Error> {
    stage(parameters, &Solo, batch, None, workspace, precision)?;
    let layout = parameters.layout();
    final_norm(parameters, &layout, workspace);
    let (tokens, vocab_size) = (batch.tokens(), parameters.config().vocab_size);
    let mut logits = vec![0.0; tokens * vocab_size];
    let lm_head = match parameters.lm_head(&layout) {
        LmHead::Plain(weights) => Storage::Plain(weights),
        LmHead::Frozen(weights) => Storage::Frozen(weights, LowRank::NONE),
    };
    Linear::new("output layer", lm_head).forward(
        &mut logits,
        &workspace.normed,
        vocab_size,
        precision,
        Accumulate::Overwrite,
    );
    Ok(logits)
}

/// What a pass cost: the mean loss is `weighted / weight`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSums {
    /// Sum over tokens of loss weight times cross-entropy, in nats.
    pub weighted: f64,
    /// Sum of the loss weights.
    pub weight: f64,
}

impl LossSums {
    /// In f64, in the calling thread, in the order of the tokens.
    pub(crate) fn new(losses: &[f32], weights: &[f32]) -> Self {
        let (mut weighted, mut weight) = (0.0, 0.0);
        for (&loss, &one) in losses.iter().zip(weights) {
            weighted += f64::from(loss) * f64::from(one);
            weight += f64::from(one);
        }
        Self { weighted, weight }
    }

    /// Mean loss in nats; NaN where nothing counts.
    pub fn mean(self) -> f64 {
        self.weighted / self.weight
    }
}

/// Runs the layers that `parameters` holds, on the batch's tokens, or on the residual stream `[T, D]` that came from the
/// stage before. What goes on to the next stage is then in [`Workspace::stream`].
pub fn stage(
    parameters: &impl Parameters,
    group: &impl Group,
    batch: &Batch,
    stream: Option<&[f32]>,
    workspace: &mut Workspace,
    precision: Precision,
) -> Result<(), Error> {
    let config = parameters.config();
    let layout = parameters.layout();
    batch.validate(config)?;
    workspace.prepare(batch);
    let Workspace { saved, shared, x, normed, output, phases, positions, table, seq_len, .. } = workspace;
    match stream {
        None => parameters.embed(&layout, x, &batch.inputs),
        Some(stream) => {
            assert_eq!(stream.len(), x.len(), "a residual stream of another batch");
            reduce::copy(x, stream);
        }
    }
    for index in 0..config.layers {
        let Forward { working, hidden } = phases.forward(output.memory());
        let (kept_x, activations) = activations(saved.get_mut(index), shared, working);
        let Activations {
            attention_inverse_rms,
            qkv,
            attention,
            log_sums,
            middle,
            ffn_inverse_rms,
            gate_up,
            rounded,
        } = activations;
        if !kept_x.is_empty() {
            reduce::copy(kept_x, x);
        }
        kept::round(rounded.x, x);
        let buffers = BlockBuffers {
            normed,
            attention_inverse_rms,
            qkv,
            attention,
            middle,
            rounded_middle: rounded.middle,
            ffn_inverse_rms,
            gate_up,
            rounded_gate_up: rounded.gate_up,
            hidden,
        };
        let weights = parameters.block(&layout, index);
        block(config, &weights, group, x, buffers, positions, table, precision, |out, qkv| {
            let shape = attention_shape(config);
            attention::forward(out, log_sums, qkv, &batch.document_starts, *seq_len, shape, precision);
            kept::round(rounded.qkv, qkv);
            kept::round(rounded.attention, out);
        });
    }
    Ok(())
}

/// Normalises the residual stream for the output layer.
pub(crate) fn final_norm(parameters: &impl Parameters, layout: &Layout, workspace: &mut Workspace) {
    let Workspace { x, normed, final_inverse_rms, .. } = workspace;
    let weight = parameters.final_norm(layout);
    rms_norm::forward(normed, final_inverse_rms, x, weight, parameters.config().norm_eps);
}

/// The output layer with cross-entropy. With `gradients`, the flat vector, that of the normalised stream goes to
/// `workspace.dnormed` and that of the output layer to its place, overwritten or added as the second says.
pub(crate) fn output_layer(
    parameters: &impl Parameters,
    layout: &Layout,
    batch: &Batch,
    workspace: &mut Workspace,
    gradients: Option<(&mut [f32], Accumulate)>,
    precision: Precision,
) -> LossSums {
    let Workspace { normed, dnormed, losses, output, z_loss, .. } = workspace;
    let input = cross_entropy::Input {
        hidden: normed,
        lm_head: parameters.lm_head(layout),
        targets: &batch.targets,
        weights: &batch.loss_weights,
        dim: parameters.config().dim,
        z_loss: *z_loss,
    };
    let gradients = gradients.map(|(gradients, accumulate)| cross_entropy::Gradients {
        hidden: dnormed,
        lm_head: &mut gradients[layout.lm_head.clone()],
        accumulate,
    });
    cross_entropy::cross_entropy(losses, input, gradients, output, precision);
    LossSums::new(losses, &batch.loss_weights)
}

/// One block's weights; matrices are `[out, in]`.
pub struct BlockWeights<'a> {
    /// `[D]`.
    pub attention_norm: &'a [f32],
    /// `[(H + 2K) C, D]`.
    pub qkv: Linear<'a>,
    /// `[D, H C]`.
    pub output: Linear<'a>,
    /// `[D]`.
    pub ffn_norm: &'a [f32],
    /// `[2 F, D]`.
    pub gate_up: Linear<'a>,
    /// `[D, F]`.
    pub down: Linear<'a>,
}

impl<'a> BlockWeights<'a> {
    /// Those of a block in a flat vector.
    pub(crate) fn plain(data: &'a [f32], places: &LayerRanges) -> Self {
        let part = |range: &std::ops::Range<usize>| &data[range.clone()];
        let plain = |name, range| Linear::new(name, Storage::Plain(part(range)));
        Self {
            attention_norm: part(&places.attention_norm),
            qkv: plain("qkv", &places.qkv),
            output: plain("attn output", &places.output),
            ffn_norm: part(&places.ffn_norm),
            gate_up: plain("gate_up", &places.gate_up),
            down: plain("down", &places.down),
        }
    }
}

/// Where one block writes; the shapes are those of the workspace.
pub(crate) struct BlockBuffers<'a> {
    pub normed: &'a mut [f32],
    pub attention_inverse_rms: &'a mut [f32],
    pub qkv: &'a mut [f32],
    pub attention: &'a mut [f32],
    /// The residual stream between the two halves, where a backward will need it; else empty.
    pub middle: &'a mut [f32],
    /// The same rounded.
    pub rounded_middle: &'a mut [bf16],
    pub ffn_inverse_rms: &'a mut [f32],
    pub gate_up: &'a mut [f32],
    /// The same rounded, where a backward will need it so; else empty.
    pub rounded_gate_up: &'a mut [bf16],
    pub hidden: &'a mut [f32],
}

/// One transformer block on the residual stream `x [T, D]`, in place. `attend(out, qkv)` writes the attention's
/// output `[T, H C]` from the rotated `qkv [T, (H + 2K) C]`. The group's two sums are where the ranks that share a
/// block meet.
#[allow(clippy::too_many_arguments)] // Each is one of the things that a block is made of.
pub(crate) fn block(
    config: &Config,
    weights: &BlockWeights,
    group: &impl Group,
    x: &mut [f32],
    buffers: BlockBuffers,
    positions: &[u32],
    table: &rope::Table,
    precision: Precision,
    attend: impl FnOnce(&mut [f32], &mut [f32]),
) {
    let BlockBuffers {
        normed,
        attention_inverse_rms,
        qkv,
        attention,
        middle,
        rounded_middle,
        ffn_inverse_rms,
        gate_up,
        rounded_gate_up,
        hidden,
    } = buffers;
    let heads = AttentionBuffers { normed, inverse_rms: attention_inverse_rms, qkv, out: attention };
    attention_half(config, weights, x, heads, positions, table, precision, attend);
    weights.output.forward(x, attention, config.dim, precision, group.accumulate());
    group.sum(x);
    if !middle.is_empty() {
        reduce::copy(middle, x);
    }
    kept::round(rounded_middle, x);
    feed_forward_half(config, weights, x, normed, ffn_inverse_rms, gate_up, precision);
    swiglu::forward_keeping(hidden, rounded_gate_up, gate_up, config.ffn_dim);
    weights.down.forward(x, hidden, config.dim, precision, group.accumulate());
    group.sum(x);
}

/// Where the attention half writes.
pub(crate) struct AttentionBuffers<'a> {
    pub normed: &'a mut [f32],
    pub inverse_rms: &'a mut [f32],
    pub qkv: &'a mut [f32],
    pub out: &'a mut [f32],
}

/// The attention half of a block up to the output projection: `out = attend(rope(qkv(norm(x))))`. The backward calls
/// it too, where a layer does not keep what it writes.
#[allow(clippy::too_many_arguments)] // As for `block`.
pub(crate) fn attention_half(
    config: &Config,
    weights: &BlockWeights,
    x: &[f32],
    buffers: AttentionBuffers,
    positions: &[u32],
    table: &rope::Table,
    precision: Precision,
    attend: impl FnOnce(&mut [f32], &mut [f32]),
) {
    let AttentionBuffers { normed, inverse_rms, qkv, out } = buffers;
    let qkv_dim = config.qkv_dim();
    rms_norm::forward(normed, inverse_rms, x, weights.attention_norm, config.norm_eps);
    weights.qkv.forward(qkv, normed, qkv_dim, precision, Accumulate::Overwrite);
    rope::rotate(qkv, qkv_dim, config.heads + config.kv_heads, positions, table, Turn::Forward);
    attend(out, qkv);
}

/// The feed-forward half of a block up to SwiGLU: `gate_up = gate_up(norm(x))`. The backward calls it too.
pub(crate) fn feed_forward_half(
    config: &Config,
    weights: &BlockWeights,
    x: &[f32],
    normed: &mut [f32],
    inverse_rms: &mut [f32],
    gate_up: &mut [f32],
    precision: Precision,
) {
    rms_norm::forward(normed, inverse_rms, x, weights.ffn_norm, config.norm_eps);
    weights.gate_up.forward(gate_up, normed, 2 * config.ffn_dim, precision, Accumulate::Overwrite);
}

/// A linear layer without bias: a weight matrix `[out, in]` and what its products are called.
#[derive(Clone, Copy)]
pub struct Linear<'a> {
    name: &'static str,
    pub(crate) weights: Storage<'a>,
}

/// A weight matrix: as training holds it, packed once for inference (of floats the same bits), or not trained itself.
#[derive(Clone, Copy)]
pub enum Storage<'a> {
    /// Row-major f32.
    Plain(&'a [f32]),
    /// Packed once to serve, as the model's file has it, with what adapters add to some of the rows.
    Stacked(&'a Stacked, Added<'a>),
    /// Quantised and not trained, with the adapters beside it that are.
    Frozen(&'a quant::Matrix, LowRank<'a>),
}

impl<'a> Linear<'a> {
    /// Products with these weights, which a [`meter`] knows under this name.
    pub fn new(name: &'static str, weights: Storage<'a>) -> Self {
        Self { name, weights }
    }

    /// What a product is for, to the end of the scope.
    pub(crate) fn metered(&self, pass: Pass) -> meter::Labelled {
        meter::label(self.name, pass)
    }

    /// `y [T, out]` (=, or += where `accumulate` says so) `x [T, in] Wᵀ`.
    pub(crate) fn forward(
        &self,
        y: &mut [f32],
        x: &[f32],
        out: usize,
        precision: Precision,
        accumulate: Accumulate,
    ) {
        let rows = y.len() / out;
        let input = x.len().checked_div(rows).unwrap_or(0);
        let view = View::new(x, rows, input, input);
        let _metered = self.metered(Pass::Forward);
        match &self.weights {
            Storage::Plain(weights) => {
                let weights = View::new(weights, out, input, input);
                gemm(precision, ViewMut::new(y, rows, out, out), view, weights.transposed(), accumulate);
            }
            Storage::Stacked(weights, added) => {
                weights.forward(y, view, x, accumulate);
                added.forward(y, x, out);
            }
            Storage::Frozen(weights, adapters) => {
                quant::forward(y, x, weights, precision, accumulate);
                adapters.forward(y, x, out, precision);
            }
        }
    }
}
