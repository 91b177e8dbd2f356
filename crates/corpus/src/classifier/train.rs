//! Training by stochastic gradient descent, as fastText does it (`src/model.cc`, `supervised` in `src/fasttext.cc`): softmax
//! over a linear layer over the mean of a text's vectors, a rate that falls linearly to nothing, the gradient of a vector
//! divided by the number of vectors. What differs:
//!
//! - Texts come in an order drawn from the seed, another in each epoch; fastText takes them as they lie in the file.
//! - One thread learns, so that the same texts and seed give the same model; fastText's threads overwrite each other. What
//!   can be divided (cutting, hashing, counting, the rows of n-grams) is done once, by all threads, before.
//! - Vectors that no training text touched are zero, not noise, and take no memory while others are learned.

use std::path::Path;

use ledger::progress::{Progress, Unit};
use ledger::seed::Seed;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::dictionary::Dictionary;
use super::examples::{Dense, Examples, Rows};
use super::file::{self, Arguments};
use super::outputs::softmax;
use super::words::Hashing;
use crate::Error;

/// How a classifier is trained. The defaults are fastText's, but for the dimension: two labels need no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Numbers in a vector.
    pub dimension: u32,
    /// Times that each text is seen.
    pub epochs: u32,
    /// The rate at the beginning; it falls linearly to 0.
    pub learning_rate: f64,
    /// Words of the longest n-gram; 1 takes words alone.
    pub word_ngrams: u32,
    /// Characters of the shortest n-gram within words.
    pub min_chars: u32,
    /// Characters of the longest n-gram within words; 0 takes none.
    pub max_chars: u32,
    /// Rows for hashed n-grams; by default 2,000,000, or as many as the training part has n-grams of words if these are fewer.
    pub buckets: Option<u32>,
    /// A rarer word has no vector of its own.
    pub min_count: u64,
    /// Words with vectors of their own, the most frequent.
    pub max_words: u32,
    /// Share of the texts that is held out and measured on.
    pub held_out: f64,
    /// What the order of the texts, the choice of those held out and the first vectors follow from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            dimension: 16,
            epochs: 5,
            learning_rate: 0.1,
            word_ngrams: 2,
            min_chars: 0,
            max_chars: 0,
            buckets: None,
            min_count: 1,
            max_words: 1 << 20,
            held_out: 0.1,
            seed: 42,
        }
    }
}

/// fastText's default.
const BUCKETS: u64 = 2_000_000;
/// With n-grams of characters a word has many, so they get fastText's number at once.
const LEAST_BUCKETS: u64 = 1 << 10;

impl Settings {
    /// Checks every value and reports all faults at once.
    ///
    /// # Errors
    /// [`Error::Training`].
    pub fn validate(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        let mut check = |fine: bool, fault: String| {
            if !fine {
                faults.push(fault);
            }
        };
        check(
            (1..=1024).contains(&self.dimension),
            format!("the dimension {} is not between 1 and 1024", self.dimension),
        );
        check(
            (1..=1000).contains(&self.epochs),
            format!("{} epochs are not between 1 and 1000", self.epochs),
        );
        let rate = self.learning_rate;
        check(rate > 0.0 && rate <= 10.0, format!("the learning rate {rate} is not above 0 and at most 10"));
        check(
            (1..=8).contains(&self.word_ngrams),
            format!("n-grams of {} words are not between 1 and 8", self.word_ngrams),
        );
        let chars = (self.min_chars, self.max_chars);
        let in_order = chars.1 == 0 || (1..=chars.1).contains(&chars.0) && chars.1 <= 16;
        check(in_order, format!("n-grams of {} to {} characters are not within 1 and 16", chars.0, chars.1));
        let buckets = self.buckets.unwrap_or(1);
        check(
            (1..=1 << 28).contains(&buckets),
            format!("{buckets} buckets are not between 1 and {}", 1 << 28),
        );
        check(
            (1..=1 << 26).contains(&self.max_words),
            format!("{} words are not between 1 and {}", self.max_words, 1 << 26),
        );
        check(
            (0.0..1.0).contains(&self.held_out),
            format!("a held-out share of {} is not from 0 to below 1", self.held_out),
        );
        if faults.is_empty() { Ok(()) } else { Err(Error::Training { reason: faults.join("; ") }) }
    }

