//! Bodies of requests that nobody would send: whatever is posted, the answer is one in the shape of its endpoint, or an error
//! in OpenAI's shape that blames the request; nothing panics and nothing hangs. The fuzz target `bodies` calls this too.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use serde_json::{Value, json};
use serve::ServeInfo;
use tower::ServiceExt;

use crate::toy;

/// Longer than any body that is answered here takes; what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every path that is posted to, with a body that uses what it reads.
pub static BODIES: LazyLock<Vec<(&str, Value)>> = LazyLock::new(|| {
    let tool = json!({ "type": "function", "function": {
        "name": "weather", "description": "Of a place.", "strict": true,
        "parameters": { "type": "object", "properties": { "city": { "type": "string", "maxLength": 5 } },
                        "required": ["city"], "additionalProperties": false },
    } });
    let call = json!({ "id": "call_1", "type": "function",
                       "function": { "name": "weather", "arguments": "{\"city\": \"x\"}" } });
    let schema = json!({ "type": "object", "properties": { "a": { "enum": ["the dog", 3, null] } }, "required": ["a"] });
    let chat = json!({
        "model": "parrot", "max_tokens": 12, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "n": 2, "seed": 5,
        "presence_penalty": 0.5, "frequency_penalty": -0.5, "repetition_penalty": 1.1, "logit_bias": { "300": 2.5 },
        "stop": ["zzz", "the end"], "logprobs": true, "top_logprobs": 2, "stream": true,
        "stream_options": { "include_usage": true }, "user": "somebody", "metadata": { "a": "b" }, "store": false,
        "messages": [
            { "role": "system", "content": "the quick fox" },
            { "role": "user", "content": [{ "type": "text", "text": "the lazy dog" }], "name": "me" },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "call_1", "content": "warm" },
            { "role": "user", "content": "the dog sleeps" },
        ],
        "tools": [tool], "tool_choice": "auto", "parallel_tool_calls": true,
        "chat_template_kwargs": { "tools_in_user_message": false },
    });
    let formatted = json!({
        "messages": [{ "role": "user", "content": "x" }], "max_completion_tokens": 20, "temperature": 1,
        "response_format": { "type": "json_schema", "json_schema": { "name": "x", "strict": true, "schema": schema } },
    });
    let forced = json!({
        "messages": [{ "role": "user", "content": "x" }], "max_tokens": 30, "tools": [tool],
        "tool_choice": { "type": "function", "function": { "name": "weather" } },
    });
    let text = json!({
        "model": "parrot", "prompt": ["the quick fox", "the dog"], "max_tokens": 8, "n": 1, "best_of": 2, "echo": true,
        "logprobs": 2, "temperature": 0.5, "seed": 1, "stop": "zzz", "suffix": null, "stream": false,
    });
    let guided = json!({
        "prompt": [1, 2, 300], "max_tokens": 8, "stream": true, "guided_regex": "[0-9]{2,4}", "ignore_eos": true,
        "add_special_tokens": true,
    });
    let structured =
        json!({ "prompt": "x", "max_tokens": 8, "structured_outputs": { "choice": ["the dog", "the fox"] } });
    let grammar = json!({ "prompt": "x", "max_tokens": 8, "guided_grammar": "start: \"a\" /[b-d]+/ \"e\"" });
    let vectors = json!({
        "model": "parrot", "input": ["the dog", "the fox"], "encoding_format": "base64", "dimensions": 3, "pooling": "last",
    });
    let response = json!({
        "model": "parrot", "instructions": "the quick fox", "max_output_tokens": 16, "temperature": 0, "top_logprobs": 1,
        "include": ["message.output_text.logprobs"], "metadata": { "a": "b" }, "store": true, "stream": true,
        "input": [
            { "role": "user", "content": [{ "type": "input_text", "text": "the dog" }] },
            { "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{\"city\": \"x\"}" },
            { "type": "function_call_output", "call_id": "call_1", "output": "warm" },
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "the fox" }] },
            { "role": "user", "content": "the dog" },
        ],
        "tools": [{ "type": "function", "name": "weather", "strict": true, "parameters": tool["function"]["parameters"] }],
        "tool_choice": "auto", "parallel_tool_calls": false, "truncation": "disabled",
    });
    let answered = json!({
        "input": "x", "max_output_tokens": 24, "previous_response_id": null,
        "text": { "format": { "type": "json_schema", "name": "x", "strict": true, "schema": schema } },
    });
    let split = json!({
        "model": "parrot", "prompt": "the <|eot_id|> dog", "add_special_tokens": true, "return_token_strs": true,
    });
    let chat_path = "/v1/chat/completions";
    vec![
        (chat_path, chat),
        (chat_path, formatted),
        (chat_path, forced),
        ("/v1/completions", text),
        ("/v1/completions", guided),
        ("/v1/completions", structured),
        ("/v1/completions", grammar),
        ("/v1/embeddings", vectors),
        ("/v1/responses", response),
        ("/v1/responses", answered),
        ("/tokenize", split),
        ("/detokenize", json!({ "model": "parrot", "tokens": [1, 2, 300] })),
        ("/v1/load_lora_adapter", json!({ "lora_name": "a", "lora_path": "here", "load_inplace": true })),
        ("/v1/unload_lora_adapter", json!({ "lora_name": "a" })),
    ]
});

struct Server {
    router: Router,
    runtime: tokio::runtime::Runtime,
}

