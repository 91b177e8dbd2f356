//! Generated conversations with exact answers, in thirteen kinds, for tuning and for measuring it.
//! Not a benchmark of knowledge: every answer follows from the question, from the assistant's own identity or
//! from the manifests of the packages given. What is held out never occurs in training, by construction: a hash
//! of the underlying fact (operands, word, list, …) decides the side, or, where the fact must be known to be
//! asked about (identity, packages), the wordings are split.

mod arithmetic;
mod calendar;
mod check;
mod identity;
mod letters;
mod lists;
mod refusals;
mod registry;
mod units;
mod words;

pub use check::{Check, is_refusal, normalise};
pub use registry::short_description;
pub use words::number_in_words;

use corpus::registry::Package;
use ledger::digest::Digest;
use ledger::seed::{Rng, Seed};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use tokenizer::chat::{Message, Role};

/// One held-out fact in this many, for the kinds that are split by fact.
const HELD_OUT_ONE_IN: u64 = 8;

/// A kind of task; accuracy is reported for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Sums, differences and products in figures.
    Arithmetic,
    /// Sums and differences in words.
    ArithmeticWords,
    /// A word, letter by letter.
    Spelling,
    /// How many letters a word has, or how often one letter occurs.
    CountingLetters,
    /// A list said once more. The plainest use of what a question says, and the one that every other kind needs.
    Repeating,
    /// Numbers or words in order.
    Sorting,
    /// A word or a list backwards.
    Reversing,
    /// Weekdays, months and dates before and after.
    Dates,
    /// Conversions between units with whole answers.
    Units,
    /// Who the assistant is.
    Identity,
    /// Harmful requests, to be refused.
    Refusal,
    /// Innocent requests that sound harmful, to be answered.
    Borderline,
    /// What packages are for, from their own manifests.
    Registry,
}

impl Kind {
    /// Every kind, in the order of reports.
    pub const ALL: [Kind; 13] = [
        Kind::Arithmetic,
        Kind::ArithmeticWords,
        Kind::Spelling,
        Kind::CountingLetters,
        Kind::Repeating,
        Kind::Sorting,
        Kind::Reversing,
        Kind::Dates,
        Kind::Units,
        Kind::Identity,
        Kind::Refusal,
        Kind::Borderline,
        Kind::Registry,
    ];

    /// The name used in settings and results, such as `counting_letters`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Arithmetic => "arithmetic",
            Kind::ArithmeticWords => "arithmetic_words",
            Kind::Spelling => "spelling",
            Kind::CountingLetters => "counting_letters",
            Kind::Repeating => "repeating",
            Kind::Sorting => "sorting",
            Kind::Reversing => "reversing",
            Kind::Dates => "dates",
            Kind::Units => "units",
            Kind::Identity => "identity",
            Kind::Refusal => "refusal",
            Kind::Borderline => "borderline",
            Kind::Registry => "registry",
        }
    }

    /// What is held out of training for this kind, for reports.
    pub fn held_out_by(self) -> &'static str {
        match self {
            Kind::Arithmetic | Kind::ArithmeticWords => "operand pairs (in figures and in words alike)",
            Kind::Spelling | Kind::CountingLetters => "words (in every task on letters)",
            Kind::Repeating => "lists",
            Kind::Sorting => "sets of items",
            Kind::Reversing => "words (in every task on letters) and lists",
            Kind::Dates => "days, distances and dates",
            Kind::Units => "numbers with their units",
            Kind::Identity | Kind::Registry => "wordings",
            Kind::Refusal => "combinations of act and object",
            Kind::Borderline => "combinations of act and object",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The side of the split that an item is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// For tuning.
    Train,
    /// For measuring only.
    HeldOut,
}

/// One question with its exact answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The kind of task.
    pub kind: Kind,
    /// What the question is about, independent of its wording: `add 17 25`. Held-out facts and training facts are
    /// disjoint, except in the kinds split by wording.
    pub fact: String,
    /// The question: the conversation up to, and without, the assistant's reply.
    pub messages: Vec<Message>,
    /// The full reply to learn: the working, where there is one, and the answer.
    pub reply: String,
    /// The expected answer, as the check compares it.
    pub answer: String,
    /// How a reply is judged.
    pub check: Check,
}

