//! The driver's side: each portion becomes a job of the scheduler's, some at once, and results are fetched in order from the
//! executors that have them. Ballista gives the portion of an executor that is lost in the middle to another one; results
//! that are lost after that are made again here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ballista_core::client::BallistaClient;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::serde::protobuf::PartitionLocation;
use corpus::{Elsewhere, Error, Job, Portion};
use datafusion::arrow::array::RecordBatch;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use ledger::progress::Progress;

use crate::Error as Failure;
use crate::driver::{Driver, Found, LOOK, Trouble, failed};
use crate::scheduler::{MESSAGE_BYTES, runtime};

/// How often a portion is given again after its results, or the scheduler, were lost.
const ATTEMPTS: usize = 8;

/// How long an executor may take to answer, when results are fetched.
const CONNECT: Duration = Duration::from_secs(10);

/// After this long without any result a person is told what may be missing.
const SILENCE: Duration = Duration::from_secs(30);

/// The executors of a scheduler.
#[derive(Clone)]
pub struct Cluster<'a> {
    /// The scheduler, as `HOST:PORT`.
    pub scheduler: String,
    /// Bytes of inputs, as they lie on the disk, that make a portion.
    pub portion_bytes: u64,
    /// Portions that are given out at once, or whose results wait on executors.
    pub at_once: usize,
    /// Where a person is told that executors are missing.
    pub progress: &'a dyn Progress,
}

impl std::fmt::Debug for Cluster<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cluster").field("scheduler", &self.scheduler).finish_non_exhaustive()
    }
}

impl Elsewhere for Cluster<'_> {
    fn portion_bytes(&self) -> u64 {
        self.portion_bytes
    }

    fn run(
        &self,
        job: &Job,
        portions: Vec<Portion>,
        task: &dyn ledger::progress::Task,
        go_on: &(dyn Fn() -> bool + Sync),
        take: &mut dyn FnMut(usize, RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let runtime = runtime().map_err(lost)?;
        runtime.block_on(async {
            let driver = Arc::new(Driver::connect(&self.scheduler, job.clone()).await.map_err(lost)?);
            let done = self.through(&driver, portions, task, go_on, take).await;
            driver.leave().await;
            done
        })
    }
}

impl Cluster<'_> {
    async fn through(
        &self,
        driver: &Arc<Driver>,
        portions: Vec<Portion>,
        task: &dyn ledger::progress::Task,
        go_on: &(dyn Fn() -> bool + Sync),
        take: &mut dyn FnMut(usize, RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let count = portions.len();
        let mut watch = Watch {
            driver: driver.clone(),
            task,
            go_on,
            count,
            shown: 0,
            since: Instant::now(),
            told: false,
            lost: BTreeSet::new(),
        };
        let give = |portion: Portion| {
            let driver = driver.clone();
            async move {
                let portion = Arc::new(portion);
                let given = tokio::spawn(async move { (driver.first(&portion).await, portion) });
                let _ends = Ends(given.abort_handle());
                given.await.map_err(|error| failed(format!("a portion was given up: {error}")))
            }
        };
        let located = futures::stream::iter(portions).map(give).buffered(self.at_once.max(1));
        let mut located = std::pin::pin!(located);
        for index in 0..count {
            let (mut result, portion) =
                watch.over(located.next()).await?.unwrap_or_else(|| unreachable_end())?;
            let counted = result.is_ok();
            let (mut taken, mut attempt) = (0, 0);
            loop {
                let failure = match result {
                    Ok(found) => match self.fetch(&mut watch, &found, &mut taken, index, take).await? {
                        Ok(()) => {
                            driver.forget(&found.job).await;
                            break;
                        }
                        Err(failure) => failure,
                    },
                    Err(Trouble::Final(error)) => return Err(error),
                    Err(Trouble::Passing(reason)) => reason,
                };
                attempt += 1;
                if attempt >= ATTEMPTS {
                    return Err(Error::Elsewhere {
                        reason: format!("portion {index} failed {attempt} times, at last: {failure}"),
                        hint: Some("see what executors say; run again, the command goes on from here".into()),
                    });
                }
                self.progress.warn(&format!("giving a portion out again: {failure}"));
                result = watch.over(driver.give(&portion)).await?;
            }
            if !counted {
                driver.done_bytes.fetch_add(portion.bytes(), Ordering::Relaxed);
            }
        }
        watch.look()
    }

    /// Hands over the rows behind the first `taken`. The outer error ends all, the inner one the attempt.
    async fn fetch(
        &self,
        watch: &mut Watch<'_>,
        found: &Found,
        taken: &mut usize,
        index: usize,
        take: &mut dyn FnMut(usize, RecordBatch) -> Result<(), Error>,
    ) -> Result<Result<(), String>, Error> {
        // A portion that is done again gives the same rows.
        let mut pass_over = *taken;
        for location in &found.locations {
            let executor = location.executor_meta.as_ref().map(|executor| executor.id.clone());
            let executor = executor.unwrap_or_default();
            if watch.lost.contains(&executor) {
                return Ok(Err(format!("results lie on executor {executor}, which was lost")));
            }
            let mut stream = match watch.over(open(location)).await? {
                Ok(stream) => stream,
                Err(failure) => {
                    watch.lost.insert(executor);
                    return Ok(Err(failure));
                }
            };
            let mut rows = 0;
            while let Some(batch) = watch.over(stream.next()).await? {
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(error) => {
                        watch.lost.insert(executor);
                        return Ok(Err(format!("results were lost: {error}")));
                    }
                };
                rows += batch.num_rows();
                let known = pass_over.min(batch.num_rows());
                pass_over -= known;
                let new = batch.slice(known, batch.num_rows() - known);
                if new.num_rows() > 0 {
                    *taken += new.num_rows();
                    take(index, new)?;
                }
            }
            // An executor that cannot read on ends the stream as if all was said.
            let wanted = location.partition_stats.as_ref().map(|stats| stats.num_rows);
            if wanted.is_some_and(|wanted| wanted != rows as i64) {
                return Ok(Err(format!("results were cut off: {rows} rows came of {}", wanted.unwrap_or(0))));
            }
        }
        Ok(Ok(()))
    }
}

