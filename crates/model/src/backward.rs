//! Llama 3's backward, written out: the operations of [`crate::forward`] in reverse order.
//!
//! Every gradient is added to a flat vector with the layout of the weights, so micro-batches accumulate; the first one
//! overwrites, which spares a pass over memory to clear it. Shapes as in the forward.

use kernels::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use kernels::rope::Turn;
use kernels::{attention, cross_entropy, embedding, reduce, rms_norm, rope, swiglu};

use crate::forward::{AttentionBuffers, BlockWeights, LossSums, attention_half, feed_forward_half, run};
use crate::recompute::Again;
use crate::weights::Layout;
use crate::workspace::{Activations, activations, attention_shape};
use crate::{Batch, Config, Error, Weights, Workspace};

/// Runs forward and backward. The gradient of the weighted sum of losses (not of its mean) goes to `gradients`,
/// which has the length and layout of the weights, in place of what was there or added to it; divide by the sum of
/// weights of all micro-batches for the gradient of the mean.
pub fn loss_and_gradients(
    weights: &Weights,
    batch: &Batch,
    workspace: &mut Workspace,
    gradients: &mut [f32],
    accumulate: Accumulate,
    precision: Precision,
) -> Result<LossSums, Error> {
    let config = &weights.config;
    let layout = Layout::new(config);
    batch.validate(config)?;
    assert_eq!(gradients.len(), layout.len, "gradients have the length of the weights");
    run(weights, batch, workspace, precision);
    if accumulate == Accumulate::Overwrite {
        // Sums over tokens, which have no first one that could overwrite. Tied, the embedding is the output layer.
        let norms = layout.layers.iter().flat_map(|l| [l.attention_norm.clone(), l.ffn_norm.clone()]);
        for range in norms.chain([layout.final_norm.clone(), layout.embedding.clone()]) {
            reduce::zero(&mut gradients[range]);
        }
    }

    let input = cross_entropy::Input {
        hidden: &workspace.normed,
        lm_head: &weights.data[layout.lm_head.clone()],
        targets: &batch.targets,
        weights: &batch.loss_weights,
        dim: config.dim,
        z_loss: workspace.z_loss,
    };
    let output_gradients = cross_entropy::Gradients {
        hidden: &mut workspace.dnormed,
        lm_head: &mut gradients[layout.lm_head.clone()],
        accumulate,
    };
    cross_entropy::cross_entropy(
        &mut workspace.losses,
        input,
        Some(output_gradients),
        &mut workspace.output,
        precision,
    );

    reduce::zero(&mut workspace.dx);
    rms_norm::backward(
        &mut workspace.dx,
        &mut gradients[layout.final_norm.clone()],
        &workspace.dnormed,
        &workspace.x,
        &workspace.final_inverse_rms,
        &weights.data[layout.final_norm.clone()],
        &mut workspace.norm_partial,
    );
    for index in (0..config.layers).rev() {
        block(weights, &layout, index, batch, workspace, gradients, accumulate, precision);
    }
    embedding::backward(&mut gradients[layout.embedding], &workspace.dx, &batch.inputs, config.dim);
    Ok(LossSums::new(&workspace.losses, &batch.loss_weights))
}

