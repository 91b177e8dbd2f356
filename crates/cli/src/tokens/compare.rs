//! `alti tokenizer compare`: how many tokens two tokenizers need for the same texts, by domain and language.

use std::ops::ControlFlow;
use std::path::Path;

use corpus::kind::Class;
use corpus::{Settings, Source, Text, TextSink, Texts};
use ledger::progress::{Progress, Unit};
use owo_colors::OwoColorize;
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizer::AnyTokenizer;

use super::plot;
use crate::args::TokenizerCompare;
use crate::errors::Error;
use crate::open;
use crate::progress::Shown;
use crate::report::scale::{bytes, count, percent};

/// Of the JSON. A number that changes its meaning raises it.
const VERSION: u32 = 1;
/// Text that is held at once.
const BATCH_BYTES: usize = 16 << 20;
/// What stands for all languages or all domains.
pub(super) const ALL: &str = "all";

/// Two tokenizers and what they made of the texts.
pub(super) struct Comparison {
    pub names: [String; 2],
    tokenizers: [AnyTokenizer; 2],
    pub rows: Vec<Row>,
    /// By token: whether any text had it.
    used: [Vec<bool>; 2],
    skipped: u64,
}

/// The texts of one language in one domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub domain: String,
    pub language: String,
    documents: u64,
    bytes: u64,
    words: u64,
    /// Of both tokenizers.
    tokens: [u64; 2],
}

/// A source with what was said of it.
#[derive(Debug, PartialEq)]
struct Labelled {
    domain: Option<String>,
    language: Option<String>,
    source: Source,
}

/// `alti tokenizer compare`.
pub fn compare(args: &TokenizerCompare, shown: &Shown) -> Result<(), Error> {
    let form = args.plot.as_deref().map(|path| plot::Form::of(path).map(|form| (path, form))).transpose()?;
    let sources: Vec<Labelled> = args.sources.iter().map(|given| parse(given)).collect::<Result<_, _>>()?;
    let paths = [args.tokenizer.as_path(), &args.against];
    let tokenizers = [open::any_tokenizer(paths[0])?, open::any_tokenizer(paths[1])?];
    let mut comparison = Comparison {
        names: names(paths),
        used: tokenizers.each_ref().map(|tokenizer| vec![false; tokenizer.vocab_size()]),
        tokenizers,
        rows: Vec::new(),
        skipped: 0,
    };
    for source in &sources {
        comparison.read(source, shown)?;
    }
    comparison.sort();
    if let Some((path, form)) = form {
        ledger::atomic::write(path, plot::draw(&comparison, form).as_bytes())?;
    }
    if args.json {
        anstream::println!("{:#}", comparison.json());
    } else {
        anstream::print!("{}", comparison.page());
    }
    if let Some((path, _)) = form {
        shown.line(&format!("drawn into {}", path.display()));
    }
    Ok(())
}

/// `[DOMAIN[/LANGUAGE]=]PATH`. What exists as it stands is a path.
fn parse(given: &str) -> Result<Labelled, Error> {
    let Some((label, path)) = given.split_once('=').filter(|_| !Path::new(given).exists()) else {
        return Ok(Labelled { domain: None, language: None, source: Source::parse(given)? });
    };
    let (domain, language) = match label.split_once('/') {
        Some((domain, language)) => (domain, Some(language)),
        None => (label, None),
    };
    if domain.is_empty() || language.is_some_and(|language| language.is_empty() || language.contains('/')) {
        return Err(Error::Usage {
            message: format!("--source {given}: {label:?} is neither a domain nor a domain and a language"),
            hint: "write --source DOMAIN=PATH or --source DOMAIN/LANGUAGE=PATH".to_owned(),
        });
    }
    Ok(Labelled {
        domain: Some(domain.to_owned()),
        language: language.map(str::to_owned),
        source: Source::parse(path)?,
    })
}

/// Short names for both: a file's folder, where that tells them apart.
fn names(paths: [&Path; 2]) -> [String; 2] {
    let short = |path: &Path| {
        let of_file = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("tokenizer.");
        let named = match path.file_name() {
            Some(name) if of_file(name) => path.parent().and_then(Path::file_name),
            name => name,
        };
        named.map(|name| name.to_string_lossy().into_owned())
    };
    match paths.map(short) {
        [Some(a), Some(b)] if a != b => [a, b],
        _ => paths.map(|path| path.display().to_string()),
    }
}

/// What a text counts as where nothing was said.
fn domain_of(class: Class) -> &'static str {
    match class {
        Class::Web => "web",
        Class::Prose => "prose",
        Class::Documentation => "documentation",
        Class::Code => "code",
        Class::Data => "data",
    }
}

