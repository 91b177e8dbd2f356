//! What SentencePiece does to a text before it cuts it into pieces: the rules that the file carries, and spaces written
//! as `▁`. After `normalizer.cc` of sentencepiece 0.2.

use crate::error::Error;

/// Stands for a space in pieces.
pub(super) const SPACE: &str = "▁";

/// Rules replace at most so many bytes at once; real ones a dozen. It bounds the work that a hostile file can ask for.
const RULE_BYTES: usize = 256;

/// `NormalizerSpec`, as far as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// A compiled map of characters, empty for none.
    pub charsmap: Vec<u8>,
    pub add_dummy_prefix: bool,
    pub remove_extra_whitespaces: bool,
    pub escape_whitespaces: bool,
}

impl Default for Settings {
    /// What a file means that says nothing.
    fn default() -> Self {
        Settings {
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        }
    }
}

pub(super) struct Normalizer {
    pub settings: Settings,
    rules: Option<Rules>,
}

impl Normalizer {
    /// Errors when the map is no map.
    pub(super) fn new(settings: Settings) -> Result<Self, Error> {
        let rules = match settings.charsmap.is_empty() {
            true => None,
            false => Some(Rules::parse(&settings.charsmap).ok_or_else(|| Error::Vocabulary {
                problem: "the map of characters in normalizer_spec is damaged".into(),
            })?),
        };
        Ok(Normalizer { settings, rules })
    }

    /// The text that is cut into pieces; `kept` gives the length of what stands at its beginning and stays as it is.
    pub(super) fn normalize(&self, text: &str, kept: impl Fn(&str) -> Option<usize>) -> String {
        let Settings { add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces, .. } = self.settings;
        let space = if escape_whitespaces { SPACE } else { " " };
        let mut rest = text;
        if remove_extra_whitespaces {
            while let Some((" ", length)) = self.prefix(rest, &kept) {
                rest = &rest[length..];
            }
        }
        let mut normal = String::with_capacity(text.len() + text.len() / 2 + space.len());
        if rest.is_empty() {
            return normal;
        }
        if add_dummy_prefix {
            normal.push_str(space);
        }
        let mut after_space = remove_extra_whitespaces;
        while let Some((mut part, length)) = self.prefix(rest, &kept) {
            if after_space {
                part = part.trim_start_matches(' ');
            }
            if !part.is_empty() {
                for (at, between) in part.split(' ').enumerate() {
                    if at > 0 {
                        normal.push_str(space);
                    }
                    normal.push_str(between);
                }
                after_space = part.ends_with(' ');
            }
            after_space &= remove_extra_whitespaces;
            rest = &rest[length..];
        }
        if remove_extra_whitespaces {
            normal.truncate(normal.trim_end_matches(space).len());
        }
        normal
    }

    /// What the beginning of `text` becomes, and how many bytes of it that takes.
    fn prefix<'a>(
        &'a self,
        text: &'a str,
        kept: &impl Fn(&str) -> Option<usize>,
    ) -> Option<(&'a str, usize)> {
        let first = text.chars().next()?;
        if let Some(length) = kept(text) {
            return Some((&text[..length], length));
        }
        let by_rule = self.rules.as_ref().and_then(|rules| rules.longest(text));
        Some(by_rule.unwrap_or((&text[..first.len_utf8()], first.len_utf8())))
    }
}

/// A double-array trie of what is replaced (darts-clone's units of 32 bits), and the replacements.
struct Rules {
    units: Vec<u32>,
    /// Each ends with a zero.
    replacements: String,
}

impl Rules {
    /// The length of the trie in bytes, the trie, and the replacements.
    fn parse(map: &[u8]) -> Option<Rules> {
        let (length, rest) = map.split_first_chunk()?;
        let (trie, replacements) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (units, []) = trie.as_chunks() else { return None };
        let units: Vec<u32> = units.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        let replacements = std::str::from_utf8(replacements).ok()?.to_owned();
        (!units.is_empty()).then_some(Rules { units, replacements })
    }

    /// The replacement for the longest beginning of `text` that has one, and that beginning's length.
    fn longest(&self, text: &str) -> Option<(&str, usize)> {
        let offset = |unit: u32| (unit >> 10) << ((unit & 1 << 9) >> 6);
        let mut found = None;
        let mut node = offset(*self.units.first()?);
        for (at, byte) in text.bytes().enumerate().take(RULE_BYTES) {
            node ^= u32::from(byte);
            let Some(&unit) = self.units.get(node as usize) else { break };
            if unit & (1 << 31 | 0xFF) != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = self.units.get(node as usize)? & !(1 << 31);
                let replacement = self.replacements.get(value as usize..)?;
                found = Some((replacement.split('\0').next().unwrap_or_default(), at + 1));
            }
        }
        // A rule ends where a character does, or it is none.
        found.filter(|&(_, length)| text.is_char_boundary(length))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normalize(settings: Settings, text: &str) -> String {
        let kept = |text: &str| text.starts_with("[ x]").then_some(4);
        Normalizer::new(settings).unwrap().normalize(text, kept)
    }

    #[test]
    fn spaces_are_written_as_the_settings_have_it() {
        let llama = Settings { remove_extra_whitespaces: false, ..Settings::default() };
        for (text, as_is, trimmed) in [
            ("", "", ""),
            ("a b", "▁a▁b", "▁a▁b"),
            ("  a   b ", "▁▁▁a▁▁▁b▁", "▁a▁b"),
            ("  ", "▁▁▁", ""),
            ("\n▁ [ x]", "▁\n▁▁[▁x]", "▁\n▁▁[▁x]"),
        ] {
            assert_eq!(normalize(llama.clone(), text), as_is, "{text:?}");
            assert_eq!(normalize(Settings::default(), text), trimmed, "{text:?}");
        }
        let plain = Settings { add_dummy_prefix: false, escape_whitespaces: false, ..llama };
        assert_eq!(normalize(plain, " a b"), " a b");
    }

    proptest! {
        #[test]
        fn no_map_does_harm(
            units in proptest::collection::vec(prop_oneof![any::<u32>(), 0..4096u32], 1..64),
            tail in any::<String>(), text in any::<String>(),
        ) {
            let mut charsmap = (4 * units.len() as u32).to_le_bytes().to_vec();
            charsmap.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
            charsmap.extend(tail.as_bytes());
            normalize(Settings { charsmap, ..Settings::default() }, &text);
        }

        #[test]
        fn no_bytes_do_harm(charsmap in proptest::collection::vec(any::<u8>(), 1..100)) {
            if let Ok(normalizer) = Normalizer::new(Settings { charsmap, ..Settings::default() }) {
                normalizer.normalize("a é", |_| None);
            }
        }
    }
}
