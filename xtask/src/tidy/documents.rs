//! Links in the documents lead to files that exist. What lies on other hosts is not asked.

use std::path::{Path, PathBuf};

use super::{Report, entries, files, read};

pub(super) fn check(root: &Path, report: &mut Report) -> Result<(), String> {
    let mut pages: Vec<PathBuf> = entries(root, Path::new(""))?;
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    for folder in ["docs", "crates", "bench", "recipes", "tests", "xtask"] {
        pages.extend(files(root, Path::new(folder), &["md"])?);
    }
    for page in pages {
        report.files += 1;
        for (line, target) in links(&read(root, &page)?) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains(':') {
                continue; // A heading of the same page, or another host.
            }
            if !root.join(page.parent().unwrap_or(Path::new(""))).join(target).exists() {
                report.error(
                    &page,
                    line,
                    format!("the link to {target} leads nowhere"),
                    "correct it or remove it",
                );
            }
        }
    }
    Ok(())
}

/// The targets of `[text](target)` outside code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            let before = &rest[..at];
            let after = &rest[at + 2..];
            let Some(end) = after.find(')') else { break };
            // An odd number of backticks before it: it lies in a piece of code, unless the text between the
            // brackets is code.
            if before.matches('`').count() % 2 == 0 {
                found.push((index + 1, after[..end].split_whitespace().next().unwrap_or_default()));
            }
            rest = &after[end..];
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code() {
        let text = "[a](a.md) and [`b`](docs/b.md#part \"title\")\n`[x](x.md)`\n```\n[y](y.md)\n```\n![c](c.png) [open](\n";
        assert_eq!(links(text), [(1, "a.md"), (1, "docs/b.md#part"), (6, "c.png")]);
    }
}
