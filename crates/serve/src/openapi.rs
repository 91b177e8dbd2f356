//! The description of this server for programs: an OpenAPI 3.1 document of every route, with the bounds that this server
//! has. It is written by hand, and tests hold it against the server: every route, every bound, every answer.

mod schemas;

use serde_json::{Map, Value, json};

use engine::AdapterInfo;

use crate::ServeInfo;

/// Statuses of the endpoints that ask the model.
const ERRORS: [&str; 8] = ["400", "404", "408", "413", "415", "429", "500", "503"];

/// The whole document of a server whose model knows `vocab_size` tokens.
pub(crate) fn document(info: &ServeInfo, adapters: &[AdapterInfo], vocab_size: usize) -> Value {
    let keyed = !info.api_keys.is_empty();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Altiplano",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": format!("The model {} behind OpenAI's API.", info.model),
            "description": "Parameters, answers and errors follow OpenAI's API reference, so that its clients work with this \
                            server's address as their base URL. Parameters that are not known are passed over; known ones that \
                            ask for what is not here are refused by name. `null` is the same as leaving a parameter out.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "Answers", "description": "What the model says." },
            { "name": "Models", "description": "What is served." },
            { "name": "Operation", "description": "What whoever runs the server needs." },
        ],
        "paths": paths(keyed),
        "components": { "schemas": schemas::all(info, vocab_size) },
    });
    if !info.settings.adapter_folders.is_empty() {
        let paths = document["paths"].as_object_mut();
        paths.into_iter().for_each(|paths| paths.extend(adapter_paths(keyed)));
        let text = |about: &str| json!({ "type": "string", "description": about });
        let name = text("What requests are to call it as their `model`.");
        let path = text("Its folder on the server: whole, or within one of those that are permitted.");
        let in_place = json!({
            "type": "boolean", "default": false,
            "description": "Whether it takes the place of an adapter of that name, which otherwise is an error. Requests that \
                            run are answered with the old one to their end.",
        });
        document["components"]["schemas"]["LoadAdapter"] = json!({
            "type": "object", "required": ["lora_name", "lora_path"], "properties": { "lora_name": name, "lora_path": path, "load_inplace": in_place },
        });
        document["components"]["schemas"]["UnloadAdapter"] = json!({
            "type": "object", "required": ["lora_name"], "properties": { "lora_name": name },
        });
    }
    // The names that a request may give for its model.
    let schemas = document["components"]["schemas"].as_object_mut();
    for schema in schemas.into_iter().flat_map(Map::values_mut) {
        let names = schema.pointer_mut("/properties/model/enum").and_then(Value::as_array_mut);
        names.into_iter().for_each(|names| names.extend(adapters.iter().map(|adapter| json!(adapter.name))));
    }
    if keyed {
        document["components"]["securitySchemes"] = json!({ "key": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "key": [] }]);
    }
    document
}

