//! Injected duplicates, exact and near, against what deduplication finds.

use std::collections::{BTreeMap, BTreeSet};

use ledger::seed::{Rng, Seed};

use super::*;
use crate::steps::sign::{Sign, fingerprint};

fn words(rng: &mut Rng, count: usize) -> Vec<String> {
    (0..count).map(|_| format!("word{}", rng.below(20_000))).collect()
}

/// Replaces so many single words, spread evenly; each breaks up to five shingles.
fn changed(rng: &mut Rng, words: &[String], replacements: usize) -> Vec<String> {
    let mut words = words.to_vec();
    for i in 0..replacements {
        let at = i * words.len() / replacements;
        words[at] = format!("new{}", rng.below(1_000_000));
    }
    words
}

fn jaccard(a: &[String], b: &[String]) -> f64 {
    let shingles = |words: &[String]| words.windows(5).map(|w| w.join(" ")).collect::<BTreeSet<_>>();
    let (a, b) = (shingles(a), shingles(b));
    a.intersection(&b).count() as f64 / a.union(&b).count() as f64
}

#[test]
fn signatures_estimate_the_similarity_of_shingles() {
    let sign = Sign::new(&MinHash::default());
    let mut rng = Seed(1).stream("test", 0);
    for replacements in [0, 4, 10, 25, 60] {
        let (mut estimated, mut exact) = (0.0, 0.0);
        for _ in 0..20 {
            let original = words(&mut rng, 500);
            let other = changed(&mut rng, &original, replacements);
            let signature = |words: &[String]| sign.signature(&words.join(" "), false);
            estimated += similarity(&signature(&original), &signature(&other)) / 20.0;
            exact += jaccard(&original, &other) / 20.0;
        }
        // 20 estimates of 112 rows: a standard error of at most 0.011.
        assert!((estimated - exact).abs() < 0.04, "{replacements}: {estimated} beside {exact}");
    }
}

#[test]
fn injected_near_duplicates_are_found_and_nothing_else() {
    let settings = MinHash::default();
    let sign = Sign::new(&settings);
    let mut rng = Seed(2).stream("test", 0);
    let mut signatures = Signatures::default();
    let mut ordinal = 0;
    let mut push = |words: &[String]| {
        let text = words.join(" ");
        signatures.push(ordinal, fingerprint(&text), &sign.signature(&text, false));
        ordinal += 1;
        ordinal - 1
    };
    let originals: Vec<Vec<String>> = (0..300).map(|_| words(&mut rng, 400)).collect();
    originals.iter().for_each(|words| {
        push(words);
    });
    // Similarity about 0.90 and about 0.45: the first kind must go, the second must stay.
    let near: BTreeSet<u64> =
        originals.iter().take(200).map(|words| push(&changed(&mut rng, words, 4))).collect();
    let far: BTreeSet<u64> =
        originals.iter().skip(200).map(|words| push(&changed(&mut rng, words, 30))).collect();
    let found: BTreeSet<u64> = signatures.near_duplicates(&settings, &BTreeMap::new()).into_iter().collect();
    let hits = found.intersection(&near).count();
    // At 0.90 a pair shares one of 14 bands of 8 with probability 1 - (1 - 0.9^8)^14 = 0.9997.
    assert!(hits as f64 >= 0.98 * near.len() as f64, "recall {hits} of {}", near.len());
    assert_eq!(found.difference(&near).count(), 0, "precision: {:?}", found.intersection(&far));
}

#[test]
fn the_first_of_a_chain_stays() {
    let settings = MinHash { min_similarity: 0.6, ..MinHash::default() };
    let sign = Sign::new(&settings);
    let mut rng = Seed(3).stream("test", 0);
    let mut current = words(&mut rng, 400);
    let mut signatures = Signatures::default();
    for ordinal in 0..6 {
        let text = current.join(" ");
        signatures.push(10 + ordinal, fingerprint(&text), &sign.signature(&text, false));
        current = changed(&mut rng, &current, 5);
    }
    assert_eq!(signatures.near_duplicates(&settings, &BTreeMap::new()), [11, 12, 13, 14, 15]);
    // A document that another step removed neither stays nor stands for others.
    let excluded = BTreeMap::from([(10, "same_text")]);
    assert_eq!(signatures.near_duplicates(&settings, &excluded), [12, 13, 14, 15]);
    let off = MinHash { enabled: false, ..settings };
    assert!(signatures.near_duplicates(&off, &BTreeMap::new()).is_empty());
}

#[test]
fn exact_duplicates_ignore_case_and_blanks() {
    let texts =
        ["One text.", "Another text", "one  TEXT.\n", "One text!", "ANOTHER\ttext", "Éclair", "éclair"];
    let mut signatures = Signatures::default();
    for (ordinal, text) in texts.iter().enumerate() {
        signatures.push(ordinal as u64, fingerprint(text), &[]);
    }
    assert_eq!(signatures.exact_duplicates(), [2, 4, 6]);
}