    fn hashing(&self, tokens: u64) -> Hashing {
        let ngrams = self.word_ngrams > 1 || self.max_chars > 0;
        let fitting = if self.max_chars > 0 {
            BUCKETS
        } else {
            (tokens * u64::from(self.word_ngrams - 1)).clamp(LEAST_BUCKETS, BUCKETS)
        };
        let buckets = if ngrams { self.buckets.unwrap_or(fitting as u32) } else { 0 };
        Hashing {
            buckets,
            word_ngrams: self.word_ngrams,
            min_chars: self.min_chars,
            max_chars: self.max_chars,
        }
    }
}

/// A labelled text.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The index of its label.
    pub label: usize,
    /// The text.
    pub text: String,
}

/// Numbers of a vector that lie together, on one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([f32; 16]);

/// A trained model, not yet on disk, with what was held out.
pub struct Trained {
    dictionary: Dictionary,
    arguments: Arguments,
    /// Vectors of the rows that texts have, by their numbers in `dense`; the others are zero.
    input: Vec<Line>,
    dense: Dense,
    layer: Vec<Line>,
    /// Texts of the training part by label.
    pub label_counts: Vec<u64>,
    /// Texts without a word, which were left out.
    pub empty: u64,
    /// Bytes of all texts.
    pub bytes: u64,
    /// The mean loss over the last epoch, in nats.
    pub loss: f64,
    /// Where the texts held out lie.
    held_path: std::path::PathBuf,
    /// How many they are.
    pub held_out: u64,
}

/// Trains on the samples that `feed` hands to its argument, until the end or an error. `work` is a folder for temporary files,
/// which the caller removes; texts are read once.
///
/// # Errors
/// [`Error::Training`] for wrong settings, or labels without texts; [`Error::Io`]; what `feed` returns.
pub fn train<E: From<Error>>(
    settings: &Settings,
    labels: &[String],
    work: &Path,
    progress: &dyn Progress,
    feed: impl FnOnce(&mut dyn FnMut(Sample) -> Result<(), Error>) -> Result<(), E>,
) -> Result<Trained, E> {
    settings.validate()?;
    check_labels(labels)?;
    let seed = Seed(settings.seed);
    let salt = seed.stream("classifier/held-out", 0).next_u64();
    let mut examples = Examples::create(work, settings, labels.len(), salt)?;
    feed(&mut |sample: Sample| examples.push(sample.label as u16, sample.text))?;
    Ok(learn(settings, labels, examples, seed, progress)?)
}

fn check_labels(labels: &[String]) -> Result<(), Error> {
    let wrong = |reason: String| Err(Error::Training { reason });
    if !(2..=1 << 12).contains(&labels.len()) {
        return wrong(format!("{} labels; a classifier tells apart 2 to 4096", labels.len()));
    }
    for (index, label) in labels.iter().enumerate() {
        if label.is_empty() || label.contains(|c: char| c.is_whitespace() || c == '\0') {
            return wrong(format!("the label {label:?} is empty or has a blank"));
        }
        if labels[..index].contains(label) {
            return wrong(format!("the label {label:?} is given twice"));
        }
    }
    Ok(())
}

