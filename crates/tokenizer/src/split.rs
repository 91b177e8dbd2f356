//! Cuts text into the pieces that BPE works on: the split patterns of Llama 3 and of Qwen 2 as one linear scanner
//! ([`gpt2`] has the older one), and the cuts that Meta's tokenizer makes in very long texts before it. No regular
//! expression runs.

pub(crate) mod gpt2;

use crate::unicode::{Class, Classes, is_python_space};

/// Llama 3's split pattern, as in Meta's `llama3/tokenizer.py`. [`pieces`] matches it by hand;
/// files that carry a pattern are checked against this one.
pub const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen 2's split pattern, which those of 2.5 and 3 have too: Llama 3's, but that each digit is a piece.
pub(crate) const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The split patterns that are matched here, by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// [`PATTERN`]; cl100k's, in its older writing, is the same.
    Llama3,
    /// [`QWEN2`]
    Qwen2,
    /// [`gpt2::PATTERN`]
    Gpt2,
}

impl Pattern {
    /// The pattern that a file writes so, if it is one of these.
    pub(crate) fn of(written: &str) -> Option<Pattern> {
        match written {
            PATTERN => Some(Pattern::Llama3),
            QWEN2 => Some(Pattern::Qwen2),
            gpt2::PATTERN | gpt2::POSSESSIVE => Some(Pattern::Gpt2),
            _ => None,
        }
    }

    /// Whose it is.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pattern::Llama3 => "Llama 3",
            Pattern::Qwen2 => "Qwen 2",
            Pattern::Gpt2 => "GPT-2",
        }
    }
}

/// Meta encodes at most this many characters at once (`TIKTOKEN_MAX_ENCODE_CHARS`).
const BLOCK_CHARACTERS: usize = 400_000;
/// Longest run of white space, or of anything else, that is not cut (`MAX_NO_WHITESPACES_CHARS`).
const RUN_CHARACTERS: usize = 25_000;

/// The highest bit of each byte.
const EACH_HIGH_BIT: u64 = 0x8080_8080_8080_8080;

/// The highest bit of each of eight bytes that is an ASCII letter.
#[inline]
fn ascii_letters(bytes: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // In lower case and without the highest bits, so that no sum carries into the next byte.
    let folded = (bytes | (0x20 * EACH)) & !EACH_HIGH_BIT;
    let from_a = folded + (0x80 - u64::from(b'a')) * EACH;
    let past_z = folded + (0x80 - u64::from(b'z') - 1) * EACH;
    from_a & !past_z & !bytes & EACH_HIGH_BIT
}

/// The successive matches of [`PATTERN`]. They cover the text: the pattern matches everywhere.
pub(crate) fn pieces(text: &str) -> Pieces<'_> {
    Pieces::new(text)
}

/// The successive matches of [`QWEN2`].
pub(crate) fn qwen2_pieces(text: &str) -> Pieces<'_, 1> {
    Pieces::new(text)
}

/// The stretches of `text` that Meta's tokenizer encodes each on its own: blocks of 400,000
/// characters, cut again where 25,000 characters in a row are all space or all not. A piece never
/// reaches over such a cut, so the cuts can change tokens and are part of the format.
pub(crate) fn stretches(text: &str) -> Stretches<'_> {
    Stretches { rest: text }
}

/// The pieces of a text, with at most `DIGITS` numbers in one.
pub(crate) struct Pieces<'a, const DIGITS: usize = 3> {
    text: &'a str,
    at: usize,
    classes: &'static Classes,
}

impl<'a, const DIGITS: usize> Iterator for Pieces<'a, DIGITS> {
    type Item = &'a str;

    #[inline(always)]
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

/// Where the match that begins at `start` ends, if it is a plain space or an ASCII letter and then ASCII letters, at
/// most 15, and what follows is ASCII: most pieces of most texts. The end is found for all of them at once, since the
/// branch of a loop that ends after each word's last letter is one that no processor foresees.
#[inline(always)]
fn end_of_word(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes().get(start..start + 16)?;
    let half = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
    let others = |eight: u64| !ascii_letters(eight) & EACH_HIGH_BIT;
    let (low, high) = (others(half(0)), others(half(8)));
    // The first byte is looked at alone.
    let ends = (u128::from(high) << 64 | u128::from(low)) & !0xFF;
    let length = ends.trailing_zeros() as usize / 8;
    let after = bytes.get(length)?;
    let first = bytes[0];
    let is_word = first.is_ascii_alphabetic() || first == b' ' && length > 1;
    (is_word && after.is_ascii()).then_some(start + length)
}

impl<'a, const DIGITS: usize> Pieces<'a, DIGITS> {
    fn new(text: &'a str) -> Self {
        Pieces { text, at: 0, classes: Classes::get() }
    }

