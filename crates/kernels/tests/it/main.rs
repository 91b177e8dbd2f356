//! The operations of the kernels, each against its plain version in f64, on every instruction set of this processor.

mod adamw;
mod attention;
mod compare;
mod cross_entropy;
mod dropout;
mod embedding;
mod gemm;
mod int8;
mod quant;
mod rms_norm;
mod rope;
mod shapes;
mod swiglu;
