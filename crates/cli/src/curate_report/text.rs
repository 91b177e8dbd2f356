//! Texts of strangers on a page: nothing in them is markup, hidden, or able to turn round what stands beside it.
//! Escaping is the templates'; this is about characters.

/// The text with each control character made visible. Those that change the direction of writing are written out, since
/// they make a line read other than it is; line breaks and tabs stay.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => out.push(character),
            // Pictures of the control characters.
            '\0'..='\u{1f}' => out.push(char::from_u32(0x2400 + character as u32).unwrap_or('\u{fffd}')),
            '\u{7f}' => out.push('\u{2421}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}' => {
                out.push_str(&format!("[U+{:04X}]", character as u32));
            }
            '\u{80}'..='\u{9f}' | '\u{fdd0}'..='\u{fdef}' => out.push('\u{fffd}'),
            other if other as u32 & 0xfffe == 0xfffe => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

/// A name or an address in one line of at most `most` characters.
pub fn line(text: &str, most: usize) -> String {
    let mut characters = text.chars();
    let cut: String = characters.by_ref().take(most).collect();
    let mut line = visible(&cut).replace(['\n', '\t'], " ");
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

/// A language's tag where it is one that a browser may know, for `lang=`.
pub fn language_tag(tag: Option<&str>) -> Option<&str> {
    tag.filter(|tag| matches!(tag.len(), 2 | 3) && tag.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// English names of the languages that the detector knows.
#[rustfmt::skip]
const NAMES: &[(&str, &str)] = &[
    ("af", "Afrikaans"), ("am", "Amharic"), ("ar", "Arabic"), ("az", "Azerbaijani"), ("be", "Belarusian"), ("bg", "Bulgarian"),
    ("bn", "Bengali"), ("bo", "Tibetan"), ("bs", "Bosnian"), ("ca", "Catalan"), ("cs", "Czech"), ("cy", "Welsh"),
    ("da", "Danish"), ("de", "German"), ("el", "Greek"), ("en", "English"), ("eo", "Esperanto"), ("es", "Spanish"),
    ("et", "Estonian"), ("eu", "Basque"), ("fa", "Persian"), ("fi", "Finnish"), ("fr", "French"), ("ga", "Irish"),
    ("gu", "Gujarati"), ("he", "Hebrew"), ("hi", "Hindi"), ("hr", "Croatian"), ("hu", "Hungarian"), ("hy", "Armenian"),
    ("id", "Indonesian"), ("is", "Icelandic"), ("it", "Italian"), ("ja", "Japanese"), ("ka", "Georgian"), ("kk", "Kazakh"),
    ("km", "Khmer"), ("kn", "Kannada"), ("ko", "Korean"), ("la", "Latin"), ("lg", "Ganda"), ("lo", "Lao"),
    ("lt", "Lithuanian"), ("lv", "Latvian"), ("mi", "Māori"), ("mk", "Macedonian"), ("ml", "Malayalam"), ("mn", "Mongolian"),
    ("mr", "Marathi"), ("ms", "Malay"), ("my", "Burmese"), ("nb", "Norwegian Bokmål"), ("nl", "Dutch"),
    ("nn", "Norwegian Nynorsk"), ("or", "Odia"), ("pa", "Punjabi"), ("pl", "Polish"), ("pt", "Portuguese"), ("ro", "Romanian"),
    ("ru", "Russian"), ("si", "Sinhala"), ("sk", "Slovak"), ("sl", "Slovenian"), ("sn", "Shona"), ("so", "Somali"),
    ("sq", "Albanian"), ("sr", "Serbian"), ("st", "Sotho"), ("sv", "Swedish"), ("sw", "Swahili"), ("ta", "Tamil"),
    ("te", "Telugu"), ("th", "Thai"), ("tl", "Tagalog"), ("tn", "Tswana"), ("tr", "Turkish"), ("ts", "Tsonga"),
    ("uk", "Ukrainian"), ("ur", "Urdu"), ("vi", "Vietnamese"), ("xh", "Xhosa"), ("yo", "Yoruba"), ("zh", "Chinese"),
    ("zu", "Zulu"),
];

/// A language's name, its tag where it has none here.
pub fn language_name(tag: &str) -> String {
    let known = NAMES.iter().find(|(known, _)| *known == tag);
    known.map_or_else(|| line(tag, 40), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides_in_a_text() {
        let check = |text: &str, wanted: &str| assert_eq!(visible(text), wanted, "{text:?}");
        check("a\0b\u{1b}[2J\r\n\tc\u{7f}", "a␀b␛[2J␍\n\tc␡");
        check("gnp.\u{202e}exe\u{202c}", "gnp.[U+202E]exe[U+202C]");
        check("\u{2066}\u{2069}\u{e0041}", "[U+2066][U+2069][U+E0041]");
        check("\u{85}\u{fffe}\u{fdd0}\u{10ffff}", "����");
        check("שלום \u{200f}עולם, नमस्ते, 👩‍🚀", "שלום \u{200f}עולם, नमस्ते, 👩‍🚀");
        assert_eq!(line("a\nb\tc", 9), "a b c");
        assert_eq!(line("äöüß", 3), "äöü…");
    }

    #[test]
    fn every_language_that_is_detected_has_a_name() {
        let known: Vec<&str> = NAMES.iter().map(|(tag, _)| *tag).collect();
        assert_eq!(known, corpus::language::languages());
        assert_eq!(language_name("de"), "German");
        assert_eq!(language_name("<b>"), "<b>");
        assert_eq!(language_tag(Some("de")), Some("de"));
        for other in [None, Some("d"), Some("de\""), Some("DE"), Some("others")] {
            assert_eq!(language_tag(other), None);
        }
    }
}
