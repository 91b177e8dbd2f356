//! GPT-2's split pattern as a linear scanner: the `ByteLevel` pre-tokenizer of Hugging Face's tokenizers with its
//! `use_regex`. Contractions are lower case only, numbers and punctuation take a space along, and newlines are white
//! space like any other.

use super::end_of_word;
use crate::unicode::{Class, Classes};

/// As in OpenAI's `gpt-2/src/encoder.py`.
pub(crate) const PATTERN: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// As tiktoken 0.14 writes it for `r50k_base`; the matches are the same.
pub(crate) const POSSESSIVE: &str =
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";

/// The successive matches of [`PATTERN`]. They cover the text: the pattern matches everywhere.
pub(crate) fn pieces(text: &str) -> Pieces<'_> {
    Pieces { text, at: 0, classes: Classes::get() }
}

pub(crate) struct Pieces<'a> {
    text: &'a str,
    at: usize,
    classes: &'static Classes,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let start = self.at;
        if start == self.text.len() {
            return None;
        }
        self.at = match end_of_word(self.text, start) {
            Some(end) => end,
            None => self.end_of_piece(start)?,
        };
        Some(&self.text[start..self.at])
    }
}

impl Pieces<'_> {
    /// Where the match that begins at `start` ends.
    #[inline]
    fn end_of_piece(&self, start: usize) -> Option<usize> {
        let (class, second) = self.classes.at(self.text, start)?;
        let end = match class {
            Class::Letter | Class::Number => self.run(second, class),
            Class::Other => match self.contraction(start) {
                Some(end) => end,
                None => self.run(second, class),
            },
            Class::Space | Class::Newline => match self.classes.at(self.text, second) {
                // " ?" takes a plain space only.
                Some((next, third)) if !next.is_space() && self.text.as_bytes()[start] == b' ' => {
                    self.run(third, next)
                }
                _ => self.white_space(start),
            },
        };
        Some(end)
    }

    /// 's|'t|'re|'ve|'m|'ll|'d
    #[inline]
    fn contraction(&self, start: usize) -> Option<usize> {
        match &self.text.as_bytes()[start..] {
            [b'\'', b's' | b't' | b'm' | b'd', ..] => Some(start + 2),
            [b'\'', b'r' | b'v', b'e', ..] | [b'\'', b'l', b'l', ..] => Some(start + 3),
            _ => None,
        }
    }

    /// \s+(?!\S), else \s+: a run before a word leaves one character to it, unless there is only one.
    fn white_space(&self, start: usize) -> usize {
        let (mut at, mut last_start) = (start, start);
        while let Some((class, next)) = self.classes.at(self.text, at)
            && class.is_space()
        {
            (last_start, at) = (at, next);
        }
        if at < self.text.len() && last_start > start { last_start } else { at }
    }

    #[inline]
    fn run(&self, mut at: usize, class: Class) -> usize {
        while let Some((found, next)) = self.classes.at(self.text, at)
            && found == class
        {
            at = next;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use fancy_regex::Regex;
    use proptest::prelude::*;

    use super::*;
    use crate::split::tests::{matches, texts};

    fn check(text: &str) {
        static WRITTEN: LazyLock<[LazyLock<Regex>; 2]> = LazyLock::new(|| {
            [
                LazyLock::new(|| Regex::new(PATTERN).expect("valid")),
                LazyLock::new(|| Regex::new(POSSESSIVE).expect("valid")),
            ]
        });
        let found: Vec<&str> = pieces(text).collect();
        for regex in &*WRITTEN {
            assert_eq!(found, matches(regex, text), "{text:?}");
        }
    }

    #[test]
    fn every_character_of_the_first_planes() {
        let characters = (0..0x2_0000).filter_map(char::from_u32);
        let texts = characters.map(|c| format!("1{c}a {c}{c}\n")).collect::<Vec<_>>();
        for some in texts.chunks(512) {
            check(&some.concat());
        }
    }

    #[test]
    fn contractions_numbers_and_spaces() {
        for text in [
            "I'll you're IT'S 'S's 'lx 'rx 'v 'd'm't",
            "a  b   \n\n c \r\n\t d\u{85}e \u{a0} f\u{2028}g",
            " 1234567 12a 1a2  ²³½Ⅷ",
            "!!\n\n?? ...\r\n \u{301}e",
            "  ",
            "\u{3000}\u{3000}x",
            "",
        ] {
            check(text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn equals_the_pattern(text in texts()) {
            check(&text);
        }
    }
}
