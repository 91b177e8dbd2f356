//! The way of a document through curation. The first pass reads, applies the steps that look at one document at
//! a time, and spills what is left; signatures stay in memory and say which documents are duplicates; the second
//! pass drops those, splits and writes. What the steps do is theirs.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use arrow_array::cast::AsArray;
use arrow_array::types::UInt32Type;
use arrow_array::{Array, FixedSizeBinaryArray, FixedSizeListArray, RecordBatch, UInt64Array};
use ledger::atomic::AtomicDir;
use ledger::progress::{Progress, Task, Unit};
use ledger::seed::Seed;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::batch::{self, Builder, Record, Rows, column};
use crate::dedup::Signatures;
use crate::documents::{Packing, Split, SplitWriter, TableWriter};
use crate::error::inputs as counted;
use crate::funnel::{Count, Funnel, FunnelStep, Skipped, SkippedInput};
use crate::read::{self, Flow, Sink};
use crate::source::{self, Inputs, Source};
use crate::steps::exclude::Exclude;
use crate::steps::{self, Removed, Step};
use crate::{Error, Settings, settings};

const NAME: &str = "curate";

/// A batch ends at so much text, or so many documents.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_DOCUMENTS: usize = 1024;

/// Batches a thread that are read ahead and worked on together.
const BATCHES_PER_THREAD: usize = 4;

/// Skipped inputs that are listed; more are only counted, lest a file of the wrong form fill the disk.
const MAX_LISTED_SKIPS: usize = 10_000;
const SKIP_EXAMPLES: usize = 20;

/// Curates the sources into the folder `out`, which then holds `train-00000.parquet` …, `heldout-00000.parquet` …,
/// `funnel.json` and `skipped.jsonl`. `out` is replaced whole, at the end; killed before, it is as it was.
///
/// Documents that overlap with `evaluation_texts` are removed. The output depends on the sources, the settings,
/// the texts and the seed, and not on the number of threads: work runs in rayon's current pool, plus one thread
/// that reads.
///
/// # Errors
/// [`Error::Settings`]; [`Error::NothingReadable`] when not one document could be read; [`Error::NothingKept`]
/// when none passed; [`Error::Io`], [`Error::Parquet`] or [`Error::Ledger`] when `out` cannot be written.
/// Malformed inputs are skipped and counted, not errors.
pub fn curate(
    settings: &Settings,
    sources: &[Source],
    evaluation_texts: &[String],
    out: &Path,
    seed: Seed,
    progress: &dyn Progress,
) -> Result<Funnel, Error> {
    settings.validate()?;
    let inputs = source::expand(sources, settings);
    let folder = AtomicDir::create(out)?;
    let spill_path = folder.path().join("spill.parquet");

    let mut first = FirstPass::new(steps::per_document(settings, evaluation_texts), &spill_path)?;
    let read = {
        let bytes = inputs.inputs.iter().map(|input| input.bytes).sum();
        let task = progress.begin("reading and filtering documents", Some(bytes), Unit::Bytes);
        first.run(&inputs, settings, task.as_ref())?
    };
    let (mut funnel, signatures, sizes) = first.finish()?;
    funnel.inputs = inputs.inputs.len() as u64;
    funnel.ignored = inputs.ignored;
    for (label, count) in read.ignored {
        *funnel.ignored.entry(label).or_default() += count;
    }
    let skipped = inputs.skipped.len() as u64 + read.skip_count;
    let listed: Vec<SkippedInput> =
        inputs.skipped.into_iter().chain(read.skipped).take(MAX_LISTED_SKIPS).collect();
    funnel.skipped =
        Skipped { count: skipped, examples: listed.iter().take(SKIP_EXAMPLES).cloned().collect() };
    if funnel.steps[0].documents_in == 0 {
        return Err(nothing_readable(sources, &funnel));
    }
    if funnel.skipped.count > 0 {
        let example = &funnel.skipped.examples[0];
        progress.warn(&format!(
            "left out {}, such as {}: {} (listed in {})",
            counted(funnel.skipped.count),
            example.place,
            example.reason,
            out.join("skipped.jsonl").display()
        ));
    }

    let plan = {
        let task = progress.begin("finding duplicates", None, Unit::Documents);
        let plan = Plan::new(settings, &signatures, &sizes, seed);
        task.advance(signatures.len() as u64);
        plan
    };
    {
        let task = progress.begin("writing documents", Some(sizes.len() as u64), Unit::Documents);
        second_pass(settings, &plan, &spill_path, folder.path(), &mut funnel, task.as_ref())?;
    }
    if funnel.train.documents + funnel.held_out.documents == 0 {
        return Err(nothing_kept(&funnel));
    }
    std::fs::remove_file(&spill_path).map_err(Error::io("remove", &spill_path))?;
    write_accounts(folder.path(), &funnel, &listed)?;
    folder.commit()?;
    Ok(funnel)
}

