//! The objects of the wire, as JSON Schema. Those of requests tell what is read; what they leave out is passed over.

use serde_json::{Map, Value, json};

use super::reference;
use crate::ServeInfo;
use crate::parameters::{MAX_LOGPROBS, MAX_STOPS};
use crate::responses::round;

/// Every object, by its name.
pub(super) fn all(info: &ServeInfo, vocab_size: usize) -> Value {
    let mut all = requests(info, vocab_size);
    all.extend(replies());
    all.extend(response_objects());
    Value::Object(all)
}

/// An object of these members, of which those named must be there.
fn object(required: &[&str], members: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": members })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// That, or nothing.
fn nullable(mut schema: Value) -> Value {
    if schema.get("$ref").is_some() {
        return json!({ "anyOf": [schema, { "type": "null" }] });
    }
    schema["type"] = json!([schema["type"], "null"]);
    schema
}

fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

fn number(least: f64, most: f64, default: Value, about: &str) -> Value {
    json!({ "type": "number", "minimum": least, "maximum": most, "default": default, "description": about })
}

fn described(mut schema: Value, about: &str) -> Value {
    schema["description"] = json!(about);
    schema
}

fn flag(default: bool, about: &str) -> Value {
    json!({ "type": "boolean", "default": default, "description": about })
}

fn count(least: usize, about: &str) -> Value {
    json!({ "type": "integer", "minimum": least, "description": about })
}

/// What every endpoint reads that asks the model.
fn sampling(info: &ServeInfo) -> Map<String, Value> {
    let settings = &info.settings;
    members(json!({
        "model": { "type": "string", "enum": [info.model], "description": "The model, which may be left out, or an adapter over it." },
        "temperature": number(0.0, 2.0, round(settings.temperature), "0: always the likeliest token."),
        "top_p": number(0.0, 1.0, round(settings.top_p), "The least likely tokens beyond this share are left out."),
        "top_k": { "type": "integer", "minimum": -1, "description": "At most so many tokens are considered; 0 and -1: all." },
        "min_p": number(0.0, 1.0, json!(0), "Tokens below this share of the likeliest are left out."),
        "presence_penalty": number(-2.0, 2.0, json!(0), "Taken off tokens that were generated."),
        "frequency_penalty": number(-2.0, 2.0, json!(0), "Taken off tokens each time they were generated."),
        "repetition_penalty": number(0.01, 100.0, json!(1), "Divides the scores of tokens that occurred."),
        "logit_bias": {
            "type": "object",
            "additionalProperties": { "type": "number", "minimum": -100, "maximum": 100 },
            "propertyNames": { "pattern": "^[0-9]+$" },
            "description": "Added to the scores of tokens, by their numbers.",
        },
        "seed": { "type": "integer", "description": "The same seed gives the same answer, alone or in any batch." },
        "stop": {
            "type": ["string", "array"], "items": { "type": "string" }, "maxItems": MAX_STOPS,
            "description": "Texts that end the answer; they are no part of it.",
        },
        "stream": flag(false, "Send the answer as it is written, as server-sent events."),
    }))
}

/// What an answer must be: at most one of these.
fn constraints() -> Map<String, Value> {
    members(json!({
        "response_format": {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": { "type": "string", "enum": ["text", "json_object", "json_schema"] },
                "json_schema": {
                    "type": ["object", "null"],
                    "required": ["schema"],
                    "properties": { "schema": { "type": "object" }, "strict": optional(flag(true, "Read; it always is.")) },
                },
            },
            "description": "Keep the answer to JSON, or to a JSON Schema.",
        },
        "guided_json": { "type": ["object", "string"], "description": "Keep the answer to this JSON Schema." },
        "guided_regex": text("Keep the answer to this regular expression."),
        "guided_grammar": text("Keep the answer to this grammar, in Lark's notation as llguidance reads it."),
        "guided_choice": {
            "type": ["array", "string"], "items": { "type": "string" },
            "description": "Keep the answer to one of these texts.",
        },
        "structured_outputs": {
            "type": "object",
            "description": "The same four as `json`, `regex`, `grammar` and `choice`, and `json_object`.",
        },
    }))
}

