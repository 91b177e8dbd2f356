use std::path::{Path, PathBuf};

use ledger::progress::Silent;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/classifier").join(name)
}

/// fastText looks up the sigmoid of independent labels in a table of 512 steps from -8 to 8 (`src/loss.cc`): the values of
/// the two steps that a probability may fall to.
fn tabled(share: f64) -> [f64; 2] {
    let logit = (share / (1.0 - share)).ln();
    let step = ((logit + 8.0) * 32.0).floor();
    [step, step + if (logit + 8.0) * 32.0 - step > 0.5 { 1.0 } else { -1.0 }].map(|step| match step {
        step if step < 0.0 => 0.0,
        step if step >= 512.0 => 1.0,
        step => 1.0 / (1.0 + (8.0 - step / 32.0).exp()),
    })
}

#[test]
fn models_of_fasttext_answer_as_there() {
    let lines = std::fs::read_to_string(golden("predictions.jsonl")).unwrap();
    let mut scratch = Scratch::default();
    let (mut compared, mut models) = (0, std::collections::BTreeMap::new());
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let (name, text) = (line["model"].as_str().unwrap(), line["text"].as_str().unwrap());
        let model = models
            .entry(name.to_owned())
            .or_insert_with(|| Classifier::open(&golden(&format!("{name}.bin"))).unwrap());
        let labels: Vec<String> = model.labels().iter().map(|label| label.to_string()).collect();
        let shares = model.predict(text, &mut scratch).unwrap();
        for (label, share) in labels.iter().zip(shares) {
            let (theirs, share) = (line["answer"][label].as_f64().unwrap(), f64::from(*share));
            // A softmax has 1e-5 added to it once, a leaf of this tree up to three times.
            let near = |ours: f64| (theirs - 1e-5 - ours).abs() < 3e-5;
            let agrees = match name {
                "independent" | "negative" => tabled(share).into_iter().any(near),
                _ => near(share),
            };
            assert!(agrees, "{name}: {text:?}: {label} has {share}, there {theirs}");
            compared += 1;
        }
    }
    assert_eq!(compared, 6 * 9 * 4);
}

#[test]
fn models_that_are_no_classifiers_are_refused_by_what_they_are() {
    let check = |name: &str, word: &str| {
        let error = Classifier::open(&golden(name)).err().unwrap();
        assert!(error.to_string().contains(word), "{name}: {error}");
    };
    check("quantised.ftz", "quantised");
    check("vectors.bin", "word vectors");
    check("predictions.jsonl", "not a fastText model");
    check("absent.bin", "absent.bin");
}

#[test]
fn kept_vectors_and_their_products_give_the_same() {
    // A model of more labels than dimensions keeps its vectors; one of fewer their products. The same text, both ways.
    let folder = tempfile::tempdir().unwrap();
    for (dimension, products) in [(2, false), (24, true)] {
        let (labels, samples) = animals();
        let settings =
            Settings { dimension, held_out: 0.0, epochs: 40, learning_rate: 0.5, ..Settings::default() };
        let trained = train_on(&settings, &labels, &samples, folder.path());
        let path = folder.path().join("model.bin");
        trained.write(&path).unwrap();
        let opened = Classifier::open(&path).unwrap();
        assert_eq!(matches!(opened.rows, Rows::Products { .. }), products);
        for sample in &samples {
            let ours = opened.predict(&sample.text, &mut Scratch::default()).unwrap().to_vec();
            let plain = trained.predict_plainly(&sample.text);
            assert!(ours.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-5), "{ours:?} {plain:?}");
        }
    }
}

/// Three labels with words of their own and words in common.
fn animals() -> (Vec<String>, Vec<Sample>) {
    let labels = ["bird", "fish", "llama"].map(str::to_owned).to_vec();
    let own = [["wing", "nest", "egg"], ["fin", "sea", "scale"], ["wool", "hill", "hoof"]];
    let mut samples = Vec::new();
    for index in 0..120usize {
        let label = index % 3;
        let text = format!(
            "the {} of animal {} has a {}\nand more",
            own[label][index / 3 % 3],
            index,
            own[label][index / 9 % 3]
        );
        samples.push(Sample { label, text });
    }
    (labels, samples)
}

fn train_on(settings: &Settings, labels: &[String], samples: &[Sample], folder: &Path) -> Trained {
    train::<Error>(settings, labels, folder, &Silent, |push| samples.iter().cloned().try_for_each(push))
        .unwrap()
}

#[test]
fn labels_are_learned_and_measured_on_what_was_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let (labels, samples) = animals();
    for chars in [0, 4] {
        let settings = Settings {
            held_out: 0.3,
            epochs: 60,
            learning_rate: 0.5,
            min_chars: chars.min(3),
            max_chars: chars,
            buckets: (chars > 0).then_some(5000),
            ..Settings::default()
        };
        let trained = train_on(&settings, &labels, &samples, folder.path());
        let out = folder.path().join(format!("out-{chars}"));
        std::fs::create_dir(&out).unwrap();
        let card = trained.save(&out, &labels, "llama", &settings, Provenance::default()).unwrap();
        let held = card.held_out.as_ref().unwrap();
        assert!((20..60).contains(&held.texts), "{}", held.texts);
        assert_eq!(held.texts + card.trained_on.iter().sum::<u64>(), 120);
        assert!(held.accuracy > 0.97, "{held:?}");
        assert!(held.labels.iter().all(|label| label.auc.unwrap() > 0.99), "{held:?}");

        let opened = Opened::open(&out).unwrap();
        assert_eq!(opened.card.as_ref(), Some(&card));
        assert_eq!(opened.scored_label(None), Ok(2));
        assert_eq!(opened.scored_label(Some("__label__fish")), Ok(1));
        assert!(opened.scored_label(Some("cow")).unwrap_err().contains("bird, fish, llama"));
        let of = |text: &str| opened.classifier.predict(text, &mut Scratch::default()).unwrap()[2];
        assert!(of("a hoof in the wool") > 0.9 && of("a fin in the sea") < 0.1);

        std::fs::copy(golden("words.bin"), out.join("model.bin")).unwrap();
        let error = Opened::open(&out).err().unwrap().to_string();
        assert!(error.contains("not the one that it describes"), "{error}");
    }
}

