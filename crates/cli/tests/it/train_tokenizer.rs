//! `alti tokenizer train` as a person has it: killed and run again, over changed files, with weights, and wrong.

use std::fs;
use std::path::Path;

use ledger::digest::Digest;
use serde_json::{Value, json};

use crate::kills::{End, end_early};
use crate::{LOOSE, Place};

/// Lines of JSONL in three languages by turns, one of them unknown to the line, and one line that is malformed.
fn lines(documents: u64) -> String {
    let words = ["river", "stone", "meadow", "Fluss", "Steine", "Wiesen", "ποτάμι", "πέτρα", "λιβάδι"];
    let mut text = String::new();
    for document in 0..documents {
        let language = (document % 3) as usize;
        let mut line = String::new();
        for word in 0..60 {
            let number = (document * 7919 + word * 104_729) % 1_000;
            line.push_str(&format!("{}{} ", words[3 * language + word as usize % 3], number * number % 97));
        }
        text.push_str(&match language {
            2 => json!({"text": line}).to_string(),
            0 => json!({"text": line, "lang": "eng_Latn"}).to_string(),
            _ => json!({"text": line, "lang": "de"}).to_string(),
        });
        text.push('\n');
        if document == 10 {
            text.push_str("{\"text\": 7}\n");
        }
    }
    text
}

fn sources(place: &Place) {
    fs::create_dir(place.path("texts")).unwrap();
    fs::write(place.path("texts/a.jsonl"), lines(6_000)).unwrap();
    fs::write(
        place.path("texts/b.md"),
        "# Rivers\n\nStones lie in rivers, and rivers in meadows.\n".repeat(50),
    )
    .unwrap();
}

fn position(work: &Path) -> Option<Value> {
    let journal: Value = serde_json::from_slice(&fs::read(work.join("journal.json")).ok()?).unwrap();
    Some(journal["position"].clone())
}

#[test]
fn killed_and_run_again_it_makes_the_same_tokenizer() {
    let place = Place::new();
    sources(&place);
    let train = |out: &'static str| {
        let args =
            ["tokenizer", "train", "texts", "--vocab", "560", "--language-exponent", "0.5", "--out", out];
        [&args[..], &["--weight", "texts=2.5", "--checkpoint", "30kB", "--threads", "2"]].concat()
    };
    let said = place.run(&train("calm"));
    assert!(said.contains("calm: 560 tokens"), "{said}");
    assert!(
        said.contains("left out 1 place, such as texts/a.jsonl:line 12: the field text is not a string"),
        "{said}"
    );
    assert!(said.contains("  de ") && said.contains("  el "), "{said}");
    assert!(!place.path("calm.work").exists());
    let calm = Digest::of_dir(&place.path("calm")).unwrap();

    let work = place.path("stormy.work");
    for kill in 0..4 {
        let before = position(&work);
        let end = if kill == 2 { End::Interrupt } else { End::Kill };
        end_early(&place, &train("stormy"), &end, || {
            ![&before, &Some(json!({"input": 0, "records": 0}))].contains(&&position(&work))
        });
        assert!(!place.path("stormy").exists());
    }
    let said = place.run(&train("stormy"));
    assert!(said.contains("continuing with stormy.work: 0 of 2 files"), "{said}");
    assert!(said.contains("left out 1 place"), "{said}");
    assert_eq!(Digest::of_dir(&place.path("stormy")).unwrap(), calm);
    let facts: Value = serde_json::from_slice(&fs::read(place.path("calm/training.json")).unwrap()).unwrap();
    let of = |language: &str| facts["languages"][language]["weight"].as_f64().unwrap();
    assert!(of("el") < of("en"), "the language with more bytes weighs less: {facts}");
    assert_eq!(facts["left_out"]["count"], 1);
}

