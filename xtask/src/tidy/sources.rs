//! Rules for the text of sources: sizes, printing, `unsafe`, processor-specific code, opening comments.

use std::path::Path;

use super::rust::{Source, occurrences};
use super::{Report, files, read};

/// A file that is longer than this reads badly; one that is longer than the second is refused.
const LONG: usize = 500;
const TOO_LONG: usize = 1_000;

/// Tables, which may be as long as what they list.
const TABLES: &[&str] = &[];

/// Files outside `kernels` that may hold `unsafe`: memory maps, borders of libraries, and a test's allocator.
const UNSAFE: &[&str] = &[
    "crates/train/tests/allocations.rs",
    "crates/corpus/src/classifier/examples.rs", // maps the rows of training texts
    "crates/corpus/src/indexed.rs",             // maps token shards
    "crates/model/src/formats/map.rs",          // maps weights
];

/// What only the command line may do.
const SPEAKING: &[(&str, &str)] = &[
    ("println!", "report through `ledger::progress`"),
    ("print!", "report through `ledger::progress`"),
    ("eprintln!", "report through `ledger::progress`"),
    ("eprint!", "report through `ledger::progress`"),
    ("dbg!", "remove it"),
    ("process::exit", "return an error"),
];

/// What only `kernels` may do.
const PROCESSOR: &[&str] = &["std::arch", "core::arch", "target_feature", "is_x86_feature_detected!"];

const HERE: &str = "xtask/src/tidy/sources.rs";

pub(super) fn check(root: &Path, report: &mut Report) -> Result<(), String> {
    let mut paths = Vec::new();
    for folder in ["crates", "xtask", "bench", "tests", "docs"] {
        paths.extend(files(root, Path::new(folder), &["rs", "py", "sh", "js", "css", "html", "c", "cu"])?);
    }
    for path in &paths {
        let text = read(root, path)?;
        report.files += 1;
        check_size(path, &text, report);
        if path.extension().is_some_and(|extension| extension == "rs") {
            check_rust(path, &text, report);
        }
    }
    for listed in TABLES.iter().chain(UNSAFE) {
        if !paths.iter().any(|path| path == Path::new(listed)) {
            let message = format!("{listed} is excepted from a rule but does not exist");
            report.error(Path::new(HERE), 1, message, "take it out of the list");
        }
    }
    Ok(())
}

fn check_size(path: &Path, text: &str, report: &mut Report) {
    let lines = text.lines().count();
    if lines <= LONG || TABLES.iter().any(|table| path == Path::new(table)) {
        return;
    }
    let message = format!("the file has {lines} lines");
    if lines > TOO_LONG {
        let remedy = format!("divide it; {TOO_LONG} lines are the most, and tables are listed in {HERE}");
        report.error(path, TOO_LONG + 1, message, remedy);
    } else {
        report.warning(path, LONG + 1, message, format!("divide it; files of up to {LONG} lines read well"));
    }
}

