//! Keeps the threads of a pool awake through a pass of many short operations.
//!
//! A thread that finds nothing to do soon goes to sleep, and waking it goes through the system. A token of a 1B model is a
//! hundred operations of some 100 µs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rayon::Yield;

/// How long a pass waits for the threads to come.
const PATIENCE: Duration = Duration::from_micros(200);
/// Set in [`Watch::state`] once the pass has begun.
const BEGUN: usize = 1 << 31;

/// Runs `body` in the current pool, while its idle threads look for work without a pause. They do whatever work there is, so
/// nothing else is different; they only do not sleep.
pub fn awake<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    let others = rayon::current_num_threads() - 1;
    if others == 0 {
        return body();
    }
    let watch = Watch { state: AtomicUsize::new(0), done: AtomicBool::new(false) };
    rayon::scope(|scope| {
        (0..others).for_each(|_| scope.spawn(|_| watch.keep()));
        let _end = watch.begin(others);
        body()
    })
}

struct Watch {
    /// Threads that keep awake, and [`BEGUN`].
    state: AtomicUsize,
    done: AtomicBool,
}

impl Watch {
    /// Gives the threads time to come. One that comes later must not stay: it may be at work for the body, waiting for a part
    /// of its own work, and would keep itself from going on.
    fn begin(&self, others: usize) -> End<'_> {
        let began = Instant::now();
        while self.state.load(SeqCst) < others && began.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
        self.state.fetch_or(BEGUN, SeqCst);
        End(&self.done)
    }

    fn keep(&self) {
        let enter = |state| (state & BEGUN == 0).then_some(state + 1);
        if self.state.fetch_update(SeqCst, SeqCst, enter).is_err() {
            return;
        }
        while !self.done.load(SeqCst) {
            if rayon::yield_now() != Some(Yield::Executed) {
                std::hint::spin_loop();
            }
        }
    }
}

/// The end of the pass, also where it panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    fn sum(count: u64) -> u64 {
        (0..count).into_par_iter().map(|value| rayon::join(|| value, || value).0).sum()
    }

    #[test]
    fn a_body_runs_once_and_ends_with_others_beside_it_and_within_it() {
        for threads in [1, 2, 3, 8] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let expected = 499_500;
            for _ in 0..20 {
                assert_eq!(pool.install(|| awake(|| sum(1000))), expected);
                let nested = || awake(|| awake(|| sum(1000)) + awake(|| sum(1000)));
                let (first, second) = pool.install(|| rayon::join(nested, nested));
                assert_eq!((first, second), (2 * expected, 2 * expected), "{threads} threads");
                std::thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| assert_eq!(pool.install(|| awake(|| sum(1000))), expected));
                    }
                });
            }
        }
    }

    #[test]
    fn a_panic_lets_the_threads_go() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.install(|| awake(|| -> u64 { panic!("as a test") }))
        }));
        assert!(result.is_err());
        assert_eq!(pool.install(|| awake(|| sum(100))), 4950);
    }
}