fn learn(
    settings: &Settings,
    labels: &[String],
    mut examples: Examples,
    seed: Seed,
    progress: &dyn Progress,
) -> Result<Trained, Error> {
    // The counts of the last batch come with the dictionary; n-grams of characters need the number of buckets for it.
    let hashing = settings.hashing(examples.all_tokens()?);
    let dictionary = examples.dictionary(labels, &hashing);
    if let Some((label, _)) = labels.iter().zip(&examples.label_counts).find(|(_, count)| **count == 0) {
        let reason = format!("no text has the label {label}, or all that have it were held out");
        return Err(Error::Training { reason });
    }
    let (label_counts, empty, bytes, held_out) =
        (examples.label_counts.clone(), examples.empty, examples.bytes, examples.held_out);
    let (tokens, held_path) = (examples.tokens, examples.held_path().to_path_buf());
    let (rows, dense) = examples.into_rows(&dictionary, &hashing)?;
    let width = settings.dimension as usize;
    let mut model = Model::new(width, labels.len(), dense.len(), seed);

    let total = u64::from(settings.epochs) * rows.examples.len() as u64;
    let task = progress.begin("training the classifier", Some(total), Unit::Documents);
    let mut order: Vec<u32> = (0..rows.examples.len() as u32).collect();
    let (mut done, mut expanded, mut loss) = (0u64, Vec::new(), 0.0);
    for epoch in 0..settings.epochs {
        seed.stream("classifier/order", epoch.into()).shuffle(&mut order);
        loss = 0.0;
        for (index, &example) in order.iter().enumerate() {
            let rate = settings.learning_rate * (1.0 - done as f64 / total as f64);
            let label = usize::from(rows.examples[example as usize].label);
            let of_example = expand(&rows, example as usize, &dictionary, &dense, &hashing, &mut expanded);
            loss += f64::from(model.step(of_example, label, rate as f32));
            done += 1;
            if done.is_multiple_of(1 << 10) {
                task.position(done);
                task.message(&format!("loss {:.4}", loss / (index + 1) as f64));
            }
        }
        loss /= order.len().max(1) as f64;
    }
    task.position(done);
    let arguments =
        Arguments { width, epochs: settings.epochs, min_count: settings.min_count, hashing, tokens };
    let Model { input, layer, .. } = model;
    Ok(Trained {
        dictionary,
        arguments,
        input,
        dense,
        layer,
        label_counts,
        empty,
        bytes,
        loss,
        held_path,
        held_out,
    })
}

/// The numbers of an example's rows, with those of the n-grams of characters if there are any.
fn expand<'r>(
    rows: &'r Rows,
    example: usize,
    dictionary: &Dictionary,
    dense: &Dense,
    hashing: &Hashing,
    expanded: &'r mut Vec<u32>,
) -> &'r [u32] {
    let plain = rows.get(example);
    if hashing.max_chars == 0 {
        return plain;
    }
    expanded.clear();
    for &row in plain {
        if row < dictionary.words() { dictionary.push_word(row, expanded) } else { expanded.push(row) }
    }
    // All of them came up when the rows were numbered.
    expanded.iter_mut().for_each(|row| *row = dense.get(*row).unwrap_or(0));
    expanded
}

/// Vectors and the linear layer while they are learned.
struct Model {
    /// Lines a vector.
    lines: usize,
    input: Vec<Line>,
    layer: Vec<Line>,
    hidden: Vec<Line>,
    gradient: Vec<Line>,
    products: Vec<f32>,
}

impl Model {
    /// Vectors uniform between -1/width and 1/width, as in fastText; the layer of zeros.
    fn new(width: usize, labels: usize, rows: usize, seed: Seed) -> Model {
        let lines = width.div_ceil(16);
        let zero = Line([0.0; 16]);
        let key = seed.stream("classifier/vectors", 0).next_u64();
        let bound = 1.0 / width as f32;
        let mut input = vec![zero; rows * lines];
        input.par_chunks_mut(lines).enumerate().for_each(|(row, vector)| {
            for (at, value) in vector.iter_mut().flat_map(|line| &mut line.0).take(width).enumerate() {
                let bits = mix(key ^ (row * width + at) as u64) >> 40;
                *value = (bits as f32 / (1u64 << 23) as f32 - 1.0) * bound;
            }
        });
        let (hidden, gradient) = (vec![zero; lines], vec![zero; lines]);
        Model {
            lines,
            input,
            layer: vec![zero; labels * lines],
            hidden,
            gradient,
            products: vec![0.0; labels],
        }
    }

