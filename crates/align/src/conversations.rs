//! Conversations on disk: reads JSONL of OpenAI `messages`, Alpaca and ShareGPT (JSONL or one JSON array), writes
//! `messages`. Not a validator of services' whole schemas: tool definitions and pictures are not read.
//!
//! The form is recognised record by record, so a file may mix them. A record that cannot be used is named with its
//! line and skipped; only a file without one usable record is an error.

use crate::Error;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokenizer::chat::{Message, Role};

/// A record that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The file.
    pub path: PathBuf,
    /// The line on which the record begins, counted from 1.
    pub line: usize,
    /// Why it could not be used.
    pub reason: String,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}, line {}: {}", self.path.display(), self.line, self.reason)
    }
}

/// What a file of conversations held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversations {
    /// The usable conversations, in the order of the file. Each has an answer of the assistant.
    pub conversations: Vec<Vec<Message>>,
    /// The records that were left out.
    pub malformed: Vec<Malformed>,
}

/// Reads a file of conversations.
///
/// # Errors
/// Where the file cannot be read, or holds no usable conversation.
pub fn read(path: &Path) -> Result<Conversations, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let found = parse(path, &bytes);
    if found.conversations.is_empty() {
        let reason = found.malformed.first().map_or("the file is empty".to_owned(), |malformed| {
            format!("line {}: {}", malformed.line, malformed.reason)
        });
        return Err(Error::NoConversations { path: path.to_owned(), reason });
    }
    Ok(found)
}

/// Writes conversations as JSONL of `messages`; the file appears whole or not at all.
pub fn write<'a>(path: &Path, conversations: impl IntoIterator<Item = &'a [Message]>) -> Result<(), Error> {
    #[derive(Serialize)]
    struct Line<'a> {
        messages: &'a [Message],
    }
    let mut text = Vec::new();
    for messages in conversations {
        serde_json::to_writer(&mut text, &Line { messages }).expect("messages are plain text");
        text.push(b'\n');
    }
    Ok(ledger::atomic::write(path, &text)?)
}

/// Parses the bytes of a file; `path` only names it in what was left out.
pub fn parse(path: &Path, bytes: &[u8]) -> Conversations {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let records = if bytes.trim_ascii_start().first() == Some(&b'[') {
        array_records(bytes)
    } else {
        line_records(bytes)
    };
    let mut found = Conversations::default();
    for (line, record) in records {
        let parsed = std::str::from_utf8(record)
            .map_err(|error| format!("not UTF-8 after byte {} of the record", error.valid_up_to()))
            .and_then(|text| {
                serde_json::from_str::<Value>(text).map_err(|error| format!("not JSON: {error}"))
            })
            .and_then(|value| conversation(&value));
        match parsed {
            Ok(messages) => found.conversations.push(messages),
            Err(reason) => found.malformed.push(Malformed { path: path.to_owned(), line, reason }),
        }
    }
    found
}

