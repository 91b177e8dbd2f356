//! The Responses API: items in and out, what is remembered, and the events of a stream in their order.

use serde_json::{Value, json};

use crate::client::{Reply, Server};

const RESPONSES: &str = "/v1/responses";

fn delete(server: &Server, path: &str) -> Reply {
    server.send(&format!("DELETE {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

fn text(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{response}"))
}

/// Events of a stream: the names of the lines, which must be those of the data, and the data.
#[track_caller]
fn events(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let event = |event: &str| {
        let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name);
        data
    };
    reply.body.split_terminator("\n\n").map(event).collect()
}

#[test]
fn a_text_is_answered_with_an_item_that_can_be_asked_for_again() {
    let server = Server::start();
    let reply = server.post(
        RESPONSES,
        &json!({ "model": "parrot", "input": "the dog", "temperature": 0, "metadata": { "a": "b" } }),
    );
    let response = reply.json();
    assert_eq!(reply.status, 200, "{response}");
    assert_eq!(text(&response), "the dog");
    for (key, value) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("model", json!("parrot")),
        ("store", json!(true)),
        ("metadata", json!({ "a": "b" })),
        ("top_p", json!(0.9)),
        ("temperature", json!(0.0)),
    ] {
        assert_eq!(response[key], value, "{key}");
    }
    let message = &response["output"][0];
    assert_eq!((&message["type"], &message["role"]), (&json!("message"), &json!("assistant")));
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    let usage = &response["usage"];
    let sum = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    let path = format!("{RESPONSES}/{}", response["id"].as_str().unwrap());
    assert_eq!(server.get(&path).json(), response);
    let deleted = delete(&server, &path).json();
    assert_eq!((&deleted["id"], &deleted["deleted"]), (&response["id"], &json!(true)));
    for gone in [server.get(&path), delete(&server, &path)] {
        assert_eq!((gone.status, &gone.json()["error"]["code"]), (404, &json!("response_not_found")));
    }
}

#[test]
fn a_turn_continues_the_one_before_without_its_instructions() {
    let server = Server::start();
    let turn = |body: Value| server.post(RESPONSES, &body).json();
    let first =
        turn(json!({ "input": "the fox", "instructions": "the lazy dog sleeps on", "temperature": 0 }));
    let second = turn(json!({ "input": "the dog", "previous_response_id": first["id"], "temperature": 0 }));
    assert_eq!((text(&second), &second["previous_response_id"]), ("the dog", &first["id"]));
    // As many tokens as the same conversation without instructions, written out.
    let whole = json!([
        { "role": "user", "content": "the fox" },
        first["output"][0],
        { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "the dog" }] },
    ]);
    let written_out = turn(json!({ "input": whole, "temperature": 0, "store": false }));
    assert_eq!(written_out["usage"]["input_tokens"], second["usage"]["input_tokens"]);
    // What was not to be stored cannot be continued, nor what never was.
    for id in [written_out["id"].clone(), json!("resp_none")] {
        let refused = server.post(RESPONSES, &json!({ "input": "x", "previous_response_id": id }));
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!("previous_response_id"))
        );
    }
}

