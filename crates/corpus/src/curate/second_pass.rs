//! The second pass: what stays is parted into splits and written, and so is which documents stand for how many others.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use arrow_array::{RecordBatch, StringArray, UInt64Array};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use ledger::progress::Task;
use serde::Serialize;

use super::plan::Plan;
use super::survivors::{self, Survivors};
use super::work::Work;
use super::{BATCH_BYTES, BATCH_DOCUMENTS, NAME, Options};
use crate::batch::{self, Rows, column};
use crate::dedup::{Clusters, StandsFor};
use crate::documents::{Split, SplitWriter};
use crate::funnel::{Funnel, FunnelStep};
use crate::removed;
use crate::spill::Sorted;
use crate::steps::Step;
use crate::{Error, Settings};

/// Where things go.
pub(super) struct Outputs<'a> {
    pub folder: &'a Path,
    pub funnel: &'a mut Funnel,
    /// To be named: of the plan by number, and of the documents that mean the same by ordinal.
    pub clusters: (Clusters, Option<Sorted<(u64, u32)>>),
    /// What was removed and is to be shown.
    pub removed: &'a mut removed::Writer,
}

/// Writes the documents that stay, and adds to the funnel what the plan and the rules have removed.
pub(super) fn write(
    work: &Work,
    plan: &Plan,
    rules: &[Box<dyn Step>],
    settings: &Settings,
    outputs: Outputs,
    task: &dyn Task,
    options: &Options,
) -> Result<(), Error> {
    let Outputs { folder, funnel, clusters, removed: shown } = outputs;
    let names = plan.names().into_iter().chain(rules.iter().map(|rule| rule.name()));
    let mut steps: Vec<FunnelStep> = names.map(FunnelStep::new).collect();
    let mut train = SplitRows::create(folder, Split::Train, settings)?;
    let mut held_out = SplitRows::create(folder, Split::HeldOut, settings)?;
    let mut named = NamedClusters::create(folder, clusters)?;
    let parted = |survivors: Survivors| {
        let held = held_out_rows(plan, &survivors)?;
        let Survivors { first, before, after, changes } = survivors;
        let output = batch::without_column(&batch::without_column(&after, NAME, "ordinal")?, NAME, "kind")?;
        let kept = held.iter().map(|held| !held).collect();
        let train = batch::keep_rows(&output, NAME, kept)?;
        let held_out = batch::keep_rows(&output, NAME, held.clone())?;
        Ok((first, before, after, changes, held, train, held_out))
    };
    survivors::each(work, plan, rules, &settings.removed, task, options, parted, |parts| {
        let (first, before, after, changes, held, train_rows, held_out_rows) = parts;
        for (step, (before, after, removed, candidates)) in steps.iter_mut().zip(changes) {
            shown.write(&step.name, candidates)?;
            step.add(before, after, removed);
        }
        for (row, held) in Rows::of(&after, NAME)?.iter().zip(held) {
            let bytes = row.text.len() as u64;
            funnel.languages.entry(row.language.unwrap_or("none").to_string()).or_default().add(bytes);
            funnel.kinds.entry(row.kind.label.to_string()).or_default().add(bytes);
            let split = if held { &mut funnel.held_out } else { &mut funnel.train };
            split.add(bytes);
        }
        named.write(first, &before)?;
        train.write(&train_rows)?;
        held_out.write(&held_out_rows)
    })?;
    train.finish()?;
    held_out.finish()?;
    named.finish()?;
    let exclusions = if plan.shards() > 0 { plan.exclusions(0)?.1 } else { Vec::new() };
    let applied = exclusions.iter().chain(rules);
    steps.iter_mut().zip(applied).for_each(|(account, step)| account.cite(step.as_ref()));
    funnel.steps.extend(steps);
    Ok(())
}

/// Which of the rows that are left are held out.
fn held_out_rows(plan: &Plan, survivors: &Survivors) -> Result<Vec<bool>, Error> {
    let before: &UInt64Array = column(&survivors.before, NAME, "ordinal")?;
    let after: &UInt64Array = column(&survivors.after, NAME, "ordinal")?;
    let mut numbered = (survivors.first..).zip(before.values());
    let held = |ordinal: &u64| {
        numbered.find(|(_, found)| *found == ordinal).is_some_and(|(index, _)| plan.is_held_out(index))
    };
    Ok(after.values().iter().map(held).collect())
}

