//! Speculative decoding changes the number of passes and nothing else.

use std::sync::Arc;

use engine::{
    Completion, Constraint, Engine, Error, Forward, KvCache, Request, Sampling, Settings, Speculative, Usage,
};
use kernels::gemm::Precision;
use ledger::seed::{Rng, Seed};

use crate::llama::llama_in;
use crate::toy::{Toy, tokenizer};

fn forgetful() -> Toy {
    Toy { forgets: true, ..Toy::new(&tokenizer()) }
}

fn settings(speculative: Speculative) -> Settings {
    Settings { speculative, ..Settings::default() }
}

fn draft() -> Speculative {
    Speculative::Draft("small".into())
}

fn plain<F: Forward>(model: F, settings: Settings) -> Engine {
    Engine::start(Arc::new(model), tokenizer(), Settings { speculative: Speculative::Off, ..settings })
        .unwrap()
}

/// An engine as its settings say, with `draft` where they ask for a model.
fn start<F: Forward>(model: Arc<F>, draft: Arc<F>, settings: Settings) -> Engine {
    match settings.speculative {
        Speculative::Draft(_) => {
            Engine::start_with_draft(model, tokenizer(), (draft, &tokenizer()), settings).unwrap()
        }
        _ => Engine::start(model, tokenizer(), settings).unwrap(),
    }
}

/// Everything that a request can ask for, with prompts that repeat themselves, begin alike, or neither.
fn requests(seed: u64, count: u64) -> Vec<Request> {
    let mut rng = Seed(seed).stream("requests", 0);
    (0..count).map(|number| request(&mut rng, number)).collect()
}

fn request(rng: &mut Rng, number: u64) -> Request {
    let (length, period) = (1 + rng.below(70) as usize, 2 + rng.below(60) as usize);
    let cycle: Vec<u32> = match rng.below(3) {
        0 => (0..period as u32).map(|token| (token * 7 + 3) % 500).collect(),
        _ => (0..period).map(|_| rng.below(500) as u32).collect(),
    };
    let prompt = cycle.into_iter().cycle().take(length).collect();
    let seeded = Sampling { seed: Some(number / 2), stream: number % 2, ..Sampling::default() };
    let sampling = match rng.below(5) {
        0 | 1 => Sampling::greedy(),
        2 => Sampling { temperature: 0.3, ..seeded },
        3 => Sampling { temperature: 0.2, repetition_penalty: 1.05, frequency_penalty: 0.1, ..seeded },
        _ => Sampling {
            presence_penalty: 0.2,
            logit_bias: [(5, 1.5), (9, -4.0)].into(),
            top_k: Some(9),
            ..seeded
        },
    };
    let constraint = match rng.below(5) {
        0 => Some(Constraint::Regex("(ab|the |fox ){3,9}".into())),
        1 => Some(Constraint::Regex("[a-c]{1,40}".into())),
        _ => None,
    };
    Request {
        sampling,
        ignore_end: constraint.is_none() && rng.below(2) == 0,
        constraint,
        max_tokens: (rng.below(8) > 0).then(|| 1 + rng.below(80) as usize),
        logprobs: (rng.below(2) == 0).then_some(2),
        stop: if rng.below(3) == 0 { vec!["ox".into(), "zy".into()] } else { Vec::new() },
        stop_tokens: if rng.below(4) == 0 { vec![rng.below(500) as u32] } else { Vec::new() },
        prompt_logprobs: (rng.below(9) == 0).then_some(1),
        ..Request::new(prompt)
    }
}

/// Without what differs: the times, which pages were found, and how many tokens were guessed.
fn shown(answer: Result<Completion, Error>) -> Result<Completion, Error> {
    answer.map(|answer| Completion {
        timing: Default::default(),
        usage: Usage { cached_tokens: 0, accepted_tokens: 0, rejected_tokens: 0, ..answer.usage },
        ..answer
    })
}

fn check(wanted: &[Result<Completion, Error>], found: Vec<Result<Completion, Error>>, which: &str) {
    for (index, (wanted, found)) in wanted.iter().zip(found).enumerate() {
        assert_eq!(*wanted, shown(found), "request {index}, {which}");
    }
}

