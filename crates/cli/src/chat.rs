//! A conversation in the terminal: one line in, an answer out as it is made.
//! It keeps no more than the context holds, and knows the chat format only through the tokenizer.

use std::io::{BufRead, IsTerminal, Write};

use engine::{Engine, Event, FinishReason, Request};
use owo_colors::OwoColorize;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokenizer::Tokenizer;
use tokenizer::chat::{Message, Preamble, Role};

use crate::args::{Chat, Sampling};
use crate::errors::Error;
use crate::progress::Shown;
use crate::{errors, interrupt, open};

/// What the engine of a conversation calls its adapter.
const ADAPTER: &str = "adapter";

/// `alti chat`.
pub fn chat(args: &Chat, shown: &Shown) -> Result<(), Error> {
    let found = open::find(&args.run)?;
    let mut settings = open::engine_settings(&found, &args.set)?;
    if let Some(folder) = &args.adapter {
        // Of the others none is asked for.
        settings.adapters = [(ADAPTER.to_owned(), folder.clone())].into();
    }
    let engine = open::engine(open::load(&found, settings.precision, shown)?, settings, shown)?;
    interrupt::listen("");
    let mut talk = Talk::new(engine, args.system.clone(), args.sampling);
    talk.adapter = args.adapter.is_some().then(|| ADAPTER.to_owned());
    if let Some(prompt) = &args.prompt {
        talk.say(prompt)?;
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(Error::io("read", std::path::Path::new("standard input")))?;
            if !line.trim().is_empty() && !talk.take(line.trim())? {
                break;
            }
        }
        return Ok(());
    }
    anstream::eprintln!("{} {}", found.name.bold(), "/reset  /system TEXT  /exit".dimmed());
    converse(&mut talk)
}

/// Reads lines with editing and history until the person leaves.
fn converse(talk: &mut Talk) -> Result<(), Error> {
    let terminal = std::path::Path::new("the terminal");
    let broken = |error: ReadlineError| Error::io("read", terminal)(std::io::Error::other(error));
    let mut editor = DefaultEditor::new().map_err(broken)?;
    loop {
        match editor.readline("› ") {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                // A history that cannot grow is no reason to end a conversation.
                let _ = editor.add_history_entry(line.trim());
                match talk.take(line.trim()) {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    // A question that the engine refuses, such as one longer than the context, ends nothing else.
                    Err(error @ Error::Engine(_)) => drop(errors::show(&error)),
                    Err(error) => return Err(error),
                }
            }
            Err(ReadlineError::Interrupted) => anstream::eprintln!("{}", "/exit or Ctrl-D leaves".dimmed()),
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(broken(error)),
        }
    }
}

/// What a line means.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Say(&'a str),
    Exit,
    Reset,
    System(&'a str),
    Unknown(&'a str),
}

fn parse(line: &str) -> Line<'_> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match word {
        "/exit" | "/quit" => Line::Exit,
        "/reset" => Line::Reset,
        "/system" => Line::System(rest.trim()),
        _ if word.len() > 1 && word.starts_with('/') && !word[1..].contains('/') => Line::Unknown(word),
        _ => Line::Say(line),
    }
}

/// A conversation so far.
struct Talk {
    engine: Engine,
    /// The adapter that answers.
    adapter: Option<String>,
    system: Option<String>,
    sampling: Sampling,
    turns: Vec<Message>,
}

impl Talk {
    fn new(engine: Engine, system: Option<String>, sampling: Sampling) -> Self {
        Self { engine, adapter: None, system, sampling, turns: Vec::new() }
    }

