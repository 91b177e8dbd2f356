//! Numbered items of a product, shared between threads so that each goes through memory in order and all end together.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Runs `item(worker, index)` for every index below `items`, on up to `threads` threads of the current pool, each with a
/// `worker` of its own. A thread goes through a range of its own; when it is at the end, it helps the others with theirs.
pub(super) fn run<W>(
    threads: usize,
    items: usize,
    worker: &(impl Fn() -> W + Sync),
    item: &(impl Fn(&mut W, usize) + Sync),
) {
    let threads = threads.min(items);
    if threads <= 1 {
        let mut worker = worker();
        (0..items).for_each(|index| item(&mut worker, index));
        return;
    }
    let range = |own: usize| own * items / threads..(own + 1) * items / threads;
    let next: Vec<Line> = (0..threads).map(|own| Line(AtomicUsize::new(range(own).start))).collect();
    fork(0..threads, &|own| {
        let mut worker = worker();
        for other in 0..threads {
            let from = (own + other) % threads;
            loop {
                let index = next[from].0.fetch_add(1, Relaxed);
                if index >= range(from).end {
                    break;
                }
                item(&mut worker, index);
            }
        }
    });
}

/// A counter on a cache line of its own.
#[repr(align(64))]
struct Line(AtomicUsize);

fn fork(threads: Range<usize>, work: &(impl Fn(usize) + Sync)) {
    if threads.len() <= 1 {
        threads.for_each(work);
    } else {
        let middle = threads.start + threads.len() / 2;
        rayon::join(|| fork(threads.start..middle, work), || fork(middle..threads.end, work));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_runs_once() {
        for (threads, items) in [(1, 5), (2, 0), (2, 7), (3, 1), (8, 100)] {
            let runs: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
            run(threads, items, &|| (), &|(), index| {
                runs[index].fetch_add(1, Relaxed);
            });
            assert!(runs.iter().all(|runs| runs.load(Relaxed) == 1), "{threads} threads, {items} items");
        }
    }
}
