//! The checks of `cargo xtask tidy`, over a whole workspace. Each rule is a sentence of ARCHITECTURE.md or
//! CONTRIBUTING.md; what clippy or cargo can check is left to them.

mod documents;
mod layers;
mod recipes;
mod rust;
mod sources;

use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong where, and what to do about it.
#[derive(Debug, PartialEq)]
pub struct Finding {
    pub severity: Severity,
    /// Relative to the workspace.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    pub message: String,
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Severity {
    Warning,
    Error,
}

/// What a check of the workspace found.
#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// The files that were looked at.
    pub files: usize,
}

impl Report {
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    fn error(&mut self, path: &Path, line: usize, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, path, line, message.into(), remedy.into());
    }

    fn warning(&mut self, path: &Path, line: usize, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, path, line, message.into(), remedy.into());
    }

    fn add(&mut self, severity: Severity, path: &Path, line: usize, message: String, remedy: String) {
        self.findings.push(Finding { severity, path: path.to_owned(), line, message, remedy });
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(
            f,
            "{}:{}: {severity}: {}\n  help: {}",
            self.path.display(),
            self.line,
            self.message,
            self.remedy
        )
    }
}

/// Checks the workspace at `root`. Errors only where it cannot be read.
pub fn check(root: &Path) -> Result<Report, String> {
    let mut report = Report::default();
    layers::check(root, &mut report)?;
    sources::check(root, &mut report)?;
    recipes::check(root, &mut report)?;
    documents::check(root, &mut report)?;
    report.findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    Ok(report)
}

/// The text of a file, given relative to the workspace.
fn read(root: &Path, path: &Path) -> Result<String, String> {
    std::fs::read_to_string(root.join(path))
        .map_err(|error| format!("could not read {}: {error}", path.display()))
}

/// All files below `folder` with one of these extensions, relative to the workspace and sorted; none where
/// the folder does not exist.
fn files(root: &Path, folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in entries(root, &folder)? {
            if root.join(&path).is_dir() {
                let name = path.file_name().unwrap_or_default();
                // What is built or brought along is not ours.
                if !["target", ".git", ".venv", "venv", "node_modules", "__pycache__"]
                    .iter()
                    .any(|other| name == *other)
                {
                    folders.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|extension| extensions.iter().any(|other| extension == *other))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What lies directly in `folder`, relative to the workspace and sorted; nothing where it does not exist.
fn entries(root: &Path, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let listing = match std::fs::read_dir(root.join(folder)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other,
    };
    let names: Result<Vec<_>, _> =
        listing.and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let names = names.map_err(|error| format!("could not list {}: {error}", folder.display()))?;
    let mut paths: Vec<_> = names.into_iter().map(|name| folder.join(name)).collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests;
