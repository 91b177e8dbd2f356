//! `POST /v1/responses`: a conversation that the server may remember, and the next turn of it as a list of items.
//! `GET` and `DELETE /v1/responses/{id}` show and forget what was stored. See `stream.rs` for the events of a stream and
//! `store.rs` for the memory.

mod items;
mod store;
mod stream;

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::{Completion, Constraint, FinishReason};
use serde_json::{Map, Value, json};
use tokenizer::chat::{Message, Role};

use crate::answers::{Answers, WireUsage};
use crate::api_error::ApiError;
use crate::fields::{Fields, wrong_type, wrong_value};
use crate::http::{App, off_runtime, unique_id, unix_seconds};
use crate::parameters::{MAX_LOGPROBS, Parameters, Wanted, refuse};
use crate::tools::{Form, Tools};

use items::Items;
pub(crate) use store::Store;

const TEXT_ONLY: &str = "This server takes and gives text.";
/// OpenAI's bounds of `metadata`.
const MAX_METADATA: (usize, usize, usize) = (16, 64, 512);

/// Answers one request; `body` is its parsed JSON.
pub(crate) async fn create(app: Arc<App>, body: Value) -> Result<Response, ApiError> {
    let fields = Fields::of_body(&body)?;
    refuse_unsupported(&fields)?;
    let tokenizer = app.engine.tokenizer();
    let mut parameters = Parameters::read(&fields, &app)?;
    parameters.choices = 1;
    parameters.template.max_tokens = fields.count("max_output_tokens", 1, usize::MAX)?;
    let top_logprobs = fields.count("top_logprobs", 0, MAX_LOGPROBS)?;
    let with_logprobs = includes(&fields)? || top_logprobs.is_some_and(|count| count > 0);
    parameters.template.logprobs = with_logprobs.then(|| top_logprobs.unwrap_or(0));

    let tools = Tools::read(&fields, Form::Flat)?;
    let wanted = wanted(&fields)?;
    let (engine, with_tools) = (app.engine.clone(), tools.clone());
    let constraint = off_runtime(move || {
        let wanted = with_tools.constraint(&engine, wanted)?;
        wanted.map(|wanted| wanted.prepare(&engine)).transpose()
    });
    parameters.template.constraint = constraint.await?;

    let instructions = fields.string("instructions")?;
    let previous = fields.string("previous_response_id")?;
    let mut conversation = match previous {
        None => Vec::new(),
        Some(id) => app.store.conversation(id).ok_or_else(|| {
            let message = format!("Previous response with id '{}' not found.", shown(id));
            ApiError::invalid(Some("previous_response_not_found"), message).at("previous_response_id")
        })?,
    };
    conversation.extend(input(&fields)?);
    // Instructions hold for this turn alone, so they are no part of what is remembered.
    let system = instructions.map(|text| Message::new(Role::System, text));
    let messages: Vec<Message> = system.into_iter().chain(conversation.iter().cloned()).collect();
    let prompt = tokenizer::chat::prompt_with(tokenizer, &messages, &tools.preamble());
    drop(messages);

    let draft = Draft {
        id: format!("resp_{}", unique_id()),
        head: head(&fields, &parameters, &tools)?,
        store: fields.boolean("store")?.unwrap_or(true),
        conversation,
    };
    let reader = tools.reader(tokenizer, parameters.template.constraint.is_some());
    let mut items = Items::new(reader, tools.any(), with_logprobs.then(|| tokenizer.clone()));
    let answers = Answers::submit(&app, parameters.requests(&prompt), 1, "input")?;
    if parameters.stream {
        return Ok(answers.stream(stream::ItemEvents::new(app, draft, items)));
    }
    let (completions, usage) = answers.gather().await?;
    let Some(Completion { tokens, reason, .. }) = completions.into_iter().next() else {
        return Err(ApiError::internal("The engine gave no answer."));
    };
    tokens.iter().for_each(|token| items.token(token, &mut |_, _| {}));
    items.finish(&mut |_, _| {});
    let response = draft.ended(&app.store, items, reason, usage);
    Ok(Json(response).into_response())
}

/// `GET /v1/responses/{id}`.
pub(crate) fn retrieve(app: &App, id: &str) -> Result<Response, ApiError> {
    let response = app.store.response(id).ok_or_else(|| unknown(id))?;
    Ok(Json(&*response).into_response())
}

/// `DELETE /v1/responses/{id}`.
pub(crate) fn delete(app: &App, id: &str) -> Result<Response, ApiError> {
    if !app.store.forget(id) {
        return Err(unknown(id));
    }
    Ok(Json(json!({ "id": id, "object": "response", "deleted": true })).into_response())
}

fn unknown(id: &str) -> ApiError {
    let message = format!("Response with id '{}' not found.", shown(id));
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("response_not_found"), message)
}

