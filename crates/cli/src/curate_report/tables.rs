//! The page's tables, those with bars in them too: such a table is the picture and the figures at once.

use corpus::FunnelStep;
use corpus::funnel::Count;
use corpus::survey::{Clusters, Distribution, Reason, Survey};
use maud::{Markup, html};

use super::text::{language_tag, line};
use crate::report::facts::readable;
use crate::report::scale::{bytes, count, figures, percent};

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// A bar of this share of the widest.
fn bar(share: f64) -> Markup {
    html! { td.bar aria-hidden="true" { span style={ "width:" (format!("{:.2}", 100.0 * share.clamp(0.0, 1.0))) "%" } {} } }
}

/// Documents and text by something, with a bar for the text; after `at_once` rows the others are behind a click.
pub fn bars(what: &str, rows: &[(Markup, Count)], all: Count, at_once: usize) -> Markup {
    let widest = rows.iter().map(|(_, count)| count.bytes).max().unwrap_or(0);
    let table = |rows: &[(Markup, Count)]| {
        html! {
            div.scroll tabindex="0" { table.bars {
                thead { tr {
                    th scope="col" { (what) } th.number scope="col" { "documents" } th.number.less scope="col" { "share" }
                    th.number scope="col" { "text" } th.number scope="col" { "share" } th aria-hidden="true" {}
                } }
                tbody { @for (name, row) in rows {
                    tr {
                        th.name scope="row" { (name) }
                        td.number { (count(row.documents)) }
                        td.number.less { (percent(share(row.documents, all.documents))) }
                        td.number { (bytes(row.bytes)) }
                        td.number { (percent(share(row.bytes, all.bytes))) }
                        (bar(share(row.bytes, widest)))
                    }
                } }
            } }
        }
    };
    // A few more need no click.
    let cut = if rows.len() <= at_once + 3 { rows.len() } else { at_once };
    html! {
        @if rows.is_empty() { p.nothing { "There is no document to count." } } @else { (table(&rows[..cut])) }
        @if cut < rows.len() {
            @let rest = rows[cut..].iter().map(|(_, count)| count.bytes).sum::<u64>();
            details {
                summary { (rows.len() - cut) " more, with " (percent(share(rest, all.bytes))) " of the text" }
                (table(&rows[cut..]))
            }
        }
    }
}

/// As [`bars`], of one figure alone.
pub fn short_bars(what: &str, rows: &[(Markup, Count)], all: Count, by_text: bool) -> Markup {
    let figure = |row: &Count| if by_text { row.bytes } else { row.documents };
    let widest = rows.iter().map(|(_, count)| figure(count)).max().unwrap_or(0);
    html! {
        table.bars {
            thead { tr {
                th scope="col" { (what) }
                th.number scope="col" { @if by_text { "text" } @else { "documents" } }
                th.number scope="col" { "share" } th aria-hidden="true" {}
            } }
            tbody { @for (name, row) in rows {
                tr {
                    th.name scope="row" { (name) }
                    td.number { @if by_text { (bytes(row.bytes)) } @else { (count(row.documents)) } }
                    td.number { (percent(share(figure(row), figure(&all)))) }
                    (bar(share(figure(row), widest)))
                }
            } }
        }
    }
}

/// Every step's reasons: how many documents, of how many, which bound, which paper.
pub fn reasons(survey: &Survey) -> Markup {
    let steps = survey.funnel.iter().flat_map(|funnel| &funnel.steps);
    let steps: Vec<&FunnelStep> =
        steps.filter(|step| !step.removed.is_empty() || !step.edits.is_empty()).collect();
    html! {
        @if steps.is_empty() { p.nothing { "No step removed or changed anything." } }
        table.plain {
            thead { tr {
                th scope="col" { "reason" } th.number scope="col" { "documents" } th.number scope="col" { "of those that came" }
                th.number scope="col" { "bound" } th.number scope="col" { "broken by" } th scope="col" { "paper" }
            } }
            @for step in steps { tbody {
                @let gone = step.documents_in.saturating_sub(step.documents_out);
                tr.of { th colspan="6" scope="rowgroup" {
                    (readable(&step.name))
                    span {
                        (count(step.documents_in)) " came, " (count(gone)) " went (" (percent(share(gone, step.documents_in))) ")"
                    }
                } }
                @for (reason, documents) in most_frequent(step) {
                    @let seen = seen(survey, &step.name, reason);
                    tr {
                        th scope="row" { (readable(&line(reason, 80))) }
                        td.number { (count(*documents)) }
                        td.number { (percent(share(*documents, step.documents_in))) }
                        td.number { (seen.and_then(bound).unwrap_or_else(|| "–".to_owned())) }
                        td.number { (seen.and_then(|reason| reason.value).map_or_else(|| "–".to_owned(), span)) }
                        td.paper { (paper(step, reason, seen)) }
                    }
                }
                @for (edit, times) in &step.edits {
                    tr {
                        th scope="row" { (readable(&line(edit, 80))) span.tag { "changed" } }
                        td.number { (count(*times)) } td.number { "–" } td.number { "–" } td.number { "–" } td.paper {}
                    }
                }
            } }
        }
    }
}

