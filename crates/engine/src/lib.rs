//! Inference: many requests over one model, batched as they come, sampled and streamed as text.
//! It knows tokens and text; it is neither a server (see `serve`) nor the mathematics (see `model`).
//!
//! One scheduler thread owns the pages that keys and values are kept in; requests that begin alike share them. Requests join between any two steps and leave when they are done; a long
//! prompt is read in bounded chunks, so that the others keep talking. What a request gets depends on the request alone:
//! the same tokens whether it runs by itself or among a hundred others.

mod adapters;
pub mod bench;
mod constraint;
mod embedding;
mod emit;
mod engine;
mod error;
mod events;
mod forward;
mod pages;
mod prompt;
mod request;
mod sampling;
mod scheduler;
mod sequence;
mod settings;
mod speculation;

pub use crate::adapters::AdapterInfo;
pub use crate::constraint::Constraint;
pub use crate::embedding::Pooling;
pub use crate::engine::{Engine, Stats};
pub use crate::error::Error;
pub use crate::events::{Events, Partial, Sink};
pub use crate::forward::{Adapter, Forward, Outputs, Segment, Wanted};
pub use crate::request::{
    Alternative, Completion, Event, FinishReason, Request, StopCause, Timing, Token, Usage,
};
pub use crate::sampling::Sampling;
pub use crate::settings::{KvCache, Precision, Settings, Speculative};
