//! A training step allocates nothing once it has run: a binary of its own, since its allocator counts for all threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use kernels::buffer::Buffer;
use kernels::gemm::{Accumulate, Precision};
use model::backward::loss_and_gradients;
use model::{Batch, Config, Weights, Workspace};
use train::optimizer::{self, Optimizer};
use train::{Settings, Size};

struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator; counting touches no memory of anybody's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(SeqCst) {
            ALLOCATIONS.fetch_add(1, SeqCst);
        }
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_after_the_first_allocates_nothing() {
    // Long enough for attention in several blocks of keys, with a vocabulary that is no multiple of anything.
    let config = Config { vocab_size: 1003, max_seq_len: 640, ..Size::Nano.plan().model };
    let settings = Settings::default();
    let mut weights = Weights::init(&config, &mut ledger::seed::Seed(1).stream("weights", 0)).unwrap();
    let mut optimizer = Optimizer::new(&config, &settings);
    let mut workspace = Workspace::new(&config, 2, 640);
    let mut gradients = Buffer::zeros(weights.data.len());
    let mut batch = Batch::new(2, 640);
    for (place, (input, target)) in batch.inputs.iter_mut().zip(&mut batch.targets).enumerate() {
        (*input, *target) = (place as u32 * 7 % 1003, place as u32 * 11 % 1003);
    }
    batch.document_starts[640 + 300..].fill(300);
    batch.loss_weights[100..200].fill(0.0);
    // One thread: which thread meets its largest product when is chance with more, and each grows its buffers once.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        let mut step = |number: u64| {
            let accumulate = Accumulate::Overwrite;
            let sums =
                loss_and_gradients(&weights, &batch, &mut workspace, &mut gradients, accumulate, precision)
                    .unwrap();
            let (_, scale) = optimizer::clip(&gradients, 1.0 / sums.weight, settings.clip_norm);
            optimizer.step(&mut weights.data, &gradients, number, 1e-3, scale);
        };
        pool.install(|| {
            step(1);
            COUNTS.store(true, SeqCst);
            step(2);
            COUNTS.store(false, SeqCst);
        });
        assert_eq!(ALLOCATIONS.swap(0, SeqCst), 0, "{precision:?}");
    }
}
