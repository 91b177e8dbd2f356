//! A whole evaluation of a model of seconds, against plain arithmetic on its logits.

use evals::{Evaluation, Job, Settings};
use ledger::progress::Silent;
use ledger::seed::Seed;
use model::{Batch, Config, Weights, Workspace};
use std::path::Path;
use tokenizer::Tokenizer;
use train::settings::Precision;

const VOCABULARY: usize = 540;

fn tokenizer() -> Tokenizer {
    let texts = ["What is the word? How do you spell it, and what are the letters of the words for me."; 6];
    let settings = tokenizer::train::Settings { vocab_size: VOCABULARY, ..Default::default() };
    tokenizer::train::train(texts.iter(), &settings, &Silent).unwrap()
}

fn weights() -> Weights {
    let config = Config { vocab_size: VOCABULARY, max_seq_len: 512, ..train::Size::Nano.plan().model };
    Weights::init(&config, &mut Seed(7).stream("base", 0)).unwrap()
}

fn documents(tokenizer: &Tokenizer) -> Vec<Vec<u32>> {
    let document = |text: &str| {
        let mut tokens = vec![tokenizer.bos()];
        tokens.extend(tokenizer.encode(text));
        tokens.push(tokenizer.eos());
        tokens
    };
    vec![document("What is the word?"), document(&"letters and words, ".repeat(12)), document("é")]
}

fn settings() -> Settings {
    Settings {
        items_per_kind: 3,
        max_tokens: 8,
        rows: 2,
        seq_len: 32,
        sample_tokens: 6,
        questions: vec!["Who are you?".to_owned()],
        continuations: vec!["What is".to_owned()],
        ..Settings::default()
    }
}

fn evaluate(out: &Path, settings: &Settings) -> Evaluation {
    evaluate_with(tokenizer(), out, settings)
}

fn evaluate_with(tokenizer: Tokenizer, out: &Path, settings: &Settings) -> Evaluation {
    let documents = documents(&tokenizer);
    let items = align::tasks::Tasks::new(&[], 0).held_out(Seed(1), settings.items_per_kind);
    evals::evaluate(Job {
        model: "base",
        settings,
        weights: &weights(),
        tokenizer: &tokenizer,
        items: &items,
        documents: &documents,
        precision: Precision::F32,
        seed: Seed(7),
        out,
        progress: &Silent,
    })
    .unwrap()
}

/// Loss of every token of a document but the first, alone in one row, from the logits.
fn nats(weights: &Weights, document: &[u32]) -> f64 {
    let length = document.len() - 1;
    let mut batch = Batch::new(1, length);
    batch.inputs.copy_from_slice(&document[..length]);
    batch.targets.copy_from_slice(&document[1..]);
    let mut workspace = Workspace::forward_only(&weights.config, 1, length);
    let logits = model::forward::logits(weights, &batch, &mut workspace, Precision::F32.resolve()).unwrap();
    let rows = logits.chunks(weights.config.vocab_size);
    rows.zip(&document[1..])
        .map(|(row, &target)| {
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            sum.ln() - f64::from(row[target as usize])
        })
        .sum()
}

#[test]
fn bits_per_byte_agree_with_the_logits() {
    let (tokenizer, weights) = (tokenizer(), weights());
    let documents = documents(&tokenizer);
    // Rows as long as the longest document, so that nothing is cut.
    let settings = Settings { seq_len: 256, rows: 1, ..settings() };
    let found =
        evals::bits_per_byte(&weights, &tokenizer, &documents, &settings, Precision::F32, &Silent).unwrap();
    let bytes = 17 + 19 * 12 + 2;
    assert_eq!((found.documents, found.bytes), (3, bytes));
    assert_eq!(found.tokens as usize, documents.iter().map(|document| document.len() - 1).sum::<usize>());
    let expected: f64 = documents.iter().map(|document| nats(&weights, document)).sum();
    let expected = expected / std::f64::consts::LN_2 / bytes as f64;
    assert!((found.bits_per_byte / expected - 1.0).abs() < 1e-4, "{} and {expected}", found.bits_per_byte);
    // Untrained logits are normal with deviation 1, over which the mean of e^x is e^(1/2).
    assert!((found.nats_per_token - (VOCABULARY as f64).ln() - 0.5).abs() < 0.5, "{}", found.nats_per_token);
}

