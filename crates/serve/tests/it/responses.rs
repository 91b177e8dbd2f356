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
        (json!({ "input": [{ "type": "function_call_output", "output": "x" }] }), "input[0].type"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }),
            "input[0].content[0].type",
        ),
        (json!({ "input": "x", "instructions": 3 }), "instructions"),
        (json!({ "input": "x", "max_output_tokens": 0 }), "max_output_tokens"),
        (json!({ "input": "x", "max_output_tokens": 5000 }), "input"),
        (json!({ "input": "x", "previous_response_id": 5 }), "previous_response_id"),
        (json!({ "input": "x", "store": "yes" }), "store"),
        (json!({ "input": "x", "tools": [{ "type": "web_search" }] }), "tools"),
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
