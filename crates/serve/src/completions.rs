//! `POST /v1/completions`: text in, its continuation out, without any chat format.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use engine::{Completion, FinishReason, Token};
use serde::{Serialize, Serializer};
use serde_json::Value;
use tokenizer::{Allowed, Tokenizer};

use crate::answers::{Answers, Chunks, WireUsage, event, finish_reason};
use crate::api_error::ApiError;
use crate::fields::{Fields, wrong_type};
use crate::http::{App, Stamp, off_runtime};
use crate::parameters::{MAX_LOGPROBS, Parameters, Wanted, refuse, tokens};

/// OpenAI's default for this endpoint.
const DEFAULT_MAX_TOKENS: usize = 16;

/// Answers one request; `body` is its parsed JSON.
pub(crate) async fn complete(app: Arc<App>, body: Value) -> Result<Response, ApiError> {
    let fields = Fields::of_body(&body)?;
    refuse(&fields, "suffix", &[""], "This model continues text; it does not insert.")?;
    let wanted = Wanted::read(&fields)?;
    let tokenizer = app.engine.tokenizer();
    let mut parameters = Parameters::read(&fields, &app)?;
    let shown = parameters.choices;
    parameters.choices = candidates(&fields, &parameters, app.info.settings.max_choices)?;
    parameters.template.logprobs = fields.count("logprobs", 0, MAX_LOGPROBS)?;
    let with_logprobs = parameters.template.logprobs.is_some();
    let echo = fields.boolean("echo")?.unwrap_or(false);
    if echo {
        parameters.template.prompt_logprobs = parameters.template.logprobs;
    }
    // With nothing to write there is something to answer only where the prompt's own scores are asked for.
    let least = usize::from(parameters.template.prompt_logprobs.is_none());
    if parameters.choices > shown {
        // They are ranked by these.
        parameters.template.logprobs.get_or_insert(0);
    }
    let max_tokens = fields.count("max_tokens", least, usize::MAX)?.unwrap_or(DEFAULT_MAX_TOKENS);
    parameters.template.max_tokens = Some(max_tokens);
    let prompts = prompts(&fields, "prompt", tokenizer)?;
    // Absent: the beginning of a document.
    let prompts = prompts.unwrap_or_else(|| vec![Prompt::of_text(tokenizer, "")]);
    if let Some(wanted) = wanted {
        let engine = app.engine.clone();
        parameters.template.constraint = Some(off_runtime(move || wanted.prepare(&engine)).await?);
    }
    let count = prompts.len() * parameters.choices;
    check_count(
        count,
        app.info.settings.max_choices,
        "answers are asked for (prompts times 'n' or 'best_of')",
        "prompt",
    )?;

    let requests = prompts.iter().flat_map(|prompt| parameters.requests(&prompt.tokens)).collect();
    let answers = Answers::submit(&app, requests, parameters.choices, "prompt")?;
    let echo_of = |prompt: Prompt| {
        let text = if echo { prompt.text } else { String::new() };
        std::iter::repeat_n(Echo { text, unsaid: prompt.unsaid }, shown)
    };
    let echoes: Vec<Echo> = prompts.into_iter().flat_map(echo_of).collect();
    let stamp = Stamp::new("cmpl-", &parameters.model);
    if parameters.stream {
        let tokenizer = with_logprobs.then(|| tokenizer.clone());
        let offsets = vec![0; echoes.len()];
        let include_usage = parameters.include_usage;
        return Ok(answers.stream(TextChunks { stamp, echoes, offsets, tokenizer, include_usage }));
    }
    let (completions, usage) = answers.gather().await?;
    let completions = best(completions, parameters.choices, shown);
    let choices = completions.into_iter().zip(echoes).enumerate();
    let choices = choices.map(|(index, (mut completion, echo))| Choice {
        index,
        logprobs: with_logprobs.then(|| {
            let mut tokens = echo.tokens(tokenizer, completion.prompt);
            tokens.append(&mut completion.tokens);
            Logprobs::new(tokenizer, &tokens, 0)
        }),
        finish_reason: Some(finish_reason(completion.reason)),
        text: echo.text + &completion.text,
    });
    let choices = choices.collect();
    Ok(Json(TextCompletion { stamp: &stamp, object: "text_completion", choices, usage: Some(Some(usage)) })
        .into_response())
}

/// How many answers to each prompt are written, of which `n` are shown: OpenAI's `best_of`.
fn candidates(fields: &Fields, parameters: &Parameters, most: usize) -> Result<usize, ApiError> {
    const NAME: &str = "best_of";
    let shown = parameters.choices;
    let best_of = fields.count(NAME, 1, most)?.unwrap_or(shown);
    if best_of < shown {
        let message = format!("Invalid 'best_of': {best_of} is less than 'n', which is {shown}.");
        return Err(ApiError::invalid(Some("invalid_value"), message).at(NAME));
    }
    if best_of > shown && parameters.stream {
        let message = "Which answers are the best is known at their end: 'best_of' cannot be streamed.";
        return Err(ApiError::invalid(None, message).at(NAME));
    }
    Ok(best_of)
}

