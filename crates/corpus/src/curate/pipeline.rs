//! Work on a stream by several threads, with the results in the stream's order and a bounded number of things on the
//! way. What the work is, others say.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use crate::Error;
use crate::read::Flow;

/// Where things to be worked on are sent.
pub(crate) struct Feed<T> {
    things: Sender<(usize, T)>,
    /// One for each thing that there is room for.
    room: Receiver<()>,
    next: usize,
}

impl<T> Feed<T> {
    /// Waits for room and sends; breaks when the results are no longer wanted.
    pub fn send(&mut self, thing: T) -> Flow {
        let sent = self.room.recv().is_ok() && self.things.send((self.next, thing)).is_ok();
        self.next += 1;
        if sent { Flow::Continue(()) } else { Flow::Break(()) }
    }
}

type Outcome<U> = Result<U, Box<dyn Any + Send>>;

/// Runs `feed` in a thread of its own, `work` in `threads` more, and `take` here, which gets the results in the order
/// of sending; at most `window` things are on the way. After an error of `take` the others end, and it is returned;
/// a panic goes on here.
pub(crate) fn ordered<T: Send, U: Send, R: Send>(
    threads: usize,
    window: usize,
    feed: impl FnOnce(&mut Feed<T>) -> R + Send,
    work: impl Fn(T) -> U + Sync,
    mut take: impl FnMut(U) -> Result<(), Error>,
) -> Result<R, Error> {
    let window = window.max(threads).max(1);
    let (things, incoming) = channel();
    let (results, finished) = channel::<(usize, Outcome<U>)>();
    let (release, room) = sync_channel(window);
    for _ in 0..window {
        // There is room for so many in the channel itself.
        let _ = release.send(());
    }
    let incoming = Mutex::new(incoming);
    std::thread::scope(|scope| {
        let feeder = scope.spawn(move || feed(&mut Feed { things, room, next: 0 }));
        for _ in 0..threads.max(1) {
            let (results, incoming, work) = (results.clone(), &incoming, &work);
            scope.spawn(move || {
                loop {
                    let next = incoming.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((index, thing)) = next else { break };
                    // Else its place in the order would stay empty, and everybody would wait for it.
                    let result = catch_unwind(AssertUnwindSafe(|| work(thing)));
                    if results.send((index, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(results);
        let mut collect = || {
            let mut early = BTreeMap::new();
            let mut next = 0;
            for (index, result) in &finished {
                early.insert(index, result);
                while let Some(result) = early.remove(&next) {
                    next += 1;
                    take(result.unwrap_or_else(|panic| resume_unwind(panic)))?;
                    let _ = release.send(());
                }
            }
            Ok(())
        };
        let collected = catch_unwind(AssertUnwindSafe(&mut collect));
        // The feeder waits for room, the workers for things.
        drop((release, finished));
        let fed = feeder.join().unwrap_or_else(|panic| resume_unwind(panic));
        collected.unwrap_or_else(|panic| resume_unwind(panic)).map(|()| fed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_few_are_on_the_way() {
        for threads in [1, 2, 7] {
            // Below 0 where a result is taken before its sending is counted.
            let on_the_way = std::sync::atomic::AtomicIsize::new(0);
            let most = std::sync::atomic::AtomicIsize::new(0);
            let mut taken = Vec::new();
            let feed = |feed: &mut Feed<u64>| {
                for number in 0..500 {
                    // Counted before it is sent, lest its result come first.
                    let now = on_the_way.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                    most.fetch_max(now, std::sync::atomic::Ordering::SeqCst);
                    assert!(feed.send(number).is_continue());
                }
                "fed"
            };
            let work = |number: u64| {
                std::thread::sleep(std::time::Duration::from_micros(number * 37 % 200));
                number * 2
            };
            let fed = ordered(threads, 8, feed, work, |number| {
                on_the_way.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                taken.push(number);
                Ok(())
            });
            assert_eq!(fed.unwrap(), "fed");
            assert_eq!(taken, (0..500).map(|number| number * 2).collect::<Vec<_>>());
            // One more is counted while it waits for room.
            assert!(most.into_inner() <= 9);
        }
    }

    #[test]
    fn errors_and_panics_end_it() {
        let endless = |feed: &mut Feed<u64>| {
            let mut number = 0;
            while feed.send(number).is_continue() {
                number += 1;
            }
        };
        let failed = ordered(
            2,
            4,
            endless,
            |number| number,
            |number| match number {
                100 => Err(Error::Stopped),
                _ => Ok(()),
            },
        );
        assert!(matches!(failed, Err(Error::Stopped)));
        let panicked = catch_unwind(|| {
            let work = |number| assert!(number != 50, "on purpose");
            let _ = ordered(2, 4, endless, work, |()| Ok(()));
        });
        assert!(panicked.is_err());
    }
}
