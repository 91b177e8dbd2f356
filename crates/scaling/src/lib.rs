//! What small trainings say of large ones. So far: how the loss depends on the shares of the sources that a model is trained
//! on ([`mixture`]). It trains nothing and reads no files: runs go in as numbers, laws and proposals come out.

mod error;
mod linear;
pub mod mixture;

pub use error::Error;