#[test]
fn answers_are_the_same_with_and_without_guesses() {
    for seed in 0..6 {
        let requests = requests(seed, 40);
        let alone = plain(forgetful(), Settings::default());
        let wanted: Vec<_> = requests.iter().map(|request| shown(alone.complete(request.clone()))).collect();
        assert!(wanted.iter().filter(|answer| answer.is_ok()).count() > 30);
        let draft_models = [forgetful(), Toy::new(&tokenizer())];
        let [good, bad] = draft_models.map(Arc::new);
        for (speculative, drafter) in [(Speculative::Lookup, &good), (draft(), &good), (draft(), &bad)] {
            for (max_sequences, max_draft_tokens, max_cache_tokens) in
                [(40, 15, 131_072), (3, 4, 131_072), (9, 1, 600)]
            {
                let which = format!("{seed}: {speculative:?}, {max_sequences}, {max_draft_tokens}");
                let settings = Settings {
                    max_sequences,
                    max_draft_tokens,
                    max_cache_tokens,
                    prefill_chunk: 37,
                    ..settings(speculative.clone())
                };
                let engine = start(Arc::new(forgetful()), Arc::clone(drafter), settings);
                check(&wanted, engine.complete_all(requests.clone()), &which);
                // Once more, over pages that the first time left.
                check(&wanted, engine.complete_all(requests.clone()), &which);
                let stats = engine.stats();
                assert!(
                    stats.drafted_tokens > 0 && stats.accepted_tokens <= stats.drafted_tokens,
                    "{stats:?}"
                );
                engine.shutdown();
                let stats = engine.stats();
                assert_eq!((stats.running, stats.cache_tokens), (0, 0));
            }
        }
    }
}

/// In every form that keys and values are kept in, what a wrong guess left is written over, and no bit of a
/// log-probability tells of it.
#[test]
fn a_llama_answers_the_same_whatever_was_guessed() {
    let requests: Vec<Request> = requests(7, 14)
        .into_iter()
        .map(|request| Request { logprobs: Some(2), ignore_end: request.constraint.is_none(), ..request })
        .map(|request| Request { max_tokens: Some(70), stop: Vec::new(), ..request })
        .enumerate()
        .map(|(index, mut request)| {
            // The likeliest of two tokens, so that answers repeat themselves and some guesses are right.
            if index % 3 == 0 {
                let logit_bias = (10..12).map(|token| (token, 100.0)).collect();
                request.sampling = Sampling { logit_bias, ..Sampling::greedy() };
                (request.constraint, request.ignore_end) = (None, true);
            }
            request
        })
        .collect();
    use Precision::{Bf16, F32};
    // In bf16, where the processor has tiles, keys and values are packed in pairs of tokens.
    let kinds = [
        (F32, KvCache::Exact),
        (F32, KvCache::Bf16),
        (F32, KvCache::Q8),
        (Bf16, KvCache::Exact),
        (Bf16, KvCache::F32),
        (Bf16, KvCache::Q8),
    ];
    for (precision, kv_cache) in kinds {
        let llama = || llama_in(precision);
        let settings = |speculative| Settings { kv_cache, max_sequences: 5, ..settings(speculative) };
        let engine = Engine::start(llama(), tokenizer(), settings(Speculative::Off)).unwrap();
        let wanted: Vec<_> = engine.complete_all(requests.clone()).into_iter().map(shown).collect();
        for speculative in [Speculative::Lookup, draft()] {
            let engine = start(llama(), llama(), settings(speculative.clone()));
            let which = format!("{speculative:?}, {precision:?}, {kv_cache:?}");
            check(&wanted, engine.complete_all(requests.clone()), &which);
            let stats = engine.stats();
            let rejected = stats.drafted_tokens - stats.accepted_tokens;
            // By look-up most are wrong; of the model itself, those that a draw or a penalty decided against.
            assert!(stats.accepted_tokens > 5 && rejected > 10, "{which}: {stats:?}");
        }
    }
}

