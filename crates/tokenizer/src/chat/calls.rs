//! From what a Llama writes to the tools that it calls: `{"name": …, "parameters": {…}}`, one or several of them, with or
//! without `<|python_tag|>` before; `<function=NAME>{…}</function>`; Llama 3.2's lists of Python calls, `[f(a=1), g(b="x")]`;
//! and, behind the tag, calls of built-in tools and programs. What turns out not to be a call is the answer's text, and none of it is lost.

use serde_json::{Map, Value, json};

use super::layout::CODE_INTERPRETER;
use super::list::{self, Start};
use super::object::Scanner;

/// What a piece of generated text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// More of the answer's text.
    Content(String),
    /// A tool is called.
    Call {
        /// The tool.
        name: String,
    },
    /// More of the arguments of the latest call: JSON.
    Arguments(String),
}

/// Reads one answer as it is generated.
///
/// Between two calls white space, `;` and `,` are taken for separators; they and the wrapping of a call are all that is not
/// given back.
#[derive(Debug)]
pub struct CallParser {
    tools: Vec<String>,
    builtin_tools: Vec<String>,
    certain: bool,
    state: State,
    /// Text of which it is not known yet what it is.
    held: String,
    calls: usize,
    /// `<|python_tag|>` stands before what is held.
    tagged: bool,
}

#[derive(Debug)]
enum State {
    /// Before anything but white space, or behind a call.
    Open,
    /// All that follows is text.
    Content,
    /// What is held begins with an object.
    Object {
        scanner: Scanner,
        /// Bytes of its arguments that are given away, once the call is begun.
        sent: Option<usize>,
    },
    /// What is held begins with `<function=`.
    Function,
    /// What is held begins with `[` at this byte.
    List(usize),
    /// A call of a built-in tool, or a program; known at its end.
    Code,
}

const FUNCTION: &str = "<function=";
const END_OF_FUNCTION: &str = "</function>";

impl CallParser {
    /// For an answer that may call these tools, by name; of the built-in ones only those given.
    pub fn new(tools: Vec<String>, builtin_tools: Vec<String>) -> Self {
        CallParser {
            tools,
            builtin_tools,
            certain: false,
            state: State::Open,
            held: String::new(),
            calls: 0,
            tagged: false,
        }
    }

    /// For an answer whose calls are known to be valid, because a constraint sees to it: arguments are given as they come.
    /// Otherwise a call is given once it is whole and was found to be valid.
    pub fn certain(self) -> Self {
        CallParser { certain: true, ..self }
    }

