//! Removes lines that many documents have: menus, notes on cookies, advertisements (Wenzek et al. 2020, "CCNet", section 3;
//! Llama Team 2024, section 3.1.1: lines seen more than 6 times in a bucket of 30 million documents). [`LineCounts`] is
//! fed all documents and counts the hashes of their lines within a memory budget; the step [`LineDedup`] made from it
//! takes the lines out.
//!
//! A line is compared by its words in lower case, with every run of digits for one; a line without words is none. A
//! document counts once for a line, however often it repeats it: what a document repeats is Gopher's rules' to judge.
//! Tables, code and formulas of web pages pass, LaTeX and tags in plain text, and documentation, code and data, whose
//! lines repeat by nature.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::StringBuilder;
use memmap2::Mmap;
use rustc_hash::FxHashSet;

use super::words::{token_hashes, words};
use super::{Removed, RemovedRow, Step, markdown};
use crate::Error;
use crate::batch::{self, Row, Rows};
use crate::indexed;
use crate::kind::{Class, Kind};
use crate::settings;
use crate::spill::Sorter;

const NAME: &str = "line_dedup";

/// Bucket, hash of a line, documents that have it.
type Counted = (u32, u64, u32);

/// Counts lines over documents. Batches are fed in the order of their ordinals.
pub struct LineCounts {
    settings: settings::LineDedup,
    folder: PathBuf,
    sorter: Sorter<Counted>,
    documents: u64,
    /// The first ordinal of each bucket.
    starts: Vec<u64>,
}

/// The line hashes of the documents of a batch, in order: what [`LineCounts::add`] takes, made on any thread.
pub struct BatchLines(Vec<(u64, Vec<u64>)>);

impl LineCounts {
    /// Nothing counted yet; runs that do not fit into `memory` bytes go to the folder, which exists.
    pub fn new(settings: &settings::LineDedup, folder: &Path, memory: u64) -> LineCounts {
        let sorter = Sorter::combining(folder, "lines", memory, |first: &mut Counted, later| {
            let same = (first.0, first.1) == (later.0, later.1);
            if same {
                first.2 = first.2.saturating_add(later.2);
            }
            same
        });
        let (settings, folder) = (settings.clone(), folder.to_path_buf());
        LineCounts { settings, folder, sorter, documents: 0, starts: Vec::new() }
    }

    /// The lines of a batch.
    ///
    /// # Errors
    /// [`Error::Batch`] when a column is missing.
    pub fn lines(batch: &RecordBatch) -> Result<BatchLines, Error> {
        let rows = Rows::of(batch, NAME)?;
        Ok(BatchLines(rows.iter().filter(applies).map(|row| (row.ordinal, hashes(row))).collect()))
    }

    /// Counts the lines of the next batch.
    ///
    /// # Errors
    /// [`Error::Io`] when a run cannot be written.
    pub fn add(&mut self, batch: BatchLines) -> Result<(), Error> {
        for (ordinal, hashes) in batch.0 {
            if self.documents.is_multiple_of(self.settings.bucket_documents) {
                self.starts.push(ordinal);
            }
            self.documents += 1;
            let bucket = (self.starts.len() - 1) as u32;
            for hash in hashes {
                self.sorter.push((bucket, hash, 1))?;
            }
        }
        Ok(())
    }

    /// The step that removes what is frequent. Its hashes lie in a file of the folder that is mapped: 8 bytes a line.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Malformed`] from the runs or that file.
    pub fn finish(self) -> Result<LineDedup, Error> {
        let path = self.folder.join("frequent-000000.lines");
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        let mut writer = BufWriter::with_capacity(1 << 16, file);
        let mut ends = vec![0; self.starts.len()];
        let mut count = 0;
        let mut sorted = self.sorter.finish()?;
        while let Some((bucket, hash, documents)) = sorted.next_record()? {
            if u64::from(documents) > self.settings.max_occurrences {
                writer.write_all(&hash.to_le_bytes()).map_err(Error::io("write", &path))?;
                count += 1;
                ends[bucket as usize] = count;
            }
        }
        for bucket in 1..ends.len() {
            ends[bucket] = ends[bucket].max(ends[bucket - 1]);
        }
        writer.flush().map_err(Error::io("write", &path))?;
        drop(writer);
        let hashes = indexed::map(&path)?;
        let frequent = Frequent { starts: self.starts, ends, hashes };
        Ok(LineDedup { min_words: self.settings.min_words, frequent: Arc::new(frequent) })
    }
}

/// The frequent lines of each bucket.
struct Frequent {
    starts: Vec<u64>,
    /// Where each bucket ends among the hashes.
    ends: Vec<usize>,
    /// Ascending within a bucket, 8 bytes each.
    hashes: Option<Mmap>,
}

