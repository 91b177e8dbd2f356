//! `alti eval perplexity` over the models that the whole way made: quantised ones beside their own, as text and as JSON.

use std::fs;

use crate::Place;

pub fn run(place: &Place) {
    for (storage, file) in [("f32", "exact.gguf"), ("q8_0", "eight.gguf"), ("q4_0", "four.gguf")] {
        place.run(&["convert", "runs/calm", file, "--quantize", storage]);
    }
    let measure = ["eval", "perplexity", "runs/calm", "--source", "runs/calm"];
    let window = ["--context", "64", "--stride", "40"];
    let against = ["--against", "exact.gguf", "eight.gguf", "four.gguf"];
    let output = place.command(&[&measure[..], &window, &against, &["--json"]].concat()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let models = json["models"].as_array().unwrap();
    let number = |model: usize, name: &str, key: &str| models[model][name][key].as_f64().unwrap();
    let beside = |model: usize, key: &str| models[model]["beside_first"][key]["value"].as_f64().unwrap();
    assert!(json["tokens"].as_u64().unwrap() > 100 && json["context"] == 64, "{json}");
    assert!(number(0, "perplexity", "value") > 1.0 && models[0]["beside_first"].is_null(), "{json}");
    let (nats, bits) = (number(0, "nats_per_token", "value"), number(0, "bits_per_byte", "value"));
    let per_byte = json["tokens"].as_f64().unwrap() / json["bytes"].as_f64().unwrap();
    assert!((bits - nats / std::f64::consts::LN_2 * per_byte).abs() < 1e-9, "{json}");
    // The same weights in another file are the same model; fewer bits are farther away.
    assert_eq!((beside(1, "ratio"), beside(1, "divergence"), beside(1, "same_top")), (1.0, 0.0, 1.0));
    assert!(
        beside(2, "divergence") > 0.0 && beside(3, "divergence") > 4.0 * beside(2, "divergence"),
        "{json}"
    );
    assert!((beside(2, "ratio") - 1.0).abs() < 0.02, "{json}");

    fs::write(place.path("held-out.txt"), "What is the word? ".repeat(40)).unwrap();
    let said = place.run(
        &[
            &["eval", "perplexity", "exact.gguf", "--against", "four.gguf", "--source", "held-out.txt"][..],
            &window,
        ]
        .concat(),
    );
    for wanted in ["of 1 text (", "up to 64 inputs", "scores 40 new ones", "four.gguf", "same top", "%", "±"]
    {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    fs::write(place.path("broken.txt"), b"ab\xffc").unwrap();
    for (args, code, wanted) in [
        (
            &["eval", "perplexity", "exact.gguf", "--source", "broken.txt"][..],
            2,
            "broken.txt, byte 2: is no UTF-8",
        ),
        (
            &["eval", "perplexity", "exact.gguf", "--source", "held-out.txt", "--context", "999999999"],
            1,
            "a model has room for",
        ),
    ] {
        let said = place.fails(args, code);
        assert!(said.contains(wanted) && said.contains("hint:"), "alti {args:?} said:\n{said}");
    }
}
