//! Constraints in a running engine: a model that answers at random still keeps to them, alone and in any batch.

use std::sync::Arc;

use engine::{Completion, Constraint, Engine, Error, FinishReason, Request, Sampling, Settings, StopCause};
use serde_json::{Value, json};

use crate::toy::{Toy, tokenizer};

fn engine(settings: Settings) -> Engine {
    let tokenizer = tokenizer();
    let toy = Toy { context: 4096, ..Toy::new(&tokenizer) };
    Engine::start(Arc::new(toy), tokenizer, settings).unwrap()
}

/// Schemas of the kinds that people send; each bounds its texts and lists, so that a random answer ends.
fn schemas() -> Vec<Value> {
    let text = json!({ "type": "string", "maxLength": 8 });
    let node = json!({
        "type": "object",
        "properties": {
            "value": { "type": "integer", "minimum": -10, "maximum": 99 },
            "next": { "anyOf": [{ "$ref": "#/$defs/node" }, { "type": "null" }] },
        },
        "required": ["value", "next"],
        "additionalProperties": false,
    });
    vec![
        json!({ "type": "object", "properties": { "name": text, "age": { "type": "integer", "minimum": 0, "maximum": 150 } },
                "required": ["name", "age"], "additionalProperties": false }),
        json!({ "type": "object", "properties": { "a": text, "b": { "type": "boolean" }, "c": { "type": "null" } },
                "additionalProperties": false }),
        json!({ "type": "array", "items": { "type": "number", "minimum": 0, "maximum": 1 }, "minItems": 2, "maxItems": 4 }),
        json!({ "enum": ["red", "green", 3, null, { "deep": [1, 2] }] }),
        json!({ "const": { "exactly": "this é" } }),
        json!({ "$defs": { "node": node }, "$ref": "#/$defs/node" }),
        json!({ "type": "string", "pattern": "^[A-Z]{2}-[0-9]{3,5}$" }),
        json!({ "type": "string", "format": "date" }),
        json!({ "type": "string", "format": "uuid" }),
        json!({ "type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 10_000 }),
        json!({ "type": "array", "prefixItems": [text, { "type": "integer", "maximum": 5, "minimum": 0 }], "items": false,
                "minItems": 2 }),
        json!({ "anyOf": [
            { "type": "object", "properties": { "kind": { "const": "circle" }, "radius": { "type": "number", "minimum": 0, "maximum": 9 } },
              "required": ["kind", "radius"], "additionalProperties": false },
            { "type": "object", "properties": { "kind": { "const": "square" }, "side": { "type": "integer", "minimum": 0, "maximum": 9 } },
              "required": ["kind", "side"], "additionalProperties": false },
        ] }),
        json!({ "allOf": [
            { "type": "object", "properties": { "a": { "type": "integer", "minimum": 1, "maximum": 9 } }, "required": ["a"] },
            { "type": "object", "properties": { "a": true, "b": text }, "required": ["b"], "additionalProperties": false },
        ] }),
        json!({ "type": "object", "patternProperties": { "^x_[a-z]{1,4}$": { "type": "boolean" } },
                "additionalProperties": false, "maxProperties": 3 }),
        json!({ "type": ["boolean", "null"] }),
    ]
}

fn request(constraint: Constraint, seed: u64) -> Request {
    let tokenizer = tokenizer();
    let mut sampling = Sampling { temperature: 1.0, top_p: 1.0, seed: Some(seed), ..Sampling::default() };
    if seed == 0 {
        sampling.temperature = 0.0;
    }
    // Open texts and lists come to an end.
    sampling.logit_bias = ["\"", "]", "}"].iter().map(|end| (tokenizer.encode(end)[0], 3.0)).collect();
    let prompt = vec![1, 2, seed as u32 % 500];
    Request { sampling, constraint: Some(constraint), max_tokens: Some(1500), ..Request::new(prompt) }
}

#[track_caller]
fn complete(completion: &Completion) -> &str {
    assert_eq!(completion.reason, FinishReason::Stop, "{completion:?}");
    &completion.text
}

#[test]
fn random_answers_are_valid_under_every_schema() {
    let engine = engine(Settings::default());
    for schema in schemas() {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let requests = (0..12).map(|seed| request(Constraint::JsonSchema(schema.clone()), seed)).collect();
        let mut texts = Vec::new();
        for completion in engine.complete_all(requests) {
            let completion = completion.unwrap();
            let text = complete(&completion);
            let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            if let Err(error) = validator.validate(&value) {
                panic!("{error}: {text} for {schema}");
            }
            texts.push(text.to_owned());
        }
        texts.dedup();
        assert!(texts.len() > 1 || schema.get("const").is_some(), "{schema}: {texts:?}");
    }
}

#[test]
fn random_answers_are_json_objects() {
    let engine = engine(Settings::default());
    for seed in 0..20 {
        let completion = engine.complete(request(Constraint::JsonObject, seed)).unwrap();
        let value: Value = serde_json::from_str(complete(&completion)).unwrap();
        assert!(value.is_object(), "{value}");
    }
}

#[test]
fn constrained_answers_do_not_depend_on_company() {
    let requests = || -> Vec<Request> {
        let schemas = schemas().into_iter().enumerate();
        schemas.map(|(seed, schema)| request(Constraint::JsonSchema(schema), seed as u64)).collect()
    };
    let alone = engine(Settings::default());
    let alone: Vec<_> =
        requests().into_iter().map(|request| alone.complete(request).unwrap().tokens).collect();
    let together = engine(Settings { max_sequences: 7, prefill_chunk: 2, ..Settings::default() });
    // Twice: the second time from what was compiled the first time.
    for _ in 0..2 {
        let answers = together.complete_all(requests()).into_iter();
        assert_eq!(answers.map(|answer| answer.unwrap().tokens).collect::<Vec<_>>(), alone);
    }
}

#[test]
fn a_complete_answer_ends_by_itself() {
    let engine = engine(Settings::default());
    let completion = engine.complete(request(Constraint::Regex("[0-9]{4}".into()), 3)).unwrap();
    assert_eq!((completion.text.len(), completion.reason), (4, FinishReason::Stop));
    assert_eq!(completion.stopped_by, Some(StopCause::Constraint));
    // Where more may follow, the model ends it.
    let completion = engine.complete(request(Constraint::Regex("[0-9]*".into()), 3)).unwrap();
    assert!(matches!(completion.stopped_by, Some(StopCause::Token(_))), "{completion:?}");
    // And limits and stop texts cut it off.
    let limited = Request { max_tokens: Some(3), ..request(Constraint::Regex("[0-9]{400}".into()), 3) };
    let completion = engine.complete(limited).unwrap();
    assert_eq!((completion.tokens.len(), completion.reason), (3, FinishReason::Length));
    let stopped = Request { stop: vec!["7".into()], ..request(Constraint::Regex("[0-9]{400}".into()), 3) };
    let completion = engine.complete(stopped).unwrap();
    assert_eq!(completion.stopped_by, Some(StopCause::Text("7".into())));
    assert!(completion.text.bytes().all(|byte| byte.is_ascii_digit() && byte != b'7'), "{completion:?}");
}

#[test]
fn log_probabilities_are_the_models_own_under_a_constraint_too() {
    let engine = engine(Settings::default());
    let plain = Request { logprobs: Some(3), ..Request::greedy(vec![5, 6], 1) };
    let guided = Request { constraint: Some(Constraint::Regex("z{3}".into())), ..plain.clone() };
    let plain = engine.complete(plain).unwrap().tokens;
    let guided = engine.complete(guided).unwrap().tokens;
    assert_eq!(guided[0].alternatives, plain[0].alternatives);
    assert!(guided[0].logprob < plain[0].logprob, "{guided:?} {plain:?}");
}

#[test]
fn a_constraint_that_cannot_be_kept_to_is_refused_at_once() {
    let engine = engine(Settings::default());
    let wrong = Constraint::JsonSchema(json!({ "type": "integer", "minimum": 5, "maximum": 3 }));
    let refused = engine.submit(request(wrong.clone(), 1)).err();
    assert!(
        matches!(&refused, Some(Error::Constraint { reason }) if reason.contains("minimum")),
        "{refused:?}"
    );
    assert_eq!(engine.prepare(&wrong).err(), refused);
    let stats = engine.stats();
    assert_eq!((stats.running, stats.waiting), (0, 0));
}

#[test]
fn forced_text_is_read_at_once_and_nothing_else_changes() {
    let tokenizer = tokenizer();
    let toy = Arc::new(Toy { context: 4096, ..Toy::new(&tokenizer) });
    let engine = Engine::start(Arc::clone(&toy), tokenizer, Settings::default()).unwrap();
    let schema = json!({
        "type": "object",
        "properties": {
            "a_long_name_of_a_member": { "type": "boolean" },
            "another_name": { "enum": ["the quick brown fox", "the quick brown dog"] },
            "said": { "const": "the lazy dog sleeps on; café" },
        },
        "required": ["a_long_name_of_a_member", "another_name", "said"],
        "additionalProperties": false,
    });
    for seed in 0..4 {
        let request = Request { logprobs: Some(2), ..request(Constraint::JsonSchema(schema.clone()), seed) };
        toy.calls.lock().unwrap().clear();
        let whole = engine.complete(request.clone()).unwrap();
        let passes = toy.calls.lock().unwrap().len();
        assert!(passes * 3 < whole.tokens.len(), "{passes} passes for {:?}", whole.text);
        // No guess was made.
        assert_eq!((whole.usage.accepted_tokens, whole.usage.rejected_tokens), (0, 0));
        assert_eq!(whole.usage.completion_tokens, whole.tokens.len());
        let stats = engine.stats();
        assert_eq!((stats.drafted_tokens, stats.accepted_tokens), (0, 0));
        // Each token's scores are those that follow the tokens before it, read as a prompt.
        let text = [request.prompt.clone(), whole.token_ids()].concat();
        let scored = Request { max_tokens: Some(0), prompt_logprobs: Some(2), ..Request::new(text) };
        let scored = engine.complete(scored).unwrap().prompt;
        for (token, scored) in whole.tokens.iter().zip(&scored[request.prompt.len()..]) {
            assert_eq!((token.id, token.logprob), (scored.id, scored.logprob));
            assert_eq!(token.alternatives, scored.alternatives);
        }
        // Wherever it ends, it is the beginning of the same: no token and no random number depends on what is read at once.
        for most in 1..whole.tokens.len() {
            let cut = engine.complete(Request { max_tokens: Some(most), ..request.clone() }).unwrap();
            assert_eq!(cut.usage.completion_tokens, most);
            assert!(whole.tokens.starts_with(&cut.tokens[..cut.tokens.len() - 1]), "{cut:?}");
            assert!(whole.text.starts_with(&cut.text));
        }
    }
}
