//! Several threads through one product: numbered items, each done once, by whoever comes first.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Runs `item(worker, index)` for every index below `items`, on up to `threads` threads of the current pool, each
/// with a `worker` of its own. Nobody waits for a thread that is busy elsewhere.
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
    let next = AtomicUsize::new(0);
    fork(threads, &|| {
        let mut own = None;
        loop {
            let index = next.fetch_add(1, Relaxed);
            if index >= items {
                return;
            }
            item(own.get_or_insert_with(worker), index);
        }
    });
}

fn fork(threads: usize, work: &(impl Fn() + Sync)) {
    if threads <= 1 {
        work();
    } else {
        rayon::join(|| fork(threads / 2, work), || fork(threads - threads / 2, work));
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
