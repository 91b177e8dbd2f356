//! Which web pages may call the API from a browser: the server's own, and those of the origins that the operator allows.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::Settings;

/// Headers of an answer that a page's script may read, besides the few that it always may.
const EXPOSED: [HeaderName; 5] = [
    header::RETRY_AFTER,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];

/// The layer that answers browsers' questions; none where no origin is allowed, so that their answer is 405.
pub(crate) fn layer(settings: &Settings) -> Option<CorsLayer> {
    let origins = &settings.allowed_origins;
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // OpenAI's own client for browsers sends a dozen headers about itself, and their names change.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(Duration::from_secs(600));
    Some(layer)
}