#[test]
fn changed_files_are_counted_anew_and_an_unreachable_vocabulary_costs_nothing() {
    let place = Place::new();
    sources(&place);
    // What is written lies among what is read.
    let train = |size: &'static str| ["tokenizer", "train", ".", "--vocab-size", size, "--out", "mine"];
    // The counts stay for another try.
    let said = place.fails(&train("100000"), 1);
    assert!(
        said.contains("reach a vocabulary of") && said.contains("hint: set vocab_size to at most"),
        "{said}"
    );
    assert!(place.path("mine.work").exists() && !place.path("mine").exists());
    let said = place.run(&train("600"));
    assert!(said.contains("all pieces were counted before"), "{said}");
    assert!(!place.path("mine.work").exists());

    let said = place.fails(&train("100000"), 1);
    assert!(!said.contains("counted before"), "{said}");
    fs::write(place.path("texts/b.md"), "Other stones.\n".repeat(60)).unwrap();
    let said = place.run(&train("600"));
    assert!(
        said.contains("counting anew in mine.work: the texts, or how they are counted, have changed"),
        "{said}"
    );
    let mine = fs::read(place.path("mine/tokenizer.json")).unwrap();
    place.run(&train("600"));
    assert!(fs::read(place.path("mine/tokenizer.json")).unwrap() == mine);
}

#[test]
fn wrong_commands_are_named_with_a_hint() {
    let place = Place::new();
    sources(&place);
    fs::write(place.path("none.jsonl"), "{\"body\": \"x\"}\nnot json\n").unwrap();
    let train = ["tokenizer", "train", "--out", "mine"];
    for (args, code, wanted) in [
        (&["nowhere"][..], 1, "no readable document in nowhere"),
        (
            &["none.jsonl"][..],
            2,
            "no text in none.jsonl: 2 places left out, first none.jsonl:line 1: has no field text",
        ),
        (&["texts", "--weight", "text=2"][..], 2, "--weight names \"text\", which is not one of the sources"),
        (&["texts", "--weight", "texts=0"][..], 2, "the weight 0 is not from"),
        (&["texts", "--language-exponent", "3"][..], 2, "is 3, which is not from 0 to 1"),
        (&["texts", "--memory", "1MB"][..], 2, "--memory is 1 MB"),
        (&["texts", "--vocab-size", "100"][..], 1, "vocab_size is 100"),
    ] {
        let said = place.fails(&[&train[..], args].concat(), code);
        assert!(said.contains(wanted) && said.contains("hint:"), "alti {args:?} said:\n{said}");
        assert!(!place.path("mine").exists() && !place.path("mine.work").exists());
    }
    let said = place.fails(&[&train[..], &["texts", "--memory", "4XB"]].concat(), 2);
    assert!(said.contains("\"4XB\" is not a size"), "{said}");
}

#[test]
fn a_run_takes_a_tokenizer_that_is_there() {
    let place = Place::new();
    sources(&place);
    let train = |vocab| place.run(&["tokenizer", "train", "texts", "--vocab", vocab, "--out", "mine"]);
    train("560");
    let mut raise = vec!["raise", "--out", "run", "--size", "nano", "--source", "texts"];
    let own = ["curate.held_out.fraction=0.1", "train.tokens=10K tokens", "tokenizer.path='mine'"];
    for set in own.into_iter().chain(LOOSE) {
        raise.extend(["--set", set]);
    }
    let until = |stage| [&raise[..], &["--until", stage]].concat();
    let said = place.run(&until("tokenizer"));
    assert!(said.contains("560 tokens of mine, "), "{said}");
    let same = || fs::read(place.path("run/tokenizer/tokenizer.json")).unwrap();
    assert_eq!(same(), fs::read(place.path("mine/tokenizer.json")).unwrap());
    let said = place.run(&until("tokenizer"));
    assert!(said.contains("560 tokens of mine") && said.contains("(kept)"), "{said}");

    // Another one under the same name is noticed, and the model has its vocabulary.
    train("540");
    let said = place.run(&until("pretrain"));
    assert!(said.contains("540 tokens of mine, "), "{said}");
    assert_eq!(same(), fs::read(place.path("mine/tokenizer.json")).unwrap());
    let config: Value =
        serde_json::from_slice(&fs::read(place.path("run/base/config.json")).unwrap()).unwrap();
    assert_eq!(config["vocab_size"], 540);

    for (set, code, wanted) in [
        ("tokenizer.vocab_size=600", 2, "vocab_size is that of the tokenizer at path"),
        ("tokenizer.path='absent'", 1, "absent"),
    ] {
        let said = place.fails(&[&until("tokenizer")[..], &["--set", set]].concat(), code);
        assert!(said.contains(wanted) && said.contains("hint:"), "{said}");
    }
}
