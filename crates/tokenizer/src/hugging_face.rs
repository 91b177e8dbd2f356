//! `tokenizer.json` and the files beside it, as Hugging Face's tokenizers and transformers have
//! them. For a [`Tokenizer`] only what describes a Llama 3 tokenizer is accepted; [`family`] reads more.

mod family;

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::byte_level::ByteLevel;
use crate::error::Error;
use crate::merge;
use crate::specials::{BEGIN_OF_TEXT, END_OF_TEXT, PADDING};
use crate::split::PATTERN;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::Vocabulary;

/// The chat template for `apply_chat_template`: text that encodes to what [`crate::chat::prompt`]
/// gives. After Meta's, with the role `tool` written as `ipython` as in Llama 3.1.
pub(crate) const CHAT_TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
{% set role = 'ipython' if message['role'] == 'tool' else message['role'] %}\
{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}\
{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

/// The chat template of a folder: in a file of its own, or in `tokenizer_config.json`. A folder whose files cannot be read
/// has none.
pub(crate) fn template_of(folder: &Path) -> Option<String> {
    if let Ok(template) = std::fs::read_to_string(folder.join("chat_template.jinja")) {
        return Some(template);
    }
    let config = std::fs::read(folder.join("tokenizer_config.json")).ok()?;
    let config: Value = serde_json::from_slice(&config).ok()?;
    Some(config["chat_template"].as_str()?.to_owned())
}

#[derive(Deserialize)]
struct RawFile {
    #[serde(default)]
    added_tokens: Vec<RawAddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    decoder: Option<Value>,
    model: RawModel,
}

#[derive(Deserialize)]
struct RawAddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct RawModel {
    r#type: Option<String>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: HashMap<String, u32>,
    merges: Vec<RawMerge>,
}

/// "a b" in files of tokenizers before 0.20, ["a", "b"] since.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawMerge {
    Text(String),
    Pair(String, String),
}

impl RawMerge {
    fn parts(&self) -> Option<(&str, &str)> {
        match self {
            RawMerge::Text(text) => text.split_once(' '),
            RawMerge::Pair(left, right) => Some((left, right)),
        }
    }
}

/// What is wrong with a merge that does not name two tokens.
const NO_PAIR: &str = "is not a pair of tokens of the vocabulary";

/// Why a file is refused: the place in it, and the problem.
type Refusal = (String, String);

/// Reads a `tokenizer.json` of Llama 3's form.
pub(crate) fn load(path: &Path) -> Result<Tokenizer, Error> {
    convert(read(path)?).map_err(unsupported(path))
}

/// Reads a `tokenizer.json` of any byte-level BPE.
pub(crate) fn load_family(path: &Path) -> Result<ByteLevel, Error> {
    family::convert(read(path)?).map_err(unsupported(path))
}

fn unsupported(path: &Path) -> impl Fn(Refusal) -> Error {
    move |(place, problem)| Error::Unsupported { path: path.to_owned(), place, problem }
}