#[test]
fn the_same_texts_give_the_same_model_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let (labels, samples) = animals();
    let settings =
        Settings { min_chars: 2, max_chars: 3, buckets: Some(300), max_words: 8, ..Settings::default() };
    let models: Vec<Vec<u8>> = [1, 2, 5]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let path = folder.path().join("model.bin");
                train_on(&settings, &labels, &samples, folder.path()).write(&path).unwrap();
                std::fs::read(path).unwrap()
            })
        })
        .collect();
    assert!(models[0] == models[1] && models[1] == models[2]);
    let other = Settings { seed: 7, ..settings };
    let path = folder.path().join("model.bin");
    train_on(&other, &labels, &samples, folder.path()).write(&path).unwrap();
    assert!(std::fs::read(path).unwrap() != models[0]);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (labels, samples) = animals();
    let check = |settings: Settings, labels: &[String], samples: &[Sample], word: &str| {
        let found = train::<Error>(&settings, labels, folder.path(), &Silent, |push| {
            samples.iter().cloned().try_for_each(push)
        });
        let error = found.err().unwrap();
        assert!(error.to_string().contains(word) && error.hint().is_some(), "{error}");
    };
    let fine = Settings::default;
    check(Settings { dimension: 0, epochs: 0, ..fine() }, &labels, &samples, "epochs");
    check(Settings { min_chars: 5, max_chars: 4, ..fine() }, &labels, &samples, "characters");
    check(fine(), &labels[..1], &samples[..1], "2 to 4096");
    check(fine(), &["a b".to_owned(), "c".to_owned()], &[], "has a blank");
    check(fine(), &["c".to_owned(), "c".to_owned()], &[], "twice");
    check(fine(), &labels, &samples[..2], "no text has the label llama");
    let blank = Sample { label: 0, text: " \n\t".into() };
    check(fine(), &labels, &[blank], "no text has the label bird");
}

#[test]
fn rare_words_fall_out_of_a_full_table() {
    let folder = tempfile::tempdir().unwrap();
    let labels = ["a".to_owned(), "b".to_owned()];
    let samples: Vec<Sample> = (0..400)
        .map(|index| Sample { label: index % 2, text: format!("often sometimes{} rare{index}", index % 3) })
        .collect();
    let settings = Settings { max_words: 5, held_out: 0.0, ..Settings::default() };
    let trained = train_on(&settings, &labels, &samples, folder.path());
    let words: Vec<&[u8]> = trained.dictionary().entries().0.iter().map(|entry| &entry.word[..]).collect();
    assert_eq!(words.len(), 5);
    let most = [&b"</s>"[..], b"often", b"sometimes0", b"sometimes1", b"sometimes2"];
    assert!(most[..2].iter().all(|word| words[..2].contains(word)), "{words:?}");
    assert!(most.iter().all(|word| words.contains(word)), "{words:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn broken_models_are_refused_and_never_believed(
        which in 0..6usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        early in any::<bool>(),
    ) {
        let name = ["softmax", "characters", "words", "tree", "independent", "negative"][which];
        let mut bytes = std::fs::read(golden(&format!("{name}.bin"))).unwrap();
        let within = if early { 120 } else { bytes.len() };
        for (at, value) in changes {
            bytes[at.index(within)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.bin");
        std::fs::write(&path, bytes).unwrap();
        match Classifier::open(&path) {
            Ok(model) => {
                let mut scratch = Scratch::default();
                if let Some(shares) = model.predict("the llama looks at der Straße", &mut scratch) {
                    prop_assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
                }
            }
            Err(error) => prop_assert!(error.to_string().contains("model.bin"), "{error}"),
        }
    }

    #[test]
    fn ngrams_of_characters_stay_within_words(word in "\\PC{0,12}", min in 1..4u32, more in 0..3u32) {
        let hashing = Hashing { buckets: 1000, word_ngrams: 1, min_chars: min, max_chars: min + more };
        let mut found = Vec::new();
        hashing.characters(word.as_bytes(), |bucket| found.push(bucket));
        // By characters: all runs of each length but single marks.
        let marked: Vec<char> = std::iter::once('<').chain(word.chars()).chain(['>']).collect();
        let mut wanted = Vec::new();
        for start in 0..marked.len() {
            for length in min as usize..=(min + more) as usize {
                let Some(run) = marked.get(start..start + length) else { break };
                if length > 1 || start > 0 && start + 1 < marked.len() {
                    wanted.push(words::hash(run.iter().collect::<String>().as_bytes()) % 1000);
                }
            }
        }
        prop_assert_eq!(found, wanted);
    }
}