fn several(info: &ServeInfo) -> Map<String, Value> {
    members(json!({
        "n": {
            "type": "integer", "minimum": 1, "maximum": info.settings.max_choices, "default": 1,
            "description": "Answers to each prompt.",
        },
        "stream_options": {
            "type": "object",
            "properties": { "include_usage": optional(flag(false, "Tell the tokens used in one more event.")) },
            "description": "Only where `stream` is true.",
        },
    }))
}

fn members(members: Value) -> Map<String, Value> {
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// The body of a request, in which `null` is the same as leaving a member out. Members of `only_with` may be there only
/// where the flag beside them is true.
fn request(
    required: &[&str],
    parts: impl IntoIterator<Item = Map<String, Value>>,
    only_with: &[(&str, &str)],
) -> Value {
    let mut all: Map<String, Value> = parts.into_iter().flatten().collect();
    for (_, member) in all.iter_mut().filter(|(name, _)| !required.contains(&name.as_str())) {
        *member = optional(member.take());
    }
    let rule = |(member, flag): &(&str, &str)| {
        json!({
            "if": { "required": [flag], "properties": { *flag: { "const": true } } },
            "else": { "properties": { *member: { "type": "null" } } },
        })
    };
    let mut request = object(required, Value::Object(all));
    if !only_with.is_empty() {
        request["allOf"] = only_with.iter().map(rule).collect();
    }
    request
}

/// [`nullable`], for a schema whose types may be several, or that lists its values.
fn optional(mut schema: Value) -> Value {
    let kinds = schema["type"].take();
    let mut kinds = if let Value::Array(kinds) = kinds { kinds } else { vec![kinds] };
    kinds.push(json!("null"));
    schema["type"] = Value::Array(kinds);
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.push(Value::Null);
    }
    schema
}

