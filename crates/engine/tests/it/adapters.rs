//! Requests that name adapters: answered the same alone and in any company, never from pages that were read with another, and
//! while adapters come and go.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::{Completion, Engine, Error, Event, KvCache, Request, Settings, Speculative};
use model::Config;
use tempfile::TempDir;

use crate::llama::llama;
use crate::small;
use crate::toy::{Toy, tokenizer};

/// An adapter's folder in `dir`, each seed another.
pub fn folder(dir: &Path, config: &Config, seed: u64) -> PathBuf {
    let folder = dir.join(format!("adapter-{seed}"));
    small::adapter(&folder, config, seed, 0.1);
    folder
}

/// Folders of three adapters.
fn folders() -> (TempDir, [PathBuf; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let folders = [1, 2, 3].map(|seed| folder(dir.path(), llama().config(), seed));
    (dir, folders)
}

/// With the first two of them.
fn settings([a, b, _]: &[PathBuf; 3]) -> Settings {
    let adapters = [("a".to_string(), a.clone()), ("b".to_string(), b.clone())].into();
    Settings { adapters, ..Settings::default() }
}

fn start(settings: Settings) -> Engine {
    Engine::start(llama(), tokenizer(), settings).unwrap()
}

fn request(adapter: Option<&str>, prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request {
        adapter: adapter.map(Into::into),
        ignore_end: true,
        logprobs: Some(1),
        ..Request::greedy(prompt, max_tokens)
    }
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|place| (place * 7 + 3) % 500).collect()
}

/// The scheduler lets go of what a request held just after it has sent the last event.
fn settles(holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it stays as it is");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_request_gets_the_same_tokens_alone_and_beside_any_adapters() {
    let (_dir, folders) = folders();
    let requests = || -> Vec<Request> {
        let which = |number: u32| [None, Some("a"), Some("b")][number as usize % 3];
        (0..12).map(|number| request(which(number), prompt(20 + 9 * (number / 3)), 12)).collect()
    };
    for kv_cache in [KvCache::Exact, KvCache::Q8] {
        let with = |max_sequences, prefill_chunk| Settings {
            max_sequences,
            prefill_chunk,
            kv_cache,
            ..settings(&folders)
        };
        let engine = start(with(1, 256));
        let alone: Vec<Completion> =
            requests().into_iter().map(|request| engine.complete(request).unwrap()).collect();
        assert_ne!(alone[0].tokens, alone[1].tokens);
        assert_ne!(alone[1].tokens, alone[2].tokens);
        for (max_sequences, prefill_chunk, speculative) in [
            (12, 256, Speculative::Off),
            (5, 7, Speculative::Off),
            (12, 40, Speculative::Off),
            (12, 256, Speculative::Lookup),
            (1, 256, Speculative::Lookup),
        ] {
            let settings = Settings { speculative, ..with(max_sequences, prefill_chunk) };
            let together = start(settings).complete_all(requests());
            for (index, (alone, together)) in alone.iter().zip(together).enumerate() {
                let together = together.unwrap();
                assert_eq!(
                    alone.tokens, together.tokens,
                    "request {index}, {max_sequences}, {prefill_chunk}"
                );
            }
        }
    }
}

/// Neither one after the other nor all at once is a prompt answered from pages that were read with another adapter, or with
/// another of the same name.
#[test]
fn pages_belong_to_the_adapter_that_they_were_read_with() {
    let (_dir, folders) = folders();
    let names = [None, Some("a"), Some("b")];
    let fresh = names.map(|name| start(settings(&folders)).complete(request(name, prompt(200), 8)).unwrap());
    let engine = start(settings(&folders));
    for (cached, round) in [(0, "first"), (192, "second")] {
        for (name, fresh) in names.iter().zip(&fresh) {
            let answer = engine.complete(request(*name, prompt(200), 8)).unwrap();
            assert_eq!(answer.usage.cached_tokens, cached, "{name:?}, {round} time");
            assert_eq!(answer.tokens, fresh.tokens, "{name:?}, {round} time");
        }
    }
    let requests = names.iter().chain(&names).map(|name| request(*name, prompt(200), 8)).collect();
    let together = start(settings(&folders)).complete_all(requests);
    for (index, answer) in together.into_iter().map(Result::unwrap).enumerate() {
        assert_eq!(answer.tokens, fresh[index % 3].tokens, "request {index} together");
        // The second of a kind finds what the first has read, and nothing else.
        assert_eq!(answer.usage.cached_tokens, 192 * (index / 3), "request {index} together");
    }

    settles(|| engine.stats().kept_tokens == 3 * 192);
    engine.unload_adapter("a").unwrap();
    engine.load_adapter("a", &folders[2]).unwrap();
    let other = engine.complete(request(Some("a"), prompt(200), 8)).unwrap();
    assert_eq!(other.usage.cached_tokens, 0);
    assert_ne!(other.tokens, fresh[1].tokens);
    // What the old one had read is not kept beside it.
    settles(|| engine.stats().kept_tokens == 3 * 192);
    engine.unload_adapter("a").unwrap();
    engine.load_adapter("a", &folders[0]).unwrap();
    let again = engine.complete(request(Some("a"), prompt(200), 8)).unwrap();
    assert_eq!((again.usage.cached_tokens, again.tokens), (0, fresh[1].tokens.clone()));
}