fn read(path: &Path) -> Result<RawFile, Error> {
    /// What a file says of an algorithm whose lists have another shape.
    #[derive(Deserialize)]
    struct Kind {
        model: KindOfModel,
    }
    #[derive(Deserialize)]
    struct KindOfModel {
        r#type: String,
    }
    let contents = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&contents).map_err(|error| match serde_json::from_slice::<Kind>(&contents) {
        Ok(Kind { model }) if model.r#type != "BPE" => {
            unsupported(path)(refusal("model.type", format!("is {}, not BPE", model.r#type)))
        }
        _ => Error::Json { path: path.to_owned(), problem: error.to_string() },
    })
}

/// A tokenizer from its lists: tokens by id in the byte-level alphabet, of which those from `ordinary` on are special,
/// and merges as "a b".
pub(crate) fn from_lists(
    tokens: &[String],
    ordinary: usize,
    merges: &[String],
) -> Result<Tokenizer, (String, String)> {
    let (ordinary, special) = tokens.split_at(ordinary.min(tokens.len()));
    let alphabet = Alphabet::new();
    let tokens =
        ordinary.par_iter().map(|text| alphabet.token(text, "tokens")).collect::<Result<Vec<_>, _>>()?;
    build(&tokens, special.to_vec(), merges, |merge| merge.split_once(' '), true)
}

/// The lists of [`from_lists`].
pub(crate) fn lists(tokenizer: &Tokenizer) -> (Vec<String>, Vec<String>) {
    let alphabet = Alphabet::new();
    let mut tokens: Vec<String> = tokenizer.vocabulary().tokens().map(|token| alphabet.text(token)).collect();
    let join = |&(left, right): &(u32, u32)| format!("{} {}", tokens[left as usize], tokens[right as usize]);
    let merges = tokenizer.merges().iter().map(join).collect();
    tokens.extend(tokenizer.special_names().iter().cloned());
    (tokens, merges)
}

/// The other files' names and contents.
pub(crate) fn files(tokenizer: &Tokenizer) -> [(&'static str, String); 3] {
    // A value tree of strings and numbers always has a text form.
    let pretty = |value: Value| format!("{value:#}\n");
    [
        ("tokenizer.json", pretty(tokenizer_json(tokenizer))),
        ("tokenizer_config.json", pretty(tokenizer_config(tokenizer))),
        ("special_tokens_map.json", pretty(Value::Object(named_tokens(tokenizer)))),
    ]
}

fn convert(raw: RawFile) -> Result<Tokenizer, Refusal> {
    check_kind(&raw)?;
    let RawFile { mut added_tokens, model, .. } = raw;
    added_tokens.sort_by_key(|token| token.id);
    let (tokens, special_names) = convert_vocabulary(&model, added_tokens)?;
    build(&tokens, special_names, &model.merges, RawMerge::parts, model.ignore_merges)
}

/// From the bytes of the ordinary tokens by id, the names of the special ones, and the merges, each of which `parts` takes
/// apart; `ignore_merges` says that whole pieces are looked up before anything is merged.
fn build<M: Sync>(
    tokens: &[Vec<u8>],
    special_names: Vec<String>,
    merges: &[M],
    parts: impl Fn(&M) -> Option<(&str, &str)> + Sync,
    ignore_merges: bool,
) -> Result<Tokenizer, Refusal> {
    let tokenizer = Tokenizer::from_tokens(tokens.iter().map(Vec::as_slice), special_names)
        .map_err(|error| refusal("model.vocab", error))?;
    let merges = convert_merges(tokenizer.vocabulary(), merges, parts, ignore_merges)?;
    Ok(tokenizer.with_merges(merges))
}

fn refusal(place: &str, problem: impl ToString) -> Refusal {
    (place.to_owned(), problem.to_string())
}

/// Refuses everything that would make another tokenizer of the same vocabulary.
fn check_kind(raw: &RawFile) -> Result<(), Refusal> {
    let model = &raw.model;
    let kind = model.r#type.as_deref().unwrap_or("BPE");
    if kind != "BPE" {
        return Err(refusal("model.type", format!("is {kind}, not BPE")));
    }
    let affix = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let foreign = [
        ("normalizer", raw.normalizer.is_some()),
        ("model.dropout", model.dropout.is_some_and(|rate| rate != 0.0)),
        ("model.continuing_subword_prefix", affix(&model.continuing_subword_prefix)),
        ("model.end_of_word_suffix", affix(&model.end_of_word_suffix)),
        ("model.byte_fallback", model.byte_fallback),
    ];
    for (place, present) in foreign {
        if present {
            return Err(refusal(place, "is set; Llama 3 has none"));
        }
    }
    let stripping = |token: &RawAddedToken| token.single_word || token.lstrip || token.rstrip;
    if let Some(token) = raw.added_tokens.iter().find(|token| stripping(token)) {
        let problem =
            format!("{:?} takes in what is around it (single_word, lstrip or rstrip)", token.content);
        return Err(refusal("added_tokens", problem));
    }
    check_pre_tokenizer(raw.pre_tokenizer.as_ref())
}

/// It must be the split pattern, each match a piece, and then the byte-level alphabet.
fn check_pre_tokenizer(value: Option<&Value>) -> Result<(), Refusal> {
    let value = value.ok_or_else(|| refusal("pre_tokenizer", "is absent"))?;
    let expected: [(&str, Value); 7] = [
        ("/type", json!("Sequence")),
        ("/pretokenizers/0/type", json!("Split")),
        ("/pretokenizers/0/pattern/Regex", json!(PATTERN)),
        ("/pretokenizers/0/behavior", json!("Isolated")),
        ("/pretokenizers/0/invert", json!(false)),
        ("/pretokenizers/1/type", json!("ByteLevel")),
        ("/pretokenizers/1/add_prefix_space", json!(false)),
    ];
    for (pointer, expected) in expected {
        let found = value.pointer(pointer).unwrap_or(&Value::Null);
        if *found != expected {
            let place = format!("pre_tokenizer{}", pointer.replace('/', "."));
            return Err(refusal(&place, format!("is {found}, and Llama 3's is {expected}")));
        }
    }
    // Absent means true there.
    if value.pointer("/pretokenizers/1/use_regex") != Some(&json!(false)) {
        return Err(refusal("pre_tokenizer.pretokenizers.1.use_regex", "splits a second time"));
    }
    if value.pointer("/pretokenizers/2").is_some() {
        return Err(refusal("pre_tokenizer.pretokenizers.2", "is one step more than Llama 3 has"));
    }
    Ok(())
}

/// The ordinary tokens by id, and the names of the special ones, which must follow them.
fn convert_vocabulary(
    model: &RawModel,
    added_tokens: Vec<RawAddedToken>,
) -> Result<(Vec<Vec<u8>>, Vec<String>), Refusal> {
    let is_added = |text: &str, id: u32| {
        let found = added_tokens.binary_search_by_key(&id, |token| token.id);
        found.is_ok_and(|index| added_tokens[index].content == text)
    };
    let ordinary: Vec<_> = model.vocab.iter().filter(|(text, id)| !is_added(text, **id)).collect();
    let mut tokens: Vec<Option<Vec<u8>>> = vec![None; ordinary.len()];
    let alphabet = Alphabet::new();
    for &(text, &id) in &ordinary {
        let bytes = alphabet.token(text, "model.vocab")?;
        let count = tokens.len();
        let slot = tokens.get_mut(id as usize).ok_or_else(|| {
            refusal(
                "model.vocab",
                format!("{text:?} has id {id}, but there are only {count} ordinary tokens"),
            )
        })?;
        if slot.replace(bytes).is_some() {
            return Err(refusal("model.vocab", format!("two tokens have id {id}")));
        }
    }
    for (index, token) in added_tokens.iter().enumerate() {
        let expected = tokens.len() + index;
        if token.id as usize != expected {
            let problem = format!(
                "{:?} has id {}, expected {expected}: special tokens follow the ordinary ones",
                token.content, token.id
            );
            return Err(refusal("added_tokens", problem));
        }
    }
    let names = added_tokens.into_iter().map(|token| token.content).collect();
    Ok((tokens.into_iter().flatten().collect(), names))
}

/// The merge list, checked to mean the same as the ranks: encoding here goes by rank.
fn convert_merges<M: Sync>(
    vocabulary: &Vocabulary,
    list: &[M],
    parts: impl Fn(&M) -> Option<(&str, &str)> + Sync,
    ignore_merges: bool,
) -> Result<Vec<(u32, u32)>, Refusal> {
    let alphabet = Alphabet::new();
    // Left, right, and what they make: 280,000 times three look-ups, so on all threads.
    let read = |bytes: &mut Vec<u8>, merge: &M| {
        bytes.clear();
        let (left, right) = parts(merge).ok_or(NO_PAIR)?;
        let cut = alphabet.append(left, bytes).map(|()| bytes.len()).ok_or(NO_PAIR)?;
        alphabet.append(right, bytes).ok_or(NO_PAIR)?;
        let (left, right) = (vocabulary.id(&bytes[..cut]), vocabulary.id(&bytes[cut..]));
        let (Some(left), Some(right)) = (left, right) else { return Err(NO_PAIR) };
        Ok((left, right, vocabulary.id(bytes).ok_or("makes no token of the vocabulary")?))
    };
    let found: Vec<Result<(u32, u32, u32), &str>> = list.par_iter().map_init(Vec::new, read).collect();
    let mut merges = Vec::with_capacity(list.len());
    let mut merged_before = 0;
    let mut has_merge = vec![false; vocabulary.len()];
    for (index, found) in found.into_iter().enumerate() {
        let fault = |problem: &str| refusal(&format!("model.merges.{index}"), problem);
        let (left, right, merged) = found.map_err(fault)?;
        if merged < merged_before {
            return Err(fault("is out of order: a token's id must be its rank"));
        }
        merged_before = merged;
        has_merge[merged as usize] = true;
        merges.push((left, right));
    }
    let mut reached = Vec::new();
    for (id, token) in vocabulary.tokens().enumerate() {
        if token.len() == 1 || (has_merge[id] && ignore_merges) {
            continue;
        }
        reached.clear();
        merge::merge(vocabulary, token, &mut reached);
        let by_merging = reached == [id as u32];
        // Without the look-up of whole pieces each token must come about by merging; without its
        // merges in the list a token must not.
        let agrees = if has_merge[id] { by_merging } else { !by_merging };
        if !agrees {
            let problem = format!("do not say how token {id} comes about, and its rank says otherwise");
            return Err(refusal("model.merges", problem));
        }
    }
    Ok(merges)
}

fn tokenizer_json(tokenizer: &Tokenizer) -> Value {
    let alphabet = Alphabet::new();
    let texts: Vec<String> = tokenizer.vocabulary().tokens().map(|token| alphabet.text(token)).collect();
    let vocab: Map<String, Value> =
        texts.iter().enumerate().map(|(id, text)| (text.clone(), id.into())).collect();
    let merges = tokenizer.merges();
    let merges = merges
        .iter()
        .map(|&(left, right)| Value::String(format!("{} {}", texts[left as usize], texts[right as usize])));
    let added_tokens = specials(tokenizer).map(|(id, name)| {
        let mut token = Map::new();
        token.insert("id".into(), id.into());
        token.extend(added_token(name));
        Value::Object(token)
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
            ],
        },
        "post_processor": {
            "type": "Sequence",
            "processors": [
                {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
                template_processing(tokenizer),
            ],
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": true,
            "vocab": vocab,
            "merges": merges.collect::<Vec<_>>(),
        },
    })
}

/// Puts begin-of-text before each text, as Meta's file does.
fn template_processing(tokenizer: &Tokenizer) -> Value {
    let bos = |type_id: u32| json!({"SpecialToken": {"id": BEGIN_OF_TEXT, "type_id": type_id}});
    let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [bos(0), text("A", 0)],
        "pair": [bos(0), text("A", 0), bos(1), text("B", 1)],
        "special_tokens": {
            BEGIN_OF_TEXT: {"id": BEGIN_OF_TEXT, "ids": [tokenizer.bos()], "tokens": [BEGIN_OF_TEXT]},
        },
    })
}

