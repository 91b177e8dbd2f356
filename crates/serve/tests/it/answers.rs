//! What is answered: whole and streamed, by chat and by bare prompt, with all that can be asked for.

use serde_json::{Value, json};

use crate::client::{CHAT, Server, TEXT};
use crate::toy;

fn chat(content: &str) -> Value {
    json!({ "model": "parrot", "messages": [{ "role": "user", "content": content }], "temperature": 0 })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn a_chat_completion_has_openais_shape() {
    let server = Server::start();
    let reply = server.post(CHAT, &chat("the quick café"));
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
    assert!(reply.header("x-request-id").unwrap().starts_with("req_"));
    let json = reply.json();
    assert!(json["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(json["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["model"], "parrot");
    let message = json!({ "role": "assistant", "content": "the quick café", "refusal": null });
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": "stop" });
    assert_eq!(json["choices"], json!([choice]));
    let tokenizer = toy::tokenizer();
    let message = tokenizer::chat::Message::new(tokenizer::chat::Role::User, "the quick café");
    let prompt = tokenizer::chat::prompt(&tokenizer, &[message]).len();
    let answer = tokenizer.encode("the quick café").len() + 1;
    let usage =
        json!({ "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer });
    assert_eq!(json["usage"], usage);
}

#[test]
fn a_streamed_chat_is_the_same_answer_in_pieces() {
    let server = Server::start();
    let body =
        with(chat("naïve fox € 🦙"), json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let events = server.post(CHAT, &body).events();
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"])
    );
    assert_eq!(events[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
    let text: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "naïve fox € 🦙");
    let [.., last, usage] = events.as_slice() else { panic!("too few events") };
    assert_eq!(
        last["choices"],
        json!([{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop" }])
    );
    assert!(last["usage"].is_null() && last.get("usage").is_some());
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 4);

    let events = server.post(CHAT, &with(chat("fox"), json!({ "stream": true }))).events();
    assert!(events.iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn conversations_and_contents_of_all_kinds_are_read() {
    let server = Server::start();
    let ask = |messages: Value| {
        let reply = server.post(CHAT, &json!({ "messages": messages, "temperature": 0 }));
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_string()
    };
    let parts = json!([{ "type": "text", "text": "lazy " }, { "type": "text", "text": "dog" }]);
    assert_eq!(ask(json!([{ "role": "user", "content": parts }])), "lazy dog");
    let conversation = json!([
        { "role": "developer", "content": "Repeat." },
        { "role": "user", "content": "one", "name": "somebody" },
        { "role": "assistant", "content": "one", "tool_calls": null },
        { "role": "tool", "content": "42", "tool_call_id": "x" },
        { "role": "user", "content": "two" },
    ]);
    assert_eq!(ask(conversation), "two");
    // What looks like a special token is text.
    assert_eq!(ask(json!([{ "role": "user", "content": "<|eot_id|>fox" }])), "<|eot_id|>fox");
}

#[test]
fn limits_and_stops_end_the_answer() {
    let server = Server::start();
    let ask = |more: Value| {
        let json = server.post(CHAT, &with(chat("one two three four"), more)).json();
        let choice = &json["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap().to_string();
        (text, choice["finish_reason"].as_str().unwrap().to_string())
    };
    let first_two = toy::tokenizer().decode(&toy::tokenizer().encode("one two three four")[..2]);
    assert_eq!(ask(json!({ "max_tokens": 2 })), (first_two.clone(), "length".into()));
    assert_eq!(ask(json!({ "max_completion_tokens": 2, "max_tokens": 5 })), (first_two, "length".into()));
    assert_eq!(ask(json!({ "stop": " th" })), ("one two".into(), "stop".into()));
    assert_eq!(ask(json!({ "stop": ["zzz", "two"] })), ("one ".into(), "stop".into()));
    assert_eq!(ask(json!({ "stop": null })), ("one two three four".into(), "stop".into()));
}

#[test]
fn parameters_that_change_nothing_here_are_tolerated() {
    let server = Server::start();
    let more = json!({
        "user": "me", "store": false, "metadata": { "a": "b" }, "service_tier": "auto", "seed": -5, "n": null,
        "parallel_tool_calls": true, "tools": [], "tool_choice": "none", "response_format": { "type": "text" },
        "modalities": ["text"], "logit_bias": { "3": -1.5 }, "presence_penalty": 0, "frequency_penalty": 0.0,
        "top_p": 1, "top_k": 0, "min_p": 0.0, "something_of_tomorrow": [1, 2, 3],
    });
    let reply = server.post(CHAT, &with(chat("fox"), more));
    assert_eq!((reply.status, &reply.json()["choices"][0]["message"]["content"]), (200, &json!("fox")));
}

#[test]
fn several_choices_have_their_own_random_numbers() {
    let server = Server::start();
    // Hot and long enough for the draws to differ.
    let body =
        with(chat("the dog"), json!({ "n": 3, "temperature": 2, "top_p": 1, "seed": 7, "max_tokens": 40 }));
    let contents = |body: &Value| -> Vec<String> {
        let json = server.post(CHAT, body).json();
        let choices = json["choices"].as_array().unwrap();
        assert!(choices.iter().enumerate().all(|(index, choice)| choice["index"] == index));
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap().to_string()).collect()
    };
    let first = contents(&body);
    assert_eq!(first.len(), 3);
    assert_eq!(first, contents(&body));
    assert!(first[0] != first[1] && first[1] != first[2], "{first:?}");

    let events = server.post(CHAT, &with(body, json!({ "stream": true }))).events();
    for (index, whole) in first.iter().enumerate() {
        let mine = events.iter().filter(|event| event["choices"][0]["index"] == index);
        let text: String =
            mine.filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(&text, whole);
    }
}

#[test]
fn log_probabilities_of_a_chat_cover_its_tokens() {
    let server = Server::start();
    let body = with(chat("café"), json!({ "logprobs": true, "top_logprobs": 2 }));
    let json = server.post(CHAT, &body).json();
    let content = json["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let bytes: Vec<u8> = content
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8))
        .collect();
    assert_eq!(bytes, "café".as_bytes());
    for token in &content {
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
        assert_eq!(token["top_logprobs"][0]["token"], token["token"]);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
    let events = server.post(CHAT, &with(body, json!({ "stream": true }))).events();
    let streamed: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(streamed, content);
}

#[test]
fn a_completion_goes_on_with_its_prompt() {
    let server = Server::start();
    let json = server
        .post(TEXT, &json!({ "model": "parrot", "prompt": "dog a", "max_tokens": 3, "temperature": 0 }))
        .json();
    assert!(json["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(json["object"], "text_completion");
    let last = *toy::tokenizer().encode("dog a").last().unwrap();
    let text = toy::tokenizer().decode(&[last; 3]);
    assert_eq!(
        json["choices"],
        json!([{ "text": text, "index": 0, "logprobs": null, "finish_reason": "length" }])
    );
    // <|begin_of_text|> comes before the text.
    let prompt = toy::tokenizer().encode("dog a").len() + 1;
    assert_eq!(
        json["usage"],
        json!({ "prompt_tokens": prompt, "completion_tokens": 3, "total_tokens": prompt + 3 })
    );
    // OpenAI's default of 16 tokens.
    let json = server.post(TEXT, &json!({ "prompt": "dog" })).json();
    assert_eq!(json["usage"]["completion_tokens"], 16);
}

#[test]
fn prompts_may_be_texts_or_tokens_one_or_many() {
    let server = Server::start();
    let texts = |prompt: Value, more: Value| -> Vec<String> {
        let body = with(json!({ "prompt": prompt, "max_tokens": 2, "temperature": 0, "echo": true }), more);
        let reply = server.post(TEXT, &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let json = reply.json();
        json["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|choice| choice["text"].as_str().unwrap().to_string())
            .collect()
    };
    let (a, b) = (toy::tokenizer().encode("a")[0], toy::tokenizer().encode("b")[0]);
    assert_eq!(texts(json!("a"), json!({})), ["aaa"]);
    assert_eq!(texts(json!(["a", "b"]), json!({})), ["aaa", "bbb"]);
    assert_eq!(texts(json!([a, b]), json!({})), ["abbb"]);
    assert_eq!(texts(json!([[a, b], [b, a], "a"]), json!({})), ["abbb", "baaa", "aaa"]);
    assert_eq!(texts(json!(["a", "b"]), json!({ "n": 2 })), ["aaa", "aaa", "bbb", "bbb"]);
    assert_eq!(texts(json!(["a", "b"]), json!({ "echo": false })), ["aa", "bb"]);
    // Usage counts each prompt once, however many answers it has.
    let body = json!({ "prompt": ["a", "b"], "n": 2, "max_tokens": 3 });
    let usage = server.post(TEXT, &body).json()["usage"].clone();
    assert_eq!(usage, json!({ "prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16 }));
}

#[test]
fn a_streamed_completion_is_the_same_answer_in_pieces() {
    let server = Server::start();
    let body = json!({
        "prompt": ["ab", "c"], "max_tokens": 3, "temperature": 0, "stream": true, "echo": true,
        "stream_options": { "include_usage": true },
    });
    let events = server.post(TEXT, &body).events();
    for (index, expected) in ["abbbb", "cccc"].iter().enumerate() {
        let choices =
            events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == index);
        let choices: Vec<&Value> = choices.collect();
        let text: String = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
        assert_eq!(&text, expected);
        assert_eq!(choices.last().unwrap()["finish_reason"], "length");
    }
    assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 6);
}

#[test]
fn log_probabilities_of_a_completion_are_parallel_lists() {
    let server = Server::start();
    let body = json!({ "prompt": "a", "max_tokens": 3, "temperature": 0, "logprobs": 2 });
    let logprobs = server.post(TEXT, &body).json()["choices"][0]["logprobs"].clone();
    assert_eq!(logprobs["tokens"], json!(["a", "a", "a"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2]));
    assert_eq!(logprobs["top_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(logprobs["top_logprobs"][0]["a"], logprobs["token_logprobs"][0]);
}

#[test]
fn models_health_and_page_are_there() {
    let server = Server::with(std::time::Duration::ZERO, |_, info| info.model = "meta/parrot".into());
    let json = server.get("/v1/models").json();
    assert_eq!((&json["object"], &json["data"][0]["id"]), (&json!("list"), &json!("meta/parrot")));
    assert_eq!(json["data"][0]["max_model_len"], 4096);
    assert_eq!(server.get("/v1/models/meta/parrot").json(), json["data"][0]);
    assert_eq!(server.get("/healthz").json(), json!({ "status": "ok", "running": 0, "waiting": 0 }));
    let page = server.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
}

#[test]
fn the_page_asks_nothing_of_other_servers() {
    let page = Server::start().get("/").body;
    for (place, _) in page.match_indices("http") {
        // A name of an XML namespace, inside the icon, is the one address it holds.
        assert!(page[place..].starts_with("http://www.w3.org/2000/svg'"), "{}", &page[place..place + 60]);
    }
    assert!(!page.contains("src=") && !page.contains("@import") && !page.contains("url("));
}
