//! The scores of prompts.

use std::sync::Arc;

use engine::{Completion, Engine, Error, Event, FinishReason, Request, Settings};

use crate::toy::{Toy, tokenizer};

fn start(toy: Toy, prefill_chunk: usize) -> Engine {
    let settings = Settings { prefill_chunk, ..Settings::default() };
    Engine::start(Arc::new(toy), tokenizer(), settings).unwrap()
}

fn scored(prompt: &[u32], max_tokens: usize) -> Request {
    Request {
        prompt_logprobs: Some(2),
        logprobs: Some(2),
        ignore_end: true,
        ..Request::greedy(prompt.to_vec(), max_tokens)
    }
}

/// An answer, and the prompt with the answer at its end, scored.
fn twice(engine: &Engine) -> (Completion, Completion) {
    let prompt: Vec<u32> = (0..37).collect();
    let answer = engine.complete(Request { prompt_logprobs: None, ..scored(&prompt, 12) }).unwrap();
    let whole: Vec<u32> = prompt.into_iter().chain(answer.token_ids()).collect();
    (answer, engine.complete(scored(&whole, 0)).unwrap())
}

#[test]
fn a_prompt_scores_as_an_answer_did() {
    for chunk in [1, 7, 16, 256] {
        let (answer, whole) = twice(&start(Toy::new(&tokenizer()), chunk));
        assert_eq!((whole.reason, whole.text.as_str(), whole.tokens.len()), (FinishReason::Length, "", 0));
        assert_eq!((whole.usage.prompt_tokens, whole.usage.completion_tokens), (49, 0));
        // To have every score, all of it was read.
        assert_eq!(whole.usage.cached_tokens, 0);
        assert_eq!(whole.prompt.len(), 49);
        assert!(whole.prompt[0].logprob.is_none() && whole.prompt[0].alternatives.is_empty());
        assert!(whole.prompt[1..].iter().all(|token| token.logprob.is_some()));
        for (token, scored) in answer.tokens.iter().zip(&whole.prompt[37..]) {
            assert_eq!((token.id, token.logprob), (scored.id, scored.logprob), "chunks of {chunk}");
            assert_eq!(token.alternatives, scored.alternatives);
        }
    }
}

#[test]
fn a_llamas_prompt_scores_as_its_answer_did() {
    let engine = Engine::start(crate::llama::llama(), tokenizer(), Settings::default()).unwrap();
    let (answer, whole) = twice(&engine);
    for (token, scored) in answer.tokens.iter().zip(&whole.prompt[37..]) {
        assert_eq!((token.id, token.logprob), (scored.id, scored.logprob));
        assert_eq!(token.alternatives, scored.alternatives);
    }
}

#[test]
fn the_prompt_comes_once_and_before_the_answer_which_it_does_not_change() {
    let tokenizer = tokenizer();
    let engine = start(Toy::new(&tokenizer), 5);
    let prompt = tokenizer.encode("the café sleeps");
    let plain = engine.complete(Request { prompt_logprobs: None, ..scored(&prompt, 4) }).unwrap();
    let events: Vec<Event> = engine.submit(scored(&prompt, 4)).unwrap().iter().collect();
    let Some(Event::Prompt(tokens)) = events.first() else { panic!("no prompt: {events:?}") };
    assert_eq!(tokens.iter().map(|token| token.text.as_str()).collect::<String>(), "the café sleeps");
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Prompt(_))).count(), 1);
    assert_eq!(events.len(), 1 + 4 + 1);
    assert!(plain.prompt.is_empty());
    let with = engine.complete(scored(&prompt, 4)).unwrap();
    assert_eq!((plain.tokens, plain.text), (with.tokens, with.text));
    // One token has nothing to follow.
    let one = engine.complete(scored(&prompt[..1], 0)).unwrap();
    assert_eq!((one.prompt.len(), one.prompt[0].logprob), (1, None));
}

#[test]
fn a_prompt_may_fill_the_context_when_nothing_is_to_follow() {
    let engine = start(Toy::new(&tokenizer()), 100);
    assert_eq!(engine.complete(scored(&[3; 256], 0)).unwrap().prompt.len(), 256);
    assert!(matches!(engine.submit(scored(&[3; 257], 0)).err(), Some(Error::ContextLength { .. })));
    let unscored = Request { prompt_logprobs: None, ..scored(&[3; 4], 0) };
    assert!(matches!(engine.submit(unscored).err(), Some(Error::InvalidRequest { .. })));
}

#[test]
fn scores_that_are_not_numbers_are_named() {
    let engine = start(Toy { breaks_at: Some(20), ..Toy::new(&tokenizer()) }, 256);
    assert_eq!(engine.complete(scored(&[1; 40], 0)).err(), Some(Error::NotFinite { tokens: 20 }));
    assert!(engine.complete(scored(&[1; 19], 0)).is_ok());
}

#[test]
fn the_scores_of_long_prompts_are_never_held_at_once() {
    let tokenizer = tokenizer();
    // 64 MiB hold 67 rows of so many scores.
    let toy = Arc::new(Toy { vocab_size: 250_000, ..Toy::new(&tokenizer) });
    let engine = Engine::start(Arc::clone(&toy), tokenizer, Settings::default()).unwrap();
    let answers = engine.complete_all(vec![scored(&[1; 100], 0), scored(&[2; 50], 1)]);
    assert!(answers.iter().all(Result::is_ok));
    let calls = toy.calls.lock().unwrap();
    let most = calls.iter().map(|call| call.iter().map(|(tokens, _)| tokens).sum::<usize>()).max();
    assert!(most <= Some(67), "{calls:?}");
}
