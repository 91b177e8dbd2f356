//! Which nodes of a page are the article. Paragraphs vote for the elements around them, as in Mozilla's
//! Readability (`_grabArticle`, `_cleanConditionally`); what the names of elements, the share of their text that
//! is links, and their place say is boilerplate is struck out.

use super::label::{Label, Labels};
use super::tree::{Tag, Tree};

/// The article: the nodes that hold it, in document order, and which of all nodes are struck out.
pub(super) struct Article {
    pub roots: Vec<usize>,
    pub dropped: Vec<bool>,
    pub labels: Vec<Label>,
}

/// How sure a page has to be that something is boilerplate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    Full,
    /// What has unlikely names is looked at as well.
    NoNames,
    /// Nothing is struck out but what is never text.
    Nothing,
}

/// Text with fewer characters than this makes the search begin again with less strictness (Readability: 500).
const ENOUGH: usize = 400;

/// The article of a page, or nothing where no text is.
pub(super) fn find(tree: &Tree) -> Option<Article> {
    let mut labels = Labels::default();
    let labels: Vec<Label> = tree.nodes.iter().map(|node| labels.of(node)).collect();
    let mut best: Option<(usize, Article)> = None;
    for strictness in [Strictness::Full, Strictness::NoNames, Strictness::Nothing] {
        let Some(article) = attempt(tree, &labels, strictness) else { continue };
        let sums = Sums::of(tree, &article.dropped);
        let chars = article.roots.iter().map(|&root| sums.chars(root)).sum();
        let enough = chars >= ENOUGH;
        // A looser attempt has to bring much to be believed.
        if best.as_ref().is_none_or(|(known, _)| chars > 2 * known) {
            best = Some((chars, article));
        }
        if enough {
            break;
        }
    }
    best.filter(|(chars, _)| *chars > 0).map(|(_, article)| article)
}

/// Counts over each node's subtree, without what is struck out.
pub(super) struct Sums {
    counts: Vec<Counts>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    chars: u32,
    links: u32,
    commas: u32,
}

impl Sums {
    pub fn of(tree: &Tree, dropped: &[bool]) -> Sums {
        let mut counts = vec![Counts::default(); tree.nodes.len()];
        let (mut skip_until, mut link_until) = (0, 0);
        let mut link_weight = 1.0;
        for (index, node) in tree.nodes.iter().enumerate() {
            if dropped[index] {
                skip_until = skip_until.max(node.end);
            }
            if node.tag == Tag::A && index >= link_until {
                link_until = node.end;
                // A link to a place in the page is as often a footnote (Readability).
                link_weight =
                    if node.attribute("href").is_some_and(|to| to.starts_with('#')) { 0.3 } else { 1.0 };
            }
            if node.tag == Tag::Text && index >= skip_until {
                let (chars, commas) = measure(tree.text_of(node));
                let links = if index < link_until { (chars as f32 * link_weight) as u32 } else { 0 };
                counts[index] = Counts { chars, links, commas };
            }
        }
        for index in (1..tree.nodes.len()).rev() {
            let inner = counts[index];
            let outer = &mut counts[tree.nodes[index].parent];
            outer.chars += inner.chars;
            outer.links += inner.links;
            outer.commas += inner.commas;
        }
        Sums { counts }
    }

    /// Takes a node that is struck out from the counts of its ancestors.
    fn strike(&mut self, tree: &Tree, node: usize) {
        let struck = std::mem::take(&mut self.counts[node]);
        let mut at = node;
        while at != 0 {
            at = tree.nodes[at].parent;
            let outer = &mut self.counts[at];
            outer.chars -= struck.chars;
            outer.links -= struck.links;
            outer.commas -= struck.commas;
        }
    }

    pub fn chars(&self, node: usize) -> usize {
        self.counts[node].chars as usize
    }

    fn commas(&self, node: usize) -> usize {
        self.counts[node].commas as usize
    }

