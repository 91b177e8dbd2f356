//! Recipes are TOML. That their keys are known is checked by the program that reads them.

use std::ops::Range;
use std::path::Path;

use super::{Report, files, read};

pub(super) fn check(root: &Path, report: &mut Report) -> Result<(), String> {
    for path in files(root, Path::new("recipes"), &["toml"])? {
        report.files += 1;
        check_text(&path, &read(root, &path)?, report);
    }
    Ok(())
}

fn check_text(path: &Path, text: &str, report: &mut Report) {
    if let Err(error) = text.parse::<toml::Table>() {
        report.error(path, line_of(text, error.span()), error.message(), "make it valid TOML");
    }
    if !text.trim_start().starts_with('#') {
        report.error(
            path,
            1,
            "the recipe does not say what it is for",
            "begin it with a comment of a line or two",
        );
    }
}

/// The line, counted from 1, on which a part of the text begins.
pub(super) fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start.min(text.len()));
    text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[usize]) {
        let mut report = Report::default();
        check_text(Path::new("recipes/x.toml"), text, &mut report);
        assert_eq!(
            report.findings.iter().map(|finding| finding.line).collect::<Vec<_>>(),
            expected,
            "{text}"
        );
    }

    #[test]
    fn recipes_parse_and_say_what_they_are() {
        check("# For a laptop.\n[train]\nsize = \"nano\"\n", &[]);
        check("[train]\nsize = \"nano\"\n", &[1]);
        check("# For a laptop.\n[train]\nsize = nano\n", &[3]);
        check("# For a laptop.\n[train]\nsize = 1\nsize = 2\n", &[4]);
    }
}