fn requests(info: &ServeInfo, vocab_size: usize) -> Map<String, Value> {
    let part = |kinds: &[&str]| {
        object(&["type", "text"], json!({ "type": { "enum": kinds }, "text": { "type": "string" } }))
    };
    let content = |kinds: &[&str]| json!({ "type": ["string", "array"], "items": part(kinds), "description": "A text, or parts that are joined." });
    let role = |roles: &[&str]| json!({ "type": "string", "enum": roles });
    let chat = members(json!({
        "messages": { "type": "array", "minItems": 1, "items": reference("ChatMessage") },
        "max_completion_tokens": count(1, "Most tokens of an answer; left out: as many as the context holds."),
        "max_tokens": count(1, "The older name of the same."),
        "logprobs": flag(false, "Tell the log-probability of each token."),
        "top_logprobs": {
            "type": "integer", "minimum": 0, "maximum": MAX_LOGPROBS,
            "description": "And those of so many others in its place; only where `logprobs` is true.",
        },
    }));
    let tokens_or_texts = json!({
        "type": ["string", "integer", "array"],
        "items": { "type": "integer", "minimum": 0, "maximum": vocab_size - 1 },
        "minItems": 1,
        "minimum": 0,
        "maximum": vocab_size - 1,
    });
    let model = sampling(info).remove("model").unwrap_or_default();
    let tools = members(json!({
        "tools": described(list(reference("Tool")), "Functions that the model may call."),
        "tool_choice": {
            "type": ["string", "object"],
            "required": ["type", "function"],
            "properties": {
                "type": { "type": "string", "enum": ["function"] },
                "function": object(&["name"], json!({ "name": { "type": "string" } })),
            },
            "description": "none, auto or required, or {\"type\": \"function\", \"function\": {\"name\": …}} for one of them.",
        },
        "parallel_tool_calls": flag(true, "Let one answer call several."),
    }));
    let completion = members(json!({
        "prompt": {
            "type": ["string", "array"],
            "items": tokens_or_texts,
            "minItems": 1,
            "description": "A text, texts, tokens, or lists of tokens; left out: the beginning of a document.",
        },
        "max_tokens": {
            "type": "integer", "minimum": 0, "default": 16,
            "description": "Most tokens of an answer; 0 only where `echo` and `logprobs` ask for the scores of the prompt.",
        },
        "logprobs": {
            "type": "integer", "minimum": 0, "maximum": MAX_LOGPROBS,
            "description": "Tell the log-probability of each token, and of so many others in its place.",
        },
        "best_of": {
            "type": "integer", "minimum": 1, "maximum": info.settings.max_choices,
            "description": "Write so many answers to each prompt, at least `n`, and show the `n` with the highest \
                            log-probability a token; left out: `n`. More than `n` cannot be streamed.",
        },
        "echo": flag(false, "Begin the answer with the prompt, and with `logprobs` tell those of its tokens too."),
    }));
    let response = members(json!({
        "input": {
            "type": ["string", "array"], "minItems": 1, "items": reference("InputItem"),
            "description": "What is said: a text of the user's, or items.",
        },
        "instructions": text("A system message for this turn alone."),
        "previous_response_id": text("The stored response that this turn follows."),
        "max_output_tokens": count(1, "Most tokens of the answer; left out: as many as the context holds."),
        "store": flag(true, "Remember the response, within the server's bounds, for later turns."),
        "include": { "type": "array", "items": { "const": "message.output_text.logprobs" }, "maxItems": 16 },
        "top_logprobs": {
            "type": "integer", "minimum": 0, "maximum": MAX_LOGPROBS,
            "description": "Tell the log-probability of each token, and of so many others in its place.",
        },
        "metadata": {
            "type": "object", "maxProperties": 16,
            "additionalProperties": { "type": "string", "maxLength": 512 },
            "propertyNames": { "maxLength": 64 },
            "description": "Comes back with the response.",
        },
        "text": {
            "type": "object",
            "properties": {
                "format": {
                    "type": ["object", "null"],
                    "required": ["type"],
                    "properties": {
                        "type": { "type": "string", "enum": ["text", "json_object", "json_schema"] },
                        "schema": { "type": ["object", "null"], "description": "Of json_schema." },
                    },
                },
            },
            "description": "The form of the answer.",
        },
        "user": text("Comes back with the response."),
        "tools": described(list(reference("ResponseTool")), "Functions that the model may call."),
        "tool_choice": {
            "type": ["string", "object"],
            "required": ["type", "name"],
            "properties": { "type": { "type": "string", "enum": ["function"] }, "name": { "type": "string" } },
            "description": "none, auto or required, or {\"type\": \"function\", \"name\": …} for one of them.",
        },
        "parallel_tool_calls": flag(true, "Let one answer call several."),
    }));
    let mut completion_request = request(
        &[],
        [completion, constraints(), sampling(info), several(info)],
        &[("stream_options", "stream")],
    );
    if let Some(rules) = completion_request["allOf"].as_array_mut() {
        rules.push(json!({
            "if": { "required": ["max_tokens"], "properties": { "max_tokens": { "const": 0 } } },
            "then": {
                "required": ["echo", "logprobs"],
                "properties": { "echo": { "const": true }, "logprobs": { "type": "integer" } },
            },
        }));
    }
    members(json!({
        "ChatMessage": {
            "type": "object",
            "required": ["role"],
            "properties": {
                "role": role(&["system", "developer", "user", "assistant", "tool"]),
                "content": optional(content(&["text"])),
                "tool_calls": optional(described(list(reference("ToolCall")), "Calls that the assistant made.")),
                "tool_call_id": optional(text("The call that this message, a tool's, answers.")),
            },
            "allOf": [
                {
                    "if": { "properties": { "role": { "const": "tool" } } },
                    "then": { "required": ["tool_call_id"], "properties": { "tool_call_id": { "type": "string" } } },
                },
                {
                    "if": { "required": ["tool_calls"], "properties": {
                        "role": { "const": "assistant" }, "tool_calls": { "type": "array", "minItems": 1 },
                    } },
                    "else": { "required": ["content"], "properties": { "content": { "type": ["string", "array"] } } },
                },
            ],
        },
        "ToolCall": object(&["id", "type", "function"], json!({
            "id": { "type": "string" },
            "type": { "type": "string", "enum": ["function"] },
            "function": object(&["name", "arguments"], json!({
                "name": { "type": "string" }, "arguments": text("A JSON object, as text."),
            })),
        })),
        "Tool": object(&["type", "function"], json!({
            "type": { "type": "string", "enum": ["function"] },
            "function": object(&["name"], json!({
                "name": { "type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$" },
                "description": optional(text("What it is for.")),
                "parameters": { "type": ["object", "null"], "description": "A JSON Schema of its arguments." },
                "strict": optional(flag(false, "Keep the arguments to the schema.")),
            })),
        })),
        "ChatRequest": request(
            &["messages"],
            [chat, tools, constraints(), sampling(info), several(info)],
            &[("stream_options", "stream"), ("top_logprobs", "logprobs")],
        ),
        "CompletionRequest": completion_request,
        "EmbeddingRequest": request(&["input"], [members(json!({
            "input": {
                "type": ["string", "array"], "items": tokens_or_texts, "minItems": 1,
                "description": "A text, texts, tokens, or lists of tokens.",
            },
            "model": model,
            "encoding_format": {
                "type": "string", "enum": ["float", "base64"], "default": "float",
                "description": "How a vector is written: as numbers, or as little-endian f32 in base64.",
            },
            "pooling": {
                "type": "string", "enum": ["mean", "last"], "default": "mean",
                "description": "Which of the states of a text's tokens make its vector.",
            },
            "user": text("Read and not used."),
        }))], &[]),
        "TokenizeRequest": request(&["prompt"], [members(json!({
            "model": model,
            "prompt": text("The text."),
            "add_special_tokens": flag(true, "Begin with `<|begin_of_text|>`, unless the text does."),
            "return_token_strs": flag(false, "Tell the text of each token too."),
        }))], &[]),
        "DetokenizeRequest": request(&["tokens"], [members(json!({
            "model": model,
            "tokens": list(json!({ "type": "integer", "minimum": 0, "maximum": vocab_size - 1 })),
        }))], &[]),
        "InputItem": {
            "type": "object",
            "properties": {
                "type": {
                    "type": ["string", "null"],
                    "enum": ["message", "function_call", "function_call_output", null],
                },
                "role": optional(role(&["system", "developer", "user", "assistant"])),
                "content": optional(content(&["input_text", "output_text"])),
                "call_id": optional(text("Of a call and of what came of it.")),
                "name": optional(text("Of a call: the tool.")),
                "arguments": optional(text("Of a call: a JSON object, as text.")),
                "output": optional(described(content(&["input_text"]), "What came of a call.")),
            },
            "allOf": [
                item_of(&json!({ "const": "function_call" }), &["type", "call_id", "name", "arguments"], "string"),
                item_of(&json!({ "const": "function_call_output" }), &["type", "call_id"], "string"),
                item_of(&json!({ "const": "function_call_output" }), &["type", "output"], "array"),
                item_of(&json!({ "enum": ["message", null] }), &["role"], "string"),
                item_of(&json!({ "enum": ["message", null] }), &["content"], "array"),
            ],
        },
        "ResponseTool": object(&["type", "name"], json!({
            "type": { "type": "string", "enum": ["function"] },
            "name": { "type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$" },
            "description": optional(text("What it is for.")),
            "parameters": { "type": ["object", "null"], "description": "A JSON Schema of its arguments." },
            "strict": optional(flag(true, "Keep the arguments to the schema; left out: where that can be done.")),
        })),
        "ResponseRequest": request(&["input"], [response, sampling(info)], &[]),
    }))
}

