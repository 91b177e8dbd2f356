//! Against tiktoken and transformers, by the vectors that `tests/golden/tokenizer.py` writes.

use serde::Deserialize;
use tokenizer::chat::{self, Message};
use tokenizer::{Allowed, Tokenizer};

use crate::train;

#[derive(Deserialize)]
struct Golden {
    ranks: String,
    vectors: Vec<Vector>,
    chats: Vec<Chat>,
}

#[derive(Deserialize)]
struct Vector {
    /// The text: each part so many times.
    parts: Vec<(String, usize)>,
    /// Where special tokens are text.
    text: Ids,
    /// Where all special tokens are allowed.
    specials: Ids,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Ids {
    All(Vec<u32>),
    /// Of a long text: how many, and a polynomial hash modulo 2^64.
    Summary {
        count: usize,
        hash: String,
    },
}

impl Ids {
    /// In the form of `self`, to be compared with it.
    fn of(&self, ids: &[u32]) -> Ids {
        let add = |hash: u64, &id: &u32| hash.wrapping_mul(1_000_003).wrapping_add(u64::from(id) + 1);
        match self {
            Ids::All(_) => Ids::All(ids.to_vec()),
            Ids::Summary { .. } => {
                Ids::Summary { count: ids.len(), hash: ids.iter().fold(0, add).to_string() }
            }
        }
    }
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Message>,
    prompt: Vec<u32>,
}

fn golden() -> (Tokenizer, Golden) {
    let text = include_str!("../../../../tests/golden/tokenizer.json");
    let golden: Golden = serde_json::from_str(text).expect("the golden file is whole");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("tokenizer.model");
    std::fs::write(&path, &golden.ranks).expect("written");
    (Tokenizer::load(&path).expect("loaded"), golden)
}

#[test]
fn encodes_as_tiktoken_and_transformers_do() {
    let (tokenizer, golden) = golden();
    for vector in &golden.vectors {
        let text: String = vector.parts.iter().map(|(part, times)| part.repeat(*times)).collect();
        let shown: String = text.chars().take(80).collect();
        assert_eq!(vector.text.of(&tokenizer.encode(&text)), vector.text, "{shown:?}");
        let with_specials = tokenizer.encode_with_specials(&text, Allowed::all()).expect("none is refused");
        assert_eq!(vector.specials.of(&with_specials), vector.specials, "{shown:?}");
        assert_eq!(tokenizer.decode(&with_specials), text);
    }
}

#[test]
fn prompts_are_those_of_the_chat_template() {
    let (tokenizer, golden) = golden();
    for chat in &golden.chats {
        assert_eq!(chat::prompt(&tokenizer, &chat.messages), chat.prompt, "{:?}", chat.messages);
    }
}

#[test]
fn training_has_not_changed() {
    let (loaded, golden) = golden();
    let dir = tempfile::tempdir().expect("a folder");
    train(loaded.vocab_size()).save(dir.path()).expect("saved");
    let ranks = std::fs::read_to_string(dir.path().join("tokenizer.model")).expect("written");
    assert!(
        ranks == golden.ranks,
        "the same text and settings give other tokens than when the file was made"
    );
}
