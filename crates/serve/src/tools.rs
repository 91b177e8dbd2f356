//! Tools on the wire: their definitions and the client's choice among them in a request, what keeps the answer to both,
//! and the calls that an answer makes. How a Llama writes calls is the tokenizer's to know.

use engine::{Constraint, Engine, Token};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokenizer::Tokenizer;
use tokenizer::chat::{CallParser, Piece, Preamble, ToolCall};

use crate::api_error::ApiError;
use crate::fields::{Fields, wrong_type, wrong_value};
use crate::http::unique_id;
use crate::parameters::Wanted;

/// As many as OpenAI takes.
const MAX_TOOLS: usize = 128;
/// As OpenAI's names of functions.
const MAX_NAME: usize = 64;
/// Most calls that a constrained answer can make: random and confused models end, too.
const MAX_CALLS: usize = 16;

/// What a request says of tools.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    functions: Vec<Function>,
    choice: Choice,
    parallel: bool,
    builtin: Option<Vec<String>>,
    in_system: bool,
    date: Option<String>,
}

#[derive(Debug, Clone)]
struct Function {
    name: String,
    /// The definition as the client sent it, which is what the model is shown.
    definition: Value,
    /// The schema of its arguments.
    parameters: Value,
    strict: Strict,
    /// Where the schema lies in the request.
    path: String,
}

/// Whether the arguments are kept to the schema.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Strict {
    No,
    /// Where that can be done; the Responses API does so unless it is told otherwise.
    IfPossible,
    Yes,
}

/// How an endpoint writes tools down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// `{"type": "function", "function": {"name": …}}`, as chat completions have it.
    Nested,
    /// `{"type": "function", "name": …}`, as the Responses API has it.
    Flat,
}

#[derive(Debug, Clone, PartialEq)]
enum Choice {
    None,
    Auto,
    Required,
    Named(String),
}

impl Tools {
    pub(crate) fn read(fields: &Fields, form: Form) -> Result<Self, ApiError> {
        let functions = functions(fields, form)?;
        let choice = choice(fields, &functions, form)?;
        let parallel = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
        // vLLM's way to the variables of a chat template.
        let (mut builtin, mut in_system, mut date) = (None, false, None);
        if let Some(variables) = fields.object("chat_template_kwargs")? {
            builtin = variables
                .value("builtin_tools")
                .map(|_| variables.strings("builtin_tools", MAX_TOOLS))
                .transpose()?;
            in_system = !variables.boolean("tools_in_user_message")?.unwrap_or(true);
            date = variables.string("date_string")?.map(str::to_owned);
        }
        Ok(Tools { functions, choice, parallel, builtin, in_system, date })
    }

    /// Whether an answer may call any.
    pub(crate) fn any(&self) -> bool {
        self.offered().next().is_some() || self.builtin.as_ref().is_some_and(|names| !names.is_empty())
    }

    pub(crate) fn parallel(&self) -> bool {
        self.parallel
    }

    /// What the model is told of them. Tools that must not be called are not shown.
    pub(crate) fn preamble(&self) -> Preamble {
        Preamble {
            tools: self.offered().map(|function| function.definition.clone()).collect(),
            builtin_tools: self.builtin.clone(),
            tools_in_system: self.in_system,
            date: self.date.clone(),
        }
    }

    fn offered(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(|_| self.choice != Choice::None)
    }

    /// What the answer must be, given what else the request wants of it: calls, or text or `wanted` as long as it is free
    /// to choose. Compiles schemas, so it is not for a thread of the runtime.
    ///
    /// # Errors
    /// A schema of a strict tool that cannot be kept to; one that is not strict is then let go.
    pub(crate) fn constraint(
        &self,
        engine: &Engine,
        wanted: Option<Wanted>,
    ) -> Result<Option<Wanted>, ApiError> {
        let must_call = matches!(self.choice, Choice::Required | Choice::Named(_));
        let strict = self.offered().any(|function| function.strict != Strict::No);
        if self.offered().next().is_none() || !(must_call || strict || wanted.is_some()) {
            return Ok(wanted);
        }
        let text = match (must_call, wanted.map(|wanted| (wanted.constraint, wanted.param))) {
            (true, _) => None,
            // What begins like a call is one; see `CallParser`.
            (false, None) => Some(r"TEXT: /([^{\[\s<](.|\n)*)?/".to_owned()),
            (false, Some((Constraint::JsonObject, _))) => Some(answer(&json!({ "type": "object" }))),
            (false, Some((Constraint::JsonSchema(schema), _))) => Some(answer(&schema)),
            (false, Some((_, param))) => {
                let message = "Expressions and grammars cannot be combined with tools that may be called.";
                return Err(ApiError::unsupported(param, message));
            }
        };
        let grammar = self.grammar(engine, must_call, text)?;
        Ok(Some(Wanted { constraint: Constraint::Lark(grammar), param: "tools".into() }))
    }