    pub fn link_density(&self, node: usize) -> f32 {
        let Counts { chars, links, .. } = self.counts[node];
        if chars == 0 { 0.0 } else { links as f32 / chars as f32 }
    }
}

/// Characters with runs of blanks as one, and commas of any script.
fn measure(text: &str) -> (u32, u32) {
    let (mut chars, mut commas, mut blank) = (0, 0, true);
    for character in text.chars() {
        if character.is_whitespace() {
            chars += u32::from(!blank);
            blank = true;
            continue;
        }
        blank = false;
        chars += 1;
        commas += u32::from(matches!(
            character,
            ',' | '،' | '、' | '，' | '﹐' | '﹑' | '⸁' | '⸲' | '⸴' | '⸵' | '।'
        ));
    }
    (chars, commas)
}

fn attempt(tree: &Tree, labels: &[Label], strictness: Strictness) -> Option<Article> {
    let nodes = &tree.nodes;
    let mut dropped = vec![false; nodes.len()];
    let body = nodes.iter().position(|node| node.tag == Tag::Body)?;
    if strictness != Strictness::Nothing {
        strike_boilerplate(tree, labels, strictness, &mut dropped);
    }
    let sums = Sums::of(tree, &dropped);
    if sums.chars(body) == 0 {
        return None;
    }
    let roots = choose(tree, labels, &sums, &dropped, body);
    if strictness != Strictness::Nothing {
        clean(tree, labels, &roots, &mut dropped);
    }
    Some(Article { roots, dropped, labels: labels.to_vec() })
}

/// What is never an article by its element, role or names.
fn strike_boilerplate(tree: &Tree, labels: &[Label], strictness: Strictness, dropped: &mut [bool]) {
    let nodes = &tree.nodes;
    let none = vec![false; nodes.len()];
    let sums = Sums::of(tree, &none);
    let total = sums.chars(0).max(1);
    let mut index = 1;
    while index < nodes.len() {
        let node = &nodes[index];
        let label = labels[index];
        let role = node.attribute("role").unwrap_or("");
        let by_element = matches!(node.tag, Tag::Nav | Tag::Footer)
            || matches!(
                role,
                "menu"
                    | "menubar"
                    | "complementary"
                    | "navigation"
                    | "alert"
                    | "alertdialog"
                    | "dialog"
                    | "search"
                    | "contentinfo"
            );
        let names_count = strictness == Strictness::Full
            && !matches!(
                node.tag,
                Tag::A | Tag::Body | Tag::Html | Tag::Article | Tag::Main | Tag::Code | Tag::Pre | Tag::Text
            );
        let by_name = names_count && ((label.unlikely && !label.maybe) || (label.aside && !label.body));
        if (by_element || by_name) && !matches!(node.tag, Tag::Body | Tag::Html) {
            // A wrapper around the page may have any name; so may the column that holds the article.
            let share = sums.chars(index) as f32 / total as f32;
            let holds_article = share > 0.5 || (label.body && share > 0.1);
            let in_table_or_code =
                tree.ancestors(index).any(|up| matches!(nodes[up].tag, Tag::Table | Tag::Pre | Tag::Code));
            if !holds_article && (by_element || !in_table_or_code || label.aside) {
                dropped[index] = true;
                index = node.end;
                continue;
            }
        }
        index += 1;
    }
}

/// Whether a node is a paragraph in effect: `p` and its like, or a `div` without blocks in it.
fn is_paragraph(tree: &Tree, index: usize) -> bool {
    let nodes = &tree.nodes;
    match nodes[index].tag {
        Tag::P | Tag::Pre | Tag::Td | Tag::Section | Tag::H2 | Tag::H3 | Tag::H4 | Tag::H5 | Tag::H6 => true,
        Tag::Div => !nodes[index + 1..nodes[index].end].iter().any(|node| {
            matches!(
                node.tag,
                Tag::Blockquote
                    | Tag::Dl
                    | Tag::Div
                    | Tag::Img
                    | Tag::Ol
                    | Tag::P
                    | Tag::Pre
                    | Tag::Table
                    | Tag::Ul
                    | Tag::Section
                    | Tag::Article
            )
        }),
        _ => false,
    }
}

