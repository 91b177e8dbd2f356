//! Where documents come from: what the user names, and the inputs (files with their format) that this expands to,
//! in a deterministic order. Nothing is opened here.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;

use crate::funnel::SkippedInput;
use crate::kind::{self, Kind};
use crate::read::Compression;
use crate::{Error, Settings, registry};

/// A source as the user names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The crates in this machine's cargo registry.
    Registry,
    /// A folder (read recursively), a file, or a glob.
    Path(String),
}

impl Source {
    /// Parses `registry`, or a path or glob.
    ///
    /// # Errors
    /// [`Error::Source`] for an empty text or a malformed glob.
    pub fn parse(text: &str) -> Result<Source, Error> {
        let malformed = |reason: String| Error::Source { given: text.to_string(), reason };
        match text {
            "registry" => Ok(Source::Registry),
            "" => Err(malformed("it is empty".into())),
            path => {
                if is_glob(path) && !Path::new(path).exists() {
                    matcher(path).map_err(malformed)?;
                }
                Ok(Source::Path(path.to_string()))
            }
        }
    }
}

impl std::str::FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Source, Error> {
        Source::parse(text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Registry => formatter.write_str("registry"),
            Source::Path(path) => formatter.write_str(path),
        }
    }
}

/// How documents lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// The file is one document (or, of plain text, parts).
    Document(Kind),
    /// JSON lines.
    Lines,
    /// Parquet.
    Table,
    /// WARC.
    Warc,
}

/// A file to read.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub path: PathBuf,
    /// How the file is called in the column `source`: as the user named it, with `/` between folders.
    pub name: String,
    pub url: Option<String>,
    pub container: Container,
    pub compression: Compression,
    pub bytes: u64,
}

/// All inputs of the sources, in the order in which they are read.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    pub inputs: Vec<Input>,
    pub skipped: Vec<SkippedInput>,
    /// Files in folders whose name promises no known text, by extension.
    pub ignored: BTreeMap<String, u64>,
    seen: HashSet<PathBuf>,
    /// Folders in which nothing is read.
    without: Vec<PathBuf>,
}

/// Expands the sources in their order; within a folder or glob, files come in the order of their names. A file
/// that two sources name is read once.
pub(crate) fn expand(sources: &[Source], settings: &Settings) -> Inputs {
    expand_without(sources, settings, &[])
}

/// [`expand`], but that folders, such as the one that is about to be written, are not looked into.
pub(crate) fn expand_without(sources: &[Source], settings: &Settings, folders: &[&Path]) -> Inputs {
    let without = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    let mut inputs = Inputs { without, ..Inputs::default() };
    for source in sources {
        match source {
            Source::Registry => inputs.add_registry(settings),
            Source::Path(path) => inputs.add_path(path, settings),
        }
    }
    inputs
}

impl Inputs {
    fn skip(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(SkippedInput { place: place.into(), reason: reason.into() });
    }

    fn add_registry(&mut self, settings: &Settings) {
        let root = match &settings.registry {
            Some(root) => PathBuf::from(root),
            None => match registry::default_root() {
                Some(root) => root,
                None => return self.skip("registry", "there is neither CARGO_HOME nor a home folder"),
            },
        };
        let crates = match registry::newest(&root) {
            Ok(crates) => crates,
            Err(error) => return self.skip("registry", error.to_string()),
        };
        let first = self.inputs.len();
        for found in crates {
            let name = format!("registry/{}-{}", found.name, found.version);
            let url = found
                .from_crates_io
                .then(|| format!("https://docs.rs/crate/{}/{}/source", found.name, found.version));
            self.add_folder(&found.path, &name, url.as_deref(), settings);
        }
        // Tables and archives inside crates are fixtures of their tests, often malformed on purpose.
        for input in
            self.inputs.extract_if(first.., |input| !matches!(input.container, Container::Document(_)))
        {
            let extension = input.path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            *self.ignored.entry(extension).or_default() += 1;
        }
    }

    fn add_path(&mut self, given: &str, settings: &Settings) {
        let path = Path::new(given);
        if path.is_dir() {
            self.add_folder(path, given.trim_end_matches(['/', '\\']), None, settings);
        } else if path.exists() {
            self.add_file(path, given.to_string(), None, true);
        } else if is_glob(given) {
            self.add_glob(given, settings);
        } else {
            self.skip(given, "does not exist");
        }
    }

    fn add_folder(&mut self, folder: &Path, name: &str, url: Option<&str>, settings: &Settings) {
        for (path, relative) in self.walk(folder, name, settings) {
            let url = url.map(|url| format!("{url}/{relative}"));
            self.add_file(&path, format!("{name}/{relative}"), url, false);
        }
    }

