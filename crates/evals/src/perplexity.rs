//! Perplexity of a model on held-out text in sliding windows, and how far other models are from it: what a quantisation
//! costs.
//!
//! Each text is a document of its own. A window is `<|begin_of_text|>` and the tokens before a stretch of new ones, at
//! most [`Settings::context`] inputs together; it scores the new tokens alone, of which the first window of a text has as
//! many as fit and each later one [`Settings::stride`]. So every token of a text is scored exactly once, and every one
//! after the first window sees at least `context - stride` inputs. `<|end_of_text|>` is not scored. All models see the
//! same windows in step, through the inference that serves them, and no more than one stretch of logits is held.
//!
//! Over the same tokens, the divergence from the first model and the share of equal first choices are those of
//! llama.cpp's `llama-perplexity --kl-divergence`, whose windows differ: its first half is never scored.

use std::f64::consts::LN_2;
use std::ops::Range;

use ledger::progress::{Progress, Unit};
use model::infer::{Llama, Pages, Scratch, Segment, Wanted};
use rayon::prelude::*;
use serde::Serialize;
use tokenizer::Tokenizer;

use crate::Error;

/// Bytes of logits that one model computes at once, more or less.
const LOGITS: usize = 64 << 20;
/// Inputs that are passed at once where no logits are wanted.
const PASS: usize = 512;
/// Tokens of a page of keys and values.
const PAGE_TOKENS: usize = 64;

/// How text is cut into windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Most inputs of a window, `<|begin_of_text|>` included.
    pub context: usize,
    /// New tokens of every window but a text's first.
    pub stride: usize,
    /// Most tokens that are scored, in whole windows; all of them without.
    pub max_tokens: Option<u64>,
}

/// A mean and its standard error: the deviation of the tokens over the root of their number, as if they were independent.
/// Neighbouring tokens are not quite, so the true error is somewhat larger.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
}

/// How the models foretold the text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Texts with at least one token.
    pub documents: u64,
    /// Tokens scored.
    pub tokens: u64,
    /// Bytes of the tokens scored.
    pub bytes: u64,
    /// Windows.
    pub windows: u64,
    /// One for each model, in their order.
    pub models: Vec<Measured>,
}

/// How one model foretold the text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Mean negative log-likelihood of a token, in nats.
    pub nats_per_token: Estimate,
    /// Its exponential.
    pub perplexity: Estimate,
    /// Bits of all tokens over their bytes.
    pub bits_per_byte: Estimate,
    /// Beside the first model; the first itself has none.
    pub beside_first: Option<Comparison>,
}

/// A model beside the first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Perplexity over the first's. Its error is that of the differences token by token, smaller than those of both.
    pub ratio: Estimate,
    /// Kullback-Leibler divergence of its distribution of the next token from the first's, in nats, mean of the tokens.
    pub divergence: Estimate,
    /// The divergence that half of the tokens stay below.
    pub median_divergence: f64,
    /// The divergence that 99 of 100 tokens stay below.
    pub divergence_99: f64,
    /// The largest.
    pub largest_divergence: f64,
    /// Share of tokens at whose place both hold the same token for the most likely.
    pub same_top: Estimate,
}

