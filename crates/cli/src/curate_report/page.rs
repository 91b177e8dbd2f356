//! The page's order: what is said first, and what stands beside each picture for those who read tables.

use std::path::Path;

use corpus::funnel::Count;
use corpus::survey::{Distribution, Survey};
use ledger::digest::Digest;
use ledger::run::Run;
use maud::{Markup, html};

use super::samples;
use super::tables;
use super::text::{language_name, language_tag, line, visible};
use crate::args::CurateReport;
use crate::report::facts::steps;
use crate::report::funnel;
use crate::report::histogram::Histogram;
use crate::report::page::{Fact, headline};
use crate::report::scale::{bytes, count, duration, figures, percent, short};
use crate::report::shell;

/// Languages and clusters that are seen at once; the others are behind a click.
const AT_ONCE: usize = 12;
/// Bars of a histogram of scores.
const BARS: usize = 64;

/// Everything that the page shows.
pub struct Page<'a> {
    name: String,
    survey: &'a Survey,
    funnel: Vec<funnel::Step>,
    run: Option<&'a Run>,
    args: &'a CurateReport,
}

impl<'a> Page<'a> {
    /// A page about what was found in `folder`.
    pub fn new(folder: &Path, survey: &'a Survey, run: Option<&'a Run>, args: &'a CurateReport) -> Self {
        // The folder of a run is `documents` in every run.
        let named = run.map_or(folder, Run::root);
        let name = named
            .canonicalize()
            .ok()
            .and_then(|whole| Some(whole.file_name()?.to_string_lossy().into_owned()));
        let account = survey.funnel.as_ref().and_then(|funnel| serde_json::to_value(funnel).ok());
        Page {
            name: line(&name.unwrap_or_else(|| folder.display().to_string()), 80),
            survey,
            funnel: account.map(|account| steps(&account)).unwrap_or_default(),
            run,
            args,
        }
    }

    /// The page as HTML.
    pub fn render(&self) -> String {
        let sections = [
            ("funnel", "Funnel", self.funnel()),
            ("languages", "Languages", self.languages()),
            ("hosts", "Hosts", self.hosts()),
            ("lengths", "Lengths", self.lengths()),
            ("scores", "Scores", self.scores()),
            ("duplicates", "Duplicates", self.duplicates()),
            ("samples", "Samples", samples::section(self.survey, self.args.samples)),
            ("skipped", "What could not be read", self.skipped()),
            ("made", "How it was made", self.made()),
        ];
        let body = html! {
            header {
                p.over { "A curated corpus" }
                h1 { (self.name) }
                p.lead { (self.lead()) }
                (headline(&self.facts()))
                (self.faults())
                nav.contents aria-label="Sections" {
                    ul { @for (id, title, _) in &sections { li { a href={ "#" (id) } { (title) } } } }
                }
            }
            @for (id, title, body) in &sections {
                section id=(id) aria-labelledby={ "title-" (id) } {
                    h2 id={ "title-" (id) } { (title) }
                    (body)
                }
            }
        };
        let title = format!("{} · curated documents · Altiplano", self.name);
        shell::page(&title, include_str!("style.css"), Some(&samples::SCRIPT), &body)
    }

    fn lead(&self) -> String {
        let documents = self.survey.documents();
        let held = match self.survey.held_out.documents {
            0 => String::new(),
            held => format!(", {} of them held out", count(held)),
        };
        match self.funnel.first() {
            Some(first) => format!(
                "{} of {} documents were kept{held}: {} of {} of text.",
                count(documents.documents),
                count(first.documents_in),
                bytes(documents.bytes),
                bytes(first.bytes_in)
            ),
            None => {
                format!("{} documents{held}, {} of text.", count(documents.documents), bytes(documents.bytes))
            }
        }
    }

