//! A tokenizer as lists of texts: how GGUF files hold one. Bytes that do not print have GPT-2's stand-ins.

use std::path::Path;

use crate::error::Error;
use crate::hugging_face;
use crate::tokenizer::Tokenizer;

/// The lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Tokens by id: the ordinary ones in the byte-level alphabet, then the special ones by their names.
    pub tokens: Vec<String>,
    /// Number of ordinary tokens.
    pub ordinary: usize,
    /// Two tokens with a space between them, in order.
    pub merges: Vec<String>,
}

impl Table {
    /// The lists of a tokenizer.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let (tokens, merges) = hugging_face::lists(tokenizer);
        Self { tokens, ordinary: tokenizer.ordinary_tokens(), merges }
    }

    /// The tokenizer that the lists mean; see [`tokenizer`].
    ///
    /// # Errors
    /// Those of it.
    pub fn tokenizer(&self, path: &Path) -> Result<Tokenizer, Error> {
        tokenizer(&self.tokens, self.ordinary, &self.merges, path)
    }
}

/// The tokenizer that lists mean which lie elsewhere, of [`Table`]'s form, with Llama 3's split pattern; `path` is the file
/// that held them.
///
/// # Errors
/// Lists that are no Llama 3 tokenizer, with the place in them.
pub fn tokenizer(
    tokens: &[String],
    ordinary: usize,
    merges: &[String],
    path: &Path,
) -> Result<Tokenizer, Error> {
    hugging_face::from_lists(tokens, ordinary, merges).map_err(|(place, problem)| Error::Unsupported {
        path: path.to_owned(),
        place,
        problem,
    })
}

/// The chat template for `apply_chat_template` that [`Tokenizer::save`] writes.
pub fn chat_template() -> &'static str {
    hugging_face::CHAT_TEMPLATE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::specials::SpecialNames;

    #[test]
    fn lists_lead_back_to_the_tokenizer() {
        let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        tokens.extend(["ab", " a", "abc"].map(|text| text.as_bytes().to_vec()));
        let names = SpecialNames::Llama31.list();
        let tokenizer = Tokenizer::from_tokens(tokens.iter().map(Vec::as_slice), names).unwrap();
        let table = Table::of(&tokenizer);
        assert_eq!((table.tokens.len(), table.ordinary), (259 + 256, 259));
        assert_eq!(table.tokens[257], "Ġa");
        assert_eq!(table.merges, ["a b", "Ġ a", "ab c"]);
        let again = table.tokenizer(Path::new("x.gguf")).unwrap();
        assert_eq!(Table::of(&again), table);
        assert_eq!(again.encode("abc a ab"), tokenizer.encode("abc a ab"));
        let broken = Table { merges: vec!["a z".into()], ..table.clone() };
        let error = broken.tokenizer(Path::new("x.gguf")).unwrap_err().to_string();
        assert!(error.contains("x.gguf") && error.contains("model.merges.0"), "{error}");
        let twice = Table { tokens: vec!["a".into(); 300], ..table };
        assert!(twice.tokenizer(Path::new("x.gguf")).is_err());
    }
}