/// The nodes that hold the article: the one that most paragraphs speak for, and siblings like it.
fn choose(tree: &Tree, labels: &[Label], sums: &Sums, dropped: &[bool], body: usize) -> Vec<usize> {
    let nodes = &tree.nodes;
    let mut scores: Vec<Option<f32>> = vec![None; nodes.len()];
    let initial = |index: usize| {
        let by_tag = match nodes[index].tag {
            Tag::Div => 5.0,
            Tag::Article | Tag::Main => 10.0,
            Tag::Pre | Tag::Td | Tag::Blockquote => 3.0,
            Tag::Address | Tag::Ol | Tag::Ul | Tag::Dl | Tag::Dd | Tag::Dt | Tag::Li | Tag::Form => -3.0,
            Tag::H1 | Tag::H2 | Tag::H3 | Tag::H4 | Tag::H5 | Tag::H6 | Tag::Th => -5.0,
            _ => 0.0,
        };
        by_tag + labels[index].weight as f32 + if labels[index].body { 10.0 } else { 0.0 }
    };
    let mut vote = |from: usize, chars: usize, commas: usize| {
        if chars < 25 {
            return;
        }
        let score = 1.0 + 1.0 + commas as f32 + (chars as f32 / 100.0).min(3.0);
        for (level, up) in tree.ancestors(from).take(5).enumerate() {
            if matches!(nodes[up].tag, Tag::Html) {
                break;
            }
            let divider = match level {
                0 => 1.0,
                1 => 2.0,
                level => 3.0 * level as f32,
            };
            let known = scores[up].unwrap_or_else(|| initial(up));
            scores[up] = Some(known + score / divider);
        }
    };
    let mut index = body + 1;
    while index < nodes[body].end {
        if dropped[index] {
            index = nodes[index].end;
            continue;
        }
        if is_paragraph(tree, index) {
            vote(index, sums.chars(index), sums.commas(index));
        } else if matches!(
            nodes[index].tag,
            Tag::Div
                | Tag::Article
                | Tag::Main
                | Tag::Td
                | Tag::Center
                | Tag::Section
                | Tag::Span
                | Tag::Blockquote
        ) {
            // Text between line breaks, with no element of its own, is a paragraph too.
            let mut run: Option<(usize, usize, usize)> = None;
            for child in tree.children(index).chain([nodes[index].end]) {
                let inline = child < nodes[index].end
                    && !nodes[child].tag.is_block()
                    && nodes[child].tag != Tag::Br
                    && !dropped[child]
                    && !has_block(tree, child);
                if inline {
                    let (_, chars, commas) = run.get_or_insert((child, 0, 0));
                    *chars += sums.chars(child);
                    *commas += sums.commas(child);
                } else if let Some((start, chars, commas)) = run.take() {
                    // It votes as a child of this node would.
                    vote(start, chars, commas);
                }
            }
        }
        index += 1;
    }
    let mut candidates: Vec<(f32, usize)> = scores
        .iter()
        .enumerate()
        .filter_map(|(index, score)| Some((score.as_ref()? * (1.0 - sums.link_density(index)), index)))
        .collect();
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let score_of = |index: usize| scores[index].map_or(0.0, |score| score * (1.0 - sums.link_density(index)));
    let Some(&(_, mut top)) = candidates.first() else { return vec![body] };
    if matches!(nodes[top].tag, Tag::Body) {
        return vec![body];
    }
    // An ancestor that several good candidates share holds them all.
    let top_score = score_of(top);
    let rivals: Vec<Vec<usize>> = candidates[1..candidates.len().min(5)]
        .iter()
        .filter(|(score, _)| *score >= 0.75 * top_score)
        .map(|&(_, index)| tree.ancestors(index).collect())
        .collect();
    if rivals.len() >= 3 {
        for up in tree.ancestors(top) {
            if matches!(nodes[up].tag, Tag::Body | Tag::Html) {
                break;
            }
            if rivals.iter().filter(|ancestors| ancestors.contains(&up)).count() >= 3 {
                top = up;
                break;
            }
        }
    }
    // A parent that scores higher than its best child holds more of the article.
    let (mut last, least) = (score_of(top), score_of(top) / 3.0);
    for up in tree.ancestors(top).collect::<Vec<_>>() {
        if matches!(nodes[up].tag, Tag::Body | Tag::Html) {
            break;
        }
        let Some(_) = scores[up] else { continue };
        let score = score_of(up);
        if score < least {
            break;
        }
        if score > last {
            top = up;
            break;
        }
        last = score;
    }
    // An only child speaks for its parent.
    while let parent = nodes[top].parent
        && !matches!(nodes[parent].tag, Tag::Body | Tag::Html)
        && parent != 0
        && tree
            .children(parent)
            .filter(|&child| nodes[child].tag != Tag::Text && !dropped[child] && sums.chars(child) > 0)
            .count()
            == 1
        && sums.chars(parent) == sums.chars(top)
    {
        top = parent;
    }
    if nodes[top].parent == 0 {
        return vec![top];
    }
    let threshold = (0.2 * score_of(top)).max(10.0);
    let class = nodes[top].attribute("class").unwrap_or("");
    tree.children(nodes[top].parent)
        .filter(|&sibling| {
            if sibling == top {
                return true;
            }
            if dropped[sibling] || nodes[sibling].tag == Tag::Text {
                return false;
            }
            let same = !class.is_empty() && nodes[sibling].attribute("class") == Some(class);
            let bonus = if same { 0.2 * score_of(top) } else { 0.0 };
            if scores[sibling].is_some() && score_of(sibling) + bonus >= threshold {
                return true;
            }
            let before = sibling < top
                && nodes[sibling].tag == Tag::Div
                && is_paragraph(tree, sibling)
                && ends_sentence(tree, sibling);
            if nodes[sibling].tag == Tag::P || before {
                let (chars, density) = (sums.chars(sibling), sums.link_density(sibling));
                return (chars > 80 && density < 0.25)
                    || (chars > 0 && chars <= 80 && density == 0.0 && ends_sentence(tree, sibling));
            }
            false
        })
        .collect()
}

