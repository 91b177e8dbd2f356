//! Answers cut into pieces in every way.

use proptest::prelude::*;

use super::*;

fn parser() -> CallParser {
    let tools = ["get_weather", "add"].map(str::to_owned).to_vec();
    CallParser::new(tools, vec!["brave_search".into(), CODE_INTERPRETER.into()])
}

/// The pieces with neighbours of a kind joined: `text`, `name(arguments`.
fn joined(pieces: Vec<Piece>) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut last_is_content = false;
    for piece in pieces {
        let is_content = matches!(piece, Piece::Content(_));
        match piece {
            Piece::Content(text) if last_is_content => joined.last_mut().unwrap().push_str(&text),
            Piece::Content(text) => joined.push(text),
            Piece::Call { name } => joined.push(format!("{name}(")),
            Piece::Arguments(text) => joined.last_mut().unwrap().push_str(&text),
        }
        last_is_content = is_content;
    }
    joined
}

const TAG: &str = "<|python_tag|>";

/// Feeds `text`, with the tag as a token of its own and a cut at every place where `cut` says so.
fn read(mut parser: CallParser, text: &str, cut: impl Fn(usize) -> bool) -> Vec<String> {
    let mut pieces = Vec::new();
    for (index, part) in text.split(TAG).enumerate() {
        if index > 0 {
            pieces.extend(parser.push_tag());
        }
        let mut start = 0;
        for (place, _) in part.char_indices().skip(1) {
            if cut(place) {
                pieces.extend(parser.push(&part[start..place]));
                start = place;
            }
        }
        pieces.extend(parser.push(&part[start..]));
    }
    pieces.extend(parser.finish());
    joined(pieces)
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    for step in [1, 2, 3, 7, usize::MAX] {
        assert_eq!(read(parser(), text, |place| place % step == 0), expected, "{text:?} in steps of {step}");
    }
}

