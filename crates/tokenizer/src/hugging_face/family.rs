//! A `tokenizer.json` of the byte-level BPE family, whosever it is: GPT-2's, Llama 3's, Qwen's and those trained in their
//! form. What would encode otherwise than is known here is refused by its name.

use serde_json::Value;

use super::{Alphabet, RawAddedToken, RawFile, RawModel, Refusal, refusal};
use crate::byte_level::{Added, ByteLevel, Ids, Splitting};
use crate::split::Pattern;
use crate::vocabulary::{ID_BITS, Vocabulary};

/// Patterns are shown up to here.
const SHOWN_CHARACTERS: usize = 60;

/// The tokenizer that the file describes.
pub(super) fn convert(raw: RawFile) -> Result<ByteLevel, Refusal> {
    check_model(&raw.model)?;
    let nfc = normalizer(raw.normalizer.as_ref())?;
    let (pattern, prefix_space) = pre_tokenizer(raw.pre_tokenizer.as_ref())?;
    check_decoder(raw.decoder.as_ref())?;
    check_added(&raw.added_tokens, nfc)?;
    let special = |name: &str| raw.added_tokens.iter().any(|token| token.content == name);
    // Meta's own code reads this vocabulary too, and cuts.
    let cuts = pattern == Pattern::Llama3 && special(crate::specials::BEGIN_OF_TEXT);
    let splitting = Splitting { pattern, cuts, nfc, prefix_space };

    let RawFile { added_tokens, model, .. } = raw;
    let ordinary = ordinary(&model, &added_tokens)?;
    let ranked = rank(&model, ordinary)?;
    let vocabulary =
        Vocabulary::with_merges(ranked.tokens.iter().map(Vec::as_slice), &ranked.merges, model.ignore_merges)
            .map_err(|error| refusal("model.vocab", error))?;
    let mut outer = ranked.ids;
    outer.extend(added_tokens.iter().map(|token| token.id));
    let added = added_tokens.into_iter().map(|token| Added {
        normalized: token.normalized.unwrap_or(!token.special),
        name: token.content,
        special: token.special,
    });
    ByteLevel::new(vocabulary, added.collect(), splitting, Ids::new(outer))
        .map_err(|error| refusal("added_tokens", error))
}

/// What an algorithm other than byte-level BPE would have.
fn check_model(model: &RawModel) -> Result<(), Refusal> {
    let kind = model.r#type.as_deref().unwrap_or("BPE");
    if kind != "BPE" {
        return Err(refusal("model.type", format!("is {kind}, not BPE")));
    }
    if let Some(rate) = model.dropout.filter(|rate| *rate != 0.0) {
        return Err(refusal("model.dropout", format!("is {rate}: merges that are left out at random")));
    }
    if model.byte_fallback {
        let problem = "is set: this is SentencePiece's BPE, whose tokenizer.model can be loaded instead";
        return Err(refusal("model.byte_fallback", problem));
    }
    let affixes = [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ];
    for (place, affix) in affixes {
        if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
            return Err(refusal(place, format!("is {affix:?}; byte-level BPE has none")));
        }
    }
    Ok(())
}

/// The name of a step, which files write beside its settings.
fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or("of no type")
}

