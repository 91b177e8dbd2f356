//! Injected duplicates, exact and near, against what deduplication finds; and whatever is spilled against a plain version
//! in memory.

use std::collections::{BTreeMap, BTreeSet};

use ledger::seed::{Rng, Seed};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

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

/// Documents in memory, as the plain version has them.
#[derive(Clone, Default, Debug)]
struct Documents(Vec<(Head, Vec<u32>)>);

impl Documents {
    fn push(&mut self, head: Head, minhash: Vec<u32>) {
        self.0.push((head, minhash));
    }

    fn push_text(&mut self, sign: &Sign, text: &str) {
        let ordinal = self.0.len() as u64;
        let head =
            Head { ordinal, bytes: text.len() as u32, fingerprint: fingerprint(text), url: 0, date: 0 };
        self.push(head, sign.signature(text, false));
    }

    /// What is found from files of so many documents, with so much memory.
    fn find(&self, rules: Rules, shard: usize, memory: u64) -> Found {
        let minhash = rules.minhash;
        let folder = tempfile::tempdir().unwrap();
        let (bands, rows) = match minhash.enabled {
            true => (minhash.bands as usize, minhash.rows as usize),
            false => (0, 0),
        };
        let mut paths = Vec::new();
        for (index, some) in self.0.chunks(shard).enumerate() {
            let mut signed = Signed::new(bands, rows);
            for (head, minhash) in some {
                let mut one = Signed::new(bands, rows);
                one.push(*head, if bands == 0 { &[] } else { minhash });
                signed.append(&one);
            }
            paths.push(folder.path().join(format!("{index}.signatures")));
            signed.write(&paths[index]).unwrap();
        }
        let files = paths.len();
        let mut signatures = Signatures::open(paths).unwrap();
        let found = find(&mut signatures, &rules, folder.path(), memory, || true).unwrap();
        let clusters = found.clusters.map(Result::unwrap).collect();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), files, "runs are removed");
        Found { verdicts: found.verdicts, clusters }
    }

    fn removed(&self, minhash: &MinHash, verdict: Verdict) -> Vec<usize> {
        let found = self.find(Rules { minhash, ..Rules::of(&Settings::default()) }, 1000, 1 << 30);
        (0..self.0.len()).filter(|&index| found.verdicts[index] == verdict).collect()
    }
}

#[derive(Debug, PartialEq)]
struct Found {
    verdicts: Vec<Verdict>,
    clusters: Vec<(u32, StandsFor)>,
}

/// The plain version: maps, every band's buckets as lists, and sets as labels.
fn plainly(documents: &Documents, Rules { urls, texts, minhash }: Rules) -> Found {
    let documents = &documents.0;
    let mut verdicts = vec![Verdict::Keep; documents.len()];
    let mut labels: Vec<usize> = (0..documents.len()).collect();
    let join = |labels: &mut Vec<usize>, a: usize, b: usize| {
        let (one, other) = (labels[a].min(labels[b]), labels[a].max(labels[b]));
        labels.iter_mut().filter(|label| **label == other).for_each(|label| *label = one);
    };
    let mut pairs = Vec::new();
    if urls.enabled {
        let mut of_url: BTreeMap<u128, Vec<usize>> = BTreeMap::new();
        for (index, (head, _)) in documents.iter().enumerate().filter(|(_, (head, _))| head.url != 0) {
            of_url.entry(head.url).or_default().push(index);
        }
        for members in of_url.values() {
            let rank = |index: usize| match urls.keep {
                KeepUrl::Longest => u64::from(documents[index].0.bytes),
                KeepUrl::Last => documents[index].0.date,
            };
            let kept = *members.iter().rev().max_by_key(|&&index| rank(index)).unwrap();
            for &index in members.iter().filter(|&&index| index != kept) {
                verdicts[index] = Verdict::SameUrl;
                pairs.push((kept, index));
            }
        }
    }
    let mut of_text = BTreeMap::new();
    for (index, (head, _)) in documents.iter().enumerate() {
        if texts.enabled && verdicts[index] == Verdict::Keep {
            let kept = *of_text.entry(head.fingerprint).or_insert(index);
            if kept != index {
                verdicts[index] = Verdict::SameText;
                pairs.push((kept, index));
            }
        }
    }
    if minhash.enabled {
        let candidates: Vec<usize> =
            (0..documents.len()).filter(|&index| verdicts[index] == Verdict::Keep).collect();
        let rows = minhash.rows as usize;
        for band in 0..minhash.bands as usize {
            // Who is in one component already is not compared again, so the order of buckets matters: that of their keys.
            let mut buckets: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
            for &index in &candidates {
                let numbers = &documents[index].1[band * rows..(band + 1) * rows];
                let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                buckets.entry(xxh3_64(&bytes)).or_default().push(index);
            }
            for members in buckets.values() {
                let mut representatives: Vec<usize> = Vec::new();
                for &index in members {
                    let mut joined = false;
                    for &earlier in &representatives {
                        let near = similarity(&documents[earlier].1, &documents[index].1);
                        if labels[earlier] == labels[index] || near >= minhash.min_similarity {
                            join(&mut labels, earlier, index);
                            joined = true;
                        }
                    }
                    if !joined {
                        representatives.push(index);
                    }
                }
            }
        }
        for &index in &candidates {
            if labels[index] != index {
                verdicts[index] = Verdict::SimilarText;
            }
        }
    }
    pairs.into_iter().for_each(|(kept, index)| join(&mut labels, kept, index));
    let mut clusters: BTreeMap<u32, StandsFor> = BTreeMap::new();
    for (index, verdict) in verdicts.iter().enumerate() {
        let kept = (0..documents.len())
            .find(|&other| labels[other] == labels[index] && verdicts[other] == Verdict::Keep)
            .unwrap();
        if *verdict != Verdict::Keep {
            let stands_for = clusters.entry(kept as u32).or_default();
            match verdict {
                Verdict::SameUrl => stands_for.same_url += 1,
                Verdict::SameText => stands_for.same_text += 1,
                _ => stands_for.similar_text += 1,
            }
        }
    }
    Found { verdicts, clusters: clusters.into_iter().collect() }
}