fn shown(id: &str) -> String {
    id.chars().take(100).collect()
}

/// A response that is being written.
struct Draft {
    id: String,
    /// Everything that is known before the first token.
    head: Map<String, Value>,
    store: bool,
    /// What is remembered of the turns before, and of this one's input.
    conversation: Vec<Message>,
}

impl Draft {
    /// The whole object, as it is now.
    fn response(&self, status: &str, output: Value, usage: Option<WireUsage>) -> Value {
        let mut response = self.head.clone();
        response.insert("id".into(), json!(self.id));
        response.insert("status".into(), json!(status));
        response.insert("output".into(), output);
        if let Some(usage) = usage {
            response.insert("usage".into(), usage.of_response());
        }
        Value::Object(response)
    }

    /// The finished object, put into the store if that was asked for.
    fn ended(mut self, store: &Store, items: Items, reason: FinishReason, usage: WireUsage) -> Value {
        let status = status(reason);
        if reason == FinishReason::Length {
            self.head.insert("incomplete_details".into(), json!({ "reason": "max_output_tokens" }));
        } else {
            self.head.insert("completed_at".into(), json!(unix_seconds()));
        }
        let response = self.response(status, items.json(status), Some(usage));
        if self.store {
            self.conversation.extend(items.messages());
            store.keep(&self.id, self.conversation, response.clone());
        }
        response
    }
}

fn status(reason: FinishReason) -> &'static str {
    if reason == FinishReason::Length { "incomplete" } else { "completed" }
}

/// What the object says of the request; OpenAI's clients expect every key.
fn head(fields: &Fields, parameters: &Parameters, tools: &Tools) -> Result<Map<String, Value>, ApiError> {
    let sampling = &parameters.template.sampling;
    let given = |name: &str| fields.value(name).cloned().unwrap_or(Value::Null);
    let head = json!({
        "id": null,
        "object": "response",
        "created_at": unix_seconds(),
        "status": null,
        "background": false,
        "completed_at": null,
        "error": null,
        "incomplete_details": null,
        "instructions": given("instructions"),
        "max_output_tokens": given("max_output_tokens"),
        "max_tool_calls": null,
        "model": parameters.model,
        "output": [],
        "parallel_tool_calls": tools.parallel(),
        "previous_response_id": given("previous_response_id"),
        "reasoning": { "effort": null, "summary": null },
        "service_tier": "default",
        "store": fields.boolean("store")?.unwrap_or(true),
        "temperature": round(sampling.temperature),
        "text": { "format": format_told(fields)? },
        "tool_choice": fields.value("tool_choice").cloned().unwrap_or_else(|| json!("auto")),
        "tools": fields.value("tools").cloned().unwrap_or_else(|| json!([])),
        "top_logprobs": parameters.template.logprobs.unwrap_or(0),
        "top_p": round(sampling.top_p),
        "truncation": "disabled",
        "usage": null,
        "user": fields.string("user")?,
        "metadata": metadata(fields)?,
    });
    match head {
        Value::Object(head) => Ok(head),
        _ => Ok(Map::new()),
    }
}

fn format_told(fields: &Fields) -> Result<Value, ApiError> {
    let format = fields.object("text")?.and_then(|text| text.value("format").cloned());
    Ok(format.unwrap_or_else(|| json!({ "type": "text" })))
}

