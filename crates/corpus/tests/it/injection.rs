//! Duplicates of every kind are injected into a corpus without any, and curation is asked which it finds: recall and
//! precision of each deduplicator, printed (`cargo test -p corpus injected -- --nocapture`) and held against what theory
//! gives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use corpus::{Embedder, EmbeddingFault, Funnel, Options, Settings, Source, Split, curate_with, documents};
use ledger::progress::Silent;
use ledger::seed::{Rng, Seed};

const WORDS: usize = 300;
/// Documents without a duplicate, and injected ones of each kind.
const ORIGINALS: usize = 700;
const INJECTED: usize = 100;
/// Words of 300 that are replaced in near duplicates.
const EDITS: [usize; 7] = [1, 3, 6, 10, 15, 22, 40];

/// Every filter off: what goes, goes as a duplicate.
fn only_duplicates() -> Settings {
    let mut settings = Settings::default();
    settings.gopher_quality.enabled = false;
    settings.gopher_repetition.enabled = false;
    settings.c4.enabled = false;
    settings.fineweb.enabled = false;
    settings.held_out.fraction = 0.0;
    settings.url_dedup.enabled = false;
    settings.minhash.enabled = false;
    settings
}

/// One of so many words, in letters: digits are all alike to MinHash.
fn word(rng: &mut Rng, beginning: &str, of: u64) -> String {
    let mut number = rng.below(of);
    let mut word = beginning.to_string();
    while number > 0 {
        word.push((b'a' + (number % 26) as u8) as char);
        number /= 26;
    }
    word
}

fn words(rng: &mut Rng, count: usize) -> Vec<String> {
    (0..count).map(|_| word(rng, "w", 30_000)).collect()
}

fn jaccard(a: &[String], b: &[String]) -> f64 {
    let shingles = |words: &[String]| words.windows(5).map(|w| w.join(" ")).collect::<BTreeSet<_>>();
    let (a, b) = (shingles(a), shingles(b));
    a.intersection(&b).count() as f64 / a.union(&b).count() as f64
}

/// Lines of JSONL, and which of them are left with which text.
#[derive(Default)]
struct Lines {
    lines: String,
    count: usize,
}

impl Lines {
    fn push(&mut self, text: &str, url: Option<&str>) -> usize {
        writeln!(self.lines, "{}", serde_json::json!({ "text": text, "url": url })).unwrap();
        self.count += 1;
        self.count
    }

    fn curate(&self, settings: &Settings) -> (Funnel, BTreeMap<usize, String>) {
        let folder = tempfile::tempdir().unwrap();
        let (path, out) = (folder.path().join("a.jsonl"), folder.path().join("out"));
        std::fs::write(&path, &self.lines).unwrap();
        let sources = [Source::Path(path.to_str().unwrap().into())];
        let options = Options { embedder: Some(&Bag), ..Options::default() };
        let funnel = curate_with(settings, &sources, &[], &out, Seed(1), &Silent, &options).unwrap();
        let left = documents(&out, Split::Train).unwrap().map(|document| {
            let document = document.unwrap();
            (document.source.rsplit_once(' ').unwrap().1.parse().unwrap(), document.text)
        });
        (funnel, left.collect())
    }

    /// How many of the injected lines went, and how many others.
    fn removed(&self, settings: &Settings, injected: &BTreeSet<usize>) -> (usize, usize) {
        let (_, left) = self.curate(settings);
        let gone: BTreeSet<usize> = (1..=self.count).filter(|line| !left.contains_key(line)).collect();
        (gone.intersection(injected).count(), gone.difference(injected).count())
    }
}

fn originals(rng: &mut Rng, lines: &mut Lines) -> Vec<Vec<String>> {
    let originals: Vec<Vec<String>> = (0..ORIGINALS).map(|_| words(rng, WORDS)).collect();
    originals.iter().for_each(|words| {
        lines.push(&words.join(" "), None);
    });
    originals
}

#[test]
#[allow(clippy::print_stdout)]
fn injected_texts_and_addresses_are_found_and_nothing_else() {
    let mut rng = Seed(1).stream("injection", 0);
    let mut lines = Lines::default();
    let originals = originals(&mut rng, &mut lines);
    let mut injected = BTreeSet::new();
    for words in &originals[..INJECTED] {
        let text = words.join(if rng.below(2) == 0 { "\n" } else { "  " });
        injected.insert(lines.push(&text.to_uppercase(), None));
    }
    let (found, others) = lines.removed(&only_duplicates(), &injected);
    println!("exact: recall {found} of {INJECTED}, wrongly removed {others} of {ORIGINALS}");
    assert_eq!((found, others), (INJECTED, 0));

    let mut lines = Lines::default();
    let mut injected = BTreeSet::new();
    for page in 0..ORIGINALS {
        lines.push(&words(&mut rng, WORDS).join(" "), Some(&format!("http://site.org/page?id={page}")));
    }
    for page in 0..INJECTED {
        let url = format!("HTTPS://Site.org:443/page?utm_source=mail&id={page}&fbclid={page}#top");
        injected.insert(lines.push(&words(&mut rng, WORDS).join(" "), Some(&url)));
    }
    let mut settings = only_duplicates();
    (settings.url_dedup.enabled, settings.url_dedup.tables) = (true, true);
    let (found, others) = lines.removed(&settings, &injected);
    println!("url: recall {found} of {INJECTED}, wrongly removed {others} of {ORIGINALS}");
    assert_eq!((found, others), (INJECTED, 0));
}

