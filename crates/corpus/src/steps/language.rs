//! The natural language of each document (see [`crate::language`]): fills `lang` (ISO 639-1) and `lang_score` (the
//! detector's confidence, 0 to 1). Source code and data have none and stay null.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::{Float64Builder, StringBuilder};

use super::{Removed, Step};
use crate::batch::{self, Rows};
use crate::kind::Class;
use crate::settings;
use crate::{Error, language};

const NAME: &str = "language";

/// Bytes of a document that the detector sees: more changes nothing for a text in one language.
const SAMPLE_BYTES: usize = 8 << 10;

/// The step.
pub struct DetectLanguage {
    keep: Vec<String>,
    min_score: f64,
}

impl DetectLanguage {
    /// The step with these settings.
    pub fn new(settings: &settings::Language) -> DetectLanguage {
        DetectLanguage { keep: settings.keep.clone(), min_score: settings.min_score }
    }
}

impl Step for DetectLanguage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut removed = Removed::default();
        let mut keep = Vec::with_capacity(batch.num_rows());
        let (mut languages, mut scores) = (StringBuilder::new(), Float64Builder::new());
        for row in Rows::of(&batch, NAME)?.iter() {
            if matches!(row.kind.class, Class::Code | Class::Data) {
                languages.append_null();
                scores.append_null();
                keep.push(true);
                continue;
            }
            let found = detect(row.text);
            languages.append_option(found.map(|(language, _)| language));
            scores.append_option(found.map(|(_, score)| score));
            let reason = match found {
                _ if self.keep.is_empty() => None,
                None => Some("language_unknown"),
                Some((language, _)) if !self.keep.iter().any(|kept| kept == language) => {
                    Some("other_language")
                }
                Some((_, score)) if score < self.min_score => Some("low_score"),
                Some(_) => None,
            };
            keep.push(reason.is_none());
            if let Some(reason) = reason {
                removed.count(reason, row);
            }
        }
        let batch = batch::with_column(&batch, NAME, "lang", Arc::new(languages.finish()))?;
        let batch = batch::with_column(&batch, NAME, "lang_score", Arc::new(scores.finish()))?;
        Ok((batch::keep_rows(&batch, NAME, keep)?, removed))
    }
}

/// The ISO 639-1 code of the text's language and the detector's confidence, or nothing for a text without
/// letters of a known script. Lines inside Markdown's code fences, and its indented code, are not looked at.
pub fn detect(text: &str) -> Option<(&'static str, f64)> {
    let mut sample = String::with_capacity(SAMPLE_BYTES.min(text.len()));
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~") {
            fenced = !fenced;
            continue;
        }
        if fenced || line.starts_with("    ") {
            continue;
        }
        let room = SAMPLE_BYTES.saturating_sub(sample.len());
        sample.push_str(&line[..line.floor_char_boundary(room)]);
        sample.push('\n');
        if sample.len() >= SAMPLE_BYTES {
            break;
        }
    }
    if sample.trim().is_empty() {
        sample = text[..text.floor_char_boundary(SAMPLE_BYTES)].to_string();
    }
    let found = language::detect(&sample)?;
    Some((found.language, found.score))
}

/// Whether `language` is a code that [`detect`] can return.
pub fn is_known_code(language: &str) -> bool {
    language::languages().contains(&language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_sentences_are_recognised() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(detect(text).map(|(language, _)| language), expected, "{text}");
        };
        check("The library is open on every day of the week, and nobody has to pay to enter it.", Some("en"));
        check(
            "Die Bibliothek ist an jedem Tag der Woche geöffnet, und niemand muss dafür bezahlen.",
            Some("de"),
        );
        check(
            "La bibliothèque est ouverte tous les jours de la semaine et l'entrée est gratuite.",
            Some("fr"),
        );
        check("图书馆每天都开放，任何人都不必为进入而付钱。", Some("zh"));
        check("12345 67890 -- ++", None);
        check(
            "# Titel\n```\nfn main() { the and of with have }\n```\nDieses Programm liest Dateien und schreibt sie.",
            Some("de"),
        );
    }
}