    /// Calls of the tools, or what the rule `text` stands for, if there is one.
    fn grammar(&self, engine: &Engine, must_call: bool, text: Option<String>) -> Result<String, ApiError> {
        let mut start = vec!["calls".to_owned()];
        if let Some(rule) = &text {
            start.extend(rule.split(':').next().map(str::to_owned));
            let tag = engine.tokenizer().special_names().iter().find(|name| *name == PYTHON_TAG);
            start.extend(tag.map(|tag| format!("{tag} calls")));
        }
        let several = self.parallel && !matches!(self.choice, Choice::Named(_));
        let more = if several { format!(" (\"; \" call){{0,{}}}", MAX_CALLS - 1) } else { String::new() };
        let callable: Vec<&Function> = self.offered().filter(|function| self.may_call(function)).collect();
        let names: Vec<String> = (0..callable.len()).map(|index| format!("call_{index}")).collect();
        let mut grammar =
            format!("start: {}\ncalls: call{more}\ncall: {}\n", start.join(" | "), names.join(" | "));
        for (index, function) in callable.iter().enumerate() {
            // Each word by itself: the longest word wins, and one that began with more than JSON's own `{` would keep an
            // answer in JSON from being told from a call only later.
            let (name, tool) = (json!("name").to_string(), json!(function.name).to_string());
            let parameters = json!("parameters").to_string();
            let words = ["{", &name, ":", " ", &tool, ",", " ", &parameters, ":", " "];
            let head: Vec<String> = words.iter().map(|word| json!(word).to_string()).collect();
            let schema = Constraint::inline(&self.schema(function, must_call, engine)?);
            grammar +=
                &format!("call_{index}: {} args_{index} \"}}\"\nargs_{index}: {schema}\n", head.join(" "));
        }
        Ok(grammar + text.as_deref().unwrap_or_default())
    }

    fn may_call(&self, function: &Function) -> bool {
        match &self.choice {
            Choice::Named(name) => function.name == *name,
            _ => true,
        }
    }

    /// What the arguments are kept to: the schema, where that is asked for and can be done.
    fn schema(&self, function: &Function, must_call: bool, engine: &Engine) -> Result<Value, ApiError> {
        let any = json!({ "type": "object" });
        if function.strict == Strict::No && !must_call {
            return Ok(any);
        }
        match engine.prepare(&Constraint::JsonSchema(function.parameters.clone())) {
            Ok(()) => Ok(function.parameters.clone()),
            Err(engine::Error::Constraint { reason }) if function.strict == Strict::Yes => {
                let message = format!("Invalid schema for function '{}': {reason}.", function.name);
                Err(ApiError::invalid(Some("invalid_function_parameters"), message).at(&*function.path))
            }
            Err(_) => Ok(any),
        }
    }

    /// Reads one answer; `constrained` says that [`Tools::constraint`] was in force.
    pub(crate) fn reader(&self, tokenizer: &Tokenizer, constrained: bool) -> Reader {
        let names: Vec<String> = self.offered().map(|function| function.name.clone()).collect();
        let builtin = self.builtin.clone().unwrap_or_default();
        let parser = (!names.is_empty() || !builtin.is_empty()).then(|| {
            let parser = CallParser::new(names, builtin);
            if constrained { parser.certain() } else { parser }
        });
        let most = if self.parallel { usize::MAX } else { 1 };
        Reader { parser, tag: tokenizer::chat::python_tag(tokenizer), calls: 0, most }
    }
}

const PYTHON_TAG: &str = "<|python_tag|>";

/// A grammar's rule for an answer of this schema.
fn answer(schema: &Value) -> String {
    format!("answer: {}", Constraint::inline(schema))
}

