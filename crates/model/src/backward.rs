//! Llama 3's backward, written out: the operations of [`crate::forward`] in reverse order.
//!
//! Every gradient is added to a flat vector with the layout of what is trained, so micro-batches accumulate; the first
//! one overwrites, which spares a pass over memory to clear it. Shapes as in the forward.

use kernels::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use kernels::kept::{self, Values, bf16};
use kernels::meter::{self, Pass};
use kernels::rope::Turn;
use kernels::{attention, embedding, quant, reduce, rms_norm, rope, swiglu};

use crate::forward::{
    AttentionBuffers, Linear, LossSums, Storage, attention_half, feed_forward_half, final_norm, output_layer,
};
use crate::group::{Group, Solo};
use crate::parameters::Parameters;
use crate::phases::Backward;
use crate::recompute::Again;
use crate::weights::Layout;
use crate::workspace::{Activations, activations, attention_shape};
use crate::{Batch, Config, Error, Workspace, forward};

/// Runs forward and backward. The gradient of the weighted sum of losses (not of its mean) goes to `gradients`,
/// which has the length and layout of what is trained, in place of what was there or added to it; divide by the sum of
/// weights of all micro-batches for the gradient of the mean.
pub fn loss_and_gradients(
    parameters: &impl Parameters,
    batch: &Batch,
    workspace: &mut Workspace,
    gradients: &mut [f32],
    accumulate: Accumulate,
    precision: Precision,
) -> Result<LossSums, Error> {
    forward::stage(parameters, &Solo, batch, None, workspace, precision)?;
    Ok(stage(parameters, &Solo, batch, End::Loss, workspace, gradients, accumulate, precision))
}

/// Where the backward of a stage begins.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// At the loss: the stage is the last one, and `parameters` holds the final norm and the output layer.
    Loss,
    /// At the gradient `[T, D]` of what [`forward::stage`] handed on, as the next stage's
    /// [`Workspace::stream_gradient`] has it.
    Gradient(&'a [f32]),
}

/// The backward of the layers that `parameters` holds, after [`forward::stage`] on the same batch and workspace. The
/// gradient of the stage's input is then in [`Workspace::stream_gradient`]; a stage that holds the embedding has passed
/// it on to that. Returns nothing but zeros unless the stage ends at the loss.
///
/// # Panics
/// When `gradients` has another length than the layout of what is trained, or the workspace is for the forward alone.
#[allow(clippy::too_many_arguments)] // Each is one of the things that a backward is made of.
pub fn stage(
    parameters: &impl Parameters,
    group: &impl Group,
    batch: &Batch,
    end: End,
    workspace: &mut Workspace,
    gradients: &mut [f32],
    accumulate: Accumulate,
    precision: Precision,
) -> LossSums {
    let config = parameters.config();
    let layout = parameters.layout();
    assert_eq!(gradients.len(), layout.len, "gradients have the length of what is trained");
    if accumulate == Accumulate::Overwrite {
        // Sums over tokens, which have no first one that could overwrite. Tied, the embedding is the output layer.
        let norms = layout.layers.iter().flat_map(|layer| [layer.attention_norm, layer.ffn_norm]);
        for range in norms.chain([layout.final_norm.clone(), layout.embedding.clone()]) {
            reduce::zero(&mut gradients[range]);
        }
    }

    let mut sums = LossSums::default();
    match end {
        End::Gradient(gradient) => {
            assert_eq!(gradient.len(), workspace.dx.len(), "the gradient of another batch");
            reduce::copy(&mut workspace.dx, gradient);
        }
        End::Loss => {
            final_norm(parameters, &layout, workspace);
            let into = Some((&mut *gradients, accumulate));
            sums = output_layer(parameters, &layout, batch, workspace, into, precision);
            reduce::zero(&mut workspace.dx);
            rms_norm::backward(
                &mut workspace.dx,
                &mut gradients[layout.final_norm.clone()],
                &workspace.dnormed,
                &workspace.x,
                &workspace.final_inverse_rms,
                parameters.final_norm(&layout),
                &mut workspace.norm_partial,
            );
        }
    }
    for index in (0..config.layers).rev() {
        block(parameters, group, &layout, index, batch, workspace, gradients, accumulate, precision);
    }
    if !layout.embedding.is_empty() {
        embedding::backward(&mut gradients[layout.embedding], &workspace.dx, &batch.inputs, config.dim);
    }
    sums
}

