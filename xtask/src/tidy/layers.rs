//! Which crate may use which: only crates of lower layers, and some libraries only where they belong.
//! Read from the manifests; a crate cannot use what its manifest does not name.

use std::path::{Path, PathBuf};

use super::{Report, entries, read};

/// The layer of each crate, which ARCHITECTURE.md repeats for people.
const LAYERS: &[(&str, u8)] = &[
    ("cli", 7),
    ("serve", 5),
    ("align", 4),
    ("evals", 4),
    ("train", 3),
    ("engine", 3),
    ("cluster", 3),
    ("model", 2),
    ("corpus", 2),
    ("scaling", 2),
    ("tokenizer", 1),
    ("hub", 1),
    ("store", 1),
    ("kernels", 0),
    ("ledger", 0),
];

/// Crates that may use one of their own layer.
const NEIGHBOURS: &[(&str, &str)] = &[("evals", "align")];

/// Libraries (a `*` at the end stands for any rest of the name) that only some crates may use.
const RESERVED: &[(&str, &[&str])] = &[
    ("axum*", &["serve"]),
    ("hyper*", &["serve"]),
    ("tower*", &["serve"]),
    ("ureq*", &["hub", "store"]),
    ("object_store*", &["store"]),
    ("arrow*", &["corpus"]),
    ("parquet*", &["corpus"]),
    ("ballista*", &["cluster"]),
    ("datafusion*", &["cluster"]),
    ("tonic*", &["cluster"]),
    ("clap*", &["cli"]),
    ("indicatif", &["cli"]),
    ("anstream", &["cli"]),
    ("owo-colors", &["cli"]),
];

const PAGE: &str = "ARCHITECTURE.md";
const TABLE: &str = "xtask/src/tidy/layers.rs";

pub(super) fn check(root: &Path, report: &mut Report) -> Result<(), String> {
    let mut crates = Vec::new();
    for folder in entries(root, Path::new("crates"))? {
        let manifest = folder.join("Cargo.toml");
        if root.join(&manifest).exists() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            report.files += 1;
            check_manifest(&name, &manifest, &read(root, &manifest)?, report);
            crates.push((name, manifest));
        }
    }
    for (name, manifest) in &crates {
        if layer(name).is_none() {
            let remedy = format!("add it to LAYERS in {TABLE} and to the table in {PAGE}");
            report.error(manifest, 1, format!("the crate {name} has no layer"), remedy);
        }
    }
    for (name, _) in LAYERS.iter().filter(|(name, _)| !crates.iter().any(|(other, _)| other == name)) {
        let remedy = format!("take it out of LAYERS in {TABLE}");
        report.error(
            Path::new("crates"),
            1,
            format!("the crate {name} has a layer but does not exist"),
            remedy,
        );
    }
    if root.join(PAGE).exists() {
        check_page(&read(root, Path::new(PAGE))?, report);
    }
    Ok(())
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(other, _)| *other == name).map(|(_, layer)| *layer)
}

fn check_manifest(name: &str, path: &Path, text: &str, report: &mut Report) {
    let manifest: toml::Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => {
            let line = super::recipes::line_of(text, error.span());
            return report.error(path, line, error.message(), "make it valid TOML");
        }
    };
    for (section, dependency) in dependencies(&manifest) {
        let line = line_of_dependency(text, &section, &dependency);
        check_edge(name, &dependency, path, line, report);
        let reserved = RESERVED.iter().find(|(pattern, _)| matches(pattern, &dependency));
        if let Some((_, owners)) = reserved.filter(|(_, owners)| !owners.contains(&name)) {
            let owners = owners.join(", ");
            let message = format!("{name} uses {dependency}, which is reserved to {owners}");
            report.error(
                path,
                line,
                message,
                format!("reach it through an interface of {owners}, or move the code there"),
            );
        }
    }
}

fn check_edge(name: &str, dependency: &str, path: &Path, line: usize, report: &mut Report) {
    let (Some(own), Some(other)) = (layer(name), layer(dependency)) else { return };
    if other >= own && !NEIGHBOURS.contains(&(name, dependency)) {
        let message =
            format!("{name} (layer {own}) uses {dependency} (layer {other}), which is not below it");
        report.error(
            path,
            line,
            message,
            "move what is needed into a lower crate, or turn the dependency around",
        );
    }
}

/// The dependencies of all kinds, each with the section that names it. A renamed one counts under its real
/// name.
fn dependencies(manifest: &toml::Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut collect = |prefix: &str, table: &toml::Table| {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (key, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
                let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(key);
                found.push((format!("{prefix}{kind}"), package.to_owned()));
            }
        }
    };
    collect("", manifest);
    for (target, table) in manifest.get("target").and_then(toml::Value::as_table).into_iter().flatten() {
        if let Some(table) = table.as_table() {
            collect(&format!("target.{target}."), table);
        }
    }
    found
}