/// Documents of few addresses, texts and numbers, so that everything meets everything.
fn few(bands: usize, rows: usize) -> impl Strategy<Value = Documents> {
    let document = (0u128..6, 0u128..30, 0u32..4, 0u64..3, proptest::collection::vec(0u32..3, bands * rows));
    proptest::collection::vec(document, 0..60).prop_map(|documents| {
        let mut all = Documents::default();
        for (ordinal, (url, fingerprint, bytes, date, minhash)) in documents.into_iter().enumerate() {
            all.push(Head { ordinal: ordinal as u64, bytes, fingerprint, url, date }, minhash);
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_memory_threads_and_files_find_what_the_plain_version_finds(
        documents in few(3, 2),
        min_similarity in prop_oneof![Just(0.0), Just(0.5), Just(0.8)],
        (memory, shard, threads) in (0u64..4_000, 1usize..20, 1usize..4),
        (by_url, by_date, exact, near) in any::<(bool, bool, bool, bool)>(),
    ) {
        let keep = if by_date { KeepUrl::Last } else { KeepUrl::Longest };
        let urls = UrlDedup { enabled: by_url, keep, tables: false };
        let minhash = MinHash { enabled: near, bands: 3, rows: 2, min_similarity, ..MinHash::default() };
        let rules = Rules { urls: &urls, texts: &ExactDedup { enabled: exact }, minhash: &minhash };
        let plain = plainly(&documents, rules);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let spilled = pool.install(|| documents.find(rules, shard, memory));
        prop_assert_eq!(&spilled, &plain);
        prop_assert_eq!(&documents.find(rules, 1000, 1 << 30), &plain);
        // Every removed document belongs to one that stays.
        let removed = plain.verdicts.iter().filter(|verdict| **verdict != Verdict::Keep).count();
        let counted: u32 = plain.clusters.iter().map(|(_, s)| s.same_url + s.same_text + s.similar_text).sum();
        prop_assert_eq!(removed, counted as usize);
    }
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

/// At each similarity a pair shares one of 14 bands of 8 with probability 1 - (1 - s^8)^14; the share of pairs that are
/// found lies about that of their own similarities' mean.
#[test]
fn pairs_are_found_as_often_as_banding_promises() {
    let settings = MinHash { min_similarity: 0.0, ..MinHash::default() };
    let sign = Sign::new(&settings);
    let mut rng = Seed(2).stream("test", 0);
    let pairs = 400;
    for replacements in [2, 5, 9, 14, 20, 30, 50] {
        let mut documents = Documents::default();
        let (mut expected, mut variance) = (0.0, 0.0);
        for _ in 0..pairs {
            let original = words(&mut rng, 400);
            let other = changed(&mut rng, &original, replacements);
            let chance = 1.0 - (1.0 - jaccard(&original, &other).powi(8)).powi(14);
            expected += chance;
            variance += chance * (1.0 - chance);
            documents.push_text(&sign, &original.join(" "));
            documents.push_text(&sign, &other.join(" "));
        }
        let removed = documents.removed(&settings, Verdict::SimilarText);
        assert!(removed.iter().all(|index| index % 2 == 1), "only the later of a pair goes");
        // Four standard deviations, and one pair for those whose chance is near 0 or 1.
        let off = (removed.len() as f64 - expected).abs();
        assert!(
            off <= 4.0 * f64::sqrt(variance) + 1.0,
            "{replacements}: {} of {pairs}, expected {expected}",
            removed.len()
        );
    }
}

#[test]
fn injected_near_duplicates_are_found_and_nothing_else() {
    let settings = MinHash::default();
    let sign = Sign::new(&settings);
    let mut rng = Seed(2).stream("test", 0);
    let mut documents = Documents::default();
    let originals: Vec<Vec<String>> = (0..300).map(|_| words(&mut rng, 400)).collect();
    originals.iter().for_each(|words| documents.push_text(&sign, &words.join(" ")));
    // Similarity about 0.90 and about 0.45: the first kind must go, the second must stay.
    for (index, words) in originals.iter().enumerate() {
        let replacements = if index < 200 { 4 } else { 30 };
        documents.push_text(&sign, &changed(&mut rng, words, replacements).join(" "));
    }
    let found = documents.removed(&settings, Verdict::SimilarText);
    let hits = found.iter().filter(|index| (300..500).contains(*index)).count();
    // At 0.90 a pair shares one of 14 bands of 8 with probability 1 - (1 - 0.9^8)^14 = 0.9997.
    assert!(hits >= 196, "recall {hits} of 200");
    assert_eq!(found.len(), hits, "precision");
}

#[test]
fn the_first_of_a_chain_stays_for_all() {
    let settings = MinHash { min_similarity: 0.6, ..MinHash::default() };
    let sign = Sign::new(&settings);
    let mut rng = Seed(3).stream("test", 0);
    let mut current = words(&mut rng, 400);
    let mut documents = Documents::default();
    for _ in 0..6 {
        documents.push_text(&sign, &current.join(" "));
        current = changed(&mut rng, &current, 5);
    }
    let defaults = Settings::default();
    let rules = Rules { minhash: &settings, ..Rules::of(&defaults) };
    let found = documents.find(rules, 2, 1 << 20);
    assert_eq!(found.verdicts[0], Verdict::Keep);
    assert!(found.verdicts[1..].iter().all(|verdict| *verdict == Verdict::SimilarText));
    assert_eq!(found.clusters, [(0, StandsFor { similar_text: 5, ..StandsFor::default() })]);
    // A document that goes for its address neither stays nor stands for others.
    let mut by_url = documents.clone();
    (by_url.0[0].0.url, by_url.0[5].0.url, by_url.0[5].0.bytes) = (7, 7, 1 << 20);
    let urls = UrlDedup { keep: KeepUrl::Longest, ..UrlDedup::default() };
    let found = by_url.find(Rules { urls: &urls, ..rules }, 2, 1 << 20);
    assert_eq!(found.verdicts[..2], [Verdict::SameUrl, Verdict::Keep]);
    assert_eq!(found.clusters, [(1, StandsFor { same_url: 1, similar_text: 4, ..StandsFor::default() })]);
    let off = MinHash { enabled: false, ..settings };
    assert!(documents.removed(&off, Verdict::SimilarText).is_empty());
}

#[test]
fn exact_duplicates_ignore_case_and_blanks() {
    let texts =
        ["One text.", "Another text", "one  TEXT.\n", "One text!", "ANOTHER\ttext", "Éclair", "éclair"];
    let off = MinHash { enabled: false, ..MinHash::default() };
    let sign = Sign::new(&off);
    let mut documents = Documents::default();
    texts.iter().for_each(|text| documents.push_text(&sign, text));
    assert_eq!(documents.removed(&off, Verdict::SameText), [2, 4, 6]);
}

#[test]
fn a_request_to_stop_ends_it() {
    let mut documents = Documents::default();
    let sign = Sign::new(&MinHash::default());
    documents.push_text(&sign, "one text");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.signatures");
    let mut signed = Signed::new(14, 8);
    signed.push(documents.0[0].0, &documents.0[0].1);
    signed.write(&path).unwrap();
    let mut signatures = Signatures::open(vec![path]).unwrap();
    let mut steps = 0;
    let stopped = find(&mut signatures, &Rules::of(&Settings::default()), folder.path(), 1 << 20, || {
        steps += 1;
        steps < 5
    });
    assert!(matches!(stopped, Err(Error::Stopped)) && steps == 5);
}

#[test]
fn damaged_signatures_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.signatures");
    let mut signed = Signed::new(2, 3);
    for ordinal in 0..10 {
        let head = Head { ordinal, bytes: 1, fingerprint: 2, url: 3, date: 4 };
        signed.push(head, &[ordinal as u32; 6]);
    }
    let intact = || {
        signed.write(&path).unwrap();
        std::fs::read(&path).unwrap()
    };
    intact();
    let mut signatures = Signatures::open(vec![path.clone(), path.clone()]).unwrap();
    assert_eq!((signatures.len(), signatures.minhash(13).unwrap()), (20, vec![3; 6]));
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let signatures = Signatures::open(vec![path.clone()])?;
        signatures.heads(|_, _| Ok(()))?;
        (0..2).try_for_each(|band| signatures.keys(band, |_, _| Ok(())))
    };
    let bytes = intact();
    assert!(read(&bytes).is_ok());
    for at in 0..bytes.len() - 10 * 24 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(matches!(read(&damaged), Err(Error::Malformed { .. })), "byte {at}");
    }
    for length in [0, 5, 30, bytes.len() - 1] {
        assert!(matches!(read(&bytes[..length]), Err(Error::Malformed { .. })), "{length} bytes");
    }
}
