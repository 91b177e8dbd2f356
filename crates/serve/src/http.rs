//! The routes, and what holds for all of them: keys, origins, bodies, identifiers, and that every error has OpenAI's shape.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::Engine;
use serde::Serialize;
use serde_json::{Value, json};

use crate::ServeInfo;
use crate::api_error::ApiError;
use crate::parameters::unknown_model;
use crate::{chat, completions};

const PAGE: &str = include_str!("../assets/chat.html");
/// The page fetches nothing from elsewhere and runs in nobody's frame.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                           img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What handlers share.
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) info: ServeInfo,
}

/// The routes of this server, to be served alone or nested in a larger one.
pub fn router(engine: Engine, info: ServeInfo) -> Router {
    let app = Arc::new(App { engine, info });
    Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/completions", post(text_completions))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/healthz", get(health))
        .route("/", get(page))
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), guard))
        .layer(from_fn(identify))
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
    pub(crate) fn new(prefix: &str, info: &ServeInfo) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let id = format!("{prefix}{}", unique_id());
        Stamp { id, created, model: info.model.clone(), system_fingerprint: None }
    }
}

async fn chat_completions(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let body = read_json(&app.info, request).await?;
    chat::complete(app, body).await
}

async fn text_completions(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let body = read_json(&app.info, request).await?;
    completions::complete(app, body).await
}

async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [describe(&app)] }))
}

async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    if id == app.info.model { Ok(Json(describe(&app))) } else { Err(unknown_model(&id, &app.info)) }
}

fn describe(app: &App) -> Value {
    let ServeInfo { model, created, owned_by, .. } = &app.info;
    // `max_model_len` is vLLM's; clients that budget their prompts look for it.
    let context = app.engine.context();
    json!({ "id": model, "object": "model", "created": created, "owned_by": owned_by, "max_model_len": context })
}

async fn health(State(app): State<Arc<App>>) -> Json<Value> {
    let stats = app.engine.stats();
    Json(json!({ "status": "ok", "running": stats.running, "waiting": stats.waiting }))
}

async fn page() -> Response {
    let policy = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (policy, Html(PAGE)).into_response()
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

async fn read_json(info: &ServeInfo, request: Request) -> Result<Value, ApiError> {
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

/// Keys and origins.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let allowed =
        request.headers().get(header::ORIGIN).filter(|origin| is_allowed(&app.info, origin)).cloned();
    let api = request.uri().path().starts_with("/v1/");
    let mut response = if request.method() == Method::OPTIONS && allowed.is_some() {
        preflight()
    } else if api && !has_key(&app.info, request.headers()) {
        let message = "Incorrect API key provided, or none. Send it as 'Authorization: Bearer KEY'.";
        let status = StatusCode::UNAUTHORIZED;
        ApiError::new(status, "invalid_request_error", Some("invalid_api_key"), message).into_response()
    } else {
        next.run(request).await
    };
    if let Some(origin) = allowed {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

fn is_allowed(info: &ServeInfo, origin: &HeaderValue) -> bool {
    info.settings
        .allowed_origins
        .iter()
        .any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS")),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type")),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600")),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn has_key(info: &ServeInfo, headers: &HeaderMap) -> bool {
    if info.api_keys.is_empty() {
        return true;
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (scheme, given) = given.split_once(' ').unwrap_or(("", ""));
    let given = given.trim().as_bytes();
    scheme.eq_ignore_ascii_case("bearer") && info.api_keys.iter().any(|key| same(key.as_bytes(), given))
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Names each response, and turns a panic into an error that has a shape.
async fn identify(request: Request<Body>, next: Next) -> Response {
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
    if let Ok(id) = HeaderValue::from_str(&format!("req_{}", unique_id())) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason was given")
}

/// 32 hexadecimal digits, no two alike: hashes of nothing under keys that the standard library draws from the system and
/// changes each time.
fn unique_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let half = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", half(), half())
}