fn has_block(tree: &Tree, index: usize) -> bool {
    tree.nodes[index + 1..tree.nodes[index].end].iter().any(|node| node.tag.is_block())
}

fn ends_sentence(tree: &Tree, index: usize) -> bool {
    let nodes = &tree.nodes;
    nodes[index..nodes[index].end]
        .iter()
        .filter(|node| node.tag == Tag::Text)
        .map(|node| tree.text_of(node).trim_end())
        .rfind(|text| !text.is_empty())
        .is_some_and(|text| text.ends_with(['.', '!', '?', '。', '！', '？', '।', '؟']))
}

/// Strikes out what lies inside the article and is none of it.
fn clean(tree: &Tree, labels: &[Label], roots: &[usize], dropped: &mut [bool]) {
    let nodes = &tree.nodes;
    let exempt = exempt(tree);
    for &root in roots {
        let mut index = root + 1;
        while index < nodes[root].end {
            if dropped[index] {
                index = nodes[index].end;
                continue;
            }
            let node = &nodes[index];
            if matches!(node.tag, Tag::Footer | Tag::Aside | Tag::Label) {
                dropped[index] = true;
            }
            index += 1;
        }
    }
    // From the innermost outwards, as Readability walks its lists from their ends.
    for pass in
        [&[Tag::Form, Tag::Fieldset][..], &[Tag::Table, Tag::Ul, Tag::Ol, Tag::Div, Tag::Section, Tag::Dl]]
    {
        let mut sums = Sums::of(tree, dropped);
        for &root in roots.iter().rev() {
            for index in (root + 1..nodes[root].end).rev() {
                if pass.contains(&nodes[index].tag)
                    && !dropped[index]
                    && !exempt[index]
                    && is_clutter(tree, labels, &sums, dropped, index)
                {
                    dropped[index] = true;
                    sums.strike(tree, index);
                }
            }
        }
    }
}