fn tokenizer_config(tokenizer: &Tokenizer) -> Value {
    let decoder: Map<String, Value> =
        specials(tokenizer).map(|(id, name)| (id.to_string(), Value::Object(added_token(name)))).collect();
    let mut config = Map::new();
    config.insert("added_tokens_decoder".into(), Value::Object(decoder));
    config.extend(named_tokens(tokenizer));
    config.insert("chat_template".into(), CHAT_TEMPLATE.into());
    // Meta's file says true, which would change spaces before punctuation in decoded text.
    config.insert("clean_up_tokenization_spaces".into(), false.into());
    config.insert("model_input_names".into(), json!(["input_ids", "attention_mask"]));
    config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
    Value::Object(config)
}

fn named_tokens(tokenizer: &Tokenizer) -> Map<String, Value> {
    let mut names = Map::new();
    names.insert("bos_token".into(), BEGIN_OF_TEXT.into());
    names.insert("eos_token".into(), END_OF_TEXT.into());
    if tokenizer.padding().is_some() {
        names.insert("pad_token".into(), PADDING.into());
    }
    names
}

fn specials(tokenizer: &Tokenizer) -> impl Iterator<Item = (u32, &str)> {
    let first = tokenizer.ordinary_tokens() as u32;
    (first..).zip(tokenizer.special_names().iter().map(String::as_str))
}