    fn facts(&self) -> Vec<Fact> {
        let survey = self.survey;
        let documents = survey.documents();
        let fact = |label: &str, value: String, note: String| Fact { label: label.to_owned(), value, note };
        let share = |part: u64, whole: u64| percent(part as f64 / whole.max(1) as f64);
        let mut facts = vec![
            fact(
                "documents",
                count(documents.documents),
                match self.funnel.first() {
                    Some(first) => {
                        format!("{} of those read", share(documents.documents, first.documents_in))
                    }
                    None => String::new(),
                },
            ),
            fact("text", bytes(documents.bytes), format!("{} characters", short(survey.characters as f64))),
        ];
        if survey.tokens.documents > 0 {
            let of = match survey.tokens.documents == documents.documents {
                true => "of all documents".to_owned(),
                false => format!("of the {} documents that were counted", count(survey.tokens.documents)),
            };
            facts.push(fact("tokens", short(survey.tokens.tokens as f64), of));
        }
        facts.push(fact(
            "languages",
            count(survey.languages.len() as u64),
            format!("{} of the text is not English", share(self.not_english().bytes, documents.bytes)),
        ));
        facts.push(fact(
            "hosts",
            count(survey.hosts.distinct),
            match survey.hosts.without.documents {
                0 => "that documents come from".to_owned(),
                without => {
                    format!("{} of the documents have no web address", share(without, documents.documents))
                }
            },
        ));
        if let Some(clusters) = &survey.clusters {
            let removed = clusters.same_url + clusters.same_text + clusters.similar_text;
            facts.push(fact(
                "duplicates",
                count(removed),
                format!("removed from {} clusters", count(clusters.clusters)),
            ));
        }
        facts
    }

    /// Text in a language that is not English; code and data have none.
    fn not_english(&self) -> Count {
        let mut sum = Count::default();
        for count in self.survey.languages.iter().filter(|(tag, _)| *tag != "en").map(|(_, count)| count) {
            sum.documents += count.documents;
            sum.bytes += count.bytes;
        }
        sum
    }

    fn faults(&self) -> Markup {
        let faults = &self.survey.faults;
        let listed = html! {
            div.scroll { table.plain { tbody {
                @for fault in &faults.listed { tr { td { code { (line(&fault.place, 200)) } } td { (line(&fault.reason, 400)) } } }
            } } }
        };
        html! {
            @if faults.count > 0 {
                div.faults role="note" {
                    p {
                        b { (count(faults.count)) @if faults.count == 1 { " place" } @else { " places" } " of this folder could not be read." }
                        " What is there is in no figure below."
                    }
                    @if faults.listed.len() <= 3 { (listed) } @else { details { summary { "Which" } (listed) } }
                }
            }
        }
    }

    fn funnel(&self) -> Markup {
        if self.funnel.is_empty() {
            return html! { p.nothing { "The folder's account of the steps, funnel.json, cannot be read." } };
        }
        let kinds = self.survey.funnel.iter().flat_map(|funnel| &funnel.kinds);
        let mut kinds: Vec<(Markup, Count)> =
            kinds.map(|(kind, count)| (html! { (line(kind, 40)) }, *count)).collect();
        kinds.sort_by_key(|(_, count)| std::cmp::Reverse(count.bytes));
        html! {
            p.say { "What each step let through, in order. Pale: what it removed, with the reason that removed most." }
            figure { (funnel::picture(&self.funnel)) }
            details { summary { "Every step in figures" } div.scroll tabindex="0" { (funnel::table(&self.funnel)) } }
            h3 { "Every reason, with its bound and paper" }
            div.scroll tabindex="0" { (tables::reasons(self.survey)) }
            @if kinds.len() > 1 {
                h3 { "Kept, by kind" }
                (tables::bars("kind", &kinds, self.survey.documents(), AT_ONCE))
            }
        }
    }

    fn languages(&self) -> Markup {
        let survey = self.survey;
        let all = survey.documents();
        let mut rows: Vec<(&String, Count)> =
            survey.languages.iter().map(|(tag, count)| (tag, *count)).collect();
        rows.sort_by(|a, b| b.1.bytes.cmp(&a.1.bytes).then(a.0.cmp(b.0)));
        let over = |share: f64| {
            rows.iter().filter(|(_, count)| count.bytes as f64 > share * all.bytes as f64).count()
        };
        let named = |tag: &str| {
            html! {
                (language_name(tag))
                @if language_tag(Some(tag)).is_some() { span.tag { (tag) } }
            }
        };
        let mut bars: Vec<(Markup, Count)> = rows.iter().map(|(tag, count)| (named(tag), *count)).collect();
        if survey.no_language.documents > 0 {
            bars.push((html! { "none" span.tag { "code, data" } }, survey.no_language));
            bars.sort_by_key(|(_, count)| std::cmp::Reverse(count.bytes));
        }
        let other = self.not_english();
        let others = rows.iter().filter(|(tag, _)| *tag != "en").count();
        let share = other.bytes as f64 / all.bytes.max(1) as f64;
        html! {
            p.say {
                (percent(share)) " of the text and " (percent(other.documents as f64 / all.documents.max(1) as f64))
                " of the documents are not English, in " (others) @if others == 1 { " language" } @else { " languages" } ". "
                "(Llama 3 was trained on over 5% of such text, in over 30 languages: "
                @if share > 0.05 && others > 30 { "so is what is trained on this." } @else { "this is less." } ") "
                "Languages with more than 5% of the text: " (over(0.05)) "; with more than 1%: " (over(0.01)) "; with more than 0.1%: "
                (over(0.001)) "."
            }
            (tables::bars("language", &bars, all, AT_ONCE))
        }
    }

