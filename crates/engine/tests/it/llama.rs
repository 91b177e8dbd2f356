//! The engine over a real Llama, small and random: the same answers, to the last bit of their probabilities, alone and in
//! any batch, whatever the chunks its prompt was read in.

use std::sync::Arc;

use engine::{Completion, Engine, Request, Sampling, Settings};
use kernels::gemm::Precision;
use ledger::seed::Seed;
use model::infer::Llama;
use model::{Config, Weights};

use crate::toy::tokenizer;

fn llama() -> Arc<Llama> {
    let config = Config {
        dim: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn_dim: 96,
        vocab_size: tokenizer().vocab_size(),
        max_seq_len: 256,
        ..Config::preset("1b").unwrap()
    };
    let mut weights = Weights::init(&config, &mut Seed(5).stream("weights", 0)).unwrap();
    // Random weights of the usual size give nearly equal scores; these give some tokens a clear lead.
    weights.data.iter_mut().for_each(|weight| *weight *= 4.0);
    Arc::new(Llama::new(&weights, Precision::F32, config.max_seq_len))
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

fn answers(settings: Settings, together: bool) -> Vec<Completion> {
    let engine = Engine::start(llama(), tokenizer(), settings).unwrap();
    let answers = if together {
        engine.complete_all(requests())
    } else {
        requests().into_iter().map(|request| engine.complete(request)).collect()
    };
    answers.into_iter().map(Result::unwrap).collect()
}

#[test]
fn a_llama_answers_the_same_alone_and_in_any_batch() {
    let alone = answers(Settings { prefill_chunk: 256, ..Settings::default() }, false);
    for (max_sequences, prefill_chunk) in [(12, 256), (5, 7), (3, 1), (12, 40)] {
        let settings = Settings { max_sequences, prefill_chunk, ..Settings::default() };
        for (index, (alone, together)) in alone.iter().zip(answers(settings, true)).enumerate() {
            assert_eq!(
                alone.tokens, together.tokens,
                "request {index}, {max_sequences} at once, chunks of {prefill_chunk}"
            );
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
    let mut cache = model::infer::KvCache::new(llama.config(), tokens.len());
    let mut segment = [model::infer::Segment { tokens: &tokens, cache: &mut cache }];
    let mut scratch = model::infer::Scratch::default();
    let logits = llama.forward(&mut segment, model::infer::Wanted::All, &mut scratch).unwrap();
    for (index, &token) in answer.iter().enumerate() {
        let row = logits.row(prompt.len() - 1 + index);
        assert!(row.iter().all(|score| *score <= row[token as usize]), "token {index} is not the likeliest");
    }
}
