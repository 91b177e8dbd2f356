//! OpenAI-compatible HTTP over the engine, and a small chat page. It owns every wire type and nothing else: the chat
//! format is the tokenizer's, the answers are the engine's.
//!
//! `POST /v1/chat/completions`, `/v1/completions` and `/v1/responses` (streamed and not), `/v1/embeddings`, `GET /v1/models` and what operators
//! need, the page at `/`. Parameters, answers and errors follow OpenAI's API reference, so that its clients work
//! unchanged; what is not supported is refused by name.

mod answers;
mod api_error;
mod chat;
mod completions;
mod connections;
mod cors;
mod embeddings;
mod error;
mod fields;
mod http;
mod info;
mod keys;
mod metrics;
mod models;
mod openapi;
mod parameters;
mod record;
mod responses;
mod server;
mod tokens;
mod tools;

pub use crate::error::Error;
pub use crate::http::router;
pub use crate::info::{ServeInfo, Settings};
pub use crate::keys::ApiKeys;
pub use crate::record::{Access, AccessLog};
pub use crate::server::{Server, run, serve};
