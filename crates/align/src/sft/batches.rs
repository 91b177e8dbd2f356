//! Conversations packed into rows, each a document of its own: attention never crosses from one to the next, and only
//! the assistant's tokens are predicted.
//!
//! All rows are laid out before training begins, so a batch is a function of the step alone.

use super::settings::Plan;
use super::source::Source;
use crate::Error;
use ledger::digest::Digest;
use ledger::progress::{Progress, Unit};
use model::Batch;
use tokenizer::Tokenizer;
use tokenizer::chat;
use train::Batches;

/// Rows that are open for another conversation at a time; each conversation goes into the fullest row that holds it.
const OPEN_ROWS: usize = 16;

/// The batches of supervised fine-tuning.
#[derive(Debug)]
pub struct SftBatches {
    rows: usize,
    seq_len: usize,
    accumulation: u32,
    padding: u32,
    packed: Vec<Row>,
    summary: Packing,
}

/// How well the conversations filled the rows.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Packing {
    /// Conversations in the rows.
    pub conversations: u64,
    /// Tokens in the rows, without padding.
    pub tokens: u64,
    /// Tokens of the assistant, which are predicted.
    pub predicted: u64,
    /// Places in the rows that hold padding.
    pub padding: u64,
    /// Conversations of which only the first answers fit into a row.
    pub cut: u64,
    /// Conversations of which no answer fits into a row; they are left out.
    pub too_long: u64,
}

/// The conversations of a row, back to back.
#[derive(Debug, Default)]
struct Row {
    /// Places in use: one fewer than a conversation's tokens, since the last is only a target.
    used: usize,
    conversations: Vec<Example>,
}

#[derive(Debug)]
struct Example {
    tokens: Vec<u32>,
    /// Whether the token of the same place is to be predicted.
    predict: Vec<bool>,
}

impl SftBatches {
    /// Draws conversations from `source` until the rows of all steps are full.
    ///
    /// # Errors
    /// Where none of a thousand conversations in a row fits into a row.
    pub(super) fn new(
        source: &mut Source,
        tokenizer: &Tokenizer,
        plan: &Plan,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let needed = plan.steps as usize * plan.accumulation as usize * plan.rows;
        let task = progress.begin("lay out conversations", Some(needed as u64), Unit::Items);
        let mut batches = Self {
            rows: plan.rows,
            seq_len: plan.seq_len,
            accumulation: plan.accumulation,
            padding: tokenizer.padding().unwrap_or(tokenizer.eos()),
            packed: Vec::with_capacity(needed),
            summary: Packing::default(),
        };
        let mut open: Vec<Row> = Vec::new();
        let mut refused = 0;
        while batches.packed.len() < needed {
            let (tokens, predict) = chat::training_example(tokenizer, &source.next());
            let Some(example) = batches.fit(Example { tokens, predict }) else {
                refused += 1;
                if refused == 1000 {
                    return Err(Error::NothingFits { seq_len: plan.seq_len });
                }
                continue;
            };
            refused = 0;
            let length = example.tokens.len() - 1;
            let fullest = (0..open.len())
                .filter(|&row| open[row].used + length <= plan.seq_len)
                .max_by_key(|&row| (open[row].used, std::cmp::Reverse(row)));
            let row = fullest.unwrap_or_else(|| {
                if open.len() == OPEN_ROWS {
                    let full = (0..open.len())
                        .max_by_key(|&row| (open[row].used, std::cmp::Reverse(row)))
                        .unwrap_or(0);
                    batches.packed.push(open.swap_remove(full));
                    task.advance(1);
                }
                open.push(Row::default());
                open.len() - 1
            });
            open[row].used += length;
            open[row].conversations.push(example);
        }
        batches.summarise();
        Ok(batches)
    }

    /// How well the rows are filled.
    pub fn packing(&self) -> &Packing {
        &self.summary
    }

    /// Digest of every row: a checkpoint made from other rows must not be resumed.
    pub(super) fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        for row in &self.packed {
            for example in &row.conversations {
                let marked = example.tokens.iter().zip(&example.predict);
                bytes.extend(
                    marked.flat_map(|(&token, &predict)| (token << 1 | u32::from(predict)).to_le_bytes()),
                );
            }
            bytes.extend(u32::MAX.to_le_bytes());
        }
        Digest::of_bytes(&bytes)
    }

    /// The example up to its last answer that fits into a row.
    fn fit(&mut self, mut example: Example) -> Option<Example> {
        let room = (self.seq_len + 1).min(example.tokens.len());
        // The end of an answer: a predicted token with none after it.
        let end = (1..=room)
            .rev()
            .find(|&end| example.predict[end - 1] && !example.predict.get(end).copied().unwrap_or(false));
        let Some(end) = end else {
            self.summary.too_long += 1;
            return None;
        };
        if example.predict[end..].contains(&true) {
            self.summary.cut += 1;
        }
        example.tokens.truncate(end);
        example.predict.truncate(end);
        Some(example)
    }

    fn summarise(&mut self) {
        for row in &self.packed {
            self.summary.padding += (self.seq_len - row.used) as u64;
            for example in &row.conversations {
                self.summary.conversations += 1;
                self.summary.tokens += example.tokens.len() as u64 - 1;
                self.summary.predicted += example.predict.iter().filter(|&&predict| predict).count() as u64;
            }
        }
    }

    fn row(&self, step: u64, micro: u32, row: usize) -> &Row {
        let micro_batch = step * u64::from(self.accumulation) + u64::from(micro);
        &self.packed[(micro_batch as usize * self.rows + row) % self.packed.len()]
    }
}

impl Batches for SftBatches {
    fn fill(&self, step: u64, micro: u32, batch: &mut Batch) {
        assert_eq!(
            (batch.rows, batch.seq_len),
            (self.rows, self.seq_len),
            "the batch has another shape than its source"
        );
        for index in 0..self.rows {
            let first = index * self.seq_len;
            let mut column = 0;
            for example in &self.row(step, micro, index).conversations {
                let length = example.tokens.len() - 1;
                let here = first + column..first + column + length;
                batch.inputs[here.clone()].copy_from_slice(&example.tokens[..length]);
                batch.targets[here.clone()].copy_from_slice(&example.tokens[1..]);
                batch.document_starts[here.clone()].fill(column as u32);
                for (weight, &predict) in batch.loss_weights[here].iter_mut().zip(&example.predict[1..]) {
                    *weight = if predict { 1.0 } else { 0.0 };
                }
                column += length;
            }
            let rest = first + column..first + self.seq_len;
            batch.inputs[rest.clone()].fill(self.padding);
            batch.targets[rest.clone()].fill(self.padding);
            batch.loss_weights[rest.clone()].fill(0.0);
            batch.document_starts[rest].fill(column as u32);
        }
    }

    fn describe(&self, step: u64, micro: u32) -> String {
        let conversations: usize =
            (0..self.rows).map(|row| self.row(step, micro, row).conversations.len()).sum();
        format!("{conversations} conversations, micro-batch {micro} of step {}", step + 1)
    }
}
