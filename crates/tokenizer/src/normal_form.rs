//! Normal form C as Hugging Face's tokenizers have it, which is that of Unicode 9: what came later is passed over, so that
//! a newer Unicode in a dependency can never change the tokens of an old model.

use std::borrow::Cow;
use std::sync::LazyLock;

use unicode_normalization::char::{canonical_combining_class, decompose_canonical};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::unicode_tables::MOVING;

/// The text in normal form C; borrowed where it plainly is in it.
pub(crate) fn nfc(text: &str) -> Cow<'_, str> {
    // Later characters only make this check stricter.
    if is_nfc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    let mut normal = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, later)) = rest.char_indices().find(|(_, c)| is_later(*c)) {
        // To Unicode 9 it is a letter that nothing moves past and that joins with nothing.
        normal.extend(rest[..at].nfc());
        normal.push(later);
        rest = &rest[at + later.len_utf8()..];
    }
    normal.extend(rest.nfc());
    Cow::Owned(normal)
}

/// Whether a newer Unicode would move, decompose or join the character, and Unicode 9 would not.
fn is_later(character: char) -> bool {
    static LATER: LazyLock<Vec<char>> = LazyLock::new(|| {
        let moves = |&c: &char| {
            let mut decomposes = false;
            decompose_canonical(c, |part| decomposes |= part != c);
            let joins = is_nfc_quick(std::iter::once(c)) != IsNormalized::Yes;
            canonical_combining_class(c) != 0 || decomposes || joins
        };
        let known = |c: &char| {
            let after = MOVING.partition_point(|(first, _)| *first <= u32::from(*c));
            after > 0 && u32::from(*c) <= MOVING[after - 1].1
        };
        ('\0'..=char::MAX).filter(|c| moves(c) && !known(c)).collect()
    });
    !character.is_ascii() && LATER.binary_search(&character).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_unicode_9() {
        for (text, wanted) in [
            ("", ""),
            ("plain é", "plain é"),
            ("e\u{301}", "é"),
            ("\u{212b}\u{1100}\u{1161}\u{11a8}", "\u{c5}\u{ac01}"),
            ("a\u{301}\u{323}", "\u{1ea1}\u{301}"),
            // A mark of Unicode 11 of class 220: it stays, and what follows does not pass it.
            ("a\u{301}\u{8d3}e\u{301}", "\u{e1}\u{8d3}é"),
            ("e\u{8d3}\u{301}", "e\u{8d3}\u{301}"),
            // Two vowel signs of Unicode 16 that are one there.
            ("\u{113c2}\u{113c2}e\u{301}", "\u{113c2}\u{113c2}é"),
        ] {
            assert_eq!(nfc(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn what_unicode_9_knew_is_not_later() {
        assert!(is_later('\u{8d3}') && is_later('\u{113c5}'));
        // Marks, letters that decompose, a vowel sign and a jamo that join.
        let known = "\u{301}\u{334}\u{1d242}é\u{f900}\u{212b}\u{9be}\u{11a8}\u{ac01}aß日";
        assert_eq!(known.chars().find(|&c| is_later(c)), None);
    }
}
