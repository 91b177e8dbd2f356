//! Reads parameters out of a JSON object by name, so that a wrong type or value is refused with the path of its
//! parameter. `null` is the same as absent, unknown parameters are left alone: both as OpenAI's server has it.

use serde_json::{Map, Value};

use crate::api_error::ApiError;

/// An object of a request's body.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Where it lies in the body: empty, or such as `messages[0]`.
    path: String,
}

impl<'a> Fields<'a> {
    /// The whole body.
    pub(crate) fn of_body(body: &'a Value) -> Result<Self, ApiError> {
        match body {
            Value::Object(object) => Ok(Fields { object, path: String::new() }),
            other => {
                let message =
                    format!("The body of the request must be a JSON object, but is {}.", kind(other));
                Err(ApiError::invalid(Some("invalid_type"), message))
            }
        }
    }

    /// An object that lies at `path`.
    pub(crate) fn of_value(value: &'a Value, path: String) -> Result<Self, ApiError> {
        match value {
            Value::Object(object) => Ok(Fields { object, path }),
            other => Err(wrong_type(&path, "an object", other)),
        }
    }

    /// The full name of a parameter of this object.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'a Value, ApiError> {
        self.value(name).ok_or_else(|| self.missing(name))
    }

    pub(crate) fn missing(&self, name: &str) -> ApiError {
        let path = self.path(name);
        let message = format!("Missing required parameter: '{path}'.");
        ApiError::invalid(Some("missing_required_parameter"), message).at(path)
    }

    pub(crate) fn number(&self, name: &str, least: f64, most: f64) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let path = self.path(name);
        let number = value.as_f64().ok_or_else(|| wrong_type(&path, "a number", value))?;
        check_range(&path, "decimal", number, least, most)?;
        Ok(Some(number))
    }

    pub(crate) fn integer(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let path = self.path(name);
        let integer = match value {
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(integer), _) => integer,
                // Beyond an i64, and so beyond any bound that is used here.
                (None, Some(_)) => i64::MAX,
                // 5.0 is an integer to JSON Schema, and so to clients that check theirs.
                (None, None) => match number.as_f64().filter(|number| number.fract() == 0.0) {
                    Some(whole) => whole as i64,
                    None => return Err(wrong_type(&path, "an integer", value)),
                },
            },
            other => return Err(wrong_type(&path, "an integer", other)),
        };
        check_range(&path, "integer", integer, least, most)?;
        Ok(Some(integer))
    }

    /// An integer that counts something, from `least` to `most`.
    pub(crate) fn count(&self, name: &str, least: usize, most: usize) -> Result<Option<usize>, ApiError> {
        let bound = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        // Within the bounds, so not negative.
        Ok(self.integer(name, bound(least), bound(most))?.map(|count| count as usize))
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(wrong_type(&self.path(name), "a boolean", other)),
        }
    }

    pub(crate) fn string(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.path(name), "a string", other)),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ApiError> {
        self.value(name).map(|value| Fields::of_value(value, self.path(name))).transpose()
    }

    /// Names and values of this object.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.object.iter()
    }

    /// A string, or a list of at most `most` strings.
    pub(crate) fn strings(&self, name: &str, most: usize) -> Result<Vec<String>, ApiError> {
        let path = self.path(name);
        match self.value(name) {
            None => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![one.clone()]),
            Some(Value::Array(list)) if list.len() > most => {
                let message = format!(
                    "Invalid '{path}': array too long. Expected at most {most} items, but got {}.",
                    list.len()
                );
                Err(ApiError::invalid(Some("array_above_max_length"), message).at(path))
            }
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(index, value)| match value {
                    Value::String(text) => Ok(text.clone()),
                    other => Err(wrong_type(&format!("{path}[{index}]"), "a string", other)),
                })
                .collect(),
            Some(other) => Err(wrong_type(&path, "a string or an array of strings", other)),
        }
    }
}

/// 400: this is not of the expected kind.
pub(crate) fn wrong_type(path: &str, expected: &str, value: &Value) -> ApiError {
    let message = format!("Invalid type for '{path}': expected {expected}, but got {} instead.", kind(value));
    ApiError::invalid(Some("invalid_type"), message).at(path)
}

/// 400: this text is none of those that are known.
pub(crate) fn wrong_value(path: &str, value: &str, supported: &[&str]) -> ApiError {
    let quoted: Vec<String> = supported.iter().map(|value| format!("'{value}'")).collect();
    let shown: String = value.chars().take(60).collect();
    let message = format!("Invalid value: '{shown}'. Supported values are: {}.", quoted.join(", "));
    ApiError::invalid(Some("invalid_value"), message).at(path)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn check_range<T: PartialOrd + std::fmt::Display>(
    path: &str,
    noun: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ApiError> {
    let (code, side, sign, bound) = match noun {
        "integer" if value < least => ("integer_below_min_value", "below minimum", ">=", least),
        "integer" if value > most => ("integer_above_max_value", "above maximum", "<=", most),
        _ if value < least => ("decimal_below_min_value", "below minimum", ">=", least),
        _ if value > most => ("decimal_above_max_value", "above maximum", "<=", most),
        _ => return Ok(()),
    };
    let message = format!(
        "Invalid '{path}': {noun} {side} value. Expected a value {sign} {bound}, but got {value} instead."
    );
    Err(ApiError::invalid(Some(code), message).at(path))
}
