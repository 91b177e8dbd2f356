//! Run folders, atomic files, provenance, metrics, progress and seeds.
//!
//! What a run must remember, and nothing about language models: no tensor, no token, no network.
//! Nothing here prints; what a person should see goes through [`progress`].

#[expect(clippy::disallowed_methods, reason = "renaming files safely is what this module is for")]
pub mod atomic;
pub mod clock;
pub mod digest;
mod error;
pub mod events;
mod lines;
pub mod lock;
pub mod machine;
mod median;
pub mod metrics;
pub mod progress;
pub mod run;
pub mod seed;
pub mod tensorboard;

pub use error::Error;
pub use median::median;