    /// Where the match that begins at `start` ends. The comments name the alternatives in order.
    #[inline(always)]
    fn end_of_piece(&self, start: usize) -> Option<usize> {
        let (class, second) = self.classes.at(self.text, start)?;
        let end = match class {
            // [^\r\n\p{L}\p{N}]?\p{L}+ without its first character
            Class::Letter => self.run(second, Class::Letter),
            // \p{N}{1,3}, or \p{N}
            Class::Number => self.run_at_most(second, Class::Number, DIGITS - 1),
            // \s*[\r\n]+ and the two white space alternatives: nothing else starts with a newline
            Class::Newline => self.white_space(start),
            Class::Space => match self.classes.at(self.text, second) {
                Some((Class::Letter, third)) => self.run(third, Class::Letter),
                // " ?" of the punctuation alternative takes a plain space only
                Some((Class::Other, third)) if self.text.as_bytes()[start] == b' ' => self.punctuation(third),
                _ => self.white_space(start),
            },
            Class::Other => {
                if let Some(end) = self.contraction(start) {
                    end
                } else if let Some((Class::Letter, third)) = self.classes.at(self.text, second) {
                    self.run(third, Class::Letter)
                } else {
                    self.punctuation(second)
                }
            }
        };
        Some(end)
    }

    /// (?i:'s|'t|'re|'ve|'m|'ll|'d). Under Unicode case folding `s` is also U+017F, long s.
    #[inline]
    fn contraction(&self, start: usize) -> Option<usize> {
        let bytes = &self.text.as_bytes()[start..];
        if bytes[0] != b'\'' {
            return None;
        }
        let lower = |at: usize| bytes.get(at).map(u8::to_ascii_lowercase);
        match (lower(1)?, lower(2)) {
            (b's' | b't' | b'm' | b'd', _) => Some(start + 2),
            (b'r' | b'v', Some(b'e')) | (b'l', Some(b'l')) => Some(start + 3),
            (0xC5, Some(0xBF)) => Some(start + 3),
            _ => None,
        }
    }

    /// The rest of [^\s\p{L}\p{N}]+[\r\n]*
    #[inline]
    fn punctuation(&self, at: usize) -> usize {
        self.run(self.run(at, Class::Other), Class::Newline)
    }

    /// \s*[\r\n]+, else \s+(?!\S), else \s+, for a run of white space that begins at `start`.
    fn white_space(&self, start: usize) -> usize {
        let (mut at, mut last_start, mut after_newline) = (start, start, None);
        while let Some((class, next)) = self.classes.at(self.text, at) {
            if !class.is_space() {
                break;
            }
            (last_start, at) = (at, next);
            if class == Class::Newline {
                after_newline = Some(at);
            }
        }
        match after_newline {
            Some(end) => end,
            // \s+(?!\S) leaves one character before a word, unless there is only one.
            None if at < self.text.len() && last_start > start => last_start,
            None => at,
        }
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

    #[inline]
    fn run_at_most(&self, mut at: usize, class: Class, limit: usize) -> usize {
        for _ in 0..limit {
            match self.classes.at(self.text, at) {
                Some((found, next)) if found == class => at = next,
                _ => break,
            }
        }
        at
    }
}

pub(crate) struct Stretches<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Stretches<'a> {
    type Item = Stretch<'a>;

    fn next(&mut self) -> Option<Stretch<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (block, rest) = match self.rest.len() > BLOCK_CHARACTERS {
            true => self.rest.split_at(block_end(self.rest)),
            false => (self.rest, ""),
        };
        self.rest = rest;
        Some(Stretch { rest: block })
    }
}

/// One block; yields what lies between the cuts in long runs.
pub(crate) struct Stretch<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Stretch<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let (stretch, rest) = self.rest.split_at(stretch_end(self.rest));
        self.rest = rest;
        Some(stretch)
    }
}

/// The byte after the first 400,000 characters.
fn block_end(text: &str) -> usize {
    // Counted by portions, which goes many bytes at a time.
    const PORTION: usize = 4096;
    let starts_character = |byte: u8| !matches!(byte, 0x80..=0xBF);
    let bytes = text.as_bytes();
    let (mut left, mut from) = (BLOCK_CHARACTERS, 0);
    for portion in bytes.chunks(PORTION) {
        let characters = portion.iter().filter(|byte| starts_character(**byte)).count();
        if characters > left {
            break;
        }
        left -= characters;
        from += portion.len();
    }
    (from..bytes.len()).filter(|&at| starts_character(bytes[at])).nth(left).unwrap_or(bytes.len())
}

/// The byte at which the first run grows past 25,000 characters. Meta restarts the count of a cut
/// run at one, so applying this to the rest again is the same.
///
/// A run of more than 25,000 characters has one at a multiple of 25,000 bytes, so only the runs there are looked at.
fn stretch_end(text: &str) -> usize {
    for sample in (RUN_CHARACTERS..text.len()).step_by(RUN_CHARACTERS) {
        let sample = text.floor_char_boundary(sample);
        let Some(of_sample) = text[sample..].chars().next() else { break };
        let in_space = is_stretch_space(of_sample);
        let same = |character: &char| is_stretch_space(*character) == in_space;
        let before: usize = text[..sample].chars().rev().take_while(same).map(char::len_utf8).sum();
        let run = &text[sample - before..];
        for (index, (at, character)) in run.char_indices().enumerate() {
            if !same(&character) {
                break;
            }
            if index == RUN_CHARACTERS {
                return sample - before + at;
            }
        }
    }
    text.len()
}

