//! The first pass in portions that other processes can do. A [`Job`] is what is the same for all of them, a [`Portion`]
//! some inputs, and a [`Worker`] turns portions into record batches of [one schema](Worker::schema): functions of their
//! inputs alone, so that whoever runs them can run them again. How they travel is not known here; what becomes of them
//! [elsewhere](super::elsewhere) neither.
//!
//! Each piece of the inputs gives the rows that every layer leaves, layer by layer, then one row with its account. Batches
//! may be cut and joined on the way; the order of the rows matters.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt8Array, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use ledger::digest::Digest;
use ledger::progress::{Progress, Silent, Unit};
use serde::{Deserialize, Serialize};
use store::{Listed, Places};

use super::first_pass::{Thing, process, read_on};
use super::layers::layer_steps;
use super::pipeline::{self, Feed};
use super::shard::{Change, Place};
use super::work::Position;
use super::{NAME, Options};
use crate::funnel::{Count, SkippedInput};
use crate::kind::Kind;
use crate::location::Location;
use crate::read::Compression;
use crate::removed::Candidate;
use crate::source::{Container, Input};
use crate::steps::{Removed, Sample, Step};
use crate::{Error, Settings, batch};

/// Which layer's rows these are; null for an account.
pub(super) const LAYER: &str = "layer";
/// The account of a piece, as JSON.
pub(super) const ACCOUNT: &str = "account";

/// Things on the way at once while a portion is done by one thread: the reader is ahead by these.
const WINDOW: usize = 4;

/// What every portion of a curation has in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// As TOML, in which every number of a recipe can be written.
    settings: String,
    evaluation_texts: Vec<String>,
    keep_work: bool,
    checkpoint_bytes: u64,
    /// The files that the settings name, with what they hold; none where they cannot be read.
    files: Vec<(PathBuf, Option<Digest>)>,
}

impl Job {
    pub(super) fn new(
        settings: &Settings,
        evaluation_texts: &[String],
        options: &Options,
    ) -> Result<Job, Error> {
        let mut settings = settings.clone();
        // What only the second pass looks at need not be where portions are done.
        settings.token_distribution = Default::default();
        settings.each_file(|path| *path = absolute(Path::new(path)).to_string_lossy().into_owned());
        let digest = |path: &str| (PathBuf::from(path), Digest::of_path(Path::new(path)).ok());
        Ok(Job {
            files: settings.files().into_iter().map(digest).collect(),
            settings: toml::to_string(&settings)
                .map_err(|error| Error::Settings { faults: vec![error.to_string()] })?,
            evaluation_texts: evaluation_texts.to_vec(),
            keep_work: options.keep_work,
            checkpoint_bytes: options.checkpoint_bytes,
        })
    }

    pub(super) fn keeps_work(&self) -> bool {
        self.keep_work
    }

    pub(super) fn settings(&self) -> Result<Settings, Error> {
        toml::from_str(&self.settings).map_err(|error| Error::Settings { faults: vec![error.to_string()] })
    }

    /// The columns of what [`Worker::run`] makes: all of them may be null.
    ///
    /// # Errors
    /// [`Error::Settings`] where the settings are of another version of this program.
    pub fn schema(&self) -> Result<SchemaRef, Error> {
        let settings = self.settings()?;
        let mut fields =
            vec![Field::new(LAYER, DataType::UInt8, true), Field::new(ACCOUNT, DataType::Utf8, true)];
        let documents = batch::with_scores(&batch::working_schema(), settings.classifiers.keys());
        fields.extend(documents.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)));
        fields.push(Field::new("fingerprint", DataType::FixedSizeBinary(16), true));
        if settings.minhash.enabled {
            let numbers = (settings.minhash.bands * settings.minhash.rows) as i32;
            let item = Arc::new(Field::new_list_field(DataType::UInt32, false));
            fields.push(Field::new("minhash", DataType::FixedSizeList(item, numbers), true));
        }
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// Some inputs, one behind the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portion {
    inputs: Vec<Described>,
    /// Records, and places that are none, of the first input that are done already.
    pass_over: u64,
}

impl Portion {
    /// Bytes of the inputs, as they lie on the disk.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.bytes).sum()
    }

    /// How many inputs there are.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    pub(super) fn new(inputs: &[Input], pass_over: u64) -> Portion {
        Portion { inputs: inputs.iter().map(Described::of).collect(), pass_over }
    }
}

