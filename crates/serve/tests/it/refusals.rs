//! What is refused, and how: every error has OpenAI's shape, a status, and the name of the parameter.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{CHAT, Reply, Server, TEXT, post};

/// The reply has this status and an error in OpenAI's shape whose message holds `message`.
#[track_caller]
fn check(reply: &Reply, status: u16, param: Value, message: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    let json = reply.json();
    let error = json["error"].as_object().unwrap_or_else(|| panic!("{reply:?}"));
    let mut keys: Vec<&String> = error.keys().collect();
    keys.sort();
    assert_eq!(keys, ["code", "message", "param", "type"]);
    assert!(error["type"].is_string());
    assert_eq!(error["param"], param, "{reply:?}");
    let found = error["message"].as_str().unwrap();
    assert!(found.contains(message), "{found:?} does not say {message:?}");
}

fn tool(name: &str, parameters: Value) -> Value {
    json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
}

fn strict(parameters: Value) -> Value {
    let mut tool = tool("s", parameters);
    tool["function"]["strict"] = true.into();
    tool
}

#[test]
fn wrong_parameters_are_refused_by_name() {
    let server = Server::start();
    let cases: &[(&str, Value, &str, &str)] = &[
        (CHAT, json!({ "messages": null }), "messages", "Missing required parameter"),
        (CHAT, json!({ "messages": "hi" }), "messages", "expected an array of messages, but got a string"),
        (CHAT, json!({ "messages": [] }), "messages", "empty array"),
        (CHAT, json!({ "messages": [1] }), "messages[0]", "expected an object, but got an integer"),
        (CHAT, json!({ "messages": [{ "content": "x" }] }), "messages[0].role", "Missing"),
        (CHAT, json!({ "messages": [{ "role": "king", "content": "x" }] }), "messages[0].role", "'king'"),
        (CHAT, json!({ "messages": [{ "role": "user" }] }), "messages[0].content", "Missing"),
        (
            CHAT,
            json!({ "messages": [{ "role": "user", "content": 5 }] }),
            "messages[0].content",
            "a string or",
        ),
        (
            CHAT,
            json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }] }),
            "messages[0].content[0].type",
            "text",
        ),
        (
            CHAT,
            json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": 1 }] }] }),
            "messages[0].content[0].text",
            "a string",
        ),
        (CHAT, json!({ "temperature": "hot" }), "temperature", "expected a number, but got a string"),
        (CHAT, json!({ "temperature": 2.5 }), "temperature", "<= 2, but got 2.5"),
        (CHAT, json!({ "temperature": -1 }), "temperature", ">= 0, but got -1"),
        (CHAT, json!({ "top_p": 1.01 }), "top_p", "<= 1"),
        (CHAT, json!({ "n": 0 }), "n", ">= 1"),
        (CHAT, json!({ "n": 1000 }), "n", "<= 128"),
        (CHAT, json!({ "n": 1.5 }), "n", "expected an integer, but got a decimal number"),
        (CHAT, json!({ "max_tokens": -1 }), "max_tokens", ">= 1"),
        (CHAT, json!({ "max_tokens": "all" }), "max_tokens", "expected an integer"),
        (CHAT, json!({ "max_completion_tokens": 4097 }), "messages", "maximum context length is 4096"),
        (CHAT, json!({ "stop": 3 }), "stop", "a string or an array of strings"),
        (CHAT, json!({ "stop": ["a", 3] }), "stop[1]", "a string"),
        (CHAT, json!({ "stop": vec!["a"; 17] }), "stop", "too long"),
        (CHAT, json!({ "stream": "yes" }), "stream", "a boolean"),
        (CHAT, json!({ "stream_options": { "include_usage": true } }), "stream_options", "only allowed when"),
        (CHAT, json!({ "seed": "x" }), "seed", "an integer"),
        (CHAT, json!({ "presence_penalty": 3 }), "presence_penalty", "<= 2"),
        (CHAT, json!({ "logit_bias": [] }), "logit_bias", "an object"),
        (CHAT, json!({ "logit_bias": { "fox": 1 } }), "logit_bias", "'fox'"),
        (CHAT, json!({ "logit_bias": { "99999": 1 } }), "logit_bias", "from 0 to 543"),
        (CHAT, json!({ "logit_bias": { "3": 101 } }), "logit_bias.3", "<= 100"),
        (CHAT, json!({ "logprobs": 2 }), "logprobs", "a boolean"),
        (CHAT, json!({ "top_logprobs": 2 }), "top_logprobs", "only allowed when"),
        (CHAT, json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs", "<= 20"),
        (CHAT, json!({ "functions": [{}] }), "functions", "by way of 'tools'"),
        (CHAT, json!({ "tools": {} }), "tools", "an array of tools"),
        (CHAT, json!({ "tools": [{ "type": "custom" }] }), "tools[0].type", "'custom'"),
        (CHAT, json!({ "tools": [{ "type": "function" }] }), "tools[0].function", "Missing"),
        (CHAT, json!({ "tools": [tool("a b", json!({}))] }), "tools[0].function.name", "'a b'"),
        (
            CHAT,
            json!({ "tools": [tool("a", json!({})), tool("a", json!({}))] }),
            "tools",
            "'a' is there twice",
        ),
        (CHAT, json!({ "tools": [tool("a", json!([]))] }), "tools[0].function.parameters", "an object"),
        (
            CHAT,
            json!({ "tools": [tool("a", json!({ "type": "array" }))] }),
            "tools[0].function.parameters",
            "\"array\"",
        ),
        (
            CHAT,
            json!({ "tools": [strict(json!({ "properties": { "x": { "type": "x" } } }))] }),
            "tools[0].function.parameters",
            "'s'",
        ),
        (CHAT, json!({ "tool_choice": "required" }), "tool_choice", "when 'tools' are specified"),
        (
            CHAT,
            json!({ "tool_choice": "always", "tools": [tool("a", json!({}))] }),
            "tool_choice",
            "'always'",
        ),
        (
            CHAT,
            json!({ "tool_choice": { "type": "function", "function": { "name": "b" } }, "tools": [tool("a", json!({}))] }),
            "tool_choice",
            "'b'",
        ),
        (
            CHAT,
            json!({ "messages": [{ "role": "tool", "content": "3" }] }),
            "messages[0].tool_call_id",
            "Missing",
        ),
        (CHAT, json!({ "messages": [{ "role": "assistant" }] }), "messages[0].content", "Missing"),
        (
            CHAT,
            json!({ "messages": [{ "role": "assistant", "tool_calls": [{ "function": { "name": "a" } }] }] }),
            "messages[0].tool_calls[0].function.arguments",
            "Missing",
        ),
        (CHAT, json!({ "response_format": {} }), "response_format.type", "Missing"),
        (CHAT, json!({ "response_format": { "type": "xml" } }), "response_format.type", "'xml'"),
        (
            CHAT,
            json!({ "response_format": { "type": "json_schema", "json_schema": {} } }),
            "response_format.json_schema.schema",
            "Missing",
        ),
        (
            CHAT,
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "thing" } } } }),
            "response_format",
            "thing",
        ),
        (
            TEXT,
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": { "not": {} } } } }),
            "response_format",
            "not",
        ),
        (TEXT, json!({ "guided_regex": "(" }), "guided_regex", "invalid regex"),
        (TEXT, json!({ "guided_grammar": "start: nobody" }), "guided_grammar", "nobody"),
        (TEXT, json!({ "structured_outputs": { "json": "{" } }), "structured_outputs.json", "not JSON"),
        (TEXT, json!({ "guided_regex": "a", "guided_json": {} }), "guided_regex", "Only one"),
        (
            CHAT,
            json!({ "guided_regex": "a", "tools": [tool("a", json!({}))] }),
            "guided_regex",
            "cannot be combined",
        ),
        (CHAT, json!({ "modalities": ["text", "audio"] }), "modalities", "text"),
        (CHAT, json!({ "audio": { "voice": "x" } }), "audio", "text"),
        (CHAT, json!({ "model": 1 }), "model", "a string"),
        (TEXT, json!({ "prompt": 1 }), "prompt", "an array of token arrays"),
        (TEXT, json!({ "prompt": [] }), "prompt", "empty array"),
        (TEXT, json!({ "prompt": [1, "x"] }), "prompt[1]", "a token number"),
        (TEXT, json!({ "prompt": [1, 544] }), "prompt", "token 544"),
        (TEXT, json!({ "prompt": [[1, -1]] }), "prompt[0][1]", "a token number"),
        (TEXT, json!({ "prompt": [true] }), "prompt[0]", "a string or an array of tokens"),
        (TEXT, json!({ "prompt": [[]] }), "prompt", "no token"),
        (TEXT, json!({ "prompt": vec!["a"; 129] }), "prompt", "129 answers"),
        (TEXT, json!({ "prompt": "a", "suffix": "b" }), "suffix", "does not insert"),
        (TEXT, json!({ "prompt": "a", "n": 3, "best_of": 2 }), "best_of", "less than 'n'"),
        (TEXT, json!({ "prompt": "a", "best_of": 2, "stream": true }), "best_of", "cannot be streamed"),
        (TEXT, json!({ "prompt": ["a", "b"], "best_of": 65 }), "prompt", "130 answers"),
        ("/tokenize", json!({}), "prompt", "Missing"),
        ("/detokenize", json!({ "tokens": "a" }), "tokens", "an array of tokens"),
        ("/detokenize", json!({ "tokens": [544] }), "tokens", "outside the vocabulary"),
        (TEXT, json!({ "prompt": "a", "echo": true, "max_tokens": 0 }), "max_tokens", ">= 1"),
        (TEXT, json!({ "prompt": "a", "logprobs": 1, "max_tokens": 0 }), "max_tokens", ">= 1"),
        (TEXT, json!({ "prompt": "a", "max_tokens": 5000 }), "prompt", "5002 tokens (2 in the prompt, 5000"),
    ];
    for (path, change, param, message) in cases {
        let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        check(&server.post(path, &body), 400, json!(param), message);
    }
}

