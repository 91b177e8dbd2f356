//! The files: what is written is read back, what is wrong is refused with its place, nothing panics.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use tokenizer::{SpecialNames, Tokenizer};

use crate::{TEXT, trained};

/// `tokenizer.json` and `tokenizer.model` of a small tokenizer.
static SAVED: LazyLock<(String, String)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    trained(540).save(dir.path()).expect("saved");
    let read = |name| std::fs::read_to_string(dir.path().join(name)).expect("written");
    (read("tokenizer.json"), read("tokenizer.model"))
});

fn load(name: &str, contents: &[u8]) -> Result<Tokenizer, tokenizer::Error> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(name);
    std::fs::write(&path, contents).expect("written");
    Tokenizer::load(&path)
}

#[test]
fn what_is_saved_is_loaded() {
    let tokenizer = trained(800);
    let dir = tempfile::tempdir().expect("a folder");
    tokenizer.save(dir.path()).expect("saved");
    let again = tempfile::tempdir().expect("a folder");
    for path in ["", "tokenizer.json", "tokenizer.model"] {
        let loaded = Tokenizer::load(&dir.path().join(path)).expect("loaded");
        assert_eq!(loaded.encode(TEXT), tokenizer.encode(TEXT));
        assert_eq!(loaded.special_names(), tokenizer.special_names());
        // Byte for byte, except that ranks do not say which merges training made.
        loaded.save(again.path()).expect("saved");
        for file in ["tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
        {
            let read = |dir: &Path| std::fs::read_to_string(dir.join(file)).expect("written");
            if (path, file) != ("tokenizer.model", "tokenizer.json") {
                assert_eq!(read(dir.path()), read(again.path()), "{file} after loading {path:?}");
            }
        }
        let reloaded = Tokenizer::load(again.path()).expect("loaded");
        assert_eq!(reloaded.encode(TEXT), tokenizer.encode(TEXT));
    }
}

#[test]
fn llama_31_keeps_its_names() {
    let dir = tempfile::tempdir().expect("a folder");
    trained(600).save(dir.path()).expect("saved");
    let ranks = dir.path().join("tokenizer.model");
    let loaded = Tokenizer::load_ranks(&ranks, SpecialNames::Llama31).expect("loaded");
    assert_eq!(loaded.stop_tokens(), [345, 352, 353]);
    assert_eq!(loaded.padding(), Some(348));
    loaded.save(dir.path()).expect("saved");
    let again = Tokenizer::load(dir.path()).expect("loaded");
    assert_eq!(again.special_names(), loaded.special_names());
    let config = std::fs::read_to_string(dir.path().join("special_tokens_map.json")).expect("written");
    assert!(config.contains(r#""pad_token": "<|finetune_right_pad_id|>""#));
}

/// Replaces `from` by `to` in the saved file; the error must contain `expected`.
fn check_refused(name: &str, from: &str, to: &str, expected: &str) {
    let saved = if name == "tokenizer.json" { &SAVED.0 } else { &SAVED.1 };
    assert!(saved.contains(from), "{from}");
    let error = load(name, saved.replacen(from, to, 1).as_bytes()).expect_err("another tokenizer");
    let message = error.to_string();
    assert!(message.contains(expected) && message.contains(name), "{message}");
    assert!(error.hint().is_some());
}

#[test]
fn another_tokenizer_is_refused_with_the_place() {
    let json = |from: &str, to: &str, expected: &str| check_refused("tokenizer.json", from, to, expected);
    json(r#""BPE""#, r#""Unigram""#, "model.type is Unigram");
    json(r#""normalizer": null"#, r#""normalizer": {"type": "NFC"}"#, "normalizer is set");
    json(r"\\p{N}{1,3}", r"\\p{N}{1,2}", "pre_tokenizer.pretokenizers.0.pattern.Regex is");
    json(r#""Isolated""#, r#""Removed""#, "pre_tokenizer.pretokenizers.0.behavior is");
    json(r#""use_regex": false"#, r#""use_regex": true"#, "use_regex splits a second time");
    json(r#""byte_fallback": false"#, r#""byte_fallback": true"#, "model.byte_fallback is set");
    json(r#""lstrip": false"#, r#""lstrip": true"#, "added_tokens \"<|begin_of_text|>\"");
    json(r#""id": 285"#, r#""id": 999"#, "special tokens follow the ordinary ones");
    json("<|eot_id|>", "<|end|>", "the special token <|eot_id|> is missing");
    json(r#""vocab": {"#, r#""vocab": {"#.repeat(2).as_str(), "line");
    json("\"!\": 33", "\"!\": 34", "two tokens have id 34");
    json("\"!\": 33", "\" \": 33", "is not in the byte-level alphabet");
    let ranks = |from: &str, to: &str, expected: &str| check_refused("tokenizer.model", from, to, expected);
    ranks("IQ== 33\n", "IQ== 34\n", "line 35: rank 34 was given to an earlier line");
    ranks("IQ== 33\n", "", "line 283: rank 283, although the file has only 283 tokens");
    ranks("IQ== 33\n", "IQ 33\n", "line 34: the token \"IQ\" is not base64");
}

#[test]
fn merges_must_agree_with_the_ranks() {
    let mut file: serde_json::Value = serde_json::from_str(&SAVED.0).expect("JSON");
    let merges = file["model"]["merges"].as_array().expect("a list").clone();
    let mut refused = |merges: Vec<serde_json::Value>, expected: &str| {
        file["model"]["merges"] = merges.into();
        let message = load("tokenizer.json", file.to_string().as_bytes()).expect_err("another").to_string();
        assert!(message.contains(expected), "{message}");
    };
    let mut reversed = merges.clone();
    reversed.reverse();
    refused(reversed, "model.merges.1 is out of order");
    refused(merges[1..].to_vec(), "model.merges do not say how token 256 comes about");
    refused([vec!["! !".into()], merges.clone()].concat(), "model.merges.0 makes no token");
    refused(vec!["x".into()], "model.merges.0 is not a pair of tokens");
}

#[test]
fn merges_as_pairs_and_without_ignoring_merges_are_read() {
    let mut file: serde_json::Value = serde_json::from_str(&SAVED.0).expect("JSON");
    for merge in file["model"]["merges"].as_array_mut().expect("a list") {
        let parts = merge.as_str().and_then(|text| text.split_once(' ')).expect("two tokens");
        *merge = serde_json::json!([parts.0, parts.1]);
    }
    file["model"]["ignore_merges"] = false.into();
    let loaded = load("tokenizer.json", file.to_string().as_bytes()).expect("the same tokenizer");
    assert_eq!(loaded.encode(TEXT), trained(540).encode(TEXT));
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let message = |path: &Path| Tokenizer::load(path).expect_err("missing").to_string();
    assert!(message(dir.path()).contains("neither tokenizer.json nor tokenizer.model"));
    assert!(message(&dir.path().join("none.json")).contains("none.json"));
}

/// A few bytes replaced, removed or doubled.
pub fn damaged(contents: &[u8], edits: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut bytes = contents.to_vec();
    for &(at, byte, kind) in edits {
        if bytes.is_empty() {
            break;
        }
        let at = at % bytes.len();
        match kind % 4 {
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, byte),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn check_damaged(name: &str, bytes: &[u8]) {
    // Refused, or a tokenizer that still gives back every text.
    if let Ok(tokenizer) = load(name, bytes) {
        assert_eq!(tokenizer.decode(&tokenizer.encode(TEXT)), TEXT);
    }
}

proptest! {
    #[test]
    fn damaged_files_do_no_harm(
        edits in proptest::collection::vec((any::<usize>(), prop_oneof![any::<u8>(), b'0'..=b'9'], 0..4u8), 1..4)
    ) {
        check_damaged("tokenizer.json", &damaged(SAVED.0.as_bytes(), &edits));
        check_damaged("tokenizer.model", &damaged(SAVED.1.as_bytes(), &edits));
    }

    #[test]
    fn changed_numbers_do_no_harm(at in any::<usize>(), digit in b'0'..=b'9') {
        for (name, contents) in [("tokenizer.json", &SAVED.0), ("tokenizer.model", &SAVED.1)] {
            let mut bytes = contents.as_bytes().to_vec();
            let digits: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
            bytes[digits[at % digits.len()]] = digit;
            check_damaged(name, &bytes);
        }
    }
}
