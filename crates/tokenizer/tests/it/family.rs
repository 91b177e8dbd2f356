//! Tokenizers of others' forms against tokenizers and sentencepiece, by the vectors that
//! `tests/golden/tokenizer_family.py` writes; and what is refused, by its name.

use base64::Engine;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tokenizer::{Allowed, AnyTokenizer, Error};

use crate::{TEXT, trained};

#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    byte_level: Vec<ByteLevel>,
    sentencepiece: Vec<SentencePiece>,
}

#[derive(Deserialize)]
struct ByteLevel {
    name: String,
    file: String,
    /// Where special tokens are text.
    text: Vec<Vec<u32>>,
    /// Where they are not, if that makes a difference.
    specials: Vec<Option<Vec<u32>>>,
}

#[derive(Deserialize)]
struct SentencePiece {
    name: String,
    file: String,
    text: Vec<Vec<u32>>,
    /// What comes back, if it is not the text.
    decoded: Vec<Option<String>>,
    /// Any tokens, and their text.
    mixed: Vec<(Vec<u32>, String)>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../tests/golden/tokenizer_family.json")).expect("whole")
}

fn load(name: &str, contents: &[u8]) -> Result<AnyTokenizer, Error> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(name);
    std::fs::write(&path, contents).expect("written");
    AnyTokenizer::load(&path)
}

fn pieces(golden: &SentencePiece) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(&golden.file).expect("base64")
}

#[test]
fn byte_level_bpe_is_that_of_tokenizers() {
    let golden = golden();
    for one in &golden.byte_level {
        let tokenizer = load("tokenizer.json", one.file.as_bytes()).expect(&one.name);
        for ((text, wanted), specials) in golden.texts.iter().zip(&one.text).zip(&one.specials) {
            assert_eq!(tokenizer.encode(text), *wanted, "{}: {text:?}", one.name);
            let found = tokenizer.encode_with_specials(text, Allowed::all()).expect("none is refused");
            assert_eq!(found, *specials.as_ref().unwrap_or(wanted), "{}: {text:?}", one.name);
            // A space that was put first, and marks that were put together, are there.
            if !one.name.contains("space") && one.name != "qwen" {
                assert_eq!(tokenizer.decode(&found), *text, "{}", one.name);
            }
        }
    }
}

#[test]
fn sentence_pieces_are_those_of_sentencepiece() {
    let golden = golden();
    for one in &golden.sentencepiece {
        let tokenizer = load("tokenizer.model", &pieces(one)).expect(&one.name);
        for ((text, wanted), decoded) in golden.texts.iter().zip(&one.text).zip(&one.decoded) {
            assert_eq!(tokenizer.encode(text), *wanted, "{}: {text:?}", one.name);
            assert_eq!(tokenizer.decode(wanted), *decoded.as_ref().unwrap_or(text), "{}", one.name);
        }
        for (ids, text) in &one.mixed {
            assert_eq!(tokenizer.decode(ids), *text, "{}: {ids:?}", one.name);
        }
    }
}

#[test]
fn special_tokens_have_their_own_ids() {
    let golden = golden();
    let open = |index: usize| load("tokenizer.json", golden.byte_level[index].file.as_bytes()).unwrap();
    let (last, first, qwen) = (open(0), open(1), open(3));
    assert_eq!(last.vocab_size(), 561);
    assert_eq!(last.encode_with_specials("<|endoftext|>", Allowed::all()).unwrap(), [560]);
    assert_eq!(first.encode_with_specials("<|endoftext|><s>", Allowed::all()).unwrap(), [0, 1]);
    assert!(first.is_special(1) && !first.is_special(2) && first.token_bytes(560).is_none());
    assert_eq!(first.token_bytes(1).as_deref(), Some(&b"<s>"[..]));
    assert_eq!(first.text_tokens(), 558);
    let refused = first.encode_with_specials("a <s>", Allowed::none().refusing_others()).unwrap_err();
    assert!(refused.to_string().contains("<s> at byte 2"), "{refused}");
    // Added, but not special: found in every text.
    assert_eq!(qwen.encode("<tool_call><|im_start|>")[..2], [563, b'<' as u32 - 33]);
    assert!(!qwen.is_special(563) && qwen.is_special(561));
    assert!(qwen.encode_with_specials("<tool_call>", Allowed::none().refusing_others()).is_ok());

    let sentencepiece = load("tokenizer.model", &pieces(&golden.sentencepiece[0])).unwrap();
    assert!(sentencepiece.is_special(1) && !sentencepiece.is_special(3));
    assert_eq!(sentencepiece.token_bytes(3 + 0x41).as_deref(), Some(&b"A"[..]));
    assert!(sentencepiece.encode_with_specials("a", Allowed::only(&["<none>"])).is_err());
}

