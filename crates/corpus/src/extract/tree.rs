//! A page's tree, parsed by `html5ever` and laid flat in document order, without what is never text to read
//! (scripts, styles, controls, hidden elements). What of it is the article is not decided here.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use html5ever::interface::tree_builder::{ElementFlags, NodeOrText, QuirksMode};
use html5ever::tendril::{StrTendril, TendrilSink};
use html5ever::tree_builder::{TreeBuilderOpts, TreeSink};
use html5ever::{Attribute, ParseOpts, QualName, local_name};

use super::Refusal;

/// The elements that the rules know by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    A,
    Address,
    Article,
    Aside,
    B,
    Blockquote,
    Body,
    Br,
    Caption,
    Center,
    Code,
    Dd,
    Del,
    Details,
    Div,
    Dl,
    Dt,
    Em,
    Fieldset,
    Figcaption,
    Figure,
    Footer,
    Form,
    H1,
    H2,
    H3,
    H4,
    H5,
    H6,
    Head,
    Header,
    Hr,
    Html,
    Img,
    Ins,
    Kbd,
    Label,
    Li,
    Main,
    Math,
    Nav,
    Ol,
    P,
    Picture,
    Pre,
    Q,
    Samp,
    Script,
    Section,
    Span,
    Strong,
    Sub,
    Summary,
    Sup,
    Table,
    Tbody,
    Td,
    Tfoot,
    Th,
    Thead,
    Time,
    Title,
    Tr,
    Tt,
    Ul,
    Var,
    Other,
    /// A run of characters.
    Text,
}

impl Tag {
    fn of(name: &str) -> Tag {
        match name {
            "a" => Tag::A,
            "address" => Tag::Address,
            "article" => Tag::Article,
            "aside" => Tag::Aside,
            "b" => Tag::B,
            "blockquote" => Tag::Blockquote,
            "body" => Tag::Body,
            "br" => Tag::Br,
            "caption" => Tag::Caption,
            "center" => Tag::Center,
            "code" => Tag::Code,
            "dd" => Tag::Dd,
            "del" => Tag::Del,
            "details" => Tag::Details,
            "div" => Tag::Div,
            "dl" => Tag::Dl,
            "dt" => Tag::Dt,
            "em" | "i" => Tag::Em,
            "fieldset" => Tag::Fieldset,
            "figcaption" => Tag::Figcaption,
            "figure" => Tag::Figure,
            "footer" => Tag::Footer,
            "form" => Tag::Form,
            "h1" => Tag::H1,
            "h2" => Tag::H2,
            "h3" => Tag::H3,
            "h4" => Tag::H4,
            "h5" => Tag::H5,
            "h6" => Tag::H6,
            "head" => Tag::Head,
            "header" | "hgroup" => Tag::Header,
            "hr" => Tag::Hr,
            "html" => Tag::Html,
            "img" | "amp-img" => Tag::Img,
            "ins" => Tag::Ins,
            "kbd" => Tag::Kbd,
            "label" => Tag::Label,
            "li" => Tag::Li,
            "main" => Tag::Main,
            "math" => Tag::Math,
            "nav" => Tag::Nav,
            "ol" => Tag::Ol,
            "p" => Tag::P,
            "picture" => Tag::Picture,
            "pre" | "listing" | "xmp" => Tag::Pre,
            "q" => Tag::Q,
            "samp" => Tag::Samp,
            "script" => Tag::Script,
            "section" => Tag::Section,
            "span" | "font" => Tag::Span,
            "strong" => Tag::Strong,
            "sub" => Tag::Sub,
            "summary" => Tag::Summary,
            "sup" => Tag::Sup,
            "table" => Tag::Table,
            "tbody" => Tag::Tbody,
            "td" => Tag::Td,
            "tfoot" => Tag::Tfoot,
            "th" => Tag::Th,
            "thead" => Tag::Thead,
            "time" => Tag::Time,
            "title" => Tag::Title,
            "tr" => Tag::Tr,
            "tt" => Tag::Tt,
            "ul" | "dir" => Tag::Ul,
            "var" => Tag::Var,
            _ => Tag::Other,
        }
    }

