//! The events of a streamed response, in OpenAI's order: created, in progress, the item and its part, the text as it comes,
//! then the end of each from the inside out. Each has a name and a number.

use std::sync::Arc;

use engine::{FinishReason, Token};
use serde_json::{Map, Value, json};

use super::{Draft, part, status};
use crate::answers::{Chunks, WireUsage};
use crate::api_error::ApiError;
use crate::chat::Logprobs;
use crate::http::App;

/// The stream's wording.
pub(super) struct ItemEvents {
    app: Arc<App>,
    /// Gone once the response has ended.
    draft: Option<Draft>,
    item: String,
    text: String,
    logprobs: Vec<Value>,
    reason: FinishReason,
    number: u64,
}

impl ItemEvents {
    pub(super) fn new(app: Arc<App>, draft: Draft) -> Self {
        ItemEvents {
            app,
            item: draft.item.clone(),
            draft: Some(draft),
            text: String::new(),
            logprobs: Vec::new(),
            reason: FinishReason::Stop,
            number: 0,
        }
    }

    fn event(&mut self, name: &str, rest: Value, out: &mut String) {
        let mut event = Map::new();
        event.insert("type".into(), json!(name));
        event.insert("sequence_number".into(), json!(self.number));
        if let Value::Object(rest) = rest {
            event.extend(rest);
        }
        self.number += 1;
        out.push_str(&format!("event: {name}\ndata: {}\n\n", Value::Object(event)));
    }

    /// An event about the one part of the one item.
    fn part_event(&mut self, name: &str, rest: Value, out: &mut String) {
        let mut all = json!({ "item_id": self.item, "output_index": 0, "content_index": 0 });
        if let (Some(all), Value::Object(rest)) = (all.as_object_mut(), rest) {
            all.extend(rest);
        }
        self.event(name, all, out);
    }
}

impl Chunks for ItemEvents {
    fn begin(&mut self, out: &mut String) {
        let Some(draft) = &self.draft else { return };
        let response = draft.response("in_progress", json!([]), None);
        let item = draft.message("in_progress", None);
        self.event("response.created", json!({ "response": response }), out);
        self.event("response.in_progress", json!({ "response": response }), out);
        self.event("response.output_item.added", json!({ "output_index": 0, "item": item }), out);
        self.part_event("response.content_part.added", json!({ "part": part("", json!([])) }), out);
    }

    fn token(&mut self, _: usize, token: Token, out: &mut String) {
        let with_logprobs = self.draft.as_ref().is_some_and(|draft| draft.with_logprobs);
        if token.text.is_empty() && !with_logprobs {
            return;
        }
        let mut logprobs = json!([]);
        if with_logprobs {
            logprobs = Logprobs::new(self.app.engine.tokenizer(), std::slice::from_ref(&token)).json();
            self.logprobs.extend(logprobs.as_array().into_iter().flatten().cloned());
        }
        self.text.push_str(&token.text);
        let rest = json!({ "delta": token.text, "logprobs": logprobs });
        self.part_event("response.output_text.delta", rest, out);
    }

    fn done(&mut self, _: usize, reason: FinishReason, out: &mut String) {
        self.reason = reason;
        let Some(draft) = &self.draft else { return };
        let logprobs = Value::Array(self.logprobs.clone());
        let part = part(&self.text, logprobs.clone());
        let item = draft.message(status(reason), Some(part.clone()));
        let text = json!({ "text": self.text, "logprobs": logprobs });
        self.part_event("response.output_text.done", text, out);
        self.part_event("response.content_part.done", json!({ "part": part }), out);
        self.event("response.output_item.done", json!({ "output_index": 0, "item": item }), out);
    }

    fn end(&mut self, usage: WireUsage, out: &mut String) {
        let Some(draft) = self.draft.take() else { return };
        let (text, logprobs) = (std::mem::take(&mut self.text), std::mem::take(&mut self.logprobs));
        let response = draft.ended(&self.app.store, text, Value::Array(logprobs), self.reason, usage);
        let name = format!("response.{}", status(self.reason));
        self.event(&name, json!({ "response": response }), out);
    }

    /// The last event says that all is said, and no `[DONE]` follows it.
    fn close(&mut self, _: &mut String) {}

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        let Some(mut draft) = self.draft.take() else { return };
        let (code, message) = (error.name(), error.message());
        draft.head.insert("error".into(), json!({ "code": code, "message": message }));
        let response = draft.response("failed", json!([]), None);
        self.event("response.failed", json!({ "response": response }), out);
    }
}
