//! Constraints by themselves, without a model: what may follow what, and what is refused.

use std::time::{Duration, Instant};

use ledger::progress::Silent;
use ledger::seed::Seed;

use super::*;
use crate::Sampling;
use crate::sampling::Sampler;

fn tokenizer() -> Tokenizer {
    let texts = ["the quick brown fox {\"name\": \"jumps\", \"age\": 12} over the lazy dog; café, naïve 🦙"];
    let settings = tokenizer::train::Settings { vocab_size: 552, ..Default::default() };
    tokenizer::train::train(texts.iter().cycle().take(20), &settings, &Silent).unwrap()
}

/// Writes a random answer of at most `most` tokens under the constraint; whether it is complete.
fn write(
    grammars: &Grammars,
    constraint: &Constraint,
    seed: u64,
    most: usize,
) -> Result<(String, bool), Error> {
    let mut guide = grammars.guide(constraint, &[], false)?;
    let mut rng = Seed(seed).stream("test.answer", 0);
    let mut answer = Vec::new();
    while !guide.complete() && answer.len() < most {
        let mut logits = vec![0.0; grammars.tokenizer.vocab_size()];
        guide.mask(&mut logits)?;
        let allowed: Vec<u32> =
            (0..logits.len() as u32).filter(|&token| logits[token as usize] == 0.0).collect();
        let token = allowed[rng.below(allowed.len() as u64) as usize];
        guide.take(token)?;
        if !grammars.tokenizer.stop_tokens().contains(&token) {
            answer.push(token);
        }
    }
    Ok((grammars.tokenizer.decode(&answer), guide.complete()))
}

#[test]
fn answers_keep_to_expressions_and_grammars() {
    let grammars = Grammars::new(tokenizer());
    let check = |constraint: Constraint, expected: &str| {
        let expected = regex::Regex::new(&format!("^(?s:{expected})$")).unwrap();
        for seed in 0..20 {
            let (text, complete) = write(&grammars, &constraint, seed, 200).unwrap();
            assert!(complete && expected.is_match(&text), "{constraint:?}: {text:?}");
        }
    };
    let expression = "(red|green|é🦙){1,3}-[0-9]{2}";
    check(Constraint::Regex(expression.into()), expression);
    check(Constraint::Regex("yes|no".into()), "yes|no");
    check(Constraint::Regex("the quick".into()), "the quick");
    let grammar = "start: \"(\" item (\", \" item){0,3} \")\"\nitem: /[a-z]{1,3}/ | \"{\" item \"}\"";
    check(Constraint::Lark(grammar.into()), r"\([{}a-z, ]+\)");
    check(Constraint::Lark("start: \"x\" | \"\"".into()), "x?");
    // A special token is no text, and may be asked for by its name.
    check(Constraint::Regex("<.end_of_text.>".into()), "<.end_of_text.>");
    let (text, complete) =
        write(&grammars, &Constraint::Lark("start: <|end_header_id|> \"x\"".into()), 0, 9).unwrap();
    assert_eq!((text.as_str(), complete), ("<|end_header_id|>x", true));
}

#[test]
fn the_end_may_come_only_where_the_answer_is_complete() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(tokenizer.clone());
    let allowed = |guide: &mut Guide| -> Vec<u32> {
        let mut logits = vec![0.0; tokenizer.vocab_size()];
        guide.mask(&mut logits).unwrap();
        (0..logits.len() as u32).filter(|&token| logits[token as usize] == 0.0).collect()
    };
    let byte = |byte: u8| tokenizer.encode(std::str::from_utf8(&[byte]).unwrap())[0];
    let ends = tokenizer.stop_tokens();
    let other = byte(b'!');

    let mut guide = grammars.guide(&Constraint::Regex("ab?".into()), &[other], false).unwrap();
    assert_eq!(allowed(&mut guide), [byte(b'a')]);
    guide.take(byte(b'a')).unwrap();
    let may = allowed(&mut guide);
    assert!(ends.iter().chain([&other, &byte(b'b')]).all(|token| may.contains(token)), "{may:?}");
    assert_eq!(may.len(), ends.len() + 2);
    assert!(!guide.complete());
    guide.take(byte(b'b')).unwrap();
    assert!(guide.complete());

    let mut guide = grammars.guide(&Constraint::Regex("ab?".into()), &[], true).unwrap();
    guide.take(byte(b'a')).unwrap();
    assert_eq!(allowed(&mut guide), [byte(b'b')]);
}