    /// Does what the line says; `false` when the person leaves.
    fn take(&mut self, line: &str) -> Result<bool, Error> {
        match parse(line) {
            Line::Exit => return Ok(false),
            Line::Reset => {
                self.turns.clear();
                anstream::eprintln!("{}", "begun anew".dimmed());
            }
            Line::System("") => {
                self.system = None;
                anstream::eprintln!("{}", "no system message".dimmed());
            }
            Line::System(text) => {
                self.system = Some(text.to_owned());
                self.turns.clear();
                anstream::eprintln!("{}", "system message set, begun anew".dimmed());
            }
            Line::Unknown(word) => {
                anstream::eprintln!(
                    "{}",
                    format!("{word} is unknown; there are /reset, /system TEXT and /exit").dimmed()
                );
            }
            Line::Say(text) => self.say(text)?,
        }
        Ok(true)
    }

    /// Asks and keeps the answer. A question that has none is forgotten, so that the next one stands alone.
    fn say(&mut self, text: &str) -> Result<(), Error> {
        self.turns.push(Message::new(Role::User, text));
        let content = self.answer().inspect_err(|_| drop(self.turns.pop()))?;
        self.turns.push(Message::new(Role::Assistant, content));
        Ok(())
    }

    /// Writes the answer to standard output while it is made. Ctrl-C ends the answer, not the conversation.
    fn answer(&mut self) -> Result<String, Error> {
        let prompt = self.prompt();
        let room = self.engine.context().saturating_sub(prompt.len());
        let request = Request {
            max_tokens: Some(self.sampling.max_tokens.get().min(room.max(1))),
            sampling: engine::Sampling {
                temperature: self.sampling.temperature,
                top_p: self.sampling.top_p,
                seed: Some(self.sampling.seed),
                ..engine::Sampling::default()
            },
            adapter: self.adapter.clone(),
            ..Request::new(prompt)
        };
        interrupt::clear();
        let events = self.engine.submit(request)?;
        let mut answer = String::new();
        let mut out = anstream::stdout();
        let broken = Error::io("write", std::path::Path::new("standard output"));
        let mut write = |text: &str| out.write_all(text.as_bytes()).and_then(|()| out.flush());
        let mut written = Ok(());
        for event in events.iter() {
            match event {
                Event::Prompt(_) | Event::Embedding(_) => {}
                Event::Token(token) => {
                    answer.push_str(&token.text);
                    written = write(&token.text);
                }
                Event::Done { reason, .. } => {
                    if reason == FinishReason::Length {
                        written = written.and_then(|()| write(" …"));
                    }
                    break;
                }
                Event::Failed(error) => return Err(error.into()),
            }
            if interrupt::asked() || written.is_err() {
                break;
            }
        }
        // Dropping the receiver tells the engine to stop.
        drop(events);
        interrupt::clear();
        written.and_then(|()| write("\n")).map_err(broken)?;
        Ok(answer)
    }

    /// The conversation as tokens. The oldest turns are forgotten once less than a quarter of the context is left.
    fn prompt(&mut self) -> Vec<u32> {
        let tokenizer: &Tokenizer = self.engine.tokenizer();
        let most = self.engine.context() * 3 / 4;
        loop {
            let system = self.system.iter().map(|text| Message::new(Role::System, text.as_str()));
            let messages: Vec<Message> = system.chain(self.turns.iter().cloned()).collect();
            let prompt = tokenizer::chat::prompt_with(tokenizer, &messages, &Preamble::default());
            if prompt.len() <= most || self.turns.len() <= 1 {
                return prompt;
            }
            self.turns.drain(..2.min(self.turns.len() - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        for (line, wanted) in [
            ("hello", Line::Say("hello")),
            ("/exit", Line::Exit),
            ("/quit now", Line::Exit),
            ("/reset", Line::Reset),
            ("/system Be brief.", Line::System("Be brief.")),
            ("/system", Line::System("")),
            ("/sytem x", Line::Unknown("/sytem")),
            ("/usr/bin is a folder", Line::Say("/usr/bin is a folder")),
            ("/", Line::Say("/")),
        ] {
            assert_eq!(parse(line), wanted, "{line}");
        }
    }
}
