//! The scheduler: it knows which executors there are, gives them portions, and gives those of a lost one to others. It
//! touches no document.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_scheduler::cluster::{BallistaCluster, ClusterStateEvent};
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::create_scheduler;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use futures::StreamExt;
use ledger::progress::Progress;
use tokio::net::TcpListener;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::node::{Codec, Workplace};
use crate::{Error, program};

/// Most bytes of a message: a document is one, and the largest that is read is a setting.
pub(crate) const MESSAGE_BYTES: u32 = i32::MAX as u32;

/// How often it is looked which executors have not been heard of for too long.
const LOOK: Duration = Duration::from_secs(2);

/// Results that nobody asks for are removed after this long.
const RESULTS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How a scheduler goes about its work.
#[derive(Clone, Debug)]
pub struct SchedulerOptions {
    /// Where to listen, as `HOST:PORT`; port 0 takes a free one.
    pub bind: String,
    /// Under which name executors reach this machine; by default the host of `bind`, or the machine's name where that is
    /// all addresses.
    pub host: Option<String>,
    /// An executor that was not heard of for so long is lost, and its portions are given to others.
    pub executor_timeout: Duration,
}

/// Runs a scheduler until it is asked to end, by SIGINT or SIGTERM. `ready` hears the address at which it listens.
///
/// # Errors
/// [`Error::Address`], [`Error::Listen`] and [`Error::Part`].
pub fn scheduler(
    options: &SchedulerOptions,
    progress: &dyn Progress,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), Error> {
    runtime()?.block_on(serve(options, progress, ready))
}

async fn serve(
    options: &SchedulerOptions,
    progress: &dyn Progress,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), Error> {
    let (host, port) = split(&options.bind)?;
    let listen = |cause| Error::Listen { address: options.bind.clone(), cause };
    let listener = TcpListener::bind((host.as_str(), port)).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let named = match &options.host {
        Some(name) => name.clone(),
        None if address.ip().is_unspecified() => machine_name(),
        None => host,
    };
    let timeout = options.executor_timeout.as_secs().max(1);
    let config = Arc::new(SchedulerConfig {
        external_host: named,
        bind_host: address.ip().to_string(),
        bind_port: address.port(),
        scheduling_policy: TaskSchedulingPolicy::PushStaged,
        grpc_server_max_decoding_message_size: MESSAGE_BYTES,
        grpc_server_max_encoding_message_size: MESSAGE_BYTES,
        grpc_client_max_message_size: MESSAGE_BYTES,
        executor_timeout_seconds: timeout,
        expire_dead_executor_interval_seconds: LOOK.as_secs(),
        // A cluster without executors waits for one: whoever wants none ends the curation.
        no_executors_grace_period_seconds: RESULTS_KEPT.as_secs(),
        finished_job_data_clean_up_interval_seconds: RESULTS_KEPT.as_secs(),
        finished_job_state_clean_up_interval_seconds: RESULTS_KEPT.as_secs(),
        override_physical_codec: Some(Arc::new(Codec::new(Arc::new(Workplace::default())))),
        ..SchedulerConfig::default()
    });
    let part = |error: ballista_core::error::BallistaError| Error::part("run the scheduler")(Box::new(error));
    let cluster = BallistaCluster::new_from_config(&config).await.map_err(part)?;
    let scheduler =
        create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, config).await.map_err(part)?;
    let mut events = scheduler.cluster_state_events().await.map_err(part)?;

    let service = SchedulerGrpcServer::new(scheduler)
        .max_decoding_message_size(MESSAGE_BYTES as usize)
        .max_encoding_message_size(MESSAGE_BYTES as usize);
    let name = program::name();
    let service = InterceptedService::new(service, move |request| program::check(&name, request));
    ready(address);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut server = std::pin::pin!(Server::builder().add_service(service).serve_with_incoming(incoming));
    let mut asked = std::pin::pin!(asked());
    loop {
        tokio::select! {
            ended = &mut server => {
                return ended.map_err(|error| Error::part("run the scheduler")(Box::new(error)));
            }
            // Connections of executors do not end by themselves: nothing is waited for. Whoever curates tries again.
            () = &mut asked => return Ok(()),
            Some(event) = events.next() => match event {
                ClusterStateEvent::RegisteredExecutor { executor_id } => {
                    progress.note(&format!("executor {executor_id} has come"));
                }
                ClusterStateEvent::RemovedExecutor { executor_id } => {
                    progress.warn(&format!("executor {executor_id} has gone"));
                }
            },
        }
    }
}

/// Ends when somebody asks for the end of the program.
pub(crate) async fn asked() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        },
        Err(_) => {
            let _ = interrupt.await;
        }
    }
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::part("start threads")(Box::new(error)))
}

/// Host and port of an address.
pub(crate) fn split(address: &str) -> Result<(String, u16), Error> {
    let malformed = |reason: &str| Error::Address { given: address.to_owned(), reason: reason.to_owned() };
    let bare = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let (host, port) = bare.rsplit_once(':').ok_or_else(|| malformed("it has no port"))?;
    let port = port.parse().map_err(|_| malformed("its port is no number up to 65535"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(malformed("it has no host"));
    }
    Ok((host.to_owned(), port))
}

/// How this machine calls itself.
pub(crate) fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let found = split(text).ok();
            assert_eq!(found.as_ref().map(|(host, port)| (host.as_str(), *port)), expected, "{text}");
        };
        check("north:50050", Some(("north", 50050)));
        check("http://10.0.0.7:1/", Some(("10.0.0.7", 1)));
        check("[::1]:50050", Some(("::1", 50050)));
        check("north", None);
        check(":50050", None);
        check("north:x", None);
        check("north:70000", None);
    }
}