fn added_token(name: &str) -> Map<String, Value> {
    let mut token = Map::new();
    token.insert("content".into(), name.into());
    for flag in ["single_word", "lstrip", "rstrip", "normalized"] {
        token.insert(flag.into(), false.into());
    }
    token.insert("special".into(), true.into());
    token
}

/// GPT-2's printable stand-ins for bytes: printable Latin-1 is itself, the rest follow from U+0100.
struct Alphabet {
    characters: [char; 256],
    /// By code point; all stand-ins are below U+0200.
    bytes: [Option<u8>; 0x200],
}

impl Alphabet {
    fn new() -> Alphabet {
        let mut next = 0x100..0x200u32;
        let characters = std::array::from_fn(|byte| {
            let code = match byte as u32 {
                printable @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(printable),
                _ => next.next(),
            };
            code.and_then(char::from_u32).unwrap_or_default()
        });
        let mut bytes = [None; 0x200];
        for (byte, character) in (0..=255).zip(characters) {
            bytes[character as usize] = Some(byte);
        }
        Alphabet { characters, bytes }
    }

    fn text(&self, token: &[u8]) -> String {
        token.iter().map(|&byte| self.characters[byte as usize]).collect()
    }

    /// Adds the bytes of `text`; `None` where it holds what stands for no byte.
    fn append(&self, text: &str, bytes: &mut Vec<u8>) -> Option<()> {
        for character in text.chars() {
            bytes.push((*self.bytes.get(character as usize)?)?);
        }
        Some(())
    }

    /// The bytes of a token at this place of the file.
    fn token(&self, text: &str, place: &str) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::with_capacity(text.len());
        self.append(text, &mut bytes)
            .map(|()| bytes)
            .ok_or_else(|| refusal(place, format!("the token {text:?} is not in the byte-level alphabet")))
    }
}
