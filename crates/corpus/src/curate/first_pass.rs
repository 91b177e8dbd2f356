//! The first pass: from the inputs to filtered documents and their signatures in the work folder. What is there already is
//! kept; what has to be filtered again is read from the layer before.

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, FixedSizeBinaryArray, FixedSizeListArray, RecordBatch, StringArray};
use ledger::progress::{Progress, Task, Unit};

use super::elsewhere;
use super::pipeline::{self, Feed};
use super::portion::Job;
use super::shard::{Change, End, Place, Processed, ShardWriter, read_documents};
use super::work::{Account, Position, Work};
use super::{BATCH_BYTES, BATCH_DOCUMENTS, MAX_LISTED_SKIPS, NAME, Options};
use crate::batch::{self, Builder, Record, Rows, column};
use crate::dedup::{Head, Signed};
use crate::funnel::{Count, SkippedInput};
use crate::kind::Class;
use crate::read::{self, Flow, Sink};
use crate::removed;
use crate::settings::RemovedSamples;
use crate::source::{Input, Inputs};
use crate::steps::{self, Removed, Step};
use crate::{Error, Settings, url};

/// What the pass is called while it runs.
pub(super) const READING: &str = "reading and filtering documents";

/// Most documents of a shard: their signatures are held until it ends.
const SHARD_DOCUMENTS: u64 = 1 << 16;

/// Batches a thread that are on the way at once, where the memory allows it, and what a batch may take while it is
/// worked on: pages become trees of several times their size.
const BATCHES_PER_THREAD: usize = 4;
const WORKED_BATCH_BYTES: u64 = 16 << 20;

/// What travels to the workers.
pub(super) enum Thing {
    Batch(Place, RecordBatch),
    End(Box<End>),
}

/// What comes from them.
pub(super) enum Worked {
    Batch(Place, Processed),
    End(Box<End>),
}

/// Makes what the work folder lacks.
pub(super) fn run(
    work: &Work,
    inputs: &Inputs,
    settings: &Settings,
    evaluation_texts: &[String],
    progress: &dyn Progress,
    options: &Options,
) -> Result<(), Error> {
    let (shards, position) = work.position()?;
    let last = work.layers().len() - 1;
    let stale: Vec<(usize, usize, Account)> = (0..shards)
        .filter_map(|shard| {
            let deepest = work.deepest(shard).filter(|&deepest| deepest < last)?;
            Some((shard, deepest, work.account(deepest, shard)?))
        })
        .collect();
    if !stale.is_empty() {
        let documents = stale.iter().map(|(_, _, account)| account.documents).sum();
        let task = progress.begin("filtering documents again", Some(documents), Unit::Documents);
        let feed = |feed: &mut Feed<Thing>| refeed(work, stale, feed, task.as_ref(), options);
        through(work, settings, options, task.as_ref(), feed)??;
    }
    if !position.end {
        let bytes = inputs.inputs.iter().map(|input| input.bytes).sum();
        let task = progress.begin(READING, Some(bytes), Unit::Bytes);
        let before = inputs.inputs.iter().take(position.input).map(|input| input.bytes).sum();
        task.position(before);
        match options.elsewhere.filter(|_| position.input < inputs.inputs.len()) {
            Some(elsewhere) => {
                let begin = Place { shard: shards, from: 0 };
                let job = Job::new(settings, evaluation_texts, options)?;
                let mut shards = Shards::new(work, settings, task.as_ref());
                elsewhere::run(
                    elsewhere,
                    &job,
                    inputs,
                    (begin, position),
                    task.as_ref(),
                    options,
                    &mut shards,
                )?;
            }
            None => {
                let feed = |feed: &mut Feed<Thing>| {
                    let begin = Place { shard: shards, from: 0 };
                    read_on(&inputs.inputs, settings, (begin, position), feed, task.as_ref(), options)
                };
                through(work, settings, options, task.as_ref(), feed)??;
            }
        }
    }
    options.check()
}