    fn hosts(&self) -> Markup {
        let hosts = &self.survey.hosts;
        let all = self.survey.documents();
        let rows = |hosts: &[(String, Count)]| -> Vec<(Markup, Count)> {
            hosts.iter().map(|(host, count)| (html! { bdi { (line(host, 80)) } }, *count)).collect()
        };
        html! {
            @if hosts.distinct == 0 {
                p.nothing { "No document has a web address." }
            } @else {
                p.say {
                    "The documents come from " (count(hosts.distinct)) @if hosts.distinct == 1 { " host" } @else { " hosts" }
                    "; www. is left off."
                    @if hosts.without.documents > 0 {
                        " " (count(hosts.without.documents)) " documents (" (bytes(hosts.without.bytes)) ") have no web address."
                    }
                }
                div.pair {
                    div { h3 { "Most documents" } (tables::short_bars("host", &rows(&hosts.by_documents), all, false)) }
                    div { h3 { "Most text" } (tables::short_bars("host", &rows(&hosts.by_bytes), all, true)) }
                }
            }
        }
    }

    fn lengths(&self) -> Markup {
        let survey = self.survey;
        let tokens = survey.columns.get("token_count").filter(|tokens| tokens.count > 0);
        let mut rows = vec![("bytes", &survey.bytes), ("characters", &survey.length)];
        rows.extend(tokens.map(|tokens| ("tokens", tokens)));
        let whole = |value: f64| bytes(value.round() as u64);
        html! {
            figure {
                figcaption { "Bytes of text a document" small { "Logarithmic; dashed: a tenth, half and nine tenths of the documents are shorter" } }
                (histogram("Bytes of text a document", &survey.bytes, whole, true, 960.0))
            }
            div.scroll tabindex="0" { (tables::quantiles("a document's", &rows, |value| count(value.round() as u64))) }
        }
    }

    fn scores(&self) -> Markup {
        let columns = || self.survey.columns.iter().filter(|(name, _)| *name != "token_count");
        let rows: Vec<(&str, &Distribution)> = columns()
            .filter(|(_, column)| column.count > 0)
            .map(|(name, column)| (name.as_str(), column))
            .collect();
        let empty: Vec<&str> =
            columns().filter(|(_, column)| column.count == 0).map(|(name, _)| name.as_str()).collect();
        html! {
            p.say {
                "The documents' columns of numbers. " code { "lang_score" } " says how sure the language is, " code { "quality" }
                " by how much a document passes the rules that it passes least, and " code { "score_…" } " what a classifier thinks of it."
            }
            @if rows.is_empty() { p.nothing { "No document has a score." } }
            div.many {
                @for (name, column) in &rows {
                    figure {
                        figcaption { code { (line(name, 60)) } small { (about(column)) } }
                        (histogram(name, column, figures, column.is_skewed(), 340.0))
                    }
                }
            }
            @if !rows.is_empty() { div.scroll tabindex="0" { (tables::quantiles("column", &rows, score)) } }
            @if !empty.is_empty() {
                p.say { "No document has a value in " @for (at, name) in empty.iter().enumerate() { @if at > 0 { ", " } code { (line(name, 60)) } } "." }
            }
        }
    }

    fn duplicates(&self) -> Markup {
        let Some(clusters) = &self.survey.clusters else {
            return html! { p.nothing { "The folder's list of clusters, clusters.jsonl, cannot be read." } };
        };
        if clusters.clusters == 0 {
            return html! { p.nothing { "No duplicates were found." } };
        }
        html! {
            p.say {
                (count(clusters.clusters)) " documents stand for others that were removed: "
                (count(clusters.same_url)) " of the same address, " (count(clusters.same_text)) " of the same text and "
                (count(clusters.similar_text)) " of nearly the same text."
            }
            h3 { "Clusters by size" }
            (tables::cluster_sizes(clusters))
            h3 { "The largest" }
            div.scroll tabindex="0" { (tables::largest_clusters(clusters)) }
        }
    }