    /// Takes more of the answer.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.step(false, &mut pieces) {}
        pieces
    }

    /// `<|python_tag|>` was generated.
    pub fn push_tag(&mut self) -> Vec<Piece> {
        let mut pieces = self.settle();
        self.state = State::Open;
        self.tagged = true;
        pieces.retain(|piece| *piece != Piece::Content(String::new()));
        pieces
    }

    /// The answer is over.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while self.step(true, &mut pieces) {}
        pieces.extend(self.settle());
        pieces
    }

    /// Whether a tool was called.
    pub fn called(&self) -> bool {
        self.calls > 0
    }

    /// What is held, as what it is if nothing follows.
    fn settle(&mut self) -> Vec<Piece> {
        let held = std::mem::take(&mut self.held);
        if let State::Object { sent: Some(sent), .. } = self.state {
            // A call that was begun and cut off.
            return vec![Piece::Arguments(held[sent..].to_owned())];
        }
        let separators = self.calls > 0 && held.trim().is_empty();
        if held.is_empty() || separators { Vec::new() } else { vec![Piece::Content(held)] }
    }

    /// Finds out one more thing about what is held; false when there is nothing to find out yet.
    fn step(&mut self, last: bool, pieces: &mut Vec<Piece>) -> bool {
        match &mut self.state {
            State::Open => self.open(),
            State::Content => {
                if !self.held.is_empty() {
                    pieces.push(Piece::Content(std::mem::take(&mut self.held)));
                }
                false
            }
            State::Object { .. } => self.object(pieces),
            State::Function => self.function(last, pieces),
            &mut State::List(start) => self.list(start, last, pieces),
            State::Code => last && self.code(pieces),
        }
    }

    fn open(&mut self) -> bool {
        let is_separator = |c: char| c.is_whitespace() || (self.calls > 0 && matches!(c, ';' | ','));
        let text = self.held.trim_start_matches(is_separator);
        let start = self.held.len() - text.len();
        self.state = match text {
            "" => return false,
            _ if text.starts_with('{') => State::Object { scanner: Scanner::at(start), sent: None },
            _ if text.starts_with(FUNCTION) => State::Function,
            _ if FUNCTION.starts_with(text) => return false,
            // Where a constraint sees to calls, they are JSON, and a list is an answer that it allows.
            _ if text.starts_with('[') && !self.certain => State::List(start),
            _ if self.tagged => State::Code,
            _ => State::Content,
        };
        true
    }

    fn object(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let State::Object { scanner, sent } = &mut self.state else { return false };
        scanner.advance(&self.held);
        if sent.is_none() && (scanner.broken() || !may_be_call(scanner, &self.held, &self.tools)) {
            self.state = if self.tagged { State::Code } else { State::Content };
            return true;
        }
        if self.certain && sent.is_none() && scanner.end().is_none() {
            let open = scanner.open_member().filter(|(key, _)| is_arguments(&self.held[key.clone()]));
            let name = member(scanner, &self.held, "name").and_then(|name| serde_json::from_str(name).ok());
            if let (Some((_, start)), Some(name)) = (open, name) {
                pieces.push(Piece::Call { name });
                self.calls += 1;
                *sent = Some(start);
            }
        }
        if let Some(sent) = sent {
            let inside = scanner.inside().max(*sent);
            if inside > *sent {
                pieces.push(Piece::Arguments(self.held[*sent..inside].to_owned()));
                *sent = inside;
            }
            let Some(end) = scanner.end() else { return false };
            return self.behind_call(end);
        }
        let Some(end) = scanner.end() else { return false };
        match call_of(scanner, &self.held) {
            Some((name, arguments)) => {
                pieces.extend([Piece::Call { name }, Piece::Arguments(arguments)]);
                self.calls += 1;
                self.behind_call(end)
            }
            None => {
                self.state = if self.tagged { State::Code } else { State::Content };
                true
            }
        }
    }

    fn behind_call(&mut self, end: usize) -> bool {
        self.held.drain(..end);
        self.state = State::Open;
        self.tagged = false;
        !self.held.is_empty()
    }

    fn function(&mut self, last: bool, pieces: &mut Vec<Piece>) -> bool {
        let start = self.held.find(FUNCTION).unwrap_or(0) + FUNCTION.len();
        let body = &self.held[start..];
        let Some((name, arguments)) = body.split_once('>') else {
            let hopeful = !last && self.tools.iter().any(|tool| tool.starts_with(body));
            return self.content_unless(hopeful);
        };
        let known = self.tools.iter().any(|tool| tool == name);
        let object = arguments.trim_start();
        let from = self.held.len() - object.len();
        if !known || !(object.is_empty() || object.starts_with('{')) {
            return self.content_unless(false);
        }
        let mut scanner = Scanner::at(from);
        scanner.advance(&self.held);
        let Some(end) = scanner.end() else { return self.content_unless(!scanner.broken() && !last) };
        let rest = self.held[end..].trim_start();
        let closing = self.held.len() - rest.len();
        let end = if rest.starts_with(END_OF_FUNCTION) {
            closing + END_OF_FUNCTION.len()
        } else if !last && END_OF_FUNCTION.starts_with(rest) {
            return false;
        } else {
            end
        };
        let arguments = &self.held[from..scanner.end().unwrap_or(from)];
        if !is_object(arguments) {
            return self.content_unless(false);
        }
        pieces.extend([Piece::Call { name: name.to_owned() }, Piece::Arguments(arguments.to_owned())]);
        self.calls += 1;
        self.behind_call(end)
    }

    fn list(&mut self, start: usize, last: bool, pieces: &mut Vec<Piece>) -> bool {
        match list::read(&self.held[start..], &self.tools) {
            Start::Calls(calls, bytes) => {
                self.calls += calls.len();
                for (name, arguments) in calls {
                    let arguments = Piece::Arguments(Value::Object(arguments).to_string());
                    pieces.extend([Piece::Call { name }, arguments]);
                }
                self.behind_call(start + bytes)
            }
            Start::Unfinished if !last => false,
            _ => {
                self.state = if self.tagged { State::Code } else { State::Content };
                true
            }
        }
    }

    fn content_unless(&mut self, hopeful: bool) -> bool {
        if !hopeful {
            self.state = State::Content;
        }
        !hopeful
    }

    fn code(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let text = self.held.trim();
        let is_builtin = |name: &str| self.builtin_tools.iter().any(|builtin| builtin == name);
        let call = match builtin_call(text).filter(|(name, _)| is_builtin(name)) {
            Some((name, arguments)) => Some((name.to_owned(), Value::Object(arguments))),
            None if is_builtin(CODE_INTERPRETER) && !text.is_empty() => {
                Some((CODE_INTERPRETER.to_owned(), json!({ "code": text })))
            }
            None => None,
        };
        let Some((name, arguments)) = call else { return self.content_unless(false) };
        pieces.extend([Piece::Call { name }, Piece::Arguments(arguments.to_string())]);
        self.calls += 1;
        let end = self.held.len();
        self.behind_call(end)
    }
}

