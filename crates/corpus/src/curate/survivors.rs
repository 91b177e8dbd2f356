//! The documents of the first pass once more, without those that the plan removes: what the rules over the corpus look
//! at, and the second pass writes.

use std::sync::Arc;

use arrow_array::RecordBatch;
use ledger::progress::Task;

use super::first_pass::{apply_all, breadth};
use super::plan::Plan;
use super::shard::{Change, read_documents};
use super::work::Work;
use super::{Options, pipeline};
use crate::Error;
use crate::read::Flow;
use crate::settings::RemovedSamples;
use crate::steps::Step;

/// A batch of documents, and what is left of it.
pub(super) struct Survivors {
    /// The number of the first document in `before`.
    pub first: u32,
    pub before: RecordBatch,
    pub after: RecordBatch,
    /// What the plan's steps did, then the rules'.
    pub changes: Vec<Change>,
}

/// Takes all documents of the first pass through the plan's exclusions and `rules`; `then` runs in several threads,
/// `take` here, in the documents' order.
#[allow(clippy::too_many_arguments)] // Each is one of the things that documents pass.
pub(super) fn each<U: Send>(
    work: &Work,
    plan: &Plan,
    rules: &[Box<dyn Step>],
    sampling: &RemovedSamples,
    task: &dyn Task,
    options: &Options,
    then: impl Fn(Survivors) -> Result<U, Error> + Sync,
    mut take: impl FnMut(U) -> Result<(), Error>,
) -> Result<(), Error> {
    let last = work.layers().len() - 1;
    let feed = |feed: &mut pipeline::Feed<_>| -> Result<(), Error> {
        for shard in 0..plan.shards() {
            options.check()?;
            let Some(account) = work.account(last, shard) else {
                let (path, reason) = (work.filtered(shard), "it, or its account, has gone".to_string());
                return Err(Error::Malformed { path, byte: 0, reason });
            };
            let (mut first, exclusions) = plan.exclusions(shard)?;
            let exclusions = Arc::new(exclusions);
            for batch in read_documents(&work.filtered(shard), &account)? {
                let batch = batch?;
                let rows = batch.num_rows() as u32;
                task.advance(u64::from(rows));
                if feed.send((first, batch, Arc::clone(&exclusions))) == Flow::Break(()) {
                    return Ok(());
                }
                first += rows;
            }
        }
        Ok(())
    };
    let worked = |(first, before, exclusions): (u32, RecordBatch, Arc<Vec<Box<dyn Step>>>)| {
        let (staying, mut changes) = apply_all(&exclusions, sampling, before.clone())?;
        let (after, more) = apply_all(rules, sampling, staying)?;
        changes.extend(more);
        then(Survivors { first, before, after, changes })
    };
    let (threads, window) = breadth(options);
    pipeline::ordered(threads, window, feed, worked, |result| take(result?))?
}
