//! The picture of a comparison: a bar for each language of each domain, to the left where fewer tokens are needed. A page
//! with its style inside, or the picture alone.

use std::path::Path;

use maud::{Markup, html};

use super::compare::{ALL, Comparison, Row, said};
use crate::errors::Error;
use crate::report::scale::{Scale, round_ticks};
use crate::report::shell;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A page.
    Html,
    /// The picture alone.
    Svg,
}

impl Form {
    /// By the ending of the file's name.
    pub(super) fn of(path: &Path) -> Result<Form, Error> {
        match path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).as_deref() {
            Some("html" | "htm") => Ok(Form::Html),
            Some("svg") => Ok(Form::Svg),
            _ => Err(Error::Usage {
                message: format!("--plot {}: a picture of this kind is not drawn", path.display()),
                hint: "name a file that ends in .html or .svg".to_owned(),
            }),
        }
    }
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 86.0;
const TOP: f64 = 30.0;
const LINE: f64 = 19.0;
/// Between domains.
const GAP: f64 = 12.0;

/// Beside the report's style: bars by their sign, and an own font for a picture that stands alone.
const STYLE: &str = "svg .fewer { fill: var(--two); } svg .more { fill: var(--one); } svg .sum { font-weight: 650; } \
                     svg .zero { stroke: var(--ink); stroke-width: 1.2; }";

/// The page or the picture.
pub(super) fn draw(comparison: &Comparison, form: Form) -> String {
    let style = format!("{}\n{STYLE}", include_str!("../report/style.css"));
    let picture = picture(comparison);
    let [a, b] = &comparison.names;
    match form {
        Form::Svg => {
            let text = html! { (picture) }.into_string();
            // A picture of its own says what it is and brings its colours along.
            let begin = "<svg class=\"plot\"";
            let alone = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\" width=\"{WIDTH}\"");
            let text = text.replacen(begin, &alone, 1);
            let at = text.find('>').map_or(text.len(), |at| at + 1);
            let (head, body) = text.split_at(at);
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{head}<style>{style}</style>{body}\n")
        }
        Form::Html => {
            let body = html! {
                header {
                    p.over { "Tokenizers" }
                    h1 { (a) " and " (b) }
                    p.lead { (comparison.verdict()) }
                }
                figure {
                    figcaption {
                        "Tokens of " (a) " beside those of " (b)
                        small { "To the left it needs fewer for the same text, to the right more." }
                    }
                    (picture)
                }
                (table(comparison))
            };
            shell::page(&format!("{a} and {b} · Altiplano"), STYLE, None, &body)
        }
    }
}

fn picture(comparison: &Comparison) -> Markup {
    let rows: Vec<Row> = comparison.with_sums().into_iter().filter(|row| row.change().is_some()).collect();
    if rows.is_empty() {
        return html! { p.nothing { "There was no text to compare." } };
    }
    let changes = || rows.iter().filter_map(Row::change).map(|change| 100.0 * change);
    let ticks = round_ticks(changes().fold(0.0, f64::min), changes().fold(0.0, f64::max), 6);
    let x = Scale::linear(ticks[0], ticks[ticks.len() - 1], LEFT, WIDTH - RIGHT);
    let mut places = Vec::new();
    let mut at = TOP;
    for (index, row) in rows.iter().enumerate() {
        if index > 0 && rows[index - 1].domain != row.domain {
            at += GAP;
        }
        places.push(at);
        at += LINE;
    }
    let height = at + 26.0;
    let [a, b] = &comparison.names;
    let title = format!("Tokens of {a} beside those of {b}, by domain and language");
    html! {
        svg.plot viewBox={ "0 0 " (WIDTH) " " (px(height)) } role="img" aria-label=(title) {
            @for &tick in &ticks {
                line.grid x1=(px(x.at(tick))) x2=(px(x.at(tick))) y1=(TOP - 6.0) y2=(px(at)) {}
                text.tick x=(px(x.at(tick))) y=(px(at + 16.0)) text-anchor="middle" { (format!("{tick:+}%")) }
            }
            text.axis-label x=(LEFT) y="14" { "tokens of " (a) " to those of " (b) }
            @for (row, &y) in rows.iter().zip(&places) {
                (bar(row, &x, y))
            }
            line.zero x1=(px(x.at(0.0))) x2=(px(x.at(0.0))) y1=(TOP - 6.0) y2=(px(at)) {}
        }
    }
}

fn bar(row: &Row, x: &Scale, y: f64) -> Markup {
    let change = row.change().unwrap_or(0.0);
    let (zero, end) = (x.at(0.0), x.at(100.0 * change));
    let fewer = change < 0.0;
    let name =
        if row.domain == ALL { "all texts".to_owned() } else { format!("{}, {}", row.domain, row.language) };
    let class = if row.language == ALL { "key sum" } else { "key" };
    html! {
        text class=(class) x=(LEFT - 12.0) y=(px(y + 11.0)) text-anchor="end" { (name) }
        rect class=(if fewer { "fewer" } else { "more" }) x=(px(zero.min(end))) y=(px(y + 1.0))
            width=(px((end - zero).abs())) height=(px(LINE - 6.0)) {
            title { (name) ": " (said(change)) }
        }
        text.tick x=(px(if fewer { zero + 6.0 } else { end + 6.0 })) y=(px(y + 11.0)) { (said(change)) }
    }
}

fn table(comparison: &Comparison) -> Markup {
    let [a, b] = &comparison.names;
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
    html! {
        div.scroll {
            table {
                tr {
                    th { "domain" } th { "language" }
                    th.number { "bytes/token: " (a) } th.number { (b) }
                    th.number { "tokens/word: " (a) } th.number { (b) }
                    th.number { "tokens" }
                }
                @for row in comparison.with_sums() {
                    tr {
                        td { (row.domain) } td { (row.language) }
                        td.number { (number(row.bytes_per_token(0))) } td.number { (number(row.bytes_per_token(1))) }
                        td.number { (number(row.fertility(0))) } td.number { (number(row.fertility(1))) }
                        td.number { (row.change().map_or_else(|| "–".to_owned(), said)) }
                    }
                }
            }
        }
    }
}

/// One decimal is finer than a screen.
fn px(value: f64) -> f64 {
    (10.0 * value).round() / 10.0
}
