//! `cargo xtask tidy`: checks that keep the architecture page true.
//! Not a build system: building, testing and linting are cargo's.

mod tidy;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => run_tidy(),
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

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

#[expect(clippy::print_stdout, reason = "this is a program for people, and nothing depends on it")]
fn say(line: &str) {
    println!("{line}");
}