#[test]
fn the_constraint_has_the_last_word() {
    let tokenizer = tokenizer();
    let mut guide =
        Grammars::new(tokenizer.clone()).guide(&Constraint::Regex("a".into()), &[], false).unwrap();
    let a = tokenizer.encode("a")[0] as usize;
    let mut logits = vec![1.0; tokenizer.vocab_size()];
    logits[a] = f32::NEG_INFINITY;
    assert!(guide.mask(&mut logits).unwrap());
    assert_eq!(logits[a], 0.0);
    assert_eq!(logits.iter().filter(|score| score.is_finite()).count(), 1);
}

#[test]
fn a_token_that_is_forced_has_the_models_own_score() {
    let tokenizer = tokenizer();
    let grammars = Grammars::new(tokenizer.clone());
    let a = tokenizer.encode("a")[0];
    let chosen = |score: f32, bias: Option<f32>| {
        let guide = grammars.guide(&Constraint::Regex("a".into()), &[], false).unwrap();
        let logit_bias = bias.into_iter().map(|bias| (a, bias)).collect();
        let settings = Sampling { logit_bias, ..Sampling::greedy() };
        let mut logits = vec![1.0; tokenizer.vocab_size()];
        logits[a as usize] = score;
        let choice = Sampler::new(settings, Some(0), &[], 0).guided(Some(guide)).choose(&mut logits).unwrap();
        assert_eq!(choice.id, a);
        choice.logprob.unwrap()
    };
    let even = -(tokenizer.vocab_size() as f32).ln();
    assert_eq!(chosen(f32::NEG_INFINITY, None), f32::NEG_INFINITY);
    assert!((chosen(1.0, Some(f32::NEG_INFINITY)) - even).abs() < 1e-5);
    assert!((chosen(1.0, None) - even).abs() < 1e-5);
}

#[test]
fn what_cannot_be_kept_to_is_refused_with_the_reason() {
    let grammars = Grammars::new(tokenizer());
    let check = |constraint: Constraint, reason: &str| match grammars.guide(&constraint, &[], false) {
        Err(Error::Constraint { reason: given }) => assert!(given.contains(reason), "{given}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{constraint:?} was accepted"),
    };
    let schema = |schema: Value| Constraint::JsonSchema(schema);
    check(schema(json!({ "type": "integer", "minimum": 5, "maximum": 3 })), "minimum (5) is greater");
    check(schema(json!({ "type": "object", "not": { "required": ["a"] } })), "[\"not\"]");
    check(schema(json!({ "type": "thing" })), "thing");
    check(schema(json!({ "$ref": "https://example.com/schema.json" })), "example.com");
    check(schema(json!({ "$ref": "#" })), "no answer keeps to it");
    check(schema(json!([1])), "");
    check(Constraint::Regex("(a".into()), "invalid regex");
    check(Constraint::Regex("(?=a)b".into()), "invalid regex");
    check(Constraint::Lark("start: nobody".into()), "nobody");
    check(Constraint::Lark(String::new()), "");
}