    /// One step on one example; returns its loss before the step. Without rows nothing is learned.
    fn step(&mut self, rows: &[u32], label: usize, rate: f32) -> f32 {
        if rows.is_empty() {
            return 0.0;
        }
        let lines = self.lines;
        let share = 1.0 / rows.len() as f32;
        let hidden = &mut self.hidden;
        hidden.iter_mut().for_each(|line| line.0 = [0.0; 16]);
        for &row in rows {
            add(hidden, &self.input[row as usize * lines..][..lines], 1.0);
        }
        hidden.iter_mut().for_each(|line| line.0.iter_mut().for_each(|value| *value *= share));
        for (product, output) in self.products.iter_mut().zip(self.layer.chunks_exact(lines)) {
            let mut sums = [0.0; 16];
            for (hidden, output) in hidden.iter().zip(output) {
                for ((sum, hidden), output) in sums.iter_mut().zip(&hidden.0).zip(&output.0) {
                    *sum += hidden * output;
                }
            }
            *product = sums.iter().sum();
        }
        softmax(&mut self.products);
        self.gradient.iter_mut().for_each(|line| line.0 = [0.0; 16]);
        for (index, output) in self.layer.chunks_exact_mut(lines).enumerate() {
            let wanted = f32::from(u8::from(index == label));
            let step = rate * (wanted - self.products[index]);
            add(&mut self.gradient, output, step);
            add(output, hidden, step);
        }
        self.gradient.iter_mut().for_each(|line| line.0.iter_mut().for_each(|value| *value *= share));
        for &row in rows {
            add(&mut self.input[row as usize * lines..][..lines], &self.gradient, 1.0);
        }
        -self.products[label].max(f32::MIN_POSITIVE).ln()
    }
}

/// Adds `factor` times one vector to another.
fn add(to: &mut [Line], from: &[Line], factor: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        for (to, from) in to.0.iter_mut().zip(&from.0) {
            *to += factor * from;
        }
    }
}

/// The finalizer of SplitMix64 (Steele, Lea & Flood 2014): a number without pattern for each number.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Trained {
    /// Writes the model as fastText does.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let width = self.arguments.width;
        let vectors =
            |lines: &'_ [Line]| -> Vec<f32> { lines.iter().flat_map(|line| line.0).take(width).collect() };
        let lines = width.div_ceil(16);
        file::write(
            path,
            &self.arguments,
            &self.dictionary,
            (0..self.dense.rows()).map(|row| match self.dense.get(row) {
                Some(place) => vectors(&self.input[place as usize * lines..][..lines]),
                None => vec![0.0; width],
            }),
            self.layer.chunks_exact(lines).map(vectors),
        )
    }

    /// The labels' indices and texts that were held out, in the order in which they came.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn held_out_texts(&self) -> Result<impl Iterator<Item = Result<(usize, String), Error>>, Error> {
        let texts = Examples::held_out_texts(&self.held_path)?;
        Ok(texts.map(|found| found.map(|(label, text)| (usize::from(label), text))))
    }

    /// Words with vectors of their own, and rows of n-grams.
    pub fn rows(&self) -> (u32, u32) {
        (self.dictionary.words(), self.arguments.hashing.buckets)
    }

    /// Words in the training part, line ends among them.
    pub fn tokens(&self) -> u64 {
        self.arguments.tokens
    }
}

#[cfg(test)]
impl Trained {
    pub(super) fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// The probabilities by the definition: the mean of the vectors, the linear layer, the softmax.
    pub(super) fn predict_plainly(&self, text: &str) -> Vec<f32> {
        let (mut hashes, mut rows) = (Vec::new(), Vec::new());
        self.arguments.hashing.rows(&self.dictionary, text, &mut hashes, &mut rows);
        let lines = self.arguments.width.div_ceil(16);
        let vector = |all: &[Line], row: usize| -> Vec<f64> {
            all[row * lines..][..lines].iter().flat_map(|line| line.0).map(f64::from).collect()
        };
        let mut mean = vec![0.0; lines * 16];
        for &row in &rows {
            let Some(place) = self.dense.get(row) else { continue };
            let of_row = vector(&self.input, place as usize);
            mean.iter_mut().zip(of_row).for_each(|(mean, value)| *mean += value / rows.len() as f64);
        }
        let product =
            |row: usize| vector(&self.layer, row).iter().zip(&mean).map(|(a, b)| a * b).sum::<f64>();
        let mut products: Vec<f32> = (0..self.layer.len() / lines).map(|row| product(row) as f32).collect();
        softmax(&mut products);
        products
    }
}
