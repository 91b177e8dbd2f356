//! A model of a few lines that repeats what it was told: its answers are known, so that what a server sends can be too.

use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, Error, Forward, KvCache, Outputs, Segment, Settings};
use tokenizer::Tokenizer;

pub use words::tokenizer;

#[path = "../../../engine/tests/it/words.rs"]
mod words;

/// Answers a conversation with its last message, and goes on with the last token of a bare prompt.
pub struct Parrot {
    tokenizer: Tokenizer,
    /// Time that each call takes.
    pause: Duration,
}

impl Parrot {
    /// What follows `tokens`.
    fn next(&self, tokens: &[u32]) -> u32 {
        let is_header_end = |token: &u32| *token == self.tokenizer.end_header();
        let Some(header) = tokens.iter().rposition(is_header_end) else {
            // A bare prompt: its last token for ever, or nothing after nothing.
            return if tokens.len() > 1 { tokens[tokens.len() - 1] } else { self.tokenizer.eos() };
        };
        // The header ends with two newlines; before it lies the user's message, between a header and <|eot_id|>.
        let newlines = self.tokenizer.encode("\n\n").len();
        let answer = header + 1 + newlines;
        let message = tokens[..header].iter().rposition(is_header_end).map_or(&[][..], |start| {
            let message = &tokens[start + 1 + newlines..];
            &message[..message.iter().position(|&token| token == self.tokenizer.eot()).unwrap_or(0)]
        });
        message.get(tokens.len().saturating_sub(answer)).copied().unwrap_or(self.tokenizer.eot())
    }
}

/// Tokens of a page.
const PAGE: usize = 16;

impl Forward for Parrot {
    /// The token at each place of each page.
    type Pages = Vec<u32>;
    /// Scores and states.
    type Scratch = (Vec<f32>, Vec<f32>);

    fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    fn context(&self) -> usize {
        4096
    }

    fn page_tokens(&self) -> usize {
        PAGE
    }

    fn pages(&self, count: usize, _: KvCache) -> Vec<u32> {
        vec![0; count * PAGE]
    }

    fn scratch(&self) -> Self::Scratch {
        Default::default()
    }

    fn forward<'s>(
        &self,
        pages: &mut Vec<u32>,
        segments: &[Segment],
        (logits, hidden): &'s mut (Vec<f32>, Vec<f32>),
    ) -> Result<Outputs<'s>, Error> {
        std::thread::sleep(self.pause);
        logits.clear();
        hidden.clear();
        for segment in segments {
            let place = |position: usize| segment.pages[position / PAGE] as usize * PAGE + position % PAGE;
            for (index, &token) in segment.tokens.iter().enumerate() {
                pages[place(segment.first + index)] = token;
            }
            let length = segment.first + segment.tokens.len();
            let tokens: Vec<u32> = (0..length).map(|position| pages[place(position)]).collect();
            let (rows, states) = segment.wanted.rows(segment.tokens.len());
            for end in length - rows + 1..=length {
                let start = logits.len();
                logits.resize(start + self.vocab_size(), 0.0);
                logits[start + self.next(&tokens[..end]) as usize] = 8.0;
            }
            // A state is its token, in three numbers.
            let state = |&token: &u32| [token % 7, token % 5, 1].map(|part| part as f32);
            hidden.extend(tokens[length - states..].iter().flat_map(state));
        }
        Ok(Outputs { logits, hidden })
    }
}

/// A parrot whose steps take `pause`.
pub fn engine(pause: Duration, settings: Settings) -> Engine {
    let tokenizer = tokenizer();
    Engine::start(Arc::new(Parrot { tokenizer: tokenizer.clone(), pause }), tokenizer, settings).unwrap()
}
