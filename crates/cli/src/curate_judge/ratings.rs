//! The file of ratings: a JSON object a line, appended as they come, so that a kill costs the documents that are being
//! judged. Ratings of another rubric or judge are not mixed into it.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rubric::{Rubric, Verdict};
use super::sample::Chosen;
use crate::errors::Error;

/// A rating as it lies in the file. `text` is what the judge saw.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    id: String,
    score: i64,
    reason: String,
    rubric: String,
    /// Of the rubric with its text and scale.
    rubric_digest: String,
    model: String,
    source: String,
    url: Option<String>,
    text: String,
}

/// The part of a line that is needed to go on.
#[derive(Deserialize)]
struct Known {
    id: String,
    score: i64,
    rubric: String,
    rubric_digest: String,
    model: String,
}

/// An open file of ratings.
pub struct Ratings {
    path: PathBuf,
    file: File,
    rubric: (String, String),
    model: String,
    known: HashSet<String>,
    /// How often each score was given, from the rubric's least on.
    pub counts: Vec<u64>,
    least: i64,
}

impl Ratings {
    /// Opens a file, new or with ratings of the same rubric and judge. A torn last line is cut off.
    ///
    /// # Errors
    /// Another process that writes it; a line that is no rating, or one of another rubric or judge.
    pub fn open(path: &Path, rubric: &Rubric, model: &str) -> Result<Self, Error> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let mut options = OpenOptions::new();
        let file =
            options.read(true).append(true).create(true).open(path).map_err(Error::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Usage {
                    message: format!("another program is writing {}", path.display()),
                    hint: "wait for it, or give another file with --out".to_owned(),
                });
            }
            // File systems without locks are written to all the same.
            Err(TryLockError::Error(_)) => {}
        }
        let mut ratings = Self {
            path: path.to_owned(),
            file,
            rubric: (rubric.name.clone(), rubric.digest()?),
            model: model.to_owned(),
            known: HashSet::new(),
            counts: vec![0; (rubric.most - rubric.least + 1) as usize],
            least: rubric.least,
        };
        ratings.read()?;
        Ok(ratings)
    }

    fn read(&mut self) -> Result<(), Error> {
        let mut reader = BufReader::new(self.file.try_clone().map_err(Error::io("open", &self.path))?);
        let (mut line, mut whole, mut number) = (Vec::new(), 0u64, 0u64);
        loop {
            line.clear();
            number += 1;
            let read = reader.read_until(b'\n', &mut line).map_err(Error::io("read", &self.path))?;
            if line.last() != Some(&b'\n') {
                break;
            }
            whole += read as u64;
            if line.trim_ascii().is_empty() {
                continue;
            }
            let place = format!("{}:line {number}", self.path.display());
            let wrong = |message: String| Error::Usage {
                message: format!("{place}: {message}"),
                hint: "give another file with --out; this one is not touched".to_owned(),
            };
            let known: Known =
                serde_json::from_slice(&line).map_err(|error| wrong(format!("is no rating: {error}")))?;
            if (&known.rubric, &known.rubric_digest) != (&self.rubric.0, &self.rubric.1) {
                return Err(wrong(format!(
                    "is a rating by another rubric, {} {}",
                    known.rubric, known.rubric_digest
                )));
            }
            if known.model != self.model {
                return Err(wrong(format!(
                    "is a rating by {}, and the judge now is {}",
                    known.model, self.model
                )));
            }
            self.count(known.score).map_err(|score| wrong(format!("has the score {score}")))?;
            self.known.insert(known.id);
        }
        self.file.set_len(whole).map_err(Error::io("cut", &self.path))?;
        self.file.seek(SeekFrom::End(0)).map_err(Error::io("read", &self.path))?;
        Ok(())
    }

    fn count(&mut self, score: i64) -> Result<(), i64> {
        let index = usize::try_from(score - self.least).map_err(|_| score)?;
        *self.counts.get_mut(index).ok_or(score)? += 1;
        Ok(())
    }

    /// Whether a document was rated before.
    pub fn has(&self, id: &str) -> bool {
        self.known.contains(id)
    }

    /// How many ratings there are.
    pub fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Appends a rating, in one write.
    pub fn add(&mut self, document: &Chosen, verdict: &Verdict) -> Result<(), Error> {
        let line = Line {
            id: document.id.clone(),
            score: verdict.score,
            reason: verdict.reason.clone(),
            rubric: self.rubric.0.clone(),
            rubric_digest: self.rubric.1.clone(),
            model: self.model.clone(),
            source: document.source.clone(),
            url: document.url.clone(),
            text: document.text.clone(),
        };
        let failed = |error: std::io::Error| Error::io("append to", &self.path)(error);
        let mut bytes = serde_json::to_vec(&line).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(failed)?;
        // Verdicts are within the scale.
        let _ = self.count(verdict.score);
        Ok(())
    }

    /// Puts all on the disk.
    pub fn finish(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io("write", &self.path))
    }
}