/// Sends the documents of shards from the deepest layer that is of use.
fn refeed(
    work: &Work,
    stale: Vec<(usize, usize, Account)>,
    feed: &mut Feed<Thing>,
    task: &dyn Task,
    options: &Options,
) -> Result<(), Error> {
    for (shard, deepest, account) in stale {
        options.check()?;
        for batch in read_documents(&work.documents(deepest, shard), &account)? {
            let batch = batch?;
            task.advance(batch.num_rows() as u64);
            if feed.send(Thing::Batch(Place { shard, from: deepest + 1 }, batch)).is_break() {
                return Ok(());
            }
        }
        let Account { position, skipped, skip_count, ignored, .. } = account;
        let end = End { place: Place { shard, from: deepest + 1 }, position, skipped, skip_count, ignored };
        if feed.send(Thing::End(Box::new(end))).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends what lies behind this position of the inputs, from this shard on. What was read before an error is sent too.
pub(super) fn read_on(
    inputs: &[Input],
    settings: &Settings,
    (begin, position): (Place, Position),
    feed: &mut Feed<Thing>,
    task: &dyn Task,
    options: &Options,
) -> Result<(), Error> {
    let mut reading = Reading {
        feed,
        builder: Builder::new(position.documents),
        end: End { place: begin, ..End::default() },
        position,
        pass_over: position.records,
        text_bytes: 0,
        documents: 0,
        options,
    };
    // Nobody listens any more where this breaks: the other side knows why.
    reading.run(inputs, settings, task).map(|_| ())
}

/// Builds batches of what the readers find and sends them on, with the ends of shards.
struct Reading<'a> {
    feed: &'a mut Feed<Thing>,
    builder: Builder,
    end: End,
    position: Position,
    /// Records of this input that an earlier run has seen.
    pass_over: u64,
    text_bytes: u64,
    documents: u64,
    options: &'a Options<'a>,
}

impl Reading<'_> {
    fn run(&mut self, inputs: &[Input], settings: &Settings, task: &dyn Task) -> Result<Flow, Error> {
        for (index, input) in inputs.iter().enumerate().skip(self.position.input) {
            match read::read(input, settings, task, self) {
                Ok(Flow::Continue(())) => {}
                Ok(Flow::Break(())) => return Ok(Flow::Break(())),
                Err(error) => {
                    // A shard may end anywhere; the next run goes on behind what this one has seen.
                    let _ = self.end_shard();
                    return Err(error);
                }
            }
            (self.position.input, self.position.records, self.pass_over) = (index + 1, 0, 0);
        }
        self.position.end = true;
        Ok(self.end_shard())
    }

    fn send(&mut self) -> Flow {
        if self.builder.is_empty() {
            return Flow::Continue(());
        }
        self.feed.send(Thing::Batch(self.end.place, self.builder.finish()))
    }

    fn end_shard(&mut self) -> Flow {
        self.send()?;
        (self.text_bytes, self.documents) = (0, 0);
        let place = Place { shard: self.end.place.shard + 1, from: 0 };
        let next = End { place, ..End::default() };
        let end = End { position: self.position, ..std::mem::replace(&mut self.end, next) };
        self.feed.send(Thing::End(Box::new(end)))
    }

    /// Whether the next thing in this input is new.
    fn is_new(&mut self) -> bool {
        if self.pass_over > 0 {
            self.pass_over -= 1;
            return false;
        }
        self.position.records += 1;
        true
    }
}

impl Sink for Reading<'_> {
    fn record(&mut self, record: Record) -> Flow {
        if !self.is_new() {
            return Flow::Continue(());
        }
        self.builder.push(&record);
        self.position.documents += 1;
        self.documents += 1;
        self.text_bytes += record.text.len() as u64;
        if !self.options.go_on() {
            // What was read is kept: a shard may end anywhere.
            self.end_shard()?;
            return Flow::Break(());
        }
        if self.text_bytes >= self.options.checkpoint_bytes || self.documents >= SHARD_DOCUMENTS {
            return self.end_shard();
        }
        if self.builder.text_bytes() >= BATCH_BYTES || self.builder.len() >= BATCH_DOCUMENTS {
            return self.send();
        }
        Flow::Continue(())
    }

    fn skip(&mut self, place: String, reason: String) -> Flow {
        if self.is_new() {
            self.end.skip_count += 1;
            if self.end.skipped.len() < MAX_LISTED_SKIPS {
                self.end.skipped.push(SkippedInput { place, reason });
            }
        }
        Flow::Continue(())
    }

    fn ignore(&mut self, label: &str) {
        if self.is_new() {
            *self.end.ignored.entry(label.to_string()).or_default() += 1;
        }
    }
}

/// Threads that work, and things on the way.
pub(super) fn breadth(options: &Options) -> (usize, usize) {
    let threads = rayon::current_num_threads();
    let affordable = (options.memory / 4 / WORKED_BATCH_BYTES) as usize;
    (threads, affordable.clamp(threads, threads * BATCHES_PER_THREAD))
}

/// Takes what `feed` sends through the layers, and into the work folder.
fn through<R: Send>(
    work: &Work,
    settings: &Settings,
    options: &Options,
    task: &dyn Task,
    feed: impl FnOnce(&mut Feed<Thing>) -> R + Send,
) -> Result<R, Error> {
    let (threads, window) = breadth(options);
    let steps: Vec<&[Box<dyn Step>]> = work.layers().iter().map(|layer| &layer.steps[..]).collect();
    let process = |thing| -> Result<Worked, Error> {
        match thing {
            Thing::Batch(place, batch) => {
                let layers = process(&steps, settings, batch, place.from)?;
                Ok(Worked::Batch(place, sign(layers, settings)?))
            }
            Thing::End(end) => Ok(Worked::End(end)),
        }
    };
    let mut shards = Shards::new(work, settings, task);
    pipeline::ordered(threads, window, feed, process, |result| shards.take(result?))
}

/// Writes what comes from the workers, in order, as shards.
pub(super) struct Shards<'a> {
    work: &'a Work,
    settings: &'a Settings,
    task: &'a dyn Task,
    writer: Option<ShardWriter<'a>>,
    seen: u64,
    kept: usize,
}