impl Item {
    fn new(kind: Kind, fact: String, question: String, reply: String, answer: String, check: Check) -> Self {
        Self { kind, fact, messages: vec![Message::new(Role::User, question)], reply, answer, check }
    }

    /// Whether `reply` is right, by the item's own check.
    pub fn passes(&self, reply: &str) -> bool {
        self.check.passes(&self.answer, reply)
    }

    /// The text of the question (the last user message).
    pub fn question(&self) -> &str {
        self.messages
            .iter()
            .rev()
            .find(|message| message.role == Role::User)
            .map_or("", |message| &message.content)
    }

    /// The question with its full reply, as a conversation to learn.
    pub fn conversation(&self) -> Vec<Message> {
        let mut messages = self.messages.clone();
        messages.push(Message::new(Role::Assistant, self.reply.clone()));
        messages
    }
}

/// The generators, with the packages that registry questions are about.
pub struct Tasks {
    packages: registry::Facts,
    words: letters::Words,
}

impl Tasks {
    /// Prepares the generators. At most `limit` packages are asked about, those on which most others depend first,
    /// because a small model can learn only so many descriptions. Without packages the kind `registry` is left out.
    pub fn new(packages: &[Package], limit: usize) -> Self {
        Self { packages: registry::Facts::new(packages, limit), words: letters::Words::new() }
    }

    /// The kinds that can be generated: all, or all but `registry` where there are no packages.
    pub fn kinds(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| *kind != Kind::Registry || !self.packages.is_empty()).collect()
    }

    /// How many packages registry questions are about.
    pub fn packages(&self) -> usize {
        self.packages.len()
    }

    /// Draws one item of a kind. `None` only for registry questions without packages.
    pub fn draw(&self, kind: Kind, split: Split, rng: &mut Rng) -> Option<Item> {
        Some(match kind {
            Kind::Arithmetic => arithmetic::in_figures(split, rng),
            Kind::ArithmeticWords => arithmetic::in_words(split, rng),
            Kind::Spelling => self.words.spelling(split, rng),
            Kind::CountingLetters => self.words.counting(split, rng),
            Kind::Repeating => lists::repeating(split, &self.words, rng),
            Kind::Sorting => lists::sorting(split, rng),
            Kind::Reversing if rng.below(2) == 0 => self.words.reversing(split, rng),
            Kind::Reversing => lists::reversing(split, rng),
            Kind::Dates => calendar::draw(split, rng),
            Kind::Units => units::draw(split, rng),
            Kind::Identity => identity::draw(split, rng),
            Kind::Refusal => refusals::harmful(split, rng),
            Kind::Borderline => refusals::innocent(split, rng),
            Kind::Registry => self.packages.draw(split, rng)?,
        })
    }

    /// The held-out items: `per_kind` of each kind with different questions (fewer where a kind has fewer), the
    /// same for the same seed and packages.
    pub fn held_out(&self, seed: Seed, per_kind: usize) -> Vec<Item> {
        let mut items = Vec::new();
        for kind in self.kinds() {
            let mut rng = seed.stream("align/held-out", kind as u64);
            let mut questions = HashSet::new();
            for _ in 0..per_kind * 50 {
                if questions.len() == per_kind {
                    break;
                }
                if let Some(item) = self.draw(kind, Split::HeldOut, &mut rng)
                    && questions.insert(item.question().to_owned())
                {
                    items.push(item);
                }
            }
        }
        items
    }
}

/// The texts that the corpus must not hold: the question and reply of each item, as curation compares them.
pub fn evaluation_texts(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| format!("{}\n{}", item.question(), item.reply)).collect()
}

/// The side that a fact is on: a hash of its text alone, so that it is the same for every seed and every task.
fn side(fact: &str) -> Split {
    let digest = Digest::of_bytes(fact.as_bytes());
    let number = u64::from_str_radix(digest.short(), 16).unwrap_or_default();
    if number.is_multiple_of(HELD_OUT_ONE_IN) { Split::HeldOut } else { Split::Train }
}

/// Fills `{}` in one of the wordings, picked at random.
fn worded(rng: &mut Rng, wordings: &[&str], content: &str) -> String {
    rng.pick(wordings).replace("{}", content)
}

#[cfg(test)]
mod tests;
