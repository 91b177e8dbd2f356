//! The article as a list of blocks: headings, paragraphs, list items, tables, code, formulas, pictures. What a
//! single block says of itself (a byline, an advertisement's mark, a line that is one link) decides here whether
//! it stays.

use std::sync::LazyLock;

use regex::Regex;

use super::article::{Article, is_data_table};
use super::math;
use super::tree::{Tag, Tree};

/// A part of the article.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A heading, of level 1 to 6.
    Heading(u8, String),
    /// A paragraph; its lines are those that the page asks for.
    Paragraph(String),
    /// A paragraph of a quotation.
    Quote(String),
    /// An item of a list, how deep it lies (0 for the outermost) and its number in an ordered list.
    Item {
        /// Lists around its list.
        depth: usize,
        /// Its number, in a list that has them.
        number: Option<u32>,
        /// Its text, without that of lists in it.
        text: String,
    },
    /// Code as it stands, with its language where the page names it.
    Code(Option<String>, String),
    /// A table of data: rows of cells.
    Table(Vec<Vec<String>>),
    /// A formula that stands alone, as LaTeX where the page has that.
    Math(String),
    /// A picture's alternative text or, without one, its caption.
    Picture(String),
}

/// A block under construction, with what is known of where it came from.
struct Draft {
    block: Block,
    /// Share of its characters that are links.
    links: f32,
}

pub(super) fn blocks(tree: &Tree, article: &Article, titles: &[String]) -> Vec<Block> {
    let mut writer = Writer {
        tree,
        article,
        drafts: Vec::new(),
        line: Line::default(),
        lists: Vec::new(),
        quotes: 0,
        item: None,
        heading: None,
    };
    for &root in &article.roots {
        writer.walk(root);
        writer.flush();
    }
    keep(writer.drafts, titles)
}

/// Characters of a line, blanks collapsed.
#[derive(Default)]
struct Line {
    text: String,
    chars: usize,
    links: usize,
}

impl Line {
    fn push(&mut self, text: &str, link: bool) {
        for character in text.chars() {
            if character.is_whitespace() {
                if !self.text.is_empty() && !self.text.ends_with([' ', '\n']) {
                    self.text.push(' ');
                }
            } else if !matches!(character, '\u{200B}' | '\u{FEFF}' | '\u{AD}') {
                self.text.push(character);
                self.chars += 1;
                self.links += usize::from(link);
            }
        }
    }

    fn newline(&mut self) {
        while self.text.ends_with(' ') {
            self.text.pop();
        }
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }
}

struct Writer<'a> {
    tree: &'a Tree,
    article: &'a Article,
    drafts: Vec<Draft>,
    line: Line,
    /// Open lists: the next number of an ordered one.
    lists: Vec<Option<u32>>,
    quotes: usize,
    /// The item that the next text begins: depth and number.
    item: Option<(usize, Option<u32>)>,
    heading: Option<u8>,
}

/// What is done when a node's end is reached.
enum Close {
    Block,
    Heading,
    List,
    Quote,
    Code,
}

