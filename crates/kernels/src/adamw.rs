//! AdamW in one pass over parameters, gradients and both moments, in f32.
//!
//! Loshchilov and Hutter, "Decoupled Weight Decay Regularization", with bias correction as PyTorch does it.

use rayon::prelude::*;

use crate::embedding::RowGradients;
use crate::isa;
use crate::meter::{self, Cost, Operation, Pass};

/// One step's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Keeps the division from overflowing.
    pub epsilon: f32,
    /// Decoupled decay: each parameter shrinks by `learning_rate * weight_decay`.
    pub weight_decay: f32,
    /// 1 for the first step.
    pub step: u64,
    /// Gradients are multiplied by this first: clipping, and the division by the batch's loss weight.
    pub gradient_scale: f32,
}

const BLOCK: usize = 1 << 14;

/// Updates `parameters` and the moments in place; all four slices have the same length.
pub fn adamw(parameters: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32], step: &AdamW) {
    let length = parameters.len();
    assert!(
        gradients.len() == length && first.len() == length && second.len() == length,
        "AdamW: parameters, gradients and moments differ in length"
    );
    // One for the scale, three and four for the moments, seven for the parameter. The gradient is only read.
    let _metered =
        meter::span(Operation::AdamW, Pass::Whole, || Cost::of(15 * length, 4 * length, 3 * length));
    let numbers = Numbers::new(step);
    parameters
        .par_chunks_mut(BLOCK)
        .zip(gradients.par_chunks(BLOCK))
        .zip(first.par_chunks_mut(BLOCK))
        .zip(second.par_chunks_mut(BLOCK))
        .for_each(|(((parameters, gradients), first), second)| {
            update(parameters, gradients, first, second, &numbers);
        });
}

/// [`adamw`] of an embedding `[V, D]` whose gradient is given by its rows. The bits are those of the whole table's gradient,
/// zeros included: a row without one moves by its moments.
pub fn adamw_rows(
    parameters: &mut [f32],
    gradients: &RowGradients,
    first: &mut [f32],
    second: &mut [f32],
    step: &AdamW,
) {
    let (length, dim) = (parameters.len(), gradients.dim());
    assert!(
        gradients.table_len() == length && first.len() == length && second.len() == length,
        "AdamW: the embedding, its gradients and moments differ in length"
    );
    let _metered = meter::span(Operation::AdamW, Pass::Whole, || {
        Cost::of(15 * length, 3 * length + gradients.rows().len(), 3 * length)
    });
    let numbers = Numbers::new(step);
    let rows = (BLOCK / dim).max(1);
    let block = rows * dim;
    parameters
        .par_chunks_mut(block)
        .zip(first.par_chunks_mut(block))
        .zip(second.par_chunks_mut(block))
        .enumerate()
        .for_each(|(index, ((parameters, first), second))| {
            let tokens = parameters.len() / dim;
            let row = |token: usize| gradients.row(index * rows + token);
            let mut token = 0;
            while token < tokens {
                let gradient = row(token);
                // Rows without a gradient lie side by side more often than not.
                let end = match gradient {
                    Some(_) => token + 1,
                    None => (token + 1..tokens).find(|&next| row(next).is_some()).unwrap_or(tokens),
                };
                let here = token * dim..end * dim;
                let (parameters, first) = (&mut parameters[here.clone()], &mut first[here.clone()]);
                let second = &mut second[here];
                match gradient {
                    Some(gradient) => update(parameters, gradient, first, second, &numbers),
                    None => update_without(parameters, first, second, &numbers),
                }
                token = end;
            }
        });
}

/// What the update of every value has in common.
struct Numbers {
    step_size: f32,
    second_scale: f32,
    keep: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    gradient_scale: f32,
}

impl Numbers {
    fn new(step: &AdamW) -> Self {
        let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step, gradient_scale } = *step;
        // The corrections are taken in f64: beta2^step is close to 1 for small steps.
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        Self {
            step_size: (f64::from(learning_rate) / correction(beta1)) as f32,
            second_scale: (1.0 / correction(beta2)) as f32,
            keep: 1.0 - learning_rate * weight_decay,
            beta1,
            beta2,
            epsilon,
            gradient_scale,
        }
    }

    #[inline(always)]
    fn apply(&self, parameter: &mut f32, gradient: f32, first: &mut f32, second: &mut f32) {
        let gradient = gradient * self.gradient_scale;
        *first = self.beta1 * *first + (1.0 - self.beta1) * gradient;
        *second = self.beta2 * *second + (1.0 - self.beta2) * gradient * gradient;
        let root = (*second * self.second_scale).sqrt() + self.epsilon;
        *parameter = *parameter * self.keep - self.step_size * *first / root;
    }
}

isa::dispatch! {
    fn update<FMA>(parameters: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32], numbers: &Numbers) {
        for (((parameter, gradient), first), second) in
            parameters.iter_mut().zip(gradients).zip(first).zip(second)
        {
            numbers.apply(parameter, *gradient, first, second);
        }
    }

    fn update_without<FMA>(parameters: &mut [f32], first: &mut [f32], second: &mut [f32], numbers: &Numbers) {
        for ((parameter, first), second) in parameters.iter_mut().zip(first).zip(second) {
            numbers.apply(parameter, 0.0, first, second);
        }
    }
}