/// Of every `written` answers the `shown` with the highest log-probability a token, the highest first.
fn best(completions: Vec<Completion>, written: usize, shown: usize) -> Vec<Completion> {
    if written == shown {
        return completions;
    }
    // One that ended at once has no token to go by, and comes last.
    let mean = |completion: &Completion| {
        let sum: f64 = completion.tokens.iter().filter_map(|token| token.logprob).map(f64::from).sum();
        if completion.tokens.is_empty() { f64::NEG_INFINITY } else { sum / completion.tokens.len() as f64 }
    };
    let mut completions = completions.into_iter();
    let mut kept = Vec::new();
    loop {
        let mut candidates: Vec<Completion> = completions.by_ref().take(written).collect();
        if candidates.is_empty() {
            return kept;
        }
        // Stable: of equals the first.
        candidates.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        candidates.truncate(shown);
        kept.append(&mut candidates);
    }
}

/// One prompt, as tokens and as text.
pub(crate) struct Prompt {
    pub(crate) tokens: Vec<u32>,
    text: String,
    /// Of its first tokens so many are ours: the text does not have them.
    unsaid: usize,
}

impl Prompt {
    /// Meta's `text_completion`: the text after `<|begin_of_text|>`. What looks like a special token is text, unless the
    /// text itself begins with that token: then whoever wrote it has laid out the whole prompt.
    fn of_text(tokenizer: &Tokenizer, text: &str) -> Self {
        let text = text.to_owned();
        if text.starts_with(&tokenizer.decode(&[tokenizer.bos()])) {
            return Prompt { tokens: laid_out(tokenizer, &text), text, unsaid: 0 };
        }
        let mut tokens = vec![tokenizer.bos()];
        tokenizer.encode_into(&text, &mut tokens);
        Prompt { tokens, text, unsaid: 1 }
    }

    /// Tokens are taken as they are, with no `<|begin_of_text|>` but their own.
    fn of_tokens(tokenizer: &Tokenizer, tokens: Vec<u32>) -> Self {
        Prompt { text: tokenizer.decode(&tokens), tokens, unsaid: 0 }
    }
}

/// The tokens of a text in which the names of special tokens stand for them.
pub(crate) fn laid_out(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    // Where nothing is refused and nothing named, nothing fails.
    tokenizer.encode_with_specials(text, Allowed::all()).unwrap_or_else(|_| tokenizer.encode(text))
}

/// What an answer begins with.
#[derive(Clone)]
struct Echo {
    /// Empty where it was not asked for.
    text: String,
    /// As [`Prompt::unsaid`].
    unsaid: usize,
}

impl Echo {
    /// The tokens of the prompt, if they were scored, as the client knows it: without those that it did not send, and
    /// with special ones by their names.
    fn tokens(&self, tokenizer: &Tokenizer, mut prompt: Vec<Token>) -> Vec<Token> {
        prompt.drain(..self.unsaid.min(prompt.len()));
        for token in prompt.iter_mut().filter(|token| tokenizer.is_special(token.id)) {
            token.text = tokenizer.decode(&[token.id]);
        }
        prompt
    }
}

/// The parameter `name`: a text, a list of texts, a list of tokens or a list of lists of tokens. None where it is absent.
pub(crate) fn prompts(
    fields: &Fields,
    name: &str,
    tokenizer: &Tokenizer,
) -> Result<Option<Vec<Prompt>>, ApiError> {
    const EXPECTED: &str = "a string, an array of strings, an array of tokens, or an array of token arrays";
    let vocab_size = tokenizer.vocab_size();
    let prompts = match fields.value(name) {
        None => return Ok(None),
        Some(Value::String(text)) => vec![Prompt::of_text(tokenizer, text)],
        Some(Value::Array(list)) if list.is_empty() => {
            let message = format!("Invalid '{name}': empty array. Expected at least one item.");
            return Err(ApiError::invalid(Some("empty_array"), message).at(name));
        }
        Some(Value::Array(list)) if list[0].is_number() => {
            vec![Prompt::of_tokens(tokenizer, tokens(list, name, vocab_size)?)]
        }
        Some(Value::Array(list)) => {
            let one = |(index, value): (usize, &Value)| {
                let place = format!("{name}[{index}]");
                match value {
                    Value::String(text) => Ok(Prompt::of_text(tokenizer, text)),
                    Value::Array(list) => Ok(Prompt::of_tokens(tokenizer, tokens(list, &place, vocab_size)?)),
                    other => Err(wrong_type(&place, "a string or an array of tokens", other)),
                }
            };
            list.iter().enumerate().map(one).collect::<Result<_, ApiError>>()?
        }
        Some(other) => return Err(wrong_type(name, EXPECTED, other)),
    };
    Ok(Some(prompts))
}

/// At most as many answers as the server allows to one request.
pub(crate) fn check_count(count: usize, most: usize, what: &str, name: &str) -> Result<(), ApiError> {
    if count <= most {
        return Ok(());
    }
    let message = format!("Invalid '{name}': {count} {what}, and {most} are allowed.");
    Err(ApiError::invalid(Some("array_above_max_length"), message).at(name))
}