fn is_stretch_space(character: char) -> bool {
    match character.is_ascii() {
        true => matches!(character, '\t'..='\r' | '\u{1c}'..=' '),
        false => is_python_space(character),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::LazyLock;

    use fancy_regex::Regex;
    use proptest::prelude::*;

    use super::*;

    /// The matches of a pattern by an engine that knows look-ahead.
    pub(crate) fn matches<'a>(regex: &LazyLock<Regex>, text: &'a str) -> Vec<&'a str> {
        regex.find_iter(text).map(|found| found.expect("no limit is reached").as_str()).collect()
    }

    fn check(text: &str) {
        static LLAMA: LazyLock<Regex> = LazyLock::new(|| Regex::new(PATTERN).expect("valid"));
        static QWEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(QWEN2).expect("valid"));
        assert_eq!(pieces(text).collect::<Vec<_>>(), matches(&LLAMA, text), "{text:?}");
        assert_eq!(qwen2_pieces(text).collect::<Vec<_>>(), matches(&QWEN, text), "{text:?}");
    }

    /// Texts in which the alternatives of the patterns meet.
    pub(crate) fn texts() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => proptest::sample::select(vec![
                "'", "s", "S", "\u{17f}", "t", "re", "RE", "vE", "m", "ll", "lL", "d", " ", "  ", "\t", "\n",
                "\r", "\r\n", "\u{b}", "\u{c}", "\u{1c}", "\u{85}", "\u{a0}", "\u{1680}", "\u{2003}", "\u{2028}",
                "\u{2029}", "\u{202f}", "\u{205f}", "\u{3000}", "\u{180e}", "\u{200b}", "\u{feff}", "\u{301}",
                "\u{345}", "\u{20dd}", "1", "23", "²", "Ⅷ", "٣", "!", "-", "a", "é", "ß", "日", "👩", "\u{10ffff}",
                "words", "ABCXYZ", "abcdefghijklmnopqrstuvwxyz", "@[`{",
            ]).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
    }

    #[test]
    fn every_character_of_the_first_planes() {
        // After a digit, before a letter, doubled, before a newline; many to a text for speed.
        let characters = (0..0x2_0000).filter_map(char::from_u32);
        let texts = characters.map(|c| format!("1{c}a{c}{c}\n")).collect::<Vec<_>>();
        for some in texts.chunks(512) {
            check(&some.concat());
        }
    }

    #[test]
    fn contractions_newlines_and_spaces() {
        for text in [
            "I'll you'Re it'ſ 'S's's 'lx 'rx 'v 'ſ 'd'm't",
            "a  b   \n\n c \r\n\t d\u{85}e \u{a0} f\u{2028}g",
            "1234567 12a 1a2 ²³½Ⅷ٣٤٥٦",
            "!!\n\n?? ...\r\n \u{301}e\u{301} \u{200b}x",
            " ",
            "  ",
            "\n",
            " \n ",
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

    proptest! {
        // Each case is up to half a megabyte.
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn cuts_as_meta_does(runs in proptest::collection::vec(
            (proptest::sample::select(vec!["a", "é", " ", "\u{1c}", "\u{3000}", "ab c", "日"]), 0..60_000usize), 0..8,
        )) {
            let text: String = runs.iter().map(|(part, times)| part.repeat(*times)).collect();
            let found: Vec<&str> = stretches(&text).flatten().collect();
            prop_assert_eq!(found.concat(), text.as_str());
            prop_assert!(found == stretches_by_index(&text), "{:?}", runs);
        }
    }

    /// Meta's code, line by line.
    fn stretches_by_index(text: &str) -> Vec<&str> {
        let places: Vec<(usize, char)> = text.char_indices().collect();
        let byte = |index: usize| places.get(index).map_or(text.len(), |place| place.0);
        let mut cuts = Vec::new();
        for block in (0..places.len()).step_by(400_000) {
            let block_end = (block + 400_000).min(places.len());
            let mut slice_start = block;
            let mut length = 0;
            let mut is_space = is_python_space(places[block].1);
            for index in block..block_end {
                let is_now_space = is_python_space(places[index].1);
                if is_space != is_now_space {
                    length = 1;
                    is_space = is_now_space;
                } else {
                    length += 1;
                    if length > 25_000 {
                        cuts.push(&text[byte(slice_start)..byte(index)]);
                        slice_start = index;
                        length = 1;
                    }
                }
            }
            cuts.push(&text[byte(slice_start)..byte(block_end)]);
        }
        cuts
    }
}
