//! The operations of the kernels, each against its specification.

mod gemm;