impl Writer<'_> {
    /// Writes a subtree, without recursion: pages nest as deep as they like.
    fn walk(&mut self, root: usize) {
        let nodes = &self.tree.nodes;
        let mut open: Vec<(usize, Close)> = Vec::new();
        let mut link_until = 0;
        let mut index = root;
        while index < nodes[root].end {
            while let Some((_, close)) = open.pop_if(|(end, _)| *end <= index) {
                self.close(close);
            }
            let node = &nodes[index];
            if self.article.dropped[index] {
                index = node.end;
                continue;
            }
            if node.tag == Tag::Text {
                self.line.push(self.tree.text_of(node), index < link_until);
                index += 1;
                continue;
            }
            if math::is_picture_of_formula(self.tree, index) {
                index = node.end;
                continue;
            }
            if let Some(formula) = math::formula(self.tree, index) {
                self.formula(formula);
                index = node.end;
                continue;
            }
            let label = self.article.labels[index];
            if matches!(node.tag, Tag::Figcaption) || (label.caption && !self.holds_text(index)) {
                self.caption(index);
                index = node.end;
                continue;
            }
            match node.tag {
                Tag::A => link_until = link_until.max(node.end),
                Tag::Br => self.line_break(),
                Tag::Img => self.picture(index),
                Tag::Hr => self.flush(),
                Tag::Pre => {
                    self.code(index);
                    index = node.end;
                    continue;
                }
                Tag::Table if is_data_table(self.tree, index) && self.table(index) => {
                    index = node.end;
                    continue;
                }
                Tag::Code | Tag::Kbd | Tag::Samp | Tag::Tt => {
                    self.line.push("`", index < link_until);
                    open.push((node.end, Close::Code));
                }
                Tag::Ul | Tag::Ol => {
                    self.flush();
                    let start = node.attribute("start").and_then(|start| start.parse().ok()).unwrap_or(1);
                    self.lists.push((node.tag == Tag::Ol).then_some(start));
                    open.push((node.end, Close::List));
                }
                Tag::Li | Tag::Dd | Tag::Dt => {
                    self.flush();
                    if node.tag == Tag::Li {
                        let depth = self.lists.len().saturating_sub(1);
                        let number = self.lists.last_mut().and_then(|next| {
                            let number = *next;
                            *next = next.map(|number| number.saturating_add(1));
                            number
                        });
                        self.item = Some((depth, number));
                    }
                    open.push((node.end, Close::Block));
                }
                Tag::Blockquote => {
                    self.flush();
                    self.quotes += 1;
                    open.push((node.end, Close::Quote));
                }
                tag if tag.heading().is_some() => {
                    self.flush();
                    self.heading = tag.heading();
                    open.push((node.end, Close::Heading));
                }
                tag if tag.is_block() => {
                    self.flush();
                    open.push((node.end, Close::Block));
                }
                _ => {}
            }
            index += 1;
        }
        while let Some((_, close)) = open.pop() {
            self.close(close);
        }
    }

    fn close(&mut self, close: Close) {
        match close {
            Close::Block => self.flush(),
            Close::Heading => {
                self.flush();
                self.heading = None;
            }
            Close::List => {
                self.flush();
                self.lists.pop();
                self.item = None;
            }
            Close::Quote => {
                self.flush();
                self.quotes -= 1;
            }
            Close::Code => {
                // An empty pair of marks is none.
                if self.line.text.ends_with('`') {
                    self.line.text.pop();
                } else {
                    self.line.push("`", false);
                }
            }
        }
    }

    /// Ends the line that is being written, as the kind of block that it is in.
    fn flush(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = line.text.trim().trim_matches('\u{A0}').to_string();
        if text.is_empty() || text.chars().all(|c| c == '`' || c.is_whitespace()) {
            return;
        }
        let links = line.links as f32 / line.chars.max(1) as f32;
        let block = if let Some(level) = self.heading {
            Block::Heading(level, text.replace('\n', " "))
        } else if let Some((depth, number)) = self.item.take() {
            Block::Item { depth, number, text }
        } else if self.quotes > 0 {
            Block::Quote(text)
        } else {
            Block::Paragraph(text)
        };
        self.drafts.push(Draft { block, links });
    }

    /// Two line breaks in a row part paragraphs.
    fn line_break(&mut self) {
        if self.line.text.ends_with('\n') {
            self.flush();
        } else {
            self.line.newline();
        }
    }

    fn formula(&mut self, formula: math::Formula) {
        if formula.display {
            self.flush();
            self.drafts.push(Draft { block: Block::Math(formula.text), links: 0.0 });
        } else {
            self.line.push("$", false);
            self.line.push(&formula.text, false);
            self.line.push("$", false);
        }
    }

    fn picture(&mut self, index: usize) {
        let alt = self.tree.nodes[index].attribute("alt").unwrap_or("");
        let alt = alt.split_whitespace().collect::<Vec<_>>().join(" ");
        // Of one word it is more often a file's name than a description.
        if alt.split(' ').count() >= 2 {
            self.draft_picture(alt);
        }
    }

    fn draft_picture(&mut self, text: String) {
        let seen = self
            .drafts
            .iter()
            .rev()
            .take(4)
            .any(|draft| matches!(&draft.block, Block::Picture(known) if *known == text));
        if !seen {
            self.drafts.push(Draft { block: Block::Picture(text), links: 0.0 });
        }
    }

    /// What stands under a picture belongs to it.
    fn caption(&mut self, index: usize) {
        let nodes = &self.tree.nodes;
        let mut line = Line::default();
        let mut at = index;
        while at < nodes[index].end {
            let node = &nodes[at];
            if self.article.dropped[at] {
                at = node.end;
                continue;
            }
            match node.tag {
                Tag::Text => line.push(self.tree.text_of(node), false),
                Tag::Img => self.picture(at),
                tag if tag.is_block() => line.push(" ", false),
                _ => {}
            }
            at += 1;
        }
        let text = line.text.trim().to_string();
        if !text.is_empty() {
            self.draft_picture(text);
        }
    }

    /// Whether an element that calls itself a caption is too long for one.
    fn holds_text(&self, index: usize) -> bool {
        let nodes = &self.tree.nodes;
        let mut chars = 0;
        for node in &nodes[index..nodes[index].end] {
            match node.tag {
                Tag::Text => chars += self.tree.text_of(node).trim().len(),
                Tag::Body | Tag::Main | Tag::Article | Tag::Blockquote => return true,
                _ => {}
            }
            if chars > 800 {
                return true;
            }
        }
        false
    }

    fn code(&mut self, index: usize) {
        self.flush();
        let nodes = &self.tree.nodes;
        let end = nodes[index].end;
        let mut text = String::new();
        let mut at = index;
        while at < end {
            let node = &nodes[at];
            if self.article.dropped[at] {
                at = node.end;
                continue;
            }
            match node.tag {
                Tag::Text => text.push_str(self.tree.text_of(node)),
                Tag::Br => text.push('\n'),
                Tag::Div | Tag::Tr | Tag::Li if !text.is_empty() && !text.ends_with('\n') => text.push('\n'),
                _ => {}
            }
            at += 1;
        }
        let text = text.replace('\u{A0}', " ");
        let text = text.trim_end().trim_start_matches(['\n', '\r']);
        if text.trim().is_empty() {
            return;
        }
        let language = tree_language(self.tree, index);
        self.drafts.push(Draft { block: Block::Code(language, text.to_string()), links: 0.0 });
    }

    /// Writes a table of data; false for one that is better read as text.
    fn table(&mut self, index: usize) -> bool {
        let nodes = &self.tree.nodes;
        let end = nodes[index].end;
        let mut rows: Vec<Vec<Line>> = Vec::new();
        let mut link_until = 0;
        let mut at = index + 1;
        while at < end {
            let node = &nodes[at];
            if self.article.dropped[at] {
                at = node.end;
                continue;
            }
            let cell = rows.last_mut().and_then(|row| row.last_mut());
            match (node.tag, cell) {
                (Tag::Tr, _) => rows.push(Vec::new()),
                (Tag::Td | Tag::Th, _) => {
                    if rows.is_empty() {
                        rows.push(Vec::new());
                    }
                    rows.last_mut().expect("a row was added").push(Line::default());
                }
                (Tag::Text, Some(cell)) => cell.push(self.tree.text_of(node), at < link_until),
                (Tag::A, _) => link_until = link_until.max(node.end),
                (tag, Some(cell)) => {
                    if let Some(formula) = math::formula(self.tree, at) {
                        cell.push(&format!("${}$", formula.text), false);
                        at = node.end;
                        continue;
                    }
                    if tag.is_block() || tag == Tag::Br {
                        cell.push(" ", false);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        rows.retain(|row| row.iter().any(|cell| !cell.text.trim().is_empty()));
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let longest = rows.iter().flatten().map(|cell| cell.chars).max().unwrap_or(0);
        // A cell with paragraphs in it is a page's column, not a datum.
        if columns < 2 || rows.len() < 2 || longest > 1000 {
            return false;
        }
        self.flush();
        let (chars, links) =
            rows.iter().flatten().fold((0, 0), |(c, l), cell| (c + cell.chars, l + cell.links));
        let cells = rows
            .into_iter()
            .map(|row| row.into_iter().map(|cell| cell.text.trim().to_string()).collect())
            .collect();
        self.drafts.push(Draft { block: Block::Table(cells), links: links as f32 / chars.max(1) as f32 });
        true
    }
}

/// The language that a page names for code: `language-rust`, `lang-rust`, `highlight-source-rust`.
fn tree_language(tree: &Tree, index: usize) -> Option<String> {
    let nodes = &tree.nodes;
    let inner = (index..nodes[index].end).take(3);
    let outer = tree.ancestors(index).take(2);
    inner.chain(outer).find_map(|at| {
        nodes[at].attribute("class")?.split_whitespace().find_map(|class| {
            let name = ["language-", "lang-", "highlight-source-", "brush:"]
                .iter()
                .find_map(|prefix| class.strip_prefix(prefix))?;
            let known = !name.is_empty()
                && name.len() <= 20
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "+#-_.".contains(c));
            (known && !matches!(name, "plaintext" | "text" | "none")).then(|| name.to_ascii_lowercase())
        })
    })
}

/// Lines that say by their beginning or whole that they are no part of the text, in English as most pages of
/// other languages have their names, not their words, in common.
static NOISE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)^(
            advertisement | advert | ad | sponsored(\scontent)? | story\scontinues(\sbelow.*)? | continue\sreading(\sbelow|\smain\sstory)? | (article|story)\scontinues\safter.*
            | share(\sthis.*|\son.*)? | share\swith.* | tweet | email(\sthis)? | print(\sarticle)? | order\sreprints | text\ssize | comments? | \d+\scomments? | loading.* | close | caption | image\s\d+\sof.*
            | read\smore.{0,80} | see\s(also|more)\s?:.{0,160} | related(\s(articles|stories|content|topics|posts|links))?(\s?:.{0,200})? | recommended(\sfor\syou)? | more:?(\sfrom.*|\son.*)? | (don.?t\smiss|must\sread|you\smay\s(also\s)?(like|be\sinterested).*|up\snext|trending(\snow)?|most\spopular|top\sstories.*|latest\snews|popular\sposts)\W*
            | (sign|log)\s(up|in)\b.{0,200} | subscribe\b.{0,200} | follow\s(us|me|him|her|the)\b.{0,120} | click\shere\b.{0,160} | get\s.{3,80}\sdelivered\s.{3,100} | download\s(the|our)\s.{0,60}\sapp.{0,60}
            | photo(graph)?s?(\scredit|\sby)?\s?:.{0,160} | image(\scredit|\ssource|\scopyright)?\s?:.{0,160} | \(?(photo|image|picture)s?(\sby|\scredit)?\s?[:©].{0,160} | getty\simages.* | view\s(photos|gallery|slideshow|all).*
            | (last\s)?(updated|published|posted|modified)(\s(on|at|by))?\s?:?\s.{0,10}\d.{0,60} | (by|von|por|par|di|door)\s[^.!?]{2,60} | (mon|tues?|wed(nes)?|thur?s?|fri|sat(ur)?|sun)(day)?,?\s[^.!?]{0,30}\d{4}.{0,30}
            | (jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?|dec(ember)?)\.?\s\d{1,2},?\s\d{4}.{0,40} | \d{1,2}[./\s-]\S{2,10}[./\s-]\d{4}(\W.{0,30})?
            | (tags?|categories|category|filed\sunder|topics|labels|posted\sin|tagged)\s?:.{0,200} | (copyright\s)?©.{0,160} | copyright\s.{0,200} | all\srights\sreserved.{0,60} | terms\sof\s(use|service).* | privacy\spolicy.*
            | media\splayback\sis\sunsupported.* | this\sslideshow\srequires.* | (please\s)?enable\sjavascript.* | you\shave\sbeen\s(successfully\s)?subscribed.* | thank\syou\sfor\s(subscribing|signing).* | leave\sa\s(comment|reply).* | tell\sus\swhat\syou\sthink.* | what\sdo\syou\sthink.{0,80}
            | (write|email)\sto\s.{0,60}@.{0,60} | .{0,40}contributed\sto\sthis\s(report|article|story).{0,40} | back\sto\stop | next\s?(article|post|page|story)? | previous\s?(article|post|page|story)? | home | skip\sto.* | jump\sto.* | menu | search
        )\W*$",
    )
    .expect("a valid pattern")
});