#[test]
fn the_store_forgets_the_oldest() {
    let server = Server::with(std::time::Duration::ZERO, |_, info| info.settings.max_stored_responses = 2);
    let ids: Vec<String> = (0..3)
        .map(|_| {
            server.post(RESPONSES, &json!({ "input": "the fox" })).json()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let found: Vec<u16> = ids.iter().map(|id| server.get(&format!("{RESPONSES}/{id}")).status).collect();
    assert_eq!(found, [404, 200, 200]);
}

#[test]
fn a_stream_has_its_events_in_order_and_ends_with_the_whole() {
    let server = Server::start();
    for (limit, status) in [(50, "completed"), (2, "incomplete")] {
        let body =
            json!({ "input": "the quick fox", "temperature": 0, "stream": true, "max_output_tokens": limit });
        let reply = server.post(RESPONSES, &body);
        let events = events(&reply);
        let numbers: Vec<u64> =
            events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
        let mut names: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        names.dedup();
        assert_eq!(
            names,
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                &format!("response.{status}"),
            ]
        );
        let of = |name: &'static str| events.iter().filter(move |event| event["type"] == name);
        let deltas: String =
            of("response.output_text.delta").map(|event| event["delta"].as_str().unwrap()).collect();
        let response = &events.last().unwrap()["response"];
        assert_eq!(text(response), deltas);
        assert_eq!(of("response.output_text.done").next().unwrap()["text"], deltas.as_str());
        assert_eq!(of("response.output_item.done").next().unwrap()["item"], response["output"][0]);
        let item = &response["output"][0]["id"];
        assert!(of("response.output_text.delta").all(|event| &event["item_id"] == item));
        assert_eq!(response["status"], status);
        let details =
            if status == "incomplete" { json!({ "reason": "max_output_tokens" }) } else { Value::Null };
        assert_eq!(response["incomplete_details"], details);
        assert!(events[..2].iter().all(|event| event["response"]["status"] == "in_progress"));
        let path = format!("{RESPONSES}/{}", response["id"].as_str().unwrap());
        assert_eq!(&server.get(&path).json(), response);
    }
}

#[test]
fn log_probabilities_come_when_they_are_included() {
    let server = Server::start();
    let body = json!({
        "input": "the fox", "temperature": 0, "include": ["message.output_text.logprobs"], "top_logprobs": 2,
    });
    let response = server.post(RESPONSES, &body).json();
    let logprobs = response["output"][0]["content"][0]["logprobs"].as_array().unwrap();
    let joined: String = logprobs.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(joined, "the fox");
    assert!(logprobs.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
}

fn add() -> Value {
    let number = json!({ "type": "integer", "minimum": 0, "maximum": 99 });
    let parameters = json!({
        "type": "object", "properties": { "a": number, "b": number }, "required": ["a", "b"],
        "additionalProperties": false,
    });
    json!({ "type": "function", "name": "add", "description": "Adds.", "parameters": parameters, "strict": false })
}

/// Asks with a tool. It is shown in the system message, so that the parrot repeats the question alone.
fn asking(input: Value, more: Value) -> Value {
    let mut body = json!({
        "input": input, "temperature": 0, "tools": [add()],
        "chat_template_kwargs": { "tools_in_user_message": false },
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

const CALL: &str = r#"{"name": "add", "parameters": {"a": 1, "b": 2}}"#;

/// Without what is new in each response.
fn plain(item: &Value) -> Value {
    let mut item = item.clone();
    item.as_object_mut().unwrap().retain(|name, _| !["id", "call_id"].contains(&name.as_str()));
    item
}

#[test]
fn calls_are_items_of_their_own_and_their_results_go_on() {
    let server = Server::start();
    let first = server.post(RESPONSES, &asking(json!(CALL), json!({}))).json();
    let call = &first["output"][0];
    let wanted = json!({
        "type": "function_call", "status": "completed", "name": "add", "arguments": r#"{"a": 1, "b": 2}"#,
    });
    assert_eq!((first["output"].as_array().unwrap().len(), plain(call)), (1, wanted.clone()));
    assert!(call["id"].as_str().unwrap().starts_with("fc_"), "{call}");
    assert!(call["call_id"].as_str().unwrap().starts_with("call_"), "{call}");
    assert_eq!((&first["tools"], &first["tool_choice"]), (&json!([add()]), &json!("auto")));
    // Two at once, and text that is none.
    let two = server.post(RESPONSES, &asking(json!(format!("{CALL}; {CALL}")), json!({}))).json();
    assert_eq!(
        two["output"].as_array().unwrap().iter().map(plain).collect::<Vec<_>>(),
        [wanted.clone(), wanted]
    );
    let one = asking(json!(format!("{CALL}; {CALL}")), json!({ "parallel_tool_calls": false }));
    assert_eq!(server.post(RESPONSES, &one).json()["output"].as_array().unwrap().len(), 1);
    let none = server.post(RESPONSES, &asking(json!(CALL), json!({ "tool_choice": "none" }))).json();
    assert_eq!(text(&none), CALL);
    // The result, after the response that is stored and after its items sent again: the same prompt.
    let result = json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "3" });
    let thanks = json!({ "role": "user", "content": "the dog" });
    let stored = asking(json!([result, thanks]), json!({ "previous_response_id": first["id"] }));
    let question = json!({ "role": "user", "content": CALL });
    let sent = asking(json!([question, call, result, thanks]), json!({}));
    let replies = [stored, sent].map(|body| server.post(RESPONSES, &body).json());
    assert_eq!(replies.each_ref().map(text), ["the dog", "the dog"]);
    assert_eq!(replies[0]["usage"]["input_tokens"], replies[1]["usage"]["input_tokens"]);
    assert!(replies[0]["usage"]["input_tokens"].as_u64() > first["usage"]["input_tokens"].as_u64());
}

#[test]
fn a_stream_tells_of_each_item_from_its_beginning_to_its_end() {
    let server = Server::start();
    let names = |events: &[Value]| -> Vec<String> {
        let mut names: Vec<String> =
            events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
        // Pieces come as the tokens do.
        names.dedup();
        names.iter().map(|name| name.strip_prefix("response.").unwrap().to_owned()).collect()
    };
    let call = [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ];
    let two = format!("{CALL}; {CALL}");
    for (question, inside, choice) in [
        (CALL, call.to_vec(), "auto"),
        (&two, [call, call].concat(), "auto"),
        (CALL, call.to_vec(), "required"),
        (
            "the dog",
            vec![
                "output_item.added",
                "content_part.added",
                "output_text.delta",
                "output_text.done",
                "content_part.done",
                "output_item.done",
            ],
            "auto",
        ),
    ] {
        let more = json!({ "tool_choice": choice, "max_output_tokens": 300 });
        let whole = server.post(RESPONSES, &asking(json!(question), more.clone())).json();
        let mut body = asking(json!(question), more);
        body["stream"] = true.into();
        let events = events(&server.post(RESPONSES, &body));
        if choice == "auto" {
            assert_eq!(
                names(&events),
                [&["created", "in_progress"], &inside[..], &["completed"]].concat(),
                "{question}"
            );
        }
        assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == number));
        let output = events.last().unwrap()["response"]["output"].as_array().unwrap().clone();
        let wanted = whole["output"].as_array().unwrap();
        assert_eq!(
            output.iter().map(plain).collect::<Vec<_>>(),
            wanted.iter().map(plain).collect::<Vec<_>>()
        );
        // Pieces make up the whole, item by item, under the identifiers that were told at their beginning.
        for (index, item) in output.iter().enumerate() {
            let of_item = |kind: &str| -> Vec<&Value> {
                let name = format!("response.{kind}");
                events
                    .iter()
                    .filter(|event| event["type"] == *name && event["output_index"] == index)
                    .collect()
            };
            assert_eq!(of_item("output_item.added")[0]["item"]["id"], item["id"]);
            assert_eq!(of_item("output_item.done")[0]["item"], *item);
            let is_call = item["type"] == "function_call";
            let deltas = of_item(if is_call { "function_call_arguments.delta" } else { "output_text.delta" });
            assert!(deltas.iter().all(|event| event["item_id"] == item["id"]));
            let joined: String = deltas.iter().map(|event| event["delta"].as_str().unwrap()).collect();
            if is_call {
                assert_eq!(item["arguments"], joined);
                assert_eq!(of_item("function_call_arguments.done")[0]["arguments"], joined);
            } else {
                assert_eq!(item["content"][0]["text"], joined);
            }
        }
    }
}

#[test]
fn scores_of_tokens_stand_beside_their_text_and_not_beside_calls() {
    let server = Server::start();
    let more = json!({ "include": ["message.output_text.logprobs"] });
    let said = server.post(RESPONSES, &asking(json!("{the dog"), more.clone())).json();
    let joined: String = said["output"][0]["content"][0]["logprobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| token["token"].as_str().unwrap())
        .collect();
    assert_eq!(joined, "{the dog");
    let called = server.post(RESPONSES, &asking(json!(CALL), more)).json();
    assert_eq!(called["output"][0]["type"], "function_call");
}

#[test]
fn wrong_requests_are_refused_by_name() {
    let server = Server::start();
    let cases = [
        (json!({}), "input"),
        (json!({ "input": 3 }), "input"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": [3] }), "input[0]"),
        (json!({ "input": [{ "role": "king", "content": "x" }] }), "input[0].role"),
        (json!({ "input": [{ "role": "user" }] }), "input[0].content"),
        (json!({ "input": [{ "type": "function_call_output", "output": "x" }] }), "input[0].call_id"),
        (
            json!({ "input": [{ "type": "function_call_output", "call_id": "c", "output": 3 }] }),
            "input[0].output",
        ),
        (
            json!({ "input": [{ "type": "function_call", "call_id": "c", "arguments": "{}" }] }),
            "input[0].name",
        ),
        (json!({ "input": [{ "type": "reasoning" }] }), "input[0].type"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }),
            "input[0].content[0].type",
        ),
        (json!({ "input": "x", "instructions": 3 }), "instructions"),
        (json!({ "input": "x", "max_output_tokens": 0 }), "max_output_tokens"),
        (json!({ "input": "x", "max_output_tokens": 5000 }), "input"),
        (json!({ "input": "x", "previous_response_id": 5 }), "previous_response_id"),
        (json!({ "input": "x", "store": "yes" }), "store"),
        (json!({ "input": "x", "tools": [{ "type": "web_search" }] }), "tools[0].type"),
        (
            json!({ "input": "x", "tools": [{ "type": "function", "function": { "name": "a" } }] }),
            "tools[0].name",
        ),
        (json!({ "input": "x", "tool_choice": "required" }), "tool_choice"),
        (
            json!({ "input": "x", "tool_choice": { "type": "function" }, "tools": [add()] }),
            "tool_choice.name",
        ),
        (json!({ "input": "x", "background": true }), "background"),
        (json!({ "input": "x", "truncation": "auto" }), "truncation"),
        (json!({ "input": "x", "reasoning": { "effort": "low" } }), "reasoning"),
        (json!({ "input": "x", "text": { "format": { "type": "verse" } } }), "text.format.type"),
        (json!({ "input": "x", "text": { "format": {} } }), "text.format.type"),
        (json!({ "input": "x", "include": ["file_search_call.results"] }), "include"),
        (json!({ "input": "x", "metadata": { "a": 1 } }), "metadata.a"),
        (json!({ "input": "x", "metadata": { "a": "x".repeat(513) } }), "metadata"),
        (json!({ "input": "x", "user": 7 }), "user"),
    ];
    for (body, param) in cases {
        let reply = server.post(RESPONSES, &body);
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &json!(param)),
            "{body}: {reply:?}"
        );
    }
}

#[test]
fn a_format_keeps_the_answer_to_json() {
    let server = Server::start();
    let schema = json!({ "type": "object", "properties": { "a": { "enum": ["x"] } }, "required": ["a"],
        "additionalProperties": false });
    let format = json!({ "type": "json_schema", "name": "box", "schema": schema, "strict": true });
    let body = json!({ "input": "the dog", "text": { "format": format }, "max_output_tokens": 100 });
    let response = server.post(RESPONSES, &body).json();
    let answer: Value = serde_json::from_str(text(&response)).unwrap_or_else(|_| panic!("{response}"));
    assert_eq!((answer, &response["text"]["format"]), (json!({ "a": "x" }), &format));
    for wrong in
        [json!({ "type": "json_schema" }), json!({ "type": "json_schema", "schema": { "type": "box" } })]
    {
        let refused = server.post(RESPONSES, &json!({ "input": "x", "text": { "format": wrong } }));
        let error = refused.json()["error"].clone();
        assert_eq!(refused.status, 400, "{error}");
        assert!(error["param"].as_str().unwrap().starts_with("text.format"), "{error}");
    }
}
