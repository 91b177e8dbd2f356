//! How much runs at once: batches, chunks of prompts, cache, queue.

use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, Error, Request, Settings};

use crate::toy::{Toy, tokenizer};

fn endless(prompt: usize, max_tokens: usize) -> Request {
    Request { ignore_end: true, ..Request::greedy(vec![1; prompt], max_tokens) }
}

/// Runs all requests, which arrive within the first step, and gives, for each call of the model, the (tokens, length before) of its segments.
fn calls(settings: Settings, requests: Vec<Request>) -> Vec<Vec<(usize, usize)>> {
    let tokenizer = tokenizer();
    let toy = Arc::new(Toy { pause: Duration::from_millis(4), ..Toy::new(&tokenizer) });
    let engine = Engine::start(Arc::clone(&toy), tokenizer, settings).unwrap();
    for answer in engine.complete_all(requests) {
        answer.unwrap();
    }
    engine.shutdown();
    std::mem::take(&mut *toy.calls.lock().unwrap())
}

#[test]
fn a_long_prompt_does_not_stop_the_others() {
    let settings = Settings { prefill_chunk: 16, ..Settings::default() };
    // The second prompt comes while the first is answering.
    let calls = calls(settings, vec![endless(1, 60), endless(150, 2)]);
    let both: Vec<_> = calls.iter().filter(|call| call.len() == 2).collect();
    assert!(both.len() >= 9, "{calls:?}");
    for call in &calls {
        let prompts: usize = call.iter().map(|(tokens, _)| tokens).filter(|tokens| **tokens > 1).sum();
        assert!(prompts <= 16, "{call:?}");
    }
    // In each call while the prompt is read, the first sequence has its token.
    for call in calls.iter().filter(|call| call.iter().any(|(tokens, _)| *tokens > 1)).skip(1) {
        assert!(call.iter().any(|(tokens, _)| *tokens == 1), "{call:?}");
    }
}

#[test]
fn prompts_share_one_chunk_oldest_first() {
    let settings = Settings { prefill_chunk: 10, ..Settings::default() };
    let calls = calls(settings, vec![endless(15, 1), endless(15, 1)]);
    let read: Vec<Vec<usize>> =
        calls.iter().map(|call| call.iter().map(|(tokens, _)| *tokens).collect()).collect();
    assert!(read == [vec![10], vec![5, 5], vec![10]], "{read:?}");
}

#[test]
fn no_more_sequences_run_together_than_allowed() {
    let settings = Settings { max_sequences: 3, ..Settings::default() };
    let calls = calls(settings, (0..10).map(|_| endless(5, 5)).collect());
    assert_eq!(calls.iter().map(Vec::len).max(), Some(3));
}

#[test]
fn no_more_cache_is_used_than_allowed() {
    // Each reserves two of seven pages of 16; no two share a page.
    let settings = Settings { max_cache_tokens: 120, ..Settings::default() };
    let requests = (0..10).map(|number| Request { prompt: vec![number; 10], ..endless(10, 20) });
    let calls = calls(settings, requests.collect());
    assert_eq!(calls.iter().map(Vec::len).max(), Some(3));
}

/// Tokens that are read of each of these requests, which arrive within the first step.
fn read(page_tokens: usize, chunk: usize, requests: Vec<Request>) -> Vec<usize> {
    let tokenizer = tokenizer();
    let toy = Toy { page_tokens, pause: Duration::from_millis(4), ..Toy::new(&tokenizer) };
    let settings = Settings { prefill_chunk: chunk, ..Settings::default() };
    let engine = Engine::start(Arc::new(toy), tokenizer, settings).unwrap();
    let prompts: Vec<usize> = requests.iter().map(|request| request.prompt.len()).collect();
    let answers = engine.complete_all(requests);
    let read =
        prompts.iter().zip(answers).map(|(prompt, answer)| prompt - answer.unwrap().usage.cached_tokens);
    let read: Vec<usize> = read.collect();
    let stats = engine.stats();
    assert_eq!(stats.prompt_tokens as usize, read.iter().sum::<usize>());
    assert_eq!((stats.prompt_tokens + stats.cached_tokens) as usize, prompts.iter().sum::<usize>());
    read
}

