//! The trainer against a plain one, and its promises.

use std::collections::BTreeMap;

use ledger::digest::Digest;
use ledger::progress::Silent;
use proptest::prelude::*;
use tokenizer::train::{self, Counting, Counts, Language, Options, Settings, Weights, train};
use tokenizer::{Error, Tokenizer};

use crate::{TEXT, trained};

/// The definition: count all pairs anew for each merge. Works on texts without white space, digits
/// and punctuation, where each text is one piece.
fn merge_plainly(words: &[String], minimum_pair_count: u64) -> Vec<Vec<u8>> {
    let mut words: Vec<Vec<u32>> = words.iter().map(|word| word.bytes().map(u32::from).collect()).collect();
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    loop {
        let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for pair in words.iter().flat_map(|word| word.windows(2)) {
            *counts.entry((pair[0], pair[1])).or_default() += 1;
        }
        // The first of the largest, in order of the ids.
        let best = counts.iter().max_by_key(|(pair, count)| (**count, std::cmp::Reverse(**pair)));
        let Some((&(left, right), _)) = best.filter(|(_, count)| **count >= minimum_pair_count) else {
            return tokens;
        };
        let merged = tokens.len() as u32;
        tokens.push([&tokens[left as usize][..], &tokens[right as usize]].concat());
        for word in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if (word[at], word[at + 1]) == (left, right) {
                    word[at] = merged;
                    word.remove(at + 1);
                }
                at += 1;
            }
        }
    }
}

fn tokens(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    let ids = 0..tokenizer.ordinary_tokens() as u32;
    ids.filter_map(|id| tokenizer.token_bytes(id)).map(<[u8]>::to_vec).collect()
}

proptest! {
    #[test]
    fn equals_the_plain_trainer(
        words in proptest::collection::vec("[ab]{1,12}|[a-d]{1,8}|(abc|ba){1,5}|é{1,6}", 1..30),
        minimum_pair_count in 1..4u64,
    ) {
        let expected = merge_plainly(&words, minimum_pair_count);
        let vocab_size = expected.len() + 256;
        let settings = Settings { vocab_size, minimum_pair_count, ..Settings::default() };
        let tokenizer = train(words.iter(), &settings, &Silent).expect("reachable");
        prop_assert_eq!(tokens(&tokenizer), expected);
        // One more cannot be reached, and the error says so.
        let settings = Settings { vocab_size: vocab_size + 1, ..settings };
        let error = train(words.iter(), &settings, &Silent).expect_err("unreachable");
        let named = matches!(error, Error::CorpusTooSmall { reachable, .. } if reachable == vocab_size);
        prop_assert!(named, "{}", error);
        // Encoding by rank repeats what training did: each token is itself one token.
        for (id, token) in tokens(&tokenizer).iter().enumerate() {
            if let Ok(text) = std::str::from_utf8(token) {
                prop_assert_eq!(tokenizer.encode(text), [id as u32]);
            }
        }
    }
}

#[test]
fn digits_are_merged_only_where_asked_for_or_in_a_large_vocabulary() {
    let texts = ["in 2024 and 2025, 1000 of 2024 items at 2024 places with 1000 words of words"; 4];
    let longest_number = |merge_digits| {
        let settings = Settings { vocab_size: 530, merge_digits, ..Settings::default() };
        let tokenizer = train(texts, &settings, &Silent).expect("reachable");
        assert!(tokens(&tokenizer).iter().any(|token| token == b" words"));
        let numbers = tokens(&tokenizer).into_iter().filter(|token| token.iter().any(u8::is_ascii_digit));
        numbers.map(|token| token.len()).max()
    };
    assert_eq!((longest_number(None), longest_number(Some(true))), (Some(1), Some(3)));
    assert!(Settings { vocab_size: 128_256, ..Settings::default() }.merges_digits());
}

#[test]
fn a_smaller_vocabulary_is_the_beginning_of_a_larger_one() {
    let large = trained(900);
    for vocab_size in [512, 513, 700, 900] {
        let cut = large.truncated(vocab_size).expect("smaller");
        let small = crate::train(vocab_size);
        assert_eq!(cut.vocab_size(), vocab_size);
        assert_eq!(tokens(&cut), tokens(&small));
        assert_eq!(cut.encode(TEXT), small.encode(TEXT));
    }
    for vocab_size in [0, 255, 511, 901] {
        assert!(large.truncated(vocab_size).is_err(), "{vocab_size}");
    }
}

