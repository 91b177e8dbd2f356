//! The model against PyTorch and transformers (golden files), against itself, and its files against bad input.

mod adapters;
mod determinism;
mod formats;
mod gguf_parts;
mod golden;
mod hf_files;
mod hostile;
mod inference;
mod metered;
mod parallel;
mod peft;
mod quantised;
mod recompute;
mod served_adapters;