impl<'a> Shards<'a> {
    pub fn new(work: &'a Work, settings: &'a Settings, task: &'a dyn Task) -> Shards<'a> {
        Shards { work, settings, task, writer: None, seen: 0, kept: 0 }
    }

    /// Takes the next batch, or end of a shard.
    pub fn take(&mut self, worked: Worked) -> Result<(), Error> {
        let place = match &worked {
            Worked::Batch(place, _) => *place,
            Worked::End(end) => end.place,
        };
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => ShardWriter::create(self.work, place, empty(self.settings), self.settings)?,
        };
        match worked {
            Worked::Batch(_, processed) => {
                let changes = processed.layers.first().and_then(|(_, changes)| changes.first());
                self.seen += changes.map_or(0, |(before, ..)| before.documents);
                self.kept += processed.signed.len();
                writer.take(processed)?;
                self.task.message(&format!("{} documents, {} kept so far", self.seen, self.kept));
                self.writer = Some(writer);
                Ok(())
            }
            Worked::End(end) => writer.finish(*end),
        }
    }
}

/// Room for signatures of the form that is asked for.
fn empty(settings: &Settings) -> Signed {
    match settings.minhash.enabled {
        true => Signed::new(settings.minhash.bands as usize, settings.minhash.rows as usize),
        false => Signed::new(0, 0),
    }
}

pub(super) fn count(batch: &RecordBatch) -> Count {
    Count { documents: batch.num_rows() as u64, bytes: batch::text_bytes(batch) }
}

/// Applies steps one after another.
pub(super) fn apply_all(
    steps: &[Box<dyn Step>],
    sampling: &RemovedSamples,
    mut batch: RecordBatch,
) -> Result<(RecordBatch, Vec<Change>), Error> {
    let mut changes = Vec::with_capacity(steps.len());
    let mut before = count(&batch);
    for step in steps {
        let whole = batch.clone();
        let (kept, removed) = step.apply(batch)?;
        let after = count(&kept);
        let candidates = removed::candidates(sampling, step.as_ref(), &whole, &removed)?;
        changes.push((before, after, removed, candidates));
        (batch, before) = (kept, after);
    }
    Ok((batch, changes))
}

/// Takes a batch through the steps of the layers from one on; the last leaves its signatures in columns.
pub(super) fn process(
    all: &[&[Box<dyn Step>]],
    settings: &Settings,
    mut batch: RecordBatch,
    from: usize,
) -> Result<Vec<(RecordBatch, Vec<Change>)>, Error> {
    let mut layers = Vec::with_capacity(all.len() - from);
    for (index, steps) in all.iter().enumerate().skip(from) {
        let read = count(&batch);
        let (after, mut changes) = apply_all(steps, &settings.removed, batch)?;
        if index == 0 {
            changes.insert(0, (read, read, Removed::default(), Vec::new()));
        }
        batch = after.clone();
        layers.push((after, changes));
    }
    Ok(layers)
}

/// Takes the signatures, and what only the steps need, out of the last layer's columns.
pub(super) fn sign(
    mut layers: Vec<(RecordBatch, Vec<Change>)>,
    settings: &Settings,
) -> Result<Processed, Error> {
    let mut signed = empty(settings);
    if let Some((last, _)) = layers.last_mut() {
        take_signatures(last, settings, &mut signed)?;
        let bare = batch::without_column(last, NAME, "fingerprint")?;
        let bare = batch::without_column(&bare, NAME, steps::nsfw::COLUMN)?;
        *last = batch::without_column(&bare, NAME, "minhash")?;
    }
    Ok(Processed { layers, signed })
}

/// Takes the signatures out of the columns that the step `sign` has added.
fn take_signatures(batch: &RecordBatch, settings: &Settings, signed: &mut Signed) -> Result<(), Error> {
    if batch.num_rows() == 0 {
        return Ok(());
    }
    let fingerprints: &FixedSizeBinaryArray = column(batch, NAME, "fingerprint")?;
    let urls: &StringArray = column(batch, NAME, "url")?;
    let dates: &StringArray = column(batch, NAME, "date")?;
    let minhashes =
        batch.column_by_name("minhash").and_then(|c| c.as_any().downcast_ref::<FixedSizeListArray>());
    let numbers = minhashes.map(|lists| lists.values().as_primitive::<UInt32Type>().values());
    let width = minhashes.map_or(0, |lists| lists.value_length() as usize);
    for (index, row) in Rows::of(batch, NAME)?.iter().enumerate() {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(fingerprints.value(index));
        let has_page = row.kind.class == Class::Web || settings.url_dedup.tables;
        let address = (has_page && urls.is_valid(index)).then(|| urls.value(index));
        let head = Head {
            ordinal: row.ordinal,
            bytes: u32::try_from(row.text.len()).unwrap_or(u32::MAX),
            fingerprint: u128::from_be_bytes(bytes),
            url: address.and_then(url::key).unwrap_or(0),
            date: url::date_rank(dates.is_valid(index).then(|| dates.value(index))),
        };
        signed.push(head, numbers.map_or(&[], |numbers| &numbers[index * width..(index + 1) * width]));
    }
    Ok(())
}
