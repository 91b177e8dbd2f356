//! The items of a response as they grow, token by token: a message, calls of tools, in the order in which the model wrote
//! them. Streams tell of each change; other answers look at the end alone.

use engine::Token;
use serde_json::{Value, json};
use tokenizer::Tokenizer;
use tokenizer::chat::{Message, Role};

use crate::chat::Logprobs;
use crate::http::unique_id;
use crate::tools::{Part, Reader, past_call};

/// What was written so far.
pub(super) struct Items {
    items: Vec<Item>,
    reader: Reader,
    /// There when log-probabilities are wanted.
    tokenizer: Option<Tokenizer>,
    /// Whether the answer may be something else than one message.
    with_tools: bool,
    /// Of tokens of which it is not known yet whether they are text.
    pending: Vec<Value>,
    /// The last of them has not ended.
    open: bool,
}

pub(super) struct Item {
    pub(super) id: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Message { text: String, logprobs: Vec<Value> },
    Call { id: String, name: String, arguments: String },
}

/// What became of an item; all but the first are about the last one.
pub(super) enum Change {
    Begun,
    Text { delta: String, logprobs: Value },
    Arguments { delta: String },
    Ended,
}

impl Items {
    pub(super) fn new(reader: Reader, with_tools: bool, tokenizer: Option<Tokenizer>) -> Self {
        Items { items: Vec::new(), reader, tokenizer, with_tools, pending: Vec::new(), open: false }
    }

    pub(super) fn last(&self) -> Option<(usize, &Item)> {
        self.items.len().checked_sub(1).map(|index| (index, &self.items[index]))
    }

    /// Before the first token. Where nothing can be called, there will be a message.
    pub(super) fn begin(&mut self, out: &mut impl FnMut(&Self, Change)) {
        if !self.with_tools {
            self.open_message(out);
        }
    }

    pub(super) fn token(&mut self, token: &Token, out: &mut impl FnMut(&Self, Change)) {
        if let Some(tokenizer) = &self.tokenizer
            && let Value::Array(scored) = Logprobs::new(tokenizer, std::slice::from_ref(token)).json()
        {
            self.pending.extend(scored);
        }
        let parts = self.reader.token(token);
        if parts.is_empty() && !self.with_tools && self.tokenizer.is_some() {
            // A token without a text of its own.
            self.text(String::new(), out);
        }
        parts.into_iter().for_each(|part| self.part(part, out));
    }

    /// The answer is over: it has at least one item, and all have ended.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(&Self, Change)) {
        self.reader.finish().into_iter().for_each(|part| self.part(part, out));
        if self.items.is_empty() {
            self.open_message(out);
        }
        self.end(out);
    }

    fn part(&mut self, part: Part, out: &mut impl FnMut(&Self, Change)) {
        match part {
            Part::Content(text) => self.text(text, out),
            Part::Call(call) => match (call.id, call.function.name) {
                (Some(id), Some(name)) => {
                    self.end(out);
                    // The tokens of a call have no place to be told of.
                    self.pending.clear();
                    let kind = Kind::Call { id, name, arguments: call.function.arguments };
                    self.items.push(Item { id: format!("fc_{}", unique_id()), kind });
                    self.open = true;
                    out(self, Change::Begun);
                }
                _ => {
                    self.pending.clear();
                    let delta = call.function.arguments;
                    if let Some(Item { kind: Kind::Call { arguments, .. }, .. }) = self.items.last_mut() {
                        arguments.push_str(&delta);
                        out(self, Change::Arguments { delta });
                    }
                }
            },
        }
    }

    fn text(&mut self, delta: String, out: &mut impl FnMut(&Self, Change)) {
        self.open_message(out);
        let scored = std::mem::take(&mut self.pending);
        if let Some(Item { kind: Kind::Message { text, logprobs }, .. }) = self.items.last_mut() {
            text.push_str(&delta);
            logprobs.extend(scored.iter().cloned());
        }
        out(self, Change::Text { delta, logprobs: Value::Array(scored) });
    }

    /// Text goes to the message that is open, or to a new one.
    fn open_message(&mut self, out: &mut impl FnMut(&Self, Change)) {
        let in_message =
            self.open && self.items.last().is_some_and(|item| matches!(item.kind, Kind::Message { .. }));
        if in_message {
            return;
        }
        self.end(out);
        let kind = Kind::Message { text: String::new(), logprobs: Vec::new() };
        self.items.push(Item { id: format!("msg_{}", unique_id()), kind });
        self.open = true;
        out(self, Change::Begun);
    }

    fn end(&mut self, out: &mut impl FnMut(&Self, Change)) {
        if std::mem::take(&mut self.open) {
            out(self, Change::Ended);
        }
    }

    /// All of them on the wire. An answer that was cut off, was cut off in the last.
    pub(super) fn json(&self, status: &str) -> Value {
        let last = self.items.len().saturating_sub(1);
        let item =
            |(index, item): (usize, &Item)| item.json(if index == last { status } else { "completed" });
        self.items.iter().enumerate().map(item).collect()
    }

    /// What the conversation has more by them. Calls that were made at once are one message, as models write them.
    pub(super) fn messages(self) -> Vec<Message> {
        let mut messages = Vec::new();
        for item in self.items {
            match item.kind {
                Kind::Message { text, .. } => messages.push(Message::new(Role::Assistant, text)),
                Kind::Call { name, arguments, .. } => push_call(&mut messages, name, &arguments),
            }
        }
        messages
    }
}

/// Appends a call to the conversation, to the message of the calls before it if there are any.
pub(super) fn push_call(messages: &mut Vec<Message>, name: String, arguments: &str) {
    let call = past_call(name, arguments);
    match messages.last_mut() {
        Some(last) if last.role == Role::Assistant && !last.tool_calls.is_empty() => {
            last.tool_calls.push(call)
        }
        _ => messages.push(Message::calling(vec![call])),
    }
}

impl Item {
    /// As it is now.
    pub(super) fn json(&self, status: &str) -> Value {
        match &self.kind {
            Kind::Message { .. } => {
                let part = if status == "in_progress" { json!([]) } else { json!([self.part()]) };
                json!({ "id": self.id, "type": "message", "status": status, "role": "assistant", "content": part })
            }
            Kind::Call { id, name, arguments } => json!({
                "id": self.id, "type": "function_call", "status": status, "call_id": id, "name": name,
                "arguments": arguments,
            }),
        }
    }

    /// The one part of a message.
    pub(super) fn part(&self) -> Value {
        match &self.kind {
            Kind::Message { text, logprobs } => part(text, json!(logprobs)),
            Kind::Call { .. } => Value::Null,
        }
    }
}

/// A part of a message.
pub(super) fn part(text: &str, logprobs: Value) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs })
}
