//! Lists of Python calls, `[get_weather(city="Rome"), add(a=1, b=2)]`, as Llama 3.2's smaller models write them: read into JSON,
//! nothing of them executed. Arguments are named, and their values are Python's literals.

use serde_json::{Map, Number, Value};

/// Longer lists are text: each is read anew whenever more of it has come.
const MAX_BYTES: usize = 32 << 10;
/// Lists within lists.
const MAX_DEPTH: usize = 32;

/// The tool, and its arguments.
type Call = (String, Map<String, Value>);

/// What a text begins with.
#[derive(Debug, PartialEq)]
pub(super) enum Start {
    /// Calls, each with its name and its arguments, and the bytes that they take.
    Calls(Vec<Call>, usize),
    /// What may become calls.
    Unfinished,
    /// Something else.
    Other,
}

/// Reads `text`, which begins with `[`; the calls are of these tools.
pub(super) fn read(text: &str, tools: &[String]) -> Start {
    if text.len() > MAX_BYTES {
        return Start::Other;
    }
    let mut reader = Reader { text, at: 0, tools };
    match reader.calls() {
        Ok(calls) => Start::Calls(calls, reader.at),
        Err(Stop::Unfinished) => Start::Unfinished,
        Err(Stop::Other) => Start::Other,
    }
}