#[test]
fn bodies_that_are_not_json_are_refused_with_the_place() {
    let server = Server::start();
    check(
        &server.post_text(CHAT, "{\"model\": \"parrot\",\n \"messages\": [}"),
        400,
        Value::Null,
        "line 2 column 15",
    );
    check(&server.post_text(CHAT, ""), 400, Value::Null, "line 1 column 0");
    check(&server.post_text(CHAT, "[1]"), 400, Value::Null, "must be a JSON object, but is an array");
    check(&server.post_text(TEXT, &"[".repeat(100_000)), 400, Value::Null, "recursion limit");
    check(&server.post_text(CHAT, "{\"a\": \"\\ud800\"}"), 400, Value::Null, "line 1");
    let mut bytes = post(CHAT, "", "{\"a\": \"xx\"}").into_bytes();
    let place = bytes.len() - 4;
    bytes[place] = 0xff;
    let mut stream = server.connect();
    std::io::Write::write_all(&mut stream, &bytes).unwrap();
    check(&Reply::read(stream), 400, Value::Null, "line 1 column");
}

#[test]
fn wrong_addresses_and_methods_are_refused() {
    let server = Server::start();
    check(&server.get("/v1/nothing"), 404, Value::Null, "GET /v1/nothing");
    check(&server.get("/v1/models/other"), 404, json!("model"), "'other' does not exist");
    check(&server.get(CHAT), 405, Value::Null, "GET /v1/chat/completions");
    check(&server.post_text("/healthz", "{}"), 405, Value::Null, "POST /healthz");
    let body = json!({ "model": "gpt-4", "messages": [{ "role": "user", "content": "hi" }] });
    check(&server.post(CHAT, &body), 404, json!("model"), "This server has 'parrot'");
}

