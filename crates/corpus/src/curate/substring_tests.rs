//! Cuts beside those of a plain version that compares all runs with all others.

use std::collections::{BTreeMap, BTreeSet};

use ledger::seed::Seed;
use proptest::prelude::*;

use super::*;
use crate::batch::{Builder, Record as Document};
use crate::kind::{self, Kind};

fn batches(texts: &[String], kind: Kind, size: usize) -> Vec<RecordBatch> {
    let mut builder = Builder::new(7);
    let mut batches = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let source = format!("{index}");
        builder.push(&Document { text: text.clone(), kind, url: None, source, date: None, language: None });
        if (index + 1) % size == 0 {
            batches.push(builder.finish());
        }
    }
    batches.push(builder.finish());
    batches
}

/// What the rule leaves of each text, and its edits and removals.
fn cut(texts: &[String], min_words: u64, memory: u64, kind: Kind, size: usize) -> (Vec<String>, Removed) {
    let folder = tempfile::tempdir().unwrap();
    let mut rule: Box<dyn CorpusRule> = Box::new(Substrings::new(min_words, folder.path(), memory));
    let batches = batches(texts, kind, size);
    loop {
        rule.look(&batches).unwrap();
        if !rule.end_look().unwrap() {
            break;
        }
    }
    let step = rule.step().unwrap();
    let mut left = vec![String::new(); texts.len()];
    let mut account = Removed::default();
    // A step is asked in any order.
    for batch in batches.into_iter().rev() {
        let (batch, removed) = step.apply(batch).unwrap();
        account.merge(removed);
        for row in Rows::of(&batch, "test").unwrap().iter() {
            left[row.ordinal as usize - 7] = row.text.to_string();
        }
    }
    drop(step);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    (left, account)
}

/// The words that stay: all but those of runs whose words stand before, apart from the first of them.
fn plainly(texts: &[String], min_words: usize) -> Vec<Vec<String>> {
    let mut first: BTreeMap<Vec<&str>, (usize, usize)> = BTreeMap::new();
    let mut left = Vec::new();
    for (document, text) in texts.iter().enumerate() {
        let all: Vec<&str> = words(text).map(|word| word.text).collect();
        let mut cut = BTreeSet::new();
        for (at, run) in all.windows(min_words).enumerate() {
            match first.get(run) {
                None => {
                    first.insert(run.to_vec(), (document, at));
                }
                Some((of, earlier)) if *of == document && at < earlier + min_words => {}
                Some(_) => cut.extend(at..at + min_words),
            }
        }
        let stays = (0..all.len()).filter(|at| !cut.contains(at)).map(|at| all[at].to_string());
        left.push(stays.collect());
    }
    left
}

fn words_of(texts: &[String]) -> Vec<Vec<String>> {
    texts.iter().map(|text| words(text).map(|word| word.text.to_string()).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn exactly_the_repeated_runs_are_cut(
        texts in proptest::collection::vec(proptest::collection::vec((0u8..3, 0usize..4), 0..40), 0..8),
        min_words in 2u64..9,
        memory in prop_oneof![0u64..3_000, Just(1 << 26)],
        size in 1usize..5,
    ) {
        let blank = [" ", "\n", "\n\n", "\t "];
        let texts: Vec<String> = texts
            .iter()
            .map(|words| words.iter().map(|(word, end)| format!("w{word}{}", blank[*end])).collect())
            .collect();
        let (left, _) = cut(&texts, min_words, memory, kind::TEXT, size);
        prop_assert_eq!(words_of(&left), plainly(&texts, min_words as usize));
    }

    #[test]
    fn winnowing_leaves_one_of_every_stretch(
        hashes in proptest::collection::vec(0u64..9, 0..60),
        window in 1usize..12,
    ) {
        let chosen = winnow(&hashes, window);
        prop_assert!(chosen.windows(2).all(|two| two[0] < two[1]));
        let mut expected: Vec<usize> = hashes
            .windows(window)
            .enumerate()
            .map(|(at, some)| at + (0..window).min_by_key(|&i| (some[i], window - i)).unwrap())
            .collect();
        expected.dedup();
        prop_assert_eq!(chosen, expected);
    }
}

#[test]
fn a_passage_in_other_texts_is_cut_there() {
    let mut rng = Seed(4).stream("substring", 0);
    let mut run = |words: usize| -> String {
        (0..words).map(|_| format!("word{} ", rng.below(5_000))).collect::<String>().trim_end().to_string()
    };
    let notice = run(60);
    let (a, b, c) = (run(80), run(80), run(80));
    let texts = vec![
        format!("{a}\n\n{notice}\n\nThe end."),
        format!("{b}\n\n{}\n\n{c}", notice.replace(' ', "\n")),
        format!("{notice}\n"),
        run(300),
    ];
    let (left, removed) = cut(&texts, 50, 1 << 20, kind::TEXT, 2);
    assert_eq!(left[0], texts[0]);
    assert_eq!(left[1], format!("{b}\n\n{c}"));
    assert_eq!((left[2].as_str(), &left[3]), ("", &texts[3]));
    assert_eq!(removed.edits, BTreeMap::from([("repeated_runs".to_string(), 1)]));
    assert_eq!(removed.reasons, BTreeMap::from([("all_repeated".to_string(), 1)]));
    // 49 words are no run of 50.
    let short: Vec<&str> = notice.split(' ').take(49).collect();
    let texts = vec![notice.clone(), format!("{a} {} {b}", short.join(" "))];
    assert_eq!(cut(&texts, 50, 1 << 20, kind::TEXT, 2).0, texts);
    // Code is left alone.
    let texts = vec![notice.clone(), notice];
    assert_eq!(cut(&texts, 50, 1 << 20, Kind::of_label("rust").unwrap(), 2).0, texts);
}

#[test]
fn what_is_left_keeps_its_line_breaks() {
    let check = |left: &str, more: &str, joined: &str| {
        let mut text = left.to_string();
        append(&mut text, more);
        assert_eq!(text, joined);
    };
    check("a ", " b", "a b");
    check("a\n\n", " b", "a\n\nb");
    check("a ", "\n\nb", "a\n\nb");
    check("", "\n b", "b");
    check("a", " b", "a b");
}