#[test]
fn only_as_many_tokens_as_asked_for_are_measured() {
    let (tokenizer, weights) = (tokenizer(), weights());
    let documents = documents(&tokenizer);
    let check = |tokens: u64, expected: u64| {
        let settings = Settings { held_out_tokens: tokens, ..settings() };
        let found =
            evals::bits_per_byte(&weights, &tokenizer, &documents, &settings, Precision::F32, &Silent);
        assert_eq!(found.unwrap().documents, expected, "{tokens} tokens");
    };
    check(0, 1);
    check(documents[0].len() as u64 + 1, 1);
    check(100_000, 3);
}

#[test]
fn an_evaluation_is_written_and_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let evaluation = evaluate(&folder.path().join("base"), &settings());
    assert_eq!(Evaluation::read(&folder.path().join("base")).unwrap(), evaluation);
    assert_eq!(evaluation.scores.len(), align::tasks::Kind::ALL.len() - 1, "all but the registry's");
    assert!(
        evaluation.scores.iter().all(|score| score.items == 3 && score.right == 0),
        "untrained, all wrong"
    );
    assert_eq!(evaluation.generations.len(), 2);
    let again = evaluate(&folder.path().join("again"), &settings());
    assert_eq!(Evaluation { date: evaluation.date.clone(), ..again }, evaluation);
}

#[test]
fn questions_are_laid_out_as_the_model_was_taught() {
    let dir = tempfile::tempdir().unwrap();
    let ask = |name: &str, layout| {
        let out = dir.path().join(name);
        evaluate_with(tokenizer().with_layout(layout), &out, &settings());
        let samples = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        samples.map(|path| std::fs::read_to_string(path).unwrap()).collect::<String>()
    };
    // Llama 3.1's chat template begins every conversation with this day, where none is given.
    let day = "Today Date: 26 Jul 2024";
    assert!(!ask("3", tokenizer::chat::Layout::Llama3).contains(day));
    assert!(ask("31", tokenizer::chat::Layout::Llama31).contains(day));
}

#[test]
fn without_documents_bits_are_left_out() {
    let (tokenizer, weights) = (tokenizer(), weights());
    let none: Vec<Vec<u32>> = Vec::new();
    let error =
        evals::bits_per_byte(&weights, &tokenizer, &none, &settings(), Precision::F32, &Silent).unwrap_err();
    assert!(matches!(error, evals::Error::NoDocuments) && error.hint().is_some());
}

/// A model a little off another, as quantisation leaves it.
fn disturbed(weights: &Weights) -> Weights {
    let mut other = weights.clone();
    for (place, value) in other.data.iter_mut().enumerate() {
        *value *= 1.0 + 0.05 * ((place * 37 % 101) as f32 / 50.0 - 1.0);
    }
    other
}

/// Logits at every place of `<|begin_of_text|>` and the tokens, by the forward of training: in f64.
fn rows(weights: &Weights, tokens: &[u32]) -> Vec<Vec<f64>> {
    let mut batch = Batch::new(1, tokens.len());
    batch.inputs.copy_from_slice(tokens);
    batch.targets.fill(0);
    let mut workspace = Workspace::forward_only(&weights.config, 1, tokens.len());
    let logits = model::forward::logits(weights, &batch, &mut workspace, Precision::F32.resolve()).unwrap();
    let softmax = |row: &[f32]| {
        let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        row.iter().map(|&logit| f64::from(logit).exp() / sum).collect()
    };
    logits.chunks(weights.config.vocab_size).map(softmax).collect()
}

