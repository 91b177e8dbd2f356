//! What a request is answered with depends on the request alone, and says what was asked for.

use std::sync::Arc;

use engine::{Engine, Error, Event, FinishReason, Request, Sampling, Settings, StopCause};
use proptest::prelude::*;

use crate::toy::{Toy, tokenizer};

fn start(toy: Toy, settings: Settings) -> Engine {
    Engine::start(Arc::new(toy), tokenizer(), settings).unwrap()
}

/// The answer to "Hello" from a model that says `answer`, and then its stop token.
fn scripted(answer: &[u32], change: impl FnOnce(&mut Request)) -> engine::Completion {
    let tokenizer = tokenizer();
    let prompt = tokenizer.encode("Hello");
    let mut said = answer.to_vec();
    said.push(tokenizer.eot());
    let engine = start(Toy::scripted(&tokenizer, prompt.len(), &said), Settings::default());
    let mut request = Request::greedy(prompt, 100);
    change(&mut request);
    engine.complete(request).unwrap()
}

fn scripted_text(answer: &str, change: impl FnOnce(&mut Request)) -> engine::Completion {
    scripted(&tokenizer().encode(answer), change)
}

#[test]
fn an_answer_ends_at_the_models_stop_token() {
    let answer = tokenizer().encode("the lazy café dog");
    let completion = scripted(&answer, |_| {});
    assert_eq!(completion.text, "the lazy café dog");
    assert_eq!(completion.token_ids(), answer);
    assert_eq!(completion.reason, FinishReason::Stop);
    assert_eq!(completion.stopped_by, Some(StopCause::Token(tokenizer().eot())));
    assert_eq!(completion.usage.prompt_tokens, tokenizer().encode("Hello").len());
    assert_eq!(completion.usage.completion_tokens, answer.len() + 1);
    assert!(completion.tokens.iter().all(|token| token.logprob.is_none() && token.alternatives.is_empty()));
}

#[test]
fn an_answer_ends_at_its_length() {
    let completion = scripted_text("the quick brown fox", |request| request.max_tokens = Some(2));
    assert_eq!(completion.reason, FinishReason::Length);
    assert_eq!(completion.stopped_by, None);
    assert_eq!((completion.tokens.len(), completion.usage.completion_tokens), (2, 2));
}

#[test]
fn without_a_limit_an_answer_ends_with_the_context() {
    let tokenizer = tokenizer();
    let engine = start(Toy::new(&tokenizer), Settings::default());
    let mut request = Request::new(tokenizer.encode("Hello"));
    let prompt = request.prompt.len();
    request.ignore_end = true;
    let completion = engine.complete(request).unwrap();
    assert_eq!(completion.reason, FinishReason::Length);
    assert_eq!(prompt + completion.usage.completion_tokens, engine.context());
}

#[test]
fn an_answer_ends_at_a_stop_text_or_stop_token() {
    let text = |stop: &str| {
        let completion = scripted_text("one, two, three", |request| request.stop = vec![stop.into()]);
        (completion.text, completion.stopped_by)
    };
    assert_eq!(text(", th"), ("one, two".to_string(), Some(StopCause::Text(", th".into()))));
    assert_eq!(text("one"), (String::new(), Some(StopCause::Text("one".into()))));
    assert_eq!(text("four"), ("one, two, three".to_string(), Some(StopCause::Token(tokenizer().eot()))));

    let comma = tokenizer().encode(",")[0];
    let completion = scripted_text("one, two", |request| request.stop_tokens = vec![comma]);
    assert_eq!((completion.text.as_str(), completion.stopped_by), ("one", Some(StopCause::Token(comma))));
}

#[test]
fn special_tokens_have_no_text_and_half_characters_wait() {
    let header = tokenizer().start_header();
    assert_eq!(scripted(&[header, header], |_| {}).text, "");
    // The first two bytes of a character of three, then nothing: the replacement character stands for them.
    let euro = &tokenizer().encode("€")[..2];
    assert_eq!(scripted(&tokenizer().encode("€"), |_| {}).text, "€");
    let completion = scripted(euro, |_| {});
    assert_eq!((completion.text.as_str(), completion.tokens.len()), ("\u{fffd}", 2));
}

