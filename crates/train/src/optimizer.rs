//! AdamW over a flat vector of weights, a model's or its adapters': which parts decay, and both moments.
//!
//! The arithmetic of one update is `kernels::adamw`; the decision about decay is argued in
//! `docs/decisions/train-weight-decay.md`.

use std::ops::Range;

use kernels::adamw::{AdamW, adamw, adamw_rows};
use kernels::buffer::Buffer;
use model::{Adapters, Config, TensorSpec};

use crate::{Gradients, Settings};

/// The optimizer's state: the moments of every parameter.
#[derive(Clone, Debug)]
pub struct Optimizer {
    /// Moving mean of the gradients, in the order of the weights.
    pub first: Buffer,
    /// Moving mean of the squared gradients.
    pub second: Buffer,
    groups: Vec<Group>,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    weight_decay: f32,
}

/// Neighbouring tensors that are treated alike.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    range: Range<usize>,
    decays: bool,
}

impl Optimizer {
    /// A fresh optimizer of a model's weights, both moments 0.
    pub fn new(config: &Config, settings: &Settings) -> Self {
        Self::over(&model::weights::tensors(config), |tensor| decays(tensor, config), settings)
    }

    /// A fresh optimizer of adapters, all of which decay: towards no change, which is where they began.
    pub fn of_adapters(adapters: &Adapters, settings: &Settings) -> Self {
        Self::over(&adapters.tensors(), |_| true, settings)
    }

    /// A fresh optimizer of a flat vector of tensors that follow each other.
    fn over(tensors: &[TensorSpec], decays: impl Fn(&TensorSpec) -> bool, settings: &Settings) -> Self {
        let groups = groups(tensors, decays);
        let parameters = groups.last().map_or(0, |group| group.range.end);
        Self {
            first: Buffer::zeros(parameters),
            second: Buffer::zeros(parameters),
            groups,
            beta1: settings.beta1,
            beta2: settings.beta2,
            epsilon: settings.epsilon,
            weight_decay: settings.weight_decay,
        }
    }

    /// Updates `weights` by one step. `step` counts from 1; the gradients are multiplied by `gradient_scale` first.
    pub fn step(
        &mut self,
        weights: &mut [f32],
        gradients: &Gradients,
        step: u64,
        learning_rate: f32,
        gradient_scale: f32,
    ) {
        for Group { range, decays } in &self.groups {
            let numbers = AdamW {
                learning_rate,
                beta1: self.beta1,
                beta2: self.beta2,
                epsilon: self.epsilon,
                weight_decay: if *decays { self.weight_decay } else { 0.0 },
                step,
                gradient_scale,
            };
            let mut range = range.clone();
            let mut before = 0;
            if let Some(rows) = &gradients.embedding {
                before = rows.table_len();
                if range.start == 0 {
                    let table = 0..before;
                    adamw_rows(
                        &mut weights[table.clone()],
                        rows,
                        &mut self.first[table.clone()],
                        &mut self.second[table],
                        &numbers,
                    );
                    range.start = before;
                }
            }
            adamw(
                &mut weights[range.clone()],
                &gradients.flat[range.start - before..range.end - before],
                &mut self.first[range.clone()],
                &mut self.second[range],
                &numbers,
            );
        }
    }
}

/// Matrices decay, norms do not; the embedding does not either, unless it is the output layer too.
fn decays(tensor: &TensorSpec, config: &Config) -> bool {
    let embedding = tensor.name == "model.embed_tokens.weight";
    tensor.shape.len() == 2 && (!embedding || config.tied_embeddings)
}

fn groups(tensors: &[TensorSpec], decays: impl Fn(&TensorSpec) -> bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for tensor in tensors {
        let decays = decays(tensor);
        match groups.last_mut() {
            Some(last) if last.decays == decays && last.range.end == tensor.range.start => {
                last.range.end = tensor.range.end;
            }
            _ => groups.push(Group { range: tensor.range.clone(), decays }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Size;

    #[test]
    fn matrices_decay_and_norms_and_the_untied_embedding_do_not() {
        for tied_embeddings in [false, true] {
            let config = Config { tied_embeddings, ..Size::Nano.plan().model };
            let settings = Settings { weight_decay: 0.5, ..Settings::default() };
            let mut optimizer = Optimizer::new(&config, &settings);
            let parameters = config.parameters() as usize;
            let mut weights = vec![1.0f32; parameters];
            optimizer.step(&mut weights, &Gradients::flat(parameters), 1, 0.1, 1.0);
            for tensor in model::weights::tensors(&config) {
                let shrinks = match tensor.name.as_str() {
                    "model.embed_tokens.weight" => tied_embeddings,
                    name => !name.ends_with("norm.weight"),
                };
                let expected = if shrinks { 1.0 - 0.1 * 0.5 } else { 1.0 };
                assert!(weights[tensor.range].iter().all(|&w| w == expected), "{}", tensor.name);
            }
        }
    }
}