#[test]
fn what_prompts_begin_with_is_read_once() {
    let request = |end: u32| Request { prompt: (0..40).chain([end]).collect(), ..endless(1, 3) };
    for chunk in [1, 5, 16, 100, 500] {
        // Two pages of 16 are shared, by requests that come together too.
        assert_eq!(
            read(16, chunk, vec![request(7), request(8), request(7)]),
            [41, 9, 9],
            "chunks of {chunk}"
        );
    }
    // The last token is always read, for its scores.
    let whole = Request { prompt: vec![3; 32], ..endless(1, 1) };
    assert_eq!(read(16, 64, vec![whole.clone(), whole]), [32, 16]);
    // Another beginning shares nothing, whatever follows.
    let late = Request { prompt: [9].into_iter().chain(1..40).collect(), ..endless(1, 1) };
    assert_eq!(read(16, 64, vec![request(7), late]), [41, 40]);
}

#[test]
fn what_is_kept_gives_way() {
    let tokenizer = tokenizer();
    let settings = Settings { max_cache_tokens: 64, ..Settings::default() };
    let engine = Engine::start(Arc::new(Toy::new(&tokenizer)), tokenizer, settings).unwrap();
    let cached = |first: u32| {
        let request = Request { prompt: vec![first; 33], ..endless(1, 4) };
        engine.complete(request).unwrap().usage.cached_tokens
    };
    assert_eq!((cached(1), cached(1)), (0, 32));
    // An answer is there a moment before its pages are let go.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while engine.stats().kept_tokens != 32 {
        assert!(std::time::Instant::now() < deadline, "{:?}", engine.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    // Three of four pages: of the first, one page stays, its beginning.
    assert_eq!((cached(2), cached(1), cached(2)), (0, 16, 16));
    let whole = Request { prompt: vec![3; 20], ..endless(1, 44) };
    assert_eq!(engine.complete(whole).unwrap().usage.completion_tokens, 44);
    assert_eq!((cached(1), cached(2)), (0, 0));
}

#[test]
fn the_cache_bounds_the_context() {
    let tokenizer = tokenizer();
    let settings = Settings { max_cache_tokens: 100, ..Settings::default() };
    let engine = Engine::start(Arc::new(Toy::new(&tokenizer)), tokenizer, settings).unwrap();
    // Whole pages of 16.
    assert_eq!(engine.context(), 96);
    let error = engine.submit(endless(60, 37)).err();
    assert_eq!(error, Some(Error::ContextLength { prompt_tokens: 60, max_tokens: 37, context: 96 }));
    assert_eq!(engine.complete(endless(60, 36)).unwrap().usage.completion_tokens, 36);
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let tokenizer = tokenizer();
    let toy = Toy { pause: Duration::from_millis(1), ..Toy::new(&tokenizer) };
    let settings = Settings { max_sequences: 2, max_queue: 3, ..Settings::default() };
    let engine = Engine::start(Arc::new(toy), tokenizer, settings).unwrap();
    let events: Vec<_> = (0..5).map(|_| engine.submit(endless(2, 200)).unwrap()).collect();
    assert_eq!(engine.submit(endless(2, 2)).err(), Some(Error::QueueFull { in_flight: 5 }));
    assert!(Error::QueueFull { in_flight: 5 }.hint().is_some());
    drop(events);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while engine.submit(endless(2, 2)).is_err() {
        assert!(std::time::Instant::now() < deadline, "no place became free: {:?}", engine.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn settings_and_vocabularies_that_cannot_work_are_refused() {
    let tokenizer = tokenizer();
    let settings = Settings { max_sequences: 0, ..Settings::default() };
    let refused = Engine::start(Arc::new(Toy::new(&tokenizer)), tokenizer.clone(), settings).err();
    assert!(matches!(refused, Some(Error::Settings { .. })), "{refused:?}");
    let settings = Settings { max_cache_tokens: 15, ..Settings::default() };
    let Some(Error::Settings { faults }) =
        Engine::start(Arc::new(Toy::new(&tokenizer)), tokenizer.clone(), settings).err()
    else {
        panic!("accepted a cache of less than a page")
    };
    assert!(faults[0].contains("at least 16"), "{faults:?}");
    let small = Toy { vocab_size: 100, ..Toy::new(&tokenizer) };
    let refused = Engine::start(Arc::new(small), tokenizer, Settings::default()).err();
    assert_eq!(refused, Some(Error::VocabularyMismatch { tokenizer: 544, model: 100 }));
}

#[test]
fn a_model_may_score_more_tokens_than_there_are() {
    let tokenizer = tokenizer();
    let padded = Toy { vocab_size: 600, script: [(1, 590), (2, 590)].into(), ..Toy::new(&tokenizer) };
    let engine = Engine::start(Arc::new(padded), tokenizer.clone(), Settings::default()).unwrap();
    let answer = engine.complete(endless(1, 2)).unwrap();
    assert!(answer.token_ids().iter().all(|&token| (token as usize) < tokenizer.vocab_size()), "{answer:?}");
}
