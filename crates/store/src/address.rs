//! Addresses of objects: `s3://bucket/key`, `gs://bucket/key`, `az://container/key`, `abfss://container@account…/key` and
//! `https://host/path`. Nothing is asked here.

use std::fmt;

use crate::Error;

/// Whose language a place speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Amazon S3, and stores that speak its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage, and Data Lake Storage.
    Azure,
    /// A web server, which lists nothing.
    Web,
}

const SCHEMES: &[(&str, Scheme)] = &[
    ("s3", Scheme::S3),
    ("s3a", Scheme::S3),
    ("gs", Scheme::Gcs),
    ("az", Scheme::Azure),
    ("abfs", Scheme::Azure),
    ("abfss", Scheme::Azure),
    ("http", Scheme::Web),
    ("https", Scheme::Web),
];

/// An address in its parts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Whose language is spoken there.
    pub scheme: Scheme,
    /// Scheme and bucket, container or host, such as `s3://bucket`.
    pub root: String,
    /// What is behind the slash, percent-encoded where it came from the web; empty for the whole bucket.
    pub key: String,
    /// A web address's query with its question mark, which may be a secret; else empty.
    pub(crate) query: String,
}

/// Shows no query.
impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => formatter.write_str(&self.root),
            key => write!(formatter, "{}/{key}", self.root),
        }
    }
}

/// Whether a text is an address of an object or of a place with objects, rather than a path.
pub fn is_address(text: &str) -> bool {
    scheme(text).is_some()
}

fn scheme(text: &str) -> Option<(Scheme, &str)> {
    let (name, rest) = text.split_once("://")?;
    let found = SCHEMES.iter().find(|(known, _)| *known == name)?;
    Some((found.1, rest))
}

impl Address {
    /// # Errors
    /// [`Error::Address`] for what has none of the schemes, no bucket or host, or names a user.
    pub fn parse(text: &str) -> Result<Address, Error> {
        // What is behind a question mark may be a secret and is not repeated.
        let shown = if text.starts_with("http") { text.split('?').next().unwrap_or(text) } else { text };
        let fault = |reason: &str| Error::Address { given: shown.to_owned(), reason: reason.to_owned() };
        let Some((scheme, rest)) = scheme(text) else {
            return Err(fault("does not begin with s3://, gs://, az://, abfss:// or https://"));
        };
        let (rest, query) = match (scheme, rest.find(['?', '#'])) {
            (Scheme::Web, Some(at)) => {
                let query = rest[at..].split('#').next().unwrap_or_default();
                (&rest[..at], query)
            }
            _ => (rest, ""),
        };
        let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() {
            return Err(fault(if scheme == Scheme::Web { "names no host" } else { "names no bucket" }));
        }
        if scheme == Scheme::Web && host.contains('@') {
            return Err(fault("names a user, which is not sent"));
        }
        let name = text.split_once("://").map_or("", |(name, _)| name);
        let root = format!("{name}://{host}");
        Ok(Address { scheme, root, key: key.to_owned(), query: query.to_owned() })
    }

    /// The bucket, container or host.
    pub fn host(&self) -> &str {
        self.root.split_once("://").map_or("", |(_, host)| host)
    }

    /// Another object of the same place.
    pub fn with_key(&self, key: &str) -> Address {
        Address { scheme: self.scheme, root: self.root.clone(), key: key.to_owned(), query: String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        for text in ["s3://b", "s3a://b/k", "gs://b/*.gz", "az://c/k", "abfss://c@a.dfs.core.windows.net/k"] {
            assert!(is_address(text), "{text}");
        }
        for text in ["s3", "s3:/b", "a/s3://b", "ftp://h/k", "C:\\x", "registry", "S3://b"] {
            assert!(!is_address(text), "{text}");
        }
    }

    #[test]
    fn addresses_have_parts_and_hide_their_query() {
        let check = |text: &str, root: &str, key: &str, query: &str| {
            let address = Address::parse(text).unwrap();
            assert_eq!(
                (address.root.as_str(), address.key.as_str(), address.query.as_str()),
                (root, key, query)
            );
        };
        check("s3://b/a?b/c#d", "s3://b", "a?b/c#d", "");
        check("s3://b", "s3://b", "", "");
        check("gs://b/", "gs://b", "", "");
        check("abfss://c@a.dfs.core.windows.net/k", "abfss://c@a.dfs.core.windows.net", "k", "");
        check("https://h:8/a/b.gz?X-Sig=1#top", "https://h:8", "a/b.gz", "?X-Sig=1");
        let shown = format!("{:?}", Address::parse("https://h/a?secret").unwrap());
        assert_eq!(shown, "https://h/a");
        for (text, reason) in
            [("s3:///k", "no bucket"), ("https://", "no host"), ("https://u:p@h/k", "user"), ("x", "begin")]
        {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(!Address::parse("https://u@h/k?secret").unwrap_err().to_string().contains("secret"));
    }
}
