//! The crates that cargo has unpacked on this machine: which there are, and what their manifests say of them.
//! Nothing is fetched, and cargo is not run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use semver::Version;
use toml::{Table, Value};

use crate::Error;

/// A crate by its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it says it is, blanks tidied.
    pub description: Option<String>,
    /// Its keywords.
    pub keywords: Vec<String>,
    /// Its categories on crates.io.
    pub categories: Vec<String>,
    /// Its SPDX licence expression.
    pub license: Option<String>,
    /// Where its source lives.
    pub repository: Option<String>,
    /// Names of the crates that it needs, without those for tests and builds, sorted.
    pub dependencies: Vec<String>,
    /// Its folder.
    pub path: PathBuf,
}

/// The newest version of every crate in this machine's cargo registry, sorted by name. Crates whose manifest
/// cannot be read are left out.
///
/// # Errors
/// [`Error::Io`] when there is no registry.
pub fn packages() -> Result<Vec<Package>, Error> {
    let root = default_root().ok_or_else(|| Error::Io {
        operation: "find the cargo registry: there is neither CARGO_HOME nor a home folder; looked for",
        path: PathBuf::from(".cargo/registry/src"),
        cause: std::io::ErrorKind::NotFound.into(),
    })?;
    packages_in(&root)
}

/// As [`packages`], of the registry whose `src` folder is `root`.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be listed.
pub fn packages_in(root: &Path) -> Result<Vec<Package>, Error> {
    Ok(newest(root)?.into_iter().filter_map(|found| read_manifest(&found.path)).collect())
}

/// `$CARGO_HOME/registry/src`, else `~/.cargo/registry/src`.
pub fn default_root() -> Option<PathBuf> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home),
        _ => std::env::home_dir()?.join(".cargo"),
    };
    Some(home.join("registry").join("src"))
}

/// An unpacked crate.
pub(crate) struct Found {
    pub name: String,
    pub version: Version,
    pub path: PathBuf,
    pub from_crates_io: bool,
}

/// The newest version of each crate under the registry's folders, sorted by name. A pre-release is newest only
/// where there is no release, as for cargo.
pub(crate) fn newest(root: &Path) -> Result<Vec<Found>, Error> {
    let mut newest: BTreeMap<String, Found> = BTreeMap::new();
    for index in list(root)? {
        let index_name = index.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // `index.crates.io-…` is the sparse index, `github.com-…` the git index of older cargos.
        let from_crates_io =
            index_name.starts_with("index.crates.io-") || index_name.starts_with("github.com-");
        for path in list(&index)? {
            let folder = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some((name, version)) = split_folder_name(&folder) else { continue };
            let better = newest.get(&name).is_none_or(|known| {
                (version.pre.is_empty(), &version) > (known.version.pre.is_empty(), &known.version)
            });
            if better {
                newest.insert(name.clone(), Found { name, version, path, from_crates_io });
            }
        }
    }
    Ok(newest.into_values().collect())
}

/// The folders in a folder, sorted.
fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("list", folder))?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

/// `name-1.2.3-alpha.1+meta` into its parts: the version begins after the first hyphen from which the rest is one.
fn split_folder_name(folder: &str) -> Option<(String, Version)> {
    folder.match_indices('-').find_map(|(at, _)| {
        let version = Version::parse(&folder[at + 1..]).ok()?;
        (at > 0).then(|| (folder[..at].to_string(), version))
    })
}

fn read_manifest(path: &Path) -> Option<Package> {
    let text = std::fs::read_to_string(path.join("Cargo.toml")).ok()?;
    let manifest: Table = toml::from_str(&text).ok()?;
    let package = manifest.get("package")?.as_table()?;
    let string = |key: &str| {
        let text = package.get(key)?.as_str()?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    };
    let strings = |key: &str| -> Vec<String> {
        let values = package.get(key).and_then(Value::as_array);
        values.into_iter().flatten().filter_map(|value| value.as_str().map(str::to_string)).collect()
    };
    let mut dependencies = BTreeSet::new();
    add_dependencies(&manifest, &mut dependencies);
    for target in
        manifest.get("target").and_then(Value::as_table).into_iter().flat_map(|table| table.values())
    {
        if let Some(target) = target.as_table() {
            add_dependencies(target, &mut dependencies);
        }
    }
    Some(Package {
        name: string("name")?,
        version: string("version")?,
        description: string("description"),
        keywords: strings("keywords"),
        categories: strings("categories"),
        license: string("license"),
        repository: string("repository"),
        dependencies: dependencies.into_iter().collect(),
        path: path.to_path_buf(),
    })
}

/// Adds the real names (`package = "…"` undoes a renaming) of a table's ordinary, non-optional dependencies.
fn add_dependencies(table: &Table, names: &mut BTreeSet<String>) {
    for (key, value) in table.get("dependencies").and_then(Value::as_table).into_iter().flatten() {
        let detail = value.as_table();
        if detail.and_then(|detail| detail.get("optional")).and_then(Value::as_bool) == Some(true) {
            continue;
        }
        let real = detail.and_then(|detail| detail.get("package")).and_then(Value::as_str);
        names.insert(real.unwrap_or(key).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_split_where_the_version_begins() {
        let check = |folder: &str, expected: Option<(&str, &str)>| {
            let split = split_folder_name(folder).map(|(name, version)| (name, version.to_string()));
            assert_eq!(split.as_ref().map(|(n, v)| (n.as_str(), v.as_str())), expected, "{folder}");
        };
        check("serde-1.0.229", Some(("serde", "1.0.229")));
        check("bit-set-0.11.1", Some(("bit-set", "0.11.1")));
        check("libc-1.0.0-alpha.5", Some(("libc", "1.0.0-alpha.5")));
        check("zstd-sys-2.1.3+zstd.1.5.7", Some(("zstd-sys", "2.1.3+zstd.1.5.7")));
        check("no-version", None);
        check("-1.0.0", None);
    }
}