/// Whether there is normal form C; any other normaliser is refused.
fn normalizer(value: Option<&Value>) -> Result<bool, Refusal> {
    let Some(value) = value else { return Ok(false) };
    match kind(value) {
        "NFC" => Ok(true),
        "Sequence" => {
            let steps = value["normalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
            match steps.iter().position(|step| kind(step) != "NFC") {
                None => Ok(!steps.is_empty()),
                Some(at) => {
                    let place = format!("normalizer.normalizers.{at}");
                    Err(refusal(&place, format!("is {}; only NFC is known", kind(&steps[at]))))
                }
            }
        }
        other => Err(refusal("normalizer", format!("is {other}; only NFC is known"))),
    }
}

/// The split pattern, and whether a space goes before a text.
fn pre_tokenizer(value: Option<&Value>) -> Result<(Pattern, bool), Refusal> {
    let value = value.ok_or_else(|| refusal("pre_tokenizer", "is absent; byte-level BPE has one"))?;
    let steps: Vec<(String, &Value)> = match (kind(value), value["pretokenizers"].as_array()) {
        ("Sequence", Some(steps)) => {
            let place = |at| format!("pre_tokenizer.pretokenizers.{at}");
            steps.iter().enumerate().map(|(at, step)| (place(at), step)).collect()
        }
        _ => vec![("pre_tokenizer".to_owned(), value)],
    };
    for (place, step) in &steps {
        if !matches!(kind(step), "Split" | "ByteLevel") {
            return Err(refusal(place, format!("is {}; Split and ByteLevel are known", kind(step))));
        }
    }
    // Absent means true there.
    let byte_level = |step: &Value| (step["use_regex"] != false, step["add_prefix_space"] != false);
    match steps.as_slice() {
        [(place, only)] if kind(only) == "ByteLevel" => match byte_level(only) {
            (true, prefix_space) => Ok((Pattern::Gpt2, prefix_space)),
            (false, _) => Err(refusal(&format!("{place}.use_regex"), "is false: nothing splits the text")),
        },
        [(place, split), (last, bytes)] if (kind(split), kind(bytes)) == ("Split", "ByteLevel") => {
            let pattern = split_pattern(place, split)?;
            match byte_level(bytes) {
                (false, false) => Ok((pattern, false)),
                (true, _) => Err(refusal(&format!("{last}.use_regex"), "splits a second time")),
                (_, true) => {
                    Err(refusal(&format!("{last}.add_prefix_space"), "puts a space before every piece"))
                }
            }
        }
        _ => {
            let found: Vec<&str> = steps.iter().map(|(_, step)| kind(step)).collect();
            let problem =
                format!("has the steps {}; ByteLevel, or Split and ByteLevel, are known", found.join(", "));
            Err(refusal("pre_tokenizer", problem))
        }
    }
}

fn split_pattern(place: &str, split: &Value) -> Result<Pattern, Refusal> {
    let at = |key: &str| format!("{place}.{key}");
    let written = split["pattern"]["Regex"].as_str();
    let written = written.ok_or_else(|| refusal(&at("pattern"), "is no regular expression"))?;
    // The patterns match everywhere, so what they match is isolated by either.
    match (split["behavior"].as_str(), split["invert"].as_bool()) {
        (Some("Isolated"), Some(false) | None) | (Some("Removed"), Some(true)) => {}
        _ => return Err(refusal(&at("behavior"), "is not that each match is a piece")),
    }
    Pattern::of(written).ok_or_else(|| {
        let shown: String = written.chars().take(SHOWN_CHARACTERS).collect();
        let more = if shown.len() < written.len() { "…" } else { "" };
        let known = [Pattern::Gpt2, Pattern::Llama3, Pattern::Qwen2].map(Pattern::name).join(", ");
        refusal(&at("pattern"), format!("is {shown}{more}, and the patterns of {known} are known"))
    })
}

fn check_decoder(value: Option<&Value>) -> Result<(), Refusal> {
    let found = value.map_or("absent", kind);
    if found == "ByteLevel" {
        return Ok(());
    }
    let inside = value.and_then(|value| value["decoders"].as_array());
    if inside.is_some_and(|steps| steps.iter().all(|step| kind(step) == "ByteLevel") && !steps.is_empty()) {
        return Ok(());
    }
    Err(refusal("decoder", format!("is {found}, not ByteLevel")))
}

fn check_added(added: &[RawAddedToken], nfc: bool) -> Result<(), Refusal> {
    for token in added {
        let fault = |problem: String| Err(refusal("added_tokens", format!("{:?} {problem}", token.content)));
        if token.single_word || token.lstrip || token.rstrip {
            return fault("takes in what is around it (single_word, lstrip or rstrip)".into());
        }
        if nfc
            && token.normalized.unwrap_or(!token.special)
            && crate::normal_form::nfc(&token.content) != token.content
        {
            return fault("is not in normal form C".into());
        }
        if token.id >> ID_BITS > 0 {
            return fault(format!("has id {}, which is too large", token.id));
        }
    }
    let mut ids: Vec<u32> = added.iter().map(|token| token.id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(refusal("added_tokens", format!("gives id {} twice", pair[0]))),
        None => Ok(()),
    }
}

/// The ordinary tokens in order of their ids: id, text, bytes.
type Ordinary<'a> = Vec<(u32, &'a str, Vec<u8>)>;

