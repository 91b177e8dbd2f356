//! The routes, and what holds for all of them: keys, origins, bodies, identifiers, and that every error has OpenAI's shape.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::Engine;
use serde::Serialize;
use serde_json::{Value, json};
use tower::util::option_layer;

use crate::ServeInfo;
use crate::api_error::{ApiError, ErrorName};
use crate::metrics::{Metrics, Open};
use crate::record::{Record, Trace};
use crate::responses::Store;
use crate::{answers, chat, completions, cors, embeddings, models, openapi, responses, tokens};

const CHAT: &str = include_str!("../assets/chat.html");
const DOCS: &str = include_str!("../assets/docs.html");
/// A page fetches nothing from elsewhere and runs in nobody's frame.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                           img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What needs no key: it shows nothing but that the server is there, and what it speaks.
pub(crate) const OPEN_PATHS: [&str; 5] = ["/", "/docs", "/healthz", "/openapi.json", "/readyz"];
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a handler has at hand.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) info: Arc<ServeInfo>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) store: Arc<Store>,
    /// The server was told to stop.
    pub(crate) stopping: Arc<AtomicBool>,
    /// Of the request that is handled; of none, outside handlers.
    pub(crate) trace: Trace,
}

impl App {
    pub(crate) fn new(engine: Engine, info: ServeInfo, connections: Open) -> Self {
        App {
            metrics: Arc::new(Metrics::new(engine.clone(), connections)),
            store: Arc::new(Store::new(info.settings.max_stored_responses, info.settings.max_stored_bytes)),
            engine,
            info: Arc::new(info),
            stopping: Arc::default(),
            trace: Trace::default(),
        }
    }

    /// The same, for a request whose record follows it.
    fn for_request(&self, request: &Request) -> Arc<App> {
        let trace = request.extensions().get().cloned().unwrap_or_default();
        Arc::new(App { trace, ..self.clone() })
    }
}

/// The routes of this server, to be served alone or nested in a larger one.
pub fn router(engine: Engine, info: ServeInfo) -> Router {
    routes(App::new(engine, info, Open::default()))
}

pub(crate) fn routes(app: App) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/completions", post(text_completions))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/responses", post(create_response))
        .route("/v1/responses/{id}", get(response).delete(delete_response))
        .merge(models::routes(&app.info))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/tokenizer_info", get(tokenizer_info))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi_document))
        .route("/docs", get(|| async { page(DOCS) }))
        .route("/", get(|| async { page(CHAT) }))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .layer(option_layer(cors::layer(&app.info.settings)))
        .layer(from_fn_with_state(app.clone(), record))
        .with_state(app)
}

/// What every object of one response carries.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stamp {
    id: String,
    created: u64,
    model: String,
    system_fingerprint: Option<String>,
}

impl Stamp {
    pub(crate) fn new(prefix: &str, model: &str) -> Self {
        let id = format!("{prefix}{}", unique_id());
        Stamp { id, created: unix_seconds(), model: model.into(), system_fingerprint: None }
    }
}

/// The time of objects on the wire.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn chat_completions(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let app = app.for_request(&request);
    let body = read_json(&app.info, request).await?;
    chat::complete(app, body).await
}

async fn text_completions(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let app = app.for_request(&request);
    let body = read_json(&app.info, request).await?;
    completions::complete(app, body).await
}

async fn embeddings(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let app = app.for_request(&request);
    let body = read_json(&app.info, request).await?;
    embeddings::create(app, body).await
}

async fn tokenize(State(app): State<App>, request: Request) -> Result<Json<Value>, ApiError> {
    let body = read_json(&app.info, request).await?;
    // Megabytes of text take a while.
    off_runtime(move || tokens::tokenize(&app, &body)).await
}

async fn detokenize(State(app): State<App>, request: Request) -> Result<Json<Value>, ApiError> {
    let body = read_json(&app.info, request).await?;
    off_runtime(move || tokens::detokenize(&app, &body)).await
}

async fn tokenizer_info(State(app): State<App>) -> Json<Value> {
    tokens::information(&app)
}

async fn create_response(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let app = app.for_request(&request);
    let body = read_json(&app.info, request).await?;
    responses::create(app, body).await
}

async fn response(State(app): State<App>, Path(id): Path<String>) -> Result<Response, ApiError> {
    responses::retrieve(&app, &id)
}

async fn delete_response(State(app): State<App>, Path(id): Path<String>) -> Result<Response, ApiError> {
    responses::delete(&app, &id)
}

/// Whether the process should live on: not once the engine has failed, for then only a new start helps.
async fn health(State(app): State<App>) -> Response {
    let stopping = app.stopping.load(Ordering::Relaxed);
    if !stopping && !app.engine.is_running() {
        return ApiError::engine_down().into_response();
    }
    let stats = app.engine.stats();
    Json(json!({ "status": "ok", "running": stats.running, "waiting": stats.waiting })).into_response()
}

