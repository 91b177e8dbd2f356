//! The format of conversations, after `ChatFormat` in Meta's `llama3/tokenizer.py`:
//! `<|begin_of_text|>`, then for each message a header, two newlines, the content without white
//! space around it, `<|eot_id|>`. Not here: tool definitions in the system prompt.

use serde::{Deserialize, Serialize};

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
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message { role, content: content.into() }
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
    // Python's str.strip, as Meta's code and the chat template's trim filter do it.
    tokenizer.encode_into(message.content.trim_matches(is_python_space), tokens);
    tokens.push(tokenizer.eot());
    content_start
}

fn push_header(tokenizer: &Tokenizer, role: Role, tokens: &mut Vec<u32>) {
    tokens.push(tokenizer.start_header());
    tokenizer.encode_into(role.header(), tokens);
    tokens.push(tokenizer.end_header());
    tokenizer.encode_into("\n\n", tokens);
}
