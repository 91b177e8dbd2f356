//! The least time that an operation could take here (Williams, Waterman and Patterson, "Roofline: An Insightful Visual
//! Performance Model", 2009): that of its arithmetic at the measured peak, or that of its bytes at the measured
//! bandwidth, whichever is longer.

use std::time::Duration;

use kernels::bandwidth::{Bandwidth, measured_read_bandwidth};
use kernels::gemm::{Precision, measured_peak_gflops};

/// What the machine reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    /// Floating-point operations a second, of the best large product in the precision of training.
    pub peak: f64,
    /// Reading memory on all threads.
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
    pub fn measure(precision: Precision) -> Self {
        let budget = Duration::from_millis(400);
        Self {
            peak: measured_peak_gflops(precision, budget) * 1e9,
            bandwidth: measured_read_bandwidth(budget),
        }
    }

    /// The least time of so many floating-point operations and bytes.
    pub fn least(&self, flops: f64, bytes: f64) -> Least {
        let (compute, memory) = (flops / self.peak, bytes / self.bandwidth.bytes_per_second);
        if compute > memory {
            Least { seconds: compute, bound: Bound::Compute }
        } else {
            Least { seconds: memory, bound: Bound::Memory }
        }
    }
}
