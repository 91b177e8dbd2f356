//! The lines of extracted pages: which of them are prose, so that rules made for prose do not judge a table, a
//! formula or code. It reads what [`crate::extract`] writes and is no parser of Markdown at large.

use crate::kind::{self, Kind};

/// The lines of a document, each with whether the rules for prose apply to it: of an extracted page not to
/// headings, tables, code, formulas and pictures; of others to all.
pub(crate) fn lines(kind: Kind, text: &str) -> impl Iterator<Item = (&str, bool)> {
    let extracted = kind == kind::HTML;
    let mut fence: Option<&str> = None;
    text.lines().map(move |line| {
        if !extracted {
            return (line, true);
        }
        let marks = &line[..line.len() - line.trim_start_matches('`').len()];
        match fence {
            Some(open) => {
                if marks == open && line.len() == marks.len() {
                    fence = None;
                }
                return (line, false);
            }
            None if marks.len() >= 3 => {
                fence = Some(marks);
                return (line, false);
            }
            None => {}
        }
        let heading = line.trim_start_matches('#').starts_with(' ') && line.starts_with('#');
        (line, !(heading || line.starts_with("| ") || line.starts_with("$$") || line.starts_with("![")))
    })
}

/// Whether a word is a mark of Markdown rather than a word.
pub(crate) fn is_mark(word: &str) -> bool {
    matches!(word, "|" | "---" | "-" | ">") || (word.len() <= 6 && word.bytes().all(|byte| byte == b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structure_is_told_from_prose() {
        let text =
            "# Title\nProse.\n```rust\n# in code\n``\n```\n| a | b |\n$$x$$\n![a picture]\n#hashtag\n- item";
        let prose: Vec<&str> =
            lines(kind::HTML, text).filter(|(_, prose)| *prose).map(|(line, _)| line).collect();
        assert_eq!(prose, ["Prose.", "#hashtag", "- item"]);
        assert!(lines(kind::TEXT, text).all(|(_, prose)| prose));
        assert!(is_mark("##") && is_mark("|") && !is_mark("#tag") && !is_mark("a"));
    }
}
