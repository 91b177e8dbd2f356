//! Curation with an embedder that can be watched and told to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ledger::progress::Silent;
use ledger::seed::{Rng, Seed};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Options, curate_with};
use crate::settings::KeepSimilar;
use crate::{Embedder, EmbeddingFault, Error, Funnel, Settings, Source};

/// The words of a text, each a random direction, added up.
#[derive(Debug)]
struct Bag {
    name: &'static str,
    width: usize,
    asked: AtomicU64,
    /// Fails at this text, counted from 0, in this way.
    fails: Option<(u64, &'static str)>,
    stop: AtomicBool,
}

impl Bag {
    fn new() -> Bag {
        Bag { name: "bag", width: 48, asked: AtomicU64::new(0), fails: None, stop: AtomicBool::new(false) }
    }

    fn asked(&self) -> u64 {
        self.asked.swap(0, Ordering::SeqCst)
    }

    fn vector(&self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.0; self.width];
        for word in text.split_whitespace() {
            let mut rng = Seed(xxhash_rust::xxh3::xxh3_64(word.as_bytes())).stream(self.name, 0);
            vector.iter_mut().for_each(|value| *value += rng.normal());
        }
        vector
    }
}

impl Embedder for Bag {
    fn identity(&self) -> Result<String, EmbeddingFault> {
        Ok(format!("{} {}", self.name, self.width))
    }

    fn batch(&self) -> usize {
        7
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbeddingFault> {
        let mut vectors = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let number = self.asked.fetch_add(1, Ordering::SeqCst);
            let mut vector = self.vector(text);
            match self.fails.filter(|(when, _)| *when == number) {
                Some((_, "fault")) => {
                    let (reason, hint) = ("it is too tired".to_string(), Some("let it rest".to_string()));
                    return Err(EmbeddingFault { text: Some(at), reason, hint });
                }
                Some((_, "nan")) => vector[3] = f32::NAN,
                Some((_, "width")) => vector.push(1.0),
                Some((_, "zeros")) => vector.fill(0.0),
                Some((_, "fewer")) => continue,
                Some((_, "stop")) => {
                    self.stop.store(true, Ordering::SeqCst);
                    let reason = "somebody stopped it".to_string();
                    return Err(EmbeddingFault { text: None, reason, hint: None });
                }
                _ => {}
            }
            vectors.push(vector);
        }
        Ok(vectors)
    }
}

const DOCUMENTS: u64 = 60;

fn words(rng: &mut Rng, count: usize) -> Vec<String> {
    // In letters: digits are all alike to what compares texts.
    let letter = |number: u64| char::from(b'a' + (number % 26) as u8);
    let mut word = || {
        let number = rng.below(5000);
        [letter(number), letter(number / 26), letter(number / 676), 'w'].iter().collect()
    };
    (0..count).map(|_| word()).collect()
}

/// Texts of 80 words, and of every third another one with its words in another order, which only meaning joins.
fn corpus(folder: &Path) -> Vec<Source> {
    let mut rng = Seed(4).stream("semantic", 0);
    let mut lines = String::new();
    for number in 0..DOCUMENTS {
        let mut text = words(&mut rng, 80);
        lines.push_str(&format!("{}\n", json!({"text": text.join(" ")})));
        if number % 3 == 0 {
            rng.shuffle(&mut text);
            lines.push_str(&format!("{}\n", json!({"text": text.join(" ")})));
        }
    }
    std::fs::create_dir_all(folder.join("in")).unwrap();
    std::fs::write(folder.join("in/a.jsonl"), lines).unwrap();
    std::fs::write(folder.join("in/b.py"), "def f(x):\n    return x  # the same code\n".repeat(3)).unwrap();
    vec![Source::Path(folder.join("in").to_str().unwrap().into())]
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.gopher_quality.enabled = false;
    settings.gopher_repetition.enabled = false;
    settings.fineweb.enabled = false;
    settings.minhash.enabled = false;
    settings.held_out.fraction = 0.1;
    settings.semantic.enabled = true;
    settings.semantic.model = Some("bag".into());
    settings.semantic.min_similarity = 0.99;
    settings
}