#[test]
fn perplexity_agrees_with_the_logits_of_each_window() {
    let (tokenizer, weights) = (tokenizer(), weights());
    let other = disturbed(&weights);
    let texts = ["What is the word? ".repeat(9), String::new(), "é letters".to_owned()];
    let models = [&weights, &other].map(|one| model::infer::Llama::new(one, Precision::F32.resolve(), 512));
    let settings = evals::perplexity::Settings { context: 24, stride: 10, max_tokens: None };
    let found = evals::perplexity(&[&models[0], &models[1]], &tokenizer, &texts, settings, &Silent).unwrap();

    // The same windows, each by hand: inputs, how many of them are only looked back at, targets.
    let (mut nats, mut divergences, mut same) = ([0.0, 0.0], 0.0, 0);
    let (mut tokens, mut windows) = (0, 0);
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let all = tokenizer.encode(text);
        let mut start = 0;
        while start < all.len() {
            let end = all.len().min(if start == 0 { 24 } else { start + 10 });
            let first = end.saturating_sub(24);
            let inputs: Vec<u32> = [&[tokenizer.bos()][..], &all[first..end - 1]].concat();
            let [p, q] = [&weights, &other].map(|one| rows(one, &inputs));
            for place in start..end {
                let (p, q, target) = (&p[place - first], &q[place - first], all[place] as usize);
                nats[0] -= p[target].ln();
                nats[1] -= q[target].ln();
                divergences += p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
                let top = |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
                same += usize::from(top(p) == top(q));
                tokens += 1;
            }
            start = end;
            windows += 1;
        }
    }
    assert_eq!((found.documents, found.tokens, found.windows), (2, tokens, windows));
    assert_eq!(found.bytes, texts.iter().map(|text| text.len() as u64).sum::<u64>());
    let near = |found: f64, expected: f64| {
        assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1e-3), "{found}, not {expected}");
    };
    let count = tokens as f64;
    for (measured, nats) in found.models.iter().zip(nats) {
        near(measured.nats_per_token.value, nats / count);
        near(measured.perplexity.value, (nats / count).exp());
        near(measured.bits_per_byte.value, nats / std::f64::consts::LN_2 / found.bytes as f64);
        assert!(measured.nats_per_token.standard_error > 0.0);
    }
    assert!(found.models[0].beside_first.is_none());
    let beside = found.models[1].beside_first.clone().unwrap();
    near(beside.ratio.value, ((nats[1] - nats[0]) / count).exp());
    near(beside.divergence.value, divergences / count);
    near(beside.same_top.value, same as f64 / count);
    assert!(beside.divergence.value > 1e-4 && beside.same_top.value < 1.0, "{beside:?}");
    assert!(beside.median_divergence <= beside.divergence_99);
    assert!(beside.divergence_99 <= beside.largest_divergence);

    // Beside itself a model is no distance away, and fewer tokens are whole windows.
    let settings = evals::perplexity::Settings { max_tokens: Some(30), ..settings };
    let same = evals::perplexity(&[&models[0], &models[0]], &tokenizer, &texts, settings, &Silent).unwrap();
    assert_eq!((same.tokens, same.windows), (34, 2));
    let beside = same.models[1].beside_first.clone().unwrap();
    assert_eq!((beside.ratio.value, beside.largest_divergence, beside.same_top.value), (1.0, 0.0, 1.0));
}

#[test]
fn windows_that_do_not_fit_are_refused_with_all_faults() {
    let (tokenizer, weights) = (tokenizer(), weights());
    let llama = model::infer::Llama::new(&weights, Precision::F32.resolve(), 512);
    let check = |context, stride, texts: &[String], parts: &[&str]| {
        let settings = evals::perplexity::Settings { context, stride, max_tokens: None };
        let error = evals::perplexity(&[&llama], &tokenizer, texts, settings, &Silent).unwrap_err();
        assert!(error.hint().is_some());
        for part in parts {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    };
    let text = ["letters".to_owned()];
    check(1, 2, &text, &["leaves none", "between 1 and the context of 1"]);
    check(8, 0, &text, &["the stride is 0"]);
    check(513, 8, &text, &["a model has room for 512"]);
    check(8, 4, &[String::new()], &["no held-out text"]);
}