impl Frequent {
    /// The hashes of the bucket that a document is in, as bytes.
    fn bucket(&self, ordinal: u64) -> &[[u8; 8]] {
        let all: &[[u8; 8]] = self.hashes.as_deref().map_or(&[], |bytes| bytes.as_chunks().0);
        let Some(bucket) = self.starts.partition_point(|&start| start <= ordinal).checked_sub(1) else {
            return &[];
        };
        let begin = if bucket == 0 { 0 } else { self.ends[bucket - 1] };
        &all[begin..self.ends[bucket]]
    }
}

/// The step.
pub struct LineDedup {
    min_words: u64,
    frequent: Arc<Frequent>,
}

impl LineDedup {
    /// Frequent lines over all buckets.
    pub fn frequent_lines(&self) -> u64 {
        self.frequent.ends.last().copied().unwrap_or(0) as u64
    }

    /// The text without frequent lines and the lines taken out, or nothing where there are none.
    fn without<'a>(&self, row: Row<'a>) -> Option<(String, Vec<&'a str>)> {
        let bucket = self.frequent.bucket(row.ordinal);
        if bucket.is_empty() {
            return None;
        }
        let mut lines = Vec::new();
        let taken: FxHashSet<usize> = compared(row.kind, row.text)
            .filter(|(_, line)| {
                let found = hash(line).is_some_and(|hash| {
                    bucket.binary_search_by_key(&hash, |bytes| u64::from_le_bytes(*bytes)).is_ok()
                });
                if found {
                    lines.push(*line);
                }
                found
            })
            .map(|(index, _)| index)
            .collect();
        if taken.is_empty() {
            return None;
        }
        let mut text = String::with_capacity(row.text.len());
        for (index, line) in row.text.lines().enumerate() {
            // What is left of two paragraphs is parted by one blank line, not by the two around what went.
            let blank = line.trim().is_empty();
            if !taken.contains(&index) && !(blank && (text.is_empty() || text.ends_with("\n\n"))) {
                text.push_str(line);
                text.push('\n');
            }
        }
        text.truncate(text.trim_end().len());
        Some((text, lines))
    }
}

impl Step for LineDedup {
    fn name(&self) -> &'static str {
        NAME
    }

    fn paper(&self, reason: &str) -> &'static str {
        let _ = reason;
        "CCNet: Wenzek et al. 2020, section 3; Llama 3: Llama Team 2024, section 3.1.1"
    }

    fn apply(&self, batch: RecordBatch) -> Result<(RecordBatch, Removed), Error> {
        let mut removed = Removed::default();
        if self.frequent_lines() == 0 {
            return Ok((batch, removed));
        }
        let mut keep = Vec::with_capacity(batch.num_rows());
        let mut texts = StringBuilder::new();
        for row in Rows::of(&batch, NAME)?.iter() {
            let Some((text, lines)) = applies(&row).then(|| self.without(row)).flatten() else {
                texts.append_value(row.text);
                keep.push(true);
                continue;
            };
            let left = words(&text).count() as u64;
            if left < self.min_words {
                removed.count_measured("too_few_words_left", row, Some((left as f64, self.min_words as f64)));
                texts.append_value("");
                keep.push(false);
                continue;
            }
            *removed.edits.entry("frequent_lines".to_string()).or_default() += lines.len() as u64;
            removed.rows.extend(lines.into_iter().map(|line| RemovedRow {
                ordinal: row.ordinal,
                reason: "frequent_line".to_string(),
                value: None,
                part: Some(line.to_string()),
                duplicate_of: None,
            }));
            texts.append_value(text);
            keep.push(true);
        }
        let batch = batch::with_column(&batch, NAME, "text", Arc::new(texts.finish()))?;
        Ok((batch::keep_rows(&batch, NAME, keep)?, removed))
    }
}

fn applies(row: &Row) -> bool {
    matches!(row.kind.class, Class::Web | Class::Prose)
}

/// The lines that are compared, with their index among all lines: prose, and of web pages headings too.
fn compared(kind: Kind, text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    markdown::lines(kind, text).enumerate().filter_map(move |(index, (line, prose))| {
        if !prose && line.starts_with("```") {
            fenced = !fenced;
        }
        let heading = !prose && !fenced && line.starts_with('#');
        ((prose || heading) && !is_markup(line)).then_some((index, line))
    })
}

/// Lines that hold a text together rather than say something: LaTeX, tags, assignments, code that came as plain text.
/// `\\begin{equation}` is among the most frequent lines of papers.
fn is_markup(line: &str) -> bool {
    line.contains(['\\', '{', '}', '=']) || line.trim_start().starts_with(['<', '$'])
}