    fn add_glob(&mut self, pattern: &str, settings: &Settings) {
        let matcher = match matcher(pattern) {
            Ok(matcher) => matcher,
            Err(reason) => return self.skip(pattern, reason),
        };
        let fixed: PathBuf = Path::new(pattern)
            .components()
            .take_while(|part| !is_glob(&part.as_os_str().to_string_lossy()))
            .collect();
        let relative_to = fixed.to_string_lossy().replace('\\', "/");
        let base = if fixed.as_os_str().is_empty() { Path::new(".") } else { fixed.as_path() };
        let mut matched = false;
        let files = if base.is_dir() { self.walk(base, pattern, settings) } else { Vec::new() };
        for (path, relative) in files {
            let name = match relative_to.as_str() {
                "" => relative,
                base => format!("{}/{relative}", base.trim_end_matches('/')),
            };
            if matcher.is_match(name.strip_prefix("./").unwrap_or(&name)) {
                matched = true;
                self.add_file(&path, name, None, true);
            }
        }
        if !matched {
            self.skip(pattern, "matches no file");
        }
    }

    /// The files under a folder with their relative names, sorted by these. Ignore files such as `.gitignore` do
    /// not hide anything: data folders are often in them.
    fn walk(&mut self, folder: &Path, name: &str, settings: &Settings) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        let mut walk = WalkBuilder::new(folder);
        walk.standard_filters(false).hidden(!settings.include_hidden).follow_links(true);
        if !self.without.is_empty() {
            let without = self.without.clone();
            walk.filter_entry(move |entry| {
                let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
                !is_folder || entry.path().canonicalize().map_or(true, |path| !without.contains(&path))
            });
        }
        let walk = walk.build();
        for entry in walk {
            match entry {
                Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file()) => {
                    let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
                    let parts: Vec<_> =
                        relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
                    files.push((entry.path().to_path_buf(), parts.join("/")));
                }
                Ok(_) => {}
                Err(error) => self.skip(name, error.to_string()),
            }
        }
        files.sort_by(|a, b| a.1.cmp(&b.1));
        files
    }

    /// Adds a file if its name tells its format. A file that the user named himself is otherwise taken as text;
    /// in a folder it is counted as ignored.
    fn add_file(&mut self, path: &Path, name: String, url: Option<String>, named: bool) {
        let (container, compression) = match format_of(path) {
            Some(format) => format,
            None if named => (Container::Document(kind::TEXT), compression_of(path)),
            None => {
                let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
                *self.ignored.entry(extension.unwrap_or_else(|| "no extension".into())).or_default() += 1;
                return;
            }
        };
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if !self.seen.insert(canonical) {
            return;
        }
        let bytes = std::fs::metadata(path).map(|data| data.len()).unwrap_or(0);
        self.inputs.push(Input { path: path.to_path_buf(), name, url, container, compression, bytes });
    }
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
    let bare = pattern.strip_prefix("./").unwrap_or(pattern);
    let glob = GlobBuilder::new(bare).literal_separator(true).build().map_err(|error| error.to_string())?;
    Ok(glob.compile_matcher())
}

fn compression_of(path: &Path) -> Compression {
    match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("gz") => Compression::Gzip,
        Some("zst" | "zstd") => Compression::Zstd,
        _ => Compression::None,
    }
}

fn format_of(path: &Path) -> Option<(Container, Compression)> {
    let compression = compression_of(path);
    let inner = match compression {
        Compression::None => path.to_path_buf(),
        Compression::Gzip | Compression::Zstd => path.with_extension(""),
    };
    let extension = inner.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    let container = match extension.as_deref() {
        Some("jsonl" | "ndjson") => Container::Lines,
        Some("parquet") if compression == Compression::None => Container::Table,
        Some("warc" | "wet") => Container::Warc,
        _ => Container::Document(Kind::of_path(&inner)?),
    };
    Some((container, compression))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_format() {
        let check = |name: &str, expected: Option<(Container, Compression)>| {
            assert_eq!(format_of(Path::new(name)), expected, "{name}");
        };
        check("a/b.jsonl", Some((Container::Lines, Compression::None)));
        check("b.jsonl.gz", Some((Container::Lines, Compression::Gzip)));
        check("b.JSONL.zst", Some((Container::Lines, Compression::Zstd)));
        check("b.parquet", Some((Container::Table, Compression::None)));
        check("b.parquet.gz", None);
        check("b.warc.gz", Some((Container::Warc, Compression::Gzip)));
        check("b.warc.wet.gz", Some((Container::Warc, Compression::Gzip)));
        check("b.txt.gz", Some((Container::Document(kind::TEXT), Compression::Gzip)));
        check("b.png", None);
    }

    #[test]
    fn sources_are_parsed_and_shown_alike() {
        let check = |text: &str, expected: Option<Source>| {
            let parsed = Source::parse(text).ok();
            assert_eq!(parsed, expected, "{text:?}");
            if let Some(source) = parsed {
                assert_eq!(source.to_string(), text);
            }
        };
        check("registry", Some(Source::Registry));
        check("pages/*.warc.gz", Some(Source::Path("pages/*.warc.gz".into())));
        check("", None);
        check("pages/[z-a]*", None);
    }
}