/// Items of this type have these members: texts, or where `kind` is `array` lists too.
fn item_of(which: &Value, required: &[&str], kind: &str) -> Value {
    let kinds = if kind == "array" { json!(["string", "array"]) } else { json!("string") };
    let named = required.iter().filter(|name| **name != "type");
    let members: Map<String, Value> =
        named.map(|name| ((*name).to_owned(), json!({ "type": kinds }))).collect();
    json!({
        "if": { "properties": { "type": which } },
        "then": { "required": required, "properties": members },
    })
}

fn replies() -> Map<String, Value> {
    let string = || json!({ "type": "string" });
    let integer = || json!({ "type": "integer" });
    let scored = json!({ "token": string(), "logprob": { "type": "number" }, "bytes": list(integer()) });
    let choice = |what: &str, members: Value| {
        let mut all = json!({ "index": integer(), "finish_reason": nullable(string()) });
        all[what] = members;
        all["logprobs"] =
            nullable(reference(if what == "text" { "CompletionLogprobs" } else { "ChatLogprobs" }));
        object(&["index", what, "logprobs", "finish_reason"], all)
    };
    let completion = |kind: &str, choice: Value, usage: bool| {
        let required = ["id", "object", "created", "model", "choices", "usage"];
        object(
            &required[..if usage { 6 } else { 5 }],
            json!({
                "id": string(),
                "object": { "const": kind },
                "created": { "type": "integer", "description": "Seconds since 1970." },
                "model": string(),
                "system_fingerprint": nullable(string()),
                "choices": list(choice),
                "usage": nullable(reference("Usage")),
            }),
        )
    };
    members(json!({
        "ChatCompletion": completion("chat.completion", choice("message", object(&["role", "content"], json!({
            "role": { "const": "assistant" }, "content": nullable(string()), "refusal": nullable(string()),
            "tool_calls": list(reference("ToolCall")),
        }))), true),
        "ChatCompletionChunk": completion("chat.completion.chunk", choice("delta", object(&[], json!({
            "role": { "const": "assistant" }, "content": nullable(string()),
            "tool_calls": list(object(&["index", "function"], json!({
                "index": integer(), "id": string(), "type": string(), "function": { "type": "object" },
            }))),
        }))), false),
        "ChatLogprobs": object(&["content"], json!({ "content": list(reference("TokenLogprob")) })),
        "TokenLogprob": object(&["token", "logprob", "bytes", "top_logprobs"], {
            let mut members = scored.clone();
            members["top_logprobs"] = list(object(&["token", "logprob", "bytes"], scored));
            members
        }),
        "Completion": completion("text_completion", choice("text", string()), false),
        "CompletionLogprobs": object(&["tokens", "token_logprobs", "top_logprobs", "text_offset"], json!({
            "tokens": list(string()),
            "token_logprobs": list(nullable(json!({ "type": "number" }))),
            "top_logprobs": list(nullable(json!({ "type": "object", "additionalProperties": { "type": "number" } }))),
            "text_offset": list(integer()),
        })),
        "Usage": object(&["prompt_tokens", "completion_tokens", "total_tokens"], json!({
            "prompt_tokens": integer(), "completion_tokens": integer(), "total_tokens": integer(),
            "prompt_tokens_details": object(&["cached_tokens"], json!({ "cached_tokens": integer() })),
            "completion_tokens_details": object(
                &["accepted_prediction_tokens", "rejected_prediction_tokens"],
                json!({ "accepted_prediction_tokens": integer(), "rejected_prediction_tokens": integer() }),
            ),
        })),
        "Embeddings": object(&["object", "data", "model", "usage"], json!({
            "object": { "const": "list" },
            "data": list(object(&["object", "index", "embedding"], json!({
                "object": { "const": "embedding" },
                "index": integer(),
                "embedding": { "type": ["array", "string"], "items": { "type": "number" } },
            }))),
            "model": string(),
            "usage": object(&["prompt_tokens", "total_tokens"], json!({
                "prompt_tokens": integer(), "total_tokens": integer(),
            })),
        })),
        "Model": object(&["id", "object", "created", "owned_by", "max_model_len", "root", "parent"], json!({
            "id": string(), "object": { "const": "model" }, "created": integer(), "owned_by": string(),
            "max_model_len": { "type": "integer", "description": "Most tokens of prompt and answer together." },
            "root": text("The model that weights come from."),
            "parent": nullable(text("Of an adapter the model that it stands over.")),
        })),
        "ModelList": object(&["object", "data"], json!({ "object": { "const": "list" }, "data": list(reference("Model")) })),
        "Tokens": object(&["count", "max_model_len", "tokens", "token_strs"], json!({
            "count": integer(),
            "max_model_len": integer(),
            "tokens": list(integer()),
            "token_strs": { "type": ["array", "null"], "items": string() },
        })),
        "TokensText": object(&["prompt"], json!({ "prompt": string() })),
        "TokenizerInfo": object(&["bos_token", "eos_token", "pad_token", "vocab_size", "model_max_length"], json!({
            "bos_token": string(),
            "eos_token": string(),
            "pad_token": nullable(string()),
            "vocab_size": integer(),
            "model_max_length": integer(),
        })),
        "Health": object(&["status", "running", "waiting"], json!({
            "status": { "const": "ok" }, "running": integer(), "waiting": integer(),
        })),
        "Readiness": object(&["status", "model"], json!({ "status": { "const": "ready" }, "model": string() })),
        "Error": object(&["error"], json!({
            "error": object(&["message", "type", "param", "code"], json!({
                "message": text("For a person."),
                "type": text("Such as invalid_request_error."),
                "param": nullable(text("The parameter that is to blame.")),
                "code": nullable(text("For a program.")),
            })),
        })),
    }))
}

