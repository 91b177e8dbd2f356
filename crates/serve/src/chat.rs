//! `POST /v1/chat/completions`: messages in, the assistant's next message out.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use engine::{Alternative, Completion, FinishReason, Token};
use serde::Serialize;
use serde_json::Value;
use tokenizer::Tokenizer;
use tokenizer::chat::{Message, Role};

use crate::answers::{Answers, Chunks, WireUsage, event, finish_reason};
use crate::api_error::ApiError;
use crate::fields::{Fields, wrong_type, wrong_value};
use crate::http::{App, Stamp, off_runtime};
use crate::parameters::{MAX_LOGPROBS, Parameters, Wanted, refuse};
use crate::tools::{CallPart, Form, Part, Reader, Tools, gather, past_calls};

const TEXT_ONLY: &str = "This server takes and gives text.";
const NO_FUNCTIONS: &str =
    "Functions are called by way of 'tools' and 'tool_choice', which came in their place.";

/// Answers one request; `body` is its parsed JSON.
pub(crate) async fn complete(app: Arc<App>, body: Value) -> Result<Response, ApiError> {
    let fields = Fields::of_body(&body)?;
    refuse_unsupported(&fields)?;
    let tokenizer = app.engine.tokenizer();
    let mut parameters = Parameters::read(&fields, &app)?;
    parameters.template.max_tokens = max_tokens(&fields)?;
    parameters.template.logprobs = logprobs(&fields)?;
    let messages = messages(&fields)?;
    let tools = Tools::read(&fields, Form::Nested)?;
    let wanted = Wanted::read(&fields)?;

    let (engine, with_tools) = (app.engine.clone(), tools.clone());
    let constraint = off_runtime(move || {
        let wanted = with_tools.constraint(&engine, wanted)?;
        wanted.map(|wanted| wanted.prepare(&engine)).transpose()
    });
    parameters.template.constraint = constraint.await?;
    let constrained = parameters.template.constraint.is_some();
    let prompt = tokenizer::chat::prompt_with(tokenizer, &messages, &tools.preamble());
    let reader = || tools.reader(tokenizer, constrained);
    let with_logprobs = parameters.template.logprobs.is_some();
    let answers = Answers::submit(&app, parameters.requests(&prompt), parameters.choices, "messages")?;
    let stamp = Stamp::new("chatcmpl-", &parameters.model);
    if parameters.stream {
        let logprobs_of = with_logprobs.then(|| tokenizer.clone());
        let include_usage = parameters.include_usage;
        return Ok(answers.stream(ChatChunks {
            stamp,
            readers: (0..parameters.choices).map(|_| reader()).collect(),
            tokenizer: logprobs_of,
            include_usage,
        }));
    }
    let (completions, usage) = answers.gather().await?;
    let choice = |(index, completion): (usize, Completion)| {
        let mut reader = reader();
        let mut parts: Vec<Part> = completion.tokens.iter().flat_map(|token| reader.token(token)).collect();
        parts.extend(reader.finish());
        let (content, tool_calls) = gather(parts);
        let content = (tool_calls.is_empty() || !content.is_empty()).then_some(content);
        Choice {
            index,
            logprobs: with_logprobs.then(|| Logprobs::new(tokenizer, &completion.tokens)),
            finish_reason: reason_of(&reader, completion.reason),
            message: AssistantMessage { role: "assistant", content, tool_calls, refusal: None },
        }
    };
    let choices = completions.into_iter().enumerate().map(choice).collect();
    Ok(Json(ChatCompletion { stamp, object: "chat.completion", choices, usage }).into_response())
}

/// An answer that calls tools ends for that reason, unless it was cut off.
fn reason_of(reader: &Reader, reason: FinishReason) -> &'static str {
    if reader.called() && reason == FinishReason::Stop { "tool_calls" } else { finish_reason(reason) }
}

