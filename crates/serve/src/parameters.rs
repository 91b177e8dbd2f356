//! The parameters that chat completions and completions share: from JSON to the engine's request.

use engine::{Constraint, Engine, Request, Sampling};
use serde_json::Value;

use crate::api_error::ApiError;
use crate::fields::{Fields, wrong_type, wrong_value};
use crate::http::App;
use crate::models::Named;

/// More stop texts than OpenAI takes (4), few enough to look for at each token.
pub(crate) const MAX_STOPS: usize = 16;
/// Texts to choose from.
const MAX_GUIDED_CHOICES: usize = 1000;
/// As OpenAI's `top_logprobs`.
pub(crate) const MAX_LOGPROBS: usize = 20;

/// What both endpoints understand.
pub(crate) struct Parameters {
    /// What was asked for, as answers show it.
    pub(crate) model: String,
    /// Everything but the prompts, the limit and the log-probabilities.
    pub(crate) template: Request,
    pub(crate) choices: usize,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
}

impl Parameters {
    pub(crate) fn read(fields: &Fields, app: &App) -> Result<Self, ApiError> {
        let (info, vocab_size) = (&app.info, app.engine.tokenizer().vocab_size());
        let Named { model, adapter } = Named::read(fields, app)?;
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
        let template = Request { sampling, stop, adapter, ..Request::default() };
        Ok(Parameters { model, template, choices, stream, include_usage })
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

fn top_k(fields: &Fields) -> Result<Option<usize>, ApiError> {
    // Other servers read -1 and 0 as "all".
    let top_k = fields.integer("top_k", -1, i64::MAX)?;
    Ok(top_k.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0))
}

fn logit_bias(fields: &Fields, vocab_size: usize) -> Result<std::collections::BTreeMap<u32, f32>, ApiError> {
    let Some(object) = fields.object("logit_bias")? else { return Ok(Default::default()) };
    let entry = |(name, _): (&String, &Value)| {
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
    match fields.value(name) {
        None | Some(Value::Bool(false)) => Ok(()),
        Some(Value::Array(list)) if list.is_empty() => Ok(()),
        Some(Value::String(text)) if harmless.contains(&text.as_str()) => Ok(()),
        Some(_) => Err(ApiError::unsupported(fields.path(name), why)),
    }
}

/// What the answer must be, and the parameter that says so.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) constraint: Constraint,
    pub(crate) param: String,
}

impl Wanted {
    fn new(constraint: Constraint, param: impl Into<String>) -> Self {
        Wanted { constraint, param: param.into() }
    }

    /// OpenAI's `response_format`, or one of the parameters of the same meaning that vLLM has; at most one of them.
    pub(crate) fn read(fields: &Fields) -> Result<Option<Self>, ApiError> {
        let mut all: Vec<Wanted> = response_format(fields)?.into_iter().collect();
        let older = ["guided_json", "guided_regex", "guided_grammar", "guided_choice"];
        all.extend(structured(fields, older, None)?);
        if let Some(structured_outputs) = fields.object("structured_outputs")? {
            let newer = ["json", "regex", "grammar", "choice"];
            all.extend(structured(&structured_outputs, newer, Some("json_object"))?);
        }
        match all.as_slice() {
            [_, second, ..] => {
                let message = format!(
                    "Only one of the parameters that constrain the answer may be given, not '{}' and '{}'.",
                    all[0].param, second.param
                );
                Err(ApiError::invalid(None, message).at(&*second.param))
            }
            _ => Ok(all.pop()),
        }
    }

    /// Compiles it, so that submitting does not; not for a thread of the runtime.
    pub(crate) fn prepare(self, engine: &Engine) -> Result<Constraint, ApiError> {
        match engine.prepare(&self.constraint) {
            Ok(()) => Ok(self.constraint),
            Err(engine::Error::Constraint { reason }) => {
                let message = format!("Invalid schema for {}: {reason}.", self.param);
                Err(ApiError::invalid(None, message).at(self.param))
            }
            Err(error) => Err(ApiError::from_engine(error, &self.param, 0)),
        }
    }
}

fn response_format(fields: &Fields) -> Result<Option<Wanted>, ApiError> {
    const NAME: &str = "response_format";
    let Some(format) = fields.object(NAME)? else { return Ok(None) };
    match format.string("type")?.ok_or_else(|| format.missing("type"))? {
        "text" => Ok(None),
        "json_object" => Ok(Some(Wanted::new(Constraint::JsonObject, NAME))),
        "json_schema" => {
            let described = format.object("json_schema")?.ok_or_else(|| format.missing("json_schema"))?;
            // Strict or not, the answer is kept to the schema: nothing is gained by less.
            described.boolean("strict")?;
            let schema = described.required("schema")?;
            Ok(Some(Wanted::new(Constraint::JsonSchema(schema.clone()), NAME)))
        }
        other => Err(wrong_value("response_format.type", other, &["text", "json_object", "json_schema"])),
    }
}

/// The parameters of vLLM, under the names `json`, `regex`, `grammar` and `choice` have here; and `object`, a boolean.
fn structured(
    fields: &Fields,
    [json, regex, grammar, choice]: [&str; 4],
    object: Option<&str>,
) -> Result<Vec<Wanted>, ApiError> {
    let mut wanted = Vec::new();
    let mut add = |constraint, name: &str| wanted.push(Wanted::new(constraint, fields.path(name)));
    match fields.value(json) {
        None => {}
        Some(Value::String(text)) => {
            let schema = serde_json::from_str(text).map_err(|error| {
                let message = format!("Invalid '{}': it is not JSON: {error}.", fields.path(json));
                ApiError::invalid(Some("invalid_value"), message).at(fields.path(json))
            })?;
            add(Constraint::JsonSchema(schema), json);
        }
        Some(schema) => add(Constraint::JsonSchema(schema.clone()), json),
    }
    if let Some(expression) = fields.string(regex)? {
        add(Constraint::Regex(expression.to_owned()), regex);
    }
    if let Some(text) = fields.string(grammar)? {
        add(Constraint::Lark(text.to_owned()), grammar);
    }
    if fields.value(choice).is_some() {
        let choices = fields.strings(choice, MAX_GUIDED_CHOICES)?;
        // Texts in a grammar are written as in JSON.
        let quoted: Vec<String> = choices.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
        add(Constraint::Lark(format!("start: {}", quoted.join(" | "))), choice);
    }
    if let Some(object) = object
        && fields.boolean(object)?.unwrap_or(false)
    {
        add(Constraint::JsonObject, object);
    }
    Ok(wanted)
}

/// Token numbers: a list of integers in `0..vocab_size`.
pub(crate) fn tokens(list: &[Value], path: &str, vocab_size: usize) -> Result<Vec<u32>, ApiError> {
    // 5.0 is an integer to JSON Schema.
    let whole = |value: &Value| value.as_f64().filter(|value| *value >= 0.0 && value.fract() == 0.0);
    let number = |value: &Value| value.as_u64().or_else(|| whole(value).map(|value| value as u64));
    let token = |(index, value): (usize, &Value)| match number(value) {
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
