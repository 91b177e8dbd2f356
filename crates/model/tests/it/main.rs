//! The model against PyTorch and transformers (golden files), against itself, and its files against bad input.

mod adapters;
mod determinism;
mod golden;
mod hf_files;
mod inference;
mod metered;
mod parallel;
mod peft;
mod recompute;
