//! Listening, and stopping well: what runs when the time comes is finished, within bounds.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use engine::Engine;
use serde_json::json;
use tokio::sync::oneshot;

use crate::api_error::ApiError;
use crate::connections::{Connections, Routes};
use crate::http::{App, routes};
use crate::metrics::Open;
use crate::{Error, ServeInfo, Settings};

/// After the engine has cancelled what ran, connections get this long to send their last bytes.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Serves until `shutdown` resolves, then finishes what runs. Blocks; starts its own runtime.
pub fn run(
    listener: TcpListener,
    engine: Engine,
    info: ServeInfo,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    runtime()?.block_on(async { serve(tokio_listener(listener)?, engine, info, shutdown).await })
}

/// Serves until `shutdown` resolves. Then takes no more connections and finishes the answers that run; those that are not
/// done after `shutdown_grace_seconds` are cancelled. No task outlives it.
pub async fn serve(
    listener: tokio::net::TcpListener,
    engine: Engine,
    info: ServeInfo,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    info.settings.validate()?;
    let settings = info.settings.clone();
    let house = Arc::new(House::default());
    house.open(engine, info);
    listen(listener, house, &settings, shutdown).await;
    Ok(())
}

/// A server on threads of its own that listens while its model is still being read: until then it lives (`/healthz`) but
/// is not ready (`/readyz`), and refuses everything else with 503. Dropping it stops it as [`Server::stop`] does.
pub struct Server {
    house: Arc<House>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to listen. `settings` are those of the connections; [`Server::open`] brings the others.
    pub fn start(listener: TcpListener, settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        let runtime = runtime()?;
        let listener = runtime.block_on(async { tokio_listener(listener) })?;
        let house = Arc::new(House::default());
        let (stop, told) = oneshot::channel();
        let inside = Arc::clone(&house);
        let thread = std::thread::Builder::new().name("serve".into());
        let thread = thread.spawn(move || {
            // The handle's end is a reason to stop as well.
            let stopped = async { drop(told.await) };
            runtime.block_on(listen(listener, inside, &settings, stopped));
        });
        Ok(Server { house, stop: Some(stop), thread: Some(thread.map_err(Error::Runtime)?) })
    }

    /// Serves this model from now on. A second call changes nothing.
    pub fn open(&self, engine: Engine, info: ServeInfo) {
        self.house.open(engine, info);
    }

    /// Takes no more connections, finishes the answers that run, within the time of the settings, and waits for all that.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been shown, and there is nothing left to end.
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)
}

fn tokio_listener(listener: TcpListener) -> Result<tokio::net::TcpListener, Error> {
    listener.set_nonblocking(true).map_err(Error::Listener)?;
    tokio::net::TcpListener::from_std(listener).map_err(Error::Listener)
}

/// What is served, once the model is there.
#[derive(Default)]
struct House {
    inside: OnceLock<(App, Router)>,
    connections: Open,
}

impl House {
    fn open(&self, engine: Engine, info: ServeInfo) {
        self.inside.get_or_init(|| {
            let app = App::new(engine, info, self.connections.clone());
            (app.clone(), routes(app))
        });
    }

    fn app(&self) -> Option<&App> {
        self.inside.get().map(|(app, _)| app)
    }
}

async fn listen(
    listener: tokio::net::TcpListener,
    house: Arc<House>,
    settings: &Settings,
    shutdown: impl Future<Output = ()>,
) {
    let inside = Arc::clone(&house);
    let early = loading();
    let now: Routes = Arc::new(move || match inside.inside.get() {
        Some((_, router)) => router.clone(),
        None => early.clone(),
    });
    let mut connections = Connections::new(settings, now, house.connections.clone());
    tokio::select! {
        () = connections.accept(&listener) => {}
        () = shutdown => {}
    }
    drop(listener);
    if let Some(app) = house.app() {
        app.stopping.store(true, Ordering::Relaxed);
    }
    let grace = Duration::from_secs(settings.shutdown_grace_seconds);
    if tokio::time::timeout(grace, connections.finish()).await.is_ok() {
        return;
    }
    if let Some(engine) = house.app().map(|app| app.engine.clone()) {
        // It waits for a thread, which is not for the runtime's own threads to do.
        let _ = tokio::task::spawn_blocking(move || engine.abort()).await;
    }
    // A client that neither reads nor leaves is not waited for.
    let _ = tokio::time::timeout(LAST_BYTES, connections.finish()).await;
    connections.end().await;
}

/// What is answered while the model is being read.
fn loading() -> Router {
    let alive = || async { Json(json!({ "status": "ok", "running": 0, "waiting": 0 })) };
    Router::new().route("/healthz", get(alive)).fallback(|| async { ApiError::loading().into_response() })
}