fn most_frequent(step: &FunnelStep) -> Vec<(&String, &u64)> {
    let mut reasons: Vec<(&String, &u64)> = step.removed.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    reasons
}

fn seen<'s>(survey: &'s Survey, step: &str, reason: &str) -> Option<&'s Reason> {
    survey.removed.iter().flatten().find(|by| by.step == step)?.reasons.get(reason)
}

fn paper<'s>(step: &'s FunnelStep, reason: &str, seen: Option<&'s Reason>) -> &'s str {
    let own = step.papers.get(reason).map(String::as_str);
    own.or_else(|| Some(seen?.paper.as_str())).unwrap_or_default()
}

/// The bound, as the values that broke it tell: at most or at least.
fn bound(reason: &Reason) -> Option<String> {
    let (low, high) = reason.limit?;
    let side = match reason.value {
        Some((least, _)) if least >= high => "≤ ",
        Some((_, greatest)) if greatest <= low => "≥ ",
        _ => "",
    };
    Some(format!("{side}{}", span((low, high))))
}

fn span((low, high): (f64, f64)) -> String {
    let (low, high) = (figures(low), figures(high));
    if low == high { low } else { format!("{low} to {high}") }
}

/// Columns beside one another by their quantiles.
pub fn quantiles(what: &str, rows: &[(&str, &Distribution)], format: fn(f64) -> String) -> Markup {
    let shares = [(0.05, "5%"), (0.25, "25%"), (0.5, "median"), (0.75, "75%"), (0.95, "95%")];
    let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), format);
    html! {
        table.plain {
            thead { tr {
                th scope="col" { (what) } th.number scope="col" { "documents" } th.number scope="col" { "least" }
                @for (_, name) in shares { th.number scope="col" { (name) } }
                th.number scope="col" { "greatest" } th.number scope="col" { "mean" }
            } }
            tbody { @for (name, column) in rows {
                tr {
                    th scope="row" { (line(name, 60)) }
                    td.number { (count(column.count)) }
                    td.number { (cell(column.extent.map(|extent| extent.0))) }
                    @for (share, _) in shares { td.number { (cell(column.quantile(share))) } }
                    td.number { (cell(column.extent.map(|extent| extent.1))) }
                    td.number { (cell(column.mean())) }
                }
            } }
        }
    }
}

/// Clusters of 2, 3 to 4, 5 to 8 … documents.
pub fn cluster_sizes(clusters: &Clusters) -> Markup {
    let widest = clusters.sizes.values().map(|(many, _)| *many).max().unwrap_or(0);
    html! {
        table.bars {
            thead { tr {
                th scope="col" { "documents in a cluster" } th.number scope="col" { "clusters" } th.number scope="col" { "removed" }
                th aria-hidden="true" {}
            } }
            tbody { @for (most, (many, removed)) in &clusters.sizes {
                tr {
                    th.name scope="row" { @if *most > 2 { (count(most / 2 + 1)) " to " } (count(*most)) }
                    td.number { (count(*many)) } td.number { (count(*removed)) }
                    (bar(share(*many, widest)))
                }
            } }
        }
    }
}

/// The largest clusters, with the beginning of the document that stayed.
pub fn largest_clusters(clusters: &Clusters) -> Markup {
    html! {
        table.plain {
            thead { tr {
                th.number scope="col" { "removed" } th.number scope="col" { "same address" } th.number scope="col" { "same text" }
                th.number scope="col" { "similar text" } th scope="col" { "for this one" }
            } }
            tbody { @for cluster in &clusters.largest {
                tr {
                    td.number { (count(cluster.removed())) } td.number { (count(cluster.same_url)) }
                    td.number { (count(cluster.same_text)) } td.number { (count(cluster.similar_text)) }
                    td.stays { div.cluster {
                        @match &cluster.document {
                            Some(document) => {
                                bdi { (line(document.url.as_deref().unwrap_or(&document.source), 120)) } br;
                                b dir="auto" lang=[language_tag(document.lang.as_deref())] { (beginning(&document.text)) }
                            }
                            None => { bdi { (line(&cluster.source, 120)) } br; "A later step removed it." }
                        }
                    } }
                }
            } }
        }
    }
}

fn beginning(text: &str) -> String {
    line(text.trim_start(), 160)
}
