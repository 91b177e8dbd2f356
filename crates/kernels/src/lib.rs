//! The numerics: each operation of Llama 3, forward and backward, for every processor.
//!
//! Every operation is a plain function over slices; its shapes stand in its documentation. Nothing here knows
//! what a layer or a checkpoint is, nothing allocates where a training step runs, and the bits of a result never
//! depend on the number of threads: work is cut by fixed blocks of rows, and each sum has a fixed order.
//!
//! Shapes: `T` tokens (all rows of a batch together), `D` model width, `H` query heads, `K` key/value heads,
//! `C` width of a head, `F` width of the feed-forward, `V` vocabulary.

pub mod adamw;
pub mod attention;
pub mod awake;
pub mod bandwidth;

pub mod buffer;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gemm;
pub mod int8;
pub mod isa;
pub mod kept;
pub mod math;
pub mod meter;
pub mod quant;
pub mod reduce;
pub mod rms_norm;
pub mod rope;
pub mod scores;
pub mod swiglu;