/// Measures all models on the same windows.
///
/// # Errors
/// Windows that a model has no room for, texts without tokens, and tokens outside a model's vocabulary.
pub fn perplexity(
    models: &[&Llama],
    tokenizer: &Tokenizer,
    texts: &[String],
    settings: Settings,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    settings.validate(models)?;
    let documents: Vec<Vec<u32>> =
        texts.iter().map(|text| tokenizer.encode(text)).filter(|tokens| !tokens.is_empty()).collect();
    let mut windows = Vec::new();
    let (mut tokens, mut measured_documents) = (0u64, 0u64);
    'all: for (document, all) in documents.iter().enumerate() {
        measured_documents += 1;
        for window in cut(all.len(), settings) {
            tokens += window.scored.len() as u64;
            windows.push((document, window));
            if settings.max_tokens.is_some_and(|most| tokens >= most) {
                break 'all;
            }
        }
    }
    let mut seats: Vec<Seat> = models.iter().map(|model| Seat::new(model, settings.context)).collect();
    if tokens == 0 || seats.is_empty() {
        return Err(Error::NoDocuments);
    }
    let task = progress.begin("perplexity", Some(tokens), Unit::Tokens);
    let vocab_size = models.iter().map(|model| model.config().vocab_size).max().unwrap_or(1);
    let rows = (LOGITS / 4 / vocab_size).max(1);
    let mut bytes = 0;
    for (document, window) in &windows {
        let all = &documents[*document];
        bytes += bytes_of(tokenizer, &all[window.scored.clone()]);
        // `inputs[i]` comes before `all[window.first + i]`; the last token of a window is scored and leads nowhere.
        let inputs: Vec<u32> = std::iter::once(tokenizer.bos())
            .chain(all[window.first..window.scored.end - 1].iter().copied())
            .collect();
        let seen = window.scored.start - window.first;
        for seat in &mut seats {
            seat.begin(&inputs[..seen])?;
        }
        let mut at = window.scored.start;
        while at < window.scored.end {
            let end = window.scored.end.min(at + rows);
            let inputs = &inputs[at - window.first..end - window.first];
            score(&mut seats, inputs, &all[at..end])?;
            task.advance((end - at) as u64);
            at = end;
        }
    }
    drop(task);
    Ok(Report {
        documents: measured_documents,
        tokens,
        bytes,
        windows: windows.len() as u64,
        models: seats.iter().map(|seat| seat.measured(&seats[0], bytes)).collect(),
    })
}

fn bytes_of(tokenizer: &Tokenizer, tokens: &[u32]) -> u64 {
    tokens.iter().filter_map(|&token| tokenizer.token_bytes(token)).map(|bytes| bytes.len() as u64).sum()
}

impl Settings {
    fn validate(self, models: &[&Llama]) -> Result<(), Error> {
        let mut faults = Vec::new();
        if self.context < 2 {
            faults.push(format!("a context of {} tokens leaves none to look back at", self.context));
        }
        if self.stride == 0 || self.stride > self.context {
            faults.push(format!(
                "the stride is {}; it must lie between 1 and the context of {}",
                self.stride, self.context
            ));
        }
        let room = models.iter().map(|model| model.max_seq_len()).min();
        if let Some(room) = room.filter(|room| self.context > *room) {
            faults.push(format!("the context is {} tokens, and a model has room for {room}", self.context));
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Windows(faults)) }
    }
}

/// A stretch of a text that is scored, and the place where its window begins.
#[derive(Debug, Clone, PartialEq)]
struct Window {
    /// The first token after `<|begin_of_text|>`.
    first: usize,
    /// What is scored.
    scored: Range<usize>,
}

/// The windows of a text of so many tokens. A window has `scored.end - first` inputs: `<|begin_of_text|>` instead of the
/// last token.
fn cut(tokens: usize, settings: Settings) -> impl Iterator<Item = Window> {
    let Settings { context, stride, .. } = settings;
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= tokens {
            return None;
        }
        let end = tokens.min(if start == 0 { context } else { start + stride });
        let window = Window { first: end.saturating_sub(context), scored: start..end };
        start = end;
        Some(window)
    })
}

/// A model at work, and what it was found to foretell.
struct Seat<'a> {
    reader: Reader<'a>,
    /// Negative log-likelihood of every token, in nats.
    nats: Vec<f64>,
    /// Divergence from the first model at every token; empty for the first.
    divergences: Vec<f64>,
    /// Tokens at which the first choice is the first model's.
    same_top: u64,
}