/// A split in the making. Its batches end at so much text whatever batches the rows come in, so the files do not depend on
/// where the first pass made its shards end.
struct SplitRows {
    writer: SplitWriter,
    schema: SchemaRef,
    parts: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl SplitRows {
    fn create(folder: &Path, split: Split, settings: &Settings) -> Result<SplitRows, Error> {
        let schema = batch::with_scores(&batch::output_schema(), settings.classifiers.keys());
        let writer = SplitWriter::create(folder, split, schema.clone(), settings.shard_bytes)?;
        Ok(SplitRows { writer, schema, parts: Vec::new(), rows: 0, bytes: 0 })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let texts: &StringArray = column(batch, NAME, "text")?;
        let mut start = 0;
        for row in 0..batch.num_rows() {
            self.rows += 1;
            self.bytes += texts.value(row).len();
            if self.bytes >= BATCH_BYTES || self.rows >= BATCH_DOCUMENTS {
                self.parts.push(batch.slice(start, row + 1 - start));
                start = row + 1;
                self.end_batch()?;
            }
        }
        if start < batch.num_rows() {
            self.parts.push(batch.slice(start, batch.num_rows() - start));
        }
        Ok(())
    }

    fn end_batch(&mut self) -> Result<(), Error> {
        let whole = concat_batches(&self.schema, &self.parts)
            .map_err(|cause| Error::Batch { step: NAME, reason: cause.to_string() })?;
        self.parts.clear();
        (self.rows, self.bytes) = (0, 0);
        self.writer.write(&whole)
    }

    fn finish(mut self) -> Result<(), Error> {
        self.end_batch()?;
        self.writer.finish()
    }
}

/// A line of `clusters.jsonl`: a document that stays, and for how many removed ones it stands.
#[derive(Serialize)]
struct NamedCluster<'a> {
    id: &'a str,
    source: &'a str,
    same_url: u32,
    same_text: u32,
    similar_text: u32,
    /// Only where meanings are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    similar_meaning: Option<u32>,
}

struct NamedClusters {
    clusters: std::iter::Peekable<Clusters>,
    same_meaning: Option<std::iter::Peekable<Sorted<(u64, u32)>>>,
    file: BufWriter<File>,
    path: std::path::PathBuf,
}

impl NamedClusters {
    fn create(
        folder: &Path,
        (clusters, same_meaning): (Clusters, Option<Sorted<(u64, u32)>>),
    ) -> Result<NamedClusters, Error> {
        let path = folder.join("clusters.jsonl");
        let file = BufWriter::new(File::create(&path).map_err(Error::io("create", &path))?);
        let same_meaning = same_meaning.map(Iterator::peekable);
        Ok(NamedClusters { clusters: clusters.peekable(), same_meaning, file, path })
    }

    /// Writes the clusters whose document is in the batch, which begins with this number.
    fn write(&mut self, first: u32, batch: &RecordBatch) -> Result<(), Error> {
        let ids: &StringArray = column(batch, NAME, "id")?;
        let sources: &StringArray = column(batch, NAME, "source")?;
        let ordinals: &UInt64Array = column(batch, NAME, "ordinal")?;
        for (row, &ordinal) in ordinals.values().iter().enumerate() {
            let index = first + row as u32;
            let of_text =
                self.clusters.next_if(|next| next.as_ref().map_or(true, |(found, _)| *found <= index));
            let of_text = of_text.transpose()?.map(|(_, stands_for)| stands_for);
            let of_meaning = self.same_meaning.as_mut().and_then(|clusters| {
                clusters.next_if(|next| next.as_ref().map_or(true, |(found, _)| *found <= ordinal))
            });
            let of_meaning = of_meaning.transpose()?.map(|(_, count)| count);
            if of_text.is_none() && of_meaning.is_none() {
                continue;
            }
            let (id, source) = (ids.value(row), sources.value(row));
            let StandsFor { same_url, same_text, similar_text } = of_text.unwrap_or_default();
            let similar_meaning = self.same_meaning.as_ref().map(|_| of_meaning.unwrap_or(0));
            let line = NamedCluster { id, source, same_url, same_text, similar_text, similar_meaning };
            let written = serde_json::to_writer(&mut self.file, &line).map_err(std::io::Error::from);
            let written = written.and_then(|()| self.file.write_all(b"\n"));
            written.map_err(Error::io("write", &self.path))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }
}
