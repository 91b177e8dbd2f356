//! Models fetched from Hugging Face's hub into the cache that `transformers` and its kin share, so that what one program
//! has, no other fetches again.
//!
//! [`pull`] asks the hub for a revision's files, [chooses](choose) those that make a model, and fetches them, several at
//! once. A file is written under another name until its last byte is there and its checksum is the hub's; killed at any
//! moment and run again, it goes on where it was. [`cached`] finds what is there without asking anybody. What the hub says
//! is not believed: names are checked before they are paths, and the token goes to the endpoint alone.
//!
//! Beside it, [`endpoint`] asks models that somebody else runs, over OpenAI's API: this crate is the one that asks over HTTP.
//!
//! Not here: what is in the files. The hub's newer transfer by chunks (Xet) is not spoken; every file can be had whole.

pub mod cache;
mod checksum;
pub mod choose;
mod client;
mod download;
pub mod endpoint;
mod error;
mod listing;
mod name;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ledger::progress::Progress;

pub use cache::Cache;
pub use choose::Choice;
pub use error::Error;
pub use name::{Repository, Revision};

/// Where models are asked for when nothing else is said.
pub const ENDPOINT: &str = "https://huggingface.co";

/// What to fetch, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// Whose model.
    pub repository: Repository,
    /// Which state of it.
    pub revision: Revision,
    /// Names or globs of files; without any, what makes a model is chosen.
    pub include: Vec<String>,
    /// Where the files go.
    pub to: Destination,
    /// The hub or a mirror of it, with its scheme.
    pub endpoint: String,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<String>,
    /// Files that are fetched at once.
    pub parallel: usize,
    /// The wait before a failed request is tried again; it doubles each time.
    pub retry_after: Duration,
}

impl Request {
    /// The main revision from the hub into a cache.
    pub fn new(repository: Repository, cache: Cache) -> Self {
        Self {
            repository,
            revision: Revision::default(),
            include: Vec::new(),
            to: Destination::Cache(cache),
            endpoint: ENDPOINT.to_owned(),
            token: None,
            parallel: 4,
            retry_after: Duration::from_secs(1),
        }
    }
}

/// Where files go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Into the shared cache, from which other revisions and other programs take what is the same.
    Cache(Cache),
    /// Into a plain folder.
    Folder(PathBuf),
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The folder that holds the files under their names.
    pub folder: PathBuf,
    /// The commit that the revision stands for.
    pub commit: String,
    /// Files that make up what was asked for.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, what was fetched just now.
    pub fetched: u64,
    /// Files of the repository that were not chosen, with their bytes where the hub says so.
    pub left: Vec<(String, Option<u64>)>,
}

/// Fetches a model.
///
/// # Errors
/// A repository or a revision that is not there or not for this token, files that do not make a model, a hub that cannot be
/// reached or asks for patience, checksums that differ, and a failure of the disk. What was fetched until then is kept.
pub fn pull(request: &Request, progress: &dyn Progress) -> Result<Pulled, Error> {
    let client = client::Client::new(request)?;
    let listing = listing::fetch(&client, request, progress)?;
    let choice = choose::choose(&listing.files, &request.include, &request.repository)?;
    download::all(&client, request, &listing, choice, progress)
}

/// The folder of a model that was pulled before, by us or another program, if its revision is there.
pub fn cached(cache: &Cache, repository: &Repository, revision: &Revision) -> Option<PathBuf> {
    cache.snapshot(repository, revision)
}

/// Reads a token from a file.
///
/// # Errors
/// A file that cannot be read or holds no token.
pub fn token_of(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let token = text.trim();
    let sound = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    sound.then(|| token.to_owned()).ok_or_else(|| Error::Token { path: path.to_owned() })
}
