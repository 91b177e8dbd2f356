//! Scripts by character: which there are, and which language a script says by itself. Blocks of Unicode, not its
//! script tables: a letter in the wrong block costs a vote, no more.

/// A script that languages are told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Script {
    Latin,
    Cyrillic,
    Arabic,
    Devanagari,
    Han,
    Kana,
    Hangul,
    Greek,
    Hebrew,
    Thai,
    Georgian,
    Armenian,
    Bengali,
    Gurmukhi,
    Gujarati,
    Tamil,
    Telugu,
    Kannada,
    Malayalam,
    Oriya,
    Sinhala,
    Burmese,
    Khmer,
    Lao,
    Tibetan,
    Ethiopic,
}

pub(super) const COUNT: usize = Script::Ethiopic as usize + 1;

/// The scripts in their order.
pub(super) const ALL: [Script; COUNT] = [
    Script::Latin,
    Script::Cyrillic,
    Script::Arabic,
    Script::Devanagari,
    Script::Han,
    Script::Kana,
    Script::Hangul,
    Script::Greek,
    Script::Hebrew,
    Script::Thai,
    Script::Georgian,
    Script::Armenian,
    Script::Bengali,
    Script::Gurmukhi,
    Script::Gujarati,
    Script::Tamil,
    Script::Telugu,
    Script::Kannada,
    Script::Malayalam,
    Script::Oriya,
    Script::Sinhala,
    Script::Burmese,
    Script::Khmer,
    Script::Lao,
    Script::Tibetan,
    Script::Ethiopic,
];

impl Script {
    /// The script of a letter or of a mark that belongs to one.
    pub fn of(character: char) -> Option<Script> {
        Some(match character as u32 {
            0x41..=0x5A
            | 0x61..=0x7A
            | 0xAA
            | 0xBA
            | 0xC0..=0xD6
            | 0xD8..=0xF6
            | 0xF8..=0x24F
            | 0x1E00..=0x1EFF => Script::Latin,
            // Marks that are set on letters of Latin and Cyrillic script belong to either.
            0x250..=0x2AF | 0xFF21..=0xFF3A | 0xFF41..=0xFF5A => Script::Latin,
            0x370..=0x3FF | 0x1F00..=0x1FFF => Script::Greek,
            0x400..=0x52F | 0x1C80..=0x1C8F => Script::Cyrillic,
            0x531..=0x58F => Script::Armenian,
            0x591..=0x5F4 => Script::Hebrew,
            0x620..=0x65F
            | 0x66E..=0x6D3
            | 0x6D5..=0x6DC
            | 0x6EE..=0x6EF
            | 0x6FA..=0x6FF
            | 0x750..=0x77F
            | 0xFB50..=0xFDFF
            | 0xFE70..=0xFEFC => Script::Arabic,
            0x900..=0x963 | 0x970..=0x97F => Script::Devanagari,
            0x980..=0x9E3 => Script::Bengali,
            0xA00..=0xA65 | 0xA70..=0xA7F => Script::Gurmukhi,
            0xA80..=0xAE3 => Script::Gujarati,
            0xB00..=0xB65 => Script::Oriya,
            0xB80..=0xBE5 => Script::Tamil,
            0xC00..=0xC65 => Script::Telugu,
            0xC80..=0xCE5 => Script::Kannada,
            0xD00..=0xD65 => Script::Malayalam,
            0xD80..=0xDF3 => Script::Sinhala,
            0xE01..=0xE3A | 0xE40..=0xE4E => Script::Thai,
            0xE80..=0xECF | 0xEDC..=0xEDF => Script::Lao,
            0xF40..=0xFBC => Script::Tibetan,
            0x1000..=0x103F | 0x1050..=0x109F => Script::Burmese,
            0x10A0..=0x10FF | 0x1C90..=0x1CBF => Script::Georgian,
            0x1100..=0x11FF | 0x3130..=0x318F | 0xAC00..=0xD7AF => Script::Hangul,
            0x1200..=0x137F => Script::Ethiopic,
            0x1780..=0x17D3 => Script::Khmer,
            0x3041..=0x309F | 0x30A1..=0x30FA | 0x30FC..=0x30FF | 0xFF66..=0xFF9D => Script::Kana,
            0x3005 | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF => Script::Han,
            _ => return None,
        })
    }

    /// The language of the only script that is enough to tell it; of Latin and a few others nothing.
    pub fn language(self) -> Option<&'static str> {
        Some(match self {
            Script::Latin | Script::Cyrillic | Script::Arabic | Script::Devanagari => return None,
            Script::Han => "zh",
            Script::Kana => "ja",
            Script::Hangul => "ko",
            Script::Greek => "el",
            Script::Hebrew => "he",
            Script::Thai => "th",
            Script::Georgian => "ka",
            Script::Armenian => "hy",
            Script::Bengali => "bn",
            Script::Gurmukhi => "pa",
            Script::Gujarati => "gu",
            Script::Tamil => "ta",
            Script::Telugu => "te",
            Script::Kannada => "kn",
            Script::Malayalam => "ml",
            Script::Oriya => "or",
            Script::Sinhala => "si",
            Script::Burmese => "my",
            Script::Khmer => "km",
            Script::Lao => "lo",
            Script::Tibetan => "bo",
            Script::Ethiopic => "am",
        })
    }

    /// Letters of an alphabet that say as much as one character of this script.
    pub fn weight(self) -> usize {
        match self {
            Script::Han => 4,
            Script::Kana | Script::Hangul => 2,
            _ => 1,
        }
    }
}
