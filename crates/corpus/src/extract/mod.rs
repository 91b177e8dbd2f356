//! The main text of web pages, with the structure that a model can learn from: headings, lists, tables, code,
//! formulas and the alternative text of pictures stay; navigation, advertisements and other boilerplate go.
//! It knows nothing of batches, and of URLs only what a page says.
//!
//! [`tree`] parses, [`article`] chooses, [`blocks`] writes down; [`Page`] shows the blocks as Markdown or as text.

mod article;
mod blocks;
mod label;
mod math;
mod render;
mod tree;

use std::time::Duration;

pub use blocks::Block;

/// Elements and runs of text beyond which a page is not read: the largest pages made for people have a tenth.
const MAX_NODES: usize = 500_000;

/// Depth of open elements beyond which a page is refused: the parser's work grows with it at every tag.
const MAX_DEPTH: usize = 512;

/// How long a page may take to parse. An ordinary one takes a few milliseconds.
const MAX_TIME: Duration = Duration::from_secs(10);

/// Why there is no main text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing in the page reads like an article.
    NoMainText,
    /// The page has, or its malformed markup makes, too many elements.
    TooManyElements,
    /// Its elements lie too deep in one another.
    NestedTooDeeply,
    /// Parsing took too long.
    TooLong,
}

impl Refusal {
    /// As the funnel names it.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::NoMainText => "no_main_text",
            Refusal::TooManyElements => "too_many_elements",
            Refusal::NestedTooDeeply => "nested_too_deeply",
            Refusal::TooLong => "took_too_long",
        }
    }
}

/// The main text of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The page's own title.
    pub title: Option<String>,
    /// The article, without its title.
    pub blocks: Vec<Block>,
}

/// The main text of a page in HTML.
///
/// # Errors
/// [`Refusal`], which says why there is none.
pub fn extract(html: &str) -> Result<Page, Refusal> {
    if depth(html) > MAX_DEPTH {
        return Err(Refusal::NestedTooDeeply);
    }
    let tree = tree::parse(html, MAX_NODES, MAX_TIME)?;
    let article = article::find(&tree).ok_or(Refusal::NoMainText)?;
    let titles: Vec<String> = [&tree.open_graph_title, &tree.title].into_iter().flatten().cloned().collect();
    let blocks = blocks::blocks(&tree, &article, &titles);
    let reads = blocks.iter().any(|block| !matches!(block, Block::Picture(_) | Block::Heading(..)));
    if !reads {
        return Err(Refusal::NoMainText);
    }
    Ok(Page { title: titles.into_iter().next(), blocks })
}

/// An upper estimate of how deep elements nest: opening minus closing tags. Elements that end by themselves are
/// left out, and so are scripts, styles and comments, in which tags are text.
fn depth(html: &str) -> usize {
    const FLAT: &[&str] = &[
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source",
        "track", "wbr", "p", "li", "td", "tr", "th", "dt", "dd", "option", "tbody", "thead", "colgroup",
    ];
    let (mut depth, mut deepest) = (0usize, 0usize);
    let bytes = html.as_bytes();
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|&byte| byte == b'<') {
        at += next + 1;
        let rest = &bytes[at..];
        match rest.first() {
            Some(b'/') => {
                depth = depth.saturating_sub(usize::from(rest.get(1).is_some_and(u8::is_ascii_alphabetic)))
            }
            Some(b'!') if rest.starts_with(b"!--") => at += find(rest, b"-->").unwrap_or(3),
            Some(first) if first.is_ascii_alphabetic() => {
                let length = rest.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(rest.len());
                let name = html[at..at + length].to_ascii_lowercase();
                if matches!(name.as_str(), "script" | "style") {
                    at += find(rest, format!("</{name}").as_bytes()).unwrap_or(length);
                } else if !FLAT.contains(&name.as_str()) {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
            }
            _ => {}
        }
    }
    deepest
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests;