fn functions(fields: &Fields, form: Form) -> Result<Vec<Function>, ApiError> {
    let list = match fields.value("tools") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() > MAX_TOOLS => {
            let message = format!(
                "Invalid 'tools': array too long. Expected at most {MAX_TOOLS} items, but got {}.",
                list.len()
            );
            return Err(ApiError::invalid(Some("array_above_max_length"), message).at("tools"));
        }
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("tools", "an array of tools", other)),
    };
    let mut functions: Vec<Function> = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let function = function(value, format!("tools[{index}]"), form)?;
        if functions.iter().any(|other| other.name == function.name) {
            let message = format!("Invalid 'tools': the name '{}' is there twice.", function.name);
            return Err(ApiError::invalid(Some("invalid_value"), message).at("tools"));
        }
        functions.push(function);
    }
    Ok(functions)
}

fn function(value: &Value, path: String, form: Form) -> Result<Function, ApiError> {
    let tool = Fields::of_value(value, path)?;
    match tool.string("type")?.ok_or_else(|| tool.missing("type"))? {
        "function" => {}
        other => return Err(wrong_value(&tool.path("type"), other, &["function"])),
    }
    let (function, definition) = match form {
        Form::Nested => (tool.object("function")?.ok_or_else(|| tool.missing("function"))?, value.clone()),
        // Models know the other form.
        Form::Flat => {
            let members = tool.entries().filter(|(name, _)| *name != "type");
            let inner: Map<String, Value> =
                members.map(|(name, value)| (name.clone(), value.clone())).collect();
            (tool, json!({ "type": "function", "function": inner }))
        }
    };
    let name = function.string("name")?.ok_or_else(|| function.missing("name"))?;
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_fine) {
        let path = function.path("name");
        let shown: String = name.chars().take(80).collect();
        let message = format!(
            "Invalid '{path}': '{shown}'. Expected 1 to {MAX_NAME} letters, digits, underscores and hyphens."
        );
        return Err(ApiError::invalid(Some("invalid_value"), message).at(path));
    }
    function.string("description")?;
    let path = function.path("parameters");
    let mut parameters = function
        .value("parameters")
        .cloned()
        .unwrap_or_else(|| json!({ "properties": {}, "additionalProperties": false }));
    match &mut parameters {
        Value::Object(schema) => {
            if schema.get("type").is_some_and(|kind| kind != "object") {
                let message = format!(
                    "Invalid schema for function '{name}': schema must be a JSON Schema of 'type: \"object\"', got 'type: {}'.",
                    schema["type"]
                );
                return Err(ApiError::invalid(Some("invalid_function_parameters"), message).at(path));
            }
            schema.insert("type".into(), "object".into());
        }
        other => return Err(wrong_type(&path, "an object", other)),
    }
    let strict = match (function.boolean("strict")?, form) {
        (Some(true), _) => Strict::Yes,
        (None, Form::Flat) => Strict::IfPossible,
        _ => Strict::No,
    };
    Ok(Function { name: name.to_owned(), definition, parameters, strict, path })
}

fn choice(fields: &Fields, functions: &[Function], form: Form) -> Result<Choice, ApiError> {
    const PATH: &str = "tool_choice";
    let choice = match fields.value(PATH) {
        None => return Ok(Choice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "none" => Choice::None,
            "auto" => Choice::Auto,
            "required" => Choice::Required,
            other => return Err(wrong_value(PATH, other, &["none", "auto", "required"])),
        },
        Some(value @ Value::Object(_)) => {
            let choice = Fields::of_value(value, PATH.into())?;
            match choice.string("type")?.ok_or_else(|| choice.missing("type"))? {
                "function" => {}
                other => return Err(wrong_value("tool_choice.type", other, &["function"])),
            }
            let function = match form {
                Form::Nested => choice.object("function")?.ok_or_else(|| choice.missing("function"))?,
                Form::Flat => choice,
            };
            let name = function.string("name")?.ok_or_else(|| function.missing("name"))?;
            Choice::Named(name.to_owned())
        }
        Some(other) => return Err(wrong_type(PATH, "a string or an object", other)),
    };
    match &choice {
        Choice::Required | Choice::Named(_) if functions.is_empty() => {
            let message =
                "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.";
            Err(ApiError::invalid(None, message).at(PATH))
        }
        Choice::Named(name) if functions.iter().all(|function| function.name != *name) => {
            let shown: String = name.chars().take(80).collect();
            let message = format!("Invalid value for 'tool_choice': no tool is called '{shown}'.");
            Err(ApiError::invalid(Some("invalid_value"), message).at(PATH))
        }
        _ => Ok(choice),
    }
}