fn nothing_readable(sources: &[Source], funnel: &Funnel) -> Error {
    let names: Vec<String> = sources.iter().map(Source::to_string).collect();
    let mut details = match funnel.skipped.examples.first() {
        Some(input) => format!(", first {}: {}", input.place, input.reason),
        None => String::new(),
    };
    if !funnel.ignored.is_empty() {
        let kinds: Vec<String> =
            funnel.ignored.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        details.push_str(&format!(", files of kinds that are not read: {}", kinds.join(", ")));
    }
    let sources = if names.is_empty() { "an empty list of sources".into() } else { names.join(", ") };
    Error::NothingReadable { sources, skipped: funnel.skipped.count, details }
}

fn nothing_kept(funnel: &Funnel) -> Error {
    let (step, reason, count) = funnel.greatest_loss().unwrap_or(("limit", "over_limit", 0));
    Error::NothingKept {
        read: funnel.steps[0].documents_in,
        step: step.to_string(),
        reason: reason.to_string(),
        count,
    }
}

fn write_accounts(dir: &Path, funnel: &Funnel, skipped: &[SkippedInput]) -> Result<(), Error> {
    let path = dir.join("funnel.json");
    let failed = |error: serde_json::Error| Error::io("write", &path)(error.into());
    let mut json = serde_json::to_vec_pretty(funnel).map_err(failed)?;
    json.push(b'\n');
    std::fs::write(&path, json).map_err(Error::io("write", &path))?;
    let mut lines = Vec::new();
    for input in skipped {
        serde_json::to_writer(&mut lines, input).map_err(failed)?;
        lines.push(b'\n');
    }
    let path = dir.join("skipped.jsonl");
    std::fs::write(&path, lines).map_err(Error::io("write", &path))
}

/// What the reading thread brings back beside the documents.
#[derive(Default)]
struct ReadAccount {
    skipped: Vec<SkippedInput>,
    skip_count: u64,
    ignored: BTreeMap<String, u64>,
}

/// Builds batches of what the readers find and sends them on.
struct BatchSender {
    builder: Builder,
    batches: SyncSender<RecordBatch>,
    account: ReadAccount,
}

impl BatchSender {
    fn send(&mut self) -> Flow {
        match self.batches.send(self.builder.finish()) {
            Ok(()) => Flow::Continue(()),
            Err(_) => Flow::Break(()),
        }
    }
}

impl Sink for BatchSender {
    fn record(&mut self, record: Record) -> Flow {
        self.builder.push(&record);
        if self.builder.text_bytes() >= BATCH_BYTES || self.builder.len() >= BATCH_DOCUMENTS {
            return self.send();
        }
        Flow::Continue(())
    }

    fn skip(&mut self, place: String, reason: String) -> Flow {
        self.account.skip_count += 1;
        if self.account.skipped.len() < MAX_LISTED_SKIPS {
            self.account.skipped.push(SkippedInput { place, reason });
        }
        Flow::Continue(())
    }

    fn ignore(&mut self, label: &str) {
        *self.account.ignored.entry(label.to_string()).or_default() += 1;
    }
}

/// A document that passed the first pass, in short.
struct Size {
    ordinal: u64,
    fingerprint: u128,
    bytes: u64,
}

struct FirstPass {
    steps: Vec<Box<dyn Step>>,
    read: FunnelStep,
    accounts: Vec<FunnelStep>,
    spill: TableWriter,
    signatures: Signatures,
    sizes: Vec<Size>,
}

/// A batch after all steps, with what each did to it.
type Processed = (RecordBatch, Vec<(Count, Count, Removed)>);

impl FirstPass {
    fn new(steps: Vec<Box<dyn Step>>, spill: &Path) -> Result<FirstPass, Error> {
        let accounts = steps.iter().map(|step| FunnelStep::new(step.name())).collect();
        let spill = TableWriter::create(spill, batch::working_schema(), Packing::Fast)?;
        let read = FunnelStep::new("read");
        Ok(FirstPass { steps, read, accounts, spill, signatures: Signatures::default(), sizes: Vec::new() })
    }

