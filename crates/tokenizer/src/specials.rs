//! The special tokens: their names in Meta's order, and how they are found in text.
//! Which of them a text may contain is decided by the caller, through [`Allowed`].

use crate::error::Error;

/// Number of special tokens in Llama 3, 3.1, 3.2 and 3.3.
pub const SPECIAL_TOKENS: usize = 256;

pub(crate) const BEGIN_OF_TEXT: &str = "<|begin_of_text|>";
pub(crate) const END_OF_TEXT: &str = "<|end_of_text|>";
pub(crate) const START_HEADER: &str = "<|start_header_id|>";
pub(crate) const END_HEADER: &str = "<|end_header_id|>";
pub(crate) const END_OF_TURN: &str = "<|eot_id|>";
pub(crate) const END_OF_MESSAGE: &str = "<|eom_id|>";
pub(crate) const PYTHON_TAG: &str = "<|python_tag|>";
pub(crate) const PADDING: &str = "<|finetune_right_pad_id|>";

/// Which names Meta gave the 256 special tokens. A `tokenizer.model` does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpecialNames {
    /// April 2024, `llama3/tokenizer.py`. Padding has no token; answers end in `<|eot_id|>`.
    #[default]
    Llama3,
    /// Llama 3.1 and later, `llama_models/llama3/tokenizer.py`: adds padding, `<|eom_id|>`,
    /// `<|python_tag|>` and others in places that were reserved.
    Llama31,
}

impl SpecialNames {
    /// The 256 names in the order of their ids.
    pub fn list(self) -> Vec<String> {
        // An empty name is one that stayed reserved.
        let named: &[&str] = match self {
            SpecialNames::Llama3 => {
                &[BEGIN_OF_TEXT, END_OF_TEXT, "", "", "", "", START_HEADER, END_HEADER, "", END_OF_TURN]
            }
            SpecialNames::Llama31 => &[
                BEGIN_OF_TEXT,
                END_OF_TEXT,
                "",
                "",
                PADDING,
                "<|step_id|>",
                START_HEADER,
                END_HEADER,
                END_OF_MESSAGE,
                END_OF_TURN,
                PYTHON_TAG,
                "<|image|>",
            ],
        };
        let mut reserved = 0;
        (0..SPECIAL_TOKENS)
            .map(|index| match named.get(index) {
                Some(name) if !name.is_empty() => (*name).to_owned(),
                _ => {
                    reserved += 1;
                    format!("<|reserved_special_token_{}|>", reserved - 1)
                }
            })
            .collect()
    }
}

/// What special tokens in a text mean: tiktoken's `allowed_special` and `disallowed_special`.
/// A special token that is neither allowed nor refused is ordinary text.
#[derive(Clone, Debug, Default)]
pub struct Allowed<'a> {
    pub(crate) allowed: Names<'a>,
    pub(crate) refused: Names<'a>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Names<'a> {
    #[default]
    None,
    All,
    These(&'a [&'a str]),
}

impl<'a> Allowed<'a> {
    /// No special token is allowed: their names are ordinary text. Meta's default.
    pub fn none() -> Self {
        Allowed::default()
    }

    /// Every special token is encoded as its id.
    pub fn all() -> Self {
        Allowed { allowed: Names::All, refused: Names::None }
    }

    /// Only these are encoded as their ids; other names are ordinary text.
    pub fn only(names: &'a [&'a str]) -> Self {
        Allowed { allowed: Names::These(names), refused: Names::None }
    }

    /// Any special token that is not allowed is an error. tiktoken's default.
    pub fn refusing_others(self) -> Self {
        Allowed { refused: Names::All, ..self }
    }

    /// The names that are given one by one.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let names = [self.allowed, self.refused].into_iter().filter_map(|names| match names {
            Names::These(these) => Some(these),
            Names::None | Names::All => None,
        });
        names.flatten().copied()
    }

    /// These special tokens are an error.
    pub fn refusing(self, names: &'a [&'a str]) -> Self {
        Allowed { refused: Names::These(names), ..self }
    }
}

/// The special tokens of a tokenizer: names by index, and a finder.
pub(crate) struct Specials {
    names: Vec<String>,
    /// Indices by first byte of the name, longest name first.
    by_first_byte: Vec<Vec<u32>>,
}

impl Specials {
    /// Errors when a name is empty or occurs twice.
    pub(crate) fn new(names: Vec<String>) -> Result<Specials, Error> {
        let mut by_first_byte: Vec<Vec<u32>> = vec![Vec::new(); 256];
        for (index, name) in names.iter().enumerate() {
            let fault = |problem: String| Error::Vocabulary { problem };
            let first = name.bytes().next();
            let first = first.ok_or_else(|| fault(format!("special token {index} has an empty name")))?;
            let same_byte = &mut by_first_byte[first as usize];
            if same_byte.iter().any(|&other| names[other as usize] == *name) {
                return Err(fault(format!("the special token {name} is listed twice")));
            }
            same_byte.push(index as u32);
        }
        for indices in &mut by_first_byte {
            indices.sort_by_key(|&index| std::cmp::Reverse(names[index as usize].len()));
        }
        Ok(Specials { names, by_first_byte })
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn index(&self, name: &str) -> Option<usize> {
        let candidates = self.by_first_byte.get(*name.as_bytes().first()? as usize)?;
        let found = candidates.iter().find(|&&index| self.names[index as usize] == name);
        found.map(|&index| index as usize)
    }

    /// The first special token of the set `wanted` at or after `from`: (start, index).
    pub(crate) fn find(&self, text: &str, from: usize, wanted: &[bool]) -> Option<(usize, usize)> {
        let bytes = text.as_bytes();
        (from..bytes.len()).find_map(|at| {
            let candidates = &self.by_first_byte[bytes[at] as usize];
            let found = candidates.iter().find(|&&index| {
                wanted[index as usize] && bytes[at..].starts_with(self.names[index as usize].as_bytes())
            });
            found.map(|&index| (at, index as usize))
        })
    }

    /// The set as one flag for each special token; the first name that is none, if there is one.
    pub(crate) fn flags(&self, names: Names<'_>) -> Result<Vec<bool>, String> {
        let mut flags = vec![matches!(names, Names::All); self.names.len()];
        if let Names::These(these) = names {
            for name in these {
                flags[self.index(name).ok_or_else(|| (*name).to_owned())?] = true;
            }
        }
        Ok(flags)
    }
}
