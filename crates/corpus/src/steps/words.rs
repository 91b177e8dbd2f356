//! Words and lines as the rules count them. No linguistics: a word is what lies between spaces, except that each
//! character of a script written without spaces is a word of its own.

use xxhash_rust::xxh3::xxh3_64;

/// Whether a character belongs to a script that is written without spaces between words.
pub(crate) fn is_unspaced(character: char) -> bool {
    matches!(character as u32,
        0x0E00..=0x0EFF | 0x0F00..=0x0FFF | 0x1000..=0x109F | 0x1780..=0x17FF // Thai, Lao, Tibetan, Burmese, Khmer
        | 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

/// What a byte of ASCII is, as flags; bytes beyond ASCII have none.
const BLANK: u8 = 1;
/// A word with a letter.
pub(crate) const LETTER: u8 = 2;
/// A word with a digit, of any script.
pub(crate) const DIGIT: u8 = 4;
/// A word with a full stop.
pub(crate) const DOT: u8 = 8;
/// A word with a character that is no letter, digit or full stop.
pub(crate) const OTHER: u8 = 16;
/// A word of a script written without spaces.
pub(crate) const UNSPACED: u8 = 32;
/// A word with a character beyond ASCII.
pub(crate) const WIDE: u8 = 64;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let ascii = byte as u8;
        classes[byte] = match ascii {
            b' ' | b'\t' | b'\n' | 0x0B | 0x0C | b'\r' => BLANK,
            b'.' => DOT,
            _ if ascii.is_ascii_alphabetic() => LETTER,
            _ if ascii.is_ascii_digit() => DIGIT,
            _ => OTHER,
        };
        byte += 1;
    }
    classes
};

/// The flags of a character that is no blank.
fn flags_of(character: char) -> u8 {
    if character.is_ascii() {
        return CLASSES[character as usize];
    }
    let kind = match character {
        _ if character.is_alphabetic() => LETTER,
        _ if character.is_numeric() => DIGIT,
        _ => OTHER,
    };
    WIDE | kind | if is_unspaced(character) { UNSPACED } else { 0 }
}

/// A word and what the rules ask of every word, found while it was split off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    /// The word.
    pub text: &'a str,
    /// Its length in characters.
    pub characters: u32,
    /// What characters it has: [`LETTER`] and the others.
    pub flags: u8,
}

impl Word<'_> {
    /// Whether it has any of these.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
}

/// The words of a text in order.
pub(crate) fn words(text: &str) -> Words<'_> {
    Words { text, at: 0 }
}

/// See [`words`]. Pages are mostly ASCII, so bytes are looked at and not characters, as long as that lasts.
pub(crate) struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn wide(&self, at: usize) -> char {
        self.text[at..].chars().next().expect("the text goes on here, at a character's first byte")
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let bytes = self.text.as_bytes();
        let mut at = self.at;
        loop {
            let byte = *bytes.get(at)?;
            if byte >= 0x80 {
                let character = self.wide(at);
                if !character.is_whitespace() {
                    break;
                }
                at += character.len_utf8();
            } else if CLASSES[usize::from(byte)] == BLANK {
                at += 1;
            } else {
                break;
            }
        }
        let begin = at;
        // Bytes of a character beyond its first.
        let (mut flags, mut continued) = (0u8, 0usize);
        while let Some(&byte) = bytes.get(at) {
            let class = CLASSES[usize::from(byte)];
            if class > BLANK {
                flags |= class;
                at += 1;
            } else if class == BLANK {
                break;
            } else {
                let character = self.wide(at);
                if character.is_whitespace() || (at > begin && is_unspaced(character)) {
                    break;
                }
                let own = flags_of(character);
                flags |= own;
                at += character.len_utf8();
                continued += character.len_utf8() - 1;
                if own & UNSPACED != 0 {
                    break;
                }
            }
        }
        self.at = at;
        let text = &self.text[begin..at];
        Some(Word { text, characters: (text.len() - continued) as u32, flags })
    }
}

