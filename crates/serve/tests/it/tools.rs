//! Tools and constrained answers over the wire. The parrot repeats the last message, so a message that is a call is
//! answered by a call; under a constraint it answers what it may, which at random must still be valid.

use serde_json::{Value, json};

use crate::client::{CHAT, Reply, Server, TEXT};
use crate::toy;

fn add() -> Value {
    let number = json!({ "type": "integer", "minimum": 0, "maximum": 99 });
    let parameters = json!({
        "type": "object",
        "properties": { "a": { "$ref": "#/$defs/number" }, "b": { "$ref": "#/$defs/number" } },
        "required": ["a", "b"],
        "additionalProperties": false,
        "$defs": { "number": number },
    });
    json!({ "type": "function", "function": { "name": "add", "description": "Adds.", "parameters": parameters } })
}

fn now() -> Value {
    json!({ "type": "function", "function": { "name": "now" } })
}

/// Asks with both tools. They are shown in the system message, so that the parrot repeats the question alone.
fn ask(server: &Server, content: &str, more: Value) -> Reply {
    let mut body = json!({
        "messages": [{ "role": "user", "content": content }],
        "temperature": 0,
        "tools": [add(), now()],
        "chat_template_kwargs": { "tools_in_user_message": false },
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post(CHAT, &body)
}

/// Message and reason of the first answer.
#[track_caller]
fn whole(reply: Reply) -> (Value, String) {
    let json = reply.json();
    assert_eq!(reply.status, 200, "{json}");
    let choice = &json["choices"][0];
    (choice["message"].clone(), choice["finish_reason"].as_str().unwrap().to_owned())
}

/// The same of a stream, put together as OpenAI's client does it.
#[track_caller]
fn streamed(reply: Reply) -> (Value, String) {
    assert_eq!(reply.status, 200);
    let (mut content, mut calls, mut reason) = (String::new(), Vec::<Value>::new(), String::new());
    for event in reply.events() {
        let choice = &event["choices"][0];
        content += choice["delta"]["content"].as_str().unwrap_or("");
        for part in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = part["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                // The name comes first, then the arguments in pieces.
                assert!(part["id"].as_str().unwrap().starts_with("call_"), "{part}");
                assert_eq!((&part["type"], &part["function"]["arguments"]), (&json!("function"), &json!("")));
                calls.push(part.clone());
                calls[index].as_object_mut().unwrap().remove("index");
            } else {
                assert_eq!(index, calls.len() - 1);
                assert!(part.get("id").is_none() && part["function"].get("name").is_none(), "{part}");
                let more = part["function"]["arguments"].as_str().unwrap();
                let arguments = calls[index]["function"]["arguments"].as_str().unwrap().to_owned() + more;
                calls[index]["function"]["arguments"] = arguments.into();
            }
        }
        reason = choice["finish_reason"].as_str().map_or(reason, str::to_owned);
    }
    let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
        if content.is_empty() {
            message["content"] = Value::Null;
        }
    }
    (message, reason)
}