/// What one text comes to: its row, and the tokens that it has.
struct Counted {
    row: Row,
    ids: [Vec<u32>; 2],
}

/// Gathers texts into batches and has them counted.
struct Batches<'a> {
    comparison: &'a mut Comparison,
    from: &'a Labelled,
    batch: Vec<Text>,
    held: usize,
    documents: u64,
    skipped: u64,
    /// What was left out first, and why.
    example: Option<String>,
}

impl Batches<'_> {
    fn count(&mut self) {
        self.comparison.add(self.from, &self.batch);
        self.batch.clear();
        self.held = 0;
    }
}

impl TextSink for Batches<'_> {
    fn text(&mut self, text: Text) -> ControlFlow<()> {
        self.documents += 1;
        self.held += text.text.len();
        self.batch.push(text);
        if self.held >= BATCH_BYTES {
            self.count();
        }
        ControlFlow::Continue(())
    }

    fn skip(&mut self, place: String, reason: String) -> ControlFlow<()> {
        self.skipped += 1;
        self.example.get_or_insert_with(|| format!("{place}: {reason}"));
        ControlFlow::Continue(())
    }

    fn inputs_done(&mut self, _inputs: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Comparison {
    fn read(&mut self, from: &Labelled, shown: &Shown) -> Result<(), Error> {
        let texts = Texts::find(std::slice::from_ref(&from.source), &Settings::default(), &[])?;
        let mut batches = Batches {
            comparison: self,
            from,
            batch: Vec::new(),
            held: 0,
            documents: 0,
            skipped: 0,
            example: None,
        };
        for skipped in texts.skipped() {
            let _ = batches.skip(skipped.place.clone(), skipped.reason.clone());
        }
        let task = shown.begin("reading texts", Some(texts.bytes()), Unit::Bytes);
        let _ = texts.read(0, 0, task.as_ref(), &mut batches)?;
        drop(task);
        batches.count();
        let Batches { documents, skipped, example, .. } = batches;
        if documents == 0 {
            let details = example.map(|example| format!(", first {example}")).unwrap_or_default();
            let sources = from.source.to_string();
            return Err(corpus::Error::NothingReadable { sources, skipped, details }.into());
        }
        if let Some(example) = example {
            shown.line(&format!("  left out {} of {}, such as {example}", count(skipped), from.source));
        }
        self.skipped += skipped;
        Ok(())
    }

    fn add(&mut self, from: &Labelled, texts: &[Text]) {
        let tokenizers = &self.tokenizers;
        let counted: Vec<Counted> = texts.par_iter().map(|text| counted(tokenizers, from, text)).collect();
        for Counted { row, ids } in counted {
            for (used, ids) in self.used.iter_mut().zip(ids) {
                ids.iter().for_each(|&id| used[id as usize] = true);
            }
            let same = |own: &&mut Row| own.domain == row.domain && own.language == row.language;
            match self.rows.iter_mut().find(same) {
                Some(own) => own.merge(&row),
                None => self.rows.push(row),
            }
        }
    }

    /// Domains in the order in which they came, in each the languages with the largest saving first.
    fn sort(&mut self) {
        let mut domains: Vec<String> = Vec::new();
        for row in &self.rows {
            if !domains.contains(&row.domain) {
                domains.push(row.domain.clone());
            }
        }
        let place = |row: &Row| domains.iter().position(|domain| *domain == row.domain);
        self.rows.sort_by(|a, b| {
            let by_change = a.change().unwrap_or(0.0).total_cmp(&b.change().unwrap_or(0.0));
            place(a).cmp(&place(b)).then(by_change).then_with(|| a.language.cmp(&b.language))
        });
    }

    /// The rows, after those of a domain with several languages their sum, and the sum of all.
    pub(super) fn with_sums(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let sum = |of: &[Row], domain: &str| {
            let mut sum = Row { domain: domain.to_owned(), language: ALL.to_owned(), ..Row::default() };
            of.iter().for_each(|row| sum.merge(row));
            sum
        };
        for domain in self.rows.chunk_by(|a, b| a.domain == b.domain) {
            rows.extend_from_slice(domain);
            if let [first, _, ..] = domain {
                rows.push(sum(domain, &first.domain));
            }
        }
        if self.rows.first().map(|row| &row.domain) != self.rows.last().map(|row| &row.domain) {
            rows.push(sum(&self.rows, ALL));
        }
        rows
    }

    fn vocabularies(&self) -> [Vocabulary; 2] {
        [0, 1].map(|which| {
            let tokenizer = &self.tokenizers[which];
            let special = |id: usize| tokenizer.is_special(id as u32);
            let used =
                self.used[which].iter().enumerate().filter(|(id, used)| **used && !special(*id)).count();
            Vocabulary { tokens: tokenizer.text_tokens(), used }
        })
    }

    /// In words, for what holds where: least and most of the differences.
    pub(super) fn verdict(&self) -> String {
        let [a, b] = &self.names;
        let mut changes: Vec<(f64, &Row)> =
            self.rows.iter().filter_map(|row| Some((row.change()?, row))).collect();
        changes.sort_by(|one, other| one.0.total_cmp(&other.0));
        let called = |row: &Row| format!("{}, {}", row.domain, row.language);
        match (changes.as_slice(), changes.len()) {
            ([], _) => "There was no text to compare.".to_owned(),
            ([(change, row)], _) => format!("{a} needs {} tokens than {b} ({}).", said(*change), called(row)),
            ([(least, first), .., (most, last)], rows) => {
                let fewer = changes.iter().filter(|(change, _)| *change < 0.0).count();
                format!(
                    "{a} needs fewer tokens than {b} in {fewer} of {rows} lines: from {} ({}) to {} ({}).",
                    said(*least),
                    called(first),
                    said(*most),
                    called(last)
                )
            }
        }
    }

    fn page(&self) -> String {
        let mut page = String::new();
        for (letter, (name, tokenizer)) in ["A", "B"].iter().zip(self.names.iter().zip(&self.tokenizers)) {
            page.push_str(&format!(
                "{}  {}: {}, {} tokens\n",
                letter.bold(),
                name.bold(),
                tokenizer.description(),
                count(tokenizer.vocab_size() as u64)
            ));
        }
        page.push('\n');
        let heading = [
            "domain",
            "language",
            "size",
            "words",
            "A bytes/token",
            "B",
            "A tokens/word",
            "B",
            "tokens of A to B",
        ];
        let mut table: Vec<Vec<String>> = vec![heading.map(str::to_owned).to_vec()];
        let rows = self.with_sums();
        for row in &rows {
            let each =
                |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
            table.push(vec![
                row.domain.clone(),
                row.language.clone(),
                bytes(row.bytes),
                count(row.words),
                each(row.bytes_per_token(0)),
                each(row.bytes_per_token(1)),
                each(row.fertility(0)),
                each(row.fertility(1)),
                row.change().map_or_else(|| "–".to_owned(), said),
            ]);
        }
        let widths: Vec<usize> = (0..heading.len())
            .map(|column| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for (number, cells) in table.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
                line.push_str(&if column < 2 {
                    format!("{cell:width$}  ")
                } else {
                    format!("{cell:>width$}  ")
                });
            }
            let line = line.trim_end();
            let sum = number > 0 && rows[number - 1].language == ALL;
            let line = match number {
                0 => line.dimmed().to_string(),
                _ if sum => line.bold().to_string(),
                _ => line.to_owned(),
            };
            page.push_str(&format!("{line}\n"));
        }
        page.push('\n');
        for (name, vocabulary) in self.names.iter().zip(self.vocabularies()) {
            page.push_str(&format!(
                "{name}: {} of {} tokens had no use ({})\n",
                count(vocabulary.unused() as u64),
                count(vocabulary.tokens as u64),
                percent(vocabulary.unused_share())
            ));
        }
        page.push_str(&format!("{}\n", self.verdict()));
        page
    }

    fn json(&self) -> Value {
        let tokenizers: Vec<Value> = (self.names.iter().zip(&self.tokenizers))
            .zip(self.vocabularies())
            .map(|((name, tokenizer), vocabulary)| {
                json!({
                    "name": name,
                    "description": tokenizer.description(),
                    "vocab_size": tokenizer.vocab_size(),
                    "text_tokens": vocabulary.tokens,
                    "unused_tokens": vocabulary.unused(),
                    "unused_share": vocabulary.unused_share(),
                })
            })
            .collect();
        let mut all = Row { domain: ALL.to_owned(), language: ALL.to_owned(), ..Row::default() };
        self.rows.iter().for_each(|row| all.merge(row));
        json!({
            "compare": "tokenizers",
            "version": VERSION,
            "tokenizers": tokenizers,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "all": all.json(),
            "skipped": self.skipped,
        })
    }
}

