use super::*;

/// The workspace itself is tidy.
#[test]
fn this_workspace() {
    let report = check(crate::workspace()).unwrap();
    let errors: Vec<_> =
        report.findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    let text: String = errors.iter().map(|finding| format!("\n{finding}")).collect();
    assert!(errors.is_empty(), "{text}");
    assert!(report.files > 50, "only {} files were found", report.files);
}

#[test]
fn a_finding_names_file_line_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("crates/model/Cargo.toml", "[dependencies]\ncli.workspace = true\n");
    write("crates/model/src/lib.rs", "//! A.\nfn a() {\n    println!();\n}\n");
    write("crates/vision/Cargo.toml", "[package]\n");
    write("recipes/a.toml", "# A.\na = \n");
    write("README.md", "[a](docs/gone.md)\n");
    write("target/debug/a.rs", "println!()\n");
    let report = check(folder.path()).unwrap();
    let expected = [
        ("README.md:1: error: the link to docs/gone.md leads nowhere", "correct it"),
        (
            "crates/model/Cargo.toml:2: error: model (layer 2) uses cli (layer 7)",
            "turn the dependency around",
        ),
        ("crates/model/src/lib.rs:3: error: println! below the command line", "ledger::progress"),
        ("crates/vision/Cargo.toml:1: error: the crate vision has no layer", "LAYERS"),
        ("recipes/a.toml:2: error:", "TOML"),
    ];
    for (start, remedy) in expected {
        let is_it =
            |finding: &&Finding| finding.to_string().starts_with(start) && finding.remedy.contains(remedy);
        assert!(report.findings.iter().any(|finding| is_it(&finding)), "{start}: {:#?}", report.findings);
    }
    assert!(report.findings.iter().all(|finding| !finding.path.starts_with("target")));
}
