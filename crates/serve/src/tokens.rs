//! `POST /tokenize`, `POST /detokenize` and `GET /tokenizer_info`: the model's tokens, under the names that vLLM gave these
//! routes. A client can count and cut prompts as the model does without having its tokenizer; lm-evaluation-harness does.

use axum::Json;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use crate::api_error::ApiError;
use crate::completions::laid_out;
use crate::fields::{Fields, wrong_type};
use crate::http::App;
use crate::models::Named;
use crate::parameters::tokens;

/// From a text to its tokens. Names of special tokens in it stand for them: these are not the prompts of a model.
pub(crate) fn tokenize(app: &App, body: &Value) -> Result<Json<Value>, ApiError> {
    let fields = Fields::of_body(body)?;
    Named::read(&fields, app)?;
    let tokenizer = app.engine.tokenizer();
    let text = fields.string("prompt")?.ok_or_else(|| fields.missing("prompt"))?;
    let mut tokens = laid_out(tokenizer, text);
    if fields.boolean("add_special_tokens")?.unwrap_or(true) && tokens.first() != Some(&tokenizer.bos()) {
        tokens.insert(0, tokenizer.bos());
    }
    let texts = fields.boolean("return_token_strs")?.unwrap_or(false);
    let texts = texts.then(|| tokens.iter().map(|&token| tokenizer.decode(&[token])).collect::<Vec<_>>());
    Ok(Json(json!({
        "count": tokens.len(),
        "max_model_len": app.engine.context(),
        "tokens": tokens,
        "token_strs": texts,
    })))
}

/// From tokens to their text, in which special tokens are shown by their names.
pub(crate) fn detokenize(app: &App, body: &Value) -> Result<Json<Value>, ApiError> {
    let fields = Fields::of_body(body)?;
    Named::read(&fields, app)?;
    let tokenizer = app.engine.tokenizer();
    let tokens = match fields.required("tokens")? {
        Value::Array(list) => tokens(list, "tokens", tokenizer.vocab_size())?,
        other => return Err(wrong_type("tokens", "an array of tokens", other)),
    };
    Ok(Json(json!({ "prompt": tokenizer.decode(&tokens) })))
}

/// What the tokenizer is, as far as clients ask for it.
pub(crate) fn information(app: &App) -> Json<Value> {
    let tokenizer: &Tokenizer = app.engine.tokenizer();
    let name = |token: u32| tokenizer.decode(&[token]);
    Json(json!({
        "bos_token": name(tokenizer.bos()),
        "eos_token": name(tokenizer.eos()),
        "pad_token": tokenizer.padding().map(name),
        "vocab_size": tokenizer.vocab_size(),
        "model_max_length": app.engine.context(),
    }))
}
