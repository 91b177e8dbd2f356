//! A training step allocates nothing once it has run: a binary of its own, since its allocator counts for all threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use kernels::meter::Meter;
use ledger::seed::Seed;
use model::{AdapterSettings, Adapters, Batch, Config, Formats, Frozen, Weights};
use train::settings::Precision;
use train::{Settings, Size, Stepper, Trained, Tuned};

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

/// Allocations of each of `steps` steps, of two micro-batches, on `threads` threads, with a meter that runs or without.
fn allocations(
    trained: &mut (impl Trained + Send),
    threads: usize,
    steps: u64,
    precision: Precision,
    metered: bool,
) -> Vec<usize> {
    let settings = Settings { precision, ..Settings::default() };
    let mut stepper = Stepper::new(trained, 2, 640, &settings);
    let fill = |micro: u32, batch: &mut Batch| {
        for (place, (input, target)) in batch.inputs.iter_mut().zip(&mut batch.targets).enumerate() {
            let place = place as u32 + micro;
            (*input, *target) = (place * 7 % 1003, place * 11 % 1003);
        }
        batch.document_starts[640 + 300..].fill(300);
        batch.loss_weights[100..200].fill(0.0);
    };
    let counted = |step| {
        COUNTS.store(true, SeqCst);
        stepper.step(trained, 2, step, 1e-3, fill).unwrap();
        COUNTS.store(false, SeqCst);
        ALLOCATIONS.swap(0, SeqCst)
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let _meter = metered.then(Meter::start);
        (1..=steps).map(counted).collect()
    })
}

#[test]
fn a_step_after_the_first_allocates_nothing() {
    // Long enough for attention in several blocks of keys, with a vocabulary that is no multiple of anything.
    let config = Config { vocab_size: 1003, max_seq_len: 640, ..Size::Nano.plan().model };
    let mut weights = Weights::init(&config, &mut Seed(1).stream("weights", 0)).unwrap();
    let base = Frozen::new(&weights, Formats::QLORA).unwrap();
    let settings = AdapterSettings { dropout: 0.1, ..AdapterSettings::default() };
    let adapters = Adapters::init(&config, &settings, &mut Seed(1).stream("adapters", 0)).unwrap();
    let mut tuned = Tuned { base: &base, adapters, seed: Seed(2) };
    for precision in [Precision::F32, Precision::Bf16] {
        for metered in [false, true] {
            let whole = allocations(&mut weights, 1, 3, precision, metered);
            let adapters = allocations(&mut tuned, 1, 3, precision, metered);
            assert_eq!(whole[1..], [0; 2], "{precision:?}, metered: {metered}");
            assert_eq!(adapters[1..], [0; 2], "adapters, {precision:?}, metered: {metered}");
        }
        // With two threads it is chance which one meets its largest product, or finds the queue of its work full, and
        // grows a buffer that it then keeps. What belongs to a step would be there in each.
        for counted in [
            allocations(&mut weights, 2, 24, precision, false),
            allocations(&mut tuned, 2, 24, precision, false),
        ] {
            let idle = counted.iter().filter(|&&count| count == 0).count();
            assert!(idle > 12, "{precision:?}, on two threads, step by step: {counted:?}");
        }
    }
}
