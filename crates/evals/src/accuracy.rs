//! Accuracy on held-out questions: each is put to the model in the chat format and answered greedily; the item's own
//! check says whether the answer is right. No model judges another here.

use crate::interval::{Interval, wilson};
use crate::{Error, Settings};
use align::tasks::{Item, Kind};
use engine::{Engine, Request};
use ledger::progress::{Progress, Unit};
use serde::{Deserialize, Serialize};
use tokenizer::chat::{self, Preamble};

/// What the model answered to an item.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The item's place among those asked.
    pub item: usize,
    /// The whole prompt, as text.
    pub prompt: String,
    /// The model's reply.
    pub reply: String,
    /// Whether it is right.
    pub right: bool,
}

/// Accuracy on one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The kind of task.
    pub kind: Kind,
    /// Questions answered rightly.
    pub right: usize,
    /// Questions asked.
    pub items: usize,
    /// `right / items`.
    pub accuracy: f64,
    /// Wilson's 95% interval of the accuracy.
    pub interval: Interval,
}

/// Asks every item; the answers are in the order of the items.
///
/// # Errors
/// Where a question cannot be put to the model, for one because it is longer than the model's context.
pub fn answers(
    engine: &Engine,
    items: &[Item],
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Vec<Answer>, Error> {
    settings.validate()?;
    let tokenizer = engine.tokenizer();
    let prompts: Vec<Vec<u32>> =
        items.iter().map(|item| chat::prompt_with(tokenizer, &item.messages, &Preamble::default())).collect();
    let requests =
        prompts.iter().map(|prompt| Request::greedy(prompt.clone(), settings.max_tokens)).collect();
    let task = progress.begin("held-out questions", Some(items.len() as u64), Unit::Items);
    let mut completions: Vec<Option<Result<String, engine::Error>>> = items.iter().map(|_| None).collect();
    engine.complete_each(requests, |index, completion| {
        completions[index] = Some(completion.map(|completion| completion.text));
        task.advance(1);
    });
    let mut answers = Vec::with_capacity(items.len());
    for (index, (item, completion)) in items.iter().zip(completions).enumerate() {
        let reply = completion
            .unwrap_or(Err(engine::Error::Stopped))
            .map_err(|source| Error::Question { question: item.question().to_owned(), source })?;
        let right = item.passes(&reply);
        answers.push(Answer { item: index, prompt: tokenizer.decode(&prompts[index]), reply, right });
    }
    Ok(answers)
}

/// Accuracy of each kind that occurs, in the order of [`Kind::ALL`].
pub fn scores(items: &[Item], answers: &[Answer]) -> Vec<Score> {
    Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let of_kind: Vec<&Answer> =
                answers.iter().filter(|answer| items[answer.item].kind == kind).collect();
            let right = of_kind.iter().filter(|answer| answer.right).count();
            (!of_kind.is_empty()).then(|| Score::new(kind, right, of_kind.len()))
        })
        .collect()
}

impl Score {
    /// The score of `right` right answers to `items` questions.
    pub fn new(kind: Kind, right: usize, items: usize) -> Self {
        let accuracy = right as f64 / items.max(1) as f64;
        Self { kind, right, items, accuracy, interval: wilson(right, items) }
    }

    /// The standard error of the accuracy as lm-evaluation-harness gives it: that of a mean, with `items - 1`.
    pub fn standard_error(&self) -> f64 {
        let freedom = self.items.saturating_sub(1).max(1) as f64;
        (self.accuracy * (1.0 - self.accuracy) / freedom).sqrt()
    }
}
