//! Names that come from outside and become parts of addresses and of paths: of repositories, revisions and files. They are
//! checked once, here.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A model on the hub: `owner/name`, or a bare `name` as a few old ones have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repository(String);

impl Repository {
    /// The last part of its name.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// `owner/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = Error;

    /// Follows `validate_repo_id` of `huggingface_hub`: letters, digits, `-`, `_` and `.`, neither `--` nor `..`, and
    /// neither `-` nor `.` at an end.
    fn from_str(text: &str) -> Result<Self, Error> {
        let fault = |reason: &str| Error::Name { given: text.to_owned(), reason: reason.to_owned() };
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 2 || parts.iter().any(|part| part.is_empty()) || text.len() > 96 {
            return Err(fault("is no name of a model"));
        }
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(other) = text.chars().find(|&c| c != '/' && !known(c)) {
            return Err(fault(&format!("is no name of a model: {other:?} is in it")));
        }
        let ends = |part: &&str| part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
        if text.contains("--") || text.contains("..") || parts.iter().any(ends) {
            return Err(fault("is no name of a model: `-` and `.` stand alone and not at an end"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A branch, a tag, a reference such as `refs/pr/3`, or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Default for Revision {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl Revision {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a whole commit, which no reference has to lead to.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.0)
    }
}

impl FromStr for Revision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match refuse_path(text) {
            None if !text.chars().any(|c| c.is_whitespace() || c == '?' || c == '#') => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(Error::Name { given: text.to_owned(), reason: "is no name of a revision".to_owned() }),
        }
    }
}

/// Forty hexadecimal digits.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Why the name of a file in a repository may not become a path below a folder, if it may not.
pub(crate) fn refuse_path(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 1024 {
        return Some("is empty or too long");
    }
    if name.contains(['\\', '\0', ':']) || name.chars().any(char::is_control) {
        return Some("holds characters that no path should");
    }
    let lost = |part: &str| part.is_empty() || part == "." || part == "..";
    name.split('/').any(lost).then_some("leads out of its folder")
}

/// A name as a part of an address: all but unreserved characters are escaped, and `/` too unless it is `kept`.
pub(crate) fn escaped(name: &str, kept: bool) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
        if plain || (kept && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_hub() {
        for good in ["meta-llama/Llama-3.2-1B-Instruct", "gpt2", "a/b_c", "TinyLlama/TinyLlama_v1.1"] {
            assert_eq!(good.parse::<Repository>().unwrap().as_str(), good);
        }
        assert_eq!("a/b".parse::<Repository>().unwrap().name(), "b");
        for bad in [
            "", "/", "a/", "/b", "a/b/c", "a/..", "../b", "a--b/c", "a/b.", "-a/b", "a b/c", "a/b?x", "a/bé",
            "./runs",
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
        for (text, good) in [
            ("main", true),
            ("refs/pr/3", true),
            ("v1.0", true),
            ("../x", false),
            ("a//b", false),
            ("", false),
            ("a b", false),
            ("x?y", false),
        ] {
            assert_eq!(text.parse::<Revision>().is_ok(), good, "{text}");
        }
        assert!("0123456789abcdef0123456789abcdef01234567".parse::<Revision>().unwrap().is_commit());
        assert!(!Revision::default().is_commit());
    }

    #[test]
    fn names_that_lead_out_are_no_paths() {
        for bad in ["", "../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "a\\b", "c:x", "a\nb", "a/"] {
            assert!(refuse_path(bad).is_some(), "{bad:?}");
        }
        for good in ["config.json", "original/params.json", "a b.txt", "..x", "é"] {
            assert_eq!(refuse_path(good), None, "{good}");
        }
        assert_eq!(escaped("a b/é", true), "a%20b/%C3%A9");
        assert_eq!(escaped("refs/pr/3", false), "refs%2Fpr%2F3");
    }
}