fn paths(keyed: bool) -> Value {
    let id = |name: &str, what: &str| json!([{ "name": name, "in": "path", "required": true, "description": what, "schema": { "type": "string" } }]);
    let answer = |operation: &str, summary: &str, about: &str, request: &str, reply: &str, event: &str| {
        json!({ "post": {
            "operationId": operation,
            "summary": summary,
            "description": about,
            "tags": ["Answers"],
            "requestBody": { "required": true, "content": { "application/json": { "schema": reference(request) } } },
            "responses": answers(keyed, reply, event),
        } })
    };
    let posted = |texts: [&str; 3], request: &str, reply: [&str; 2]| posted(keyed, texts, request, reply);
    let get = |operation: &str, summary: &str, tag: &str, responses: Value| json!({ "operationId": operation, "summary": summary, "tags": [tag], "responses": responses });
    let json_reply = |about: &str, schema: &str| described(about, "application/json", reference(schema));
    let page = |about: &str| described(about, "text/html", json!({ "type": "string" }));
    let mut paths = json!({
        "/v1/chat/completions": answer(
            "createChatCompletion", "Answer a conversation",
            "The assistant's next message, whole or as server-sent events of `chat.completion.chunk` objects that end with \
             `data: [DONE]`.",
            "ChatRequest", "ChatCompletion", "ChatCompletionChunk",
        ),
        "/v1/completions": answer(
            "createCompletion", "Continue a text",
            "What follows the prompt, without any chat format; in a stream, pieces of the same object, then `data: [DONE]`.",
            "CompletionRequest", "Completion", "Completion",
        ),
        "/v1/responses": answer(
            "createResponse", "Take the next turn of a conversation that the server remembers",
            "A list of items for a list of items. In a stream, events with names and numbers: response.created, \
             response.in_progress, response.output_item.added, response.content_part.added, response.output_text.delta for each \
             piece, response.output_text.done, response.content_part.done, response.output_item.done, then response.completed, \
             response.incomplete or response.failed; for a call of a tool, response.function_call_arguments.delta and \
             response.function_call_arguments.done within its item.",
            "ResponseRequest", "Response", "ResponseEvent",
        ),
        "/v1/embeddings": { "post": {
            "operationId": "createEmbeddings",
            "summary": "Turn texts into vectors",
            "description": "A vector of length 1 for each text: the model's final states, pooled.",
            "tags": ["Answers"],
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": reference("EmbeddingRequest") } },
            },
            "responses": with_errors(json!({ "200": json_reply("The vectors, in the order of the texts.", "Embeddings") }),
                keyed, &ERRORS),
        } },
        "/v1/responses/{id}": {
            "get": get("retrieveResponse", "Show a stored response", "Answers", with_errors(
                json!({ "200": json_reply("The response.", "Response") }), keyed, &["404"])),
            "delete": get("deleteResponse", "Forget a stored response", "Answers", with_errors(
                json!({ "200": json_reply("It is forgotten.", "Deleted") }), keyed, &["404"])),
        },
        "/v1/models": { "get": get("listModels", "List the models", "Models", with_errors(
            json!({ "200": json_reply("The model and its adapters.", "ModelList") }), keyed, &[])) },
        "/v1/models/{id}": { "get": get("retrieveModel", "Show a model", "Models", with_errors(
            json!({ "200": json_reply("The model.", "Model") }), keyed, &["404"])) },
        "/tokenize": posted(["tokenize", "Turn a text into tokens",
            "Names of special tokens in the text stand for them. The routes of the tokenizer are vLLM's."],
            "TokenizeRequest", ["The tokens.", "Tokens"]),
        "/detokenize": posted(["detokenize", "Turn tokens into their text", "Special tokens are shown by their names."],
            "DetokenizeRequest", ["The text.", "TokensText"]),
        "/tokenizer_info": { "get": get("tokenizerInfo", "Show what the tokenizer is", "Models", with_errors(
            json!({ "200": json_reply("Its special tokens and sizes.", "TokenizerInfo") }), keyed, &[])) },
        "/healthz": { "get": get("health", "Whether the process should live on", "Operation", with_errors(
            json!({ "200": json_reply("It works.", "Health") }), false, &["503"])) },
        "/readyz": { "get": get("readiness", "Whether requests should be sent here", "Operation", with_errors(
            json!({ "200": json_reply("The model is loaded.", "Readiness") }), false, &["503"])) },
        "/metrics": { "get": get("metrics", "Counters and times for Prometheus", "Operation", with_errors(
            json!({ "200": { "description": "Prometheus' text, or OpenMetrics where it is asked for.", "content": {
                "text/plain": { "schema": { "type": "string" } },
                "application/openmetrics-text": { "schema": { "type": "string" } },
            } } }), keyed, &[])) },
        "/openapi.json": { "get": get("openapi", "This document", "Operation",
            json!({ "200": described("OpenAPI 3.1.", "application/json", json!({ "type": "object" })) })) },
        "/docs": { "get": get("docs", "This document as a page", "Operation", json!({ "200": page("The page.") })) },
        "/": { "get": get("chatPage", "A page to talk with the model", "Operation", json!({ "200": page("The page.") })) },
    });
    paths["/v1/responses/{id}"]["parameters"] = id("id", "Such as resp_12ab.");
    paths["/v1/models/{id}"]["parameters"] = id("id", "The model's name.");
    for open in crate::http::OPEN_PATHS {
        paths[open]["get"]["security"] = json!([]);
    }
    paths
}