#[test]
fn more_tokens_compress_better() {
    let sizes = [512, 600, 700, 800, 900];
    let curve = tokenizer::compression::curve(&trained(900), &[TEXT], &sizes).expect("smaller");
    assert_eq!(curve[0].bytes_per_token(), Some(1.0));
    assert!(curve.is_sorted_by(|left, right| left.tokens > right.tokens), "{curve:?}");
}

#[test]
fn threads_and_order_of_texts_change_nothing() {
    let settings = Settings { vocab_size: 900, merge_digits: Some(true), ..Settings::default() };
    let expected = tokens(&trained(900));
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let tokenizer = pool.install(|| train(TEXT.lines().rev(), &settings, &Silent));
        assert_eq!(tokens(&tokenizer.expect("the text is large enough")), expected);
    }
}

#[test]
fn texts_are_not_joined() {
    // "ab" would be the most frequent pair if one text ran on into the next.
    let settings = Settings { vocab_size: 513, minimum_pair_count: 1, merge_digits: None };
    let tokenizer = train(["b", "a", "b", "a", "b", "xy"].iter(), &settings, &Silent).expect("one pair");
    assert_eq!(tokenizer.token_bytes(256), Some(&b"xy"[..]));
}

#[test]
fn the_reachable_vocabulary_is_named() {
    let settings = Settings { vocab_size: 100_000, ..Settings::default() };
    let error = train(TEXT.lines(), &settings, &Silent).expect_err("the text is small");
    let Error::CorpusTooSmall { reachable, .. } = error else { panic!("{error}") };
    assert!(error.hint().is_some_and(|hint| hint.contains(&reachable.to_string())));
    // Asked for, it is reached, although so small a vocabulary keeps digits apart; one more is not.
    let settings = Settings { vocab_size: reachable, ..settings };
    assert_eq!(train(TEXT.lines(), &settings, &Silent).expect("reachable").vocab_size(), reachable);
    let settings = Settings { vocab_size: reachable + 1, ..settings };
    assert!(train(TEXT.lines(), &settings, &Silent).is_err());
}

