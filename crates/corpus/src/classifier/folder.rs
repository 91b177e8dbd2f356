//! A classifier's folder: `model.bin`, which fastText reads too, and `classifier.json`, which says what it was made from and
//! how good it is. The second holds a digest of the first.

use std::path::{Path, PathBuf};

use ledger::digest::Digest;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::measure::{Measured, measure};
use super::train::{Settings, Trained};
use super::{Classifier, Scratch};
use crate::Error;

const MODEL: &str = "model.bin";
const CARD: &str = "classifier.json";
const VERSION: u32 = 1;

/// Texts that are scored together when the held-out part is measured.
const TEXTS_AT_ONCE: usize = 1 << 10;

/// What `classifier.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The version of this form: 1.
    pub version: u32,
    /// BLAKE3 of `model.bin`.
    pub model: String,
    /// The labels in the model's order.
    pub labels: Vec<String>,
    /// The label whose probability is a document's score.
    pub positive: String,
    /// How it was trained.
    pub settings: Settings,
    /// Where its texts came from.
    pub provenance: Provenance,
    /// Texts of the training part, by label.
    pub trained_on: Vec<u64>,
    /// Words of the training part.
    pub tokens: u64,
    /// The mean loss of the last epoch, in nats.
    pub loss: f64,
    /// What was measured on the part held out; none without one.
    pub held_out: Option<Held>,
}

/// Where labelled texts came from, in the words of whoever gave them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Label and source.
    pub sources: Vec<(String, String)>,
    /// A file of ratings and the least rating of the positive label.
    pub ratings: Option<(String, f64)>,
    /// A file of references.
    pub references: Option<String>,
    /// Places that could not be read.
    pub left_out: u64,
}

/// What was measured on texts that were held out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// How many texts.
    pub texts: u64,
    /// Share of them whose likeliest label is theirs.
    pub accuracy: f64,
    /// Texts by label (outer) and likeliest label (inner).
    pub confusion: Vec<Vec<u64>>,
    /// Each label against the rest.
    pub labels: Vec<Measured>,
}

/// A classifier with its card, if it has one.
pub struct Opened {
    /// The classifier.
    pub classifier: Classifier,
    /// Its card; none for a file of fastText's.
    pub card: Option<Card>,
}

impl Opened {
    /// Opens a classifier's folder, or a model of fastText's.
    ///
    /// # Errors
    /// [`Error::Io`]; what [`Classifier::open`] refuses; [`Error::Classifier`] when the two files of a folder do not belong
    /// together or are of another version.
    pub fn open(path: &Path) -> Result<Opened, Error> {
        if !path.is_dir() {
            return Ok(Opened { classifier: Classifier::open(path)?, card: None });
        }
        let (card_path, model) = (path.join(CARD), path.join(MODEL));
        let wrong = |reason: String| Error::Classifier { path: card_path.clone(), reason };
        let text = std::fs::read_to_string(&card_path).map_err(Error::io("read", &card_path))?;
        let of_version: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| wrong(format!("it is not JSON: {error}")))?;
        match of_version.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => return Err(wrong(format!("it has version {version}, and {VERSION} is read"))),
            None => return Err(wrong("it has no version".into())),
        }
        let card: Card = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let digest = Digest::of_file(&model)?;
        if digest.as_str() != card.model {
            return Err(wrong(format!("{MODEL} is not the one that it describes")));
        }
        let classifier = Classifier::open(&model)?;
        if classifier.labels() != card.labels || classifier.label(&card.positive).is_none() {
            return Err(wrong(format!("its labels are not those of {MODEL}")));
        }
        Ok(Opened { classifier, card: Some(card) })
    }

    /// The label that a score is of: the one named, else the card's.
    ///
    /// # Errors
    /// The labels that there are, when none is named or the name is not among them.
    pub fn scored_label(&self, named: Option<&str>) -> Result<usize, String> {
        let name = named.or(self.card.as_ref().map(|card| card.positive.as_str()));
        let labels = self.classifier.labels().join(", ");
        match name {
            None => Err(format!("no label is named; it has {labels}")),
            Some(name) => self.classifier.label(name).ok_or(format!("it has no label {name:?} but {labels}")),
        }
    }
}

impl Trained {
    /// Writes the two files into a folder that exists, opens what it wrote and measures it on the part held out.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Ledger`].
    pub fn save(
        &self,
        folder: &Path,
        labels: &[String],
        positive: &str,
        settings: &Settings,
        provenance: Provenance,
    ) -> Result<Card, Error> {
        let model: PathBuf = folder.join(MODEL);
        self.write(&model)?;
        let classifier = Classifier::open(&model)?;
        let held_out = match self.held_out {
            0 => None,
            _ => Some(self.measure(&classifier, labels.len())?),
        };
        let card = Card {
            version: VERSION,
            model: Digest::of_file(&model)?.as_str().to_string(),
            labels: labels.to_vec(),
            positive: positive.to_string(),
            settings: settings.clone(),
            provenance,
            trained_on: self.label_counts.clone(),
            tokens: self.tokens(),
            loss: self.loss,
            held_out,
        };
        let path = folder.join(CARD);
        let mut json = serde_json::to_vec_pretty(&card)
            .map_err(|error| Error::io("write", &path)(std::io::Error::other(error)))?;
        json.push(b'\n');
        ledger::atomic::write(&path, &json)?;
        Ok(card)
    }

    fn measure(&self, classifier: &Classifier, labels: usize) -> Result<Held, Error> {
        let mut texts = self.held_out_texts()?;
        let mut scores = vec![Vec::new(); labels];
        let mut confusion = vec![vec![0u64; labels]; labels];
        loop {
            let part: Vec<(usize, String)> =
                texts.by_ref().take(TEXTS_AT_ONCE).collect::<Result<_, Error>>()?;
            if part.is_empty() {
                break;
            }
            let predicted: Vec<Vec<f32>> = part
                .par_iter()
                .map_init(Scratch::default, |scratch, (_, text)| {
                    // A text of unknown words alone says nothing, so that all labels are as likely.
                    let equal = || vec![1.0 / labels as f32; labels];
                    classifier.predict(text, scratch).map_or_else(equal, <[f32]>::to_vec)
                })
                .collect();
            for ((label, _), predicted) in part.iter().zip(&predicted) {
                let greatest = (0..labels)
                    .fold(0, |best, one| if predicted[one] > predicted[best] { one } else { best });
                confusion[*label][greatest] += 1;
                for (one, scores) in scores.iter_mut().enumerate() {
                    scores.push((f64::from(predicted[one]), one == *label));
                }
            }
        }
        let total: u64 = confusion.iter().flatten().sum();
        let right: u64 = (0..labels).map(|label| confusion[label][label]).sum();
        let labels = scores.iter().map(|scores| measure(scores)).collect();
        Ok(Held { texts: total, accuracy: right as f64 / total.max(1) as f64, confusion, labels })
    }
}