/// As the client wrote it: 0.6, not the nearest f32's 0.6000000238418579.
pub(crate) fn round(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

fn refuse_unsupported(fields: &Fields) -> Result<(), ApiError> {
    refuse(fields, "background", &[], "Responses are written while the client waits.")?;
    refuse(fields, "conversation", &[], "Use 'previous_response_id'.")?;
    refuse(fields, "prompt", &[], "This server keeps no prompts.")?;
    refuse(fields, "truncation", &["disabled"], "Only 'disabled' is supported.")?;
    refuse(fields, "context_management", &[], "Use 'previous_response_id', or send what should stay.")?;
    if fields
        .object("reasoning")?
        .is_some_and(|reasoning| reasoning.entries().any(|(_, value)| !value.is_null()))
    {
        return Err(ApiError::unsupported("reasoning", "This model does not reason apart from its answer."));
    }
    let Some(text) = fields.object("text")? else { return Ok(()) };
    refuse(&text, "verbosity", &["medium"], "The model knows no verbosity; ask for it in words.")
}

/// What `text.format` keeps the answer to.
fn wanted(fields: &Fields) -> Result<Option<Wanted>, ApiError> {
    let format = fields.object("text")?.map(|text| text.object("format")).transpose()?.flatten();
    let Some(format) = format else { return Ok(None) };
    let constraint = match format.string("type")?.ok_or_else(|| format.missing("type"))? {
        "text" => return Ok(None),
        "json_object" => Constraint::JsonObject,
        "json_schema" => Constraint::JsonSchema(format.required("schema")?.clone()),
        other => {
            return Err(wrong_value("text.format.type", other, &["text", "json_object", "json_schema"]));
        }
    };
    Ok(Some(Wanted { constraint, param: "text.format".into() }))
}

/// Whether log-probabilities are among what should be included.
fn includes(fields: &Fields) -> Result<bool, ApiError> {
    const LOGPROBS: &str = "message.output_text.logprobs";
    let include = fields.strings("include", 16)?;
    match include.iter().find(|what| *what != LOGPROBS) {
        Some(other) => Err(wrong_value("include", other, &[LOGPROBS])),
        None => Ok(!include.is_empty()),
    }
}

fn metadata(fields: &Fields) -> Result<Value, ApiError> {
    let (most, key_length, value_length) = MAX_METADATA;
    let Some(object) = fields.object("metadata")? else { return Ok(json!({})) };
    if object.entries().count() > most {
        let message = format!("Invalid 'metadata': too many entries. Expected at most {most}.");
        return Err(ApiError::invalid(Some("object_above_max_properties"), message).at("metadata"));
    }
    for (key, value) in object.entries() {
        let path = format!("metadata.{}", key.chars().take(key_length).collect::<String>());
        let Value::String(text) = value else { return Err(wrong_type(&path, "a string", value)) };
        if key.chars().count() > key_length || text.chars().count() > value_length {
            let message = format!(
                "Invalid '{path}': a key has at most {key_length} characters, a value {value_length}."
            );
            return Err(ApiError::invalid(Some("string_above_max_length"), message).at("metadata"));
        }
    }
    Ok(fields.value("metadata").cloned().unwrap_or(Value::Null))
}

/// The messages of `input`: a text, or a list of items.
fn input(fields: &Fields) -> Result<Vec<Message>, ApiError> {
    match fields.required("input")? {
        Value::String(text) => Ok(vec![Message::new(Role::User, text.as_str())]),
        Value::Array(items) if items.is_empty() => {
            let message = "Invalid 'input': empty array. Expected at least one item.";
            Err(ApiError::invalid(Some("empty_array"), message).at("input"))
        }
        Value::Array(items) => {
            let mut messages = Vec::new();
            for (index, value) in items.iter().enumerate() {
                item(&Fields::of_value(value, format!("input[{index}]"))?, &mut messages)?;
            }
            Ok(messages)
        }
        other => Err(wrong_type("input", "a string or an array of items", other)),
    }
}

/// Appends what an item says to the conversation.
fn item(fields: &Fields, messages: &mut Vec<Message>) -> Result<(), ApiError> {
    match fields.string("type")?.unwrap_or("message") {
        "message" => {}
        "function_call" => {
            fields.string("call_id")?.ok_or_else(|| fields.missing("call_id"))?;
            let name = fields.string("name")?.ok_or_else(|| fields.missing("name"))?;
            let arguments = fields.string("arguments")?.ok_or_else(|| fields.missing("arguments"))?;
            items::push_call(messages, name.to_owned(), arguments);
            return Ok(());
        }
        "function_call_output" => {
            fields.string("call_id")?.ok_or_else(|| fields.missing("call_id"))?;
            messages.push(Message::new(Role::Tool, texts_of(fields, "output")?));
            return Ok(());
        }
        "item_reference" => {
            let why = "Items are not kept by themselves; use 'previous_response_id'.";
            return Err(ApiError::unsupported(fields.path("type"), why));
        }
        other => {
            let known = ["message", "function_call", "function_call_output"];
            return Err(wrong_value(&fields.path("type"), other, &known));
        }
    }
    let role = match fields.string("role")?.ok_or_else(|| fields.missing("role"))? {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => {
            let roles = ["system", "developer", "user", "assistant"];
            return Err(wrong_value(&fields.path("role"), other, &roles));
        }
    };
    messages.push(Message::new(role, texts_of(fields, "content")?));
    Ok(())
}

/// A text, or parts that are joined.
fn texts_of(fields: &Fields, name: &str) -> Result<String, ApiError> {
    let path = fields.path(name);
    match fields.required(name)? {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let part = |(index, value)| text_of(&Fields::of_value(value, format!("{path}[{index}]"))?);
            parts.iter().enumerate().map(part).collect()
        }
        other => Err(wrong_type(&path, "a string or an array of parts", other)),
    }
}

fn text_of(fields: &Fields) -> Result<String, ApiError> {
    let name = match fields.string("type")?.ok_or_else(|| fields.missing("type"))? {
        "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        "input_image" | "input_file" | "input_audio" => {
            return Err(ApiError::unsupported(fields.path("type"), TEXT_ONLY));
        }
        other => return Err(wrong_value(&fields.path("type"), other, &["input_text", "output_text"])),
    };
    Ok(fields.string(name)?.ok_or_else(|| fields.missing(name))?.to_string())
}