/// Small bounds, so that no answer is long.
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let settings =
        engine::Settings { max_sequences: 8, max_cache_tokens: 2048, ..engine::Settings::default() };
    let mut info = ServeInfo::new("parrot");
    info.settings.max_choices = 6;
    info.settings.max_stored_bytes = 1 << 20;
    // A folder of adapters that holds none.
    let folder = std::env::temp_dir().join(format!("alti-bodies-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("here")).unwrap();
    info.settings.adapter_folders = vec![PathBuf::from(&folder)];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let router = serve::router(toy::engine(Duration::ZERO, settings), info);
    Server { router, runtime }
});

/// Posts these bytes; panics where the reply is not what a client could read.
pub fn check(path: &str, body: &[u8]) -> u16 {
    let Server { router, runtime } = &*SERVER;
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(Body::from(body.to_vec())).unwrap();
    let reply = async {
        let reply = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = reply.into_parts();
        (parts, to_bytes(body, usize::MAX).await.unwrap())
    };
    let shown = || String::from_utf8_lossy(body).into_owned();
    let reply = runtime.block_on(async { tokio::time::timeout(PATIENCE, reply).await });
    let (parts, bytes) = reply.unwrap_or_else(|_| panic!("{path} hangs on {}", shown()));
    let said = String::from_utf8_lossy(&bytes);
    let status = parts.status.as_u16();
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    match (status, kind) {
        (200, "application/json") => {
            let value: Value =
                serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {said}"));
            assert!(value.is_object() && value.get("error").is_none_or(Value::is_null), "{path}: {said}");
        }
        (200, "text/event-stream; charset=utf-8") => {
            for event in said.split_terminator("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let data = data.unwrap_or_else(|| panic!("{path}: an event without data: {event:?}"));
                if data == "[DONE]" {
                    continue;
                }
                let value: Value =
                    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"));
                if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
                    assert_is_error(error, &said);
                }
            }
        }
        // 500 and above would blame the server: a panic, or an engine that fails.
        (400..=499, "application/json") => {
            let value: Value =
                serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {said}"));
            assert_is_error(&value["error"], &said);
        }
        _ => panic!("{path}: {status} {kind:?} for {}: {said}", shown()),
    }
    status
}

fn assert_is_error(error: &Value, said: &str) {
    let object = error.as_object().unwrap_or_else(|| panic!("no error: {said}"));
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"], "{said}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{said}");
    assert!(error["type"].is_string() && (error["param"].is_string() || error["param"].is_null()), "{said}");
}

/// The body with the value at one of its places, counted through the whole tree, replaced or taken away.
pub fn changed(body: &Value, place: usize, value: Option<Value>) -> Value {
    let mut body = body.clone();
    let mut left = place % (count(&body) - 1);
    change(&mut body, &mut left, &mut Some(value));
    body
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum::<usize>(),
        Value::Object(object) => object.values().map(count).sum(),
        _ => 0,
    }
}

/// `left` values come before the one that is meant, which is none once `value` was taken.
fn change(within: &mut Value, left: &mut usize, value: &mut Option<Option<Value>>) {
    let keys: Vec<String> =
        within.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default();
    let places = within.as_array().map_or(keys.len(), Vec::len);
    for place in 0..places {
        if value.is_none() {
            return;
        }
        if *left == 0 {
            match (within, value.take().flatten()) {
                (Value::Array(list), Some(value)) => list[place] = value,
                (Value::Array(list), None) => drop(list.remove(place)),
                (Value::Object(object), Some(value)) => drop(object.insert(keys[place].clone(), value)),
                (Value::Object(object), None) => drop(object.remove(&keys[place])),
                _ => {}
            }
            return;
        }
        *left -= 1;
        let inner = match &mut *within {
            Value::Array(list) => &mut list[place],
            Value::Object(object) => &mut object[&keys[place]],
            _ => return,
        };
        change(inner, left, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_bodies_say_is_answered() {
        for (path, body) in BODIES.iter().filter(|(path, _)| !path.contains("lora")) {
            assert_eq!(check(path, body.to_string().as_bytes()), 200, "{path}: {body}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let numbers = prop_oneof![
            Just(json!(0)),
            Just(json!(-1)),
            Just(json!(1.5)),
            Just(json!(1e308)),
            Just(json!(u64::MAX)),
            any::<i64>().prop_map(|number| json!(number)),
        ];
        let texts =
            prop_oneof![".{0,12}", Just("the dog".to_owned()), Just("\u{0}<|eot_id|>\n\n".to_owned())];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            numbers,
            texts.prop_map(Value::String),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let keys = prop_oneof!["[a-z_]{1,8}", Just("type".to_owned()), Just("$ref".to_owned())];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map(keys, inner, 0..4)
                    .prop_map(|object| Value::Object(object.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn changed_bodies_are_answered_or_refused(
            which in any::<usize>(), edits in prop::collection::vec((any::<usize>(), prop::option::of(values())), 1..4)
        ) {
            let (path, body) = &BODIES[which % BODIES.len()];
            let body = edits.into_iter().fold(body.clone(), |body, (place, value)| {
                if count(&body) > 1 { changed(&body, place, value) } else { body }
            });
            check(path, body.to_string().as_bytes());
        }

        #[test]
        fn damaged_bodies_are_answered_or_refused(which in any::<usize>(), at in any::<usize>(), byte in any::<u8>(), cut in any::<bool>()) {
            let (path, body) = &BODIES[which % BODIES.len()];
            let mut bytes = body.to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            check(path, &bytes);
        }
    }
}