enum Stop {
    /// The text ended.
    Unfinished,
    /// No continuation makes it a list of calls.
    Other,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    tools: &'a [String],
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The next character that is no white space; it is not taken.
    fn peek(&mut self) -> Result<char, Stop> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next().ok_or(Stop::Unfinished)
    }

    /// Takes the next character if it is this one.
    fn takes(&mut self, wanted: char) -> Result<bool, Stop> {
        let found = self.peek()? == wanted;
        self.at += if found { wanted.len_utf8() } else { 0 };
        Ok(found)
    }

    fn expect(&mut self, wanted: char) -> Result<(), Stop> {
        if self.takes(wanted)? { Ok(()) } else { Err(Stop::Other) }
    }

    /// Items between what was taken and `close`, with commas between them and perhaps behind the last.
    fn items(
        &mut self,
        close: char,
        mut item: impl FnMut(&mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        while !self.takes(close)? {
            item(self)?;
            if !self.takes(',')? {
                return self.expect(close);
            }
        }
        Ok(())
    }

    fn calls(&mut self) -> Result<Vec<Call>, Stop> {
        self.expect('[')?;
        let mut calls = Vec::new();
        self.items(']', |reader| {
            calls.push(reader.call()?);
            Ok(())
        })?;
        if calls.is_empty() { Err(Stop::Other) } else { Ok(calls) }
    }

    fn call(&mut self) -> Result<Call, Stop> {
        self.peek()?;
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let name = self.word(is_name);
        if self.rest().is_empty() {
            let hopeful = self.tools.iter().any(|tool| tool.starts_with(name));
            return Err(if hopeful { Stop::Unfinished } else { Stop::Other });
        }
        if !self.tools.iter().any(|tool| tool == name) {
            return Err(Stop::Other);
        }
        self.expect('(')?;
        let mut arguments = Map::new();
        self.items(')', |reader| {
            reader.peek()?;
            let key = reader.word(|c| c.is_alphanumeric() || c == '_');
            if key.is_empty() {
                return Err(Stop::Other);
            }
            reader.expect('=')?;
            let value = reader.value(0)?;
            // Python refuses a name that comes twice.
            if arguments.insert(key.to_owned(), value).is_some() { Err(Stop::Other) } else { Ok(()) }
        })?;
        Ok((name.to_owned(), arguments))
    }

    fn word(&mut self, is_part: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let word = &rest[..rest.find(|c: char| !is_part(c)).unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        if depth == MAX_DEPTH {
            return Err(Stop::Other);
        }
        match self.peek()? {
            quote @ ('"' | '\'') => self.string(quote).map(Value::String),
            open @ ('[' | '(') => {
                self.at += 1;
                let mut values = Vec::new();
                self.items(if open == '[' { ']' } else { ')' }, |reader| {
                    values.push(reader.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Array(values))
            }
            '{' => {
                self.at += 1;
                let mut members = Map::new();
                self.items('}', |reader| {
                    let quote = reader.peek()?;
                    if !matches!(quote, '"' | '\'') {
                        return Err(Stop::Other);
                    }
                    let key = reader.string(quote)?;
                    reader.expect(':')?;
                    members.insert(key, reader.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Object(members))
            }
            _ => self.plain(),
        }
    }

    /// A number, or one of Python's constants; JSON's words for these are taken too.
    fn plain(&mut self) -> Result<Value, Stop> {
        let word = self.word(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-'));
        if self.rest().is_empty() {
            return Err(Stop::Unfinished);
        }
        match word {
            "True" | "true" => return Ok(true.into()),
            "False" | "false" => return Ok(false.into()),
            "None" | "null" => return Ok(Value::Null),
            _ => {}
        }
        let digits = word.replace('_', "");
        // What Rust reads besides numbers are the words for those that are none, and JSON has no place for them.
        if !digits.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(Stop::Other);
        }
        if let Ok(whole) = digits.parse::<i64>() {
            return Ok(whole.into());
        }
        let number = digits.parse::<f64>().ok().and_then(Number::from_f64);
        number.map(Value::Number).ok_or(Stop::Other)
    }

    fn string(&mut self, quote: char) -> Result<String, Stop> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let c = self.next()?;
            match c {
                _ if c == quote => return Ok(text),
                '\n' => return Err(Stop::Other),
                '\\' => self.escape(&mut text)?,
                _ => text.push(c),
            }
        }
    }

    fn next(&mut self) -> Result<char, Stop> {
        let c = self.rest().chars().next().ok_or(Stop::Unfinished)?;
        self.at += c.len_utf8();
        Ok(c)
    }

    fn escape(&mut self, text: &mut String) -> Result<(), Stop> {
        let c = self.next()?;
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => {
                let known = match c {
                    'n' => "\n",
                    't' => "\t",
                    'r' => "\r",
                    '\\' => "\\",
                    '\'' => "'",
                    '"' => "\"",
                    '\n' => "",
                    // A backslash that means nothing stays, as in Python.
                    _ => {
                        text.extend(['\\', c]);
                        return Ok(());
                    }
                };
                text.push_str(known);
                return Ok(());
            }
        };
        let mut code = 0;
        for _ in 0..digits {
            code = 16 * code + self.next()?.to_digit(16).ok_or(Stop::Other)?;
        }
        text.push(char::from_u32(code).ok_or(Stop::Other)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<String> {
        ["get_weather", "add"].map(str::to_owned).to_vec()
    }

    #[test]
    fn literals_are_pythons() {
        // Reference: ast.literal_eval of CPython 3.11, then json.dumps.
        for (literal, value) in [
            (r#""a\"b\n\t\\ \x41 \u00e9 \U0001F600 \d""#, json!("a\"b\n\t\\ A é 😀 \\d")),
            (r"'it\'s \'x\''", json!("it's 'x'")),
            ("[1, -2, 3.5, 1e3, 1_000, .5, +7]", json!([1, -2, 3.5, 1e3, 1000, 0.5, 7])),
            ("(True, False, None,)", json!([true, false, null])),
            ("{'a': {\"b\": [ ]}, 'c': ()}", json!({ "a": { "b": [] }, "c": [] })),
            ("123456789012345678901234567890", json!(1.2345678901234568e29)),
        ] {
            let text = format!("[add(x = {literal})]");
            let wanted = Map::from_iter([("x".to_owned(), value)]);
            assert_eq!(
                read(&text, &tools()),
                Start::Calls(vec![("add".into(), wanted)], text.len()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_list_of_calls_is_told_as_soon_as_it_is_seen() {
        for (text, unfinished) in [
            ("[", true),
            ("[ ad", true),
            ("[add", true),
            ("[add(", true),
            ("[add(a=1", true),
            ("[add(a=\"]", true),
            ("[add(a=1), ", true),
            ("[]", false),
            ("[1, 2]", false),
            ("[x", false),
            ("[adder(", false),
            ("[add(1)", false),
            ("[add(a=1, a=2)", false),
            ("[add(a=b)", false),
            ("[add(a=inf)", false),
            ("[add(a=\"x\ny", false),
            ("[add(a={1: 2}", false),
            ("[add(a='\\ud800'", false),
            ("[add](link", false),
        ] {
            let wanted = if unfinished { Start::Unfinished } else { Start::Other };
            assert_eq!(read(text, &tools()), wanted, "{text}");
        }
        assert_eq!(read(&format!("[add(a={}", "[".repeat(100_000)), &tools()), Start::Other);
        assert_eq!(read(&format!("[add(a={}", "[".repeat(MAX_DEPTH + 1)), &tools()), Start::Other);
    }
}