fn counted(tokenizers: &[AnyTokenizer; 2], from: &Labelled, text: &Text) -> Counted {
    let class = text.kind.class;
    let ids = tokenizers.each_ref().map(|tokenizer| tokenizer.encode(&text.text));
    let language = || match class {
        Class::Code | Class::Data => text.kind.label,
        _ => corpus::steps::language::detect(&text.text).map_or("unknown", |(language, _)| language),
    };
    let row = Row {
        domain: from.domain.clone().unwrap_or_else(|| domain_of(class).to_owned()),
        language: from.language.clone().unwrap_or_else(|| language().to_owned()),
        documents: 1,
        bytes: text.text.len() as u64,
        words: corpus::count_words(&text.text) as u64,
        tokens: ids.each_ref().map(|ids| ids.len() as u64),
    };
    Counted { row, ids }
}

/// How a vocabulary was used.
struct Vocabulary {
    /// Tokens that a text can have.
    tokens: usize,
    used: usize,
}

impl Vocabulary {
    fn unused(&self) -> usize {
        self.tokens.saturating_sub(self.used)
    }

    fn unused_share(&self) -> f64 {
        self.unused() as f64 / self.tokens.max(1) as f64
    }
}

impl Row {
    fn merge(&mut self, other: &Row) {
        self.documents += other.documents;
        self.bytes += other.bytes;
        self.words += other.words;
        for (own, other) in self.tokens.iter_mut().zip(other.tokens) {
            *own += other;
        }
    }

