//! Curation on several machines: the parts as processes, and who does the first pass. A build without the feature `cluster`
//! says so, and how to get it.

use corpus::Elsewhere;

use crate::args::{CurateExecutor, CurateScheduler, CurateSql, OnCluster};
use crate::errors::Error;
use crate::progress::Shown;

#[cfg(feature = "cluster")]
mod answer;

/// Who does the first pass; nobody else without `--cluster`.
#[cfg(feature = "cluster")]
pub fn elsewhere<'a>(args: &OnCluster, shown: &'a Shown) -> Result<Option<Box<dyn Elsewhere + 'a>>, Error> {
    let Some(scheduler) = &args.cluster else { return Ok(None) };
    Ok(Some(Box::new(cluster::Cluster {
        scheduler: scheduler.clone(),
        portion_bytes: args.cluster_portion,
        at_once: args.cluster_portions.get(),
        progress: shown,
    })))
}

/// `alti curate scheduler`.
#[cfg(feature = "cluster")]
pub fn scheduler(args: &CurateScheduler, shown: &Shown) -> Result<(), Error> {
    let options = cluster::SchedulerOptions {
        bind: args.bind.clone(),
        host: args.host.clone(),
        executor_timeout: std::time::Duration::from_secs(args.executor_timeout.get()),
    };
    let ready = |address| shown.line(&format!("scheduler at {address}"));
    Ok(cluster::scheduler(&options, shown, ready)?)
}

/// `alti curate executor`.
#[cfg(feature = "cluster")]
pub fn executor(args: &CurateExecutor, shown: &Shown) -> Result<(), Error> {
    let slots =
        args.slots.or_else(|| std::thread::available_parallelism().ok()).map_or(1, |slots| slots.get());
    let options = cluster::ExecutorOptions {
        scheduler: args.scheduler.clone(),
        bind: args.bind.clone(),
        host: args.host.clone(),
        slots,
        work: args.work.clone(),
    };
    let scheduler = &args.scheduler;
    let ready =
        |name: &str| shown.line(&format!("executor {name} for the scheduler at {scheduler}, {slots} slots"));
    Ok(cluster::executor(&options, shown, ready)?)
}

/// `alti curate sql`.
#[cfg(feature = "cluster")]
pub fn sql(args: &CurateSql) -> Result<(), Error> {
    let options = cluster::SqlOptions { folder: &args.folder, query: &args.query, memory: args.memory };
    answer::write(args.format, |answer| Ok(cluster::sql(&options, answer)?))
}

#[cfg(not(feature = "cluster"))]
pub fn elsewhere<'a>(args: &OnCluster, _: &'a Shown) -> Result<Option<Box<dyn Elsewhere + 'a>>, Error> {
    match args.cluster {
        None => Ok(None),
        Some(_) => Err(lacking("--cluster")),
    }
}

#[cfg(not(feature = "cluster"))]
pub fn scheduler(_: &CurateScheduler, _: &Shown) -> Result<(), Error> {
    Err(lacking("alti curate scheduler"))
}

#[cfg(not(feature = "cluster"))]
pub fn executor(_: &CurateExecutor, _: &Shown) -> Result<(), Error> {
    Err(lacking("alti curate executor"))
}

#[cfg(not(feature = "cluster"))]
pub fn sql(_: &CurateSql) -> Result<(), Error> {
    Err(lacking("alti curate sql"))
}

#[cfg(not(feature = "cluster"))]
fn lacking(what: &str) -> Error {
    Error::Usage {
        message: format!("{what} needs DataFusion and Ballista, which this build of alti was made without"),
        hint: "build it with them, which takes long: cargo build --release -p cli --features cluster"
            .to_owned(),
    }
}
