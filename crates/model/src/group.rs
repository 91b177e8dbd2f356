//! Where a block is divided between ranks: what forward and backward ask of the others.
//!
//! Tensor parallelism after Megatron-LM (Shoeybi et al. 2019, section 3): each rank holds some of the heads and of the
//! feed-forward's width, which makes its share of a block a smaller block: a [`crate::Config`] with fewer `heads`,
//! `kv_heads` and `ffn_dim`, and the same `dim`. The residual stream, the norms, the embedding and the output layer are
//! on every rank, in the same bits. Not here: ranks, threads and how a sum travels (crate `mesh`).

use kernels::gemm::Accumulate;

/// The ranks that share each block. [`Solo`] is one rank alone.
pub trait Group: Sync {
    /// Whether this rank is the one that brings the residual stream into a sum, to which the others bring their shares
    /// only.
    fn leads(&self) -> bool;

    /// Adds up the ranks' `values`, place by place; every rank ends with the same bits. All ranks of the group call it
    /// equally often, with the same lengths.
    fn sum(&self, values: &mut [f32]);

    /// How this rank's share of a product meets a residual stream that all ranks hold, before [`Group::sum`].
    fn accumulate(&self) -> Accumulate {
        if self.leads() { Accumulate::Add } else { Accumulate::Overwrite }
    }
}

/// A rank alone; compiles to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Solo;

impl Group for Solo {
    fn leads(&self) -> bool {
        true
    }

    fn sum(&self, _values: &mut [f32]) {}
}