/// Calls `take` with the hash of each normalised token, in order. A token is a run of letters, digits and underscores in lower case,
/// or one character of an unspaced script. With `blank_digits` every run of digits becomes one zero, as FineWeb
/// does before deduplication.
pub(crate) fn token_hashes(text: &str, blank_digits: bool, mut take: impl FnMut(u64)) {
    tokens(text, blank_digits, |token, _| take(xxh3_64(token)));
}

/// Calls `take` with the UTF-8 of each normalised token, as [`token_hashes`] has them, and whether it is a character of
/// an unspaced script.
pub(crate) fn tokens(text: &str, blank_digits: bool, mut take: impl FnMut(&[u8], bool)) {
    let bytes = text.as_bytes();
    let mut token: Vec<u8> = Vec::with_capacity(64);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii() {
            at += 1;
            let class = CLASSES[usize::from(byte)];
            if class == LETTER || byte == b'_' {
                token.push(byte.to_ascii_lowercase());
            } else if class == DIGIT {
                if !blank_digits {
                    token.push(byte);
                } else if token.last() != Some(&b'0') {
                    token.push(b'0');
                }
            } else if !token.is_empty() {
                take(&token, false);
                token.clear();
            }
            continue;
        }
        let character =
            text[at..].chars().next().expect("the text goes on here, at a character's first byte");
        at += character.len_utf8();
        let unspaced = is_unspaced(character);
        if !unspaced && character.is_alphanumeric() {
            for lower in character.to_lowercase() {
                token.extend_from_slice(lower.encode_utf8(&mut [0; 4]).as_bytes());
            }
            continue;
        }
        if !token.is_empty() {
            take(&token, false);
            token.clear();
        }
        if unspaced && character.is_alphanumeric() {
            take(character.encode_utf8(&mut [0; 4]).as_bytes(), true);
        }
    }
    if !token.is_empty() {
        take(&token, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_spaces_and_at_unspaced_characters() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(words(text).map(|word| word.text).collect::<Vec<_>>(), expected, "{text:?}");
        };
        check("", &[]);
        check("two  words\n", &["two", "words"]);
        check("naïve café", &["naïve", "café"]);
        check("用Rust写", &["用", "Rust", "写"]);
    }

    /// The same by characters, without a thought for speed.
    fn plain(text: &str) -> Vec<(String, u32, u8)> {
        let mut all: Vec<(String, u32, u8)> = Vec::new();
        for run in text.split_whitespace() {
            let mut open = false;
            for character in run.chars() {
                if !open || is_unspaced(character) {
                    all.push((String::new(), 0, 0));
                }
                let word = all.last_mut().unwrap();
                word.0.push(character);
                word.1 += 1;
                word.2 |= flags_of(character);
                open = !is_unspaced(character);
            }
        }
        all
    }

    proptest::proptest! {
        #[test]
        fn words_are_those_of_the_plain_reading(text in "[a-z0-9 .,\\n\u{a0}\u{3000}é漢กA…#_]{0,40}|\\PC{0,20}") {
            let found: Vec<_> = words(&text).map(|word| (word.text.to_string(), word.characters, word.flags)).collect();
            proptest::prop_assert_eq!(found, plain(&text));
        }
    }

    #[test]
    fn flags_tell_what_a_word_has() {
        let check = |text: &str, flags: u8| assert_eq!(words(text).next().unwrap().flags, flags, "{text}");
        check("word", LETTER);
        check("1.5", DIGIT | DOT);
        check("(a)", LETTER | OTHER);
        check("é", LETTER | WIDE);
        check("漢", LETTER | WIDE | UNSPACED);
    }

    #[test]
    fn tokens_ignore_case_and_punctuation() {
        let hashes = |text: &str, blank: bool| {
            let mut all = Vec::new();
            token_hashes(text, blank, |hash| all.push(hash));
            all
        };
        assert_eq!(hashes("Hello, (world)!", false), hashes("hello world", false));
        assert_ne!(hashes("Hello world", false), hashes("helloworld", false));
        assert_eq!(hashes("in 1984", true), hashes("in 20", true));
        assert_ne!(hashes("in 1984", false), hashes("in 20", false));
        assert_eq!(hashes("用写", false).len(), 2);
    }
}
