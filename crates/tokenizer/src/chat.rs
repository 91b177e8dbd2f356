//! The format of conversations, after `ChatFormat` in Meta's `llama3/tokenizer.py`:
//! `<|begin_of_text|>`, then for each message a header, two newlines, the content without white
//! space around it, `<|eot_id|>`. Llama 3.1's tools and dates are in [`Preamble`]; what a model
//! writes to call a tool is read by [`CallParser`].

mod calls;
mod layout;
mod list;
mod object;
mod python;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use calls::{CallParser, Piece};
pub use layout::{Layout, Preamble, prompt_with};

use crate::specials::PYTHON_TAG;
use crate::tokenizer::Tokenizer;
use crate::unicode::is_python_space;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a tool answered. Llama 3.1 calls it `ipython`, which is read as well.
    #[serde(alias = "ipython")]
    Tool,
}

impl Role {
    /// The word in the message's header.
    pub fn header(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "ipython",
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said. White space around it is not part of the format; the names of special tokens
    /// in it are ordinary text.
    pub content: String,
    /// Tools that the assistant calls. Where there are any, the content is not written, as in
    /// Meta's template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// What it is called with: an object as a rule.
    pub arguments: Value,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message { role, content: content.into(), tool_calls: Vec::new() }
    }

    /// The assistant calls tools.
    pub fn calling(tool_calls: Vec<ToolCall>) -> Self {
        Message { role: Role::Assistant, content: String::new(), tool_calls }
    }

    /// What stands between the header and the end. The white space around it is trimmed as Python's
    /// `str.strip` does, which is Meta's code's and the chat template's `trim` filter's way.
    fn body(&self) -> String {
        if self.tool_calls.is_empty() {
            return self.content.trim_matches(is_python_space).to_owned();
        }
        let call = |call: &ToolCall| {
            let arguments = python::dumps(&call.arguments);
            format!("{{\"name\": \"{}\", \"parameters\": {arguments}}}", call.name)
        };
        // Meta's template knows one call a message. Models that make several put this between them.
        self.tool_calls.iter().map(call).collect::<Vec<_>>().join("; ")
    }
}

/// The tokens that ask for an answer: the conversation, then the assistant's header. The
/// generation that follows ends with one of [`Tokenizer::stop_tokens`].
pub fn prompt(tokenizer: &Tokenizer, messages: &[Message]) -> Vec<u32> {
    let mut tokens = vec![tokenizer.bos()];
    for message in messages {
        push_message(tokenizer, message, &mut tokens);
    }
    push_header(tokenizer, Role::Assistant, &mut tokens);
    tokens
}

/// The tokens of a whole conversation, and for each of them whether the model is to learn to
/// predict it: the contents of the assistant's messages and the `<|eot_id|>` after them.
pub fn training_example(tokenizer: &Tokenizer, messages: &[Message]) -> (Vec<u32>, Vec<bool>) {
    let mut tokens = vec![tokenizer.bos()];
    let mut predict = vec![false];
    for message in messages {
        let content_start = push_message(tokenizer, message, &mut tokens);
        predict.resize(content_start, false);
        predict.resize(tokens.len(), message.role == Role::Assistant);
    }
    (tokens, predict)
}

/// Appends a message; the index at which its content starts.
fn push_message(tokenizer: &Tokenizer, message: &Message, tokens: &mut Vec<u32>) -> usize {
    push_header(tokenizer, message.role, tokens);
    let content_start = tokens.len();
    tokenizer.encode_into(&message.body(), tokens);
    tokens.push(tokenizer.eot());
    content_start
}

fn push_header(tokenizer: &Tokenizer, role: Role, tokens: &mut Vec<u32>) {
    tokens.push(tokenizer.start_header());
    tokenizer.encode_into(role.header(), tokens);
    tokens.push(tokenizer.end_header());
    tokenizer.encode_into("\n\n", tokens);
}

/// The token that Llama 3.1 puts before what a tool is to do.
pub fn python_tag(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.special(PYTHON_TAG)
}