#[test]
fn settings_are_checked_at_once() {
    let settings = Settings { vocab_size: 300, minimum_pair_count: 0, merge_digits: None };
    let message = settings.validate().expect_err("two faults").to_string();
    assert!(
        message.contains("vocab_size is 300") && message.contains("minimum_pair_count is 0"),
        "{message}"
    );
    assert!(Settings::default().validate().is_ok());
    let parsed: Settings = serde_json::from_str(r#"{"vocab_size": 8192}"#).expect("the rest is default");
    assert_eq!(parsed, Settings { vocab_size: 8192, ..Settings::default() });
    assert!(serde_json::from_str::<Settings>(r#"{"vocab": 8192}"#).is_err());
}

/// Texts of several kinds, each with its source and its language.
fn documents() -> Vec<(String, u16, Language<'static>)> {
    let languages = [Language::None, Language::Known("en"), Language::Known("de"), Language::Unknown];
    let lines = TEXT.lines().cycle().take(8 * TEXT.lines().count()).enumerate();
    lines
        .map(|(index, line)| {
            (format!("{line} piece{index} {}", index * 31), (index % 2) as u16, languages[index % 4])
        })
        .collect()
}

fn detect(text: &str) -> Option<&'static str> {
    text.is_ascii().then_some("en")
}

/// Counts with these options, beginning anew after each of `kills` documents, as a killed process would: what was not
/// put on the disk before is lost.
fn count(work: &std::path::Path, options: Options, detect: Option<train::Detect>, kills: &[usize]) -> Counts {
    let documents = documents();
    let fingerprint = Digest::of_bytes(b"documents");
    let mut kills = kills.iter().copied();
    loop {
        let (mut counting, _) = Counting::open(work, &fingerprint, options, detect).expect("a folder");
        let kill = kills.next().unwrap_or(usize::MAX);
        let first = counting.position().records as usize;
        for (index, (text, source, language)) in documents.iter().enumerate().skip(first) {
            if index == kill {
                break;
            }
            let position = train::Position { input: 0, records: index as u64 + 1 };
            counting.push(text, *source, *language, position).expect("counted");
        }
        if kill == usize::MAX {
            return counting.finish().expect("counted");
        }
    }
}

fn trained_on(counts: &Counts, weights: &Weights) -> (Vec<Vec<u8>>, f64) {
    let settings = Settings { vocab_size: 900, ..Settings::default() };
    let never = std::sync::atomic::AtomicBool::new(false);
    let trained = train::train_on(counts, &settings, weights, u64::MAX, &Silent, &never).expect("reachable");
    (tokens(&trained.tokenizer), trained.loaded.bytes as f64 / trained.tokens as f64)
}

#[test]
fn neither_memory_nor_threads_nor_kills_change_a_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let texts = documents().into_iter().map(|(text, ..)| text);
    let settings = Settings { vocab_size: 900, ..Settings::default() };
    let expected = tokens(&train(texts, &settings, &Silent).expect("reachable"));
    let weights = Weights { sources: vec![1.0, 2.0], language_exponent: Some(0.5) };
    let mut weighed = None;
    // 60 kB of memory are a dozen pieces to a table; the other has room for everything.
    for (index, (memory, threads, checkpoint_bytes, kills)) in [
        (1 << 30, 1, u64::MAX, &[][..]),
        (60_000, 3, u64::MAX, &[]),
        (1 << 30, 2, 2_000, &[100, 100, 90, 200]),
        (200_000, 2, 9_000, &[1, 150, 210]),
    ]
    .into_iter()
    .enumerate()
    {
        let options = Options { memory, threads, checkpoint_bytes };
        let work = folder.path().join(index.to_string());
        let plain = count(&work, options, None, kills);
        assert_eq!(trained_on(&plain, &Weights::default()).0, expected, "{options:?}");
        drop(plain);
        // What was counted without languages is of no use with them.
        let counts = count(&work, options, Some(detect), kills);
        let groups: BTreeMap<_, _> = counts
            .groups()
            .iter()
            .map(|group| ((group.source, group.language.clone()), (group.texts, group.bytes)))
            .collect();
        assert!(groups.len() >= 4, "{groups:?}");
        let found = (groups, trained_on(&counts, &weights));
        assert_eq!(*weighed.get_or_insert_with(|| found.clone()), found, "{options:?}");
        counts.remove().expect("removed");
        assert!(!work.exists());
    }
}

#[test]
fn a_weight_is_as_good_as_repetition() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { memory: 1 << 30, threads: 1, checkpoint_bytes: u64::MAX };
    let counts = count(folder.path(), options, None, &[]);
    let weights = Weights { sources: vec![1.0, 3.0], language_exponent: None };
    // One group, where sources are weighed, is one source.
    let repeated =
        documents().into_iter().flat_map(|(text, source, _)| vec![text; 1 + 2 * usize::from(source)]);
    let settings = Settings { vocab_size: 900, ..Settings::default() };
    let expected = train(repeated, &settings, &Silent).expect("reachable");
    assert_eq!(trained_on(&counts, &weights).0, tokens(&expected));
    assert_ne!(trained_on(&counts, &Weights::default()).0, tokens(&expected));
}

#[test]
fn a_complete_count_is_not_repeated_and_its_figures_are_true() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { memory: 1 << 30, threads: 2, checkpoint_bytes: 1_000 };
    let counts = count(folder.path(), options, None, &[]);
    let first = trained_on(&counts, &Weights::default());
    drop(counts);
    let fingerprint = Digest::of_bytes(b"documents");
    let (counting, begun) = Counting::open(folder.path(), &fingerprint, options, None).expect("a folder");
    assert!(begun == train::Begun::Continued && counting.is_complete());
    let counts = counting.finish().expect("complete");
    assert_eq!(trained_on(&counts, &Weights::default()), first);
    // The tokens that training counted are those of encoding.
    let texts: Vec<String> = documents().into_iter().map(|(text, ..)| text).collect();
    let settings = Settings { vocab_size: 900, merge_digits: Some(true), ..Settings::default() };
    let never = std::sync::atomic::AtomicBool::new(false);
    let trained = train::train_on(&counts, &settings, &Weights::default(), u64::MAX, &Silent, &never)
        .expect("reachable");
    let encoded: usize = texts.iter().map(|text| trained.tokenizer.encode(text).len()).sum();
    assert_eq!(
        (trained.tokens, trained.loaded.bytes),
        (encoded as u64, texts.iter().map(|text| text.len() as u64).sum())
    );
    drop(counts);
    let (counting, begun) =
        Counting::open(folder.path(), &Digest::of_bytes(b"other"), options, None).expect("a folder");
    assert!(matches!(begun, train::Begun::Anew(_)) && counting.position() == train::Position::default());
}