fn response_objects() -> Map<String, Value> {
    let string = || json!({ "type": "string" });
    let integer = || json!({ "type": "integer" });
    members(json!({
        "Response": object(
            &["id", "object", "created_at", "status", "error", "incomplete_details", "model", "output", "usage", "metadata"],
            json!({
                "id": string(),
                "object": { "const": "response" },
                "created_at": integer(),
                "completed_at": nullable(integer()),
                "status": { "enum": ["in_progress", "completed", "incomplete", "failed"] },
                "error": nullable(object(&["code", "message"], json!({ "code": string(), "message": string() }))),
                "incomplete_details": nullable(object(&["reason"], json!({ "reason": { "const": "max_output_tokens" } }))),
                "instructions": nullable(string()),
                "max_output_tokens": nullable(integer()),
                "model": string(),
                "output": list(json!({ "anyOf": [reference("OutputMessage"), reference("FunctionCall")] })),
                "previous_response_id": nullable(string()),
                "store": { "type": "boolean" },
                "temperature": { "type": "number" },
                "top_p": { "type": "number" },
                "usage": nullable(reference("ResponseUsage")),
                "user": nullable(string()),
                "metadata": { "type": "object", "additionalProperties": string() },
            }),
        ),
        "OutputMessage": object(&["id", "type", "status", "role", "content"], json!({
            "id": string(),
            "type": { "const": "message" },
            "status": { "enum": ["in_progress", "completed", "incomplete"] },
            "role": { "const": "assistant" },
            "content": list(object(&["type", "text", "annotations", "logprobs"], json!({
                "type": { "const": "output_text" },
                "text": string(),
                "annotations": list(json!({ "type": "object" })),
                "logprobs": list(reference("TokenLogprob")),
            }))),
        })),
        "FunctionCall": object(&["id", "type", "status", "call_id", "name", "arguments"], json!({
            "id": string(),
            "type": { "const": "function_call" },
            "status": { "enum": ["in_progress", "completed", "incomplete"] },
            "call_id": string(),
            "name": string(),
            "arguments": text("A JSON object, as text."),
        })),
        "ResponseUsage": object(&["input_tokens", "output_tokens", "total_tokens"], json!({
            "input_tokens": integer(),
            "input_tokens_details": { "type": "object" },
            "output_tokens": integer(),
            "output_tokens_details": { "type": "object" },
            "total_tokens": integer(),
        })),
        "ResponseEvent": object(&["type", "sequence_number"], json!({
            "type": string(), "sequence_number": integer(), "response": reference("Response"),
            "delta": string(), "item_id": string(), "output_index": integer(), "content_index": integer(),
        })),
        "Deleted": object(&["id", "object", "deleted"], json!({
            "id": string(), "object": { "enum": ["response", "model"] }, "deleted": { "const": true },
        })),
    }))
}
