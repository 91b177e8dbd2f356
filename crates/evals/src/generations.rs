//! What the model writes, for people to read: continuations of text and answers in conversation.

use crate::{Error, Settings};
use engine::{Engine, Request, Sampling};
use ledger::seed::Seed;
use serde::{Deserialize, Serialize};
use tokenizer::chat::{self, Message, Preamble, Role};

/// Whether text was continued or a question answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A text to go on with.
    Continuation,
    /// A question in conversation.
    Answer,
}

/// A prompt and what the model wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// How it was asked.
    pub form: Form,
    /// The text or question.
    pub prompt: String,
    /// What the model wrote.
    pub text: String,
}

/// Continues the settings' texts (drawn at their temperature, the same for the same seed) and answers their questions
/// (greedily).
pub fn generations(engine: &Engine, settings: &Settings, seed: Seed) -> Result<Vec<Generation>, Error> {
    settings.validate()?;
    let tokenizer = engine.tokenizer();
    let mut asked = Vec::new();
    let mut requests = Vec::new();
    for (index, text) in settings.continuations.iter().enumerate() {
        let mut prompt = vec![tokenizer.bos()];
        prompt.extend(tokenizer.encode(text));
        let sampling = Sampling {
            temperature: settings.temperature,
            seed: Some(seed.stream("evals/continuation", index as u64).next_u64()),
            ..Sampling::default()
        };
        asked.push((Form::Continuation, text));
        requests.push(Request {
            prompt,
            max_tokens: Some(settings.sample_tokens),
            sampling,
            ..Request::default()
        });
    }
    for question in &settings.questions {
        let prompt = chat::prompt_with(
            tokenizer,
            &[Message::new(Role::User, question.as_str())],
            &Preamble::default(),
        );
        asked.push((Form::Answer, question));
        requests.push(Request::greedy(prompt, settings.sample_tokens));
    }
    let completions = engine.complete_all(requests);
    let pairs = asked.into_iter().zip(completions);
    pairs
        .map(|((form, prompt), completion)| match completion {
            Ok(completion) => Ok(Generation { form, prompt: prompt.clone(), text: completion.text }),
            Err(source) => Err(Error::Question { question: prompt.clone(), source }),
        })
        .collect()
}