fn unreachable_end<T>() -> Result<T, Error> {
    Err(failed("there are fewer results than portions".into()))
}

/// Ends a task that nobody waits for any more.
struct Ends(tokio::task::AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Looks after the work while something is waited for.
struct Watch<'a> {
    driver: Arc<Driver>,
    task: &'a dyn ledger::progress::Task,
    go_on: &'a (dyn Fn() -> bool + Sync),
    count: usize,
    /// Bytes that were shown as done.
    shown: u64,
    /// Since when nothing new was done.
    since: Instant,
    told: bool,
    /// Executors that did not answer; one that is started again has another name.
    lost: BTreeSet<String>,
}

impl Watch<'_> {
    /// Waits, and stops when it should.
    async fn over<T>(&mut self, waited: impl Future<Output = T>) -> Result<T, Error> {
        let mut waited = std::pin::pin!(waited);
        loop {
            tokio::select! {
                value = &mut waited => {
                    self.look()?;
                    return Ok(value);
                }
                () = tokio::time::sleep(LOOK) => self.look()?,
            }
        }
    }

    fn look(&mut self) -> Result<(), Error> {
        if !(self.go_on)() {
            return Err(Error::Stopped);
        }
        let done = self.driver.done_bytes.load(Ordering::Relaxed);
        if done > self.shown {
            self.task.advance(done - self.shown);
            (self.shown, self.since) = (done, Instant::now());
        } else if self.shown == 0 && !self.told && self.since.elapsed() > SILENCE {
            self.told = true;
            let (address, count) = (&self.driver.address, self.count);
            self.task.message(&format!(
                "none of {count} portions is done yet; is there an executor? alti curate executor --scheduler {address}"
            ));
        }
        Ok(())
    }
}

/// Opens the results at the executor that has them.
async fn open(location: &PartitionLocation) -> Result<SendableRecordBatchStream, String> {
    let (Some(executor), Some(partition)) = (&location.executor_meta, &location.partition_id) else {
        return Err("the scheduler does not say where results are".into());
    };
    let at = format!("results on executor {} cannot be fetched", executor.id);
    let (host, port) = (executor.host.as_str(), executor.port as u16);
    // A machine that lost its power says nothing.
    let noticing = BallistaConfigGrpcEndpoint::new(Arc::new(|endpoint| {
        Ok(endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(CONNECT)
            .keep_alive_timeout(CONNECT)
            .keep_alive_while_idle(true))
    }));
    let noticing = Some(Arc::new(noticing));
    let client =
        BallistaClient::try_new(host, port, MESSAGE_BYTES as usize, false, noticing, 3, 500, 0, 0).await;
    let mut client = client.map_err(|error| format!("{at}: {error}"))?;
    client
        .fetch_partition(&executor.id, &partition.clone().into(), location.file_id, location.layout(), true)
        .await
        .map_err(|error| format!("{at}: {error}"))
}

fn lost(error: Failure) -> Error {
    Error::Elsewhere { reason: error.to_string(), hint: error.hint() }
}
