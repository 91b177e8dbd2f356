//! Listening, and stopping well: what runs when the signal comes is finished, within a time.

use std::sync::Arc;
use std::time::Duration;

use engine::Engine;
use tokio::sync::Notify;

use crate::{Error, ServeInfo, router};

/// After the engine has cancelled what ran, connections get this long to send their last bytes.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Serves until `shutdown` resolves, then finishes what runs. Blocks; starts its own runtime.
pub fn run(
    listener: std::net::TcpListener,
    engine: Engine,
    info: ServeInfo,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        listener.set_nonblocking(true).map_err(Error::Listener)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Error::Listener)?;
        serve(listener, engine, info, shutdown).await
    })
}

/// Serves until `shutdown` resolves. Then takes no more connections and finishes the answers that run; those that are not
/// done after `shutdown_grace_seconds` are cancelled.
pub async fn serve(
    listener: tokio::net::TcpListener,
    engine: Engine,
    info: ServeInfo,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    info.settings.validate()?;
    let grace = Duration::from_secs(info.settings.shutdown_grace_seconds);
    let stopping = Arc::new(Notify::new());
    let told = Arc::clone(&stopping);
    let signal = async move {
        shutdown.await;
        told.notify_one();
    };
    let server = axum::serve(listener, router(engine.clone(), info)).with_graceful_shutdown(signal);
    let mut server = std::pin::pin!(server.into_future());
    tokio::select! {
        ended = &mut server => return ended.map_err(Error::Listener),
        () = async { stopping.notified().await; tokio::time::sleep(grace).await } => {}
    }
    // It waits for a thread, which is not for the runtime's own threads to do.
    let _ = tokio::task::spawn_blocking(move || engine.abort()).await;
    // A client that neither reads nor leaves is not waited for.
    tokio::time::timeout(LAST_BYTES, server).await.unwrap_or(Ok(())).map_err(Error::Listener)
}

/// Resolves when the user or the system asks the process to end: Ctrl-C, or SIGTERM.
pub async fn interrupted() {
    let ctrl_c = async {
        // Where the handler cannot be set, the default action, to end the process, stays.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending::<()>().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! {
        () = ctrl_c => {}
        () = terminate => {}
    }
}
