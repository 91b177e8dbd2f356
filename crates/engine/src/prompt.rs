//! The scores of a prompt's own tokens, gathered as it is read.

use rayon::prelude::*;
use tokenizer::{StreamDecoder, Tokenizer};

use crate::Token;
use crate::sampling::score;

/// A prompt whose tokens are being scored.
pub(crate) struct PromptScores {
    /// Alternatives that each gets.
    count: usize,
    pub(crate) tokens: Vec<Token>,
}

impl PromptScores {
    pub(crate) fn new(prompt: &[u32], count: usize, tokenizer: &Tokenizer) -> Self {
        let mut decoder = StreamDecoder::new(tokenizer);
        let text = |id| if tokenizer.is_special(id) { String::new() } else { decoder.push(id) };
        let texts: Vec<String> = prompt.iter().copied().map(text).collect();
        let token = |(&id, text)| Token { id, text, logprob: None, alternatives: Vec::new() };
        let mut tokens: Vec<Token> = prompt.iter().zip(texts).map(token).collect();
        if let Some(last) = tokens.last_mut() {
            last.text.push_str(&decoder.finish());
        }
        PromptScores { count, tokens }
    }

    /// Takes the scores that follow the tokens from `first` on, rows of the model's vocabulary of which the tokenizer's
    /// count. Where they are not numbers, gives the number of tokens before them.
    pub(crate) fn score(
        &mut self,
        first: usize,
        logits: &[f32],
        (row, vocab_size): (usize, usize),
    ) -> Result<(), usize> {
        let count = self.count;
        let scored = self.tokens[first + 1..].par_iter_mut().zip(logits.par_chunks_exact(row)).enumerate();
        let fault = scored.find_map_first(|(index, (token, logits))| {
            let Ok(found) = score(&logits[..vocab_size], token.id, count) else {
                return Some(first + index + 1);
            };
            token.logprob = Some(found.logprob);
            token.alternatives = found.alternatives;
            None
        });
        fault.map_or(Ok(()), Err)
    }
}