/// An input, and whether whoever gives the portions can read it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    /// Of an object its address.
    path: PathBuf,
    /// An object, which is read where it lies, by whoever reads it with credentials of his own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<Listed>,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    container: Packed,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compression: Option<Packing>,
    bytes: u64,
    readable: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Packed {
    /// By the label of its kind.
    Document(String),
    Lines,
    Table,
    Warc,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Packing {
    Gzip,
    Zstd,
}

impl Described {
    fn of(input: &Input) -> Described {
        let Input { location, name, url, container, compression, bytes } = input.clone();
        let (path, object, readable) = match &location {
            Location::File(path) => (absolute(path), None, File::open(path).is_ok()),
            Location::Object(remote) => (location.place(), Some(remote.get().listed()), true),
        };
        Described {
            path,
            object,
            readable,
            name,
            url,
            container: match container {
                Container::Document(kind) => Packed::Document(kind.label.to_string()),
                Container::Lines => Packed::Lines,
                Container::Table => Packed::Table,
                Container::Warc => Packed::Warc,
            },
            compression: match compression {
                Compression::None => None,
                Compression::Gzip => Some(Packing::Gzip),
                Compression::Zstd => Some(Packing::Zstd),
            },
            bytes,
        }
    }

    /// The input, if it is here what it is where the portion was made.
    fn input(self, places: &mut Option<Places>) -> Result<Input, Error> {
        let Described { path, object, name, url, container, compression, bytes, readable } = self;
        let differs = |reason: String| Error::NotTheSame { path: path.clone(), reason };
        let location = match &object {
            // That it is the same is seen when it is read.
            Some(listed) => Location::object(places.get_or_insert_default().object(listed)?),
            None => Location::File(path.clone()),
        };
        if object.is_none() {
            match File::open(&path).and_then(|file| file.metadata()) {
                Err(error) if readable => return Err(differs(format!("it cannot be read: {error}"))),
                Ok(_) if !readable => {
                    return Err(differs("it can be read here, and not where the curation was begun".into()));
                }
                Ok(found) if found.len() != bytes => {
                    return Err(differs(format!("it has {} bytes here, and {bytes} there", found.len())));
                }
                _ => {}
            }
        }
        let container = match container {
            Packed::Document(label) => Container::Document(
                Kind::of_label(&label)
                    .ok_or_else(|| differs(format!("no kind of document is called {label:?}")))?,
            ),
            Packed::Lines => Container::Lines,
            Packed::Table => Container::Table,
            Packed::Warc => Container::Warc,
        };
        let compression = match compression {
            None => Compression::None,
            Some(Packing::Gzip) => Compression::Gzip,
            Some(Packing::Zstd) => Compression::Zstd,
        };
        Ok(Input { location, name, url, container, compression, bytes })
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// What is done to one piece of the inputs, beside its rows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Account {
    /// The changes of a batch, by layer and step.
    Batch(Vec<Vec<StepChange>>),
    /// The end of a shard.
    End(ShardEnd),
}

/// [`Change`] as it travels.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepChange {
    before: Count,
    after: Count,
    reasons: BTreeMap<String, u64>,
    samples: Vec<Sample>,
    edits: BTreeMap<String, u64>,
    candidates: Vec<Candidate>,
}

impl StepChange {
    fn of((before, after, removed, candidates): Change) -> StepChange {
        let Removed { reasons, samples, edits, rows: _ } = removed;
        StepChange { before, after, reasons, samples, edits, candidates }
    }

    pub fn change(self) -> Change {
        let StepChange { before, after, reasons, samples, edits, candidates } = self;
        (before, after, Removed { reasons, samples, edits, rows: Vec::new() }, candidates)
    }
}

/// The end of a shard, with a position within the portion.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShardEnd {
    pub position: Position,
    pub skipped: Vec<SkippedInput>,
    pub skip_count: u64,
    pub ignored: BTreeMap<String, u64>,
}

/// Does portions of a job.
pub struct Worker {
    settings: Settings,
    steps: Vec<Vec<Box<dyn Step>>>,
    schema: SchemaRef,
    checkpoint_bytes: u64,
}

