//! The engine from outside, over models of a few lines.

mod adapters;
mod answers;
mod bench;
mod bounds;
mod constraints;
mod embeddings;
mod endings;
mod llama;
mod prompts;
mod small;
mod speculation;
mod toy;
mod words;
