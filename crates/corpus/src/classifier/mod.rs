//! Linear n-gram classifiers of documents, by fastText's supervised method (Joulin et al. 2017, "Bag of Tricks for
//! Efficient Text Classification"): a text is the mean of the vectors of its words and hashed n-grams, a linear layer
//! over it gives the labels' probabilities. Models are kept in fastText's own `.bin`, so that fastText reads what is trained
//! here and what others trained is read here.
//!
//! - [`train`](train()) makes one from labelled texts, [`Trained::save`] writes its folder.
//! - [`Classifier`] is one opened for prediction; [`Card`] is what its folder says of it.
//! - [`measure`] judges scores against the truth.
//!
//! Which documents a classifier's score removes is the step [`crate::steps::classify`]'s matter.

mod dictionary;
mod examples;
mod file;
mod folder;
pub mod measure;
mod outputs;
mod references;
mod train;
mod words;

use std::path::Path;

pub use folder::{Card, Held, Opened, Provenance};
pub use references::References;
pub use train::{Sample, Settings, Trained, train};

use crate::Error;
use dictionary::Dictionary;
use outputs::Outputs;
use words::Hashing;

/// A classifier opened for prediction.
///
/// The probabilities follow from products of the mean vector with the rows of the linear layer, so these products are
/// taken of each word's vector once, when the file is opened: a row then has as many numbers as there are outputs, most
/// often 2 instead of 100. Where outputs are many, the vectors are kept as they are.
pub struct Classifier {
    dictionary: Dictionary,
    hashing: Hashing,
    outputs: Outputs,
    rows: Rows,
}

/// What is held for each word and bucket.
enum Rows {
    /// Products with the linear layer: `outputs` numbers a row.
    Products { width: usize, values: Vec<f32> },
    /// Vectors of `width` numbers, and the linear layer, a row an output.
    Vectors { width: usize, values: Vec<f32>, layer: Vec<f32> },
}

/// What prediction needs beside the classifier; kept between texts so that none is allocated for each.
#[derive(Default)]
pub struct Scratch {
    hashes: Vec<u32>,
    rows: Vec<u32>,
    sum: Vec<f32>,
    products: Vec<f32>,
}

impl Classifier {
    /// Reads a fastText model: supervised, of versions 11 and 12, with any of its losses.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Classifier`] for a model that is quantised or not supervised, by its name; for a malformed
    /// one with the byte where it is.
    pub fn open(path: &Path) -> Result<Classifier, Error> {
        file::open(path)
    }

    /// The labels, without fastText's `__label__`, in the model's order.
    pub fn labels(&self) -> Vec<&str> {
        self.dictionary.labels().collect()
    }

    /// The place of a label, with or without `__label__`.
    pub fn label(&self, name: &str) -> Option<usize> {
        let name = name.strip_prefix(words::LABEL).unwrap_or(name);
        self.dictionary.labels().position(|label| label == name)
    }

    /// The probability of each label, in the order of [`Classifier::labels`]; nothing for a text without a word or n-gram
    /// that has a vector. They sum to 1, but for a model whose labels were trained independently of each other.
    ///
    /// A text is one line: its line ends are blanks, as in the training files of fastText.
    pub fn predict<'s>(&self, text: &str, scratch: &'s mut Scratch) -> Option<&'s [f32]> {
        self.hashing.rows(&self.dictionary, text, &mut scratch.hashes, &mut scratch.rows);
        if scratch.rows.is_empty() {
            return None;
        }
        let (width, values) = match &self.rows {
            Rows::Products { width, values } | Rows::Vectors { width, values, .. } => (*width, values),
        };
        scratch.sum.clear();
        scratch.sum.resize(width, 0.0);
        add_rows(width, values, &scratch.rows, &mut scratch.sum);
        let count = scratch.rows.len() as f32;
        scratch.sum.iter_mut().for_each(|sum| *sum /= count);
        match &self.rows {
            Rows::Products { .. } => scratch.products.clone_from(&scratch.sum),
            Rows::Vectors { layer, .. } => {
                scratch.products.clear();
                scratch.products.extend(layer.chunks_exact(width).map(|row| dot(row, &scratch.sum)));
            }
        }
        // Values that are finite may yet add up to what is not, in a file that nobody trained.
        if !scratch.products.iter().all(|product| product.is_finite()) {
            return None;
        }
        self.outputs.probabilities(&mut scratch.products);
        Some(&scratch.products)
    }
}

/// Adds rows to a sum. Two numbers a row, a classifier of two labels, are the usual case and are summed in registers.
fn add_rows(width: usize, values: &[f32], rows: &[u32], sum: &mut [f32]) {
    if let [first, second] = sum {
        for &row in rows {
            let at = 2 * row as usize;
            *first += values[at];
            *second += values[at + 1];
        }
        return;
    }
    for &row in rows {
        let at = row as usize * width;
        sum.iter_mut().zip(&values[at..at + width]).for_each(|(sum, value)| *sum += value);
    }
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

#[cfg(test)]
mod tests;