/// Drops blocks that speak of the site rather than of the matter, and headings with nothing under them.
fn keep(drafts: Vec<Draft>, titles: &[String]) -> Vec<Block> {
    let text_before = |kept: &[Draft]| {
        kept.iter().any(|draft| matches!(&draft.block, Block::Paragraph(text) if text.len() > 120))
    };
    let mut kept: Vec<Draft> = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let noise = match &draft.block {
            Block::Paragraph(text) | Block::Quote(text) => {
                is_noise(text, draft.links)
                    || (!text_before(&kept) && titles.iter().any(|title| same(title, text)))
            }
            Block::Heading(level, text) => {
                NOISE.is_match(text)
                    || (*level == 1 && !text_before(&kept))
                    || (!text_before(&kept) && titles.iter().any(|title| same(title, text)))
            }
            Block::Item { text, .. } => NOISE.is_match(text),
            Block::Table(_) => draft.links > 0.8,
            Block::Code(..) | Block::Math(_) | Block::Picture(_) => false,
        };
        if !noise {
            kept.push(draft);
        }
    }
    // A heading at the end, or before one as high, heads nothing.
    while kept.last().is_some_and(|draft| matches!(draft.block, Block::Heading(..))) {
        kept.pop();
    }
    kept.into_iter().map(|draft| draft.block).collect()
}

fn is_noise(text: &str, links: f32) -> bool {
    let chars = text.chars().count();
    (chars <= 300 && NOISE.is_match(text))
        // A paragraph that is one link leads elsewhere.
        || (links > 0.9 && chars < 200 && !text.contains('\n'))
        || !text.chars().any(char::is_alphanumeric)
}

/// Whether two texts have the same letters and digits.
fn same(a: &str, b: &str) -> bool {
    let letters = |text: &str| {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<String>()
    };
    !a.is_empty() && letters(a) == letters(b)
}