    /// Whether the element begins a line of its own.
    pub fn is_block(self) -> bool {
        matches!(
            self,
            Tag::Address
                | Tag::Article
                | Tag::Aside
                | Tag::Blockquote
                | Tag::Body
                | Tag::Caption
                | Tag::Center
                | Tag::Dd
                | Tag::Details
                | Tag::Div
                | Tag::Dl
                | Tag::Dt
                | Tag::Fieldset
                | Tag::Figcaption
                | Tag::Figure
                | Tag::Footer
                | Tag::Form
                | Tag::Header
                | Tag::Hr
                | Tag::Html
                | Tag::Li
                | Tag::Main
                | Tag::Nav
                | Tag::Ol
                | Tag::P
                | Tag::Pre
                | Tag::Section
                | Tag::Summary
                | Tag::Table
                | Tag::Tbody
                | Tag::Td
                | Tag::Tfoot
                | Tag::Th
                | Tag::Thead
                | Tag::Title
                | Tag::Tr
                | Tag::Ul
        ) || self.heading().is_some()
    }

    /// 1 to 6 for `h1` to `h6`.
    pub fn heading(self) -> Option<u8> {
        Some(match self {
            Tag::H1 => 1,
            Tag::H2 => 2,
            Tag::H3 => 3,
            Tag::H4 => 4,
            Tag::H5 => 5,
            Tag::H6 => 6,
            _ => return None,
        })
    }
}

/// An element or a run of text. Its descendants are the nodes after it, up to `end`.
pub(super) struct Node {
    pub tag: Tag,
    /// The parent's index; the root is its own.
    pub parent: usize,
    /// One past the last descendant.
    pub end: usize,
    /// A run's characters in [`Tree::text`].
    pub text: Range<usize>,
    attributes: Vec<Attribute>,
}

impl Node {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|attribute| &*attribute.name.local == name).map(|found| &*found.value)
    }
}

/// The page in document order; node 0 is the root.
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    pub text: String,
    /// Of `og:title`, else of the first `title`.
    pub title: Option<String>,
    pub open_graph_title: Option<String>,
}

impl Tree {
    pub fn text_of(&self, node: &Node) -> &str {
        &self.text[node.text.clone()]
    }

    /// The indices of a node's children.
    pub fn children(&self, parent: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[parent].end;
        let mut next = parent + 1;
        std::iter::from_fn(move || {
            let child = (next < end).then_some(next)?;
            next = self.nodes[child].end;
            Some(child)
        })
    }

    /// A node's ancestors, the nearest first, without the root.
    pub fn ancestors(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let mut at = node;
        std::iter::from_fn(move || {
            at = self.nodes[at].parent;
            (at != 0).then_some(at)
        })
    }
}

/// Bytes that the parser takes between two looks at the clock and at what it has made.
const CHUNK_BYTES: usize = 16 << 10;

/// Parses a page.
///
/// # Errors
/// [`Refusal::TooManyElements`] and [`Refusal::TooLong`]: malformed markup can make a parser build far more than
/// it reads, so it is stopped.
pub(super) fn parse(html: &str, max_nodes: usize, limit: Duration) -> Result<Tree, Refusal> {
    let begin = Instant::now();
    let options = ParseOpts {
        // Without scripts, what `noscript` holds is elements, which are dropped with it.
        tree_builder: TreeBuilderOpts { scripting_enabled: false, ..TreeBuilderOpts::default() },
        ..ParseOpts::default()
    };
    let mut parser = html5ever::parse_document(Sink::default(), options);
    let mut rest = html;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.floor_char_boundary(CHUNK_BYTES).max(rest.len().min(4)));
        parser.process(StrTendril::from_slice(chunk));
        let made = parser.tokenizer.sink.sink.made.get();
        if made > max_nodes {
            return Err(Refusal::TooManyElements);
        }
        if begin.elapsed() > limit {
            return Err(Refusal::TooLong);
        }
        rest = after;
    }
    let raw = parser.finish();
    if begin.elapsed() > limit {
        return Err(Refusal::TooLong);
    }
    Ok(flatten(raw))
}

const NONE: u32 = u32::MAX;

struct Raw {
    parent: u32,
    first: u32,
    last: u32,
    previous: u32,
    next: u32,
    data: Data,
}

enum Data {
    Root,
    Element { name: Rc<QualName>, attributes: Vec<Attribute> },
    Text(StrTendril),
    Other,
}

#[derive(Clone)]
struct Handle {
    id: u32,
    name: Option<Rc<QualName>>,
}

/// Where `html5ever` builds its tree.
struct Sink {
    nodes: RefCell<Vec<Raw>>,
    made: Cell<usize>,
    nameless: QualName,
}

impl Default for Sink {
    fn default() -> Sink {
        let sink = Sink {
            nodes: RefCell::default(),
            made: Cell::new(0),
            nameless: QualName::new(None, html5ever::ns!(), local_name!("")),
        };
        sink.add(Data::Root);
        sink
    }
}

