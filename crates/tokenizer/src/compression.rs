//! How well a tokenizer compresses a text, against the size of its vocabulary.

use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// What one vocabulary makes of a text.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Point {
    /// Tokens in the vocabulary, special ones included.
    pub vocab_size: usize,
    /// Bytes of the text.
    pub bytes: u64,
    /// Tokens of the text.
    pub tokens: u64,
}

impl Point {
    /// Bytes per token; `None` for an empty text.
    pub fn bytes_per_token(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.bytes as f64 / self.tokens as f64)
    }
}

/// Encodes `texts` with `tokenizer` cut down to each of `vocab_sizes` (see
/// [`Tokenizer::truncated`], whose errors it gives); no training runs.
pub fn curve(
    tokenizer: &Tokenizer,
    texts: &[impl AsRef<str>],
    vocab_sizes: &[usize],
) -> Result<Vec<Point>, Error> {
    let point = |&vocab_size: &usize| {
        let smaller = tokenizer.truncated(vocab_size)?;
        let (mut bytes, mut tokens) = (0, 0);
        for text in texts {
            bytes += text.as_ref().len() as u64;
            tokens += smaller.encode(text.as_ref()).len() as u64;
        }
        Ok(Point { vocab_size, bytes, tokens })
    };
    vocab_sizes.iter().map(point).collect()
}