#[test]
fn log_probabilities_come_when_asked_for() {
    let completion = scripted_text("the dog", |request| request.logprobs = Some(3));
    for token in &completion.tokens {
        assert_eq!(token.alternatives.len(), 3);
        assert_eq!(token.alternatives[0].id, token.id);
        assert_eq!(Some(token.alternatives[0].logprob), token.logprob);
        assert!(
            token.logprob.unwrap() <= 0.0 && token.alternatives[0].logprob > token.alternatives[1].logprob
        );
    }
}

#[test]
fn a_model_without_numbers_fails_its_request_alone() {
    let tokenizer = tokenizer();
    let engine = start(Toy { breaks_at: Some(20), ..Toy::new(&tokenizer) }, Settings::default());
    let short = Request { ignore_end: true, ..Request::greedy(vec![1; 3], 5) };
    let long = Request { ignore_end: true, ..Request::greedy(vec![1; 3], 40) };
    let answers = engine.complete_all(vec![short.clone(), long, short]);
    assert!(answers[0].is_ok() && answers[0].as_ref().unwrap().tokens == answers[2].as_ref().unwrap().tokens);
    assert_eq!(answers[1], Err(Error::NotFinite { tokens: 20 }));
}

#[test]
fn a_model_that_cannot_read_a_batch_fails_all_in_it_and_goes_on() {
    let tokenizer = tokenizer();
    let engine = start(Toy { fails_at: Some(20), ..Toy::new(&tokenizer) }, Settings::default());
    let long = Request { ignore_end: true, ..Request::greedy(vec![1; 3], 40) };
    let reason = "asked to fail".to_string();
    assert_eq!(engine.complete_all(vec![long; 2]), vec![Err(Error::Model { reason }); 2]);
    assert!(engine.complete(Request::greedy(vec![1; 3], 5)).is_ok());
}

#[test]
fn requests_that_cannot_be_run_are_refused_with_the_reason() {
    let tokenizer = tokenizer();
    let engine = start(Toy::new(&tokenizer), Settings::default());
    let vocab_size = tokenizer.vocab_size();
    let refused = |request: Request| engine.submit(request).err().unwrap();
    assert_eq!(refused(Request::new(vec![])), Error::EmptyPrompt);
    assert_eq!(
        refused(Request::greedy(vec![1; 200], 57)),
        Error::ContextLength { prompt_tokens: 200, max_tokens: 57, context: 256 }
    );
    assert_eq!(
        refused(Request::new(vec![1; 256])),
        Error::ContextLength { prompt_tokens: 256, max_tokens: 1, context: 256 }
    );
    assert_eq!(
        refused(Request::new(vec![1, vocab_size as u32])),
        Error::UnknownToken { position: 1, token: vocab_size as u32, vocab_size }
    );
    let mut request = Request::greedy(vec![1], 0);
    request.sampling.top_p = 2.0;
    let Error::InvalidRequest { faults } = refused(request) else { panic!("another error") };
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(engine.stats().waiting + engine.stats().running, 0);
}

#[test]
fn all_answers_come_in_the_order_of_their_requests() {
    let tokenizer = tokenizer();
    // Far more than may wait: that bound is for strangers.
    let settings = Settings { max_sequences: 3, max_queue: 1, ..Settings::default() };
    let engine = start(Toy::new(&tokenizer), settings);
    let requests: Vec<Request> =
        (0..40).map(|n| Request::greedy(vec![n + 1; 3], n as usize % 7 + 1)).collect();
    let mut broken = requests.clone();
    broken[5].prompt.clear();
    let answers = engine.complete_all(broken);
    for (index, (answer, request)) in answers.into_iter().zip(requests).enumerate() {
        if index == 5 {
            assert_eq!(answer, Err(Error::EmptyPrompt));
        } else {
            assert_eq!(answer.unwrap().tokens, engine.complete(request).unwrap().tokens, "request {index}");
        }
    }
    assert_eq!(engine.complete_all(Vec::new()), Vec::new());
}

