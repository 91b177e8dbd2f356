//! `cargo xtask tidy`: checks that keep the architecture page true. `cargo xtask cluster-test`: the tests of the feature
//! that takes too long to build for everybody.
//! Not a build system: building, testing and linting are cargo's.

mod tidy;

use std::path::Path;
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: cargo xtask tidy\n       cargo xtask cluster-test [PART OF A TEST'S NAME]";

/// Both packages, so that their dependencies are built with the same features whichever is asked for.
const CLUSTER: [&str; 8] =
    ["--profile", "cluster", "--package", "cluster", "--package", "cli", "--features", "cli/cluster"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => run_tidy(),
        ["cluster-test"] => cluster_test(None),
        ["cluster-test", wanted] => cluster_test(Some(wanted)),
        ["--help" | "-h" | "help"] => {
            say(USAGE);
            ExitCode::SUCCESS
        }
        _ => {
            say(USAGE);
            ExitCode::from(2)
        }
    }
}

fn run_tidy() -> ExitCode {
    let report = match tidy::check(workspace()) {
        Ok(report) => report,
        Err(error) => {
            say(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    for finding in &report.findings {
        say(&finding.to_string());
    }
    let (errors, warnings) = (report.errors(), report.findings.len() - report.errors());
    say(&format!("tidy: {} files, {errors} errors, {warnings} warnings", report.files));
    if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Units of the crate `cluster` and its processes on loopback, then what the command line makes of them.
fn cluster_test(wanted: Option<&str>) -> ExitCode {
    let all: [&[&str]; 2] = [&["--lib", "--test", "cluster"], &["--bin", "alti", "--test", "it", "cluster"]];
    let some: [&[&str]; 1] = [&["--test", "cluster", "--"]];
    for targets in if wanted.is_some() { &some[..] } else { &all[..] } {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(workspace()).arg("test").args(CLUSTER).args(*targets).args(wanted);
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(_) => return ExitCode::FAILURE,
            Err(error) => {
                say(&format!("error: could not run cargo: {error}"));
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

#[expect(clippy::print_stdout, reason = "this is a program for people, and nothing depends on it")]
fn say(line: &str) {
    println!("{line}");
}