fn refuse_unsupported(fields: &Fields) -> Result<(), ApiError> {
    refuse(fields, "functions", &[], NO_FUNCTIONS)?;
    refuse(fields, "function_call", &["none", "auto"], NO_FUNCTIONS)?;
    refuse(fields, "audio", &[], TEXT_ONLY)?;
    refuse(fields, "web_search_options", &[], "This server does not search the web.")?;
    if fields.strings("modalities", 16)?.iter().any(|modality| modality != "text") {
        return Err(ApiError::unsupported("modalities", TEXT_ONLY));
    }
    Ok(())
}

fn max_tokens(fields: &Fields) -> Result<Option<usize>, ApiError> {
    let newer = fields.count("max_completion_tokens", 1, usize::MAX)?;
    let older = fields.count("max_tokens", 1, usize::MAX)?;
    Ok(newer.or(older))
}

fn logprobs(fields: &Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    match fields.count("top_logprobs", 0, MAX_LOGPROBS)? {
        Some(_) if !wanted => {
            let message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.";
            Err(ApiError::invalid(None, message).at("top_logprobs"))
        }
        top => Ok(wanted.then(|| top.unwrap_or(0))),
    }
}

fn messages(fields: &Fields) -> Result<Vec<Message>, ApiError> {
    let list = match fields.required("messages")? {
        Value::Array(list) => list,
        other => return Err(wrong_type("messages", "an array of messages", other)),
    };
    if list.is_empty() {
        let message = "Invalid 'messages': empty array. Expected at least one message.";
        return Err(ApiError::invalid(Some("empty_array"), message).at("messages"));
    }
    let message = |(index, value)| message(&Fields::of_value(value, format!("messages[{index}]"))?);
    list.iter().enumerate().map(message).collect()
}

fn message(fields: &Fields) -> Result<Message, ApiError> {
    let role = match fields.string("role")?.ok_or_else(|| fields.missing("role"))? {
        // OpenAI's newer name for the same thing.
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        other => {
            let roles = ["system", "developer", "user", "assistant", "tool"];
            return Err(wrong_value(&fields.path("role"), other, &roles));
        }
    };
    refuse(fields, "function_call", &[], NO_FUNCTIONS)?;
    let tool_calls = if role == Role::Assistant { past_calls(fields)? } else { Vec::new() };
    if role == Role::Tool {
        fields.string("tool_call_id")?.ok_or_else(|| fields.missing("tool_call_id"))?;
    }
    let path = fields.path("content");
    let content = match fields.value("content") {
        None if !tool_calls.is_empty() => return Ok(Message::calling(tool_calls)),
        value => value.ok_or_else(|| fields.missing("content"))?,
    };
    let content = match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let part = |(index, value)| part(&Fields::of_value(value, format!("{path}[{index}]"))?);
            parts.iter().enumerate().map(part).collect::<Result<String, ApiError>>()?
        }
        other => return Err(wrong_type(&path, "a string or an array of parts", other)),
    };
    Ok(Message { role, content, tool_calls })
}

fn part(fields: &Fields) -> Result<String, ApiError> {
    match fields.string("type")?.ok_or_else(|| fields.missing("type"))? {
        "text" => Ok(fields.string("text")?.ok_or_else(|| fields.missing("text"))?.to_string()),
        "image_url" | "input_audio" | "file" => Err(ApiError::unsupported(fields.path("type"), TEXT_ONLY)),
        other => Err(wrong_value(&fields.path("type"), other, &["text"])),
    }
}

#[derive(Serialize)]
struct ChatCompletion {
    #[serde(flatten)]
    stamp: Stamp,
    object: &'static str,
    choices: Vec<Choice>,
    usage: WireUsage,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    message: AssistantMessage,
    logprobs: Option<Logprobs>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct AssistantMessage {
    role: &'static str,
    /// `null` where tools are called and nothing is said.
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallPart>,
    /// OpenAI's clients expect the key; a Llama refuses in its content.
    refusal: Option<String>,
}

/// Tokens with their log-probabilities and those of others in their place.
#[derive(Serialize)]
pub(crate) struct Logprobs {
    content: Vec<TokenLogprob>,
}

#[derive(Serialize)]
struct TokenLogprob {
    #[serde(flatten)]
    token: ScoredToken,
    top_logprobs: Vec<ScoredToken>,
}

#[derive(Serialize)]
struct ScoredToken {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl Logprobs {
    /// The list alone.
    pub(crate) fn json(&self) -> Value {
        serde_json::to_value(&self.content).unwrap_or_default()
    }

