//! Several threads through one product: phases of numbered items, each item done once, by whoever comes first.
//!
//! One rayon fork serves the whole product, however many phases it has, and nobody waits for a worker that is busy
//! elsewhere: only for items that a running thread has already taken.

use std::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

/// Runs `item(worker, phase, index)` for every phase in order and every index below that phase's number of items,
/// on up to `threads` threads of the current pool, each with a `worker` of its own. All items of a phase are
/// finished before one of the next begins.
pub(super) fn run<W>(
    threads: usize,
    phases: &Phases,
    worker: &(impl Fn() -> W + Sync),
    item: &(impl Fn(&mut W, usize, usize) + Sync),
) {
    if threads <= 1 {
        let mut worker = worker();
        for phase in 0..phases.count {
            for index in 0..phases.items[phase % 2] {
                item(&mut worker, phase, index);
            }
        }
        return;
    }
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Crew { next, done, phases, worker, item }.fork(threads);
}

/// `count` phases that alternate between two kinds, with as many items as `items` says for each.
pub(super) struct Phases {
    pub count: usize,
    pub items: [usize; 2],
}

impl Phases {
    fn total(&self) -> usize {
        self.count.div_ceil(2) * self.items[0] + self.count / 2 * self.items[1]
    }

    /// Of the `number`th item of all: its phase, its index there, and how many items come before that phase.
    fn locate(&self, number: usize) -> (usize, usize, usize) {
        let [even, odd] = self.items;
        let (pair, rest) = (number / (even + odd), number % (even + odd));
        if rest < even {
            (2 * pair, rest, number - rest)
        } else {
            (2 * pair + 1, rest - even, number - (rest - even))
        }
    }
}

struct Crew<'a, New, Item> {
    next: AtomicUsize,
    done: AtomicUsize,
    phases: &'a Phases,
    worker: &'a New,
    item: &'a Item,
}

impl<W, New: Fn() -> W + Sync, Item: Fn(&mut W, usize, usize) + Sync> Crew<'_, New, Item> {
    fn fork(&self, threads: usize) {
        if threads <= 1 {
            self.work();
        } else {
            rayon::join(|| self.fork(threads / 2), || self.fork(threads - threads / 2));
        }
    }

    /// Items are taken in order, so whatever is waited for is being worked on.
    fn work(&self) {
        let total = self.phases.total();
        let mut worker = None;
        loop {
            let number = self.next.fetch_add(1, Relaxed);
            if number >= total {
                return;
            }
            let (phase, index, before) = self.phases.locate(number);
            self.wait_for(before);
            let _finished = Finished(&self.done);
            (self.item)(worker.get_or_insert_with(self.worker), phase, index);
        }
    }

    fn wait_for(&self, items: usize) {
        let mut spins = 0;
        while self.done.load(Acquire) < items {
            // A pause is about 0.05 us; after some of them the thread that we wait for may need this core.
            spins += 1;
            if spins < 200 { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

/// Counts an item as done even when it panics, so that the others do not wait for ever.
struct Finished<'a>(&'a AtomicUsize);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_runs_once_and_phases_do_not_mix() {
        for (threads, count, items) in [(1, 4, [3, 5]), (2, 6, [7, 1]), (3, 5, [1, 4]), (8, 2, [0, 9])] {
            let phases = Phases { count, items };
            let runs: Vec<AtomicUsize> = (0..count * 9).map(|_| AtomicUsize::new(0)).collect();
            let latest = AtomicUsize::new(0);
            run(threads, &phases, &|| (), &|(), phase, index| {
                assert!(latest.fetch_max(phase, Relaxed) <= phase);
                std::thread::yield_now();
                assert!(latest.load(Relaxed) <= phase);
                runs[phase * 9 + index].fetch_add(1, Relaxed);
            });
            for (number, runs) in runs.iter().enumerate() {
                let expected = usize::from(number % 9 < items[number / 9 % 2]);
                assert_eq!(runs.load(Relaxed), expected, "{threads} threads, item {number}");
            }
        }
    }
}
