//! The least time that an operation could take here (Williams, Waterman and Patterson, "Roofline: An Insightful Visual
//! Performance Model", 2009): that of its arithmetic at the measured peak, or that of its bytes at the measured
//! bandwidths, whichever is longer.

use std::time::Duration;

use kernels::bandwidth::{Bandwidth, measured_bandwidth};
use kernels::gemm::{Precision, measured_peak_gflops};
use ledger::progress::{Progress, Unit};

use super::Share;

/// What the machine reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Floating-point operations a second, of the best large product in the precision of training.
    pub peak: f64,
    /// Memory on all threads.
    pub bandwidth: Bandwidth,
}

/// What an operation's time cannot fall below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Arithmetic.
    Compute,
    /// Memory.
    Memory,
}

/// The least time of an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Least {
    /// Seconds.
    pub seconds: f64,
    /// What asks for them.
    pub bound: Bound,
}

impl Roofline {
    /// Measures both on the threads of the current pool, which takes about a second, up to 512 MiB and an otherwise idle
    /// machine.
    pub fn measure(precision: Precision, progress: &dyn Progress) -> Self {
        let budget = Duration::from_millis(400);
        let task = progress.begin("machine", Some(2), Unit::Items);
        let peak = measured_peak_gflops(precision, budget) * 1e9;
        task.advance(1);
        let bandwidth = measured_bandwidth(budget);
        task.advance(1);
        Self { peak, bandwidth }
    }

    /// The least time of an operation: that of its arithmetic; of what it reads; or of all that it moves.
    pub fn least(&self, share: &Share) -> Least {
        let compute = share.flops / self.peak;
        let moved = (share.read + share.written) / self.bandwidth.update.max(self.bandwidth.read);
        let memory = moved.max(share.read / self.bandwidth.read);
        if compute > memory {
            Least { seconds: compute, bound: Bound::Compute }
        } else {
            Least { seconds: memory, bound: Bound::Memory }
        }
    }
}