struct Place {
    folder: tempfile::TempDir,
    sources: Vec<Source>,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let sources = corpus(folder.path());
        Place { folder, sources }
    }

    fn run(&self, settings: &Settings, bag: &Bag, options: &Options) -> Result<Funnel, Error> {
        let out = self.folder.path().join("out");
        let options = Options { embedder: Some(bag), stop: Some(&bag.stop), ..*options };
        curate_with(settings, &self.sources, &[], &out, Seed(1), &Silent, &options)
    }

    fn out(&self) -> BTreeMap<String, Vec<u8>> {
        super::super::tests::files(&self.folder.path().join("out"))
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("out").join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn what_means_the_same_goes_and_is_told() {
    let place = Place::new();
    let bag = Bag::new();
    let funnel = place.run(&settings(), &bag, &Options::default()).unwrap();
    let step = funnel.steps.last().unwrap();
    assert_eq!((step.name.as_str(), step.removed["similar_meaning"]), ("semantic_duplicates", DOCUMENTS / 3));
    assert!(step.papers["similar_meaning"].contains("Abbas"));
    // Code is not asked.
    assert_eq!(bag.asked(), DOCUMENTS + DOCUMENTS / 3);
    let removed = place.lines("removed/semantic_duplicates.jsonl");
    let clusters = place.lines("clusters.jsonl");
    assert_eq!((removed.len() as u64, clusters.len() as u64), (DOCUMENTS / 3, DOCUMENTS / 3));
    let kept: BTreeSet<&str> = clusters.iter().map(|line| line["id"].as_str().unwrap()).collect();
    for line in &removed {
        assert!(kept.contains(line["duplicate_of"].as_str().unwrap()), "{line}");
        assert!(line["value"].as_f64().unwrap() >= 0.99 && line["limit"] == 0.99, "{line}");
    }
    for line in &clusters {
        assert_eq!((&line["similar_meaning"], &line["same_text"]), (&json!(1), &json!(0)));
    }
    // The first stays where that is asked: they stand in odd lines then, one behind another.
    let mut first = settings();
    first.semantic.keep = KeepSimilar::First;
    place.run(&first, &bag, &Options::default()).unwrap();
    let number = |line: &Value| -> u64 {
        line["source"].as_str().unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let mut gone: Vec<u64> = place.lines("removed/semantic_duplicates.jsonl").iter().map(number).collect();
    gone.sort_unstable();
    assert_eq!(gone, (0..DOCUMENTS / 3).map(|group| group * 4 + 2).collect::<Vec<_>>());
}

#[test]
fn no_text_is_embedded_twice() {
    let place = Place::new();
    let bag = Bag::new();
    let work = place.folder.path().join("out.work");
    let options = Options { work: Some(&work), keep_work: true, ..Options::default() };
    let mut changed = settings();
    let mut run = |change: &dyn Fn(&mut Settings), bag: &Bag| {
        change(&mut changed);
        place.run(&changed, bag, &options).unwrap();
        let (kept, asked) = (place.out(), bag.asked());
        place.run(&changed, &Bag { width: bag.width, ..Bag::new() }, &Options::default()).unwrap();
        assert!(kept == place.out(), "as if nothing had been there");
        asked
    };
    let all = DOCUMENTS + DOCUMENTS / 3;
    assert_eq!(run(&|_| (), &bag), all);
    assert_eq!(run(&|_| (), &bag), 0);
    assert_eq!(run(&|settings| settings.semantic.min_similarity = 0.5, &bag), 0);
    assert_eq!(run(&|settings| settings.semantic.clusters = Some(3), &bag), 0);
    assert_eq!(run(&|settings| settings.semantic.keep = KeepSimilar::Longest, &bag), 0);
    // Other filters and other documents cost what is new.
    assert_eq!(run(&|settings| settings.gopher_quality.min_words = 3, &bag), 0);
    let more: String =
        (0..3).map(|n| format!("{}\n", json!({"text": format!("words of document {n}")}))).collect();
    std::fs::write(place.folder.path().join("in/0.jsonl"), more).unwrap();
    assert_eq!(run(&|_| (), &bag), 3);
    // Another model, and more of the texts, is another matter.
    assert_eq!(run(&|settings| settings.semantic.max_tokens = 9, &bag), all + 3);
    assert_eq!(run(&|_| (), &Bag { width: 20, ..Bag::new() }), all + 3);
    assert_eq!(run(&|settings| settings.semantic.max_tokens = 512, &bag), 0);
}

#[test]
fn a_fault_names_the_document_and_loses_nothing() {
    let place = Place::new();
    let work = place.folder.path().join("out.work");
    let options = Options { work: Some(&work), ..Options::default() };
    let mut asked = 0;
    let faults = [
        ("fault", "it is too tired", 1),
        ("nan", "number 4 of its vector is NaN", 1),
        ("width", "has 49 numbers where 48 are expected", 1),
        ("zeros", "all zeros", 1),
        // Whose vector is missing nobody knows.
        ("fewer", "6 vectors came back for 7 texts", 0),
    ];
    for (round, (how, wanted, names)) in faults.into_iter().enumerate() {
        let bag = Bag { fails: Some((10, how)), ..Bag::new() };
        let error = place.run(&settings(), &bag, &options).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("cannot embed ") && said.contains(wanted), "{said}");
        assert!(error.hint().is_some());
        assert!(!place.folder.path().join("out").exists());
        if names == 1 && how != "fault" {
            // Ten were kept in each round before, and the next is the culprit.
            assert!(
                said.contains(&format!("a.jsonl:line {} ", asked + 11))
                    || said.contains(&format!("a.jsonl:line {}:", asked + 11)),
                "{round}: {said}"
            );
        }
        // What came with the culprit and before it is kept, but for what failed as a whole.
        asked += match how {
            "fault" | "fewer" => 7,
            _ => 10,
        };
    }
    let bag = Bag { fails: Some((20, "stop")), ..Bag::new() };
    assert!(matches!(place.run(&settings(), &bag, &options), Err(Error::Stopped)));
    asked += 14;
    let bag = Bag::new();
    place.run(&settings(), &bag, &options).unwrap();
    assert_eq!(bag.asked(), DOCUMENTS + DOCUMENTS / 3 - asked);
    assert!(!work.exists());
    let broken = place.out();
    place.run(&settings(), &Bag::new(), &Options::default()).unwrap();
    assert!(broken == place.out());

    // Where nothing is asked about, nobody is asked.
    let (code, out) = (place.folder.path().join("in/b.py"), place.folder.path().join("code"));
    let options = Options { embedder: Some(&bag), ..Options::default() };
    let sources = [Source::Path(code.to_str().unwrap().into())];
    let funnel = curate_with(&settings(), &sources, &[], &out, Seed(1), &Silent, &options).unwrap();
    assert_eq!((funnel.train.documents, bag.asked()), (1, 0));

    let out = place.folder.path().join("none");
    let none = curate_with(&settings(), &place.sources, &[], &out, Seed(1), &Silent, &Options::default());
    assert!(matches!(none, Err(Error::NoEmbedder)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn stopped_anywhere_with_any_memory_it_writes_the_same(
        stops in proptest::collection::vec(0u64..40, 1..4),
        (memory, threads, checkpoint_bytes) in (prop_oneof![Just(1u64), Just(4_000_000_000)], 1usize..4, 1u64..20_000),
        torn in 0u64..200,
    ) {
        let place = Place::new();
        let mut settings = settings();
        settings.semantic.min_similarity = 0.6;
        settings.semantic.clusters = Some(4);
        place.run(&settings, &Bag::new(), &Options::default()).unwrap();
        let whole = place.out();
        std::fs::remove_dir_all(place.folder.path().join("out")).unwrap();
        let work = place.folder.path().join("out.work");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let options = Options { work: Some(&work), memory, checkpoint_bytes, ..Options::default() };
        let mut ended = false;
        for after in stops {
            let bag = Bag { fails: Some((after, "stop")), ..Bag::new() };
            ended = pool.install(|| place.run(&settings, &bag, &options)).is_ok();
            if ended {
                break;
            }
            // What a kill leaves in the middle of a write.
            for entry in std::fs::read_dir(&work).unwrap().map(|entry| entry.unwrap()) {
                if entry.path().extension().is_some_and(|extension| extension == "vectors") {
                    let file = std::fs::OpenOptions::new().write(true).open(entry.path()).unwrap();
                    file.set_len(entry.metadata().unwrap().len().saturating_sub(torn)).unwrap();
                }
            }
        }
        if !ended {
            pool.install(|| place.run(&settings, &Bag::new(), &options)).unwrap();
        }
        prop_assert!(place.out() == whole);
    }
}