/// A model that reads one window after the other.
struct Reader<'a> {
    model: &'a Llama,
    pages: Pages,
    /// All of them, in order: one sequence has them to itself.
    table: Vec<u32>,
    /// Tokens of the window that were read.
    read: usize,
    scratch: Scratch,
}

impl<'a> Reader<'a> {
    fn new(model: &'a Llama, context: usize) -> Self {
        let count = context.div_ceil(PAGE_TOKENS);
        let pages = model.pages(model.exact_storage(), PAGE_TOKENS, count);
        Self { model, pages, table: (0..count as u32).collect(), read: 0, scratch: Scratch::default() }
    }

    /// Reads the window's next tokens; the logits of the last `wanted` of them, row after row.
    fn read(&mut self, tokens: &[u32], wanted: usize) -> Result<&[f32], Error> {
        let segment = Segment {
            tokens,
            first: self.read,
            pages: &self.table,
            wanted: Wanted::Logits(wanted),
            adapter: None,
        };
        let outputs = self.model.forward(&mut self.pages, &[segment], &mut self.scratch)?;
        self.read += tokens.len();
        Ok(outputs.logits)
    }
}

impl<'a> Seat<'a> {
    fn new(model: &'a Llama, context: usize) -> Self {
        let reader = Reader::new(model, context);
        Self { reader, nats: Vec::new(), divergences: Vec::new(), same_top: 0 }
    }

    /// Begins a window with inputs after which nothing is scored.
    fn begin(&mut self, inputs: &[u32]) -> Result<(), Error> {
        self.reader.read = 0;
        for tokens in inputs.chunks(PASS) {
            self.reader.read(tokens, 0)?;
        }
        Ok(())
    }

    fn measured(&self, first: &Self, bytes: u64) -> Measured {
        let nats = Estimate::of(&self.nats);
        let perplexity = nats.value.exp();
        let per_byte = self.nats.len() as f64 / LN_2 / bytes.max(1) as f64;
        Measured {
            nats_per_token: nats,
            perplexity: Estimate { value: perplexity, standard_error: perplexity * nats.standard_error },
            bits_per_byte: Estimate {
                value: nats.value * per_byte,
                standard_error: nats.standard_error * per_byte,
            },
            beside_first: (!self.divergences.is_empty()).then(|| self.beside(first)),
        }
    }

    fn beside(&self, first: &Self) -> Comparison {
        let differences: Vec<f64> =
            self.nats.iter().zip(&first.nats).map(|(own, first)| own - first).collect();
        let difference = Estimate::of(&differences);
        let ratio = difference.value.exp();
        let mut sorted = self.divergences.clone();
        sorted.sort_by(f64::total_cmp);
        let below = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        let tokens = self.nats.len() as f64;
        let same = self.same_top as f64 / tokens;
        Comparison {
            ratio: Estimate { value: ratio, standard_error: ratio * difference.standard_error },
            divergence: Estimate::of(&self.divergences),
            median_divergence: below(0.5),
            divergence_99: below(0.99),
            largest_divergence: below(1.0),
            same_top: Estimate { value: same, standard_error: (same * (1.0 - same) / tokens).sqrt() },
        }
    }
}

/// Scores `targets`, each the token that follows the input at its place.
fn score(seats: &mut [Seat], inputs: &[u32], targets: &[u32]) -> Result<(), Error> {
    let mut found: Vec<(Rows, &mut Vec<f64>, &mut Vec<f64>, &mut u64)> = Vec::new();
    for seat in seats {
        let Seat { reader, nats, divergences, same_top } = seat;
        let vocab_size = reader.model.config().vocab_size;
        let logits = Rows { values: reader.read(inputs, inputs.len())?, vocab_size };
        found.push((logits, nats, divergences, same_top));
    }
    let ((first, nats, ..), others) = found.split_first_mut().expect("there is a model");
    let scores: Vec<Row> =
        (0..targets.len()).into_par_iter().map(|row| Row::of(first.row(row), targets[row])).collect();
    nats.extend(scores.iter().map(|row| row.nats));
    for (logits, nats, divergences, same_top) in others {
        let own: Vec<(Row, f64)> = (0..targets.len())
            .into_par_iter()
            .map(|row| {
                let own = Row::of(logits.row(row), targets[row]);
                let divergence = divergence(first.row(row), &scores[row], logits.row(row), &own);
                (own, divergence)
            })
            .collect();
        for ((own, divergence), first) in own.into_iter().zip(&scores) {
            nats.push(own.nats);
            divergences.push(divergence);
            **same_top += u64::from(own.top == first.top);
        }
    }
    Ok(())
}