/// The hash of a line's words, or nothing for a line without words.
fn hash(line: &str) -> Option<u64> {
    let mut hash = None;
    token_hashes(line, true, |token| {
        let before: u64 = hash.unwrap_or(0);
        hash = Some((before.rotate_left(23) ^ token).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    });
    hash
}

/// The different line hashes of a document.
fn hashes(row: Row) -> Vec<u64> {
    let mut hashes: Vec<u64> = compared(row.kind, row.text).filter_map(|(_, line)| hash(line)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::batch::{Builder, Record};
    use crate::kind;

    fn batch(first: u64, kind: Kind, texts: &[String]) -> RecordBatch {
        let mut builder = Builder::new(first);
        for text in texts {
            let text = text.clone();
            builder.push(&Record { text, kind, url: None, source: "x".into(), date: None, language: None });
        }
        builder.finish()
    }

    fn settings(max_occurrences: u64, bucket_documents: u64) -> settings::LineDedup {
        settings::LineDedup { max_occurrences, bucket_documents, min_words: 0, enabled: true }
    }

    fn step(
        settings: &settings::LineDedup,
        memory: u64,
        batches: &[RecordBatch],
    ) -> (LineDedup, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut counts = LineCounts::new(settings, folder.path(), memory);
        for batch in batches {
            counts.add(LineCounts::lines(batch).unwrap()).unwrap();
        }
        (counts.finish().unwrap(), folder)
    }

    fn texts(step: &LineDedup, batch: &RecordBatch) -> Vec<String> {
        let (kept, _) = step.apply(batch.clone()).unwrap();
        Rows::of(&kept, "test").unwrap().iter().map(|row| row.text.to_string()).collect()
    }

    #[test]
    fn frequent_lines_go_and_what_only_looks_like_them_stays() {
        let documents: Vec<String> = (0..3)
            .map(|i| {
                format!("Own line {}.\n\nPage {i} of 9!\n\n---\nTwice here.\nTwice here.\n\\begin{{equation}}\n```\n}}\nshared();\n```\n| a |\n", "abc".repeat(i + 1))
            })
            .collect();
        let page = batch(5, kind::HTML, &documents);
        let (rule, _folder) = step(&settings(2, 100), 1 << 20, std::slice::from_ref(&page));
        // The lines with digits are the same line; code, tables and rules pass; two documents would have been too few.
        assert_eq!(
            texts(&rule, &page)[0],
            "Own line abc.\n\n---\n\\begin{equation}\n```\n}\nshared();\n```\n| a |"
        );
        let (_, removed) = rule.apply(page.clone()).unwrap();
        assert_eq!(removed.edits, BTreeMap::from([("frequent_lines".to_string(), 9)]));
        assert_eq!(removed.rows[0].part.as_deref(), Some("Page 0 of 9!"));
        let code = batch(5, Kind::of_label("rust").unwrap(), &documents);
        assert_eq!(texts(&rule, &code), documents);
        let (rule, _folder) = step(&settings(3, 100), 1 << 20, std::slice::from_ref(&page));
        assert_eq!((rule.frequent_lines(), texts(&rule, &page)), (0, documents));
    }

    #[test]
    fn a_document_of_frequent_lines_goes() {
        let shared = "we use cookies to make this site better for everybody who reads it";
        let documents: Vec<String> = (0..8).map(|i| format!("{shared}\n{}", "own ".repeat(i * 10))).collect();
        let page = batch(0, kind::WEB_TEXT, &documents);
        let strict = settings::LineDedup { min_words: 50, ..settings(6, 100) };
        let (rule, _folder) = step(&strict, 1 << 20, std::slice::from_ref(&page));
        let (kept, removed) = rule.apply(page).unwrap();
        assert_eq!((kept.num_rows(), removed.reasons["too_few_words_left"]), (3, 5));
        assert_eq!(removed.rows[0].value, Some((0.0, 50.0)));
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(40))]
        #[test]
        fn counts_are_those_of_the_plain_way(
            documents in proptest::collection::vec("([a-d]{1,2}\n){0,6}", 1..60),
            most in 1u64..5, bucket in 1u64..40, rows in 1usize..20, memory in 64u64..4096
        ) {
            let mut batches = Vec::new();
            for (index, part) in documents.chunks(rows).enumerate() {
                batches.push(batch((index * rows) as u64, kind::WEB_TEXT, part));
            }
            let (rule, _folder) = step(&settings(most, bucket), memory, &batches);
            let mut counts: BTreeMap<(u64, &str), u64> = BTreeMap::new();
            for (index, text) in documents.iter().enumerate() {
                let lines: std::collections::BTreeSet<&str> = text.lines().collect();
                lines.into_iter().for_each(|line| *counts.entry((index as u64 / bucket, line)).or_default() += 1);
            }
            let found: Vec<String> = batches.iter().flat_map(|batch| texts(&rule, batch)).collect();
            for (index, (text, found)) in documents.iter().zip(&found).enumerate() {
                let kept: Vec<&str> = text.lines().filter(|line| counts[&(index as u64 / bucket, *line)] <= most).collect();
                proptest::prop_assert_eq!(found.lines().collect::<Vec<_>>(), kept);
            }
        }
    }
}
