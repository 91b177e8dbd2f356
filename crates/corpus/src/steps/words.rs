//! Words and lines as the rules count them. No linguistics: a word is what lies between spaces, except that each
//! character of a script written without spaces is a word of its own.

/// Whether a character belongs to a script that is written without spaces between words.
pub(crate) fn is_unspaced(character: char) -> bool {
    matches!(character as u32,
        0x0E00..=0x0EFF | 0x0F00..=0x0FFF | 0x1000..=0x109F | 0x1780..=0x17FF // Thai, Lao, Tibetan, Burmese, Khmer
        | 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
}

/// The words of a text in order.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(UnspacedSplit)
}

/// Splits one run of non-blank characters at each character of an unspaced script.
struct UnspacedSplit<'a>(&'a str);

impl<'a> Iterator for UnspacedSplit<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let end = if self.0.is_ascii() {
            self.0.len()
        } else {
            let first = self.0.chars().next()?;
            if is_unspaced(first) {
                first.len_utf8()
            } else {
                self.0.char_indices().find(|&(_, c)| is_unspaced(c)).map_or(self.0.len(), |(at, _)| at)
            }
        };
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(word)
    }
}

/// Calls `take` with the hash of each normalised token, in order. A token is a run of letters, digits and underscores in lower case,
/// or one character of an unspaced script. With `blank_digits` every run of digits becomes one zero, as FineWeb
/// does before deduplication.
pub(crate) fn token_hashes(text: &str, blank_digits: bool, mut take: impl FnMut(u64)) {
    use xxhash_rust::xxh3::xxh3_64;
    let mut token = String::new();
    for character in text.chars() {
        if character.is_ascii() {
            if character.is_ascii_alphanumeric() || character == '_' {
                if blank_digits && character.is_ascii_digit() {
                    if !token.ends_with('0') {
                        token.push('0');
                    }
                } else {
                    token.push(character.to_ascii_lowercase());
                }
                continue;
            }
        } else if is_unspaced(character) {
            if !token.is_empty() {
                take(xxh3_64(token.as_bytes()));
                token.clear();
            }
            if character.is_alphanumeric() {
                take(xxh3_64(character.encode_utf8(&mut [0; 4]).as_bytes()));
            }
            continue;
        } else if character.is_alphanumeric() {
            token.extend(character.to_lowercase());
            continue;
        }
        if !token.is_empty() {
            take(xxh3_64(token.as_bytes()));
            token.clear();
        }
    }
    if !token.is_empty() {
        take(xxh3_64(token.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_at_spaces_and_at_unspaced_characters() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(words(text).collect::<Vec<_>>(), expected, "{text:?}");
        };
        check("", &[]);
        check("two  words\n", &["two", "words"]);
        check("naïve café", &["naïve", "café"]);
        check("用Rust写", &["用", "Rust", "写"]);
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
