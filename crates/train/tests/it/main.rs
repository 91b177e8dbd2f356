//! Whole runs of training on a tiny model: interruption, damage and divergence.

mod adapters;
mod divergence;
mod resume;
mod support;