    fn run(&mut self, inputs: &Inputs, settings: &Settings, task: &dyn Task) -> Result<ReadAccount, Error> {
        let group = rayon::current_num_threads() * BATCHES_PER_THREAD;
        let (batches, incoming) = sync_channel(group);
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let account = ReadAccount::default();
                let mut sender = BatchSender { builder: Builder::new(0), batches, account };
                for input in &inputs.inputs {
                    if read::read(input, settings, task, &mut sender).is_break() {
                        return sender.account;
                    }
                }
                if !sender.builder.is_empty() {
                    let _ = sender.send();
                }
                sender.account
            });
            // Owned here, so that an error on this side ends the reader's sends.
            let worked = self.work(incoming, group, task);
            let account = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            worked.map(|()| account)
        })
    }

    fn work(&mut self, incoming: Receiver<RecordBatch>, group: usize, task: &dyn Task) -> Result<(), Error> {
        loop {
            let batches: Vec<RecordBatch> = incoming.iter().take(group).collect();
            if batches.is_empty() {
                return Ok(());
            }
            let processed: Vec<Result<Processed, Error>> =
                batches.into_par_iter().map(|batch| apply_all(&self.steps, batch)).collect();
            for result in processed {
                let (batch, accounts) = result?;
                self.take(batch, accounts)?;
            }
            task.message(&format!("{} documents, {} kept so far", self.read.documents_in, self.sizes.len()));
        }
    }

    fn take(&mut self, batch: RecordBatch, accounts: Vec<(Count, Count, Removed)>) -> Result<(), Error> {
        if let Some((read, _, _)) = accounts.first() {
            self.read.add(*read, *read, Removed::default());
        }
        for (total, (before, after, removed)) in self.accounts.iter_mut().zip(accounts) {
            total.add(before, after, removed);
        }
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let fingerprints: &FixedSizeBinaryArray = column(&batch, NAME, "fingerprint")?;
        let minhashes =
            batch.column_by_name("minhash").and_then(|c| c.as_any().downcast_ref::<FixedSizeListArray>());
        for (index, row) in Rows::of(&batch, NAME)?.iter().enumerate() {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(fingerprints.value(index));
            let fingerprint = u128::from_be_bytes(bytes);
            match minhashes {
                Some(lists) => {
                    let minhash = lists.value(index);
                    self.signatures.push(
                        row.ordinal,
                        fingerprint,
                        minhash.as_primitive::<UInt32Type>().values(),
                    );
                }
                None => self.signatures.push(row.ordinal, fingerprint, &[]),
            }
            self.sizes.push(Size { ordinal: row.ordinal, fingerprint, bytes: row.text.len() as u64 });
        }
        let batch = batch::without_column(&batch, NAME, "fingerprint")?;
        self.spill.write(&batch::without_column(&batch, NAME, "minhash")?)
    }

    fn finish(self) -> Result<(Funnel, Signatures, Vec<Size>), Error> {
        self.spill.finish()?;
        let mut steps = vec![self.read];
        // Signing removes nothing and changes nothing that a person could see.
        steps.extend(self.accounts.into_iter().filter(|step| step.name != "sign"));
        Ok((Funnel { steps, ..Funnel::default() }, self.signatures, self.sizes))
    }
}

fn count(batch: &RecordBatch) -> Count {
    Count { documents: batch.num_rows() as u64, bytes: batch::text_bytes(batch) }
}

fn apply_all(steps: &[Box<dyn Step>], mut batch: RecordBatch) -> Result<Processed, Error> {
    let mut accounts = Vec::with_capacity(steps.len());
    for step in steps {
        let before = count(&batch);
        let (kept, removed) = step.apply(batch)?;
        accounts.push((before, count(&kept), removed));
        batch = kept;
    }
    Ok((batch, accounts))
}

/// What is decided over the whole corpus.
struct Plan {
    exact: BTreeMap<u64, &'static str>,
    near: BTreeMap<u64, &'static str>,
    over_limit: BTreeMap<u64, &'static str>,
    held_out: HashSet<u64>,
}

