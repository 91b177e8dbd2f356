//! Llama: its configuration, weights, forward, backward and file formats.
//!
//! [`forward`] holds all of Llama 3's forward and [`backward`] its backward, written out operation by operation
//! over the `kernels`; there is no tape and no graph. Training, evaluation and serving call the same forward.

pub mod adapters;
pub mod backward;
pub mod batch;
pub mod config;
pub mod forward;
pub mod frozen;
pub mod group;
pub mod hf;
pub mod infer;
mod low_rank;
pub mod parameters;
pub mod peft;
pub mod recompute;
pub mod weights;
pub mod workspace;

pub use adapters::{Adapted, AdapterSettings, Adapters};
pub use batch::Batch;
pub use config::{Config, RopeScaling};
pub use frozen::{Formats, Frozen};
pub use group::{Group, Solo};
pub use parameters::{Parameters, Stage};
pub use recompute::Recompute;
pub use weights::{TensorSpec, Weights};
pub use workspace::Workspace;

/// Everything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that no Llama can have.
    #[error("model configuration is not usable: {}", .0.join("; "))]
    Config(Vec<String>),
    /// Settings of adapters that do not fit the model, all of them.
    #[error("adapter settings are not usable: {}", .0.join("; "))]
    Adapter(Vec<String>),
    /// A batch whose parts do not fit together or that holds a token outside the vocabulary.
    #[error("batch is not usable: {0}")]
    Batch(String),
    /// A file of a model folder that could not be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it, with the tensor or key concerned.
        reason: String,
    },
    /// A failure of the disk, named by `ledger`.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

impl Error {
    /// One line that says what to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config(_) => {
                Some("compare the values with a published config.json of the same family".into())
            }
            Self::Adapter(_) => {
                Some("modules are named as in peft: q_proj, k_proj, v_proj, o_proj, gate_proj, ...".into())
            }
            Self::Batch(_) => Some("was the text encoded with this model's own tokenizer?".into()),
            Self::File { path, .. } => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                Some(if name.starts_with("adapter_") {
                    "an adapter folder holds adapter_config.json and adapter_model.safetensors, made for this very model"
                        .into()
                } else {
                    "a model folder holds config.json and model.safetensors (or its index and shards)".into()
                })
            }
            Self::Ledger(error) => error.hint(),
        }
    }
}
