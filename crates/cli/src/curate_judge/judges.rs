//! Who judges: a model in this process, its answers held to the form by the engine, or one behind an endpoint of OpenAI's API,
//! asked for the form in the ways that it understands.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use engine::{Constraint, Engine, Request, Sampling};
use hub::endpoint::Endpoint;
use serde_json::{Value, json};
use tokenizer::chat::{Message, Preamble, Role, prompt_with};

use super::rubric::Rubric;
use crate::endpoint::{model_of, refuses, unanswered};
use crate::errors::Error;
use crate::open;
use crate::progress::Shown;

/// The most tokens of an answer: a sentence and a number, in whatever vocabulary.
const ANSWER_TOKENS: usize = 400;
/// How freely a judge answers whose first answer was none.
const SECOND_TEMPERATURE: f32 = 0.6;

/// What came back, and what it took.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub text: String,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Fault {
    /// This document cannot be judged; others may.
    Document(String),
    /// Nobody can be asked any more.
    Judge(Error),
}

/// Whoever is asked.
pub enum Judge {
    Local(Box<Local>),
    Remote(Remote),
}

impl Judge {
    /// Asks about a text. The first attempt takes the likeliest answer, later ones draw another each.
    pub fn ask(&self, rubric: &Rubric, text: &str, attempt: u32, stop: &AtomicBool) -> Result<Answer, Fault> {
        match self {
            Judge::Local(local) => local.ask(rubric, text, attempt),
            Judge::Remote(remote) => remote.ask(rubric, text, attempt, stop),
        }
    }

    /// What the judge is called in the ratings.
    pub fn name(&self) -> &str {
        match self {
            Judge::Local(local) => &local.name,
            Judge::Remote(remote) => &remote.model,
        }
    }
}

fn temperature(attempt: u32) -> f32 {
    if attempt == 0 { 0.0 } else { SECOND_TEMPERATURE }
}

/// A model in this process.
pub struct Local {
    engine: Engine,
    name: String,
}

impl Local {
    /// Opens a run, a model's folder, a GGUF file or a model that was pulled.
    pub fn open(path: &Path, set: &[String], rubric: &Rubric, shown: &Shown) -> Result<Self, Error> {
        let found = open::find(path)?;
        let settings = open::engine_settings(&found, set)?;
        let engine = open::engine(open::load(&found, settings.precision, shown)?, settings, shown)?;
        // A form that the engine cannot keep to is said before the first document, not at each.
        engine.prepare(&Constraint::JsonSchema(rubric.schema()))?;
        let local = Self { engine, name: found.name };
        let room = local.engine.context().saturating_sub(ANSWER_TOKENS);
        let least = local.prompt(rubric, "").len();
        if least >= room {
            return Err(Error::Usage {
                message: format!(
                    "the rubric takes {least} tokens and an answer {ANSWER_TOKENS}, and the model's context is {}",
                    local.engine.context()
                ),
                hint: "take a model of a longer context, or a shorter rubric".to_owned(),
            });
        }
        Ok(local)
    }

    fn prompt(&self, rubric: &Rubric, text: &str) -> Vec<u32> {
        let messages =
            [Message::new(Role::System, rubric.system()), Message::new(Role::User, rubric.document(text))];
        prompt_with(self.engine.tokenizer(), &messages, &Preamble::default())
    }

    /// The prompt with as much of the text as the context holds.
    fn fitting(&self, rubric: &Rubric, text: &str) -> Vec<u32> {
        let room = self.engine.context() - ANSWER_TOKENS;
        let mut kept = text;
        loop {
            let prompt = self.prompt(rubric, kept);
            if prompt.len() <= room || kept.is_empty() {
                return prompt;
            }
            // By the share that is too much, and a little more, so that few rounds do.
            let bytes = kept.len() * room / prompt.len();
            kept = &kept[..kept.floor_char_boundary(bytes.min(kept.len() - 1) * 19 / 20)];
        }
    }

    fn ask(&self, rubric: &Rubric, text: &str, attempt: u32) -> Result<Answer, Fault> {
        let request = Request {
            max_tokens: Some(ANSWER_TOKENS),
            sampling: Sampling {
                temperature: temperature(attempt),
                seed: Some(attempt.into()),
                ..Sampling::default()
            },
            constraint: Some(Constraint::JsonSchema(rubric.schema())),
            ..Request::new(self.fitting(rubric, text))
        };
        let done = self.engine.complete(request).map_err(|error| Fault::Judge(error.into()))?;
        Ok(Answer {
            text: done.text,
            prompt_tokens: done.usage.prompt_tokens as u64,
            completion_tokens: done.usage.completion_tokens as u64,
        })
    }
}

/// A model behind an endpoint.
pub struct Remote {
    endpoint: Endpoint,
    model: String,
    /// How the form is asked for, of [`FORMS`]: what worked last.
    form: AtomicU8,
}

/// From the strictest to what every server takes.
const FORMS: u8 = 3;

impl Remote {
    /// The model of this name, or the only one that the endpoint has.
    pub fn open(endpoint: Endpoint, model: Option<&str>, stop: &AtomicBool) -> Result<Self, Error> {
        let model = model_of(&endpoint, model, stop)?;
        Ok(Self { endpoint, model, form: AtomicU8::new(0) })
    }

    fn body(&self, rubric: &Rubric, text: &str, attempt: u32, form: u8) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": [
                {"role": "system", "content": rubric.system()},
                {"role": "user", "content": rubric.document(text)},
            ],
            "temperature": temperature(attempt),
            "max_tokens": ANSWER_TOKENS,
            "seed": attempt,
        });
        let format = match form {
            0 => json!({
                "type": "json_schema",
                "json_schema": {"name": "rating", "strict": true, "schema": rubric.schema()},
            }),
            1 => json!({"type": "json_object"}),
            _ => return body,
        };
        body["response_format"] = format;
        body
    }

    fn ask(&self, rubric: &Rubric, text: &str, attempt: u32, stop: &AtomicBool) -> Result<Answer, Fault> {
        let first = self.form.load(Ordering::Relaxed);
        let mut refusal = String::new();
        for form in first..FORMS {
            match self.endpoint.ask("/chat/completions", &self.body(rubric, text, attempt, form), stop) {
                Ok(answer) => {
                    // What a server does not know it refuses; if less is taken, that is what it knows.
                    self.form.fetch_max(form, Ordering::Relaxed);
                    return Self::read(&answer).map_err(Fault::Document);
                }
                // Of the form or of the document, which only the next form tells.
                Err(hub::Error::Answer { reason, .. }) if refuses(&reason) => refusal = reason,
                Err(error) => return Err(Fault::Judge(unanswered(error))),
            }
        }
        Err(Fault::Document(refusal))
    }

    fn read(answer: &Value) -> Result<Answer, String> {
        let content = &answer["choices"][0]["message"]["content"];
        let text = content.as_str().ok_or_else(|| {
            let said = answer.to_string();
            format!("an answer without content: {}", said.chars().take(100).collect::<String>())
        })?;
        let tokens = |name: &str| answer["usage"][name].as_u64().unwrap_or(0);
        Ok(Answer {
            text: text.to_owned(),
            prompt_tokens: tokens("prompt_tokens"),
            completion_tokens: tokens("completion_tokens"),
        })
    }
}
