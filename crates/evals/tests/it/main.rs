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
    let tokenizer = tokenizer();
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
fn without_documents_bits_are_left_out() {
    let (tokenizer, weights) = (tokenizer(), weights());
    let none: Vec<Vec<u32>> = Vec::new();
    let error =
        evals::bits_per_byte(&weights, &tokenizer, &none, &settings(), Precision::F32, &Silent).unwrap_err();
    assert!(matches!(error, evals::Error::NoDocuments) && error.hint().is_some());
}
