//! Spelling a word, counting its letters, and saying it backwards.
//! The three share one split of the words: a held-out word is never spelled, counted or reversed in training.

use super::{Check, Item, Kind, Split, side, worded, words};
use ledger::seed::Rng;

pub(super) struct Words {
    train: Vec<&'static str>,
    held_out: Vec<&'static str>,
    made_up: words::MadeUp,
}

impl Words {
    pub(super) fn new() -> Self {
        let (held_out, train) =
            words::spelled().into_iter().partition(|word| side(&fact(word)) == Split::HeldOut);
        Self { train, held_out, made_up: words::MadeUp::new() }
    }

    /// A real word to be measured on; to learn from, a real one or, two times in three, a made-up one.
    pub(super) fn any(&self, split: Split, rng: &mut Rng) -> String {
        match split {
            Split::HeldOut => words::pick(&self.held_out, rng).to_owned(),
            Split::Train if rng.below(3) == 0 => words::pick(&self.train, rng).to_owned(),
            Split::Train => loop {
                let word = self.made_up.word(rng);
                if side(&fact(&word)) == Split::Train {
                    return word;
                }
            },
        }
    }

    /// `Spell the word apple.`, `a p p l e`.
    pub(super) fn spelling(&self, split: Split, rng: &mut Rng) -> Item {
        const WORDINGS: [&str; 8] = [
            "Spell the word {}.",
            "Spell {}.",
            "How do you spell {}?",
            "How is {} spelled?",
            "Please spell {} for me.",
            "Can you spell {}?",
            "What are the letters of {}?",
            "Write {} letter by letter.",
        ];
        let word = &self.any(split, rng);
        let reply = spaced(word.chars());
        Item::new(
            Kind::Spelling,
            fact(word),
            worded(rng, &WORDINGS, word),
            reply.clone(),
            reply,
            Check::Exact,
        )
    }

    /// `How many letters are in apple?`, `a1 p2 p3 l4 e5: 5`; `How many times is p in apple?`, `a0 p1 p2 l2 e2: 2`.
    pub(super) fn counting(&self, split: Split, rng: &mut Rng) -> Item {
        let word = &self.any(split, rng);
        if rng.below(2) == 0 {
            const WORDINGS: [&str; 6] = [
                "How many letters are in {}?",
                "How many letters does {} have?",
                "Count the letters in {}.",
                "How many letters are there in the word {}?",
                "How long is the word {}?",
                "What is the number of letters in {}?",
            ];
            let working = numbered(word, |_| true);
            let answer = word.len().to_string();
            let reply = format!("{working}: {answer}");
            let question = worded(rng, &WORDINGS, word);
            return Item::new(Kind::CountingLetters, fact(word), question, reply, answer, Check::Final);
        }
        // Mostly a letter of the word, sometimes one that may be absent.
        let letters: Vec<char> =
            if rng.below(5) == 0 { ('a'..='z').collect() } else { word.chars().collect() };
        let letter = *rng.pick(&letters);
        let question = match rng.below(5) {
            0 => format!("How many times does {letter} appear in {word}?"),
            1 => format!("How many {letter} are in {word}?"),
            2 => format!("Count the letter {letter} in {word}."),
            3 => format!("How often is the letter {letter} in {word}?"),
            _ => format!("How many times is the letter {letter} in the word {word}?"),
        };
        let answer = word.chars().filter(|&other| other == letter).count().to_string();
        let reply = format!("{}: {answer}", numbered(word, |other| other == letter));
        Item::new(Kind::CountingLetters, fact(word), question, reply, answer, Check::Final)
    }

    /// `Spell apple backwards.`, `a p p l e: e l p p a`.
    pub(super) fn reversing(&self, split: Split, rng: &mut Rng) -> Item {
        const WORDINGS: [&str; 5] = [
            "Spell {} backwards.",
            "Reverse the letters of {}.",
            "What is {} backwards?",
            "Write {} in reverse.",
            "Reverse the word {}.",
        ];
        let word = &self.any(split, rng);
        let answer = spaced(word.chars().rev());
        let reply = format!("{}: {answer}", spaced(word.chars()));
        Item::new(Kind::Reversing, fact(word), worded(rng, &WORDINGS, word), reply, answer, Check::Final)
    }
}

fn fact(word: &str) -> String {
    format!("letters of {word}")
}

fn spaced(letters: impl Iterator<Item = char>) -> String {
    letters.map(String::from).collect::<Vec<_>>().join(" ")
}

/// Each letter with the count of those that match so far.
fn numbered(word: &str, matches: impl Fn(char) -> bool) -> String {
    let mut count = 0;
    let numbered = word.chars().map(|letter| {
        count += u32::from(matches(letter));
        format!("{letter}{count}")
    });
    numbered.collect::<Vec<_>>().join(" ")
}