/// Names and arguments of a message's calls; identifiers are all different.
fn calls(message: &Value) -> Vec<(String, String)> {
    let list = message["tool_calls"].as_array().cloned().unwrap_or_default();
    let mut ids: Vec<&str> = list.iter().map(|call| call["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), list.len());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.iter().map(|call| (text(&call["function"]["name"]), text(&call["function"]["arguments"]))).collect()
}

/// Whole and streamed alike.
#[track_caller]
fn both(server: &Server, content: &str, more: Value) -> (Value, String) {
    let (message, reason) = whole(ask(server, content, more.clone()));
    let mut streaming = more;
    streaming["stream"] = true.into();
    let (pieces, reason_of_pieces) = streamed(ask(server, content, streaming));
    assert_eq!((calls(&pieces), &reason_of_pieces), (calls(&message), &reason));
    assert_eq!(pieces["content"], message["content"]);
    (message, reason)
}

#[test]
fn a_model_that_calls_a_tool_is_understood() {
    let server = Server::start();
    let call = r#"{"name": "add", "parameters": {"a": 1, "b": 2}}"#;
    let (message, reason) = both(&server, call, json!({}));
    assert_eq!(reason, "tool_calls");
    assert_eq!(calls(&message), [("add".to_owned(), r#"{"a": 1, "b": 2}"#.to_owned())]);
    assert!(message["content"].is_null());
    assert_eq!(message["tool_calls"][0]["type"], "function");

    let two = format!("{call}; {}", r#"{"name": "now", "parameters": {}}"#);
    let (message, _) = both(&server, &two, json!({}));
    assert_eq!(calls(&message).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["add", "now"]);
    let (message, _) = both(&server, &two, json!({ "parallel_tool_calls": false }));
    assert_eq!(calls(&message).len(), 1);
    let (message, _) = both(&server, "<function=now>{}</function>", json!({ "logprobs": true }));
    assert_eq!(calls(&message), [("now".to_owned(), "{}".to_owned())]);

    // What is no call is text: another tool's name, broken JSON, a call in the midst of a sentence, no tools.
    for (text, more) in [
        (r#"{"name": "sub", "parameters": {}}"#, json!({})),
        (r#"{"name": "add", "parameters": {"a": }}"#, json!({})),
        (r#"See {"name": "now", "parameters": {}}"#, json!({})),
        ("the dog", json!({})),
        (call, json!({ "tool_choice": "none" })),
        (call, json!({ "tools": [], "chat_template_kwargs": null })),
    ] {
        let (message, reason) = both(&server, text, more);
        assert_eq!((message["content"].as_str(), reason.as_str()), (Some(text), "stop"));
        assert!(message.get("tool_calls").is_none(), "{message}");
    }
    // A call that is cut off has not been made.
    let (message, reason) = both(&server, call, json!({ "max_tokens": 20 }));
    assert_eq!((calls(&message).len(), reason.as_str()), (0, "length"));
}

#[test]
fn log_probabilities_cover_the_tokens_of_calls() {
    let server = Server::start();
    let call = r#"{"name": "now", "parameters": {}}"#;
    let mut more = json!({ "logprobs": true });
    let json = ask(&server, call, more.clone()).json();
    let tokens = json["choices"][0]["logprobs"]["content"].as_array().unwrap().len();
    assert_eq!(tokens, toy::tokenizer().encode(call).len());
    more["stream"] = true.into();
    let events = ask(&server, call, more).events();
    let count = |event: &Value| event["choices"][0]["logprobs"]["content"].as_array().map_or(0, Vec::len);
    assert_eq!(events.iter().map(count).sum::<usize>(), tokens);
}

#[test]
fn a_call_that_is_asked_for_is_made_and_valid() {
    let server = Server::start();
    let valid = |arguments: &str| {
        let value: Value = serde_json::from_str(arguments).unwrap();
        let in_range = |name: &str| value[name].as_u64().is_some_and(|number| number < 100);
        assert!(in_range("a") && in_range("b") && value.as_object().unwrap().len() == 2, "{arguments}");
    };
    let named = json!({ "type": "function", "function": { "name": "add" } });
    for seed in 0..6 {
        let random = json!({ "temperature": 2, "top_p": 1, "seed": seed });
        let with = |more: Value| {
            let mut all = random.clone();
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            all
        };
        let (message, reason) = both(&server, "the dog", with(json!({ "tool_choice": named })));
        assert_eq!((calls(&message).len(), reason.as_str()), (1, "tool_calls"));
        valid(&calls(&message)[0].1);

        let (message, reason) = both(&server, "the dog", with(json!({ "tool_choice": "required" })));
        assert_eq!(reason, "tool_calls");
        assert!((1..=16).contains(&calls(&message).len()) && message["content"].is_null(), "{message}");
        for (name, arguments) in calls(&message) {
            if name == "add" {
                valid(&arguments)
            } else {
                assert_eq!((name.as_str(), serde_json::from_str(&arguments).ok()), ("now", Some(json!({}))))
            }
        }
        let one = with(json!({ "tool_choice": "required", "parallel_tool_calls": false }));
        assert_eq!(calls(&both(&server, "the dog", one).0).len(), 1);
    }
}

#[test]
fn strict_tools_are_called_as_they_ask_or_not_at_all() {
    let server = Server::start();
    let mut strict = add();
    strict["function"]["strict"] = true.into();
    let more = json!({ "tools": [strict, now()] });
    let (message, reason) = both(&server, "the quick fox {", more.clone());
    assert_eq!((message["content"].as_str(), reason.as_str()), (Some("the quick fox {"), "stop"));
    let call = r#"{"name": "add", "parameters": {"a": 1, "b": 2}}"#;
    assert_eq!(calls(&both(&server, call, more.clone()).0)[0].1, r#"{"a": 1, "b": 2}"#);
    // Where the model would go astray it is led back.
    let astray = r#"{"name": "add", "parameters": {"a": 1, "c": 2}}"#;
    let (message, _) = both(&server, astray, more);
    let arguments: Value = serde_json::from_str(&calls(&message)[0].1).unwrap();
    assert!(arguments["b"].is_u64() && arguments.get("c").is_none(), "{arguments}");
}

#[test]
fn conversations_with_calls_and_results_are_read() {
    let server = Server::start();
    let made = json!([{ "id": "call_1", "type": "function", "function": { "name": "add", "arguments": "{\"a\": 1, \"b\": 2}" } }]);
    let messages = json!([
        { "role": "user", "content": "1 and 2?" },
        { "role": "assistant", "content": null, "tool_calls": made },
        { "role": "tool", "tool_call_id": "call_1", "content": [{ "type": "text", "text": "3" }] },
    ]);
    let reply = ask(&server, "", json!({ "messages": messages, "max_tokens": 5 }));
    // The result is JSON, as Meta's template has it.
    assert_eq!(whole(reply).0["content"], "\"3\"");
    let broken = json!([{ "function": { "name": "add", "arguments": "{\"a\": " } }]);
    let messages =
        json!([{ "role": "assistant", "tool_calls": broken }, { "role": "user", "content": "dog" }]);
    assert_eq!(whole(ask(&server, "", json!({ "messages": messages }))).0["content"], "dog");

    // The prompt is that of Llama 3.1's template.
    use tokenizer::chat::{Message, Preamble, Role, prompt_with};
    let preamble = Preamble { tools: vec![now()], date: Some("1 May 2025".into()), ..Preamble::default() };
    let tokenizer = toy::tokenizer();
    let expected = prompt_with(&tokenizer, &[Message::new(Role::User, "dog")], &preamble).len();
    let kwargs = json!({ "date_string": "1 May 2025" });
    let json =
        ask(&server, "dog", json!({ "tools": [now()], "chat_template_kwargs": kwargs, "max_tokens": 1 }))
            .json();
    assert_eq!(json["usage"]["prompt_tokens"], expected, "{json}");
}

#[test]
fn answers_keep_to_formats() {
    let server = Server::start();
    let schema = json!({
        "type": "object",
        "properties": { "colour": { "enum": ["red", "green"] }, "sizes": { "type": "array", "items": { "type": "integer", "maximum": 9, "minimum": 0 }, "maxItems": 3 } },
        "required": ["colour", "sizes"],
        "additionalProperties": false,
    });
    let tokenizer = toy::tokenizer();
    let bias: serde_json::Map<String, Value> =
        ["\"", "}", "]"].iter().map(|end| (tokenizer.encode(end)[0].to_string(), 6.into())).collect();
    let is_colours = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        ["red", "green"].contains(&value["colour"].as_str().unwrap())
            && value["sizes"].as_array().unwrap().len() <= 3
    };
    let is_object = |text: &str| serde_json::from_str::<Value>(text).unwrap().is_object();
    let is_code = |text: &str| text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_choice = |text: &str| ["the quick", "fox \"é\""].contains(&text);
    let choice = json!(["the quick", "fox \"é\""]);
    let grammar = "start: UPPER UPPER UPPER UPPER\nUPPER: /[A-Z]/";
    type Check<'a> = &'a dyn Fn(&str) -> bool;
    let cases: [(Value, Check); 11] = [
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "c", "strict": true, "schema": schema } } }),
            &is_colours,
        ),
        (json!({ "response_format": { "type": "json_object" } }), &is_object),
        (json!({ "guided_json": schema }), &is_colours),
        (json!({ "guided_json": schema.to_string() }), &is_colours),
        (json!({ "guided_regex": "[A-Z]{4}" }), &is_code),
        (json!({ "guided_grammar": grammar }), &is_code),
        (json!({ "guided_choice": choice }), &is_choice),
        (json!({ "structured_outputs": { "json": schema } }), &is_colours),
        (json!({ "structured_outputs": { "regex": "[A-Z]{4}" } }), &is_code),
        (json!({ "structured_outputs": { "choice": choice } }), &is_choice),
        (json!({ "structured_outputs": { "json_object": true } }), &is_object),
    ];
    for (more, check) in &cases {
        for seed in 0..3 {
            let mut body = json!({
                "messages": [{ "role": "user", "content": "the dog" }], "prompt": "the dog", "max_tokens": 900,
                "temperature": 2, "top_p": 1, "seed": seed, "logit_bias": bias,
            });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let (message, reason) = whole(server.post(CHAT, &body));
            let content = message["content"].as_str().unwrap();
            assert!(reason == "stop" && check(content), "{more}: {content:?}");
            let json = server.post(TEXT, &body).json();
            let text = json["choices"][0]["text"].as_str().unwrap_or_else(|| panic!("{more}: {json}"));
            assert!(json["choices"][0]["finish_reason"] == "stop" && check(text), "{more}: {text:?}");
            body["stream"] = true.into();
            assert_eq!(streamed(server.post(CHAT, &body)).0["content"], content);
        }
    }
    // With tools, an answer is of the format or calls.
    let more = json!({ "response_format": cases[0].0["response_format"] });
    let (message, _) = both(&server, r#"{"colour": "red", "sizes": []}"#, more.clone());
    let content = message["content"].as_str();
    assert!(content.is_some_and(is_colours), "{message}");
    let call = r#"{"name": "now", "parameters": {}}"#;
    let (message, _) = both(&server, call, more);
    assert_eq!(calls(&message), [("now".to_owned(), "{}".to_owned())]);
    let object = json!({ "response_format": { "type": "json_object" } });
    let bob = r#"{"name": "Bob", "name of the dog": {"a": [1]}}"#;
    assert_eq!(both(&server, bob, object.clone()).0["content"], bob);
    assert_eq!(calls(&both(&server, call, object).0).len(), 1);
}