/// A path that takes JSON and gives JSON, of those that are about models: the operation's name, its summary and what it does;
/// the schema of the request; what the reply is, and its schema.
fn posted(
    keyed: bool,
    [operation, summary, about]: [&str; 3],
    request: &str,
    [reply, schema]: [&str; 2],
) -> Value {
    let ok = described(reply, "application/json", reference(schema));
    json!({ "post": {
        "operationId": operation,
        "summary": summary,
        "description": about,
        "tags": ["Models"],
        "requestBody": { "required": true, "content": { "application/json": { "schema": reference(request) } } },
        "responses": with_errors(json!({ "200": ok }), keyed, &["400", "404", "408", "413", "415", "500", "503"]),
    } })
}

/// Those that are there where clients may load adapters.
fn adapter_paths(keyed: bool) -> Map<String, Value> {
    [
        ("/v1/load_lora_adapter", posted(keyed,
            ["loadAdapter", "Load an adapter",
             "From a folder in peft's format on the server, within those that its settings permit. As vLLM has it."],
            "LoadAdapter", ["The adapter can be asked for.", "Model"],
        )),
        ("/v1/unload_lora_adapter", posted(keyed,
            ["unloadAdapter", "Unload an adapter",
             "Requests that asked for it are answered to their end; its memory is free then. As vLLM has it."],
            "UnloadAdapter", ["It can no longer be asked for.", "Deleted"],
        )),
    ]
    .map(|(route, path)| (route.to_owned(), path))
    .into_iter()
    .collect()
}

pub(super) fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn described(about: &str, kind: &str, schema: Value) -> Value {
    json!({ "description": about, "content": { kind: { "schema": schema } } })
}

/// Answers of the endpoints that ask the model.
fn answers(keyed: bool, reply: &str, event: &str) -> Value {
    let headers: Map<String, Value> = [
        ("x-request-id", "string", "Names this request in the access log."),
        ("x-ratelimit-limit-requests", "integer", "Sequences that can run and wait."),
        ("x-ratelimit-remaining-requests", "integer", "Sequences that would be taken now."),
        ("x-ratelimit-reset-requests", "string", "When there is likely to be room, such as 3s."),
    ]
    .into_iter()
    .map(|(name, kind, about)| (name.into(), json!({ "description": about, "schema": { "type": kind } })))
    .collect();
    let ok = json!({
        "description": "The answer: an object, or events where `stream` is true.",
        "headers": headers,
        "content": {
            "application/json": { "schema": reference(reply) },
            "text/event-stream": { "schema": {
                "description": format!("Events whose data is a {event}, in JSON."),
            } },
        },
    });
    with_errors(json!({ "200": ok }), keyed, &ERRORS)
}

/// `responses`, and those of these statuses, which all have one shape.
fn with_errors(mut responses: Value, keyed: bool, statuses: &[&str]) -> Value {
    let error = |about: &str| described(about, "application/json", reference("Error"));
    if keyed {
        responses["401"] = error("No key, or one that is not known.");
    }
    for status in statuses {
        responses[*status] = error(match *status {
            "400" => "Something is wrong with the request; `param` says where.",
            "404" => "There is nothing of this name.",
            "408" => "The body did not arrive in time.",
            "413" => "The body is too large.",
            "415" => "The body is not application/json.",
            "429" => "The queue is full.",
            "503" => "The model is being loaded, or the server is going away.",
            _ => "The server failed.",
        });
    }
    if statuses.contains(&"429") {
        responses["429"]["headers"] = json!({
            "retry-after": { "description": "Seconds to wait.", "schema": { "type": "integer" } },
        });
    }
    responses
}
