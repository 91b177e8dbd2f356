//! The class of a character, as the split pattern sees it.
//! One byte per code point, so that a look-up is one load; not a general Unicode library.

use std::sync::LazyLock;

use crate::unicode_tables::{LETTERS, NUMBERS, SPACES};

/// What the split pattern distinguishes. Each character has exactly one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// Neither letter, number nor white space: punctuation, symbols, marks, controls, unassigned.
    Other = 0,
    /// `\p{L}`
    Letter = 1,
    /// `\p{N}`
    Number = 2,
    /// `\s` except `\r` and `\n`
    Space = 3,
    /// `\r` or `\n`
    Newline = 4,
}

impl Class {
    /// `\s`
    pub(crate) fn is_space(self) -> bool {
        matches!(self, Class::Space | Class::Newline)
    }
}

/// Classes of all code points up to the last one that is not `Other`.
pub(crate) struct Classes(Box<[Class]>);

static CLASSES: LazyLock<Classes> = LazyLock::new(Classes::build);

impl Classes {
    /// The shared table (about 200 KB, built once in well under a millisecond).
    pub(crate) fn get() -> &'static Classes {
        &CLASSES
    }

    fn build() -> Classes {
        let tables = [(LETTERS, Class::Letter), (NUMBERS, Class::Number), (SPACES, Class::Space)];
        let last = tables.iter().filter_map(|(ranges, _)| ranges.last()).map(|range| range.1);
        let mut classes = vec![Class::Other; last.max().map_or(0, |code| code as usize + 1)];
        for (ranges, class) in tables {
            for &(from, to) in ranges {
                classes[from as usize..=to as usize].fill(class);
            }
        }
        classes['\r' as usize] = Class::Newline;
        classes['\n' as usize] = Class::Newline;
        Classes(classes.into_boxed_slice())
    }

    #[inline]
    pub(crate) fn of(&self, character: char) -> Class {
        self.0.get(character as usize).copied().unwrap_or(Class::Other)
    }

    /// The class of the character that starts at `at`, and the byte position after it.
    #[inline]
    pub(crate) fn at(&self, text: &str, at: usize) -> Option<(Class, usize)> {
        let byte = *text.as_bytes().get(at)?;
        if byte < 128 {
            return Some((self.0[byte as usize], at + 1));
        }
        let character = text[at..].chars().next()?;
        Some((self.of(character), at + character.len_utf8()))
    }
}

/// Python's `str.isspace`, which also decides what `str.strip` removes: `\s` and U+001C to U+001F.
pub(crate) fn is_python_space(character: char) -> bool {
    matches!(character, '\u{1c}'..='\u{1f}') || Classes::get().of(character).is_space()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_are_those_of_unicode_16() {
        let count = |class: fn(Class) -> bool| {
            (0..=char::MAX as u32).filter_map(char::from_u32).filter(|c| class(Classes::get().of(*c))).count()
        };
        // Counted with tiktoken 0.14.0 and tokenizers 0.23.3, which agree.
        assert_eq!(count(|c| c == Class::Letter), 141_028);
        assert_eq!(count(|c| c == Class::Number), 1_911);
        assert_eq!(count(Class::is_space), 25);
    }

    #[test]
    fn python_knows_four_more_spaces() {
        // [c for c in range(0x110000) if chr(c).isspace()] has 29 entries in CPython 3.11.
        let spaces = (0..=char::MAX as u32).filter_map(char::from_u32);
        assert_eq!(spaces.filter(|c| is_python_space(*c)).count(), 29);
        assert!(is_python_space('\u{1f}') && !is_python_space('\u{200b}'));
    }
}
