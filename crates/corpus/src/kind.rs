//! What kind of text a file holds, told from its name: the label that the funnel counts by, and the class that
//! decides which rules apply. No contents are looked at here.

use std::path::Path;

/// Which rules apply to a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A web page, or text that a crawler took from one: every rule for prose.
    Web,
    /// Plain text of any origin: the rules for prose that do not presume a web page.
    Prose,
    /// Markdown and its kin: as prose, but short lines, lists, headings and code blocks are normal.
    Documentation,
    /// Source code.
    Code,
    /// JSON, YAML and other data in text form.
    Data,
}

/// The kind of a document: a label such as `rust` or `html` and its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The name the funnel counts under.
    pub label: &'static str,
    /// Which rules apply.
    pub class: Class,
}

/// Plain text.
pub const TEXT: Kind = Kind { label: "text", class: Class::Prose };
/// A web page as HTML.
pub const HTML: Kind = Kind { label: "html", class: Class::Web };
/// Text that a crawler took from a web page.
pub const WEB_TEXT: Kind = Kind { label: "web-text", class: Class::Web };

const fn kind(label: &'static str, class: Class) -> Kind {
    Kind { label, class }
}

/// Extensions by kind. Anything else found in a folder is left unread and counted.
const EXTENSIONS: &[(&[&str], Kind)] = &[
    (&["txt", "text"], TEXT),
    (&["html", "htm", "xhtml"], HTML),
    (&["md", "markdown", "mdx"], kind("markdown", Class::Documentation)),
    (&["rst"], kind("restructuredtext", Class::Documentation)),
    (&["adoc", "asciidoc"], kind("asciidoc", Class::Documentation)),
    (&["org"], kind("org", Class::Documentation)),
    (&["tex"], kind("tex", Class::Documentation)),
    (&["rs"], kind("rust", Class::Code)),
    (&["py", "pyi"], kind("python", Class::Code)),
    (&["c", "h"], kind("c", Class::Code)),
    (&["cc", "cpp", "cxx", "hh", "hpp", "hxx"], kind("c++", Class::Code)),
    (&["cu", "cuh"], kind("cuda", Class::Code)),
    (&["s", "asm"], kind("assembly", Class::Code)),
    (&["go"], kind("go", Class::Code)),
    (&["java"], kind("java", Class::Code)),
    (&["kt", "kts"], kind("kotlin", Class::Code)),
    (&["scala"], kind("scala", Class::Code)),
    (&["cs"], kind("c#", Class::Code)),
    (&["swift"], kind("swift", Class::Code)),
    (&["m", "mm"], kind("objective-c", Class::Code)),
    (&["js", "mjs", "cjs", "jsx"], kind("javascript", Class::Code)),
    (&["ts", "tsx"], kind("typescript", Class::Code)),
    (&["css", "scss", "sass", "less"], kind("css", Class::Code)),
    (&["rb"], kind("ruby", Class::Code)),
    (&["php"], kind("php", Class::Code)),
    (&["pl", "pm"], kind("perl", Class::Code)),
    (&["lua"], kind("lua", Class::Code)),
    (&["r"], kind("r", Class::Code)),
    (&["jl"], kind("julia", Class::Code)),
    (&["hs"], kind("haskell", Class::Code)),
    (&["ml", "mli"], kind("ocaml", Class::Code)),
    (&["ex", "exs"], kind("elixir", Class::Code)),
    (&["erl", "hrl"], kind("erlang", Class::Code)),
    (&["clj", "cljs"], kind("clojure", Class::Code)),
    (&["lisp", "el", "scm"], kind("lisp", Class::Code)),
    (&["zig"], kind("zig", Class::Code)),
    (&["nim"], kind("nim", Class::Code)),
    (&["dart"], kind("dart", Class::Code)),
    (&["f90", "f95", "f03"], kind("fortran", Class::Code)),
    (&["sql"], kind("sql", Class::Code)),
    (&["proto"], kind("protobuf", Class::Code)),
    (&["sh", "bash", "zsh", "fish"], kind("shell", Class::Code)),
    (&["ps1", "bat", "cmd"], kind("batch", Class::Code)),
    (&["cmake"], kind("cmake", Class::Code)),
    (&["mk"], kind("makefile", Class::Code)),
    (&["nix"], kind("nix", Class::Code)),
    (&["wgsl", "glsl", "hlsl", "frag", "vert"], kind("shader", Class::Code)),
    (&["toml"], kind("toml", Class::Data)),
    (&["yml", "yaml"], kind("yaml", Class::Data)),
    (&["json"], kind("json", Class::Data)),
    (&["xml", "xsd", "xsl"], kind("xml", Class::Data)),
    (&["csv", "tsv"], kind("csv", Class::Data)),
    (&["ini", "cfg", "conf"], kind("ini", Class::Data)),
];

/// Whole names without a telling extension.
const NAMES: &[(&[&str], Kind)] = &[
    (&["readme", "changelog", "changes", "news", "authors", "contributors", "contributing"], TEXT),
    (&["license", "licence", "copying", "notice", "copyright", "unlicense", "todo", "history"], TEXT),
    (&["makefile", "gnumakefile"], kind("makefile", Class::Code)),
    (&["dockerfile"], kind("dockerfile", Class::Code)),
    (&["justfile"], kind("justfile", Class::Code)),
];

impl Kind {
    /// The kind of a file by its name, or nothing for names that promise no known text. A last `.orig` (cargo's
    /// mark of the manifest as its author wrote it) is looked through.
    pub fn of_path(path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".orig").unwrap_or(&name);
        if let Some((_, extension)) = name.rsplit_once('.')
            && let Some(kind) = lookup(EXTENSIONS, extension)
        {
            return Some(kind);
        }
        // LICENSE, LICENSE-MIT, COPYING.LESSER: the first word of the name tells.
        lookup(NAMES, name.split(['-', '_', '.']).next()?)
    }

    /// The kind with this label, as stored in a batch.
    pub fn of_label(label: &str) -> Option<Kind> {
        if label == WEB_TEXT.label {
            return Some(WEB_TEXT);
        }
        EXTENSIONS.iter().chain(NAMES).map(|(_, kind)| *kind).find(|kind| kind.label == label)
    }
}

fn lookup(table: &[(&[&str], Kind)], key: &str) -> Option<Kind> {
    table.iter().find(|(keys, _)| keys.contains(&key)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_kind() {
        let check = |name: &str, expected: Option<&str>| {
            let kind = Kind::of_path(Path::new(name));
            assert_eq!(kind.map(|kind| kind.label), expected, "{name}");
            if let Some(kind) = kind {
                assert_eq!(Kind::of_label(kind.label), Some(kind));
            }
        };
        check("src/lib.rs", Some("rust"));
        check("README.md", Some("markdown"));
        check("Cargo.toml.orig", Some("toml"));
        check("LICENSE-MIT", Some("text"));
        check("COPYING.LESSER", Some("text"));
        check("PAGE.HTM", Some("html"));
        check("picture.png", None);
        check("noextension", None);
    }
}