/// The lines that are not blank, numbered from 1.
fn line_records(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    bytes
        .split(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// The elements of the array that the file is, with the line on which each begins. Elements are cut at the commas
/// between balanced brackets, so that one bad element does not lose those after it.
fn array_records(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut records = Vec::new();
    let (mut line, mut depth) = (1, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    let mut begin: Option<(usize, usize)> = None;
    for (place, &byte) in bytes.iter().enumerate() {
        if byte == b'\n' {
            line += 1;
        }
        if in_string {
            match (escaped, byte) {
                (true, _) => escaped = false,
                (false, b'\\') => escaped = true,
                (false, b'"') => in_string = false,
                _ => {}
            }
            continue;
        }
        let ends = depth == 1 && matches!(byte, b',' | b']');
        if ends {
            if let Some((first, first_line)) = begin.take() {
                records.push((first_line, bytes[first..place].trim_ascii()));
            }
        } else if depth > 0 && begin.is_none() && !byte.is_ascii_whitespace() {
            begin = Some((place, line));
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && byte == b']' {
            break;
        }
    }
    if let Some((first, first_line)) = begin {
        records.push((first_line, bytes[first..].trim_ascii()));
    }
    records
}

/// One record in any of the forms.
fn conversation(value: &Value) -> Result<Vec<Message>, String> {
    let Some(record) = value.as_object() else { return Err("not a JSON object".to_owned()) };
    let messages = if let Some(messages) = record.get("messages") {
        list(messages, "messages")?.iter().enumerate().map(openai_message).collect::<Result<Vec<_>, _>>()?
    } else if let Some(turns) = record.get("conversations") {
        let mut messages = system(record.get("system"));
        for turn in list(turns, "conversations")?.iter().enumerate() {
            messages.push(sharegpt_message(turn)?);
        }
        messages
    } else if record.contains_key("instruction") {
        alpaca(record)?
    } else if record.contains_key("prompt") {
        let answer = record.get("response").or_else(|| record.get("completion"));
        vec![
            Message::new(Role::User, text(record.get("prompt"), "prompt")?),
            Message::new(Role::Assistant, text(answer, "response")?),
        ]
    } else {
        return Err("none of messages, conversations, instruction or prompt is in the record".to_owned());
    };
    let answered = messages
        .iter()
        .skip_while(|message| message.role == Role::Assistant)
        .any(|message| message.role == Role::Assistant);
    if !answered {
        return Err("no answer of the assistant to anything".to_owned());
    }
    Ok(messages)
}

fn alpaca(record: &serde_json::Map<String, Value>) -> Result<Vec<Message>, String> {
    let mut messages = system(record.get("system"));
    // LLaMA-Factory's extension: earlier turns as pairs.
    if let Some(history) = record.get("history").filter(|history| !history.is_null()) {
        for pair in list(history, "history")? {
            let pair = list(pair, "a turn of history")?;
            messages.push(Message::new(Role::User, text(pair.first(), "a question of history")?));
            messages.push(Message::new(Role::Assistant, text(pair.get(1), "an answer of history")?));
        }
    }
    let mut question = text(record.get("instruction"), "instruction")?;
    let input = record.get("input").and_then(Value::as_str).unwrap_or_default();
    if !input.trim().is_empty() {
        question = format!("{question}\n\n{input}");
    }
    messages.push(Message::new(Role::User, question));
    messages.push(Message::new(Role::Assistant, text(record.get("output"), "output")?));
    Ok(messages)
}

fn openai_message((index, message): (usize, &Value)) -> Result<Message, String> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool" | "function" | "ipython") => Role::Tool,
        Some(other) => return Err(format!("message {} has the unknown role {other:?}", index + 1)),
        None => return Err(format!("message {} has no role", index + 1)),
    };
    let content = match message.get("content") {
        Some(Value::Array(parts)) => {
            let texts = parts.iter().map(|part| part.get("text").and_then(Value::as_str));
            let texts = texts.collect::<Option<Vec<_>>>();
            Value::String(
                texts.ok_or_else(|| format!("message {} has a part without text", index + 1))?.concat(),
            )
        }
        other => other.cloned().unwrap_or_default(),
    };
    Ok(Message::new(role, text(Some(&content), &format!("the content of message {}", index + 1))?))
}

fn sharegpt_message((index, turn): (usize, &Value)) -> Result<Message, String> {
    let role = match turn.get("from").and_then(Value::as_str) {
        Some("system") => Role::System,
        Some("human" | "user") => Role::User,
        Some("gpt" | "assistant" | "chatgpt" | "bard" | "bing" | "model" | "function_call") => {
            Role::Assistant
        }
        Some("tool" | "observation" | "function_response") => Role::Tool,
        Some(other) => return Err(format!("turn {} is from the unknown {other:?}", index + 1)),
        None => return Err(format!("turn {} has no from", index + 1)),
    };
    Ok(Message::new(role, text(turn.get("value"), &format!("the value of turn {}", index + 1))?))
}

/// A system message, where there is text for one.
fn system(value: Option<&Value>) -> Vec<Message> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    if text.trim().is_empty() { Vec::new() } else { vec![Message::new(Role::System, text)] }
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a [Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{name} is not a list"))
}

fn text(value: Option<&Value>, name: &str) -> Result<String, String> {
    match value {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.clone()),
        Some(Value::String(_)) => Err(format!("{name} is empty")),
        Some(Value::Null) | None => Err(format!("{name} is missing")),
        Some(_) => Err(format!("{name} is not text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn short(messages: &[Message]) -> String {
        let shown: Vec<String> = messages
            .iter()
            .map(|message| {
                format!("{}:{}", message.role.header().chars().next().unwrap_or('?'), message.content)
            })
            .collect();
        shown.join("|")
    }

    fn check(text: &str, conversations: &[&str], malformed: &[(usize, &str)]) {
        let found = parse(Path::new("x.jsonl"), text.as_bytes());
        let shown: Vec<String> = found.conversations.iter().map(|messages| short(messages)).collect();
        assert_eq!(shown, conversations, "{text}");
        assert_eq!(found.malformed.len(), malformed.len(), "{text}: {:?}", found.malformed);
        for (found, (line, reason)) in found.malformed.iter().zip(malformed) {
            assert_eq!(found.line, *line, "{found}");
            assert!(found.reason.contains(reason), "{found} has not {reason:?}");
        }
    }

    #[test]
    fn every_form_is_read() {
        check(
            r#"{"messages": [{"role": "developer", "content": "S"}, {"role": "user", "content": [{"type": "text", "text": "Q"}]}, {"role": "assistant", "content": "A"}]}"#,
            &["s:S|u:Q|a:A"],
            &[],
        );
        check(r#"{"instruction": "Add", "input": "1 2", "output": "3"}"#, &["u:Add\n\n1 2|a:3"], &[]);
        check(
            r#"{"instruction": "I", "input": null, "output": "O", "system": "S", "history": [["q", "a"]]}"#,
            &["s:S|u:q|a:a|u:I|a:O"],
            &[],
        );
        check(
            r#"{"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": "S"}"#,
            &["s:S|u:Q|a:A"],
            &[],
        );
        check(r#"{"prompt": "P", "response": "R"}"#, &["u:P|a:R"], &[]);
    }

    #[test]
    fn arrays_are_read_element_by_element() {
        check(
            "\u{feff}[\n {\"instruction\": \"a], {\\\"\", \"output\": \"b\"},\n {\"instruction\": oops},\n\n {\"instruction\": \"c\", \"output\": \"d\"}\n]\n",
            &["u:a], {\"|a:b", "u:c|a:d"],
            &[(3, "not JSON")],
        );
        check("[", &[], &[]);
        check(
            r#"[{"instruction": "a", "output": "b"}, {"instruction": "c"#,
            &["u:a|a:b"],
            &[(1, "not JSON")],
        );
    }

    #[test]
    fn malformed_lines_are_named_and_skipped() {
        check(
            concat!(
                "{\"messages\": []}\n",
                "\n",
                "{\"messages\": [{\"role\": \"king\", \"content\": \"x\"}]}\n",
                "7\n",
                "{\"instruction\": \"x\", \"output\": \" \"}\n",
                "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\", \"content\": null}]}\n",
                "{\"conversations\": 3}\n",
                "{\"text\": \"x\"}\n",
                "{\"instruction\": \"x\", \"output\": [\"a\"]}\n",
                "{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}\n",
                "{\"prompt\": \"P\", \"completion\": \"R\"}",
            ),
            &["u:P|a:R"],
            &[
                (1, "no answer"),
                (3, "unknown role \"king\""),
                (4, "not a JSON object"),
                (5, "output is empty"),
                (6, "the content of message 2 is missing"),
                (7, "conversations is not a list"),
                (8, "none of"),
                (9, "output is not text"),
                (10, "no answer"),
            ],
        );
        let found = parse(Path::new("x"), b"{\"prompt\": \"\xff\", \"response\": \"R\"}");
        assert!(found.malformed[0].reason.contains("UTF-8"), "{:?}", found.malformed);
    }

    #[test]
    fn files_without_conversations_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.jsonl");
        assert!(matches!(read(&path), Err(Error::Read { .. })));
        std::fs::write(&path, "{}\n").unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("line 1") && error.hint().is_some(), "{error}");
    }

    fn message() -> impl Strategy<Value = Message> {
        let role = prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant), Just(Role::Tool)];
        (role, "\\PC{1,12}").prop_map(|(role, content)| Message::new(role, format!("x{content}")))
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(Path::new("x"), &bytes);
        }

        #[test]
        fn any_json_like_text_is_survived(text in r#"[\[\]{}",:\\a-c0-9 \n]{0,200}"#) {
            parse(Path::new("x"), text.as_bytes());
        }

        #[test]
        fn what_is_written_is_read_back(messages in proptest::collection::vec(message(), 1..5)) {
            let mut messages = messages;
            messages.push(Message::new(Role::User, "q"));
            messages.push(Message::new(Role::Assistant, "a"));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("written.jsonl");
            write(&path, [messages.as_slice(), messages.as_slice()]).unwrap();
            let found = read(&path).unwrap();
            prop_assert_eq!(found.conversations, vec![messages.clone(), messages]);
            prop_assert!(found.malformed.is_empty());
        }
    }
}
