//! What a revision of a repository holds: its commit, and each file with its size and checksum.

use std::io::Read;

use ledger::progress::Progress;
use serde::Deserialize;

use crate::checksum::Checksum;
use crate::client::{Client, Failure, header};
use crate::name::{escaped, is_commit, refuse_path};
use crate::{Error, Request};

/// The longest list that is read: some hundred thousand files.
const LONGEST: u64 = 64 << 20;

/// A file of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Its name, checked to lie below any folder that it is joined to.
    pub(crate) path: String,
    /// Bytes, where the hub said so.
    pub(crate) size: Option<u64>,
    /// Of its contents; asked for with [`describe`] where the list does not say it.
    pub(crate) checksum: Option<Checksum>,
}

/// A revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: Vec<Remote>,
}

/// `/api/models/{id}/revision/{revision}?blobs=true`.
#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: Option<u64>,
}

/// Asks for the list.
pub(crate) fn fetch(client: &Client, request: &Request, progress: &dyn Progress) -> Result<Listing, Error> {
    let revision = escaped(request.revision.as_str(), false);
    let path = format!("/api/models/{}/revision/{revision}?blobs=true", request.repository);
    let bytes = client.patiently("the list of files", progress, |_| {
        let mut response = client.get(&path, 0)?;
        let mut bytes = Vec::new();
        let read = response.body_mut().as_reader().take(LONGEST).read_to_end(&mut bytes);
        read.map_err(|error| Failure::Passing(error.to_string()))?;
        Ok(bytes)
    })?;
    parse(&bytes).map_err(|reason| client.strange("the list of files", reason))
}

/// Reads the hub's answer.
fn parse(bytes: &[u8]) -> Result<Listing, String> {
    let answer: Answer =
        serde_json::from_slice(bytes).map_err(|error| format!("what is no list: {error}"))?;
    if !is_commit(&answer.sha) {
        return Err(format!("a revision {:?}, which is no commit", answer.sha));
    }
    let mut files: Vec<Remote> = Vec::new();
    for Sibling { rfilename: path, size, blob_id, lfs } in answer.siblings {
        if let Some(reason) = refuse_path(&path) {
            return Err(format!("a file {path:?}, whose name {reason}"));
        }
        // Two files of one name would be written over one another; so would a file and a folder of its name.
        let below =
            |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if files.last().is_some_and(|last| below(&last.path, &path) || below(&path, &last.path)) {
            return Err(format!("a file {path:?} twice"));
        }
        let sum = lfs.as_ref().map(|lfs| lfs.sha256.as_str()).or(blob_id.as_deref());
        let checksum = sum.and_then(Checksum::of_etag).filter(|sum| !matches!(sum, Checksum::Unknown(_)));
        files.push(Remote { path, size: lfs.and_then(|lfs| lfs.size).or(size), checksum });
    }
    Ok(Listing { commit: answer.sha, files })
}

/// The address of a file below the endpoint.
pub(crate) fn address(request: &Request, commit: &str, file: &str) -> String {
    format!("/{}/resolve/{commit}/{}", request.repository, escaped(file, true))
}

/// A file's size and checksum from the headers of its address, where the list had them not: mirrors leave them out.
pub(crate) fn describe(
    client: &Client,
    request: &Request,
    commit: &str,
    file: &Remote,
    progress: &dyn Progress,
) -> Result<(Option<u64>, Checksum), Error> {
    if let (Some(_), Some(checksum)) = (file.size, &file.checksum) {
        return Ok((file.size, checksum.clone()));
    }
    client.patiently(&file.path, progress, |_| {
        let response = client.head(&address(request, commit, &file.path))?;
        let tag =
            header(&response, "x-linked-etag").or_else(|| header(&response, "etag")).unwrap_or_default();
        let checksum = file.checksum.clone().or_else(|| Checksum::of_etag(tag));
        let own = header(&response, "content-length").filter(|_| response.status().is_success());
        let size = header(&response, "x-linked-size").or(own).and_then(|size| size.parse().ok());
        match checksum {
            Some(checksum) => Ok((file.size.or(size), checksum)),
            None => {
                Err(client.strange(&file.path, format!("the tag {tag:?}, which cannot name a file")).into())
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn lists_are_read_and_hostile_ones_refused() {
        let sum = "a".repeat(64);
        let list = |files: &str| format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{files}]}}");
        let found = parse(
            list(&format!(
                "{{\"rfilename\": \"config.json\", \"size\": 7, \"blobId\": \"{COMMIT}\"}}, {{\"rfilename\": \"m\", \
                 \"size\": 9, \"blobId\": \"{COMMIT}\", \"lfs\": {{\"sha256\": \"{sum}\", \"size\": 9}}}}, \
                 {{\"rfilename\": \"a/b\"}}"
            ))
            .as_bytes(),
        )
        .unwrap();
        let sums: Vec<_> = found.files.iter().map(|file| (file.size, file.checksum.clone())).collect();
        let wanted = [
            (Some(7), Some(Checksum::Git(COMMIT.into()))),
            (Some(9), Some(Checksum::Sha256(sum))),
            (None, None),
        ];
        assert_eq!(sums, wanted);
        for (text, part) in [
            ("[]".to_owned(), "no list"),
            ("{\"sha\": \"main\"}".to_owned(), "no commit"),
            (list("{\"rfilename\": \"../../.bashrc\"}"), "leads out"),
            (list("{\"rfilename\": \"/etc/passwd\"}"), "leads out"),
            (list("{\"rfilename\": \"x\"}, {\"rfilename\": \"x\"}"), "twice"),
            (list("{\"rfilename\": \"x\"}, {\"rfilename\": \"x/y\"}"), "twice"),
            (list("{\"size\": 3}"), "no list"),
        ] {
            let reason = parse(text.as_bytes()).unwrap_err();
            assert!(reason.contains(part), "{text}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_of_safe_names_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), name in ".*") {
            let _ = parse(&bytes);
            let text = serde_json::json!({"sha": COMMIT, "siblings": [{"rfilename": name}]}).to_string();
            if let Ok(listing) = parse(text.as_bytes()) {
                let path = std::path::Path::new("/base").join(&listing.files[0].path);
                prop_assert!(path.starts_with("/base"));
                prop_assert!(path.components().all(|part| part != std::path::Component::ParentDir));
            }
        }
    }
}
