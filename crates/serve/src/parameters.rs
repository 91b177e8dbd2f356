//! The parameters that chat completions and completions share: from JSON to the engine's request.

use engine::{Request, Sampling};

use crate::ServeInfo;
use crate::api_error::ApiError;
use crate::fields::{Fields, wrong_type};

/// More stop texts than OpenAI takes (4), few enough to look for at each token.
const MAX_STOPS: usize = 16;
/// As OpenAI's `top_logprobs`.
pub(crate) const MAX_LOGPROBS: usize = 20;

/// What both endpoints understand.
pub(crate) struct Parameters {
    /// Everything but the prompts, the limit and the log-probabilities.
    pub(crate) template: Request,
    pub(crate) choices: usize,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

impl Parameters {
    pub(crate) fn read(fields: &Fields, info: &ServeInfo, vocab_size: usize) -> Result<Self, ApiError> {
        check_model(fields, info)?;
        let number = |name: &str, least: f64, most: f64, default: f32| -> Result<f32, ApiError> {
            Ok(fields.number(name, least, most)?.map_or(default, |value| value as f32))
        };
        let sampling = Sampling {
            temperature: number("temperature", 0.0, 2.0, info.settings.temperature)?,
            top_p: number("top_p", 0.0, 1.0, info.settings.top_p)?,
            presence_penalty: number("presence_penalty", -2.0, 2.0, 0.0)?,
            frequency_penalty: number("frequency_penalty", -2.0, 2.0, 0.0)?,
            // These three are not OpenAI's; vLLM and llama.cpp read them under the same names.
            repetition_penalty: number("repetition_penalty", 0.01, 100.0, 1.0)?,
            min_p: number("min_p", 0.0, 1.0, 0.0)?,
            top_k: top_k(fields)?,
            logit_bias: logit_bias(fields, vocab_size)?,
            // Any bits will do; a negative seed is a seed.
            seed: fields.integer("seed", i64::MIN, i64::MAX)?.map(|seed| seed as u64),
            stream: 0,
        };
        let stream = fields.boolean("stream")?.unwrap_or(false);
        let include_usage = stream_options(fields, stream)?;
        let choices = fields.count("n", 1, info.settings.max_choices)?.unwrap_or(1);
        let stop = fields.strings("stop", MAX_STOPS)?;
        let template = Request { sampling, stop, ..Request::default() };
        Ok(Parameters { template, choices, stream, include_usage })
    }

    /// The engine's requests for one prompt: `choices` of them, each with its own random numbers.
    pub(crate) fn requests(&self, prompt: &[u32]) -> Vec<Request> {
        let choice = |stream| {
            let mut request = self.template.clone();
            request.prompt = prompt.to_vec();
            request.sampling.stream = stream;
            request
        };
        (0..self.choices as u64).map(choice).collect()
    }
}

/// The model that is served, by name; OpenAI requires the name, here it may be left out.
fn check_model(fields: &Fields, info: &ServeInfo) -> Result<(), ApiError> {
    match fields.string("model")? {
        Some(model) if model != info.model => Err(unknown_model(model, info)),
        _ => Ok(()),
    }
}

/// 404, with the name that would have been right.
pub(crate) fn unknown_model(model: &str, info: &ServeInfo) -> ApiError {
    let shown: String = model.chars().take(100).collect();
    let message = format!("The model '{shown}' does not exist. This server has '{}'.", info.model);
    let status = axum::http::StatusCode::NOT_FOUND;
    ApiError::new(status, "invalid_request_error", Some("model_not_found"), message).at("model")
}

fn top_k(fields: &Fields) -> Result<Option<usize>, ApiError> {
    // Other servers read -1 and 0 as "all".
    let top_k = fields.integer("top_k", -1, i64::MAX)?;
    Ok(top_k.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0))
}

fn logit_bias(fields: &Fields, vocab_size: usize) -> Result<std::collections::BTreeMap<u32, f32>, ApiError> {
    let Some(object) = fields.object("logit_bias")? else { return Ok(Default::default()) };
    let entry = |(name, _): (&String, &serde_json::Value)| {
        let token = name.parse::<u32>().ok().filter(|token| (*token as usize) < vocab_size);
        let token = token.ok_or_else(|| {
            let message = format!(
                "Invalid key in 'logit_bias': '{}'. Expected a token from 0 to {}.",
                name.chars().take(60).collect::<String>(),
                vocab_size - 1
            );
            ApiError::invalid(Some("invalid_value"), message).at("logit_bias")
        })?;
        Ok((token, object.number(name, -100.0, 100.0)?.unwrap_or(0.0) as f32))
    };
    object.entries().map(entry).collect()
}

fn stream_options(fields: &Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    if !stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
        return Err(ApiError::invalid(None, message).at("stream_options"));
    }
    Ok(options.boolean("include_usage")?.unwrap_or(false))
}

/// Refuses `name` unless its value asks for nothing: absent, an empty list, `false`, or one of `harmless`.
pub(crate) fn refuse(fields: &Fields, name: &str, harmless: &[&str], why: &str) -> Result<(), ApiError> {
    use serde_json::Value;
    match fields.value(name) {
        None | Some(Value::Bool(false)) => Ok(()),
        Some(Value::Array(list)) if list.is_empty() => Ok(()),
        Some(Value::String(text)) if harmless.contains(&text.as_str()) => Ok(()),
        Some(_) => Err(ApiError::unsupported(fields.path(name), why)),
    }
}

/// Refuses a `response_format` other than plain text.
pub(crate) fn refuse_formats(fields: &Fields) -> Result<(), ApiError> {
    let Some(format) = fields.object("response_format")? else { return Ok(()) };
    match format.string("type")? {
        Some("text") => Ok(()),
        None => Err(format.missing("type")),
        Some(other) => {
            let shown: String = other.chars().take(60).collect();
            Err(ApiError::unsupported(
                "response_format",
                &format!("Only the type 'text' is supported, not '{shown}'."),
            ))
        }
    }
}

/// Token numbers: a list of integers in `0..vocab_size`.
pub(crate) fn tokens(
    list: &[serde_json::Value],
    path: &str,
    vocab_size: usize,
) -> Result<Vec<u32>, ApiError> {
    let token = |(index, value): (usize, &serde_json::Value)| match value.as_u64() {
        Some(token) if token < vocab_size as u64 => Ok(token as u32),
        Some(token) => {
            let message = format!(
                "Invalid '{path}[{index}]': token {token} is outside the vocabulary of {vocab_size}."
            );
            Err(ApiError::invalid(Some("invalid_token"), message).at(path))
        }
        None => Err(wrong_type(&format!("{path}[{index}]"), "a token number", value)),
    };
    list.iter().enumerate().map(token).collect()
}
