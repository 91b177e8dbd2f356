//! Where documents come from: what the user names, and the inputs (files with their format) that this expands to,
//! in a deterministic order. Nothing is opened here.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;
use ledger::digest::Digest;
use store::Places;

use crate::funnel::SkippedInput;
use crate::kind::{self, Kind};
use crate::listing::{self, Found};
use crate::location::Location;
use crate::read::Compression;
use crate::{Error, Settings, registry};

/// A source as the user names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The crates in this machine's cargo registry.
    Registry,
    /// A folder (read recursively), a file, or a glob.
    Path(String),
    /// The address of an object, of a prefix (read recursively) or a glob in a store, or of a file on a web server.
    Store(String),
}

impl Source {
    /// Parses `registry`, an address such as `s3://bucket/prefix`, or a path or glob.
    ///
    /// # Errors
    /// [`Error::Source`] for an empty text or a malformed glob; [`Error::Store`] for a malformed address.
    pub fn parse(text: &str) -> Result<Source, Error> {
        let malformed = |reason: String| Error::Source { given: text.to_string(), reason };
        match text {
            "registry" => Ok(Source::Registry),
            "" => Err(malformed("it is empty".into())),
            address if store::is_address(address) => {
                listing::parse(address)?;
                Ok(Source::Store(address.to_string()))
            }
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
            // What is signed for somebody is not shown.
            Source::Store(given) => match store::Address::parse(given) {
                Ok(address) if given.ends_with('/') && !address.key.ends_with('/') => {
                    write!(formatter, "{address}/")
                }
                Ok(address) => write!(formatter, "{address}"),
                Err(_) => formatter.write_str(given),
            },
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

/// A file or an object to read.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub location: Location,
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
    places: Option<Places>,
}

/// Expands the sources in their order; within a folder or glob, files come in the order of their names. A file
/// that two sources name is read once.
///
/// # Errors
/// [`Error::Store`] where a store cannot be asked; what is missing is skipped.
pub(crate) fn expand(sources: &[Source], settings: &Settings) -> Result<Inputs, Error> {
    expand_without(sources, settings, &[])
}

/// [`expand`], but that folders, such as the one that is about to be written, are not looked into.
pub(crate) fn expand_without(
    sources: &[Source],
    settings: &Settings,
    folders: &[&Path],
) -> Result<Inputs, Error> {
    let without = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    let mut inputs = Inputs { without, ..Inputs::default() };
    for source in sources {
        match source {
            Source::Registry => inputs.add_registry(settings),
            Source::Path(path) => inputs.add_path(path, settings),
            Source::Store(address) => inputs.add_objects(address, settings)?,
        }
    }
    Ok(inputs)
}

/// What the objects under an address are, by their names, lengths and states as the store tells them: nothing is read.
///
/// # Errors
/// [`Error::Store`].
pub fn digest_listing(address: &str, settings: &Settings) -> Result<Digest, Error> {
    let objects = match listing::find(&Places::default(), address, settings)? {
        Found::Objects { objects, .. } => objects,
        Found::Nothing(_) => Vec::new(),
    };
    let state = |object: &store::Object| {
        let etag = object.etag().or(object.modified()).map(str::to_owned);
        (object.address().to_string(), object.bytes(), etag)
    };
    Ok(Digest::of_value(&objects.iter().map(state).collect::<Vec<_>>())?)
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
            *self.ignored.entry(input.location.extension()).or_default() += 1;
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

    fn add_objects(&mut self, given: &str, settings: &Settings) -> Result<(), Error> {
        let places = self.places.get_or_insert_default().clone();
        let (objects, named) = match listing::find(&places, given, settings)? {
            Found::Objects { objects, named } => (objects, named),
            Found::Nothing(reason) => {
                let shown = Source::Store(given.to_owned()).to_string();
                self.skip(shown, reason);
                return Ok(());
            }
        };
        for object in objects {
            let name = object.address().to_string();
            let Some((container, compression)) = self.format(Path::new(&object.address().key), named) else {
                continue;
            };
            if self.seen.insert(PathBuf::from(&name)) {
                let (bytes, location) = (object.bytes(), Location::object(object));
                self.inputs.push(Input { location, name, url: None, container, compression, bytes });
            }
        }
        Ok(())
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

    /// The format that a name tells. What the user named himself is otherwise taken as text; in a folder it is counted as
    /// ignored.
    fn format(&mut self, path: &Path, named: bool) -> Option<(Container, Compression)> {
        let told = format_of(path);
        if told.is_none() && !named {
            let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
            *self.ignored.entry(extension.unwrap_or_else(|| "no extension".into())).or_default() += 1;
            return None;
        }
        Some(told.unwrap_or_else(|| (Container::Document(kind::TEXT), compression_of(path))))
    }

    fn add_file(&mut self, path: &Path, name: String, url: Option<String>, named: bool) {
        let Some((container, compression)) = self.format(path, named) else { return };
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if !self.seen.insert(canonical) {
            return;
        }
        let bytes = std::fs::metadata(path).map(|data| data.len()).unwrap_or(0);
        let location = Location::File(path.to_path_buf());
        self.inputs.push(Input { location, name, url, container, compression, bytes });
    }
}

pub(crate) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

pub(crate) fn matcher(pattern: &str) -> Result<GlobMatcher, String> {
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
        check("s3://bucket/crawl/*.warc.gz", Some(Source::Store("s3://bucket/crawl/*.warc.gz".into())));
        check("gs://bucket/", Some(Source::Store("gs://bucket/".into())));
        check("s3://bucket/[z-a]*", None);
        check("https://host/*.gz", None);
        check("s3:///key", None);
        let signed = Source::parse("https://host/a.gz?signature=secret").unwrap();
        assert_eq!(signed.to_string(), "https://host/a.gz");
        check("", None);
        check("pages/[z-a]*", None);
    }
}
