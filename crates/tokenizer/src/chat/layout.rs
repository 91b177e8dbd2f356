//! How Llama 3.1 and later lay out a conversation with tools: the text that the chat template in Meta's Hugging Face
//! folders gives, token for token. Where that template refuses (several calls in one message, tools without a user), the
//! nearest thing is written instead.

use serde_json::Value;

use super::{Message, Role, push_header, push_message, python, python_tag};
use crate::specials::{END_OF_MESSAGE, PYTHON_TAG};
use crate::tokenizer::Tokenizer;
use crate::unicode::is_python_space;

/// The day that Llama 3.1's template tells where none is given.
const TEMPLATE_DATE: &str = "26 Jul 2024";
const IN_USER: &str = "Given the following functions, please respond with a JSON for a function call with its proper \
                       arguments that best answers the given prompt.\n\n";
const IN_SYSTEM: &str = "You have access to the following functions. To call a function, please respond with JSON for a \
                         function call.";
const ANSWER_FORM: &str = "Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and \
                           its value}.Do not use variables.\n\n";

/// How a model was taught to read conversations; its chat template says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Llama 3 of April 2024, and models that were trained here: the messages, nothing else.
    #[default]
    Llama3,
    /// Llama 3.1 and 3.3: there is always a system message, and it begins with two dates.
    Llama31,
    /// Llama 3.2: as 3.1, and the second date is today's unless it is given.
    Llama32,
}

impl Layout {
    /// The layout behind a chat template in Jinja, as `tokenizer_config.json`, `chat_template.jinja` and GGUF files hold it.
    pub fn of_template(template: &str) -> Self {
        match (template.contains("Cutting Knowledge Date"), template.contains("strftime_now")) {
            (true, true) => Layout::Llama32,
            (true, false) => Layout::Llama31,
            (false, _) => Layout::Llama3,
        }
    }
}

/// What a model is told before the conversation: its tools and the day. The fields are the variables of Meta's template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preamble {
    /// Definitions of tools as OpenAI has them, `{"type": "function", "function": {…}}`; shown as they are.
    pub tools: Vec<Value>,
    /// Tools that the model knows by itself: `brave_search`, `wolfram_alpha`, `code_interpreter`.
    pub builtin_tools: Option<Vec<String>>,
    /// Show the tools in the system message, not in the first of the user.
    pub tools_in_system: bool,
    /// The present day, such as `26 Jul 2024`.
    pub date: Option<String>,
}

/// The tokens that ask for an answer, as [`super::prompt`], in the tokenizer's layout. A preamble that says anything is
/// written as Llama 3.1 has it, whatever the layout: there is no other way that models know.
pub fn prompt_with(tokenizer: &Tokenizer, messages: &[Message], preamble: &Preamble) -> Vec<u32> {
    let layout = tokenizer.layout();
    if layout == Layout::Llama3 && *preamble == Preamble::default() {
        return super::prompt(tokenizer, messages);
    }
    let mut tokens = vec![tokenizer.bos()];
    let (system, mut messages) = match messages.split_first() {
        Some((first, rest)) if first.role == Role::System => (first.content.as_str(), rest),
        _ => ("", messages),
    };
    let user = messages.first().filter(|message| message.role == Role::User);
    let in_user = user.filter(|_| !preamble.tools.is_empty() && !preamble.tools_in_system);

    let system = system_text(system, layout, preamble, in_user.is_none());
    push_text(tokenizer, Role::System, &system, tokenizer.eot(), &mut tokens);
    if let Some(user) = in_user {
        let question = user.content.trim_matches(is_python_space);
        let text = format!("{IN_USER}{ANSWER_FORM}{}{question}", definitions(&preamble.tools));
        push_text(tokenizer, Role::User, &text, tokenizer.eot(), &mut tokens);
        messages = &messages[1..];
    }
    for message in messages {
        push(tokenizer, message, preamble, &mut tokens);
    }
    push_header(tokenizer, Role::Assistant, &mut tokens);
    tokens
}

fn system_text(system: &str, layout: Layout, preamble: &Preamble, with_tools: bool) -> String {
    let mut text = String::new();
    if preamble.builtin_tools.is_some() || !preamble.tools.is_empty() {
        text += "Environment: ipython\n";
    }
    if let Some(builtin) = &preamble.builtin_tools {
        // Python needs no announcement: the environment is one.
        let named: Vec<&str> =
            builtin.iter().map(String::as_str).filter(|name| *name != CODE_INTERPRETER).collect();
        text += &format!("Tools: {}\n\n", named.join(", "));
    }
    let date = match (&preamble.date, layout) {
        (Some(date), _) => date.clone(),
        (None, Layout::Llama32) => today(),
        (None, _) => TEMPLATE_DATE.to_owned(),
    };
    text += &format!("Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n");
    if with_tools && !preamble.tools.is_empty() {
        text += &format!("{IN_SYSTEM}{ANSWER_FORM}{}", definitions(&preamble.tools));
    }
    text + system.trim_matches(is_python_space)
}

/// The built-in tool whose call is a program.
pub(super) const CODE_INTERPRETER: &str = "code_interpreter";

fn definitions(tools: &[Value]) -> String {
    tools.iter().map(|tool| python::dumps_indented(tool) + "\n\n").collect()
}

/// `%d %b %Y` of this moment in UTC.
fn today() -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let now = ledger::clock::now();
    let month = now[5..7].parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    format!("{} {} {}", &now[8..10], month.unwrap_or(&""), &now[..4])
}

fn push(tokenizer: &Tokenizer, message: &Message, preamble: &Preamble, tokens: &mut Vec<u32>) {
    match (message.role, message.tool_calls.as_slice()) {
        (Role::Assistant, calls @ [first, ..]) => {
            // "More is to come": the tool's answer.
            let end = preamble.builtin_tools.as_ref().and_then(|_| tokenizer.special(END_OF_MESSAGE));
            let end = end.unwrap_or(tokenizer.eot());
            let builtin = preamble.builtin_tools.as_ref().is_some_and(|names| names.contains(&first.name));
            if let ([call], true, Value::Object(arguments)) = (calls, builtin, &first.arguments) {
                let argument = |(name, value): (&String, &Value)| {
                    let value = value.as_str().map_or_else(|| python::dumps(value), str::to_owned);
                    format!("{name}=\"{value}\"")
                };
                let arguments: Vec<String> = arguments.iter().map(argument).collect();
                push_header(tokenizer, Role::Assistant, tokens);
                match python_tag(tokenizer) {
                    Some(tag) => tokens.push(tag),
                    None => tokenizer.encode_into(PYTHON_TAG, tokens),
                }
                tokenizer.encode_into(&format!("{}.call({})", call.name, arguments.join(", ")), tokens);
                tokens.push(end);
            } else {
                push_text(tokenizer, Role::Assistant, &message.body(), end, tokens);
            }
        }
        (Role::Tool, _) => {
            // A text is something that can be gone through, and such things the template writes as JSON.
            let content = python::dumps(&Value::String(message.content.clone()));
            push_text(tokenizer, Role::Tool, &content, tokenizer.eot(), tokens);
        }
        _ => {
            push_message(tokenizer, message, tokens);
        }
    }
}

fn push_text(tokenizer: &Tokenizer, role: Role, text: &str, end: u32, tokens: &mut Vec<u32>) {
    push_header(tokenizer, role, tokens);
    tokenizer.encode_into(text, tokens);
    tokens.push(end);
}
