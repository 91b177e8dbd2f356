//! The removed documents that a person can read afterwards: `removed/` in the folder of the documents, a file of JSON lines
//! for each step. Which are written depends on the recipe and the documents alone. What removes them is the steps'.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow_array::{Array, RecordBatch, StringArray};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;
use crate::batch::{Rows, column};
use crate::settings::RemovedSamples;
use crate::steps::{Removed, Step};

/// A line of a file in `removed/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemovedDocument {
    /// Why.
    pub reason: String,
    /// The paper and section that the rule follows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub paper: String,
    /// What the rule measured, where it measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The bound that the value breaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The document's identity.
    pub id: String,
    /// Where it came from.
    pub source: String,
    /// Where it can be read online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its language, where that was told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// Bytes of its text.
    pub bytes: u64,
    /// Its text as the step saw it, or the beginning; a page that was removed before extraction is markup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What was removed from it, where the rest stayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The identity of the document that stays in its place, where the rule names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<String>,
}

/// A removed document that may have to be written, with whether its hash chose it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Candidate {
    document: RemovedDocument,
    chosen: bool,
}

/// What may have to be written of what a step removed from a batch: what its hash chooses, and of each reason the first
/// few, of which those before this batch are not known here.
pub(crate) fn candidates(
    settings: &RemovedSamples,
    step: &dyn Step,
    batch: &RecordBatch,
    removed: &Removed,
) -> Result<Vec<Candidate>, Error> {
    let mut candidates = Vec::new();
    if removed.rows.is_empty() || (settings.first == 0 && settings.fraction == 0.0) {
        return Ok(candidates);
    }
    let text_or_null = |name| -> Result<&StringArray, Error> { column(batch, "removed", name) };
    let (ids, urls) = (text_or_null("id")?, text_or_null("url")?);
    let rows = Rows::of(batch, "removed")?;
    let mut rows = rows.iter().enumerate().peekable();
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for gone in &removed.rows {
        // Both are in the order of the ordinals; a document can lose several parts.
        while rows.peek().is_some_and(|(_, row)| row.ordinal != gone.ordinal) {
            rows.next();
        }
        let Some(&(index, row)) = rows.peek() else { break };
        let seen = seen.entry(&gone.reason).or_default();
        *seen += 1;
        let id = ids.value(index);
        let hash = xxh3_64(gone.part.as_deref().unwrap_or(id).as_bytes());
        let chosen = ((hash >> 11) as f64) < settings.fraction * (1u64 << 53) as f64;
        if !chosen && *seen > settings.first {
            continue;
        }
        let most = settings.max_text_bytes as usize;
        let cut = |text: &str| text[..text.floor_char_boundary(most)].to_string();
        let document = RemovedDocument {
            reason: gone.reason.clone(),
            paper: step.paper(&gone.reason).to_string(),
            value: gone.value.map(|(value, _)| value),
            limit: gone.value.map(|(_, limit)| limit),
            id: id.to_string(),
            source: row.source.to_string(),
            url: urls.is_valid(index).then(|| urls.value(index).to_string()),
            lang: row.language.map(String::from),
            bytes: row.text.len() as u64,
            text: gone.part.is_none().then(|| cut(row.text)),
            part: gone.part.as_deref().map(cut),
            duplicate_of: gone.duplicate_of.clone(),
        };
        candidates.push(Candidate { document, chosen });
    }
    Ok(candidates)
}

/// The candidates of some batches in a file, for the steps' files to be made of it when all batches are there.
pub(crate) struct Spool {
    path: PathBuf,
    file: BufWriter<File>,
    first: Firsts,
}

/// Counts the documents of each step and reason that are written because they are among the first.
struct Firsts {
    most: u64,
    seen: BTreeMap<(String, String), u64>,
}

impl Firsts {
    fn new(settings: &RemovedSamples) -> Firsts {
        Firsts { most: settings.first, seen: BTreeMap::new() }
    }

    /// Whether the next candidate of a step is written.
    fn takes(&mut self, step: &str, candidate: &Candidate) -> bool {
        let seen = self.seen.entry((step.to_string(), candidate.document.reason.clone())).or_default();
        let among_first = *seen < self.most;
        *seen += u64::from(among_first);
        candidate.chosen || among_first
    }
}

impl Spool {
    /// An empty file.
    pub(crate) fn create(path: PathBuf, settings: &RemovedSamples) -> Result<Spool, Error> {
        let file = BufWriter::new(File::create(&path).map_err(Error::io("create", &path))?);
        Ok(Spool { path, file, first: Firsts::new(settings) })
    }

