//! How errors of the corpus pass through the engine, which keeps of an error only its text, written as programmers see it.

use corpus::Error;
use datafusion::error::DataFusionError;

const BEGIN: &str = "<alti:";
const END: char = '>';

/// What a worker on an executor said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// The executor ends; another one can do it.
    Stopped,
    /// It would fail anywhere else, or again, in the same way.
    Failed {
        /// Who failed, and how.
        reason: String,
        /// The remedy.
        hint: Option<String>,
    },
}

/// Puts an error into one that the engine passes on.
pub fn pack(error: &Error, executor: &str) -> DataFusionError {
    if matches!(error, Error::Stopped) {
        // Of this kind the scheduler knows that another executor may do better.
        let kind = std::io::ErrorKind::Interrupted;
        return DataFusionError::IoError(std::io::Error::new(kind, wrap("stopped")));
    }
    let reason = format!("on executor {executor}: {error}");
    let text = serde_json::json!({ "reason": reason, "hint": error.hint() }).to_string();
    DataFusionError::Execution(wrap(&text))
}

/// Takes it out of whatever text it is in.
pub fn unpack(text: &str) -> Option<Said> {
    let inner = &text[text.find(BEGIN)? + BEGIN.len()..];
    let hex = &inner[..inner.find(END)?];
    let bytes: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let text = String::from_utf8(bytes?).ok()?;
    if text == "stopped" {
        return Some(Said::Stopped);
    }
    let said: serde_json::Value = serde_json::from_str(&text).ok()?;
    let hint = said["hint"].as_str().map(str::to_owned);
    Some(Said::Failed { reason: said["reason"].as_str()?.to_owned(), hint })
}

/// In letters that nothing on the way quotes.
fn wrap(text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{BEGIN}{hex}{END}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_through() {
        let reason = "it has 3 bytes \"here\", and\n4 there".to_string();
        let error = Error::NotTheSame { path: "a b".into(), reason };
        let text = format!("Job x failed: {:?}", pack(&error, "north"));
        let Some(Said::Failed { reason, hint }) = unpack(&text) else { panic!("{text}") };
        assert_eq!(reason, format!("on executor north: {error}"));
        assert_eq!(hint, error.hint());
        assert_eq!(unpack(&format!("{:?}", pack(&Error::Stopped, "north"))), Some(Said::Stopped));
        for other in ["", "<alti:", "<alti:zz>", "<alti:61>", "out of memory"] {
            assert_eq!(unpack(other), None, "{other}");
        }
    }
}