fn ordinary<'a>(model: &'a RawModel, added: &[RawAddedToken]) -> Result<Ordinary<'a>, Refusal> {
    let added: std::collections::HashMap<u32, &str> =
        added.iter().map(|token| (token.id, token.content.as_str())).collect();
    let alphabet = Alphabet::new();
    let mut ordinary = Vec::with_capacity(model.vocab.len());
    for (text, &id) in &model.vocab {
        let fault = |problem: String| Err(refusal("model.vocab", problem));
        match added.get(&id) {
            Some(name) if name == text => continue,
            Some(name) => return fault(format!("{text:?} and the added token {name:?} have id {id}")),
            None => {}
        }
        if id >> ID_BITS > 0 {
            return fault(format!("{text:?} has id {id}, which is too large"));
        }
        ordinary.push((id, text.as_str(), alphabet.token(text, "model.vocab")?));
    }
    ordinary.sort_unstable_by_key(|(id, ..)| *id);
    match ordinary.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(refusal("model.vocab", format!("two tokens have id {}", pair[0].0))),
        None => Ok(ordinary),
    }
}

/// The ordinary tokens in the order in which they are merged first.
struct Ranked {
    tokens: Vec<Vec<u8>>,
    /// Their ids in the file.
    ids: Vec<u32>,
    /// The pairs that merge, by rank.
    merges: Vec<(u32, u32)>,
}

/// Ranks follow the merge list. Where the ids do too they stay, so that tokens which nothing merges keep their places.
fn rank(model: &RawModel, ordinary: Ordinary<'_>) -> Result<Ranked, Refusal> {
    let place_of: std::collections::HashMap<&str, u32> =
        (0..).zip(&ordinary).map(|(at, (_, text, _))| (*text, at)).collect();
    let mut merges = Vec::with_capacity(model.merges.len());
    let mut first_merge: Vec<Option<usize>> = vec![None; ordinary.len()];
    let (mut last_made, mut in_order) = (0, true);
    for (index, merge) in model.merges.iter().enumerate() {
        let fault = |problem: String| refusal(&format!("model.merges.{index}"), problem);
        let parts = merge.parts();
        let pair = parts.and_then(|(left, right)| Some((*place_of.get(left)?, *place_of.get(right)?)));
        let (Some((left, right)), Some((left_text, right_text))) = (pair, parts) else {
            return Err(fault("is not a pair of tokens of the vocabulary".into()));
        };
        let made = place_of.get([left_text, right_text].concat().as_str()).copied();
        let made = made.ok_or_else(|| fault("makes no token of the vocabulary".into()))?;
        // A token's merges have one rank together, so none of another's may come between.
        if first_merge[made as usize].is_some() && made != last_made {
            return Err(fault("makes a token again after another was made".into()));
        }
        in_order &= made >= last_made;
        first_merge[made as usize].get_or_insert(index);
        last_made = made;
        merges.push((left, right));
    }
    // `None`, of what nothing makes, comes first.
    let mut order: Vec<u32> = (0..ordinary.len() as u32).collect();
    if !in_order {
        order.sort_by_key(|&at| first_merge[at as usize]);
    }
    let mut rank_of = vec![0; order.len()];
    for (rank, &at) in (0..).zip(&order) {
        rank_of[at as usize] = rank;
    }
    let mut ordinary: Vec<Option<(u32, Vec<u8>)>> =
        ordinary.into_iter().map(|(id, _, bytes)| Some((id, bytes))).collect();
    let ranked = order.iter().filter_map(|&at| ordinary[at as usize].take());
    let (ids, tokens) = ranked.unzip();
    let of_rank = |&(left, right): &(u32, u32)| (rank_of[left as usize], rank_of[right as usize]);
    Ok(Ranked { tokens, ids, merges: merges.iter().map(of_rank).collect() })
}