#[test]
fn llama_3_is_the_same_by_either_door() {
    let tokenizer = trained(700);
    let dir = tempfile::tempdir().expect("a folder");
    tokenizer.save(dir.path()).expect("saved");
    for path in ["", "tokenizer.json", "tokenizer.model"] {
        let any = AnyTokenizer::load(&dir.path().join(path)).expect("loaded");
        assert_eq!(any.vocab_size(), 700);
        assert_eq!(any.encode(TEXT), tokenizer.encode(TEXT));
        let text = "<|eot_id|> <|eot_id|>";
        let wanted = tokenizer.encode_with_specials(text, Allowed::all()).unwrap();
        assert_eq!(any.encode_with_specials(text, Allowed::all()).unwrap(), wanted);
        // Meta's cut within a run of one letter.
        let long = "a".repeat(60_001);
        assert_eq!(any.encode(&long), tokenizer.encode(&long));
    }
    assert_eq!(AnyTokenizer::from(&tokenizer).encode(TEXT), tokenizer.encode(TEXT));
}

#[test]
fn what_is_not_known_is_refused_by_its_name() {
    let golden = golden();
    let file: Value = serde_json::from_str(&golden.byte_level[3].file).unwrap();
    let refused = |pointer: &str, value: Value, wanted: &str| {
        let mut file = file.clone();
        *file.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        let error = load("tokenizer.json", file.to_string().as_bytes()).expect_err(wanted);
        let message = error.to_string();
        assert!(message.contains(wanted) && message.contains("tokenizer.json"), "{wanted}: {message}");
        assert!(error.hint().is_some());
    };
    refused("/model", json!({"type": "WordPiece", "vocab": {}}), "model.type is WordPiece");
    refused("/model", json!({"type": "Unigram", "vocab": [["a", -1.0]]}), "model.type is Unigram");
    refused("/model/byte_fallback", json!(true), "model.byte_fallback is set");
    refused("/model/dropout", json!(0.1), "model.dropout is 0.1");
    refused("/model/end_of_word_suffix", json!("</w>"), "model.end_of_word_suffix is \"</w>\"");
    refused("/normalizer", json!({"type": "NFKC"}), "normalizer is NFKC");
    refused("/decoder", json!({"type": "Metaspace"}), "decoder is Metaspace");
    let split = "/pre_tokenizer/pretokenizers/0";
    refused(split, json!({"type": "Digits"}), "pre_tokenizer.pretokenizers.0 is Digits");
    refused(&format!("{split}/pattern/Regex"), json!("\\w+"), "pattern is \\w+, and the patterns of GPT-2");
    refused(&format!("{split}/behavior"), json!("Removed"), "behavior is not that each match is a piece");
    refused("/pre_tokenizer", json!({"type": "ByteLevel", "use_regex": false}), "use_regex is false");
    refused("/pre_tokenizer", Value::Null, "pre_tokenizer is absent");
    refused("/added_tokens/0/lstrip", json!(true), "takes in what is around it");
    refused("/added_tokens/0/id", json!(4_000_000_000u32), "which is too large");
    refused("/added_tokens/1/id", json!(560), "gives id 560 twice");
    refused("/model/vocab/!", json!(1), "two tokens have id 1");
    refused("/model/merges/0", json!(["!", "zzz"]), "model.merges.0 is not a pair");
    refused("/model/merges/0", json!(["!", "!"]), "model.merges.0 makes no token");
    let first = file["model"]["merges"][0].clone();
    refused("/model/merges/2", first, "model.merges.2 makes a token again");

    let model = pieces(&golden.sentencepiece[0]);
    let changed = |from: &[u8], to: &[u8]| {
        let at = model.windows(from.len()).rposition(|found| found == from).expect("there");
        [&model[..at], to, &model[at + from.len()..]].concat()
    };
    // Field 3 of the trainer's settings is the algorithm.
    let unigram =
        load("tokenizer.model", &changed(b"\x18\x02\x20", b"\x18\x01\x20")).unwrap_err().to_string();
    assert!(unigram.contains("trainer_spec.model_type is Unigram"), "{unigram}");
    let bytes = load("tokenizer.model", &changed(b"<0x41>", b"<0xZZ>")).unwrap_err().to_string();
    assert!(bytes.contains("\"<0xZZ>\" as a byte"), "{bytes}");
    assert!(load("tokenizer.model", &model[..model.len() / 2]).is_err());
}

