//! The engine over a real Llama, small and random: the same answers, to the last bit of their probabilities, alone and in
//! any batch, whatever the chunks its prompt was read in.

use std::sync::Arc;

use engine::{Completion, Engine, KvCache, Request, Sampling, Segment, Settings, Wanted};
use kernels::gemm::Precision;
use ledger::seed::Seed;
use model::infer::Llama;

use crate::small;
use crate::toy::tokenizer;

pub fn llama() -> Arc<Llama> {
    llama_in(Precision::F32)
}

pub fn llama_in(precision: Precision) -> Arc<Llama> {
    let config = small::config(tokenizer().vocab_size(), 256);
    Arc::new(small::llama(&config, precision))
}

fn requests() -> Vec<Request> {
    let mut rng = Seed(6).stream("requests", 0);
    let request = |number: u64| {
        let length = 1 + rng.below(90) as usize;
        let prompt = (0..length).map(|_| rng.below(544) as u32).collect();
        let sampling = match number % 3 {
            0 => Sampling::greedy(),
            1 => Sampling { temperature: 1.0, seed: Some(number), ..Sampling::default() },
            _ => Sampling {
                repetition_penalty: 1.1,
                seed: Some(number),
                top_k: Some(20),
                ..Sampling::default()
            },
        };
        let max_tokens = Some(1 + rng.below(40) as usize);
        Request { sampling, max_tokens, ignore_end: true, logprobs: Some(2), ..Request::new(prompt) }
    };
    (0..12).map(request).collect()
}

fn answers(precision: Precision, settings: Settings, together: bool) -> Vec<Completion> {
    let engine = Engine::start(llama_in(precision), tokenizer(), settings).unwrap();
    let answers = if together {
        engine.complete_all(requests())
    } else {
        requests().into_iter().map(|request| engine.complete(request)).collect()
    };
    answers.into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_llama_answers_the_same_alone_and_in_any_batch() {
    use Precision::{Bf16, F32};
    let kinds = [
        (F32, KvCache::Exact),
        (F32, KvCache::Bf16),
        (F32, KvCache::Q8),
        (Bf16, KvCache::Exact),
        (Bf16, KvCache::Q8),
    ];
    for (precision, kv_cache) in kinds {
        let settings = |max_sequences, prefill_chunk| Settings {
            max_sequences,
            prefill_chunk,
            kv_cache,
            ..Settings::default()
        };
        let alone = answers(precision, settings(1, 256), false);
        for (max_sequences, prefill_chunk) in [(12, 256), (5, 7), (3, 1), (12, 40)] {
            let together = answers(precision, settings(max_sequences, prefill_chunk), true);
            for (index, (alone, together)) in alone.iter().zip(together).enumerate() {
                assert_eq!(
                    alone.tokens, together.tokens,
                    "request {index}, {max_sequences} at once, chunks of {prefill_chunk}, {precision:?}, {kv_cache:?}"
                );
            }
        }
    }
}

/// Prompts that begin alike, one after the other and all at once, are answered as by an engine that never saw another.
#[test]
fn pages_that_others_filled_change_nothing() {
    let prompts: Vec<Vec<u32>> = (0..6)
        .map(|number| {
            // The first 150 tokens are all requests' and the next 50 every other one's.
            let token = |place: u32| (place * 7 + 3) % 500 + if place < 150 { 0 } else { number % 2 };
            (0..200).map(token).chain([number]).collect()
        })
        .collect();
    let request = |prompt: &Vec<u32>| Request {
        ignore_end: true,
        logprobs: Some(2),
        ..Request::greedy(prompt.clone(), 8)
    };
    for kv_cache in [KvCache::Exact, KvCache::Q8] {
        let settings = Settings { kv_cache, prefill_chunk: 48, ..Settings::default() };
        let start = || Engine::start(llama(), tokenizer(), settings.clone()).unwrap();
        let fresh: Vec<Completion> =
            prompts.iter().map(|prompt| start().complete(request(prompt)).unwrap()).collect();
        let engine = start();
        let in_turn: Vec<Completion> =
            prompts.iter().map(|prompt| engine.complete(request(prompt)).unwrap()).collect();
        let cached: Vec<usize> = in_turn.iter().map(|answer| answer.usage.cached_tokens).collect();
        // Whole pages of 64: 128 tokens of the first request, 192 of one of the same kind.
        assert_eq!(cached, [0, 128, 192, 192, 192, 192]);
        let together = start().complete_all(prompts.iter().map(request).collect());
        for (index, (fresh, in_turn)) in fresh.iter().zip(&in_turn).enumerate() {
            let together = together[index].as_ref().unwrap();
            assert_eq!(fresh.tokens, in_turn.tokens, "request {index} in turn, {kv_cache:?}");
            assert_eq!(fresh.tokens, together.tokens, "request {index} together, {kv_cache:?}");
            assert_eq!(fresh.usage.cached_tokens, 0);
            assert_eq!(together.usage.cached_tokens, cached[index], "request {index} together, {kv_cache:?}");
        }
    }
}

#[test]
fn greedy_tokens_are_those_that_the_model_scores_highest() {
    let llama = llama();
    let engine = Engine::start(Arc::clone(&llama), tokenizer(), Settings::default()).unwrap();
    let prompt = vec![1, 2, 3, 4, 5];
    let request = Request { ignore_end: true, ..Request::greedy(prompt.clone(), 20) };
    let answer = engine.complete(request).unwrap().token_ids();
    // The whole sequence in one pass: each position's best is the token that follows.
    let mut tokens = prompt.clone();
    tokens.extend(&answer);
    let mut pages = llama.pages(llama.exact_storage(), 32, 1);
    let wanted = Wanted::Logits(tokens.len());
    let segment = [Segment { tokens: &tokens, first: 0, pages: &[0], wanted, adapter: None }];
    let mut scratch = model::infer::Scratch::default();
    let outputs = llama.forward(&mut pages, &segment, &mut scratch).unwrap();
    let rows: Vec<&[f32]> = outputs.logits.chunks(llama.config().vocab_size).collect();
    for (index, &token) in answer.iter().enumerate() {
        let row = rows[prompt.len() - 1 + index];
        assert!(row.iter().all(|score| *score <= row[token as usize]), "token {index} is not the likeliest");
    }
}