#[test]
fn events_are_tokens_and_then_one_end() {
    let tokenizer = tokenizer();
    let engine = start(Toy::new(&tokenizer), Settings::default());
    let events: Vec<Event> =
        engine.submit(Request { ignore_end: true, ..Request::greedy(vec![1], 5) }).unwrap().iter().collect();
    assert!(matches!(events.last(), Some(Event::Done { reason: FinishReason::Length, .. })));
    assert!(events[..events.len() - 1].iter().all(|event| matches!(event, Event::Token(_))));
    assert_eq!(events.len(), 6);
}

#[test]
fn without_a_seed_answers_differ_and_with_one_they_do_not() {
    let tokenizer = tokenizer();
    let engine = start(Toy::new(&tokenizer), Settings::default());
    let ask = |seed, stream| {
        let sampling = Sampling { temperature: 1.0, seed, stream, ..Sampling::default() };
        let request = Request { sampling, max_tokens: Some(20), ..Request::new(vec![1]) };
        engine.complete(request).unwrap().token_ids()
    };
    assert_ne!(ask(None, 0), ask(None, 0));
    assert_eq!(ask(Some(1), 0), ask(Some(1), 0));
    assert_ne!(ask(Some(1), 0), ask(Some(1), 1));
}

fn request() -> impl Strategy<Value = Request> {
    let sampling =
        (0u8..4, any::<u64>(), 0.0f32..1.5, 1.0f32..1.5).prop_map(|(kind, seed, temperature, penalty)| {
            let sampling = Sampling { seed: Some(seed), temperature, ..Sampling::default() };
            match kind {
                0 => Sampling::greedy(),
                1 => sampling,
                2 => Sampling { top_k: Some(5), repetition_penalty: penalty, ..sampling },
                _ => Sampling {
                    min_p: 0.1,
                    top_p: 1.0,
                    presence_penalty: 0.5,
                    frequency_penalty: 0.2,
                    ..sampling
                },
            }
        });
    // Some that nobody else has, and some that often begin as others do.
    let prompt = prop_oneof![prop::collection::vec(0u32..544, 1..60), prop::collection::vec(0u32..2, 1..60)];
    (prompt, sampling, 1usize..30, prop::option::of("[a-e ]{1,2}")).prop_map(
        |(prompt, sampling, max_tokens, stop)| Request {
            sampling,
            max_tokens: Some(max_tokens),
            stop: stop.into_iter().collect(),
            ..Request::new(prompt)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The engine's promise, for any mixture of requests, some of which nobody waits for, any bounds and any size of pages.
    #[test]
    fn a_request_gets_the_same_tokens_alone_and_in_any_batch(
        requests in prop::collection::vec((request(), any::<bool>()), 1..16),
        page_tokens in prop::sample::select(vec![3usize, 16, 40]),
        max_sequences in 1usize..8,
        prefill_chunk in 1usize..40,
        max_cache_tokens in 130usize..400,
    ) {
        let tokenizer = tokenizer();
        let alone = start(Toy::new(&tokenizer), Settings::default());
        let settings = Settings { max_sequences, prefill_chunk, max_cache_tokens, ..Settings::default() };
        let busy = start(Toy { page_tokens, ..Toy::new(&tokenizer) }, settings);
        let (wanted, abandoned): (Vec<_>, Vec<_>) = requests.into_iter().partition(|(_, wanted)| *wanted);
        let wanted: Vec<Request> = wanted.into_iter().map(|(request, _)| request).collect();
        let abandoned: Vec<_> =
            abandoned.into_iter().map(|(request, _)| busy.submit(request).unwrap()).collect();
        let together = std::thread::scope(|scope| {
            scope.spawn(|| drop(abandoned));
            busy.complete_all(wanted.clone())
        });
        for (request, together) in wanted.into_iter().zip(together) {
            let alone = alone.complete(request).unwrap();
            let together = together.unwrap();
            prop_assert_eq!(&alone.tokens, &together.tokens);
            prop_assert_eq!((alone.reason, alone.stopped_by), (together.reason, together.stopped_by));
            prop_assert_eq!(alone.usage.completion_tokens, together.usage.completion_tokens);
        }
        busy.shutdown();
        let stats = busy.stats();
        prop_assert_eq!((stats.running, stats.waiting, stats.cache_tokens), (0, 0, 0));
    }
}
