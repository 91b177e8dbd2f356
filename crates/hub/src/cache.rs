//! The cache that `huggingface_hub` lays out and every program built on it reads:
//!
//! ```text
//! models--meta-llama--Llama-3.2-1B-Instruct/
//!     blobs/<checksum>             contents; <checksum>.incomplete while they come
//!     snapshots/<commit>/<file>    links to them, under their names
//!     refs/<revision>              the commit that a branch or a tag meant last
//! .locks/models--…/<checksum>.lock held by whoever fetches
//! ```

use std::path::{Path, PathBuf};

use crate::name::is_commit;
use crate::{Error, Repository, Revision};

/// Where the cache lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in this folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The cache that the other programs on this machine use: `HF_HUB_CACHE`, or `hub` in [`home`].
    ///
    /// # Errors
    /// There is no home folder.
    pub fn shared() -> Result<Self, Error> {
        match variable("HF_HUB_CACHE") {
            Some(root) => Ok(Self::at(root)),
            None => Ok(Self::at(home().ok_or(Error::NoCache)?.join("hub"))),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a repository.
    pub(crate) fn repository(&self, repository: &Repository) -> PathBuf {
        self.root.join(folder_name(repository))
    }

    pub(crate) fn blob(&self, repository: &Repository, etag: &str) -> PathBuf {
        self.repository(repository).join("blobs").join(etag)
    }

    pub(crate) fn lock(&self, repository: &Repository, etag: &str) -> PathBuf {
        self.root.join(".locks").join(folder_name(repository)).join(format!("{etag}.lock"))
    }

    pub(crate) fn snapshot_of(&self, repository: &Repository, commit: &str) -> PathBuf {
        self.repository(repository).join("snapshots").join(commit)
    }

    pub(crate) fn reference(&self, repository: &Repository, revision: &Revision) -> PathBuf {
        self.repository(repository).join("refs").join(revision.as_str())
    }

    /// The folder of a revision, if it is there.
    pub(crate) fn snapshot(&self, repository: &Repository, revision: &Revision) -> Option<PathBuf> {
        let commit = match revision.is_commit() {
            true => revision.as_str().to_owned(),
            false => std::fs::read_to_string(self.reference(repository, revision)).ok()?.trim().to_owned(),
        };
        let folder = self.snapshot_of(repository, &commit);
        (is_commit(&commit) && folder.is_dir()).then_some(folder)
    }

    /// The models that are there, with the revision `main`, in the order of their names.
    pub fn repositories(&self) -> Vec<Repository> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut found: Vec<Repository> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let repository: Repository =
                    name.strip_prefix("models--")?.replace("--", "/").parse().ok()?;
                self.snapshot(&repository, &Revision::default()).map(|_| repository)
            })
            .collect();
        found.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        found
    }
}

/// Where `huggingface_hub` keeps its things: `HF_HOME`, or `huggingface` in the user's cache folder.
pub fn home() -> Option<PathBuf> {
    if let Some(home) = variable("HF_HOME") {
        return Some(home);
    }
    let caches = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(caches.join("huggingface"))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn folder_name(repository: &Repository) -> String {
    format!("models--{}", repository.as_str().replace('/', "--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_found_by_its_reference_or_its_commit() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let repository: Repository = "a/b".parse().unwrap();
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let main = Revision::default();
        assert_eq!(cache.snapshot(&repository, &main), None);
        let folder = dir.path().join("models--a--b/snapshots").join(commit);
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(cache.snapshot(&repository, &main), None);
        assert_eq!(cache.snapshot(&repository, &commit.parse().unwrap()), Some(folder.clone()));
        let refs = dir.path().join("models--a--b/refs");
        std::fs::create_dir_all(&refs).unwrap();
        std::fs::write(refs.join("main"), format!("{commit}\n")).unwrap();
        assert_eq!(cache.snapshot(&repository, &main), Some(folder));
        assert_eq!(cache.repositories(), std::slice::from_ref(&repository));
        // A reference that is no commit leads nowhere.
        std::fs::write(refs.join("main"), "../../..").unwrap();
        assert_eq!(cache.snapshot(&repository, &main), None);
    }
}