fn is_arguments(key: &str) -> bool {
    // Meta's word, and OpenAI's, which models fall into.
    matches!(key, "parameters" | "arguments")
}

/// The text of the value of a member that is whole.
fn member<'a>(scanner: &Scanner, text: &'a str, name: &str) -> Option<&'a str> {
    let found = scanner.members().iter().find(|member| &text[member.key.clone()] == name)?;
    Some(&text[found.value.clone()])
}

/// Whether all of an object that has been read so far could be a call: so other JSON is not held back to its end.
fn may_be_call(scanner: &Scanner, text: &str, tools: &[String]) -> bool {
    let known_key = |key: &str| is_arguments(key) || matches!(key, "name" | "type" | "id");
    let known_tool = |name: &str| {
        tools.iter().any(|tool| serde_json::from_str(name).is_ok_and(|name: String| name == *tool))
    };
    scanner.latest_key().is_none_or(|key| known_key(&text[key]))
        && member(scanner, text, "name").is_none_or(known_tool)
}

/// The name, and the arguments as they were written. [`may_be_call`] has seen to it that the tool is known.
fn call_of(scanner: &Scanner, text: &str) -> Option<(String, String)> {
    let name = serde_json::from_str(member(scanner, text, "name")?).ok()?;
    let mut arguments = scanner.members().iter().filter(|member| is_arguments(&text[member.key.clone()]));
    let (only, None) = (arguments.next()?, arguments.next()) else { return None };
    let arguments = &text[only.value.clone()];
    is_object(arguments).then(|| (name, arguments.to_owned()))
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

/// `name.call(key="value", …)`.
fn builtin_call(text: &str) -> Option<(&str, Map<String, Value>)> {
    let (name, arguments) = text.split_once(".call(")?;
    let mut rest = arguments.strip_suffix(')')?;
    let mut values = Map::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        values.insert(key.trim().to_owned(), value.into());
        rest = after.trim_start_matches([',', ' ']);
    }
    Some((name, values))
}

#[cfg(test)]
mod tests;
