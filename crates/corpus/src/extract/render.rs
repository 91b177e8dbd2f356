//! A [`Page`] as Markdown, and as plain text.

use super::{Block, Page};

impl Page {
    /// The title, the article and its pictures as Markdown: `#` headings, `-` and `1.` lists, `>` quotations,
    /// fenced code, tables with bars, `$` formulas, `![…]` for the text of a picture. Links are their words.
    pub fn markdown(&self) -> String {
        let mut out = String::new();
        if let Some(title) = &self.title {
            out.push_str("# ");
            out.push_str(title);
        }
        let mut previous: Option<&Block> = None;
        for block in &self.blocks {
            if !out.is_empty() {
                let tight = matches!((previous, block), (Some(Block::Item { .. }), Block::Item { .. }));
                out.push_str(if tight { "\n" } else { "\n\n" });
            }
            write(&mut out, block);
            previous = Some(block);
        }
        out
    }

    /// The article's words alone, a block a line: no title, no marks, no pictures.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for block in &self.blocks {
            let text = match block {
                Block::Heading(_, text)
                | Block::Paragraph(text)
                | Block::Quote(text)
                | Block::Code(_, text)
                | Block::Math(text)
                | Block::Item { text, .. } => text.clone(),
                Block::Table(rows) => rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>().join("\n"),
                Block::Picture(_) => continue,
            };
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&text);
        }
        out
    }
}

fn write(out: &mut String, block: &Block) {
    match block {
        Block::Heading(level, text) => {
            out.extend(std::iter::repeat_n('#', usize::from(*level)));
            out.push(' ');
            out.push_str(text);
        }
        Block::Paragraph(text) => out.push_str(text),
        Block::Quote(text) => {
            out.push_str("> ");
            out.push_str(&text.replace('\n', "\n> "));
        }
        Block::Item { depth, number, text } => {
            let indent = "  ".repeat((*depth).min(12));
            let mark = match number {
                Some(number) => format!("{number}. "),
                None => "- ".to_string(),
            };
            out.push_str(&indent);
            out.push_str(&mark);
            out.push_str(&text.replace('\n', &format!("\n{indent}{}", " ".repeat(mark.len()))));
        }
        Block::Code(language, text) => {
            // The fence is longer than any run of its own mark inside.
            let longest = text
                .lines()
                .map(|line| line.trim_start().bytes().take_while(|&byte| byte == b'`').count())
                .max();
            let fence = "`".repeat(longest.unwrap_or(0).max(2) + 1);
            out.push_str(&fence);
            out.push_str(language.as_deref().unwrap_or(""));
            out.push('\n');
            out.push_str(text);
            out.push('\n');
            out.push_str(&fence);
        }
        Block::Table(rows) => table(out, rows),
        Block::Math(text) => {
            out.push_str("$$");
            out.push_str(text);
            out.push_str("$$");
        }
        Block::Picture(text) => {
            out.push_str("![");
            out.push_str(text);
            out.push(']');
        }
    }
}

/// The first row is the head, as the format wants one.
fn table(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    for (number, row) in rows.iter().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        out.push('|');
        for column in 0..columns {
            out.push(' ');
            out.push_str(&row.get(column).map_or(String::new(), |cell| cell.replace('|', "\\|")));
            out.push_str(" |");
        }
        if number == 0 {
            out.push_str("\n|");
            out.push_str(&" --- |".repeat(columns));
        }
    }
}
