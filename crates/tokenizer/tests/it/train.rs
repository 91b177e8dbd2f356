//! The trainer against a plain one, and its promises.

use std::collections::BTreeMap;

use ledger::progress::Silent;
use proptest::prelude::*;
use tokenizer::train::{Settings, train};
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