/// Each is answered or refused, in the time that a client could wait, and the process lives on.
#[test]
fn hostile_constraints_hold_nobody_up() {
    let grammars = Grammars::new(tokenizer());
    let nested = |levels: usize| {
        let inside = json!({ "type": "integer" });
        (0..levels).fold(inside, |inside, _| json!({ "type": "object", "properties": { "a": inside } }))
    };
    let chain = |link: &dyn Fn(Value) -> Value| {
        let name = |index: usize| format!("{index:x}");
        let mut links = serde_json::Map::new();
        for index in 0..8000 {
            links.insert(name(index), link(json!({ "$ref": format!("#/$defs/{}", name(index + 1)) })));
        }
        links.insert(name(8000), json!({ "type": "null" }));
        Constraint::JsonSchema(json!({ "$defs": links, "$ref": "#/$defs/0" }))
    };
    let words =
        |count: u64| -> Vec<String> { (0..count).map(|index| format!("word{}", index * 7919)).collect() };
    let either = |index: usize| json!({ "anyOf": [{ "properties": { format!("a{index}"): true } }, { "properties": { format!("b{index}"): {} } }] });
    let cases = [
        ("nested", Constraint::JsonSchema(nested(60))),
        ("nested too deep", Constraint::JsonSchema(nested(300))),
        ("an enum of 100,000", Constraint::JsonSchema(json!({ "enum": words(100_000) }))),
        ("an enum of 5,000", Constraint::JsonSchema(json!({ "enum": words(5000) }))),
        (
            "2 to the 20th ways",
            Constraint::JsonSchema(json!({ "allOf": (0..20).map(either).collect::<Vec<_>>() })),
        ),
        (
            "1,500 properties",
            Constraint::JsonSchema(
                json!({ "properties": words(1500).into_iter().map(|word| (word, json!({}))).collect::<serde_json::Map<_, _>>() }),
            ),
        ),
        ("a chain", chain(&|next| next)),
        ("a chain of objects", chain(&|next| json!({ "properties": { "a": next } }))),
        ("a chain of allOf", chain(&|next| json!({ "allOf": [next, {}] }))),
        ("a divisor", Constraint::JsonSchema(json!({ "type": "integer", "multipleOf": 999_999_937 }))),
        (
            "divisors that meet",
            Constraint::JsonSchema(json!({ "allOf": [{ "multipleOf": 9973 }, { "multipleOf": 9967 }] })),
        ),
        (
            "divisors of two scales",
            Constraint::JsonSchema(json!({ "allOf": [{ "multipleOf": 9973 }, { "multipleOf": 1e-9 }] })),
        ),
        (
            "a divisor within a grammar",
            Constraint::Lark("start: %json {\"type\": \"integer\", \"multiple\\u004ff\": 999999937}".into()),
        ),
        (
            "many items",
            Constraint::JsonSchema(json!({ "type": "array", "items": true, "minItems": 1_000_000 })),
        ),
        (
            "a long text",
            Constraint::JsonSchema(
                json!({ "type": "string", "minLength": 100_000, "maxLength": 10_000_000 }),
            ),
        ),
        ("backtracking", Constraint::Regex("(a+)+(a|aa)+(x+x+)+y".into())),
        ("2 to the 25th states", Constraint::Regex("(a|b)*a(a|b){25}".into())),
        ("a look back of 1,000", Constraint::Regex("(?s:.*a){30}(?s:.){1000}".into())),
        ("repeated repetition", Constraint::Regex("((a{0,1000}b?){0,1000}c?){0,1000}".into())),
        ("parentheses", Constraint::Regex(format!("{}a{}", "(".repeat(50_000), ")".repeat(50_000)))),
        (
            "intersections",
            Constraint::Lark(
                "start: A\nA: /(.*a.*){5}/ & /(.*b.*){7}/ & /(.*c.*){11}/ & ~/(.*d.*){13}/".into(),
            ),
        ),
        ("ambiguity", Constraint::Lark("start: s\ns: s s | s s s | \"a\" | \"\"".into())),
        (
            "nested rules",
            Constraint::Lark(format!("start: {}\"a\"{}", "(".repeat(50_000), ")".repeat(50_000))),
        ),
        (
            "a chain of terminals",
            Constraint::Lark(
                (0..9000).map(|index| format!("T{index}: \"x\" T{}\n", index + 1)).collect::<String>()
                    + "T9000: \"y\"\nstart: T0",
            ),
        ),
        ("too long", Constraint::Regex("a".repeat(bounds::MAX_BYTES + 1))),
    ];
    for (name, constraint) in cases {
        let start = Instant::now();
        let outcome = write(&grammars, &constraint, 1, 40);
        let took = start.elapsed();
        // A generous bound for a slow and busy machine; without the bounds several of these take hours, or the process.
        assert!(took < Duration::from_secs(20), "{name}: {took:?}");
        if let Err(error) = outcome {
            assert!(matches!(error, Error::Constraint { .. }), "{name}: {error}");
        }
    }
}

#[test]
fn multiples_in_use_are_not_refused() {
    let check = |schema: Value| bounds::check(&Constraint::JsonSchema(schema)).unwrap();
    check(
        json!({ "properties": { "price": { "multipleOf": 0.01 }, "count": { "multipleOf": 12 }, "x": { "multipleOf": 0.5 } } }),
    );
    check(json!({ "type": "number", "multipleOf": 1e-9 }));
    check(json!({ "type": "number", "multipleOf": -3 }));
    // The name of a property is no keyword.
    check(json!({ "properties": { "multipleOf": { "type": "integer" } } }));
}

#[test]
fn what_was_compiled_is_kept() {
    let grammars = Grammars::new(tokenizer());
    let constraint = |index: usize| Constraint::Regex(format!("a{{{}}}", index + 1));
    for index in 0..KEPT + 3 {
        grammars.guide(&constraint(index), &[], false).unwrap();
    }
    assert!(grammars.kept(&constraint(0)).is_none());
    assert!(grammars.kept(&constraint(KEPT + 2)).is_some());
    assert_eq!(grammars.compiled.lock().unwrap().len(), KEPT);
}
