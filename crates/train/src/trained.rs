//! What a run trains: all weights of a model, or adapters over a frozen one. The loop, the optimizer and the checkpoints
//! see one flat vector with named tensors in it.

use kernels::gemm::{Accumulate, Precision};
use ledger::digest::Digest;
use ledger::seed::Seed;
use model::backward::loss_and_gradients;
use model::forward::LossSums;
use model::parameters::EmbeddingApart;
use model::{Adapted, Adapters, Batch, Config, Frozen, TensorSpec, Weights, Workspace};
use serde_json::{Value, json};

use crate::optimizer::Optimizer;
use crate::{Error, Gradients, Settings};

/// Parameters that a run trains, and how a pass reads them.
pub trait Trained {
    /// The shape of the model that passes run.
    fn config(&self) -> &Config;

    /// The tensors that are trained, in the order of the flat vector.
    fn tensors(&self) -> Vec<TensorSpec>;

    /// The flat vector.
    fn values(&self) -> &[f32];

    /// The flat vector.
    fn values_mut(&mut self) -> &mut [f32];

    /// Room for the flat vector's gradients.
    fn gradients(&self) -> Gradients;

    /// A fresh optimizer of the flat vector.
    fn optimizer(&self, settings: &Settings) -> Optimizer;

    /// Floating-point operations of a step for each token.
    fn flops_per_token(&self, seq_len: usize) -> f64;

    /// Everything beside the flat vector that decides the numbers of a run, for its identity.
    fn describe(&self) -> Result<Value, Error>;

    /// [`loss_and_gradients`] of one micro-batch. What is drawn at random in it follows from `draw`, which every micro-batch
    /// of a run has of its own.
    fn pass(
        &self,
        batch: &Batch,
        workspace: &mut Workspace,
        gradients: &mut Gradients,
        accumulate: Accumulate,
        precision: Precision,
        draw: u64,
    ) -> Result<LossSums, model::Error>;
}

impl Trained for Weights {
    fn config(&self) -> &Config {
        &self.config
    }

    fn tensors(&self) -> Vec<TensorSpec> {
        model::weights::tensors(&self.config)
    }

    fn values(&self) -> &[f32] {
        &self.data
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    fn gradients(&self) -> Gradients {
        let Config { vocab_size, dim, tied_embeddings, .. } = self.config;
        match tied_embeddings {
            true => Gradients::flat(self.data.len()),
            false => Gradients::with_embedding(self.data.len(), vocab_size, dim),
        }
    }

    fn optimizer(&self, settings: &Settings) -> Optimizer {
        Optimizer::new(&self.config, settings)
    }

    fn flops_per_token(&self, seq_len: usize) -> f64 {
        self.config.training_flops_per_token(seq_len)
    }

    fn describe(&self) -> Result<Value, Error> {
        Ok(json!(format!("{:?}", self.config)))
    }

    fn pass(
        &self,
        batch: &Batch,
        workspace: &mut Workspace,
        gradients: &mut Gradients,
        accumulate: Accumulate,
        precision: Precision,
        _draw: u64,
    ) -> Result<LossSums, model::Error> {
        let Gradients { embedding, flat } = gradients;
        let Some(rows) = embedding else {
            return loss_and_gradients(self, batch, workspace, flat, accumulate, precision);
        };
        let sums =
            loss_and_gradients(&EmbeddingApart::new(self), batch, workspace, flat, accumulate, precision)?;
        if accumulate == Accumulate::Overwrite {
            rows.clear();
        }
        rows.add(workspace.stream_gradient(), &batch.inputs);
        Ok(sums)
    }
}

/// Adapters that are trained over a model that is not.
#[derive(Clone, Debug)]
pub struct Tuned<'a> {
    /// The model.
    pub base: &'a Frozen,
    /// The adapters.
    pub adapters: Adapters,
    /// What their dropout follows from.
    pub seed: Seed,
}

impl Trained for Tuned<'_> {
    fn config(&self) -> &Config {
        self.base.config()
    }

    fn tensors(&self) -> Vec<TensorSpec> {
        self.adapters.tensors()
    }

    fn values(&self) -> &[f32] {
        &self.adapters.data
    }

    fn values_mut(&mut self) -> &mut [f32] {
        &mut self.adapters.data
    }

    fn gradients(&self) -> Gradients {
        Gradients::flat(self.adapters.data.len())
    }

    fn optimizer(&self, settings: &Settings) -> Optimizer {
        Optimizer::of_adapters(&self.adapters, settings)
    }

    /// Four for every weight of a frozen product (two forward, two for the gradient of what went in), six for every one of
    /// the adapters, and the attention.
    fn flops_per_token(&self, seq_len: usize) -> f64 {
        let config = self.config();
        let attention = config.training_flops_per_token(seq_len) - config.training_flops_per_token(0);
        config.training_flops_per_token(0) * 4.0 / 6.0 + 6.0 * self.adapters.data.len() as f64 + attention
    }

    /// The base is read once, for the digest of its values.
    fn describe(&self) -> Result<Value, Error> {
        let mut base = Vec::new();
        self.base.visit(|values| base.push(Digest::of_bytes(bytemuck::cast_slice(values))));
        let config = format!("{:?}", self.config());
        let settings = self.adapters.settings();
        let mut described = json!({"model": config, "base": Digest::of_value(&base)?, "adapters": settings});
        if settings.dropout > 0.0 {
            described["seed"] = self.seed.0.into();
        }
        Ok(described)
    }

    fn pass(
        &self,
        batch: &Batch,
        workspace: &mut Workspace,
        gradients: &mut Gradients,
        accumulate: Accumulate,
        precision: Precision,
        draw: u64,
    ) -> Result<LossSums, model::Error> {
        let adapted = Adapted::new(self.base, &self.adapters).dropping(self.seed, draw);
        loss_and_gradients(&adapted, batch, workspace, &mut gradients.flat, accumulate, precision)
    }
}
