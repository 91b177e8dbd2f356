//! Token ids to text as they come, never half a character.

use crate::tokenizer::Tokenizer;

/// Decodes a stream of tokens. The pieces put together are [`Tokenizer::decode`] of all tokens.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    /// The beginning of a character whose other bytes have not come yet: at most three bytes.
    pending: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the beginning of a text.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        StreamDecoder { tokenizer: tokenizer.clone(), pending: Vec::new() }
    }

    /// The text that token `id` completes; empty while a character is incomplete. Bytes that can
    /// no longer become a character are shown as U+FFFD. Special tokens are shown by their names.
    pub fn push(&mut self, id: u32) -> String {
        self.pending.extend_from_slice(&self.tokenizer.decode_bytes(&[id]));
        let mut text = String::new();
        let mut used = 0;
        loop {
            let rest = &self.pending[used..];
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => error,
            };
            let (valid, _) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            used += error.valid_up_to();
            match error.error_len() {
                Some(wrong) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    used += wrong;
                }
                None => {
                    self.pending.drain(..used);
                    return text;
                }
            }
        }
    }

    /// Ends the stream: what is still incomplete, as U+FFFD.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}