/// Logits `[rows, V]`.
struct Rows<'a> {
    values: &'a [f32],
    vocab_size: usize,
}

impl Rows<'_> {
    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.vocab_size..(index + 1) * self.vocab_size]
    }
}

/// What a row of logits says.
struct Row {
    /// Of the target.
    nats: f64,
    /// The most likely token; of equal ones, the first.
    top: usize,
    /// The logarithm of the sum of the exponentials of the logits.
    log_sum: f64,
}

impl Row {
    fn of(logits: &[f32], target: u32) -> Self {
        let top = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a }).unwrap_or(0);
        let largest = f64::from(logits[top]);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        let log_sum = largest + sum.ln();
        Self { nats: log_sum - f64::from(logits[target as usize]), top, log_sum }
    }
}

/// Σ p (ln p - ln q) over the vocabulary, `p` being the first's.
fn divergence(first: &[f32], first_row: &Row, other: &[f32], other_row: &Row) -> f64 {
    let terms = first.iter().zip(other).map(|(&first, &other)| {
        let (log_p, log_q) = (f64::from(first) - first_row.log_sum, f64::from(other) - other_row.log_sum);
        log_p.exp() * (log_p - log_q)
    });
    // Rounding can leave less than nothing where both are the same.
    terms.sum::<f64>().max(0.0)
}

impl Estimate {
    /// Of independent values.
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let value = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|one| (one - value).powi(2)).sum();
        let standard_error = if values.len() > 1 { (squares / (count - 1.0) / count).sqrt() } else { 0.0 };
        Self { value, standard_error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_scored_once_with_enough_before_it() {
        for (tokens, context, stride) in
            [(1, 8, 4), (8, 8, 4), (9, 8, 4), (40, 8, 8), (41, 8, 1), (100, 16, 5)]
        {
            let settings = Settings { context, stride, max_tokens: None };
            let mut next = 0;
            for window in cut(tokens, settings) {
                let (first, scored) = (window.first, window.scored);
                assert_eq!(scored.start, next, "{tokens} {settings:?}");
                assert!(scored.end - first <= context && scored.end > scored.start);
                // All of the text so far, or the context that is promised.
                assert!(first == 0 || scored.start - first >= context - stride, "{tokens} {settings:?}");
                next = scored.end;
            }
            assert_eq!(next, tokens, "{settings:?}");
        }
    }

    #[test]
    fn rows_and_divergences_are_those_of_plain_sums() {
        let (p, q) = ([0.0f32, 1.0, 2.0], [0.5f32, 1.0, 1.0]);
        let (first, other) = (Row::of(&p, 0), Row::of(&q, 0));
        assert_eq!((first.top, other.top), (2, 1));
        let softmax = |logits: &[f32; 3]| {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            logits.map(|logit| f64::from(logit).exp() / sum)
        };
        let (exact_p, exact_q) = (softmax(&p), softmax(&q));
        assert!((first.nats + exact_p[0].ln()).abs() < 1e-12);
        let exact: f64 = exact_p.iter().zip(exact_q).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((divergence(&p, &first, &q, &other) - exact).abs() < 1e-12);
        assert_eq!(divergence(&p, &first, &p, &first), 0.0);
    }
}
