//! Pages that somebody refers to, by their addresses or hosts: what Wikipedia cites, for one. A page that is referred to
//! counts as good without anybody having read it (as in the training of LLaMA and of Llama 3).

use std::collections::HashSet;
use std::io::BufRead;
use std::path::Path;

use crate::Error;

/// Addresses and hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    hosts: HashSet<String>,
    pages: HashSet<String>,
}

impl References {
    /// Reads a file of one address or host a line. Empty lines and those that begin with `#` are passed over. A line with a
    /// path means that page, one without means every page of the host and of the hosts below it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Malformed`] with the byte of a line that is neither.
    pub fn read(path: &Path) -> Result<References, Error> {
        let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
        let mut reader = std::io::BufReader::new(file);
        let (mut references, mut line, mut at) = (References::default(), Vec::new(), 0u64);
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(Error::io("read", path))? as u64;
            if read == 0 {
                return Ok(references);
            }
            let text = std::str::from_utf8(&line).map(str::trim);
            let added =
                text.is_ok_and(|text| text.is_empty() || text.starts_with('#') || references.add(text));
            if !added {
                let reason = "the line is neither an address nor a host".to_string();
                return Err(Error::Malformed { path: path.to_path_buf(), byte: at, reason });
            }
            at += read;
        }
    }

    /// Adds an address or a host; false for what is neither.
    pub fn add(&mut self, text: &str) -> bool {
        let Some((host, rest)) = parts(text) else { return false };
        if rest.is_empty() {
            self.hosts.insert(host)
        } else {
            self.pages.insert(host + rest)
        };
        true
    }

    /// Whether a page is among them.
    pub fn hold(&self, url: &str) -> bool {
        let Some((host, rest)) = parts(url) else { return false };
        let mut above = Some(host.as_str());
        while let Some(host) = above {
            if self.hosts.contains(host) {
                return true;
            }
            above = host.split_once('.').map(|(_, above)| above);
        }
        !rest.is_empty() && self.pages.contains(&(host + rest))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hosts.len() + self.pages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The host in small letters without `www.`, and path and query without a slash at the end. Scheme, user, port and fragment do
/// not tell pages apart here.
fn parts(url: &str) -> Option<(String, &str)> {
    let url = url.trim();
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest).trim_start_matches("//");
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next()?;
    let host = host.split(':').next()?.trim_end_matches('.').to_ascii_lowercase();
    let host = host.strip_prefix("www.").unwrap_or(&host);
    let fine = !host.is_empty()
        && host.contains('.')
        && !host.contains(char::is_whitespace)
        && !host.starts_with('.');
    fine.then(|| (host.to_string(), path.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_found_by_address_or_host() {
        let mut references = References::default();
        for line in ["example.org", "https://www.News.example/a/b/?q=1#top", "http://user@x.example:8080/p/"]
        {
            assert!(references.add(line), "{line}");
        }
        let check = |url: &str, expected: bool| assert_eq!(references.hold(url), expected, "{url}");
        check("https://example.org/any/page", true);
        check("http://deep.below.EXAMPLE.org", true);
        check("https://notexample.org/", false);
        check("https://news.example/a/b/?q=1", true);
        check("https://news.example/a/b", false);
        check("https://news.example/", false);
        check("https://x.example/p", true);
        check("", false);
        check("mailto:a@b", false);
        assert!(!references.add("no host") && !references.add("https:///path"));
    }

    #[test]
    fn a_file_is_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("references.txt");
        std::fs::write(&path, "# cited\n\nexample.org\r\nhttps://a.example/b\n").unwrap();
        assert_eq!(References::read(&path).unwrap().len(), 2);
        std::fs::write(&path, "example.org\nnothing\n").unwrap();
        match References::read(&path) {
            Err(Error::Malformed { byte, .. }) => assert_eq!(byte, 12),
            other => panic!("{other:?}"),
        }
    }
}
