//! Post-training: supervised fine-tuning on conversations.
//!
//! [`tasks`] generates conversations with exact answers, [`conversations`] reads people's own, and [`sft`] tunes a
//! base model on either. Not here: measuring the result (`evals`), reward models and preferences.

pub mod conversations;
mod error;
pub mod sft;
pub mod tasks;

pub use error::Error;
pub use sft::{Outcome, Settings, SftBatches, sft};