#[test]
fn a_folder_of_llama_2_is_read_by_its_model() {
    let dir = tempfile::tempdir().expect("a folder");
    let golden = golden();
    let mut file: Value = serde_json::from_str(&golden.byte_level[0].file).unwrap();
    file["model"]["byte_fallback"] = json!(true);
    std::fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
    assert!(AnyTokenizer::load(dir.path()).unwrap_err().to_string().contains("byte_fallback"));
    std::fs::write(dir.path().join("tokenizer.model"), pieces(&golden.sentencepiece[0])).unwrap();
    assert_eq!(AnyTokenizer::load(dir.path()).unwrap().vocab_size(), 640);
}

#[test]
fn long_texts_take_no_quadratic_time() {
    let golden = golden();
    let started = std::time::Instant::now();
    let letters: String = TEXT.chars().filter(|c| c.is_ascii_lowercase()).cycle().take(300_000).collect();
    for text in [letters, "a".repeat(300_000), " ".repeat(300_000), "\u{345}".repeat(100_000)] {
        for one in &golden.sentencepiece {
            let tokenizer = load("tokenizer.model", &pieces(one)).unwrap();
            tokenizer.decode(&tokenizer.encode(&text));
        }
        for one in &golden.byte_level[..4] {
            let tokenizer = load("tokenizer.json", one.file.as_bytes()).unwrap();
            tokenizer.decode(&tokenizer.encode(&text));
        }
    }
    // Two seconds when optimised; the square would be hours.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

/// BPE by its definition in Hugging Face's tokenizers: of all neighbours the pair that comes first in the list is merged,
/// the leftmost of equals.
fn merge_plainly(merges: &[(String, String)], piece: &str) -> Vec<String> {
    let mut parts: Vec<String> = piece.chars().map(String::from).collect();
    loop {
        let place = |pair: &[String]| merges.iter().position(|(a, b)| *a == pair[0] && *b == pair[1]);
        let best = parts.windows(2).enumerate().filter_map(|(at, pair)| Some((place(pair)?, at))).min();
        let Some((_, at)) = best else { return parts };
        let right = parts.remove(at + 1);
        parts[at].push_str(&right);
    }
}

proptest! {
    #[test]
    fn any_merges_in_any_order_mean_what_they_say(
        made in proptest::collection::vec(("[abc]{1,3}", "[abc]{1,3}"), 1..24),
        words in proptest::collection::vec("[abc]{1,40}", 1..8),
        ignore_merges in any::<bool>(),
        offset in 0..3u32,
    ) {
        // Each token is made once; what its parts are made of may come later or never.
        let mut vocab = serde_json::Map::new();
        let mut next = offset;
        let mut add = |text: &str| {
            if !vocab.contains_key(text) {
                vocab.insert(text.to_owned(), next.into());
                next += 1;
            }
        };
        let file: Value = serde_json::from_str(&golden().byte_level[0].file).unwrap();
        for text in file["model"]["vocab"].as_object().unwrap().keys().filter(|text| text.chars().count() == 1) {
            add(text);
        }
        let mut merges: Vec<(String, String)> = Vec::new();
        for (left, right) in made {
            let joined = |(a, b): &(String, String)| [a.as_str(), b].concat();
            if merges.iter().any(|other| joined(other) == [left.as_str(), &right].concat()) {
                continue;
            }
            for text in [[left.as_str(), &right].concat(), left.clone(), right.clone()] {
                add(&text);
            }
            merges.push((left, right));
        }
        let file = json!({
            "added_tokens": [],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
            "decoder": {"type": "ByteLevel"},
            "model": {"type": "BPE", "ignore_merges": ignore_merges, "vocab": vocab, "merges": merges},
        });
        let tokenizer = load("tokenizer.json", file.to_string().as_bytes()).expect("a tokenizer");
        for word in words {
            let wanted: Vec<u32> = match vocab.get(&word).filter(|_| ignore_merges) {
                Some(id) => vec![id.as_u64().unwrap() as u32],
                None => merge_plainly(&merges, &word).iter().map(|t| vocab[t].as_u64().unwrap() as u32).collect(),
            };
            prop_assert_eq!(tokenizer.encode(&word), wanted, "{} by {:?}", word, merges);
        }
    }

    #[test]
    fn damaged_files_do_no_harm(
        which in 0..12usize, edits in proptest::collection::vec((any::<usize>(), any::<u8>(), 0..4u8), 1..4)
    ) {
        let golden = golden();
        let (name, bytes) = match golden.byte_level.get(which) {
            Some(one) => ("tokenizer.json", one.file.clone().into_bytes()),
            None => ("tokenizer.model", pieces(&golden.sentencepiece[which - golden.byte_level.len()])),
        };
        if let Ok(tokenizer) = load(name, &crate::files::damaged(&bytes, &edits)) {
            let tokens = tokenizer.encode(TEXT);
            tokenizer.decode(&tokens);
            prop_assert!(tokens.iter().all(|&id| tokenizer.token_bytes(id).is_some()));
        }
    }
}
