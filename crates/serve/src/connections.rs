//! Connections: how many at once, how long each may take, and how they end when the server does. HTTP itself is hyper's.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::Settings;
use crate::metrics::Open;
use crate::record::Peer;

/// Bytes of a request's header, its target included.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// After the system had no room for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes a request to the routes that answer it now.
pub(crate) type Routes = Arc<dyn Fn() -> Router + Send + Sync>;

/// The connections of one server.
pub(crate) struct Connections {
    open: JoinSet<()>,
    places: Arc<Semaphore>,
    /// Turns true when connections should end with the request that they have.
    finish: watch::Sender<bool>,
    settings: Settings,
    routes: Routes,
    count: Open,
}

/// One more open connection, as long as it lives.
struct Counted(Open);

impl Counted {
    fn new(open: Open) -> Self {
        open.inc();
        Counted(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Connections {
    pub(crate) fn new(settings: &Settings, routes: Routes, count: Open) -> Self {
        Connections {
            open: JoinSet::new(),
            places: Arc::new(Semaphore::new(settings.max_connections)),
            finish: watch::Sender::new(false),
            settings: settings.clone(),
            routes,
            count,
        }
    }

    /// Accepts connections for ever. May be dropped at any await: no accepted connection is lost.
    pub(crate) async fn accept(&mut self, listener: &TcpListener) {
        loop {
            // Fails only when the semaphore is closed, which nobody does.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let held = (place, Counted::new(self.count.clone()));
                    let routes = Arc::clone(&self.routes);
                    let finish = self.finish.subscribe();
                    self.open.spawn(serve(stream, Peer(peer), held, &self.settings, routes, finish));
                }
                // The connection was gone before it was taken.
                Err(error) if is_of_connection(&error) => {}
                // The process has no file handle left: one will be free when a connection ends.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            while self.open.try_join_next().is_some() {}
        }
    }

    /// Lets each connection finish the request that it has, and waits for all of them.
    pub(crate) async fn finish(&mut self) {
        self.finish.send_replace(true);
        while self.open.join_next().await.is_some() {}
    }

    /// Ends those that are left.
    pub(crate) async fn end(&mut self) {
        self.open.shutdown().await;
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Serves one connection to its end; what is `held` is given back then.
fn serve(
    stream: TcpStream,
    peer: Peer,
    held: (OwnedSemaphorePermit, Counted),
    settings: &Settings,
    routes: Routes,
    mut finish: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + use<> {
    let header_timeout = Duration::from_secs(settings.header_timeout_seconds);
    let write_timeout = Duration::from_secs(settings.write_timeout_seconds);
    async move {
        let _held = held;
        // A token should go out when it is there. Where this cannot be set, it goes out a little later.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(write_timeout));
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(peer);
            routes().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            // What goes wrong on a connection is between hyper and the client, which has gone or was told.
            _ = connection.as_mut() => return,
            _ = finish.wait_for(|finish| *finish) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}