/// Data tables and code, and all in them.
fn exempt(tree: &Tree) -> Vec<bool> {
    let mut until = 0;
    let mut exempt = vec![false; tree.nodes.len()];
    for (index, node) in tree.nodes.iter().enumerate() {
        let begins = match node.tag {
            Tag::Pre | Tag::Code => true,
            Tag::Table => index >= until && is_data_table(tree, index),
            _ => false,
        };
        if begins {
            until = until.max(node.end);
        }
        exempt[index] = index < until;
    }
    exempt
}

/// Readability's `_cleanConditionally`.
fn is_clutter(tree: &Tree, labels: &[Label], sums: &Sums, dropped: &[bool], index: usize) -> bool {
    let nodes = &tree.nodes;
    let node = &nodes[index];
    let chars = sums.chars(index);
    let weight = labels[index].weight;
    // Names that others carry too are not believed of what reads as a paragraph.
    if weight < 0 && !(chars >= 80 && sums.link_density(index) < 0.1 && ends_sentence(tree, index)) {
        return true;
    }
    if sums.commas(index) >= 10 {
        return false;
    }
    let (mut paragraphs, mut images, mut items, mut headings, mut code) = (0, 0, 0i32, 0, 0);
    let mut listed = 0;
    let mut at = index + 1;
    while at < node.end {
        if dropped[at] {
            at = nodes[at].end;
            continue;
        }
        match nodes[at].tag {
            Tag::P => paragraphs += 1,
            Tag::Img => images += 1,
            Tag::Li => items += 1,
            Tag::Pre | Tag::Math => code += 1,
            Tag::Ul | Tag::Ol => listed += sums.chars(at),
            tag if tag.heading().is_some() => headings += sums.chars(at),
            _ => {}
        }
        at += 1;
    }
    if code > 0 {
        return false;
    }
    let is_list = matches!(node.tag, Tag::Ul | Tag::Ol | Tag::Dl) || listed as f32 > 0.9 * chars as f32;
    let density = sums.link_density(index);
    let in_figure = tree.ancestors(index).any(|up| nodes[up].tag == Tag::Figure);
    let heading_density = headings as f32 / chars.max(1) as f32;
    (images > 1 && (paragraphs as f32) / (images as f32) < 0.5 && !in_figure && chars < 200)
        || (!is_list && items - 100 > paragraphs)
        || (!is_list && heading_density < 0.9 && chars < 25 && (images == 0 || images > 2) && !in_figure)
        || (!is_list && weight < 25 && density > 0.2)
        || (weight >= 25 && density > 0.5)
        || (is_list && density > 0.5)
}

/// Tables that hold data rather than lay out a page (Readability's `_markDataTables`, in short).
pub(super) fn is_data_table(tree: &Tree, table: usize) -> bool {
    let nodes = &tree.nodes;
    let node = &nodes[table];
    if node.attribute("role") == Some("presentation") || node.attribute("datatable") == Some("0") {
        return false;
    }
    let inside = &nodes[table + 1..node.end];
    if inside.iter().any(|node| node.tag == Tag::Table) {
        return false;
    }
    if node.attribute("summary").is_some_and(|s| !s.is_empty())
        || inside.iter().any(|node| matches!(node.tag, Tag::Caption | Tag::Thead | Tag::Th | Tag::Tfoot))
    {
        return true;
    }
    let rows = inside.iter().filter(|node| node.tag == Tag::Tr).count();
    let cells = inside.iter().filter(|node| node.tag == Tag::Td).count();
    if rows <= 1 || cells <= rows {
        return false;
    }
    let columns = cells / rows;
    rows >= 10 || columns > 4 || rows * columns > 10
}
