//! Tests of how conversations become batches; a whole tuning run is in the integration tests.

use super::*;
use crate::tasks::{Kind, Split};
use ledger::progress::Silent;
use model::Batch;
use tokenizer::chat::{Message, Role};
use train::Batches;
use train::quantity::Tokens;

fn tokenizer() -> Tokenizer {
    let texts = ["What is the name of the crate? I am a small model, and I spell apple: a p p l e."; 8];
    tokenizer::train::train(
        texts,
        &tokenizer::train::Settings { vocab_size: 540, ..Default::default() },
        &Silent,
    )
    .unwrap()
}

fn settings() -> Settings {
    Settings { tokens: Some(Tokens(3000)), rows: Some(3), seq_len: Some(128), ..Settings::default() }
}

fn batches(settings: &Settings, own: Vec<Vec<Message>>, seed: u64) -> Result<SftBatches, Error> {
    let plan = settings.plan(&train::Size::Nano.plan().model).unwrap();
    let tasks = Tasks::new(&[], 0);
    SftBatches::new(&mut Source::new(settings, &tasks, own, Seed(seed)), &tokenizer(), &plan, &Silent)
}

fn filled(batches: &SftBatches, step: u64) -> Batch {
    let mut batch = Batch::new(3, 128);
    batches.fill(step, 0, &mut batch);
    batch
}

fn dialog(question: &str, answer: &str) -> Vec<Message> {
    vec![Message::new(Role::User, question), Message::new(Role::Assistant, answer)]
}

#[test]
fn batches_are_a_function_of_the_step() {
    let (one, same, other) = (
        batches(&settings(), vec![], 1).unwrap(),
        batches(&settings(), vec![], 1).unwrap(),
        batches(&settings(), vec![], 2).unwrap(),
    );
    let later = filled(&one, 5);
    assert_eq!(filled(&one, 0), filled(&same, 0));
    assert_eq!(later, filled(&same, 5));
    assert_ne!(filled(&one, 0), filled(&other, 0));
    assert_eq!(one.digest(), same.digest());
    assert_ne!(one.digest(), other.digest());
}

#[test]
fn batches_are_valid_and_predict_the_assistant_alone() {
    let batches = batches(&settings(), vec![], 1).unwrap();
    let tokenizer = tokenizer();
    let config = model::Config { vocab_size: 600, ..train::Size::Nano.plan().model };
    for step in 0..8 {
        let batch = filled(&batches, step);
        batch.validate(&config).unwrap();
        let weight = batch.weight();
        assert!(weight > 0.0 && weight < 0.8 * 384.0, "{weight}");
        for place in 0..batch.tokens() {
            let start = place / 128 * 128 + batch.document_starts[place] as usize;
            let conversation = &batch.inputs[start..=place];
            if batch.loss_weights[place] == 0.0 {
                continue;
            }
            // What is predicted follows the assistant's header, with no end of turn between.
            let text = tokenizer.decode(conversation);
            let last = text.rfind("<|start_header_id|>").expect("a header comes before what is predicted");
            assert!(text[last..].starts_with("<|start_header_id|>assistant<|end_header_id|>\n\n"), "{text}");
            assert!(!text[last..].contains("<|eot_id|>"), "{text}");
            assert!(text.starts_with("<|begin_of_text|>"), "{text}");
        }
    }
    let packing = batches.packing();
    let places = (packing.tokens + packing.padding) as usize;
    assert_eq!(places, 8 * 3 * 128);
    assert!(packing.padding as f64 / (places as f64) < 0.15, "{packing:?}");
}

#[test]
fn own_conversations_are_seen_once_an_epoch() {
    let own: Vec<_> =
        (0..6).map(|index| dialog(&format!("question {index}?"), &format!("answer {index}."))).collect();
    let settings = Settings { conversations_share: 1.0, ..settings() };
    let tasks = Tasks::new(&[], 0);
    let mut source = Source::new(&settings, &tasks, own.clone(), Seed(3));
    let epochs: Vec<Vec<_>> = (0..3).map(|_| (0..6).map(|_| source.next()).collect()).collect();
    for epoch in &epochs {
        assert!(own.iter().all(|conversation| epoch.contains(conversation)));
    }
    assert!(epochs[0] != epochs[1] || epochs[1] != epochs[2], "every epoch has the same order");
}

#[test]
fn long_conversations_are_cut_or_left_out() {
    let settings = Settings { conversations_share: 1.0, ..settings() };
    let long = "spell apple ".repeat(200);
    let mut cut = dialog("a", "b");
    cut.extend(dialog("c", &long));
    let batches_of = |own| batches(&settings, own, 1);
    let found = batches_of(vec![cut.clone(), dialog(&long, "x"), dialog("x", "y")]).unwrap();
    let packing = found.packing();
    assert!(packing.cut > 0 && packing.too_long > 0 && packing.conversations > 0, "{packing:?}");
    assert!(matches!(batches_of(vec![dialog(&long, "x")]), Err(Error::NothingFits { seq_len: 128 })));
}

#[test]
fn the_mixture_decides_what_is_drawn() {
    let mut settings = settings();
    settings.mixture = Kind::ALL.into_iter().map(|kind| (kind, 0.0)).collect();
    settings.mixture.insert(Kind::Spelling, 1.0);
    settings.several_turns = 0.0;
    let tasks = Tasks::new(&[], 0);
    let mut source = Source::new(&settings, &tasks, vec![], Seed(1));
    let held_out = tasks.held_out(Seed(9), 40);
    for _ in 0..50 {
        let conversation = source.next();
        assert_eq!(conversation.len(), 2);
        assert!(conversation[1].content.split(' ').all(|letter| letter.len() == 1), "{conversation:?}");
        assert!(held_out.iter().all(|item| item.messages != conversation[..1]));
    }
    assert!(tasks.draw(Kind::Registry, Split::Train, &mut Seed(1).stream("x", 0)).is_none());
}
