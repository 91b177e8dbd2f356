//! A curation's connection to the scheduler: portions are given out as jobs, asked after, and taken back at the end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{
    CancelJobParams, CleanJobDataParams, ExecuteQueryParams, GetJobStatusParams, KeyValuePair,
    PartitionLocation, RemoveSessionParams, execute_query_result, job_status,
};
use ballista_core::utils::{GrpcClientConfig, create_grpc_client_endpoint};
use ballista_core::version::insert_version_header;
use corpus::{Error, Job, Portion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use tonic::Code;
use tonic::transport::Channel;

use crate::node::{Codec, FirstPass, Task, Workplace};
use crate::scheduler::{MESSAGE_BYTES, split};
use crate::travel::{self, Said};
use crate::{Error as Failure, program};

/// How often it is asked how a job is going, and looked whether to stop.
pub const LOOK: Duration = Duration::from_millis(100);

/// How long a scheduler may not know a job that it was given.
const UNKNOWN: Duration = Duration::from_secs(3);

/// How long a scheduler may be away before the work ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the results of a portion are.
pub struct Found {
    pub job: String,
    pub locations: Vec<PartitionLocation>,
}

/// Why there are none.
pub enum Trouble {
    /// It would fail again.
    Final(Error),
    /// It may succeed when it is tried again.
    Passing(String),
}

/// A connection to the scheduler, and what it was given.
pub struct Driver {
    pub address: String,
    scheduler: SchedulerGrpcClient<Channel>,
    job: Arc<Job>,
    session: String,
    /// Jobs that the scheduler still has.
    jobs: Mutex<BTreeSet<String>>,
    /// Bytes of inputs of portions that were done, each counted once.
    pub done_bytes: AtomicU64,
}

impl Driver {
    pub async fn connect(address: &str, job: Job) -> Result<Driver, Failure> {
        let (host, port) = split(address)?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let none = |error: Box<dyn std::error::Error + Send + Sync>| Failure::NoScheduler {
            address: address.to_owned(),
            reason: deepest(error.as_ref()),
        };
        let endpoint =
            create_grpc_client_endpoint(format!("http://{host}:{port}"), Some(&GrpcClientConfig::default()))
                .map_err(|error| none(Box::new(error)))?;
        let endpoint = (program::signed())(endpoint).map_err(none)?;
        let channel = endpoint.connect().await.map_err(|error| none(Box::new(error)))?;
        let mut scheduler = SchedulerGrpcClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES as usize)
            .max_encoding_message_size(MESSAGE_BYTES as usize);
        // A question of no weight, to be refused before anything is begun.
        let asked = scheduler.get_job_status(GetJobStatusParams { job_id: "none".into() }).await;
        if let Err(status) = asked
            && let Some(reason) = program::refusal(status.message())
        {
            return Err(Failure::Refused { address: address.to_owned(), reason });
        }
        let session = ballista_core::ids::new_instance_id();
        let jobs = Mutex::new(BTreeSet::new());
        let done_bytes = AtomicU64::new(0);
        Ok(Driver { address: address.to_owned(), scheduler, job: Arc::new(job), session, jobs, done_bytes })
    }

    /// Gives a portion out, and counts it when it is done.
    pub async fn first(&self, portion: &Portion) -> Result<Found, Trouble> {
        let found = self.give(portion).await;
        if found.is_ok() {
            self.done_bytes.fetch_add(portion.bytes(), Ordering::Relaxed);
        }
        found
    }

    /// Gives a portion out, and waits until it is done.
    pub async fn give(&self, portion: &Portion) -> Result<Found, Trouble> {
        let job = self.submit(portion).await?;
        self.jobs().insert(job.clone());
        // Since when the scheduler has not answered, or has not known the job.
        let mut away: Option<Instant> = None;
        let mut unknown: Option<Instant> = None;
        loop {
            let request = GetJobStatusParams { job_id: job.clone() };
            let status = match self.scheduler.clone().get_job_status(request).await {
                Ok(answer) => answer.into_inner().status.and_then(|status| status.status),
                Err(status) if is_away(&status) => {
                    if away.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                        return Err(Trouble::Final(self.gone(&status)));
                    }
                    tokio::time::sleep(LOOK * 5).await;
                    continue;
                }
                Err(status) => return Err(Trouble::Passing(status.message().to_owned())),
            };
            match status {
                Some(job_status::Status::Successful(done)) => {
                    return Ok(Found { job, locations: done.partition_location });
                }
                Some(job_status::Status::Failed(failed)) => {
                    self.forget(&job).await;
                    return Err(trouble(&failed.error));
                }
                Some(_) => (away, unknown) = (None, None),
                // Another scheduler in its place, which may have come between two questions. A new job may be unknown for
                // a moment too.
                None if unknown.get_or_insert_with(Instant::now).elapsed() > UNKNOWN => {
                    self.jobs().remove(&job);
                    return Err(Trouble::Passing("the scheduler was started anew".into()));
                }
                None => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn submit(&self, portion: &Portion) -> Result<String, Trouble> {
        let task = Task { program: program::name(), job: self.job.clone(), portion: portion.clone() };
        let workplace = Arc::new(Workplace::default());
        let plan = FirstPass::new(Arc::new(task), workplace.clone()).map_err(final_)?;
        let plan: Arc<dyn ExecutionPlan> = Arc::new(plan);
        let codec = Codec::new(workplace);
        let mut bytes = Vec::new();
        PhysicalPlanNode::try_from_physical_plan(plan, &codec)
            .and_then(|node| node.try_encode(&mut bytes))
            .map_err(final_)?;
        let query = ExecuteQueryParams {
            query: Some(Query::PhysicalPlan(bytes)),
            settings: vec![KeyValuePair {
                key: "ballista.job.name".into(),
                value: Some("alti curate".into()),
            }],
            session_id: self.session.clone(),
            operation_id: ballista_core::ids::new_instance_id(),
        };
        let since = Instant::now();
        loop {
            let mut request = tonic::Request::new(query.clone());
            insert_version_header(request.metadata_mut());
            match self.scheduler.clone().execute_query(request).await {
                Ok(answer) => {
                    return match answer.into_inner().result {
                        Some(execute_query_result::Result::Success(success)) => Ok(success.job_id),
                        other => {
                            Err(final_(format!("the scheduler cannot read what it is given: {other:?}")))
                        }
                    };
                }
                Err(status) if is_away(&status) && since.elapsed() < PATIENCE => {
                    tokio::time::sleep(LOOK * 5).await;
                }
                Err(status) if is_away(&status) => return Err(Trouble::Final(self.gone(&status))),
                Err(status) => return Err(final_(status.message().to_owned())),
            }
        }
    }

    fn gone(&self, status: &tonic::Status) -> Error {
        Error::Elsewhere {
            reason: format!("the scheduler at {} has gone: {}", self.address, status.message()),
            hint: Some("start it again, and run the same command again; it goes on from here".into()),
        }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the executors remove a job's results.
    pub async fn forget(&self, job: &str) {
        self.jobs().remove(job);
        // What cannot be removed now is removed after a day.
        let _ = self
            .scheduler
            .clone()
            .clean_job_data(CleanJobDataParams { job_id: job.to_owned(), remove_stage_ids: Vec::new() })
            .await;
    }

    /// Takes back what is not done, and removes what was not fetched.
    pub async fn leave(&self) {
        let jobs = std::mem::take(&mut *self.jobs());
        let mut scheduler = self.scheduler.clone();
        for job_id in jobs {
            let _ = scheduler.cancel_job(CancelJobParams { job_id: job_id.clone() }).await;
            let _ =
                scheduler.clean_job_data(CleanJobDataParams { job_id, remove_stage_ids: Vec::new() }).await;
        }
        let _ = scheduler.remove_session(RemoveSessionParams { session_id: self.session.clone() }).await;
    }
}

fn is_away(status: &tonic::Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled)
}

/// What a job's failure means.
fn trouble(text: &str) -> Trouble {
    match travel::unpack(text) {
        Some(Said::Failed { reason, hint }) => Trouble::Final(Error::Elsewhere { reason, hint }),
        Some(Said::Stopped) => Trouble::Passing("executors ended while they did it".into()),
        None => Trouble::Passing(text.to_owned()),
    }
}

fn final_(reason: impl ToString) -> Trouble {
    Trouble::Final(failed(reason.to_string()))
}

pub fn failed(reason: String) -> Error {
    Error::Elsewhere { reason, hint: None }
}

/// The first cause, which says most.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