/// Whether requests should be sent here.
async fn readiness(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    if app.stopping.load(Ordering::Relaxed) {
        return Err(ApiError::stopping());
    }
    if !app.engine.is_running() {
        return Err(ApiError::engine_down());
    }
    Ok(Json(json!({ "status": "ready", "model": app.info.model })))
}

async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (kind, page) = app.metrics.page(accept);
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], page).into_response()
}

async fn openapi_document(State(app): State<App>) -> Json<Value> {
    Json(openapi::document(&app.info, &app.engine.adapters(), app.engine.tokenizer().vocab_size()))
}

fn page(text: &'static str) -> Response {
    let policy = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (policy, Html(text)).into_response()
}

async fn not_found(request: Request) -> ApiError {
    let message = format!("Unknown request URL: {} {}.", request.method(), request.uri().path());
    ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("unknown_url"), message)
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("Not allowed: {} {}.", request.method(), request.uri().path());
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request_error",
        Some("method_not_allowed"),
        message,
    )
}

pub(crate) async fn read_json(info: &ServeInfo, request: Request) -> Result<Value, ApiError> {
    check_content_type(request.headers())?;
    let limit = info.settings.max_body_bytes;
    let too_large = || {
        let message = format!("The body of the request is larger than {limit} bytes.");
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            Some("request_too_large"),
            message,
        )
    };
    let announced =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit as u64) {
        return Err(too_large());
    }
    let patience = Duration::from_secs(info.settings.body_timeout_seconds);
    let read = tokio::time::timeout(patience, to_bytes(request.into_body(), limit)).await;
    let bytes = match read {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) if is_length_limit(&error) => return Err(too_large()),
        Ok(Err(error)) => {
            return Err(ApiError::invalid(
                None,
                format!("The body of the request could not be read: {error}."),
            ));
        }
        Err(_) => {
            let message = format!("The body of the request did not arrive within {} s.", patience.as_secs());
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", None, message));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        // serde_json's message ends with the line and column.
        ApiError::invalid(
            Some("invalid_json"),
            format!("We could not parse the JSON body of your request: {error}."),
        )
    })
}

/// Anything but JSON is refused: so a foreign web page cannot post here without asking first, which `allowed_origins`
/// answers (a browser asks before it sends this type, and not before it sends text or a form).
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let shown: String = essence.chars().take(60).collect();
    let message = format!(
        "Unsupported content type '{shown}'. Please send the header 'Content-Type: application/json'."
    );
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(ApiError::new(status, "invalid_request_error", Some("unsupported_content_type"), message))
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        // http-body-util's own type is not re-exported; its text is "length limit exceeded".
        if error.to_string() == "length limit exceeded" {
            return true;
        }
        source = error.source();
    }
    false
}

/// Asks for a key, and tells how much more can be asked.
async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = OPEN_PATHS.contains(&path) || (path == "/metrics" && app.info.settings.open_metrics);
    if !open && !app.info.api_keys.admit(request.headers()) {
        return ApiError::wrong_key().into_response();
    }
    let counted = request.method() == Method::POST && path.starts_with("/v1/");
    let mut response = next.run(request).await;
    if counted {
        answers::tell_room(&app.engine, response.headers_mut());
    }
    response
}

/// Keeps a record of the request, names the response, and turns a panic into an error that has a shape.
async fn record(State(app): State<App>, mut request: Request<Body>, next: Next) -> Response {
    let id = format!("req_{}", unique_id());
    let named = HeaderValue::from_str(&id);
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let record = Record::begin(Arc::clone(&app.metrics), app.info.access_log.clone(), id, &request, route);
    request.extensions_mut().insert(record.trace.clone());
    let mut handling = pin!(next.run(request));
    let polled =
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(response)) => Poll::Ready(Ok(response)),
            Err(panic) => Poll::Ready(Err(panic)),
        });
    let mut response = match polled.await {
        Ok(response) => response,
        Err(panic) => {
            ApiError::internal(format!("The server failed: {}.", panic_text(&*panic))).into_response()
        }
    };
    if let Ok(id) = named {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(name) = response.extensions().get::<ErrorName>() {
        record.trace.told().error = Some(name.0);
    }
    record.follow(response)
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason was given")
}

/// Runs what would hold up the other requests of a thread of the runtime.
pub(crate) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(ApiError::internal(format!("The server failed: {error}."))),
    }
}

/// 32 hexadecimal digits, no two alike: hashes of nothing under keys that the standard library draws from the system and
/// changes each time.
pub(crate) fn unique_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}
