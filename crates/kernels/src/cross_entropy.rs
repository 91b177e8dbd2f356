//! The output layer fused with cross-entropy, forward and backward: all logits are never held at once.
//!
//! Tokens go through in chunks; a chunk's logits become their own gradient in place. Tokens whose loss weight is
//! 0 are not multiplied at all, which is most of them when only an assistant's words count.

use rayon::prelude::*;

use crate::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use crate::isa;
use crate::math::{exp, map_lanes, max_lanes, sum_lanes};

/// What the output layer reads.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Normalised hidden states `[T, D]`.
    pub hidden: &'a [f32],
    /// Output matrix `[V, D]`.
    pub lm_head: &'a [f32],
    /// Next tokens `[T]`; read where the weight is not 0.
    pub targets: &'a [u32],
    /// Loss weights `[T]`.
    pub weights: &'a [f32],
    /// `D`.
    pub dim: usize,
}

/// Where the gradients of the weighted sum of losses go.
pub struct Gradients<'a> {
    /// `[T, D]`, overwritten.
    pub hidden: &'a mut [f32],
    /// `[V, D]`.
    pub lm_head: &'a mut [f32],
    /// Whether `lm_head` is added to, or overwritten.
    pub accumulate: Accumulate,
}

/// Buffers for one chunk, made once.
pub struct Scratch {
    chunk: usize,
    logits: Vec<f32>,
    hidden: Vec<f32>,
    gradient: Vec<f32>,
    active: Vec<u32>,
}

