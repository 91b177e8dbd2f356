//! Formulas: LaTeX where a page carries it (MathML's annotation, MathJax's scripts, the alternative text of a
//! formula's picture), else what its MathML says, in a line.

use super::tree::{Node, Tag, Tree};

/// A formula and whether it stands on a line of its own.
pub(super) struct Formula {
    pub text: String,
    pub display: bool,
}

/// The formula that a node is, if it is one.
pub(super) fn formula(tree: &Tree, index: usize) -> Option<Formula> {
    let node = &tree.nodes[index];
    let class = || node.attribute("class").unwrap_or("");
    let (text, display) = match node.tag {
        Tag::Script => {
            let display = node.attribute("type").is_some_and(|kind| kind.contains("mode=display"));
            (inner_text(tree, index), display)
        }
        Tag::Math => (
            latex(tree, index).unwrap_or_else(|| linear(tree, index)),
            node.attribute("display") == Some("block"),
        ),
        Tag::Img => {
            let class = class();
            let math = ["mwe-math", "latex", "tex", "math"].iter().any(|name| {
                class.split_whitespace().any(|given| given == *name || given.starts_with("mwe-math-fallback"))
            });
            if !math {
                return None;
            }
            (node.attribute("alt").unwrap_or("").to_string(), class.contains("display"))
        }
        // KaTeX and MathJax show their formula as spans; the formula itself stands in the MathML beside them.
        Tag::Span if matches!(class(), "katex" | "MathJax") || class().starts_with("katex ") => {
            let math = (index..node.end).find(|&at| tree.nodes[at].tag == Tag::Math)?;
            let display = tree.ancestors(index).take(1).any(|up| {
                tree.nodes[up].attribute("class").is_some_and(|class| class.contains("katex-display"))
            });
            (latex(tree, math).unwrap_or_else(|| linear(tree, math)), display)
        }
        _ => return None,
    };
    let text = unwrapped(&text);
    (!text.is_empty()).then_some(Formula { text, display })
}

/// Whether a node is a picture of the formula that stands beside it as MathML, as Wikipedia has both.
pub(super) fn is_picture_of_formula(tree: &Tree, index: usize) -> bool {
    let node = &tree.nodes[index];
    node.tag == Tag::Img
        && node.attribute("class").is_some_and(|class| class.contains("mwe-math-fallback"))
        && tree.nodes[node.parent..index].iter().any(|node| node.tag == Tag::Math)
}

/// The LaTeX in a MathML's annotation or its `alttext`.
fn latex(tree: &Tree, math: usize) -> Option<String> {
    let nodes = &tree.nodes;
    let is_tex = |node: &Node| {
        node.attribute("encoding")
            .is_some_and(|encoding| encoding.contains("tex") || encoding.contains("TeX"))
    };
    let annotation = (math..nodes[math].end).find(|&at| is_tex(&nodes[at]));
    let text = match annotation {
        Some(annotation) => inner_text(tree, annotation),
        None => nodes[math].attribute("alttext")?.to_string(),
    };
    (!text.trim().is_empty()).then_some(text)
}

fn inner_text(tree: &Tree, index: usize) -> String {
    tree.nodes[index..tree.nodes[index].end]
        .iter()
        .filter(|node| node.tag == Tag::Text)
        .map(|node| tree.text_of(node))
        .collect()
}

/// The symbols of a MathML one after another, annotations left out.
fn linear(tree: &Tree, math: usize) -> String {
    let nodes = &tree.nodes;
    let mut text = String::new();
    let mut at = math;
    while at < nodes[math].end {
        if nodes[at].attribute("encoding").is_some() {
            at = nodes[at].end;
            continue;
        }
        if nodes[at].tag == Tag::Text {
            let symbols = tree.text_of(&nodes[at]).trim();
            if !symbols.is_empty() {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(symbols);
            }
        }
        at += 1;
    }
    text
}

/// Without the marks and wrappers that say only that it is a formula; on one line.
fn unwrapped(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = text.as_str();
    for (open, close) in [
        ("{\\displaystyle ", "}"),
        ("{\\textstyle ", "}"),
        ("\\displaystyle ", ""),
        ("$$", "$$"),
        ("$", "$"),
        ("\\(", "\\)"),
        ("\\[", "\\]"),
    ] {
        if let Some(inner) = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close)) {
            text = inner.trim();
        }
    }
    text.to_string()
}
