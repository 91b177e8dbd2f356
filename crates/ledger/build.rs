//! Embeds the source's commit and the compiler's version, for the manifests of runs. Never fails: without
//! git, or outside a repository, the commit is "unknown".
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = output("git", &["rev-parse", "HEAD"]);
    // Following every commit would rebuild the whole workspace each time, so only release builds do; the
    // others say that they are of this commit or of one after it.
    let commit = match (commit, std::env::var("PROFILE").as_deref()) {
        (Some(commit), Ok("release")) => {
            if let Some(log) =
                output("git", &["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists())
            {
                println!("cargo::rerun-if-changed={log}");
            }
            commit
        }
        (Some(commit), _) => format!("{commit}-development"),
        (None, _) => "unknown".to_owned(),
    };
    let compiler = std::env::var("RUSTC").ok().and_then(|rustc| output(&rustc, &["--version"]));
    println!("cargo::rustc-env=ALTIPLANO_COMMIT={commit}");
    println!("cargo::rustc-env=ALTIPLANO_TOOLCHAIN={}", compiler.as_deref().unwrap_or("unknown"));
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}