impl Worker {
    /// Opens the lists and classifiers that the job names.
    ///
    /// # Errors
    /// [`Error::NotTheSame`] where one does not hold what it holds where the job was made, and whatever
    /// [`curate_with`](super::curate_with) may say of settings.
    pub fn new(job: &Job) -> Result<Worker, Error> {
        let settings = job.settings()?;
        for (path, digest) in &job.files {
            if Digest::of_path(path).ok() != *digest {
                let reason = "it holds something else here than where the curation was begun, or nothing";
                return Err(Error::NotTheSame { path: path.clone(), reason: reason.to_string() });
            }
        }
        Ok(Worker {
            steps: layer_steps(&settings, &job.evaluation_texts, job.keep_work)?,
            settings,
            schema: job.schema()?,
            checkpoint_bytes: job.checkpoint_bytes,
        })
    }

    /// The columns of what [`run`](Worker::run) makes; [`Job::schema`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads and filters a portion, and hands what comes out to `emit`, in order. The same portion gives the same
    /// rows, whoever runs it and how often. One thread works, beside the one that reads.
    ///
    /// # Errors
    /// [`Error::NotTheSame`] where an input is not here what it is where the portion was made; [`Error::Stopped`] soon
    /// after `stop` became true; whatever `emit` returns. Malformed inputs are counted, not errors.
    pub fn run(
        &self,
        portion: Portion,
        stop: &AtomicBool,
        mut emit: impl FnMut(RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let begin = Position { records: portion.pass_over, ..Position::default() };
        let mut places = None;
        let inputs = portion.inputs.into_iter().map(|described| described.input(&mut places));
        let inputs: Vec<Input> = inputs.collect::<Result<_, _>>()?;
        let options =
            Options { checkpoint_bytes: self.checkpoint_bytes, stop: Some(stop), ..Options::default() };
        let steps: Vec<&[Box<dyn Step>]> = self.steps.iter().map(|steps| &steps[..]).collect();
        let feed = |feed: &mut Feed<Thing>| {
            let task = Silent.begin("", None, Unit::Bytes);
            read_on(&inputs, &self.settings, (Place::default(), begin), feed, task.as_ref(), &options)
        };
        let work = |thing| match thing {
            Thing::Batch(_, batch) => self.encode(process(&steps, &self.settings, batch, 0)?),
            Thing::End(end) => Ok(vec![self.account(&Account::End(ShardEnd {
                position: end.position,
                skipped: end.skipped,
                skip_count: end.skip_count,
                ignored: end.ignored,
            }))?]),
        };
        pipeline::ordered(1, WINDOW, feed, work, |batches: Result<Vec<RecordBatch>, Error>| {
            options.check()?;
            batches?.into_iter().try_for_each(&mut emit)
        })??;
        options.check()
    }

    /// The rows of each layer, then the account.
    fn encode(&self, layers: Vec<(RecordBatch, Vec<Change>)>) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = Vec::with_capacity(layers.len() + 1);
        let mut accounts = Vec::with_capacity(layers.len());
        for (layer, (batch, changes)) in layers.into_iter().enumerate() {
            if batch.num_rows() > 0 {
                batches.push(self.rows(layer as u8, &batch)?);
            }
            accounts.push(changes.into_iter().map(StepChange::of).collect());
        }
        batches.push(self.account(&Account::Batch(accounts))?);
        Ok(batches)
    }

    fn rows(&self, layer: u8, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let layers: ArrayRef = Arc::new(UInt8Array::from_value(layer, batch.num_rows()));
        self.batch(batch.num_rows(), |name| match name {
            LAYER => Some(layers.clone()),
            name => batch.column_by_name(name).cloned(),
        })
    }

    fn account(&self, account: &Account) -> Result<RecordBatch, Error> {
        let json = serde_json::to_string(account)
            .map_err(|error| Error::Batch { step: NAME, reason: error.to_string() })?;
        let json: ArrayRef = Arc::new(StringArray::from(vec![json]));
        self.batch(1, |name| (name == ACCOUNT).then(|| json.clone()))
    }

    /// A batch of the schema; columns that there are none of are null.
    fn batch(&self, rows: usize, column: impl Fn(&str) -> Option<ArrayRef>) -> Result<RecordBatch, Error> {
        let column = |field: &Arc<Field>| {
            column(field.name()).unwrap_or_else(|| new_null_array(field.data_type(), rows))
        };
        let columns = self.schema.fields().iter().map(column).collect();
        RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|error| Error::Batch { step: NAME, reason: error.to_string() })
    }
}