/// The first line after the section's heading that begins with the dependency, or 1 where it is written in
/// another way.
fn line_of_dependency(text: &str, section: &str, dependency: &str) -> usize {
    let kind = section.rsplit('.').next().unwrap_or(section);
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).split('.').any(|part| part == kind);
        }
        let rest = line.strip_prefix(dependency).unwrap_or("-");
        if (inside && rest.starts_with([' ', '.', '='])) || line.contains(&format!("{kind}.{dependency}]")) {
            return index + 1;
        }
    }
    1
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// The table on the architecture page, whose rows begin with a layer and a crate, says the same as
/// [`LAYERS`].
fn check_page(text: &str, report: &mut Report) {
    let page = PathBuf::from(PAGE);
    let rows: Vec<(usize, u8, &str)> = text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| parse_row(line).map(|(l, name)| (index + 1, l, name)))
        .collect();
    for &(line, written, name) in &rows {
        let remedy = format!("make {PAGE} and LAYERS in {TABLE} agree");
        match layer(name) {
            Some(layer) if layer == written => {}
            Some(layer) => {
                let message =
                    format!("the page puts {name} in layer {written}, and the check in layer {layer}");
                report.error(&page, line, message, remedy);
            }
            None => report.error(
                &page,
                line,
                format!("the page names a crate {name}, which has no layer"),
                remedy,
            ),
        }
    }
    for (name, layer) in LAYERS.iter().filter(|(name, _)| !rows.iter().any(|(_, _, other)| other == name)) {
        let message = format!("the table of layers leaves out {name}");
        report.error(&page, 1, message, format!("add a row that begins `| {layer} | `{name}` |`"));
    }
}

/// The layer and the crate of a row `| 7 | `cli` | ... |`, where the crate may be a link.
fn parse_row(line: &str) -> Option<(u8, &str)> {
    let mut cells = line.trim().strip_prefix('|')?.split('|').map(str::trim);
    let layer = cells.next()?.parse().ok()?;
    let name = cells.next()?.trim_start_matches('[').strip_prefix('`')?;
    let end = name.find('`')?;
    (end > 0).then(|| (layer, &name[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, manifest: &str, expected: &[(usize, &str)]) {
        let mut report = Report::default();
        check_manifest(name, Path::new("Cargo.toml"), manifest, &mut report);
        let found: Vec<_> =
            report.findings.iter().map(|finding| (finding.line, finding.message.as_str())).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((line, message), (expected_line, part)) in found.iter().zip(expected) {
            assert_eq!(line, expected_line, "{message}");
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn edges_lead_downwards() {
        check("model", "[dependencies]\nledger.workspace = true\nkernels = { path = \"../kernels\" }\n", &[]);
        check(
            "model",
            "[dependencies]\nledger.workspace = true\ntrain.workspace = true\n",
            &[(3, "train (layer 3)")],
        );
        check("model", "[dependencies]\ncorpus = \"1\"\n", &[(2, "corpus (layer 2)")]);
        check("model", "[dev-dependencies]\ncli.workspace = true\n", &[(2, "cli (layer 7)")]);
        check("model", "[build-dependencies]\nserve = { path = \"x\" }\n", &[(2, "serve (layer 5)")]);
        check("model", "[dependencies.engine]\npath = \"x\"\n", &[(1, "engine (layer 3)")]);
        check(
            "model",
            "[target.'cfg(unix)'.dependencies]\nengine.workspace = true\n",
            &[(2, "engine (layer 3)")],
        );
        check(
            "model",
            "[dependencies]\nother = { package = \"engine\", path = \"x\" }\n",
            &[(1, "engine (layer 3)")],
        );
        check("evals", "[dependencies]\nalign.workspace = true\n", &[]);
        check("align", "[dependencies]\nevals.workspace = true\n", &[(2, "evals (layer 4)")]);
    }

    #[test]
    fn some_libraries_have_one_home() {
        check("serve", "[dependencies]\naxum.workspace = true\nhyper = \"1\"\n", &[]);
        check("corpus", "[dependencies]\narrow.workspace = true\nparquet.workspace = true\n", &[]);
        check("cli", "[dependencies]\naxum.workspace = true\n", &[(2, "reserved to serve")]);
        check("evals", "[dev-dependencies]\narrow-array = \"60\"\n", &[(2, "reserved to corpus")]);
        check("model", "[dependencies]\nindicatif.workspace = true\n", &[(2, "reserved to cli")]);
    }

    #[test]
    fn a_broken_manifest_is_named_with_its_line() {
        check("model", "[package]\nname = \n", &[(2, "")]);
    }

    #[test]
    fn the_page_says_the_same() {
        let page = |change: fn(&str) -> String| {
            let rows: String = LAYERS
                .iter()
                .map(|(name, layer)| format!("| {layer} | [`{name}`](crates/{name}) | x |\n"))
                .collect();
            let mut report = Report::default();
            check_page(
                &change(&format!("# Layers\n\n| layer | crate | job |\n|---|---|---|\n{rows}")),
                &mut report,
            );
            report.findings.into_iter().map(|finding| (finding.line, finding.message)).collect::<Vec<_>>()
        };
        assert_eq!(page(str::to_owned), []);
        let moved = page(|text| text.replace("| 2 | [`model`]", "| 3 | [`model`]"));
        assert!(matches!(&moved[..], [(12, message)] if message.contains("model in layer 3")), "{moved:?}");
        let unknown = page(|text| text.replace("[`model`]", "[`vision`]"));
        assert!(
            unknown.len() == 2
                && unknown[0].1.contains("vision")
                && unknown[1].1.contains("leaves out model")
        );
        assert_eq!(parse_row("| 7 | `cli` | the binary |"), Some((7, "cli")));
        assert_eq!(parse_row("|7|[`cli`](crates/cli)|"), Some((7, "cli")));
        for other in [
            "",
            "| a | `cli` |",
            "| 300 | `cli` |",
            "7 | `cli` |",
            "|---|---|",
            "| 7 | `` |",
            "| 7 | steps |",
        ] {
            assert_eq!(parse_row(other), None, "{other}");
        }
    }
}
