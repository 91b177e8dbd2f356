//! Llama: its configuration, weights, forward, backward and file formats.
//!
//! [`forward`] holds all of Llama 3's forward and [`backward`] its backward, written out operation by operation
//! over the `kernels`; there is no tape and no graph. Training, evaluation and serving call the same forward.

pub mod adapters;
pub mod backward;
pub mod batch;
pub mod config;
pub mod formats;
pub mod forward;
pub mod frozen;
pub mod group;
pub mod infer;
mod low_rank;
pub mod parameters;
pub mod peft;
mod phases;
pub mod recompute;
mod stacked;
pub mod weights;
pub mod workspace;

pub use adapters::{Adapted, AdapterSettings, Adapters};
pub use batch::Batch;
pub use config::{Config, RopeScaling};
pub use formats::hf;
pub use frozen::{Formats, Frozen};
pub use group::{Group, Solo};
pub use parameters::{Parameters, Stage};
pub use recompute::Recompute;
pub use stacked::{Part, Stacked};
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
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it, with the tensor or key concerned.
        reason: String,
    },
    /// A place in a file that does not hold what the format says.
    #[error("{path}, byte {byte}: {what}: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// Counted from the beginning of the file.
        byte: u64,
        /// The tensor, the key or the part of the header.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of another kind than is read or written, or of another architecture.
    #[error("{path}: {what}", path = path.display())]
    Unsupported {
        /// The file.
        path: std::path::PathBuf,
        /// What is there, and what would be understood.
        what: String,
        /// The remedy.
        hint: String,
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
            Self::File { path, .. } if is_adapter(path) => Some(ADAPTER_HINT.into()),
            Self::File { .. } => Some(
                "a model is a Hugging Face folder (config.json, model.safetensors), Meta's (params.json, \
                 consolidated.NN.pth) or a GGUF file; `alti inspect` says what is in one"
                    .into(),
            ),
            Self::Damaged { path, .. } if is_adapter(path) => Some(ADAPTER_HINT.into()),
            Self::Damaged { .. } => Some(
                "the file was cut short or changed: copy it again, and compare its checksum with the source's"
                    .into(),
            ),
            Self::Unsupported { hint, .. } => Some(hint.clone()),
            Self::Ledger(error) => error.hint(),
        }
    }
}

const ADAPTER_HINT: &str =
    "an adapter folder holds adapter_config.json and adapter_model.safetensors, made for this very model";

fn is_adapter(path: &std::path::Path) -> bool {
    path.file_name().unwrap_or_default().to_string_lossy().starts_with("adapter_")
}
