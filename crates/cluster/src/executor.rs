//! An executor: it does portions of the first pass, one a slot at a time, and keeps their results until they are fetched.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::ids::new_instance_id;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_executor::executor_server::TERMINATING;
use ledger::progress::{Progress, Unit};
use tokio::sync::mpsc::unbounded_channel;

use crate::node::{Codec, Workplace};
use crate::scheduler::{MESSAGE_BYTES, asked, machine_name, runtime, split};
use crate::{Error, program};

/// How often an executor tells that it lives.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How long an executor waits for a scheduler that is about to be started.
const PATIENCE: Duration = Duration::from_secs(30);

/// How an executor goes about its work.
#[derive(Clone, Debug)]
pub struct ExecutorOptions {
    /// The scheduler, as `HOST:PORT`.
    pub scheduler: String,
    /// Where to listen, as `HOST:PORT`: this port and the next one; port 0 takes free ones.
    pub bind: String,
    /// Under which name others reach this machine; by default the address from which it speaks to the scheduler.
    pub host: Option<String>,
    /// Portions that are done at once, each by one thread that works and one that reads.
    pub slots: usize,
    /// Where results lie until they are fetched; by default a folder for temporary files, which is removed at the end.
    pub work: Option<PathBuf>,
}

/// Runs an executor until it is asked to end, by SIGINT or SIGTERM; what it has in hand is then done by others. `ready`
/// is called when it has begun to work.
///
/// # Errors
/// [`Error::Address`], [`Error::Listen`]; [`Error::NoScheduler`]; [`Error::Refused`] where the scheduler is another build
/// of this program; [`Error::Part`].
pub fn executor(
    options: &ExecutorOptions,
    progress: &dyn Progress,
    ready: impl FnOnce(&str),
) -> Result<(), Error> {
    let (scheduler_host, scheduler_port) = split(&options.scheduler)?;
    let (bind_host, port) = split(&options.bind)?;
    if port == u16::MAX {
        let reason = "there is no port behind it".to_owned();
        return Err(Error::Address { given: options.bind.clone(), reason });
    }
    let temporary = match &options.work {
        Some(_) => None,
        None => {
            let made = tempfile::Builder::new().prefix("alti-executor-").tempdir();
            Some(made.map_err(|error| Error::part("make a folder for results")(Box::new(error)))?)
        }
    };
    let work = options.work.as_deref().or(temporary.as_ref().map(|made| made.path()));
    let work = work.map(|path| path.to_string_lossy().into_owned());
    let host = match &options.host {
        Some(host) => host.clone(),
        None => own_address(&scheduler_host, scheduler_port).unwrap_or_else(machine_name),
    };
    let (heard, mut hear) = unbounded_channel();
    let task = progress.begin("doing portions of curations", None, Unit::Bytes);
    let mut ready = Some(ready);
    let mut done = 0u64;
    runtime()?.block_on(async {
        loop {
            let (port, grpc_port) = if port == 0 { free_ports(&bind_host)? } else { (port, port + 1) };
            // New at each start: portions of one that was killed are not those of the one in its place.
            let id = format!("{}-{}", machine_name(), &new_instance_id()[..8]);
            let stop = Arc::new(AtomicBool::new(false));
            let workplace = Arc::new(Workplace::new(id.clone(), stop.clone(), heard.clone()));
            let config = ExecutorProcessConfig {
                executor_id: id.clone(),
                bind_host: bind_host.clone(),
                external_host: Some(host.clone()),
                port,
                grpc_port,
                scheduler_host: scheduler_host.clone(),
                scheduler_port,
                scheduler_connect_timeout_seconds: PATIENCE.as_secs() as u16,
                vcores: options.slots.max(1),
                task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
                work_dir: work.clone(),
                executor_heartbeat_interval_seconds: HEARTBEAT.as_secs(),
                grpc_max_decoding_message_size: MESSAGE_BYTES,
                grpc_max_encoding_message_size: MESSAGE_BYTES,
                // The corpus' functions keep their own memory small, and use none of the engine's operators.
                memory_pool_size: Some(0),
                override_physical_codec: Some(Arc::new(Codec::new(workplace))),
                override_create_grpc_client_endpoint: Some(program::signed()),
                ..ExecutorProcessConfig::default()
            };
            TERMINATING.store(false, Ordering::Release);
            let ending = tokio::spawn(end(stop));
            let mut process = std::pin::pin!(start_executor_process(Arc::new(config)));
            if let Some(ready) = ready.take() {
                ready(&id);
            }
            let ended = loop {
                tokio::select! {
                    ended = &mut process => break ended,
                    Some(bytes) = hear.recv() => {
                        done += 1;
                        task.advance(bytes);
                        task.message(&format!("{done} portions done"));
                    }
                }
            };
            if let Err(error) = ended {
                ending.abort();
                return Err(failed(&options.scheduler, &error));
            }
            if ending.await.unwrap_or(true) {
                return Ok(());
            }
            // Ballista ends an executor that cannot reach its scheduler.
            progress.warn("the scheduler does not answer any more; looking for another one in its place");
        }
    })
}

/// Lets go of what is in hand when the executor ends, since nobody could fetch its results; and whether it was asked to.
async fn end(stop: Arc<AtomicBool>) -> bool {
    // The process listens itself too, and tells the scheduler before it waits for what is in hand.
    let terminating = async {
        while !TERMINATING.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut terminating = std::pin::pin!(terminating);
    let asked = tokio::select! {
        () = asked() => true,
        () = &mut terminating => false,
    };
    if asked {
        terminating.await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Release);
    asked
}

fn failed(scheduler: &str, error: &ballista_core::error::BallistaError) -> Error {
    let text = error.to_string();
    if let Some(reason) = program::refusal(&text) {
        return Error::Refused { address: scheduler.to_owned(), reason };
    }
    if text.contains("connect to scheduler") {
        return Error::NoScheduler { address: scheduler.to_owned(), reason: text };
    }
    Error::Part { operation: "run the executor", reason: text }
}

/// The address of this machine on the way to another. Nothing is sent.
fn own_address(host: &str, port: u16) -> Option<String> {
    let socket = ["0.0.0.0:0", "[::]:0"].iter().find_map(|any| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect((host, port)).ok().map(|()| socket)
    })?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address.to_string()),
        IpAddr::V6(address) => Some(format!("[{address}]")),
    }
}

/// Two ports on which nobody listens at this moment.
fn free_ports(host: &str) -> Result<(u16, u16), Error> {
    let failed = |cause| Error::Listen { address: format!("{host}:0"), cause };
    let listen = || TcpListener::bind((host, 0)).map_err(failed);
    let (one, other) = (listen()?, listen()?);
    let port = |listener: &TcpListener| Ok(listener.local_addr().map_err(failed)?.port());
    Ok((port(&one)?, port(&other)?))
}
