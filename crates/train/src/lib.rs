//! Training: sizes and their plans, the schedule, AdamW, packed batches, the step loop, checkpoints and recovery.
//!
//! Not the model's arithmetic (`model`, `kernels`) and not where the documents come from (`corpus`): this crate
//! decides what is computed next, and what is on disk when the machine goes away.

pub mod batches;
pub mod bench;
pub mod checkpoint;
mod error;
pub mod gradients;
pub mod optimizer;
mod pace;
pub mod packed;
pub mod quantity;
mod run;
pub mod schedule;
pub mod settings;
pub mod size;
mod step;
mod trained;
mod watch;

pub use batches::Batches;
pub use error::Error;
pub use gradients::Gradients;
pub use pace::trial;
pub use packed::PackedBatches;
pub use run::{Finished, Job, Outcome, Stopped, run};
pub use schedule::Schedule;
pub use settings::Settings;
pub use size::{Plan, Size};
pub use step::{Gradient, Stepper};
pub use trained::{Trained, Tuned};