fn check_rust(path: &Path, text: &str, report: &mut Report) {
    let source = Source::separate(text);
    let place = Place::of(path);
    let line = |at: usize| text.as_bytes()[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;

    if place.is_library {
        let end = start_of_tests(&source.code);
        for (words, remedy) in SPEAKING {
            for at in occurrences(&source.code[..end], words) {
                report.error(path, line(at), format!("{words} below the command line"), *remedy);
            }
        }
        if !place.is_tests && !text.starts_with("//!") {
            report.warning(
                path,
                1,
                "the file does not say what it is",
                "begin it with two or three lines of `//!`",
            );
        }
    }
    if !place.is_kernels {
        for words in PROCESSOR {
            for at in occurrences(&source.code, words) {
                report.error(
                    path,
                    line(at),
                    format!("{words} outside kernels"),
                    "move the operation into `kernels`",
                );
            }
        }
    }
    for at in occurrences(&source.code, "unsafe") {
        if !place.is_kernels && !UNSAFE.iter().any(|listed| path == Path::new(listed)) {
            let remedy = format!("do without, or add the file to UNSAFE in {HERE} with good reason");
            report.error(path, line(at), "`unsafe` in a file that is not meant to hold any", remedy);
        }
        if needs_reason(&source.code[at..]) && !has_reason(&source, line(at) - 1) {
            let remedy = "say above it, in a comment that begins with `SAFETY:`, why it is sound";
            report.error(path, line(at), "`unsafe` without its reason", remedy);
        }
    }
}

/// What the path tells about a Rust file.
struct Place {
    is_kernels: bool,
    /// Part of a crate other than the command line, and not only of its tests, examples or build script.
    is_library: bool,
    is_tests: bool,
}

impl Place {
    fn of(path: &Path) -> Self {
        let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
        let in_crate = parts.first().is_some_and(|part| part == "crates");
        let name = parts.get(1).map(|name| name.as_ref()).filter(|_| in_crate);
        let in_source = parts.get(2).is_some_and(|part| part == "src");
        let is_tests = path.file_stem().is_some_and(|stem| stem == "tests")
            || parts[..parts.len() - 1].iter().any(|part| part == "tests");
        Self {
            is_kernels: name == Some("kernels"),
            is_library: name.is_some_and(|name| name != "cli") && in_source && !is_tests,
            is_tests,
        }
    }
}

/// Where the tests at the end of a file begin; its length where there are none.
fn start_of_tests(code: &str) -> usize {
    code.match_indices("#[cfg(test)]")
        .find(|(at, attribute)| code[at + attribute.len()..].trim_start().starts_with("mod "))
        .map_or(code.len(), |(at, _)| at)
}

/// Whether `code`, which begins with `unsafe`, is a block or an implementation. Functions and traits state
/// their conditions in their documentation instead.
fn needs_reason(code: &str) -> bool {
    let after = code["unsafe".len()..].trim_start();
    after.starts_with('{')
        || after.strip_prefix("impl").is_some_and(|rest| !rest.starts_with(super::rust::is_word_char))
}

/// Whether a comment with `SAFETY:` stands on this line (counted from 0), on a line above it of the same
/// statement, or in the comment above that.
fn has_reason(source: &Source, line: usize) -> bool {
    let code: Vec<&str> = source.code.lines().collect();
    let comments: Vec<&str> = source.comments.lines().collect();
    for index in (0..=line).rev() {
        if comments[index].contains("SAFETY:") {
            return true;
        }
        let ended = index < line && code[index].trim_end().ends_with([';', '{', '}']);
        let blank = code[index].trim().is_empty() && comments[index].trim().is_empty();
        if ended || blank {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[(usize, &str)]) {
        let mut report = Report::default();
        check_size(Path::new(path), text, &mut report);
        check_rust(Path::new(path), text, &mut report);
        let found: Vec<_> =
            report.findings.iter().map(|finding| (finding.line, finding.message.as_str())).collect();
        assert_eq!(found.len(), expected.len(), "{path}: {found:?}");
        for ((line, message), (expected_line, part)) in found.iter().zip(expected) {
            assert!(line == expected_line && message.contains(part), "{path}: {found:?}");
        }
    }

    #[test]
    fn only_the_command_line_speaks() {
        let text = "//! A.\nfn a() {\n    println!(\"x\");\n    std::process::exit(1);\n}\n";
        let said: &[_] = &[(3, "println!"), (4, "process::exit")];
        check("crates/train/src/lib.rs", text, said);
        check("crates/train/src/a/b.rs", text, said);
        for elsewhere in ["crates/cli/src/main.rs", "crates/train/tests/it/main.rs", "crates/train/build.rs"]
        {
            check(elsewhere, text, &[]);
        }
        check("crates/train/src/run/tests.rs", text, &[]);
        check("xtask/src/main.rs", text, &[]);
        check("crates/train/src/a.rs", "//! A.\n// println!()\nconst A: &str = \"println!()\";\n", &[]);
        check(
            "crates/train/src/a.rs",
            "//! A.\n#[cfg(test)]\nmod tests {\n    fn a() { eprintln!() }\n}\n",
            &[],
        );
        check("crates/train/src/a.rs", "//! A.\n#[cfg(test)]\nfn a() { eprintln!() }\n", &[(3, "eprintln!")]);
    }

    #[test]
    fn files_say_what_they_are() {
        check("crates/train/src/a.rs", "use std::fs;\n", &[(1, "does not say")]);
        check("crates/train/src/tests.rs", "use std::fs;\n", &[]);
    }

    #[test]
    fn sizes() {
        let lines = |count: usize| "//!\n".repeat(count);
        check("crates/train/src/a.rs", &lines(500), &[]);
        check("crates/train/src/a.rs", &lines(501), &[(501, "501 lines")]);
        check("crates/train/src/a.rs", &lines(1_001), &[(1_001, "1001 lines")]);
        let mut report = Report::default();
        check_size(Path::new("a.py"), &lines(1_000), &mut report);
        assert_eq!(report.errors(), 0);
        check_size(Path::new("a.py"), &lines(1_001), &mut report);
        assert_eq!(report.errors(), 1);
    }

    #[test]
    fn processors_are_known_to_the_kernels_only() {
        let text = "//! A.\nuse std::arch::x86_64::*;\n#[target_feature(enable = \"avx2\")]\nfn a() {}\n";
        check("crates/kernels/src/a.rs", text, &[]);
        check("crates/model/src/a.rs", text, &[(2, "std::arch"), (3, "target_feature")]);
    }

    #[test]
    fn unsafe_code_has_its_place_and_its_reason() {
        let reasoned = "//! A.\nfn a() {\n    // SAFETY: it is there.\n    unsafe { b() }\n}\n";
        check("crates/kernels/src/a.rs", reasoned, &[]);
        check("crates/model/src/a.rs", reasoned, &[(4, "not meant")]);
        let check = |body: &str, is_fine: bool| {
            let text = format!("//! A.\n{body}\n");
            let expected = (
                1 + body.lines().position(|line| line.contains("unsafe")).unwrap() + 1,
                "without its reason",
            );
            check(
                "crates/kernels/src/a.rs",
                &text,
                if is_fine { &[] } else { std::slice::from_ref(&expected) },
            );
        };
        check("fn a() {\n    unsafe { b() }\n}", false);
        check("fn a() {\n    // It is there.\n    unsafe { b() }\n}", false);
        check("fn a() {\n    unsafe { b() } // SAFETY: it is there.\n}", true);
        check(
            "fn a() {\n    // SAFETY: it is there,\n    // and it stays.\n    let x =\n        f(1, unsafe { b() });\n}",
            true,
        );
        check("fn a() {\n    // SAFETY: of another.\n    c();\n    unsafe { b() }\n}", false);
        check("fn a() {\n    // SAFETY: of something.\n\n    unsafe { b() }\n}", false);
        check("unsafe impl Send for A {}", false);
        check("// SAFETY: no thread's own data.\nunsafe impl Send for A {}", true);
        check("/// # Safety\n/// `a` is valid.\nunsafe fn a(a: *const u8) {}", true);
        check("unsafe extern \"C\" {}", true);
        check("unsafe fn implement() {}", true);
    }

    #[test]
    fn exceptions_exist() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::default();
        super::check(folder.path(), &mut report).unwrap();
        assert_eq!(report.errors(), TABLES.len() + UNSAFE.len());
    }

    #[test]
    fn paths_tell_their_place() {
        let place = Place::of(Path::new("crates/kernels/src/tests.rs"));
        assert!(place.is_kernels && place.is_tests && !place.is_library);
    }
}