#[test]
fn lists_of_python_calls_are_calls() {
    let list = r#"[get_weather(city="São [Paulo]", days=[1, 2]), add(a=1, b=-2.5)]"#;
    let called = [r#"get_weather({"city":"São [Paulo]","days":[1,2]}"#, r#"add({"a":1,"b":-2.5}"#];
    check(list, &called);
    check(&format!("{TAG}\n{list}\n"), &called);
    check("[add()]", &["add({}"]);
    check("[add(a=1)]; [add(a=2)]", &[r#"add({"a":1}"#, r#"add({"a":2}"#]);
    check("[add(a=1)] is it.", &[r#"add({"a":1}"#, " is it."]);
    for text in [
        "[1, 2, 3]",
        "[subtract(a=1)]",
        "[add(1, 2)]",
        "[add(a=1",
        "[add](x)",
        "[add(a=x)]",
        "[",
        "see [add(a=1)]",
    ] {
        check(text, &[text]);
    }
    // Behind the tag it is a program.
    check(&format!("{TAG}[x for x in [1]]"), &[r#"code_interpreter({"code":"[x for x in [1]]"}"#]);
    // A constraint allows a list as an answer, not as a call.
    assert_eq!(read(parser().certain(), "[add(a=1)]", |_| true), ["[add(a=1)]"]);
}

#[test]
fn calls_are_found_in_all_of_llamas_forms() {
    let weather =
        r#"{"name": "get_weather", "parameters": {"city": "São \"Paulo\"", "days": [1, {"a": "}"}]}}"#;
    let called = r#"get_weather({"city": "São \"Paulo\"", "days": [1, {"a": "}"}]}"#;
    check(weather, &[called]);
    check(&format!("\n {weather} \n"), &[called]);
    check(&format!("{TAG}{weather}"), &[called]);
    check(r#"{"type": "function", "name": "add", "parameters": {}}"#, &["add({}"]);
    check(r#"{"parameters":{"a":1},"name":"add"}"#, &[r#"add({"a":1}"#]);
    check(r#"{"name": "add", "arguments": { "a" : 1 } }"#, &[r#"add({ "a" : 1 }"#]);
    check(r#"<function=add>{"a": 1}</function>"#, &[r#"add({"a": 1}"#]);
    check(r#"<function=add> {"a": 1}"#, &[r#"add({"a": 1}"#]);
    check(
        &format!(r#"{TAG}brave_search.call(query="is it {{1}}, or 2?")"#),
        &[r#"brave_search({"query":"is it {1}, or 2?"}"#],
    );
    check(
        &format!("{TAG}import math\nprint({{1}})"),
        &[r#"code_interpreter({"code":"import math\nprint({1})"}"#],
    );
}

#[test]
fn several_calls_follow_one_another() {
    let add = |number: u32| format!(r#"{{"name": "add", "parameters": {{"a": {number}}}}}"#);
    let called = [r#"add({"a": 1}"#, r#"add({"a": 2}"#];
    for between in ["; ", ";", "\n", ", ", "", "\n\n;\n"] {
        check(&format!("{}{between}{}", add(1), add(2)), &called);
    }
    check(
        &format!("<function=add>{{}}</function><function=add>{{}}</function>{}", add(1)),
        &["add({}", "add({}", called[0]],
    );
    check(&format!("{}{TAG}{}", add(1), add(2)), &called);
    check(&format!("{} That is it.", add(1)), &[called[0], " That is it."]);
}

#[test]
fn what_is_no_call_is_text() {
    for text in [
        "",
        " ",
        "Hello.",
        "  indented",
        "{",
        "{}",
        "{ }",
        "[1]",
        "<",
        "<function",
        "<function=add",
        "<function=add>",
        "<function=other>{}</function>",
        "<function=add>[1]</function>",
        "<function=add>{\"a\": tru}</function>",
        "<fun>",
        "{\"a\": 1}",
        "{{}}",
        "{\"name\"}",
        "{\"name\" \"add\"}",
        r#"{"name": "Bob", "age": 3}"#,
        r#"{"name": "nobody", "parameters": {}}"#,
        r#"{"name": "add"}"#,
        r#"{"name": "add", "parameters": 3}"#,
        r#"{"name": "add", "parameters": {"a": tru}}"#,
        r#"{"name": "add", "parameters": {"a": 1}"#,
        r#"{"name": "add", "parameters": {}, "parameters": {}}"#,
        r#"{"name": "add", "parameters": {}, "more": 1}"#,
        r#"{"parameters": {}}"#,
        "One: {\"name\": \"add\", \"parameters\": {}}",
        "{\"name\": 3, \"parameters\": {}}",
    ] {
        check(text, if text.is_empty() { &[] } else { std::slice::from_ref(&text) });
    }
    // A tag promises a call; where there are no built-in tools, what follows is text all the same.
    let plain = || CallParser::new(vec!["add".into()], Vec::new());
    assert_eq!(read(plain(), &format!("So: {TAG}print(1)"), |_| true), ["So: print(1)"]);
    assert_eq!(
        read(plain(), &format!("{TAG}brave_search.call(query=\"x\")"), |_| true),
        ["brave_search.call(query=\"x\")"]
    );
}

#[test]
fn text_that_cannot_be_a_call_is_not_held_back() {
    let mut parser = parser();
    assert_eq!(parser.push("He"), [Piece::Content("He".into())]);
    assert_eq!(parser.push("llo {"), [Piece::Content("llo {".into())]);
    let mut parser = self::parser();
    assert_eq!(parser.push("{\"na"), []);
    assert_eq!(parser.push("med\": [1, "), [Piece::Content("{\"named\": [1, ".into())]);
}

#[test]
fn certain_calls_come_piece_by_piece() {
    let mut parser = parser().certain();
    assert_eq!(parser.push("{\"name\": \"add\", \"parame"), []);
    let call = Piece::Call { name: "add".into() };
    assert_eq!(parser.push("ters\": {\"a\""), [call.clone(), Piece::Arguments("{\"a\"".into())]);
    assert_eq!(parser.push(": 1"), [Piece::Arguments(": 1".into())]);
    assert_eq!(
        parser.push("}}; {\"name\": \"add\", \"parameters\": {"),
        [Piece::Arguments("}".into()), call, Piece::Arguments("{".into()),]
    );
    // Cut off by a limit: what there is has been given.
    assert_eq!(parser.push("\"b"), [Piece::Arguments("\"b".into())]);
    assert_eq!(
        parser.finish().into_iter().filter(|piece| *piece != Piece::Arguments(String::new())).count(),
        0
    );
    assert!(parser.called());
}

proptest! {
    /// However an answer is cut, it means the same; and what is no call comes back as it was.
    #[test]
    fn the_cuts_do_not_matter(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "\"", "\\", ":", ",", ";", " ", "name", "\"name\": \"add\"", "\"parameters\": ", "{\"a\": 1}", "é", "<function=", "add>", "</function>",
            "{\"name\": \"add\", \"parameters\": {\"a\": 1}}",
            "[add(a=", "[add(b=\"x\")]", "=1", ")", "]",
        ]), 0..12),
        mask in any::<u64>(),
        certain in any::<bool>(),
    ) {
        let text: String = parts.concat();
        let whole = read(parser(), &text, |_| false);
        prop_assert_eq!(&read(parser(), &text, |place| mask >> (place % 64) & 1 == 1), &whole);
        let calls = whole.iter().filter(|part| part.starts_with("add({")).count();
        if calls == 0 {
            prop_assert_eq!(whole.concat(), text.as_str());
        } else if !text.contains("[add(") {
            // Each call stands in the text with its arguments, and so does the rest. (Those of Python are not JSON.)
            let mut left = text.as_str();
            for part in &whole {
                let part = part.strip_prefix("add(").unwrap_or(part);
                let place = left.find(part);
                prop_assert!(place.is_some(), "{:?} is not in {:?}", part, left);
                left = &left[place.unwrap() + part.len()..];
            }
            prop_assert!(left.chars().all(|c| "}; ,</function>\n".contains(c)), "{:?} is left of {:?}", left, text);
        }
        if certain {
            let mut parser = parser().certain();
            let mut pieces = parser.push(&text);
            pieces.extend(parser.finish());
            if calls == 0 && !parser.called() {
                prop_assert_eq!(joined(pieces).concat(), text);
            }
        }
    }
}