    /// Takes the candidates of the next batch.
    pub(crate) fn write(&mut self, step: &str, candidates: Vec<Candidate>) -> Result<(), Error> {
        for candidate in candidates {
            if self.first.takes(step, &candidate) {
                let written =
                    serde_json::to_writer(&mut self.file, &(step, candidate)).map_err(std::io::Error::from);
                let written = written.and_then(|()| self.file.write_all(b"\n"));
                written.map_err(Error::io("write", &self.path))?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }
}

/// Writes the files; a step that removed nothing has none.
pub(crate) struct Writer {
    folder: PathBuf,
    first: Firsts,
    files: BTreeMap<String, BufWriter<File>>,
}

impl Writer {
    /// A writer into `removed/` in this folder, which is made when there is something to write.
    pub(crate) fn new(folder: &Path, settings: &RemovedSamples) -> Writer {
        Writer { folder: folder.join("removed"), first: Firsts::new(settings), files: BTreeMap::new() }
    }

    /// Takes the candidates of the next batch; batches come in the order of the documents.
    pub(crate) fn write(&mut self, step: &str, candidates: Vec<Candidate>) -> Result<(), Error> {
        for candidate in candidates {
            if !self.first.takes(step, &candidate) {
                continue;
            }
            let document = candidate.document;
            let path = self.folder.join(format!("{step}.jsonl"));
            if !self.files.contains_key(step) {
                std::fs::create_dir_all(&self.folder).map_err(Error::io("create", &self.folder))?;
                let file = File::create(&path).map_err(Error::io("create", &path))?;
                self.files.insert(step.to_string(), BufWriter::new(file));
            }
            let mut line =
                serde_json::to_vec(&document).map_err(|error| Error::io("write", &path)(error.into()))?;
            line.push(b'\n');
            if let Some(file) = self.files.get_mut(step) {
                file.write_all(&line).map_err(Error::io("write", &path))?;
            }
        }
        Ok(())
    }

    /// Takes what a [`Spool`] holds of the next batches.
    pub(crate) fn take(&mut self, spool: &Path) -> Result<(), Error> {
        let file = BufReader::new(File::open(spool).map_err(Error::io("open", spool))?);
        for (number, line) in file.lines().enumerate() {
            let line = line.map_err(Error::io("read", spool))?;
            let (step, candidate): (String, Candidate) = serde_json::from_str(&line).map_err(|error| {
                let reason = format!("line {}: {error}", number + 1);
                Error::Malformed { path: spool.to_owned(), byte: 0, reason }
            })?;
            self.write(&step, vec![candidate])?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        for (step, mut file) in self.files {
            let path = self.folder.join(format!("{step}.jsonl"));
            file.flush().map_err(Error::io("write", &path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Builder, Record};
    use crate::steps::code::Rules;

    fn run(settings: &RemovedSamples, rows: usize) -> Vec<RemovedDocument> {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), settings);
        let step = Rules(Default::default());
        let texts: Vec<String> = (0..200).map(|i| format!("fn f{i}() {{}}")).collect();
        for (part, texts) in texts.chunks(rows).enumerate() {
            let mut builder = Builder::new((part * rows) as u64);
            for (index, text) in texts.iter().enumerate() {
                // Every other document stays.
                let kept = (part * rows + index) % 2 == 1;
                let text = if kept {
                    format!("{text} // and this is a comment that is long enough\n")
                } else {
                    text.clone()
                };
                let kind = crate::kind::Kind::of_label("rust").unwrap();
                let url = Some("https://example.org/é".into());
                builder.push(&Record { text, kind, url, source: "x".into(), date: None, language: None });
            }
            let batch = builder.finish();
            let (_, removed) = step.apply(batch.clone()).unwrap();
            writer.write("code", candidates(settings, &step, &batch, &removed).unwrap()).unwrap();
        }
        writer.finish().unwrap();
        let path = folder.path().join("removed/code.jsonl");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn the_first_and_a_fraction_are_written_however_the_batches_are_cut() {
        let settings = RemovedSamples { first: 7, fraction: 0.2, max_text_bytes: 9 };
        let documents = run(&settings, 200);
        assert!((17..40).contains(&documents.len()), "{}", documents.len());
        for rows in [1, 3, 64] {
            assert_eq!(run(&settings, rows), documents, "{rows}");
        }
        let first = &documents[0];
        assert_eq!((first.reason.as_str(), first.value, first.limit), ("too_small", Some(10.0), Some(50.0)));
        assert_eq!((first.text.as_deref(), first.bytes), (Some("fn f0() {"), 10));
        let wanted: Vec<String> = (0..7).map(|i| format!("fn f{}() {{", i * 2)[..9].to_string()).collect();
        let found: Vec<String> = documents.iter().take(7).map(|d| d.text.clone().unwrap()).collect();
        assert_eq!(found, wanted);
        assert_eq!(run(&RemovedSamples { first: 0, fraction: 1.0, max_text_bytes: 0 }, 9).len(), 100);
        assert!(run(&RemovedSamples { first: 0, fraction: 0.0, max_text_bytes: 9 }, 9).is_empty());
    }
}