    pub(super) fn bytes_per_token(&self, which: usize) -> Option<f64> {
        (self.tokens[which] > 0).then(|| self.bytes as f64 / self.tokens[which] as f64)
    }

    /// Tokens a word.
    pub(super) fn fertility(&self, which: usize) -> Option<f64> {
        (self.words > 0).then(|| self.tokens[which] as f64 / self.words as f64)
    }

    /// How many more tokens the first needs than the second, as a share of the second's; below zero it needs fewer.
    pub(super) fn change(&self) -> Option<f64> {
        let [a, b] = self.tokens;
        (b > 0).then(|| a as f64 / b as f64 - 1.0)
    }

    fn json(&self) -> Value {
        json!({
            "domain": self.domain,
            "language": self.language,
            "documents": self.documents,
            "bytes": self.bytes,
            "words": self.words,
            "tokens": self.tokens,
            "bytes_per_token": [self.bytes_per_token(0), self.bytes_per_token(1)],
            "tokens_per_word": [self.fertility(0), self.fertility(1)],
            "change": self.change(),
        })
    }
}

/// `15.3% fewer`, `8.1% more`, `as many`.
pub(super) fn said(change: f64) -> String {
    let size = format!("{:.1}%", 100.0 * change.abs());
    match change {
        _ if change.abs() < 0.0005 => "as many".to_owned(),
        change if change < 0.0 => format!("{size} fewer"),
        _ => format!("{size} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_go_before_paths() {
        let check = |given: &str, domain: Option<&str>, language: Option<&str>, path: &str| {
            let found = parse(given).unwrap();
            let wanted = Labelled {
                domain: domain.map(str::to_owned),
                language: language.map(str::to_owned),
                source: Source::parse(path).unwrap(),
            };
            assert_eq!(found, wanted, "{given}");
        };
        check("a/b.txt", None, None, "a/b.txt");
        check("papers=a/b.txt", Some("papers"), None, "a/b.txt");
        check("papers/en=a=b.txt", Some("papers"), Some("en"), "a=b.txt");
        for wrong in ["=a", "/en=a", "a/=b", "a/b/c=d"] {
            assert!(parse(wrong).unwrap_err().hint().unwrap().contains("DOMAIN/LANGUAGE"), "{wrong}");
        }
    }

    #[test]
    fn names_are_short_where_they_differ() {
        let names = |a: &str, b: &str| names([Path::new(a), Path::new(b)]);
        assert_eq!(names("x/llama3/tokenizer.model", "x/gpt2/tokenizer.json"), ["llama3", "gpt2"]);
        assert_eq!(names("runs/tiny", "runs/small"), ["tiny", "small"]);
        assert_eq!(names("a/t/tokenizer.json", "b/t"), ["a/t/tokenizer.json", "b/t"]);
    }

    #[test]
    fn differences_are_said_in_words() {
        assert_eq!([-0.153, 0.0812, 0.0001].map(said), ["15.3% fewer", "8.1% more", "as many"]);
        let row = Row { bytes: 90, words: 10, tokens: [30, 40], ..Row::default() };
        assert_eq!(
            (row.bytes_per_token(0), row.fertility(1), row.change()),
            (Some(3.0), Some(4.0), Some(-0.25))
        );
        assert_eq!(Row::default().change(), None);
    }
}