    fn skipped(&self) -> Markup {
        let Some(funnel) = &self.survey.funnel else {
            return html! { p.nothing { "The folder's account of what was read, funnel.json, cannot be read." } };
        };
        let skipped = funnel.skipped.count;
        html! {
            p.say {
                (count(funnel.inputs)) @if funnel.inputs == 1 { " file was" } @else { " files were" } " read. "
                @if skipped == 0 { "Nothing in them was unreadable." }
                @else { (count(skipped)) @if skipped == 1 { " input, or place in one, was" } @else { " inputs, or places in them, were" } " left out; skipped.jsonl lists them." }
            }
            @if !self.survey.skipped.is_empty() {
                div.scroll tabindex="0" { table.plain {
                    thead { tr { th scope="col" { "why" } th.number scope="col" { "times" } th scope="col" { "for example" } } }
                    tbody { @for (input, times) in &self.survey.skipped {
                        tr { td { (line(&input.reason, 300)) } td.number { (count(*times)) } td { code.lines { (line(&input.place, 200)) } } }
                    } }
                } }
            }
            @if !funnel.ignored.is_empty() {
                p.say {
                    "Seen, and no documents by their kind: "
                    @for (at, (kind, times)) in funnel.ignored.iter().enumerate() { @if at > 0 { ", " } (line(kind, 40)) " " (count(*times)) }
                    "."
                }
            }
        }
    }

    fn made(&self) -> Markup {
        let survey = self.survey;
        let mut rows: Vec<(&str, String)> = Vec::new();
        if let Some(ended) = survey.ended {
            let time = ledger::clock::rfc3339(ended);
            rows.push(("curated", format!("{} UTC", time.get(..19).unwrap_or(&time).replace('T', " "))));
        }
        rows.push((
            "documents",
            format!("{} Parquet files, {} on the disk", count(survey.files), bytes(survey.file_bytes)),
        ));
        let mut settings = None;
        if let Some(made) = &survey.made {
            rows.push(("sources", made.sources.join("\n")));
            rows.push(("seed", made.seed.to_string()));
            settings = serde_json::to_string_pretty(&made.settings).ok();
            rows.extend(
                Digest::of_value(&made.settings).ok().map(|digest| ("settings (BLAKE3)", digest.to_string())),
            );
        }
        if let Some((run, stage)) = self.run.and_then(|run| Some((run, run.stage("curate")?))) {
            let inputs = stage.inputs.iter().map(|(name, digest)| format!("{name}: {digest}"));
            rows.push(("inputs (BLAKE3)", inputs.collect::<Vec<_>>().join("\n")));
            rows.extend(stage.outputs.values().map(|digest| ("documents (BLAKE3)", digest.to_string())));
            rows.push(("took", duration(stage.seconds)));
            rows.push(("commit", run.manifest().commit.clone()));
        }
        rows.push((
            "this page",
            format!(
                "alti curate report {} --samples {} --seed {}",
                self.args.folder.display(),
                self.args.samples,
                self.args.seed
            ),
        ));
        html! {
            table { tbody {
                @for (label, value) in &rows { tr { td.what { (label) } td { code.lines { (visible(value)) } } } }
            } }
            @if let Some(settings) = settings {
                details { summary { "Every setting of the curation" } pre tabindex="0" { (visible(&settings)) } }
            }
        }
    }
}

/// Four decimals where three figures would make one value of many.
fn score(value: f64) -> String {
    if !(1e-3..10.0).contains(&value.abs()) {
        return figures(value);
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn about(column: &Distribution) -> String {
    let mut parts = vec![format!("{} documents", count(column.count))];
    if column.missing > 0 {
        parts.push(format!("{} without", count(column.missing)));
    }
    if column.not_finite > 0 {
        parts.push(format!("{} not numbers", count(column.not_finite)));
    }
    parts.join(", ")
}

/// A distribution as a picture, with its median and outer tenths.
fn histogram(
    title: &str,
    values: &Distribution,
    format: fn(f64) -> String,
    logarithmic: bool,
    width: f64,
) -> Markup {
    if let Some((least, _)) = values.extent.filter(|(least, greatest)| least == greatest) {
        return html! { p.say { "Every value is " (format(least)) "." } };
    }
    let bins = if logarithmic { values.ratio_bins(4) } else { values.equal_bins(BARS) };
    let wide = width > 700.0;
    let marks =
        [(0.1, "10%"), (0.5, "median"), (0.9, "90%")].into_iter().filter(|(share, _)| wide || *share == 0.5);
    let plot = Histogram {
        title: format!("{}: histogram; the table below has its quantiles", line(title, 60)),
        x_format: format,
        x_logarithmic: logarithmic,
        marks: marks.filter_map(|(share, word)| Some((values.quantile(share)?, word))).collect(),
        width,
        height: if wide { 280.0 } else { 200.0 },
        ..Histogram::default()
    };
    plot.draw(&bins)
}