impl Plan {
    fn new(settings: &Settings, signatures: &Signatures, sizes: &[Size], seed: Seed) -> Plan {
        let reasons = |ordinals: Vec<u64>, reason| ordinals.into_iter().map(|o| (o, reason)).collect();
        let exact: BTreeMap<u64, &'static str> = reasons(signatures.exact_duplicates(), "same_text");
        let near: BTreeMap<u64, &'static str> =
            reasons(signatures.near_duplicates(&settings.minhash, &exact), "similar_text");
        let mut survivors: Vec<&Size> = sizes
            .iter()
            .filter(|size| !exact.contains_key(&size.ordinal) && !near.contains_key(&size.ordinal))
            .collect();
        let mut over_limit = BTreeMap::new();
        if settings.max_documents.is_some() || settings.max_bytes.is_some() {
            let salt = seed.stream("corpus/limit", 0).next_u64();
            survivors.sort_by_key(|size| (hash(size, salt), size.ordinal));
            let (mut documents, mut bytes) = (0u64, 0u64);
            survivors.retain(|size| {
                let fits = settings.max_documents.is_none_or(|most| documents < most)
                    && settings.max_bytes.is_none_or(|most| bytes + size.bytes <= most);
                if fits {
                    documents += 1;
                    bytes += size.bytes;
                } else {
                    over_limit.insert(size.ordinal, "over_limit");
                }
                fits
            });
        }
        let held_out = held_out(&settings.held_out, survivors, seed);
        Plan { exact, near, over_limit, held_out }
    }
}

fn hash(size: &Size, salt: u64) -> u64 {
    xxh3_64_with_seed(&size.fingerprint.to_le_bytes(), salt)
}

/// The documents whose hash is below the fraction, smallest first until the cap on bytes; at least one, if a
/// fraction above 0 is asked of two or more.
fn held_out(settings: &settings::HeldOut, mut survivors: Vec<&Size>, seed: Seed) -> HashSet<u64> {
    let salt = seed.stream("corpus/held-out", 0).next_u64();
    survivors.sort_by_key(|size| (hash(size, salt), size.ordinal));
    let limit = (settings.fraction * 2f64.powi(64)) as u128;
    let mut chosen = HashSet::new();
    let mut bytes = 0u64;
    for size in &survivors {
        if u128::from(hash(size, salt)) >= limit {
            break;
        }
        if bytes + size.bytes <= settings.max_bytes {
            bytes += size.bytes;
            chosen.insert(size.ordinal);
        }
    }
    if chosen.is_empty() && settings.fraction > 0.0 && survivors.len() > 1 {
        chosen.extend(survivors.first().map(|size| size.ordinal));
    }
    chosen
}

fn second_pass(
    settings: &Settings,
    plan: &Plan,
    spill: &Path,
    dir: &Path,
    funnel: &mut Funnel,
    task: &dyn Task,
) -> Result<(), Error> {
    let mut steps: Vec<Box<dyn Step>> = vec![Box::new(Exclude::new("exact_duplicates", plan.exact.clone()))];
    if settings.minhash.enabled {
        steps.push(Box::new(Exclude::new("near_duplicates", plan.near.clone())));
    }
    if settings.max_documents.is_some() || settings.max_bytes.is_some() {
        steps.push(Box::new(Exclude::new("limit", plan.over_limit.clone())));
    }
    let mut accounts: Vec<FunnelStep> = steps.iter().map(|step| FunnelStep::new(step.name())).collect();
    let mut train = SplitWriter::create(dir, Split::Train, settings.shard_bytes)?;
    let mut held_out = SplitWriter::create(dir, Split::HeldOut, settings.shard_bytes)?;

    let file = std::fs::File::open(spill).map_err(Error::io("open", spill))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(BATCH_DOCUMENTS).build())
        .map_err(Error::parquet("open", spill))?;
    for batch in reader {
        let batch = batch.map_err(|error| Error::parquet("read", spill)(error.into()))?;
        task.advance(batch.num_rows() as u64);
        let (batch, changes) = apply_all(&steps, batch)?;
        for (total, (before, after, removed)) in accounts.iter_mut().zip(changes) {
            total.add(before, after, removed);
        }
        for row in Rows::of(&batch, NAME)?.iter() {
            let bytes = row.text.len() as u64;
            funnel.languages.entry(row.language.unwrap_or("none").to_string()).or_default().add(bytes);
            funnel.kinds.entry(row.kind.label.to_string()).or_default().add(bytes);
            let split =
                if plan.held_out.contains(&row.ordinal) { &mut funnel.held_out } else { &mut funnel.train };
            split.add(bytes);
        }
        let ordinals: &UInt64Array = column(&batch, NAME, "ordinal")?;
        let out: Vec<bool> =
            ordinals.values().iter().map(|ordinal| plan.held_out.contains(ordinal)).collect();
        let kept: Vec<bool> = out.iter().map(|&out| !out).collect();
        let output = batch::without_column(&batch::without_column(&batch, NAME, "ordinal")?, NAME, "kind")?;
        train.write(&batch::keep_rows(&output, NAME, kept)?)?;
        held_out.write(&batch::keep_rows(&output, NAME, out)?)?;
    }
    train.finish()?;
    held_out.finish()?;
    funnel.steps.extend(accounts);
    Ok(())
}
