//! Errors as OpenAI's clients expect them: `{"error": {"message", "type", "param", "code"}}` and a status.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// A refusal or failure, on its way to a client.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) body: ErrorBody,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct ErrorBody {
    message: String,
    r#type: &'static str,
    param: Option<String>,
    code: Option<&'static str>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a ErrorBody,
}

impl ApiError {
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<String>,
    ) -> Self {
        let body = ErrorBody { message: message.into(), r#type: kind, param: None, code };
        ApiError { status, body, retry_after: None }
    }

    /// 400: something is wrong with the request.
    pub(crate) fn invalid(code: Option<&'static str>, message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
    }

    /// 400: a parameter that OpenAI has and this server has not.
    pub(crate) fn unsupported(param: impl Into<String>, what: &str) -> Self {
        let param = param.into();
        let message = format!("Unsupported parameter: '{param}'. {what}");
        ApiError::invalid(Some("unsupported_parameter"), message).at(param)
    }

    /// 500: the server is to blame.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, message)
    }

    /// The code, or the type where there is none.
    pub(crate) fn name(&self) -> &'static str {
        self.body.code.unwrap_or(self.body.r#type)
    }

    pub(crate) fn message(&self) -> &str {
        &self.body.message
    }

    /// Names the parameter.
    pub(crate) fn at(mut self, param: impl Into<String>) -> Self {
        self.body.param = Some(param.into());
        self
    }

    /// The body, for a stream that has begun.
    pub(crate) fn json(&self) -> String {
        // Strings and an option of a string: nothing here can fail to be written.
        serde_json::to_string(&Envelope { error: &self.body }).unwrap_or_default()
    }

    /// 404, for a name under which there is no model.
    pub(crate) fn no_model(message: String) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("model_not_found"), message)
            .at("model")
    }

    /// What the engine says about a request whose text came in parameter `input`.
    pub(crate) fn from_engine(error: engine::Error, input: &str, retry_after: u64) -> Self {
        match &error {
            engine::Error::ContextLength { prompt_tokens, max_tokens, context } => {
                let requested = prompt_tokens.saturating_add(*max_tokens);
                let message = format!(
                    "This model's maximum context length is {context} tokens. However, you requested {requested} tokens \
                     ({prompt_tokens} in the {input}, {max_tokens} in the completion). Please reduce the length of the \
                     {input} or completion."
                );
                ApiError::invalid(Some("context_length_exceeded"), message).at(input)
            }
            engine::Error::EmptyPrompt => {
                ApiError::invalid(Some("empty_prompt"), format!("Invalid '{input}': it holds no token."))
                    .at(input)
            }
            engine::Error::UnknownToken { position, token, vocab_size } => {
                let message = format!(
                    "Invalid '{input}': token {token} at position {position} is outside the vocabulary of {vocab_size}."
                );
                ApiError::invalid(Some("invalid_token"), message).at(input)
            }
            engine::Error::InvalidRequest { faults } => {
                ApiError::invalid(Some("invalid_value"), format!("Invalid request: {}.", faults.join("; ")))
            }
            engine::Error::Constraint { reason } => {
                ApiError::invalid(None, format!("The answer cannot be constrained as asked: {reason}."))
            }
            // Unloaded since its name was found.
            engine::Error::UnknownAdapter { name, .. } => {
                ApiError::no_model(format!("The model '{name}' does not exist any more."))
            }
            engine::Error::Adapter { .. } => {
                let hint = error.hint().map(|hint| format!(" Hint: {hint}.")).unwrap_or_default();
                ApiError::invalid(Some("invalid_adapter"), format!("Invalid '{input}': {error}.{hint}"))
                    .at(input)
            }
            engine::Error::QueueFull { in_flight } => {
                let message = format!(
                    "The server is busy: {in_flight} requests run or wait. Please try again in {retry_after} s."
                );
                let mut error = ApiError::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "requests",
                    Some("rate_limit_exceeded"),
                    message,
                );
                error.retry_after = Some(retry_after);
                error
            }
            engine::Error::Stopped => ApiError::stopping(),
            _ => ApiError::internal(format!("The model failed: {error}.")),
        }
    }

    /// 401: no key, or one that is not known.
    pub(crate) fn wrong_key() -> Self {
        let message = "Incorrect API key provided, or none. Send it as 'Authorization: Bearer KEY'.";
        ApiError::new(StatusCode::UNAUTHORIZED, "invalid_request_error", Some("invalid_api_key"), message)
    }

    /// 503: the model is being read.
    pub(crate) fn loading() -> Self {
        let message = "The model is being loaded. Please try again in a few seconds.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut error = ApiError::new(status, "server_error", Some("model_loading"), message);
        error.retry_after = Some(2);
        error
    }

    /// 503: the engine's thread has ended, which only a new start can mend.
    pub(crate) fn engine_down() -> Self {
        let message = "The engine has stopped working.";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("engine_down"), message)
    }

    /// 503: the server is going away.
    pub(crate) fn stopping() -> Self {
        let message = "The server is shutting down.";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", Some("shutting_down"), message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let name = ErrorName(self.name());
        let json = HeaderValue::from_static("application/json");
        let mut response = (self.status, [(header::CONTENT_TYPE, json)], self.json()).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(name);
        response
    }
}

/// [`ApiError::name`], as an extension of the response.
#[derive(Clone, Copy)]
pub(crate) struct ErrorName(pub(crate) &'static str);
