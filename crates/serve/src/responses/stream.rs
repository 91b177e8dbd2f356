//! The events of a streamed response, in OpenAI's order: created, in progress, each item and what it is made of as it comes,
//! and the end of each from the inside out. Each has a name and a number.

use std::sync::Arc;

use engine::{FinishReason, Token};
use serde_json::{Map, Value, json};

use super::items::{Change, Items, Kind, part};
use super::{Draft, status};
use crate::answers::{Chunks, WireUsage};
use crate::api_error::ApiError;
use crate::http::App;

/// The stream's wording.
pub(super) struct ItemEvents {
    app: Arc<App>,
    /// Gone once the response has ended.
    open: Option<(Draft, Items)>,
    reason: FinishReason,
    writer: Writer,
}

/// Numbers the events.
#[derive(Default)]
struct Writer {
    number: u64,
}

impl Writer {
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

    /// What became of the last item; it ends with `status`.
    fn change(&mut self, items: &Items, change: Change, status: &str, out: &mut String) {
        let Some((index, item)) = items.last() else { return };
        let about = |rest: Value| {
            let mut all = json!({ "item_id": item.id, "output_index": index });
            if let (Some(all), Value::Object(rest)) = (all.as_object_mut(), rest) {
                all.extend(rest);
            }
            all
        };
        let of_part = |rest: Value| {
            let mut all = about(rest);
            all["content_index"] = json!(0);
            all
        };
        match (change, &item.kind) {
            (Change::Begun, kind) => {
                let shown = json!({ "output_index": index, "item": item.json("in_progress") });
                self.event("response.output_item.added", shown, out);
                if matches!(kind, Kind::Message { .. }) {
                    let empty = of_part(json!({ "part": part("", json!([])) }));
                    self.event("response.content_part.added", empty, out);
                }
            }
            (Change::Text { delta, logprobs }, _) => {
                let rest = of_part(json!({ "delta": delta, "logprobs": logprobs }));
                self.event("response.output_text.delta", rest, out);
            }
            (Change::Arguments { delta }, _) => {
                self.event("response.function_call_arguments.delta", about(json!({ "delta": delta })), out);
            }
            (Change::Ended, kind) => {
                match kind {
                    Kind::Message { text, logprobs } => {
                        let whole = of_part(json!({ "text": text, "logprobs": logprobs }));
                        self.event("response.output_text.done", whole, out);
                        self.event(
                            "response.content_part.done",
                            of_part(json!({ "part": item.part() })),
                            out,
                        );
                    }
                    Kind::Call { name, arguments, .. } => {
                        let whole = about(json!({ "name": name, "arguments": arguments }));
                        self.event("response.function_call_arguments.done", whole, out);
                    }
                }
                let shown = json!({ "output_index": index, "item": item.json(status) });
                self.event("response.output_item.done", shown, out);
            }
        }
    }
}

impl ItemEvents {
    pub(super) fn new(app: Arc<App>, draft: Draft, items: Items) -> Self {
        ItemEvents { app, open: Some((draft, items)), reason: FinishReason::Stop, writer: Writer::default() }
    }
}

impl Chunks for ItemEvents {
    fn begin(&mut self, out: &mut String) {
        let Some((draft, items)) = &mut self.open else { return };
        let response = json!({ "response": draft.response("in_progress", json!([]), None) });
        self.writer.event("response.created", response.clone(), out);
        self.writer.event("response.in_progress", response, out);
        items.begin(&mut |items, change| self.writer.change(items, change, "completed", out));
    }

    fn token(&mut self, _: usize, token: Token, out: &mut String) {
        let Some((_, items)) = &mut self.open else { return };
        // An item behind which another begins is complete.
        items.token(&token, &mut |items, change| self.writer.change(items, change, "completed", out));
    }

    fn done(&mut self, _: usize, reason: FinishReason, out: &mut String) {
        self.reason = reason;
        let Some((_, items)) = &mut self.open else { return };
        items.finish(&mut |items, change| self.writer.change(items, change, status(reason), out));
    }

    fn end(&mut self, usage: WireUsage, out: &mut String) {
        let Some((draft, items)) = self.open.take() else { return };
        let response = draft.ended(&self.app.store, items, self.reason, usage);
        let name = format!("response.{}", status(self.reason));
        self.writer.event(&name, json!({ "response": response }), out);
    }

    /// The last event says that all is said, and no `[DONE]` follows it.
    fn close(&mut self, _: &mut String) {}

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        let Some((mut draft, _)) = self.open.take() else { return };
        let (code, message) = (error.name(), error.message());
        draft.head.insert("error".into(), json!({ "code": code, "message": message }));
        let response = draft.response("failed", json!([]), None);
        self.writer.event("response.failed", json!({ "response": response }), out);
    }
}