#[test]
#[allow(clippy::print_stdout)]
fn injected_near_duplicates_are_found_as_banding_promises() {
    let mut rng = Seed(2).stream("injection", 0);
    let mut lines = Lines::default();
    let originals = originals(&mut rng, &mut lines);
    let mut settings = only_duplicates();
    (settings.minhash.enabled, settings.minhash.min_similarity) = (true, 0.0);
    let mut of_rate = Vec::new();
    for (rate, edits) in EDITS.into_iter().enumerate() {
        let (mut injected, mut similarity, mut expected, mut variance) = (BTreeSet::new(), 0.0, 0.0, 0.0);
        for words in &originals[rate * INJECTED..(rate + 1) * INJECTED] {
            let mut edited = words.clone();
            for edit in 0..edits {
                let at = edit * WORDS / edits + rng.below((WORDS / edits) as u64) as usize;
                edited[at] = word(&mut rng, "new", 1_000_000);
            }
            let jaccard = jaccard(words, &edited);
            let chance = 1.0 - (1.0 - jaccard.powi(8)).powi(14);
            similarity += jaccard / INJECTED as f64;
            expected += chance;
            variance += chance * (1.0 - chance);
            injected.insert(lines.push(&edited.join(" "), None));
        }
        of_rate.push((edits, injected, similarity, expected, variance));
    }
    let (_, left) = lines.curate(&settings);
    let gone: BTreeSet<usize> = (1..=lines.count).filter(|line| !left.contains_key(line)).collect();
    for (edits, injected, similarity, expected, variance) in &of_rate {
        let found = gone.intersection(injected).count() as f64;
        println!(
            "near, {edits} of {WORDS} words replaced (similarity {similarity:.2}): recall {found} of {INJECTED}, \
             expected {expected:.1}"
        );
        // Four standard deviations, and one for chances near 0 or 1.
        assert!((found - expected).abs() <= 4.0 * variance.sqrt() + 1.0);
    }
    let wrong = gone.iter().filter(|line| **line <= ORIGINALS).count();
    println!("near: wrongly removed {wrong} of {ORIGINALS}");
    assert_eq!(wrong, 0);

    // Asked for similarity, no pair below it goes but by the error of the estimate, 0.04 at 112 rows.
    settings.minhash.min_similarity = 0.7;
    let (_, left) = lines.curate(&settings);
    for (edits, injected, similarity, ..) in &of_rate {
        let found = injected.iter().filter(|line| !left.contains_key(line)).count();
        println!(
            "near, at least 0.7, {edits} words (similarity {similarity:.2}): {found} of {INJECTED} removed"
        );
        assert!(*similarity > 0.7 - 4.0 * 0.04 || found == 0);
        assert!(*similarity < 0.7 + 4.0 * 0.04 || found >= INJECTED * 97 / 100);
    }
}

#[test]
#[allow(clippy::print_stdout)]
fn injected_passages_are_cut_and_nothing_else() {
    let mut rng = Seed(3).stream("injection", 0);
    let mut lines = Lines::default();
    let originals = originals(&mut rng, &mut lines);
    let mut wanted = BTreeMap::new();
    for (index, words_before) in originals[..INJECTED].iter().enumerate() {
        // Every other passage is one word too short to count.
        let length = if index % 2 == 0 { 50 + rng.below(100) as usize } else { 49 };
        let from = rng.below((WORDS - length) as u64 + 1) as usize;
        let (own, more) = (words(&mut rng, 120), words(&mut rng, 120));
        let text = [&own[..], &words_before[from..from + length], &more[..]].concat().join(" ");
        let left = if index % 2 == 0 { [own, more].concat().join(" ") } else { text.clone() };
        wanted.insert(lines.push(&text, None), left);
    }
    let mut settings = only_duplicates();
    settings.substring.enabled = true;
    let (funnel, left) = lines.curate(&settings);
    let exactly = wanted.iter().filter(|(line, text)| left.get(line) == Some(text)).count();
    let intact = originals.iter().enumerate();
    let intact = intact.filter(|(index, words)| left.get(&(index + 1)) == Some(&words.join(" "))).count();
    println!(
        "substring: {exactly} of {INJECTED} documents cut to the word (half of the passages have 49 words and stay), \
         {intact} of {ORIGINALS} others untouched"
    );
    assert_eq!((exactly, intact), (INJECTED, ORIGINALS));
    let step = funnel.steps.iter().find(|step| step.name == "substring_duplicates").unwrap();
    assert_eq!(step.edits, BTreeMap::from([("repeated_runs".to_string(), INJECTED as u64 / 2)]));
}

