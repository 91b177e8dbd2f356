//! The documents of a shard in the work folder: how they are written, layer by layer, and read again.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::work::{Account, Position, Work};
use super::{BATCH_BYTES, BATCH_DOCUMENTS};
use crate::batch;
use crate::dedup::Signed;
use crate::documents::{Packing, TableWriter};
use crate::funnel::{Count, FunnelStep, SkippedInput};
use crate::removed::{Candidate, Spool};
use crate::steps::Removed;
use crate::{Error, Settings};

/// A shard, and the first layer that is to be made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub shard: usize,
    pub from: usize,
}

/// The end of a shard.
#[derive(Default)]
pub(super) struct End {
    pub place: Place,
    pub position: Position,
    pub skipped: Vec<SkippedInput>,
    pub skip_count: u64,
    pub ignored: BTreeMap<String, u64>,
}

/// Documents before and after a step, its account, and which of what it removed may have to be shown.
pub(super) type Change = (Count, Count, Removed, Vec<Candidate>);

/// A batch behind each layer from its [`Place`] on, with what each step did to it.
pub(super) struct Processed {
    pub layers: Vec<(RecordBatch, Vec<Change>)>,
    pub signed: Signed,
}

/// Writes the files of a shard.
pub(super) struct ShardWriter<'a> {
    work: &'a Work,
    place: Place,
    layers: Vec<LayerWriter>,
    signed: Signed,
}

struct LayerWriter {
    table: TableWriter,
    removed: Spool,
    steps: Vec<FunnelStep>,
    count: Count,
}

impl<'a> ShardWriter<'a> {
    /// Begins a shard with no documents; `signed` has none either.
    pub fn create(
        work: &'a Work,
        place: Place,
        signed: Signed,
        settings: &Settings,
    ) -> Result<ShardWriter<'a>, Error> {
        let layer = |index: usize| -> Result<LayerWriter, Error> {
            let path = work.documents(index, place.shard);
            // Scores come with the last.
            let classifiers = settings.classifiers.keys().filter(|_| index + 1 == work.layers().len());
            let schema = batch::with_scores(&batch::working_schema(), classifiers);
            let table = TableWriter::create(&path, schema, Packing::Fast)?;
            let read = (index == 0).then_some("read");
            let names = read.into_iter().chain(work.layers()[index].steps.iter().map(|step| step.name()));
            let steps = names.map(FunnelStep::new).collect();
            let removed = Spool::create(work.removed(index, place.shard), &settings.removed)?;
            Ok(LayerWriter { table, removed, steps, count: Count::default() })
        };
        let layers = (place.from..work.layers().len()).map(layer).collect::<Result<_, _>>()?;
        Ok(ShardWriter { work, place, layers, signed })
    }

    /// Adds a batch.
    pub fn take(&mut self, processed: Processed) -> Result<(), Error> {
        for (writer, (batch, changes)) in self.layers.iter_mut().zip(processed.layers) {
            for (step, (before, after, removed, candidates)) in writer.steps.iter_mut().zip(changes) {
                writer.removed.write(&step.name, candidates)?;
                step.add(before, after, removed);
            }
            if batch.num_rows() > 0 {
                writer.count.documents += batch.num_rows() as u64;
                writer.count.bytes += batch::text_bytes(&batch);
                writer.table.write(&batch)?;
            }
        }
        self.signed.append(&processed.signed);
        Ok(())
    }

    /// Puts the shard on the disk, then its accounts.
    pub fn finish(self, end: End) -> Result<(), Error> {
        let ShardWriter { work, place, layers, signed } = self;
        signed.write(&work.signatures(place.shard))?;
        for (index, LayerWriter { table, removed, steps, count }) in (place.from..).zip(layers) {
            table.finish()?;
            removed.finish()?;
            let account = Account {
                fingerprint: work.layers()[index].fingerprint.clone(),
                position: end.position,
                documents: count.documents,
                bytes: count.bytes,
                files: Vec::new(),
                steps,
                skipped: end.skipped.clone(),
                skip_count: end.skip_count,
                ignored: end.ignored.clone(),
            };
            work.record(index, place.shard, account)?;
        }
        Ok(())
    }
}

/// The documents that a layer left, in batches that keep to about [`BATCH_BYTES`].
pub(super) fn read_documents(
    path: &Path,
    account: &Account,
) -> Result<impl Iterator<Item = Result<RecordBatch, Error>>, Error> {
    let average = account.bytes / account.documents.max(1);
    let rows = (BATCH_BYTES as u64 / average.max(1)).clamp(1, BATCH_DOCUMENTS as u64);
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(rows as usize).build())
        .map_err(Error::parquet("open", path))?;
    let path = path.to_path_buf();
    Ok(reader.map(move |batch| batch.map_err(|error| Error::parquet("read", &path)(error.into()))))
}
