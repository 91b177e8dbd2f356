//! AdamW in one pass over parameters, gradients and both moments, in f32.
//!
//! Loshchilov and Hutter, "Decoupled Weight Decay Regularization", with bias correction as PyTorch does it.

use rayon::prelude::*;

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
    parameters
        .par_chunks_mut(BLOCK)
        .zip(gradients.par_chunks(BLOCK))
        .zip(first.par_chunks_mut(BLOCK))
        .zip(second.par_chunks_mut(BLOCK))
        .for_each(|(((parameters, gradients), first), second)| {
            update(parameters, gradients, first, second, step);
        });
}

isa::dispatch! {
    fn update<FMA>(parameters: &mut [f32], gradients: &[f32], first: &mut [f32], second: &mut [f32], step: &AdamW) {
        let AdamW { learning_rate, beta1, beta2, epsilon, weight_decay, step, gradient_scale } = *step;
        // The corrections are taken in f64: beta2^step is close to 1 for small steps.
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        let step_size = (f64::from(learning_rate) / correction(beta1)) as f32;
        let second_scale = (1.0 / correction(beta2)) as f32;
        let keep = 1.0 - learning_rate * weight_decay;
        for (((parameter, gradient), first), second) in
            parameters.iter_mut().zip(gradients).zip(first).zip(second)
        {
            let gradient = gradient * gradient_scale;
            *first = beta1 * *first + (1.0 - beta1) * gradient;
            *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
            *parameter = *parameter * keep - step_size * *first / ((*second * second_scale).sqrt() + epsilon);
        }
    }
}