impl Scratch {
    /// For `tokens` tokens of width `dim` over a vocabulary of `vocab_size`.
    pub fn new(tokens: usize, dim: usize, vocab_size: usize) -> Self {
        // Long chunks let the matrix product run at full speed; short ones keep the logits small. 256 rows are
        // enough for speed, and 32 million logits (128 MB) are the most that is held.
        let chunk = ((32 << 20) / vocab_size.max(1)).clamp(16, 512).min(tokens.max(1));
        Self {
            chunk,
            logits: vec![0.0; chunk * vocab_size],
            hidden: vec![0.0; chunk * dim],
            gradient: vec![0.0; chunk * dim],
            active: Vec::with_capacity(tokens),
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        4 * (self.logits.len() + self.hidden.len() + self.gradient.len() + self.active.capacity())
    }
}

/// Writes each token's cross-entropy, in nats and unweighted, to `losses [T]` (0 where the weight is 0), and the
/// gradients of the weighted sum, if asked for.
pub fn cross_entropy(
    losses: &mut [f32],
    input: Input,
    mut gradients: Option<Gradients>,
    scratch: &mut Scratch,
    precision: Precision,
) {
    let dim = input.dim;
    let vocab_size = input.lm_head.len() / dim;
    let tokens = input.weights.len();
    assert!(losses.len() == tokens && input.targets.len() == tokens && input.hidden.len() == tokens * dim);
    losses.fill(0.0);
    let Scratch { chunk, logits, hidden, gradient, active } = scratch;
    active.clear();
    active.extend((0..tokens as u32).filter(|&token| input.weights[token as usize] != 0.0));
    if let Some(gradients) = &mut gradients
        && active.len() < tokens
    {
        crate::reduce::zero(gradients.hidden);
    }
    if let Some(gradients) = &mut gradients
        && active.is_empty()
        && gradients.accumulate == Accumulate::Overwrite
    {
        crate::reduce::zero(gradients.lm_head);
    }
    for rows in active.chunks(*chunk) {
        let count = rows.len();
        let first = rows[0] as usize;
        let together = rows[count - 1] as usize - first == count - 1;
        let logits = &mut logits[..count * vocab_size];
        let lm_head = View::new(input.lm_head, vocab_size, dim, dim);
        let chunk_hidden = if together {
            &input.hidden[first * dim..(first + count) * dim]
        } else {
            for (to, &row) in hidden.chunks_exact_mut(dim).zip(rows) {
                to.copy_from_slice(&input.hidden[row as usize * dim..(row as usize + 1) * dim]);
            }
            &hidden[..count * dim]
        };
        let hidden_view = View::new(chunk_hidden, count, dim, dim);
        gemm(
            precision,
            ViewMut::new(logits, count, vocab_size, vocab_size),
            hidden_view,
            lm_head.transposed(),
            Accumulate::Overwrite,
        );
        // Each row writes its own loss; the rows' places differ, so the losses go through the chunk's order.
        let mut chunk_losses = [0.0f32; 512];
        logits.par_chunks_mut(vocab_size).zip(&mut chunk_losses[..count]).zip(rows).with_min_len(4).for_each(
            |((logits, loss), &row)| {
                let row = row as usize;
                *loss = softmax_gradient(logits, input.targets[row] as usize, input.weights[row]);
            },
        );
        for (&row, &loss) in rows.iter().zip(&chunk_losses) {
            losses[row as usize] = loss;
        }
        let Some(gradients) = &mut gradients else { continue };
        let logits = View::new(logits, count, vocab_size, vocab_size);
        gemm(
            precision,
            ViewMut::new(gradients.lm_head, vocab_size, dim, dim),
            logits.transposed(),
            hidden_view,
            gradients.accumulate,
        );
        gradients.accumulate = Accumulate::Add;
        let to = if together {
            &mut gradients.hidden[first * dim..(first + count) * dim]
        } else {
            &mut gradient[..count * dim]
        };
        gemm(precision, ViewMut::new(to, count, dim, dim), logits, lm_head, Accumulate::Overwrite);
        if !together {
            for (from, &row) in gradient.chunks_exact(dim).zip(rows) {
                gradients.hidden[row as usize * dim..(row as usize + 1) * dim].copy_from_slice(from);
            }
        }
    }
}

isa::dispatch! {
    /// Returns the cross-entropy of one row of logits and turns the row into `weight * (softmax - one_hot)`.
    fn softmax_gradient<FMA>(logits: &mut [f32], target: usize, weight: f32) -> f32 {
        let largest = max_lanes(logits);
        let at_target = logits[target];
        map_lanes(logits, |logit| exp::<FMA>(logit - largest));
        let sum = sum_lanes([logits], |[logit]| logit);
        let scale = weight / sum;
        for logit in logits.iter_mut() {
            *logit *= scale;
        }
        logits[target] -= weight;
        sum.ln() + largest - at_target
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::testing::{Values, check_gradient};

    #[test]
    fn gradients_agree_with_finite_differences_and_masked_tokens_count_nothing() {
        for (tokens, dim, vocab_size, mask) in [(1, 3, 5, 1), (7, 4, 33, 1), (300, 2, 9, 3), (40, 5, 64, 2)] {
            let mut values = Values::new(tokens as u64);
            let (hidden, lm_head) = (values.take(tokens * dim), values.take(vocab_size * dim));
            let targets: Vec<u32> = (0..tokens).map(|_| (values.bits() % vocab_size as u64) as u32).collect();
            let weights: Vec<f32> =
                (0..tokens).map(|t| if t % mask == 0 { 0.5 + t as f32 / 100.0 } else { 0.0 }).collect();
            let mut scratch = Scratch::new(tokens, dim, vocab_size);
            let mut run = |hidden: &[f32], lm_head: &[f32], gradients: Option<Gradients>| {
                let mut losses = vec![0.0; tokens];
                let input = Input { hidden, lm_head, targets: &targets, weights: &weights, dim };
                cross_entropy(&mut losses, input, gradients, &mut scratch, Precision::F32);
                losses
            };
            let (mut dhidden, mut dlm_head) = (vec![f32::NAN; tokens * dim], vec![0.0; vocab_size * dim]);
            let gradients =
                Gradients { hidden: &mut dhidden, lm_head: &mut dlm_head, accumulate: Accumulate::Add };
            let losses = run(&hidden, &lm_head, Some(gradients));
            for token in 0..tokens {
                let logits: Vec<f64> = (0..vocab_size)
                    .map(|v| {
                        (0..dim).map(|d| f64::from(hidden[token * dim + d] * lm_head[v * dim + d])).sum()
                    })
                    .collect();
                let exact =
                    logits.iter().map(|l| l.exp()).sum::<f64>().ln() - logits[targets[token] as usize];
                let expected = if weights[token] == 0.0 { 0.0 } else { exact };
                assert!((f64::from(losses[token]) - expected).abs() < 1e-5);
            }
            let weighted = |losses: Vec<f32>| {
                losses.iter().zip(&weights).map(|(&l, &w)| f64::from(l) * f64::from(w)).sum::<f64>()
            };
            check_gradient("hidden", &hidden, &dhidden, |h| weighted(run(h, &lm_head, None)));
            check_gradient("lm_head", &lm_head, &dlm_head, |w| weighted(run(&hidden, w, None)));
        }
    }
}
