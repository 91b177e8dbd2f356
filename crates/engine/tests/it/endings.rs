//! How requests and engines end: by cancellation, shutdown, and the death of the model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Engine, Error, Event, FinishReason, Request, Settings};

use crate::toy::{Toy, tokenizer};

fn endless(max_tokens: usize) -> Request {
    Request { ignore_end: true, ..Request::greedy(vec![1, 2], max_tokens) }
}

/// An engine whose steps take a millisecond.
fn slow(settings: Settings) -> Engine {
    let tokenizer = tokenizer();
    let toy = Toy { pause: Duration::from_millis(1), ..Toy::new(&tokenizer) };
    Engine::start(Arc::new(toy), tokenizer, settings).unwrap()
}

#[track_caller]
fn wait_until(engine: &Engine, what: &str, reached: impl Fn(&engine::Stats) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reached(&engine.stats()) {
        assert!(Instant::now() < deadline, "{what} did not come about: {:?}", engine.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn dropping_the_events_cancels_the_request() {
    let engine = slow(Settings { max_sequences: 1, ..Settings::default() });
    let running = engine.submit(endless(250)).unwrap();
    let waiting = engine.submit(endless(250)).unwrap();
    let last = engine.submit(endless(3)).unwrap();
    assert!(matches!(running.recv(), Ok(Event::Token(_))));
    drop(waiting);
    wait_until(&engine, "the end of the one that waited", |stats| stats.finished == 1);
    assert_eq!(engine.stats().running, 1);
    drop(running);
    assert_eq!(last.iter().count(), 4);
    wait_until(&engine, "rest", |stats| stats.running + stats.waiting + stats.cache_tokens == 0);
    assert!(engine.stats().completion_tokens < 500);
}

#[test]
fn shutdown_finishes_what_runs_and_waits() {
    let engine = slow(Settings { max_sequences: 1, ..Settings::default() });
    let events: Vec<_> = (0..3).map(|_| engine.submit(endless(10)).unwrap()).collect();
    engine.shutdown();
    assert_eq!(engine.submit(endless(1)).err(), Some(Error::Stopped));
    assert_eq!(engine.complete(endless(1)).err(), Some(Error::Stopped));
    assert_eq!(engine.complete_all(vec![endless(1)]), vec![Err(Error::Stopped)]);
    for events in events {
        assert_eq!(events.iter().count(), 11);
    }
    engine.shutdown();
    engine.abort();
}

#[test]
fn abort_cancels_what_runs_and_waits() {
    let engine = slow(Settings { max_sequences: 1, ..Settings::default() });
    let events: Vec<_> = (0..3).map(|_| engine.submit(endless(250)).unwrap()).collect();
    assert!(matches!(events[0].recv(), Ok(Event::Token(_))));
    engine.abort();
    for events in events {
        let last = events.iter().last();
        assert!(matches!(last, Some(Event::Done { reason: FinishReason::Cancelled, .. })), "{last:?}");
    }
    assert_eq!(engine.stats().running + engine.stats().waiting + engine.stats().cache_tokens, 0);
}

#[test]
fn without_handles_the_engine_finishes_what_somebody_reads() {
    let engine = slow(Settings::default());
    let read = engine.submit(endless(20)).unwrap();
    drop(engine);
    assert_eq!(read.iter().count(), 21);
}

#[test]
fn when_the_model_dies_nobody_waits_for_ever() {
    let tokenizer = tokenizer();
    let toy = Toy { panics_at: Some(5), ..Toy::new(&tokenizer) };
    let engine = Engine::start(Arc::new(toy), tokenizer, Settings::default()).unwrap();
    assert_eq!(
        engine.complete_all(vec![endless(20), endless(20)]),
        vec![Err(Error::Stopped), Err(Error::Stopped)]
    );
    assert_eq!(engine.complete(endless(1)), Err(Error::Stopped));
    engine.shutdown();
}

#[test]
fn many_threads_come_and_go() {
    let engine = slow(Settings { max_sequences: 8, max_queue: 10, ..Settings::default() });
    let outcome = |thread: u32| {
        let mut refused = 0;
        for round in 0..10u32 {
            let request = Request { ignore_end: true, ..Request::greedy(vec![thread + 1, round + 1], 12) };
            match engine.submit(request) {
                Ok(events) if (thread + round).is_multiple_of(3) => drop(events),
                Ok(events) => assert_eq!(events.iter().count(), 13),
                Err(Error::QueueFull { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
        }
        refused
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..24).map(|thread| scope.spawn(move || outcome(thread))).collect();
        let refused: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(refused < 240);
    });
    wait_until(&engine, "rest", |stats| stats.running + stats.waiting + stats.cache_tokens == 0);
}