/// The calls of an assistant's message in the conversation so far.
pub(crate) fn past_calls(fields: &Fields) -> Result<Vec<ToolCall>, ApiError> {
    let path = fields.path("tool_calls");
    let list = match fields.value("tool_calls") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type(&path, "an array of calls", other)),
    };
    let call = |(index, value): (usize, &Value)| {
        let call = Fields::of_value(value, format!("{path}[{index}]"))?;
        match call.string("type")? {
            None | Some("function") => {}
            Some(other) => return Err(wrong_value(&call.path("type"), other, &["function"])),
        }
        call.string("id")?;
        let function = call.object("function")?.ok_or_else(|| call.missing("function"))?;
        let name = function.string("name")?.ok_or_else(|| function.missing("name"))?.to_owned();
        let arguments = function.string("arguments")?.ok_or_else(|| function.missing("arguments"))?;
        Ok(past_call(name, arguments))
    };
    list.iter().enumerate().map(call).collect()
}

/// A call that was made. A model's arguments need not be JSON, and a conversation must be able to go on after such a slip.
pub(crate) fn past_call(name: String, arguments: &str) -> ToolCall {
    let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| Value::String(arguments.into()));
    ToolCall { name, arguments }
}

/// Reads one answer as it comes.
pub(crate) struct Reader {
    /// None where nothing can be called: all is text.
    parser: Option<CallParser>,
    tag: Option<u32>,
    calls: usize,
    /// Most calls that are passed on.
    most: usize,
}

/// A part of an answer as the wire has it.
pub(crate) enum Part {
    Content(String),
    Call(CallPart),
}

/// A call, or more of one: whole in an answer that is not streamed; in pieces, which clients put together by `index`, in
/// one that is.
#[derive(Debug, Serialize)]
pub(crate) struct CallPart {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    /// There where a call begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    pub(crate) function: FunctionPart,
}

#[derive(Debug, Serialize)]
pub(crate) struct FunctionPart {
    /// There where a call begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) arguments: String,
}

impl Reader {
    /// The parts that are known once `token` has come.
    pub(crate) fn token(&mut self, token: &Token) -> Vec<Part> {
        let Some(parser) = &mut self.parser else {
            return if token.text.is_empty() { Vec::new() } else { vec![Part::Content(token.text.clone())] };
        };
        let mut pieces = Vec::new();
        if Some(token.id) == self.tag {
            pieces.extend(parser.push_tag());
        }
        pieces.extend(parser.push(&token.text));
        self.parts(pieces)
    }

    /// The parts that are known once the answer is over.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let pieces = self.parser.as_mut().map(CallParser::finish).unwrap_or_default();
        self.parts(pieces)
    }

    /// Whether a tool was called.
    pub(crate) fn called(&self) -> bool {
        self.calls > 0
    }

    fn parts(&mut self, pieces: Vec<Piece>) -> Vec<Part> {
        let mut parts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece {
                Piece::Content(text) => parts.push(Part::Content(text)),
                Piece::Call { name } => {
                    self.calls += 1;
                    let function = FunctionPart { name: Some(name), arguments: String::new() };
                    let id = Some(format!("call_{}", &unique_id()[..24]));
                    self.part(CallPart { index: None, id, r#type: Some("function"), function }, &mut parts);
                }
                Piece::Arguments(arguments) => {
                    let function = FunctionPart { name: None, arguments };
                    self.part(CallPart { index: None, id: None, r#type: None, function }, &mut parts);
                }
            }
        }
        parts
    }

    /// A client that asked for one call gets no second.
    fn part(&self, mut call: CallPart, parts: &mut Vec<Part>) {
        if self.calls <= self.most {
            call.index = Some(self.calls - 1);
            parts.push(Part::Call(call));
        }
    }
}

/// An answer put together: its text, and its calls.
pub(crate) fn gather(parts: impl IntoIterator<Item = Part>) -> (String, Vec<CallPart>) {
    let (mut content, mut calls) = (String::new(), Vec::<CallPart>::new());
    for part in parts {
        match part {
            Part::Content(text) => content.push_str(&text),
            Part::Call(call) if call.id.is_some() => calls.push(CallPart { index: None, ..call }),
            Part::Call(more) => {
                if let Some(call) = calls.last_mut() {
                    call.function.arguments.push_str(&more.function.arguments);
                }
            }
        }
    }
    (content, calls)
}