impl Sink {
    fn add(&self, data: Data) -> u32 {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Raw { parent: NONE, first: NONE, last: NONE, previous: NONE, next: NONE, data });
        self.made.set(nodes.len());
        (nodes.len() - 1) as u32
    }

    fn detach(&self, id: u32) {
        let mut nodes = self.nodes.borrow_mut();
        let Raw { parent, previous, next, .. } = nodes[id as usize];
        if parent == NONE {
            return;
        }
        match previous {
            NONE => nodes[parent as usize].first = next,
            at => nodes[at as usize].next = next,
        }
        match next {
            NONE => nodes[parent as usize].last = previous,
            at => nodes[at as usize].previous = previous,
        }
        let node = &mut nodes[id as usize];
        (node.parent, node.previous, node.next) = (NONE, NONE, NONE);
    }

    fn append_node(&self, parent: u32, id: u32) {
        self.detach(id);
        let mut nodes = self.nodes.borrow_mut();
        let last = std::mem::replace(&mut nodes[parent as usize].last, id);
        match last {
            NONE => nodes[parent as usize].first = id,
            at => nodes[at as usize].next = id,
        }
        let node = &mut nodes[id as usize];
        (node.parent, node.previous) = (parent, last);
    }

    /// Adds characters to the run `at`, if it is one.
    fn extend_text(&self, at: u32, text: &StrTendril) -> bool {
        if at == NONE {
            return false;
        }
        match &mut self.nodes.borrow_mut()[at as usize].data {
            Data::Text(run) => {
                run.push_tendril(text);
                true
            }
            _ => false,
        }
    }
}

impl TreeSink for Sink {
    type Handle = Handle;
    type Output = Vec<Raw>;
    type ElemName<'a> = &'a QualName;

