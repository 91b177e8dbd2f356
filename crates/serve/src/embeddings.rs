//! `POST /v1/embeddings`: texts in, a vector of length 1 for each.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Pooling, Request};
use serde_json::{Value, json};

use crate::answers::Answers;
use crate::api_error::ApiError;
use crate::completions::{check_count, prompts};
use crate::fields::{Fields, wrong_value};
use crate::http::App;
use crate::models::Named;

/// Answers one request; `body` is its parsed JSON.
pub(crate) async fn create(app: Arc<App>, body: Value) -> Result<Response, ApiError> {
    let fields = Fields::of_body(&body)?;
    let Named { model, adapter } = Named::read(&fields, &app)?;
    let prompts =
        prompts(&fields, "input", app.engine.tokenizer())?.ok_or_else(|| fields.missing("input"))?;
    check_count(prompts.len(), app.info.settings.max_embeddings, "texts are given", "input")?;
    let pooling = match fields.string("pooling")?.unwrap_or("mean") {
        "mean" => Pooling::Mean,
        "last" => Pooling::Last,
        other => return Err(wrong_value("pooling", other, &["mean", "last"])),
    };
    let base64 = match fields.string("encoding_format")?.unwrap_or("float") {
        "float" => false,
        "base64" => true,
        other => return Err(wrong_value("encoding_format", other, &["float", "base64"])),
    };
    let dimensions = fields.count("dimensions", 1, usize::MAX)?;
    fields.string("user")?;

    let request =
        |prompt| Request { embedding: Some(pooling), adapter: adapter.clone(), ..Request::new(prompt) };
    let requests = prompts.into_iter().map(|prompt| request(prompt.tokens)).collect();
    let (completions, usage) = Answers::submit(&app, requests, 1, "input")?.gather().await?;
    let width = completions.first().map_or(0, |completion| completion.embedding.len());
    if dimensions.is_some_and(|dimensions| dimensions != width) {
        let why = format!("Vectors of this model have {width} numbers, and cannot be made shorter.");
        return Err(ApiError::unsupported("dimensions", &why));
    }
    let vector = |values: &[f32]| {
        if !base64 {
            return json!(values);
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        json!(STANDARD.encode(bytes))
    };
    let data: Vec<Value> = completions
        .iter()
        .enumerate()
        .map(|(index, completion)| {
            json!({ "object": "embedding", "index": index, "embedding": vector(&completion.embedding) })
        })
        .collect();
    let body = json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": usage.of_embeddings(),
    });
    Ok(Json(body).into_response())
}
