//! `alti tokenizer explain`, `compare`, `encode` and `decode`, with the real program and tokenizers that others made.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use base64::Engine;
use serde_json::Value;

use crate::Place;

const GOLDEN: &str = include_str!("../../../../tests/golden/tokenizer_family.json");

/// A place with `gpt2/tokenizer.json` and `llama2/tokenizer.model`, small ones of these forms, and texts.
fn place() -> Place {
    let place = Place::new();
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let file = |kind: &str| golden[kind][0]["file"].as_str().unwrap();
    let pieces = base64::engine::general_purpose::STANDARD.decode(file("sentencepiece")).unwrap();
    for (name, contents) in [
        ("gpt2/tokenizer.json", file("byte_level").as_bytes()),
        ("llama2/tokenizer.model", &pieces),
        (
            "texts/prose.txt",
            "The quick brown fox jumps over the lazy dog, and over it again.\n".repeat(20).as_bytes(),
        ),
        ("texts/code.rs", "fn main() {\n    println!(\"1234567\");\n}\n".repeat(20).as_bytes()),
        ("german.txt", "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.\n".as_bytes()),
    ] {
        let path = place.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    place
}

/// Standard output of the program with this standard input; it must succeed.
fn piped(place: &Place, args: &[&str], input: &str) -> String {
    let mut command = place.command(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "alti {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(place: &Place, args: &[&str]) -> Value {
    serde_json::from_str(&piped(place, args, "")).unwrap()
}

#[test]
fn tokens_are_explained() {
    let place = place();
    let text = "the fox\n€";
    let explain = ["tokenizer", "explain", "gpt2/tokenizer.json"];
    let found = json(&place, &[&explain[..], &[text, "--json"]].concat());
    let tokens = found["tokens"].as_array().unwrap();
    let ids: Vec<String> = tokens.iter().map(|token| token["id"].to_string()).collect();
    let encoded = piped(&place, &["tokenizer", "encode", "gpt2/tokenizer.json", "--ids", text], "");
    assert_eq!(ids.join(" "), encoded.trim());
    let bytes: Vec<&str> = tokens.iter().flat_map(|t| t["bytes"].as_str().unwrap().split(' ')).collect();
    assert_eq!(bytes.join(""), "74686520666f780ae282ac");
    assert_eq!((&found["bytes"], &found["characters"], &found["words"]), (&11.into(), &9.into(), &3.into()));

    let said = place.run(&[&explain[..], &[text]].concat());
    assert!(!said.contains('\u{1b}') && said.contains('│'), "{said}");
    for wanted in ["⏎", "‹", "e2", "tokens for 11 bytes in 3 words"] {
        assert!(said.contains(wanted), "{wanted} is missing in:\n{said}");
    }
    let colored = place.run(&[&explain[..], &["--color", "always", text]].concat());
    assert!(colored.contains("\u{1b}[") && !colored.contains('│'), "{colored}");
    assert!(piped(&place, &[&explain[..], &["-"]].concat(), text).contains("for 11 bytes"));
    // A text cannot act upon the terminal.
    assert!(!place.run(&[&explain[..], &["a\u{1b}[2J\u{202e}"]].concat()).contains(['\u{1b}', '\u{202e}']));

    let special =
        |what: &str| json(&place, &[&explain[..], &["<|endoftext|>", "--special", what, "--json"]].concat());
    assert_eq!(
        (special("ids")["tokens"][0]["id"].clone(), special("ids")["tokens"][0]["special"].clone()),
        (560.into(), true.into())
    );
    assert!(special("text")["tokens"].as_array().unwrap().len() > 3);
    let said = place.fails(&[&explain[..], &["a<|endoftext|>", "--special", "refuse"]].concat(), 1);
    assert!(said.contains("<|endoftext|> at byte 1") && said.contains("hint:"), "{said}");
    // Without a tokenizer that of runs/tiny is taken, if there is one.
    assert!(place.fails(&["tokenizer", "explain", "text"], 2).contains("no runs/tiny whose"));
    fs::create_dir_all(place.path("runs/tiny/tokenizer")).unwrap();
    let file = fs::read(place.path("gpt2/tokenizer.json")).unwrap();
    fs::write(place.path("runs/tiny/tokenizer/tokenizer.json"), file).unwrap();
    assert!(place.run(&["tokenizer", "explain", "the fox"]).contains("2 words"));
}

#[test]
fn lines_are_encoded_and_decoded_one_by_one() {
    let place = place();
    let texts = ["", "the fox\n", "e\u{301}<|endoftext|>"];
    let input: String = texts.iter().map(|text| format!("{}\n", Value::from(*text))).collect();
    for tokenizer in ["gpt2/tokenizer.json", "llama2"] {
        let encoded = piped(&place, &["tokenizer", "encode", tokenizer, "--lines"], &input);
        let decoded = piped(&place, &["tokenizer", "decode", tokenizer, "--lines"], &encoded);
        assert_eq!(decoded, input, "{tokenizer}");
    }
    let encode = ["tokenizer", "encode", "gpt2/tokenizer.json", "--lines", "--special"];
    let with = |what: &str| piped(&place, &[&encode[..], &[what]].concat(), &input);
    assert!(with("ids").trim_end().ends_with(",560]") && !with("text").contains("560"));
    let refused = with("refuse");
    assert_eq!(refused.lines().count(), 3);
    assert!(refused.lines().nth(2).unwrap().contains("error"), "{refused}");
    let mut command = place.command(&encode[..4]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\"a\"\nb\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("standard input, line 2"), "{said}");
}

#[test]
fn two_tokenizers_are_compared() {
    let place = place();
    let compare = ["tokenizer", "compare", "gpt2/tokenizer.json", "llama2"];
    let sources = ["--source", "texts", "--source", "sentences/de=german.txt"];
    let found = json(&place, &[&compare[..], &sources, &["--json", "--plot", "compared.html"]].concat());
    let rows = found["rows"].as_array().unwrap();
    let called =
        |row: &Value| format!("{}/{}", row["domain"].as_str().unwrap(), row["language"].as_str().unwrap());
    assert_eq!(rows.iter().map(called).collect::<Vec<_>>(), ["code/rust", "prose/en", "sentences/de"]);
    let german = &rows[2];
    let text = fs::read_to_string(place.path("german.txt")).unwrap();
    let ids = |tokenizer: &str| {
        let said = piped(&place, &["tokenizer", "encode", tokenizer, "--ids"], &text);
        said.split_whitespace().count()
    };
    let counts = [ids("gpt2/tokenizer.json"), ids("llama2/tokenizer.model")];
    assert_eq!(german["tokens"], serde_json::json!(counts));
    assert_eq!((&german["bytes"], &german["words"]), (&text.len().into(), &10.into()));
    let number = |value: &Value| value.as_f64().unwrap();
    assert!((number(&german["change"]) - (counts[0] as f64 / counts[1] as f64 - 1.0)).abs() < 1e-12);
    assert!((number(&german["tokens_per_word"][1]) - counts[1] as f64 / 10.0).abs() < 1e-12);
    let sum: u64 = rows.iter().map(|row| row["tokens"][0].as_u64().unwrap()).sum();
    assert_eq!(found["all"]["tokens"][0], sum);
    // Of 560 tokens few were needed.
    let unused = number(&found["tokenizers"][0]["unused_share"]);
    assert!(unused > 0.5 && unused < 1.0, "{found}");
    assert_eq!(found["tokenizers"][0]["text_tokens"], 560);

    let page = fs::read_to_string(place.path("compared.html")).unwrap();
    for wanted in ["<svg", "sentences, de", "code, rust", "all texts", "gpt2 and llama2"] {
        assert!(page.contains(wanted), "{wanted} is missing in the page");
    }
    let said = place.run(&[&compare[..], &sources, &["--plot", "compared.svg"]].concat());
    for wanted in ["sentences", "tokens of A to B", "had no use", "% ", "in 3 lines", "compared.svg"] {
        assert!(
            said.contains(wanted) || wanted == "in 3 lines" && said.contains("of 3 lines"),
            "{wanted}:\n{said}"
        );
    }
    let picture = fs::read_to_string(place.path("compared.svg")).unwrap();
    assert!(
        picture.starts_with("<?xml") && picture.contains("xmlns") && picture.trim_end().ends_with("</svg>")
    );

    for (more, code, wanted) in [
        (&["--source", "texts", "--plot", "x.jpg"][..], 2, ".html or .svg"),
        (&["--source", "a/=texts"], 2, "DOMAIN/LANGUAGE=PATH"),
        (&["--source", "nowhere"], 1, "nowhere"),
    ] {
        let said = place.fails(&[&compare[..], more].concat(), code);
        assert!(said.contains(wanted) && said.contains("hint:"), "{more:?} said:\n{said}");
    }
    let said = place.fails(&["tokenizer", "compare", "gpt2", "nothing", "--source", "texts"], 1);
    assert!(said.contains("nothing"), "{said}");
}

#[test]
fn a_batch_s_scaling_is_measured() {
    let place = place();
    let found = json(
        &place,
        &["bench", "tokenizer", "llama2", "texts/prose.txt", "--rounds", "3", "--threads", "2", "--json"],
    );
    let text = &found["texts"][0];
    let median = |key: &str| {
        let mut seconds: Vec<f64> =
            text[key].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[1]
    };
    let ratio = median("batch_one_thread_seconds") / median("batch_seconds");
    assert!((text["batch_scaling"].as_f64().unwrap() - ratio).abs() < 1e-9 * ratio, "{found}");
    let said =
        place.run(&["bench", "tokenizer", "gpt2", "texts/prose.txt", "--rounds", "1", "--threads", "2"]);
    assert!(said.contains("in documents") && said.contains("2 threads"), "{said}");
}