/// An embedder of the plainest kind: each word is a random direction, and a text the sum of its words.
#[derive(Debug)]
struct Bag;

impl Embedder for Bag {
    fn identity(&self) -> Result<String, EmbeddingFault> {
        Ok("a bag of words".into())
    }

    fn batch(&self) -> usize {
        64
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbeddingFault> {
        let vector = |text: &&str| {
            let mut vector = vec![0.0; 256];
            for word in text.split_whitespace() {
                let hash =
                    word.bytes().fold(7u64, |hash, byte| hash.wrapping_mul(1_000_003) ^ u64::from(byte));
                let mut rng = Seed(hash).stream("word", 0);
                for signs in vector.chunks_mut(64) {
                    let bits = rng.next_u64();
                    signs.iter_mut().enumerate().for_each(|(at, value): (usize, &mut f32)| {
                        *value += if bits >> at & 1 == 1 { 1.0 } else { -1.0 };
                    });
                }
            }
            vector
        };
        Ok(texts.iter().map(vector).collect())
    }
}

/// Words of a sentence.
const SENTENCE: usize = 12;

/// What becomes of a text that is put otherwise, by the name of the way.
fn paraphrase(rng: &mut Rng, words: &[String], how: &str) -> Vec<String> {
    let mut sentences: Vec<Vec<String>> = words.chunks(SENTENCE).map(<[String]>::to_vec).collect();
    match how {
        "words of each sentence in another order" => {
            sentences.iter_mut().for_each(|words| rng.shuffle(words))
        }
        "every other pair of words swapped" => {
            sentences.iter_mut().flat_map(|words| words.chunks_exact_mut(4)).for_each(|four| four.swap(0, 1));
        }
        "a third of the sentences dropped" => {
            let mut number = 0;
            sentences.retain(|_| {
                number += 1;
                number % 3 != 0
            });
        }
        "every fifth word another" => {
            let words = sentences.iter_mut().flatten();
            words.step_by(5).for_each(|own| *own = word(rng, "new", 1_000_000));
        }
        other => panic!("{other}"),
    }
    sentences.concat()
}

#[test]
#[allow(clippy::print_stdout)]
fn injected_paraphrases_are_found_by_meaning_and_by_nothing_else() {
    let mut rng = Seed(4).stream("injection", 0);
    let mut lines = Lines::default();
    let originals = originals(&mut rng, &mut lines);
    let hows = [
        "words of each sentence in another order",
        "every other pair of words swapped",
        "a third of the sentences dropped",
        "every fifth word another",
    ];
    let injected: Vec<BTreeSet<usize>> = hows
        .iter()
        .enumerate()
        .map(|(way, how)| {
            let originals = &originals[way * INJECTED..(way + 1) * INJECTED];
            originals
                .iter()
                .map(|words| lines.push(&paraphrase(&mut rng, words, how).join(" "), None))
                .collect()
        })
        .collect();
    let all: BTreeSet<usize> = injected.iter().flatten().copied().collect();
    let find = |name: &str, settings: &Settings| -> (Vec<usize>, usize) {
        let (_, left) = lines.curate(settings);
        let gone: BTreeSet<usize> = (1..=lines.count).filter(|line| !left.contains_key(line)).collect();
        // Either of a pair may go, for the one that is farthest from the centre stays.
        let of_pair = |line: usize| if line > ORIGINALS { line } else { ORIGINALS + line };
        let found: BTreeSet<usize> =
            gone.iter().map(|&line| of_pair(line)).filter(|line| all.contains(line)).collect();
        let recall: Vec<usize> = injected.iter().map(|way| way.intersection(&found).count()).collect();
        let wrong = gone.len() - found.len();
        println!("{name}: recall {recall:?} of {INJECTED} each, wrongly removed {wrong}");
        (recall, wrong)
    };
    println!("ways: {hows:?}");
    assert_eq!(find("exact", &only_duplicates()), (vec![0; 4], 0));
    let mut near = only_duplicates();
    near.minhash.enabled = true;
    let (recall, wrong) = find("near, at least 0.7", &near);
    assert!(recall.iter().all(|&found| found <= 2) && wrong == 0);
    near.minhash.min_similarity = 0.0;
    let (recall, wrong) = find("near, as FineWeb", &near);
    assert!(recall[0] == 0 && recall[1] == 0 && wrong == 0);
    let mut meaning = only_duplicates();
    meaning.semantic.enabled = true;
    meaning.semantic.model = Some("bag".into());
    meaning.semantic.min_similarity = 0.6;
    meaning.semantic.clusters = Some(1);
    assert_eq!(find("semantic, one cluster", &meaning), (vec![INJECTED; 4], 0));
    // Pairs that k-means parts are not found: these random texts have no themes, which is the worst case.
    meaning.semantic.clusters = None;
    let (recall, wrong) = find("semantic, 33 clusters", &meaning);
    assert!(recall[0] == INJECTED && recall[1] == INJECTED && wrong == 0);
    assert!(recall.iter().all(|&found| found >= INJECTED / 2), "{recall:?}");
}