#[derive(Serialize)]
struct TextCompletion<'a> {
    #[serde(flatten)]
    stamp: &'a Stamp,
    object: &'static str,
    choices: Vec<Choice>,
    /// In a stream: absent unless asked for; then `null` in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<WireUsage>>,
}

#[derive(Serialize)]
struct Choice {
    text: String,
    index: usize,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

/// Lists of one length, an entry a token.
#[derive(Serialize)]
struct Logprobs {
    tokens: Vec<String>,
    /// The first token of a prompt follows nothing, and has none.
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<TopLogprobs>>,
    /// Characters of the answer before each token.
    text_offset: Vec<usize>,
}

/// Texts and log-probabilities, likeliest first; an object on the wire.
struct TopLogprobs(Vec<(String, f32)>);

impl Serialize for TopLogprobs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Tokens that are different bytes of a character have one text, and an object one value for it: the likeliest.
        let is_first = |index: usize, text: &str| self.0[..index].iter().all(|(other, _)| other != text);
        let entries = self.0.iter().enumerate().filter(|(index, (text, _))| is_first(*index, text));
        serializer.collect_map(entries.map(|(_, (text, logprob))| (text, logprob)))
    }
}

impl Logprobs {
    /// `offset` is the number of characters before the first of `tokens`.
    fn new(tokenizer: &Tokenizer, tokens: &[Token], mut offset: usize) -> Self {
        let finite = |logprob: f32| logprob.max(-9999.0);
        let mut lists = Logprobs {
            tokens: Vec::with_capacity(tokens.len()),
            token_logprobs: Vec::with_capacity(tokens.len()),
            top_logprobs: Vec::with_capacity(tokens.len()),
            text_offset: Vec::with_capacity(tokens.len()),
        };
        for token in tokens {
            lists.tokens.push(tokenizer.decode(&[token.id]));
            lists.token_logprobs.push(token.logprob.map(finite));
            let entry = |alternative: &engine::Alternative| {
                (tokenizer.decode(&[alternative.id]), finite(alternative.logprob))
            };
            let top = TopLogprobs(token.alternatives.iter().map(entry).collect());
            lists.top_logprobs.push(token.logprob.is_some().then_some(top));
            lists.text_offset.push(offset);
            offset += token.text.chars().count();
        }
        lists
    }
}

/// The stream's wording.
struct TextChunks {
    stamp: Stamp,
    /// What each answer begins with.
    echoes: Vec<Echo>,
    /// Characters of each answer so far.
    offsets: Vec<usize>,
    /// There when log-probabilities are wanted.
    tokenizer: Option<Tokenizer>,
    include_usage: bool,
}

impl TextChunks {
    fn chunk(&self, choices: Vec<Choice>, usage: Option<WireUsage>, out: &mut String) {
        let usage = self.include_usage.then_some(usage);
        event(&TextCompletion { stamp: &self.stamp, object: "text_completion", choices, usage }, out);
    }
}

impl Chunks for TextChunks {
    fn begin(&mut self, out: &mut String) {
        if self.tokenizer.is_some() {
            // They come with their scores.
            return;
        }
        for (index, Echo { text, .. }) in std::mem::take(&mut self.echoes).into_iter().enumerate() {
            if !text.is_empty() {
                self.chunk(vec![Choice { text, index, logprobs: None, finish_reason: None }], None, out);
            }
        }
    }

    fn prompt(&mut self, index: usize, tokens: Vec<Token>, out: &mut String) {
        let Some(tokenizer) = &self.tokenizer else { return };
        let tokens = self.echoes[index].tokens(tokenizer, tokens);
        let logprobs = Some(Logprobs::new(tokenizer, &tokens, 0));
        let text = std::mem::take(&mut self.echoes[index].text);
        self.offsets[index] = tokens.iter().map(|token| token.text.chars().count()).sum();
        self.chunk(vec![Choice { text, index, logprobs, finish_reason: None }], None, out);
    }

    fn token(&mut self, index: usize, token: Token, out: &mut String) {
        if token.text.is_empty() && self.tokenizer.is_none() {
            return;
        }
        let offset = self.offsets[index];
        let logprobs = self
            .tokenizer
            .as_ref()
            .map(|tokenizer| Logprobs::new(tokenizer, std::slice::from_ref(&token), offset));
        self.offsets[index] += token.text.chars().count();
        self.chunk(vec![Choice { text: token.text, index, logprobs, finish_reason: None }], None, out);
    }

    fn done(&mut self, index: usize, reason: FinishReason, out: &mut String) {
        let finish_reason = Some(finish_reason(reason));
        self.chunk(vec![Choice { text: String::new(), index, logprobs: None, finish_reason }], None, out);
    }

    fn end(&mut self, usage: WireUsage, out: &mut String) {
        if self.include_usage {
            self.chunk(Vec::new(), Some(usage), out);
        }
    }
}