#[test]
fn bodies_that_are_too_large_or_of_another_type_are_refused() {
    let server = Server::with(Duration::ZERO, |_, info| info.settings.max_body_bytes = 1000);
    let large = json!({ "messages": [{ "role": "user", "content": "x".repeat(2000) }] });
    check(&server.post(CHAT, &large), 413, Value::Null, "larger than 1000 bytes");
    let chunked = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\n7d0\r\n";
    let chunked = format!("{chunked}{}\r\n0\r\n\r\n", "x".repeat(2000));
    check(&server.send(&chunked), 413, Value::Null, "larger than 1000 bytes");
    let form = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    check(&server.send(form), 415, Value::Null, "Content-Type: application/json");
}

#[test]
fn a_body_that_never_comes_is_not_waited_for() {
    let server = Server::with(Duration::ZERO, |_, info| info.settings.body_timeout_seconds = 1);
    let mut stream = server.connect();
    let request = post(CHAT, "", "{\"messages\": []}");
    std::io::Write::write_all(&mut stream, &request.as_bytes()[..request.len() - 5]).unwrap();
    check(&Reply::read(stream), 408, Value::Null, "within 1 s");
}

#[test]
fn keys_are_asked_for_when_there_are_some() {
    let server =
        Server::with(Duration::ZERO, |_, info| info.api_keys = ["sesame", "simsim"].into_iter().collect());
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }], "temperature": 0 }).to_string();
    for wrong in [
        "",
        "Authorization: Bearer sesamo\r\n",
        "Authorization: Basic sesame\r\n",
        "Authorization: Bearer \r\n",
    ] {
        let reply = server.send(&post(CHAT, wrong, &body));
        check(&reply, 401, Value::Null, "API key");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    check(&server.get("/v1/models"), 401, Value::Null, "API key");
    assert_eq!(server.send(&post(CHAT, "Authorization: Bearer simsim\r\n", &body)).status, 200);
    assert_eq!((server.get("/healthz").status, server.get("/").status), (200, 200));
}

#[test]
fn other_origins_may_call_only_when_allowed() {
    let ask = |server: &Server, method: &str| {
        server.send(&format!(
            "{method} /v1/models HTTP/1.1\r\nHost: x\r\nOrigin: https://chat.example\r\nConnection: close\r\n\
             Access-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: authorization,x-stainless-os\r\n\r\n"
        ))
    };
    let closed = Server::start();
    assert_eq!(ask(&closed, "GET").header("access-control-allow-origin"), None);
    assert_eq!(ask(&closed, "OPTIONS").status, 405);
    let open = Server::with(Duration::ZERO, |_, info| {
        info.settings.allowed_origins = vec!["https://chat.example".into()];
        info.api_keys = ["sesame"].into_iter().collect();
    });
    // A preflight brings no key.
    let preflight = ask(&open, "OPTIONS");
    assert_eq!(preflight.status, 200);
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization,x-stainless-os"));
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("DELETE"));
    let refused = ask(&open, "GET");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://chat.example"));
}

#[test]
fn settings_that_cannot_work_keep_the_server_from_starting() {
    let mut info = serve::ServeInfo::new("parrot");
    info.settings.max_choices = 0;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let engine = crate::toy::engine(Duration::ZERO, engine::Settings::default());
    let refused = serve::run(listener, engine, info, std::future::pending()).unwrap_err();
    assert!(refused.to_string().contains("max_choices"), "{refused}");
}