/// The backward of one block: `workspace.dx` goes from the gradient of its output to that of its input.
#[allow(clippy::too_many_arguments)] // Each is one of the things that a block's backward is made of.
fn block(
    parameters: &impl Parameters,
    group: &impl Group,
    layout: &Layout,
    index: usize,
    batch: &Batch,
    workspace: &mut Workspace,
    gradients: &mut [f32],
    accumulate: Accumulate,
    precision: Precision,
) {
    let config = parameters.config();
    let Config { dim, ffn_dim, .. } = *config;
    let (qkv_dim, attention_dim) = (config.qkv_dim(), config.attention_dim());
    let places = &layout.layers.get(index);
    let weights = parameters.block(layout, index);
    let Workspace {
        rounds,
        saved,
        shared,
        x: stream,
        normed,
        dx,
        dnormed,
        output,
        phases,
        positions,
        table,
        norm_partial,
        seq_len,
        ..
    } = workspace;
    let again = saved[index].again;
    let Backward { working, hidden, dattention, dqkv } = phases.backward(output.memory());
    let (kept_x, activations) = activations(saved.get_mut(index), shared, working);
    let Activations {
        attention_inverse_rms,
        qkv,
        attention,
        log_sums,
        middle: kept_middle,
        ffn_inverse_rms,
        gate_up,
        rounded,
    } = activations;
    // Where layers round, their input and their middle are here in turn: each as it was while something is computed from
    // it again, then rounded, which is how the rest of the backward reads it in any case.
    let middle: &mut [f32] = if *rounds {
        if !kept_middle.is_empty() {
            reduce::copy(stream, kept_middle);
        }
        &mut stream[..]
    } else {
        kept_middle
    };

    // What the layer did not keep, by the forward's own functions.
    let computed_before = meter::again();
    if again.attention() {
        let buffers = AttentionBuffers { normed, inverse_rms: attention_inverse_rms, qkv, out: attention };
        attention_half(config, &weights, kept_x, buffers, positions, table, precision, |out, qkv| {
            let shape = attention_shape(config);
            attention::forward(out, log_sums, qkv, &batch.document_starts, *seq_len, shape, precision);
        });
    }
    if again == Again::All {
        reduce::copy(middle, kept_x);
        weights.output.forward(middle, attention, dim, precision, group.accumulate());
        group.sum(middle);
    }
    if again.feed_forward() {
        feed_forward_half(config, &weights, middle, normed, ffn_inverse_rms, gate_up, precision);
    }
    drop(computed_before);
    if *rounds {
        as_kept(qkv, rounded.qkv);
        as_kept(attention, rounded.attention);
        as_kept(middle, rounded.middle);
        if again.feed_forward() {
            kept::round(rounded.gate_up, gate_up);
        }
    }

    // Feed-forward: x = middle + down(swiglu(gate_up(norm(middle)))).
    weights.down.input_gradient(hidden, Values::F32(dx), dim, precision);
    let dgate_up = if *rounds {
        swiglu::backward_kept(rounded.gate_up, hidden, ffn_dim);
        Values::Bf16(rounded.gate_up)
    } else {
        swiglu::backward(gate_up, hidden, ffn_dim);
        Values::F32(gate_up)
    };
    weights.down.weight_gradient(
        &mut gradients[places.down.clone()],
        Values::F32(dx),
        hidden,
        dim,
        accumulate,
        precision,
    );
    rms_norm::again(normed, middle, ffn_inverse_rms, weights.ffn_norm);
    weights.gate_up.weight_gradient(
        &mut gradients[places.gate_up.clone()],
        dgate_up,
        normed,
        2 * ffn_dim,
        accumulate,
        precision,
    );
    weights.gate_up.input_gradient(dnormed, dgate_up, 2 * ffn_dim, precision);
    group.sum(dnormed);
    rms_norm::backward(
        dx,
        &mut gradients[places.ffn_norm.clone()],
        dnormed,
        middle,
        ffn_inverse_rms,
        weights.ffn_norm,
        norm_partial,
    );

    let x: &[f32] = if *rounds {
        if !kept_x.is_empty() {
            reduce::copy(stream, kept_x);
        }
        as_kept(stream, rounded.x);
        stream
    } else {
        kept_x
    };

    // Attention: middle = x + output(attention(rope(qkv(norm(x))))).
    weights.output.input_gradient(dattention, Values::F32(dx), dim, precision);
    weights.output.weight_gradient(
        &mut gradients[places.output.clone()],
        Values::F32(dx),
        attention,
        dim,
        accumulate,
        precision,
    );
    let saved = attention::Saved {
        qkv,
        out: attention,
        log_sums,
        dout: dattention,
        document_starts: &batch.document_starts,
    };
    attention::backward(dqkv, saved, *seq_len, attention_shape(config), precision);
    rope::rotate(dqkv, qkv_dim, config.heads + config.kv_heads, positions, table, Turn::Backward);
    rms_norm::again(normed, x, attention_inverse_rms, weights.attention_norm);
    weights.qkv.weight_gradient(
        &mut gradients[places.qkv.clone()],
        Values::F32(dqkv),
        normed,
        qkv_dim,
        accumulate,
        precision,
    );
    weights.qkv.input_gradient(dnormed, Values::F32(dqkv), qkv_dim, precision);
    group.sum(dnormed);
    rms_norm::backward(
        dx,
        &mut gradients[places.attention_norm.clone()],
        dnormed,
        x,
        attention_inverse_rms,
        weights.attention_norm,
        norm_partial,
    );
    debug_assert_eq!(attention.len() / attention_dim, positions.len());
}

