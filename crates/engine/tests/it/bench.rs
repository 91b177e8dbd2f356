//! The bench of an engine, over a model whose calls take a known time.

use std::sync::Arc;
use std::time::Duration;

use engine::bench::{Bench, run};
use engine::{Engine, Error, Settings};
use ledger::progress::Silent;
use ledger::seed::Seed;

use crate::toy::{Toy, tokenizer};

#[test]
fn prompts_take_a_call_for_each_chunk_and_answers_one_for_each_token() {
    let tokenizer = tokenizer();
    let pause = Duration::from_millis(5);
    let toy = Arc::new(Toy { pause, ..Toy::new(&tokenizer) });
    let settings = Settings { prefill_chunk: 32, ..Settings::default() };
    let engine = Engine::start(Arc::clone(&toy), tokenizer.clone(), settings).unwrap();
    let bench = Bench {
        prompts: &[32, 128],
        generate: 10,
        streams: &[1, 4],
        after: 16,
        rounds: 3,
        repeat: None,
        text: None,
        temperature: 0.0,
        adapter: None,
        seed: Seed(0),
        progress: &Silent,
    };
    let measured = run(&engine, &bench).unwrap();
    let found: Vec<_> = measured.prefill.iter().chain(&measured.decode).collect();
    let sizes: Vec<_> = found.iter().map(|rate| (rate.size, rate.tokens, rate.seconds.len())).collect();
    assert_eq!(sizes, [(32, 32, 3), (128, 128, 3), (1, 10, 3), (4, 40, 3)]);
    for (rate, calls) in found.iter().zip([1, 4, 10, 10]) {
        let least = pause.as_secs_f64() * f64::from(calls);
        assert!(rate.seconds.iter().all(|&seconds| seconds >= least), "{rate:?} in {calls} calls");
        assert!(rate.tokens_per_second() <= rate.tokens as f64 / least, "{rate:?}");
    }
    let few = run(&engine, &Bench { prompts: &[], repeat: Some(1), ..bench }).unwrap();
    assert_eq!(few.decode.iter().map(|rate| rate.drafted).collect::<Vec<_>>(), [(0, 0); 2]);
    assert!(matches!(run(&engine, &Bench { prompts: &[1_000], ..bench }), Err(Error::ContextLength { .. })));
    let unknown = run(&engine, &Bench { prompts: &[], adapter: Some("x"), ..bench });
    assert!(matches!(unknown, Err(Error::UnknownAdapter { .. })), "{unknown:?}");
    // Stretches of a text, and drawn answers; a text that is too short begins again.
    let short = tokenizer.encode("the lazy dog");
    run(&engine, &Bench { prompts: &[100], text: Some(&short), ..bench }).unwrap();
    let text: Vec<u32> = (0..500).map(|place| place * 7919 % 500).collect();
    let told = Bench { prompts: &[100], after: 50, text: Some(&text), temperature: 1.0, ..bench };
    toy.calls.lock().unwrap().clear();
    run(&engine, &told).unwrap();
    let read: usize = toy.calls.lock().unwrap().iter().flatten().map(|(tokens, _)| tokens).sum();
    // The first, three prompts, three rounds of five answers, whose last token is never read; stretches that begin alike
    // share pages.
    let all = 51 + 3 * 100 + 15 * (50 + 10);
    assert!((all - 100..=all).contains(&read), "{read} of {all}");
    engine.shutdown();
    let settings = Settings { speculative: engine::Speculative::Lookup, ..Settings::default() };
    let engine = Engine::start(toy, tokenizer, settings).unwrap();
    let bench = Bench { prompts: &[], generate: 40, streams: &[1], rounds: 1, repeat: Some(1), ..bench };
    let (drafted, right) = run(&engine, &bench).unwrap().decode[0].drafted;
    assert!(right > 20 && drafted - right < 10, "{right} of {drafted}");
}