#[test]
fn a_text_that_repeats_itself_takes_fewer_passes() {
    let request = || Request { ignore_end: true, ..Request::greedy(vec![1, 2, 3, 4], 200) };
    let passes = |speculative| {
        let model = Arc::new(forgetful());
        let engine = start(Arc::clone(&model), Arc::new(forgetful()), settings(speculative));
        let usage = engine.complete(request()).unwrap().usage;
        let stats = engine.stats();
        assert_eq!(stats.accepted_tokens, usage.accepted_tokens as u64);
        assert_eq!(stats.drafted_tokens, (usage.accepted_tokens + usage.rejected_tokens) as u64);
        assert_eq!(stats.completion_tokens, 200);
        let passes = model.calls.lock().unwrap().len();
        // Each pass gives a token of its own.
        assert_eq!(passes + usage.accepted_tokens, 200);
        (passes, usage)
    };
    let (without, _) = passes(Speculative::Off);
    assert_eq!(without, 200);
    assert!(passes(Speculative::Lookup).0 < 120);
    // A draft model that is the model itself is always right.
    let (with, usage) = passes(draft());
    assert_eq!(usage.rejected_tokens, 0);
    assert!(with < 40, "{with}");
}

/// Guesses of a model that knows nothing are given up, but for one now and then.
#[test]
fn poor_guesses_cost_little() {
    let engine = start(Arc::new(Toy::new(&tokenizer())), Arc::new(forgetful()), settings(draft()));
    let request = Request { ignore_end: true, ..Request::greedy(vec![1, 2, 3, 4], 200) };
    let usage = engine.complete(request).unwrap().usage;
    assert!((1..25).contains(&usage.rejected_tokens) && usage.accepted_tokens < 3, "{usage:?}");
}

#[test]
fn large_batches_guess_nothing() {
    let request = || Request { ignore_end: true, ..Request::greedy(vec![1, 2, 3, 4], 100) };
    let engine = start(Arc::new(forgetful()), Arc::new(forgetful()), settings(Speculative::Lookup));
    engine.complete_all((0..32).map(|_| request()).collect());
    assert_eq!(engine.stats().drafted_tokens, 0);
    engine.complete_all((0..4).map(|_| request()).collect());
    assert!(engine.stats().accepted_tokens > 0);
}

#[test]
fn a_draft_model_that_fails_or_is_too_small_is_done_without() {
    let request = Request { ignore_end: true, ..Request::greedy(vec![1, 2, 3, 4], 60) };
    let wanted = [shown(plain(forgetful(), Settings::default()).complete(request.clone()))];
    let small = |change: fn(&mut Toy)| {
        let mut toy = forgetful();
        change(&mut toy);
        Arc::new(toy)
    };
    for drafter in [
        small(|toy| toy.fails_at = Some(20)),
        small(|toy| toy.breaks_at = Some(20)),
        small(|toy| toy.context = 20),
        small(|toy| toy.context = 3),
    ] {
        let engine = start(Arc::new(forgetful()), drafter, settings(draft()));
        check(&wanted, vec![engine.complete(request.clone())], "a poor draft model");
    }
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused() {
    let model = || Arc::new(forgetful());
    let refused = |drafter: Toy, tokens: &tokenizer::Tokenizer| {
        let started =
            Engine::start_with_draft(model(), tokenizer(), (Arc::new(drafter), tokens), settings(draft()));
        match started {
            Err(Error::DraftVocabulary { draft, reason }) => {
                assert_eq!(draft.to_str(), Some("small"));
                reason
            }
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("accepted"),
        }
    };
    let train = |text: &str, vocab_size| {
        let settings = tokenizer::train::Settings { vocab_size, ..Default::default() };
        tokenizer::train::train([text; 20].iter(), &settings, &ledger::progress::Silent).unwrap()
    };
    let shorter = train("the quick brown fox jumps over the lazy dog; the dog sleeps on.", 530);
    assert!(refused(forgetful(), &shorter).contains("tokens, and this one"));
    let other = train("a dozen liquor jugs were packed by my big fox; vexed nymphs waltz quickly.", 544);
    assert_eq!(other.vocab_size(), tokenizer().vocab_size());
    assert!(refused(forgetful(), &other).contains(" there and "));
    let fewer = Toy { vocab_size: 100, ..forgetful() };
    assert!(refused(fewer, &tokenizer()).contains("scores 100"));
    let without = Engine::start(model(), tokenizer(), settings(draft()));
    assert!(matches!(without, Err(Error::Settings { .. })));
}
