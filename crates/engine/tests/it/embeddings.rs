//! Vectors of prompts.

use engine::{Engine, Error, Pooling, Request, Settings, Usage};
use model::infer::{KvStorage, Scratch, Segment, Wanted};

use crate::toy::{Toy, tokenizer};

fn prompts() -> Vec<Vec<u32>> {
    [1usize, 7, 64, 65, 150].map(|length| (0..length as u32).map(|place| place * 7 % 500).collect()).to_vec()
}

fn start(prefill_chunk: usize) -> Engine {
    let settings = Settings { prefill_chunk, ..Settings::default() };
    Engine::start(crate::llama::llama(), tokenizer(), settings).unwrap()
}

#[test]
fn vectors_are_pooled_states_of_length_one() {
    let llama = crate::llama::llama();
    let width = llama.config().dim;
    for pooling in [Pooling::Mean, Pooling::Last] {
        let found = start(256).embed(prompts(), pooling);
        for (prompt, found) in prompts().iter().zip(found) {
            let (values, usage) = found.unwrap();
            assert_eq!((usage.prompt_tokens, usage.completion_tokens), (prompt.len(), 0));
            let mut pages = llama.pages(KvStorage::F32, 128, 2);
            let mut scratch = Scratch::default();
            let segment =
                Segment { tokens: prompt, first: 0, pages: &[0, 1], wanted: Wanted::Hidden, adapter: None };
            let states = llama.forward(&mut pages, &[segment], &mut scratch).unwrap().hidden.to_vec();
            let from = if pooling == Pooling::Last { prompt.len() - 1 } else { 0 };
            let sum = |channel: usize| {
                states.chunks(width).skip(from).map(|state| f64::from(state[channel])).sum::<f64>()
            };
            let sums: Vec<f64> = (0..width).map(sum).collect();
            let length = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
            assert_eq!(values.len(), width);
            for (value, sum) in values.iter().zip(sums) {
                assert!((f64::from(*value) - sum / length).abs() < 1e-6, "{pooling:?} of {}", prompt.len());
            }
        }
    }
}

#[test]
fn a_prompt_has_one_vector_whatever_else_runs() {
    for pooling in [Pooling::Mean, Pooling::Last] {
        let alone: Vec<Vec<f32>> = prompts()
            .into_iter()
            .map(|prompt| start(256).embed(vec![prompt], pooling).remove(0).unwrap().0)
            .collect();
        for chunk in [3, 50] {
            let engine = start(chunk);
            // Beside a conversation, and again where the prompt is kept.
            let talk = Request { ignore_end: true, ..Request::greedy(vec![5; 20], 60) };
            let _talking = engine.submit(talk).unwrap();
            for round in 0..2 {
                let together = engine.embed(prompts(), pooling);
                for (alone, together) in alone.iter().zip(together) {
                    assert_eq!(*alone, together.unwrap().0, "{pooling:?}, chunks of {chunk}, round {round}");
                }
            }
            let (_, usage) = engine.embed(vec![prompts().remove(4)], pooling).remove(0).unwrap();
            let cached_tokens = if pooling == Pooling::Last { 128 } else { 0 };
            assert_eq!(
                usage,
                Usage { prompt_tokens: 150, cached_tokens, completion_tokens: 0, ..Usage::default() }
            );
        }
    }
}

#[test]
fn a_prompt_may_fill_the_context_and_not_more() {
    let tokenizer = tokenizer();
    let toy = Toy::new(&tokenizer);
    let engine = Engine::start(std::sync::Arc::new(toy), tokenizer, Settings::default()).unwrap();
    let found = engine.embed(vec![vec![1; 256], vec![1; 257], vec![]], Pooling::Mean);
    assert_eq!(found[0].as_ref().unwrap().0.len(), 2);
    assert!(matches!(found[1], Err(Error::ContextLength { .. })));
    assert_eq!(found[2], Err(Error::EmptyPrompt));
}