/// The backward of one block: `workspace.dx` goes from the gradient of its output to that of its input.
#[allow(clippy::too_many_arguments)] // Each is one of the things that a block's backward is made of.
fn block(
    weights: &Weights,
    layout: &Layout,
    index: usize,
    batch: &Batch,
    workspace: &mut Workspace,
    gradients: &mut [f32],
    accumulate: Accumulate,
    precision: Precision,
) {
    let config = &weights.config;
    let Config { dim, ffn_dim, .. } = *config;
    let (qkv_dim, attention_dim) = (config.qkv_dim(), config.attention_dim());
    let places = &layout.layers[index];
    let weight = |range: &std::ops::Range<usize>| &weights.data[range.clone()];
    let Workspace {
        saved,
        shared,
        normed,
        hidden,
        dx,
        dnormed,
        dattention,
        dqkv,
        positions,
        table,
        norm_partial,
        seq_len,
        ..
    } = workspace;
    let again = saved[index].again;
    let (x, kept) = activations(saved.get_mut(index), shared);
    let Activations { attention_inverse_rms, qkv, attention, log_sums, middle, ffn_inverse_rms, gate_up } =
        kept;

    // What the layer did not keep, by the forward's own functions.
    let block_weights = BlockWeights::of(weights, places);
    if again.attention() {
        let buffers = AttentionBuffers { normed, inverse_rms: attention_inverse_rms, qkv, out: attention };
        attention_half(config, &block_weights, x, buffers, positions, table, precision, |out, qkv| {
            let shape = attention_shape(config);
            attention::forward(out, log_sums, qkv, &batch.document_starts, *seq_len, shape, precision);
        });
    }
    if again == Again::All {
        reduce::copy(middle, x);
        block_weights.output.forward(middle, attention, dim, precision, Accumulate::Add);
    }
    if again.feed_forward() {
        feed_forward_half(config, &block_weights, middle, normed, ffn_inverse_rms, gate_up, precision);
    }

    // Feed-forward: x = middle + down(swiglu(gate_up(norm(middle)))).
    input_gradient(hidden, dx, weight(&places.down), dim, precision);
    swiglu::backward(gate_up, hidden, ffn_dim);
    weight_gradient(&mut gradients[places.down.clone()], dx, hidden, dim, accumulate, precision);
    rms_norm::again(normed, middle, ffn_inverse_rms, weight(&places.ffn_norm));
    weight_gradient(
        &mut gradients[places.gate_up.clone()],
        gate_up,
        normed,
        2 * ffn_dim,
        accumulate,
        precision,
    );
    input_gradient(dnormed, gate_up, weight(&places.gate_up), 2 * ffn_dim, precision);
    rms_norm::backward(
        dx,
        &mut gradients[places.ffn_norm.clone()],
        dnormed,
        middle,
        ffn_inverse_rms,
        weight(&places.ffn_norm),
        norm_partial,
    );

    // Attention: middle = x + output(attention(rope(qkv(norm(x))))).
    input_gradient(dattention, dx, weight(&places.output), dim, precision);
    weight_gradient(&mut gradients[places.output.clone()], dx, attention, dim, accumulate, precision);
    let saved = attention::Saved {
        qkv,
        out: attention,
        log_sums,
        dout: dattention,
        document_starts: &batch.document_starts,
    };
    attention::backward(dqkv, saved, *seq_len, attention_shape(config), precision);
    rope::rotate(dqkv, qkv_dim, config.heads + config.kv_heads, positions, table, Turn::Backward);
    rms_norm::again(normed, x, attention_inverse_rms, weight(&places.attention_norm));
    weight_gradient(&mut gradients[places.qkv.clone()], dqkv, normed, qkv_dim, accumulate, precision);
    input_gradient(dnormed, dqkv, weight(&places.qkv), qkv_dim, precision);
    rms_norm::backward(
        dx,
        &mut gradients[places.attention_norm.clone()],
        dnormed,
        x,
        attention_inverse_rms,
        weight(&places.attention_norm),
        norm_partial,
    );
    debug_assert_eq!(attention.len() / attention_dim, positions.len());
}

/// `dx [T, in] = dy [T, out] W [out, in]`.
fn input_gradient(dx: &mut [f32], dy: &[f32], weights: &[f32], out: usize, precision: Precision) {
    let (rows, input) = (dy.len() / out, weights.len() / out);
    gemm(
        precision,
        ViewMut::new(dx, rows, input, input),
        View::new(dy, rows, out, out),
        View::new(weights, out, input, input),
        Accumulate::Overwrite,
    );
}

/// `dW [out, in] = dyᵀ [out, T] x [T, in]`, or `+=`.
fn weight_gradient(
    dweights: &mut [f32],
    dy: &[f32],
    x: &[f32],
    out: usize,
    accumulate: Accumulate,
    precision: Precision,
) {
    let (rows, input) = (dy.len() / out, dweights.len() / out);
    gemm(
        precision,
        ViewMut::new(dweights, out, input, input),
        View::new(dy, rows, out, out).transposed(),
        View::new(x, rows, input, input),
        accumulate,
    );
}
