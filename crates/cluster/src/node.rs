//! A portion of curation's first pass as a leaf of a physical plan, and how it travels: the driver sends it, the scheduler
//! passes it on, and an executor runs it with the corpus' own functions.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use corpus::{Job, Portion, Worker};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
    SendableRecordBatchStream,
};
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use crate::{program, travel};

/// How our node begins. Nodes of Ballista begin with the tag of a field, none of which is this letter.
const MAGIC: &[u8] = b"ALTI first pass 1\n";

/// Batches that wait for whoever writes them on the executor.
const WAITING: usize = 2;

/// A portion with all that it takes to do it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// [`program::name`] of the driver.
    pub program: String,
    pub job: Arc<Job>,
    pub portion: Portion,
}

/// What an executor has for its portions.
#[derive(Debug, Default)]
pub struct Workplace {
    /// How the executor is called in errors.
    pub name: String,
    /// Ends portions that are being done.
    pub stop: Arc<AtomicBool>,
    /// Hears of portions that are done.
    pub heard: Option<UnboundedSender<u64>>,
    /// The lists and classifiers of the last job.
    worker: Mutex<Option<(Arc<Job>, Arc<Held>)>>,
}

/// A [`Worker`], which says nothing of itself.
struct Held(Worker);

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Worker")
    }
}

impl Workplace {
    pub fn new(name: String, stop: Arc<AtomicBool>, heard: UnboundedSender<u64>) -> Workplace {
        Workplace { name, stop, heard: Some(heard), worker: Mutex::new(None) }
    }

    /// The worker of a job, which stays for the next portion.
    fn worker(&self, job: &Arc<Job>) -> Result<Arc<Held>, corpus::Error> {
        // Others of the same job wait here instead of opening the same files.
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, worker)) = worker.as_ref().filter(|(of, _)| of == job) {
            let _ = of;
            return Ok(worker.clone());
        }
        let made = Arc::new(Held(Worker::new(job)?));
        *worker = Some((job.clone(), made.clone()));
        Ok(made)
    }

    fn run(
        &self,
        task: Task,
        emit: impl FnMut(datafusion::arrow::array::RecordBatch) -> Result<(), corpus::Error>,
    ) -> Result<()> {
        let ours = program::name();
        if task.program != ours {
            let reason = format!("{} is {ours}, and the curation is that of {}", self.name, task.program);
            let hint = Some("run the same file of the program on all machines".to_owned());
            return Err(travel::pack(&corpus::Error::Elsewhere { reason, hint }, &self.name));
        }
        let bytes = task.portion.bytes();
        let done = self.worker(&task.job).and_then(|worker| worker.0.run(task.portion, &self.stop, emit));
        done.map_err(|error| travel::pack(&error, &self.name))?;
        if let Some(heard) = &self.heard {
            // Nobody may listen any more.
            let _ = heard.send(bytes);
        }
        Ok(())
    }
}

/// The leaf. It has one partition: each portion is a job of its own, so that what is done can be fetched, and is safe,
/// before the rest is.
#[derive(Debug)]
pub struct FirstPass {
    task: Arc<Task>,
    workplace: Arc<Workplace>,
    properties: Arc<PlanProperties>,
}

impl FirstPass {
    pub fn new(task: Arc<Task>, workplace: Arc<Workplace>) -> Result<FirstPass> {
        let schema = task.job.schema().map_err(|error| DataFusionError::Plan(error.to_string()))?;
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(FirstPass { task, workplace, properties: Arc::new(properties) })
    }
}

impl DisplayAs for FirstPass {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter) -> fmt::Result {
        let portion = &self.task.portion;
        write!(formatter, "FirstPass: inputs={}, bytes={}", portion.inputs(), portion.bytes())
    }
}

impl ExecutionPlan for FirstPass {
    fn name(&self) -> &str {
        "FirstPass"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut stream = RecordBatchReceiverStream::builder(self.schema(), WAITING);
        let (out, task, workplace) = (stream.tx(), self.task.as_ref().clone(), self.workplace.clone());
        stream.spawn_blocking(move || {
            workplace.run(task, |batch| out.blocking_send(Ok(batch)).map_err(|_| corpus::Error::Stopped))
        });
        Ok(stream.build())
    }
}

/// Reads and writes our node, and leaves others to Ballista.
#[derive(Debug)]
pub struct Codec {
    others: BallistaPhysicalExtensionCodec,
    workplace: Arc<Workplace>,
}

impl Codec {
    /// `workplace` is what nodes that are read are done with; whoever only passes them on has an empty one.
    pub fn new(workplace: Arc<Workplace>) -> Codec {
        Codec { others: BallistaPhysicalExtensionCodec::default(), workplace }
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(task) = bytes.strip_prefix(MAGIC) else {
            return self.others.try_decode(bytes, inputs, context, converter);
        };
        let task: Task = serde_json::from_slice(task)
            .map_err(|error| DataFusionError::Plan(format!("a portion cannot be read: {error}")))?;
        Ok(Arc::new(FirstPass::new(Arc::new(task), self.workplace.clone())?))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(first_pass) = node.downcast_ref::<FirstPass>() else {
            return self.others.try_encode(node, bytes, converter);
        };
        bytes.extend_from_slice(MAGIC);
        serde_json::to_writer(bytes, first_pass.task.as_ref())
            .map_err(|error| DataFusionError::Plan(format!("a portion cannot be written: {error}")))
    }
}
