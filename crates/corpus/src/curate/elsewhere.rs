//! The first pass by other processes: the inputs are cut into portions, and what comes back is numbered as if it had been
//! read here, and written as shards of the ordinary work folder. Who does the portions, and how they travel, is the
//! matter of an [`Elsewhere`]; how they are done, that of a [`Worker`](super::portion::Worker).

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, UInt8Array, UInt64Array};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use ledger::progress::Task;

use super::first_pass::{Shards, Worked, sign};
use super::portion::{ACCOUNT, Account, Job, LAYER, Portion};
use super::shard::{End, Place};
use super::work::Position;
use super::{NAME, Options};
use crate::batch::{self, column};
use crate::source::{Input, Inputs};
use crate::{Error, Settings};

/// Most inputs of a portion: of a tree of small files the paths alone are a message.
const MAX_INPUTS: usize = 4_096;

/// Other processes that do portions of the first pass.
pub trait Elsewhere: std::fmt::Debug + Sync {
    /// Bytes of inputs, as they lie on the disk, that make a portion; a larger input is one of its own.
    fn portion_bytes(&self) -> u64;

    /// Has all portions done, whoever fails meanwhile, and hands what [`Worker::run`](super::Worker::run) made of each to
    /// `take` with the portion's number: the rows of the first portion in order, then those of the second. Each row is
    /// handed over once. `task` counts bytes of inputs. Ends with [`Error::Stopped`] soon after `go_on` says false.
    ///
    /// # Errors
    /// What `take` returns, [`Error::Elsewhere`], and what workers said.
    fn run(
        &self,
        job: &Job,
        portions: Vec<Portion>,
        task: &dyn Task,
        go_on: &(dyn Fn() -> bool + Sync),
        take: &mut dyn FnMut(usize, RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error>;
}

/// Has what lies behind this position done, from this shard on.
pub(super) fn run(
    elsewhere: &dyn Elsewhere,
    job: &Job,
    inputs: &Inputs,
    (begin, position): (Place, Position),
    task: &dyn Task,
    options: &Options,
    shards: &mut Shards,
) -> Result<(), Error> {
    let (bounds, portions) = cut(&inputs.inputs, position, elsewhere.portion_bytes());
    let mut taker = Taker {
        inputs: inputs.inputs.len(),
        bounds,
        layers: if job.keeps_work() { 2 } else { 1 },
        settings: job.settings()?,
        place: begin,
        portion: None,
        documents: position.documents,
        ended: true,
        rows: Vec::new(),
    };
    let go_on = || options.go_on();
    elsewhere.run(job, portions, task, &go_on, &mut |portion, batch| {
        options.check()?;
        taker.take(portion, &batch, shards)
    })?;
    taker.finish()
}

/// Runs of inputs, and where they begin among all.
fn cut(inputs: &[Input], position: Position, portion_bytes: u64) -> (Vec<usize>, Vec<Portion>) {
    let mut bounds = Vec::new();
    let mut portions = Vec::new();
    let mut from = position.input;
    while from < inputs.len() {
        let mut bytes = 0;
        let more = inputs[from..].iter().take(MAX_INPUTS).take_while(|input| {
            bytes += input.bytes;
            bytes <= portion_bytes
        });
        let to = from + more.count().max(1);
        let pass_over = if from == position.input { position.records } else { 0 };
        bounds.push(from);
        portions.push(Portion::new(&inputs[from..to], pass_over));
        from = to;
    }
    bounds.push(inputs.len());
    (bounds, portions)
}

/// Puts pieces together again, and numbers them.
struct Taker {
    inputs: usize,
    /// Where the portions begin among the inputs, and the end of the last.
    bounds: Vec<usize>,
    layers: usize,
    settings: Settings,
    /// The shard in the making.
    place: Place,
    /// Which portion's rows come.
    portion: Option<usize>,
    /// Documents before this portion.
    documents: u64,
    /// Whether the portion has come to its end.
    ended: bool,
    /// The rows of the piece so far, by layer.
    rows: Vec<(u8, RecordBatch)>,
}

impl Taker {
    fn take(&mut self, portion: usize, batch: &RecordBatch, shards: &mut Shards) -> Result<(), Error> {
        if self.portion != Some(portion) {
            if !self.ended || portion != self.portion.map_or(0, |last| last + 1) {
                return Err(broken(format!("portion {portion} came before the end of the one before it")));
            }
            (self.portion, self.ended) = (Some(portion), false);
        }
        if self.ended && batch.num_rows() > 0 {
            return Err(broken(format!("portion {portion} goes on behind its end")));
        }
        let layers: &UInt8Array = column(batch, NAME, LAYER)?;
        let accounts: &StringArray = column(batch, NAME, ACCOUNT)?;
        let mut from = 0;
        while from < batch.num_rows() {
            if layers.is_null(from) {
                let account = serde_json::from_str(accounts.value(from))
                    .map_err(|error| broken(format!("an account cannot be read: {error}")))?;
                self.piece(account, shards)?;
                from += 1;
                continue;
            }
            let layer = layers.value(from);
            let same = |row: &usize| layers.is_valid(*row) && layers.value(*row) == layer;
            let count = (from..batch.num_rows()).take_while(same).count();
            self.rows.push((layer, batch.slice(from, count)));
            from += count;
        }
        Ok(())
    }

    /// A whole piece has come.
    fn piece(&mut self, account: Account, shards: &mut Shards) -> Result<(), Error> {
        match account {
            Account::Batch(changes) => {
                if changes.len() != self.layers {
                    return Err(broken(format!("a piece has {} layers", changes.len())));
                }
                let rows = std::mem::take(&mut self.rows);
                let layers = changes.into_iter().enumerate().map(|(index, changes)| {
                    let batch = self.layer(index, &rows)?;
                    Ok((batch, changes.into_iter().map(|change| change.change()).collect()))
                });
                let layers = layers.collect::<Result<Vec<_>, Error>>()?;
                shards.take(Worked::Batch(self.place, sign(layers, &self.settings)?))
            }
            Account::End(end) => {
                let portion = self.portion.unwrap_or_default();
                let first = self.bounds[portion];
                let documents = self.documents + end.position.documents;
                let (input, is_last) = (first + end.position.input, portion + 2 == self.bounds.len());
                if end.position.end {
                    if input != self.bounds[portion + 1] {
                        return Err(broken(format!("portion {portion} ends at input {input}")));
                    }
                    (self.ended, self.documents) = (true, documents);
                }
                let position = Position {
                    input,
                    records: end.position.records,
                    documents,
                    end: end.position.end && is_last && input == self.inputs,
                };
                let place = self.place;
                self.place.shard += 1;
                shards.take(Worked::End(Box::new(End {
                    place,
                    position,
                    skipped: end.skipped,
                    skip_count: end.skip_count,
                    ignored: end.ignored,
                })))
            }
        }
    }

    /// The rows of a layer of this piece, with the columns that its steps leave and ordinals among all documents.
    fn layer(&self, layer: usize, rows: &[(u8, RecordBatch)]) -> Result<RecordBatch, Error> {
        let is_last = layer + 1 == self.layers;
        let of_layer: Vec<&RecordBatch> =
            rows.iter().filter(|(of, _)| usize::from(*of) == layer).map(|(_, batch)| batch).collect();
        let documents = batch::with_scores(
            &batch::working_schema(),
            self.settings.classifiers.keys().filter(|_| is_last),
        );
        let Some(travelled) = of_layer.first().map(|batch| batch.schema()) else {
            // No document is left, so nothing has to be signed.
            return Ok(RecordBatch::new_empty(documents));
        };
        let joined = concat_batches(&travelled, of_layer).map_err(arrow)?;
        let ordinals: &UInt64Array = column(&joined, NAME, "ordinal")?;
        let ordinals: UInt64Array = ordinals.values().iter().map(|at| at + self.documents).collect();
        let mut fields: Vec<_> = documents.fields().iter().cloned().collect();
        if is_last {
            let signing = |name| travelled.fields().find(name).map(|(_, field)| field.clone());
            fields.extend(["fingerprint", "minhash"].into_iter().filter_map(signing));
        }
        let schema: SchemaRef = Arc::new(arrow_schema::Schema::new(fields));
        let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, Error> {
            match field.name().as_str() {
                "ordinal" => Ok(Arc::new(ordinals.clone())),
                name => joined
                    .column_by_name(name)
                    .cloned()
                    .ok_or_else(|| broken(format!("the column {name} is missing"))),
            }
        });
        let columns = columns.collect::<Result<Vec<_>, Error>>()?;
        RecordBatch::try_new(schema, columns).map_err(arrow)
    }

    fn finish(self) -> Result<(), Error> {
        let all = self.portion.map_or(0, |last| last + 1) + 1 == self.bounds.len();
        if all && self.ended && self.rows.is_empty() {
            Ok(())
        } else {
            Err(broken("the last portion did not come to its end".into()))
        }
    }
}

fn broken(reason: String) -> Error {
    Error::Elsewhere { reason: format!("what came back is not what was asked for: {reason}"), hint: None }
}

fn arrow(error: arrow_schema::ArrowError) -> Error {
    Error::Batch { step: NAME, reason: error.to_string() }
}
