//! Whole runs of training on a tiny model: interruption, damage and divergence.

mod divergence;
mod resume;
mod support;