/// What a layer has rounded of this, or, where it computed it again, that rounded.
fn as_kept(values: &mut [f32], rounded: &[bf16]) {
    if rounded.is_empty() { kept::round_in_place(values) } else { kept::widen(values, rounded) }
}

impl Linear<'_> {
    /// `dx [T, in] = dy [T, out] W [out, in]`.
    fn input_gradient(&self, dx: &mut [f32], dy: Values, out: usize, precision: Precision) {
        let rows = dy.len() / out;
        let input = dx.len().checked_div(rows).unwrap_or(0);
        let _metered = self.metered(Pass::InputGradient);
        match &self.weights {
            Storage::Plain(weights) => gemm(
                precision,
                ViewMut::new(dx, rows, input, input),
                View::of(dy, rows, out, out),
                View::new(weights, out, input, input),
                Accumulate::Overwrite,
            ),
            Storage::Frozen(weights, adapters) => {
                quant::input_gradient(dx, dy, weights, precision, Accumulate::Overwrite);
                adapters.input_gradient(dx, dy, out, precision);
            }
            Storage::Stacked(..) => unreachable!("weights are packed for inference, which has no backward"),
        }
    }

    /// `dW [out, in] = dyᵀ [out, T] x [T, in]`, or `+=`; of a frozen matrix that of its adapters.
    fn weight_gradient(
        &self,
        dweights: &mut [f32],
        dy: Values,
        x: &[f32],
        out: usize,
        accumulate: Accumulate,
        precision: Precision,
    ) {
        let rows = dy.len() / out;
        let input = x.len().checked_div(rows).unwrap_or(0);
        let _metered = self.metered(Pass::WeightGradient);
        match &self.weights {
            Storage::Plain(_) => gemm(
                precision,
                ViewMut::new(dweights, out, input, input),
                View::of(dy, rows, out, out).transposed(),
                View::new(x, rows, input, input),
                accumulate,
            ),
            Storage::Frozen(_, adapters) => {
                adapters.weight_gradient(dweights, dy, x, out, accumulate, precision);
            }
            Storage::Stacked(..) => unreachable!("weights are packed for inference, which has no backward"),
        }
    }
}
