//! What the stores' own tools are told by: environment variables, and files below the home folder. It is read once, into a
//! value that tests can make.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Variables by their names.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// Shows names alone, since values are secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Environment {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Environment(std::env::vars_os().filter_map(text).collect())
    }

    /// These variables and no others.
    pub fn of(variables: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Environment {
        Environment(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// A variable that is set to something.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    #[cfg_attr(not(feature = "objects"), expect(dead_code, reason = "only the stores are told so much"))]
    pub(crate) fn says_yes(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes"))
    }

    #[cfg_attr(not(feature = "objects"), expect(dead_code, reason = "only the stores are told so much"))]
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (&**name, &**value))
    }

    #[cfg_attr(not(feature = "objects"), expect(dead_code, reason = "only the stores are told so much"))]
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from)
    }
}