    fn finish(self) -> Vec<Raw> {
        self.nodes.into_inner()
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> Handle {
        Handle { id: 0, name: None }
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> &'a QualName {
        target.name.as_deref().unwrap_or(&self.nameless)
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, _: ElementFlags) -> Handle {
        let name = Rc::new(name);
        Handle { id: self.add(Data::Element { name: name.clone(), attributes }), name: Some(name) }
    }

    fn create_comment(&self, _: StrTendril) -> Handle {
        Handle { id: self.add(Data::Other), name: None }
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> Handle {
        Handle { id: self.add(Data::Other), name: None }
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        match child {
            NodeOrText::AppendNode(node) => self.append_node(parent.id, node.id),
            NodeOrText::AppendText(text) => {
                let last = self.nodes.borrow()[parent.id as usize].last;
                if !self.extend_text(last, &text) {
                    let run = self.add(Data::Text(text));
                    self.append_node(parent.id, run);
                }
            }
        }
    }

    fn append_based_on_parent_node(&self, element: &Handle, previous: &Handle, child: NodeOrText<Handle>) {
        let has_parent = self.nodes.borrow()[element.id as usize].parent != NONE;
        if has_parent {
            self.append_before_sibling(element, child);
        } else {
            self.append(previous, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    /// The contents of a template are nobody's children: they are not shown.
    fn get_template_contents(&self, _: &Handle) -> Handle {
        Handle { id: self.add(Data::Other), name: None }
    }

    fn same_node(&self, x: &Handle, y: &Handle) -> bool {
        x.id == y.id
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Handle, child: NodeOrText<Handle>) {
        let (parent, previous) = {
            let nodes = self.nodes.borrow();
            (nodes[sibling.id as usize].parent, nodes[sibling.id as usize].previous)
        };
        if parent == NONE {
            return;
        }
        let id = match child {
            NodeOrText::AppendText(text) => {
                if self.extend_text(previous, &text) {
                    return;
                }
                self.add(Data::Text(text))
            }
            NodeOrText::AppendNode(node) => {
                self.detach(node.id);
                node.id
            }
        };
        let mut nodes = self.nodes.borrow_mut();
        let previous = std::mem::replace(&mut nodes[sibling.id as usize].previous, id);
        match previous {
            NONE => nodes[parent as usize].first = id,
            at => nodes[at as usize].next = id,
        }
        let node = &mut nodes[id as usize];
        (node.parent, node.previous, node.next) = (parent, previous, sibling.id);
    }

    fn add_attrs_if_missing(&self, target: &Handle, attrs: Vec<Attribute>) {
        if let Data::Element { attributes, .. } = &mut self.nodes.borrow_mut()[target.id as usize].data {
            for attribute in attrs {
                if !attributes.iter().any(|known| known.name == attribute.name) {
                    attributes.push(attribute);
                }
            }
        }
    }

    fn remove_from_parent(&self, target: &Handle) {
        self.detach(target.id);
    }

    fn reparent_children(&self, node: &Handle, new_parent: &Handle) {
        loop {
            let first = self.nodes.borrow()[node.id as usize].first;
            if first == NONE {
                return;
            }
            self.append_node(new_parent.id, first);
        }
    }
}

fn flatten(mut raw: Vec<Raw>) -> Tree {
    let mut tree = Tree { nodes: Vec::new(), text: String::new(), title: None, open_graph_title: None };
    let root = Node { tag: Tag::Other, parent: 0, end: 0, text: 0..0, attributes: Vec::new() };
    tree.nodes.push(root);
    // Nodes whose end is not known yet, with their number in `raw`.
    let mut open: Vec<(u32, usize)> = vec![(0, 0)];
    let mut at = raw[0].first;
    loop {
        while at == NONE {
            let Some((number, index)) = open.pop() else { return tree };
            tree.nodes[index].end = tree.nodes.len();
            at = raw[number as usize].next;
        }
        let node = &mut raw[at as usize];
        let (number, first, next) = (at, node.first, node.next);
        let parent = open.last().map_or(0, |&(_, index)| index);
        match std::mem::replace(&mut node.data, Data::Other) {
            Data::Text(text) => {
                let start = tree.text.len();
                tree.text.push_str(&text);
                let index = tree.nodes.len();
                let text = start..tree.text.len();
                tree.nodes.push(Node {
                    tag: Tag::Text,
                    parent,
                    end: index + 1,
                    text,
                    attributes: Vec::new(),
                });
                at = next;
            }
            Data::Element { name, attributes } => {
                let tag = Tag::of(&name.local);
                let node = Node { tag, parent, end: 0, text: 0..0, attributes };
                if is_shown(&name.local, &node) {
                    tree.nodes.push(node);
                    open.push((number, tree.nodes.len() - 1));
                    at = first;
                } else {
                    note_title(&mut tree, &raw, &name.local, &node, first);
                    at = next;
                }
            }
            Data::Root | Data::Other => at = next,
        }
    }
}

/// Titles stand in elements that are not part of the text.
fn note_title(tree: &mut Tree, raw: &[Raw], name: &str, node: &Node, first: u32) {
    let text = match name {
        "meta" if node.attribute("property") == Some("og:title") => {
            node.attribute("content").map(str::to_string)
        }
        "title" if first != NONE => match &raw[first as usize].data {
            Data::Text(text) => Some(text.to_string()),
            _ => None,
        },
        _ => None,
    };
    let title = if name == "meta" { &mut tree.open_graph_title } else { &mut tree.title };
    if title.is_none() {
        *title =
            text.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|t| !t.is_empty());
    }
}

fn is_shown(name: &str, node: &Node) -> bool {
    match name {
        "script" => return node.attribute("type").is_some_and(|kind| kind.starts_with("math/tex")),
        "style" | "noscript" | "template" | "iframe" | "svg" | "canvas" | "object" | "embed" | "audio"
        | "video" | "select" | "button" | "input" | "textarea" | "option" | "datalist" | "dialog"
        | "menu" | "meta" | "link" | "title" | "base" | "applet" | "frameset" | "frame" | "map" | "area"
        | "progress" | "meter" | "rp" | "rt" | "noframes" | "noembed" => return false,
        "html" | "body" | "head" => return true,
        _ => {}
    }
    if node.attribute("hidden").is_some() && node.tag != Tag::Math {
        return false;
    }
    if let Some(style) = node.attribute("style") {
        let style = style.to_ascii_lowercase();
        let has = |name: &str, value: &str| {
            style.split(';').any(|rule| {
                rule.split_once(':').is_some_and(|(key, given)| {
                    key.trim() == name && given.trim().trim_end_matches("!important").trim_end() == value
                })
            })
        };
        // MathML hidden beside its picture, and its picture, are told apart when they are written out.
        if (has("display", "none") || has("visibility", "hidden")) && !is_math_holder(node) {
            return false;
        }
    }
    let hidden = node.attribute("aria-hidden") == Some("true");
    let keeps = node.tag == Tag::Img || node.attribute("class").is_some_and(|c| c.contains("fallback-image"));
    !hidden || keeps
}

/// Wikipedia hides the MathML and shows a picture of it.
fn is_math_holder(node: &Node) -> bool {
    node.attribute("class").is_some_and(|class| class.contains("mwe-math"))
}