#[test]
fn what_is_unloaded_answers_to_the_end_and_is_gone_then() {
    let (_dir, folders) = folders();
    let alone = start(settings(&folders)).complete(request(Some("a"), prompt(70), 150)).unwrap();
    let engine = start(Settings { max_sequences: 1, ..settings(&folders) });
    let both = engine.stats().adapter_bytes;
    let one = engine.adapters()[0].bytes;
    assert_eq!(both, 2 * one);
    // One runs and three wait.
    let running: Vec<_> =
        (0..4).map(|_| engine.submit(request(Some("a"), prompt(70), 150)).unwrap()).collect();
    assert!(matches!(running[0].recv(), Ok(Event::Token(_))));
    engine.unload_adapter("a").unwrap();
    assert_eq!(engine.adapters().iter().map(|adapter| &*adapter.name).collect::<Vec<_>>(), ["b"]);
    assert_eq!(engine.stats().adapter_bytes, both);
    let error = engine.submit(request(Some("a"), prompt(5), 2)).err().unwrap();
    assert_eq!(error, Error::UnknownAdapter { name: "a".into(), known: vec!["b".into()] });
    // Another of the name comes meanwhile and answers for itself.
    engine.load_adapter("a", &folders[2]).unwrap();
    let other = engine.submit(request(Some("a"), prompt(70), 4)).unwrap();
    assert_eq!(engine.stats().adapter_bytes, both + one);
    for (index, events) in running.iter().enumerate() {
        let ids: Vec<u32> = events
            .iter()
            .filter_map(|event| match event {
                Event::Token(token) => Some(token.id),
                Event::Failed(error) => panic!("{error}"),
                _ => None,
            })
            .collect();
        let expected = alone.token_ids();
        assert_eq!(ids, expected[usize::from(index == 0)..], "request {index}");
    }
    let ids: Vec<u32> = other
        .iter()
        .filter_map(|event| if let Event::Token(token) = event { Some(token.id) } else { None })
        .collect();
    assert_ne!(ids, alone.token_ids()[..4]);
    // Of the prompts, the first page of the new one's is all that is kept.
    settles(|| (engine.stats().adapter_bytes, engine.stats().kept_tokens) == (both, 64));
}

#[test]
fn adapters_come_and_go_under_requests() {
    let (_dir, folders) = folders();
    let engine = start(settings(&folders));
    let expected =
        [None, Some("b")].map(|name| engine.complete(request(name, prompt(90), 20)).unwrap().tokens);
    std::thread::scope(|scope| {
        let changing = Arc::new(AtomicBool::new(true));
        let done = Arc::clone(&changing);
        let (engine, folders, expected) = (&engine, &folders, &expected);
        scope.spawn(move || {
            for round in 0..20 {
                engine.unload_adapter("a").unwrap();
                engine.load_adapter("a", &folders[[0, 2][round % 2]]).unwrap();
            }
            done.store(false, Ordering::SeqCst);
        });
        for _ in 0..3 {
            let changing = Arc::clone(&changing);
            scope.spawn(move || {
                let mut answered = 0;
                while changing.load(Ordering::SeqCst) || answered == 0 {
                    for (name, expected) in [None, Some("b")].into_iter().zip(expected) {
                        assert_eq!(&engine.complete(request(name, prompt(90), 20)).unwrap().tokens, expected);
                    }
                    match engine.complete(request(Some("a"), prompt(90), 20)) {
                        Ok(_) => answered += 1,
                        Err(error) => assert!(matches!(error, Error::UnknownAdapter { .. }), "{error}"),
                    }
                }
            });
        }
    });
    engine.unload_adapter("a").unwrap();
    engine.unload_adapter("b").unwrap();
    assert_eq!(engine.unload_adapter("b"), Err(Error::UnknownAdapter { name: "b".into(), known: vec![] }));
    engine.complete(request(None, prompt(90), 1)).unwrap();
    assert_eq!(engine.stats().adapter_bytes, 0);
    // One page of the prompt, read with the model as it is, is all that is kept.
    engine.shutdown();
    assert_eq!(engine.stats().kept_tokens, 64);
}

#[test]
fn what_cannot_be_loaded_is_refused_by_name_with_the_remedy() {
    let (dir, folders) = folders();
    let engine = start(Settings { max_adapters: 3, ..settings(&folders) });
    let other = Config { dim: 32, ..llama().config().clone() };
    let other = folder(dir.path(), &other, 9);
    let nowhere = dir.path().join("nowhere");
    for (name, folder, what, remedy) in [
        ("a", &folders[2], "is loaded already", "unload it first"),
        ("", &folders[2], "is no name", "short name"),
        ("a\nb", &folders[2], "is no name", "short name"),
        ("c", &nowhere, "adapter_config.json", "adapter_model.safetensors"),
        (
            "c",
            &other,
            "q_proj.lora_A.weight: shape [4, 32], where the configuration means [4, 64]",
            "this very model",
        ),
    ] {
        let error = engine.load_adapter(name, folder).unwrap_err();
        assert!(error.to_string().starts_with(&format!("adapter `{name}`: ")), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.hint().unwrap().contains(remedy), "{error}: {:?}", error.hint());
    }
    engine.load_adapter("c", &folders[2]).unwrap();
    let error = engine.load_adapter("d", &folders[2]).unwrap_err();
    assert!(error.to_string().contains("the 3 that may be loaded"), "{error}");
    assert!(error.hint().unwrap().contains("`max_adapters`"), "{error}");

    let adapters = [("x".to_string(), nowhere)].into();
    let error =
        Engine::start(llama(), tokenizer(), Settings { adapters, ..Settings::default() }).err().unwrap();
    assert!(error.to_string().starts_with("adapter `x`: "), "{error}");
    let toy = Engine::start(Arc::new(Toy::new(&tokenizer())), tokenizer(), Settings::default()).unwrap();
    let error = toy.load_adapter("a", &folders[0]).unwrap_err();
    assert!(error.to_string().contains("takes no adapters"), "{error}");
}