    pub(crate) fn new(tokenizer: &Tokenizer, tokens: &[Token]) -> Self {
        let scored = |id: u32, logprob: f32| ScoredToken {
            token: tokenizer.decode(&[id]),
            // JSON has no infinity; this is what OpenAI sends for what is beyond its reach.
            logprob: logprob.max(-9999.0),
            bytes: tokenizer.decode_bytes(&[id]),
        };
        let alternative = |&Alternative { id, logprob }: &Alternative| scored(id, logprob);
        let content = tokens.iter().map(|token| TokenLogprob {
            token: scored(token.id, token.logprob.unwrap_or(0.0)),
            top_logprobs: token.alternatives.iter().map(alternative).collect(),
        });
        Logprobs { content: content.collect() }
    }
}

/// The stream's wording.
struct ChatChunks {
    stamp: Stamp,
    /// One for each answer.
    readers: Vec<Reader>,
    /// There when log-probabilities are wanted.
    tokenizer: Option<Tokenizer>,
    include_usage: bool,
}

#[derive(Serialize)]
struct Chunk<'a> {
    #[serde(flatten)]
    stamp: &'a Stamp,
    object: &'static str,
    choices: &'a [ChunkChoice],
    /// Absent unless asked for; then `null` in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<WireUsage>>,
}

#[derive(Serialize)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize, Default)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallPart>,
}

impl From<Part> for Delta {
    fn from(part: Part) -> Self {
        match part {
            Part::Content(text) => Delta { content: Some(text), ..Delta::default() },
            Part::Call(call) => Delta { tool_calls: vec![call], ..Delta::default() },
        }
    }
}

impl ChatChunks {
    fn chunk(&self, choices: &[ChunkChoice], usage: Option<WireUsage>, out: &mut String) {
        let usage = self.include_usage.then_some(usage);
        event(&Chunk { stamp: &self.stamp, object: "chat.completion.chunk", choices, usage }, out);
    }
}

impl Chunks for ChatChunks {
    fn begin(&mut self, out: &mut String) {
        for index in 0..self.readers.len() {
            let delta = Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
            self.chunk(&[ChunkChoice { index, delta, logprobs: None, finish_reason: None }], None, out);
        }
    }

    fn token(&mut self, index: usize, token: Token, out: &mut String) {
        let mut logprobs =
            self.tokenizer.as_ref().map(|tokenizer| Logprobs::new(tokenizer, std::slice::from_ref(&token)));
        let mut deltas: Vec<Delta> = self.readers[index].token(&token).into_iter().map(Delta::from).collect();
        if deltas.is_empty() && logprobs.is_some() {
            // A token is told of when it comes, though its text is held back.
            deltas.push(Delta { content: Some(String::new()), ..Delta::default() });
        }
        for delta in deltas {
            let logprobs = logprobs.take();
            self.chunk(&[ChunkChoice { index, delta, logprobs, finish_reason: None }], None, out);
        }
    }

    fn done(&mut self, index: usize, reason: FinishReason, out: &mut String) {
        for part in self.readers[index].finish() {
            let delta = Delta::from(part);
            self.chunk(&[ChunkChoice { index, delta, logprobs: None, finish_reason: None }], None, out);
        }
        let finish_reason = Some(reason_of(&self.readers[index], reason));
        self.chunk(
            &[ChunkChoice { index, delta: Delta::default(), logprobs: None, finish_reason }],
            None,
            out,
        );
    }

    fn end(&mut self, usage: WireUsage, out: &mut String) {
        if self.include_usage {
            self.chunk(&[], Some(usage), out);
        }
    }
}
