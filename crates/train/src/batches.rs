//! Where the batches of a training run come from: a function of the step, so that a resume needs no state.

use model::Batch;

/// Fills batches. The same step and micro-batch always give the same batch, whatever was asked for before.
pub trait Batches: Sync {
    /// Fills `batch` for micro-batch `micro` (counted from 0) of `step` (counted from 0). The batch comes with its
    /// rows, length and vectors as [`Batch::new`] makes them; every value must be written.
    fn fill(&self, step: u64, micro: u32, batch: &mut Batch);

    /// Names the documents of a batch for a person who looks for the one that did harm.
    fn describe(&self, step: u64, micro: u32) -> String {
        format!("micro-batch {micro} of step {}", step + 1)
    }
}
