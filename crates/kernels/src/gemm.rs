//! The matrix product C = A B or C += A B, in f32 or on operands rounded to bf16, always accumulated in f32.
//!
//! The bits of a row of C depend on that row of A, on B and on the depth K alone: not on the number of rows, on
//! threads, or on whether B was packed before. Serving relies on it: a token is the same alone and in a batch.
//! K is cut only at fixed places and never between threads. Instruction sets may differ in the last bits.
//!
//! The way through (after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008):
//! [`product`] cuts C into items and packs what they need, [`grouped`] does so for large products on AMX, [`micro`]
//! multiplies tiles, and the files named after instruction sets say how. [`crew`] shares the items between threads.

mod ahead;
mod crew;
mod cut;
#[cfg(target_arch = "x86_64")]
mod grouped;
mod kernel;
mod micro;
mod packed;
mod peak;
mod portable;
mod product;
mod scratch;
mod view;
mod widening_pack;

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod amx_pack;
#[cfg(target_arch = "x86_64")]
pub(crate) mod amx_strips;
#[cfg(target_arch = "x86_64")]
mod amx_sums;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_pack;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16_pack;
#[cfg(target_arch = "x86_64")]
mod avx512_pack;

#[cfg(test)]
mod tests;

pub use kernel::Session;
pub use packed::{Packed, gemm_packed};
pub use peak::measured_peak_gflops;
pub use view::{View, ViewMut};

use product::{Product, Right};

use crate::meter::{self, Cost};

/// How operands are rounded before they are multiplied; products are always accumulated in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// To the nearest bf16, ties to even. Where the processor multiplies bf16 itself, subnormal values are zero.
    Bf16,
}

/// What happens to the values that C had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accumulate {
    /// C = A B; what C held is not read.
    Overwrite,
    /// C += A B.
    Add,
}

/// C (M x N) = A (M x K) B (K x N), or C += A B, on the threads of rayon's current pool.
///
/// Called from outside of a pool it wakes the global one each time; a loop of products belongs in
/// `ThreadPool::install`. NaN and infinities propagate as IEEE 754 says.
///
/// # Panics
/// When the three shapes do not fit together.
pub fn gemm(precision: Precision, c: ViewMut, a: View, b: View, accumulate: Accumulate) {
    let _metered = meter::product(|| Cost::product(&c, &a, b.bytes(), accumulate));
    let kernel = kernel::select(precision);
    Product::new(kernel, c, a, Right::Unpacked(b), accumulate).run(rayon::current_num_threads());
}

/// Makes the calling thread ready for products, until the session is dropped. Not needed: every product does it for
/// itself. A loop of small [`gemm_serial`] products saves some hundred cycles of each.
pub fn session(precision: Precision) -> Session {
    kernel::select(precision).session()
}

/// [`gemm`] in the calling thread, with the same bits. It is a part of other operations, so a [`meter`] does not see it. It allocates when a thread meets its largest product yet.
///
/// # Panics
/// When the three shapes do not fit together.
pub fn gemm_serial(precision: Precision, c: ViewMut, a: View, b: View, accumulate: Accumulate) {
    let kernel = kernel::select(precision);
    Product::new(kernel, c, a, Right::Unpacked(b), accumulate).run(1);
}
