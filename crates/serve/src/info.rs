//! What a server needs to know besides the engine: the model's name, who may ask, and the `[serve]` section of a recipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{AccessLog, ApiKeys, Error};

/// What is served, and to whom.
#[derive(Debug, Clone)]
pub struct ServeInfo {
    /// Name under which clients ask for the model.
    pub model: String,
    /// When the model was made, in seconds since 1970 (UTC); shown at `/v1/models`.
    pub created: u64,
    /// Who made it; shown at `/v1/models`.
    pub owned_by: String,
    /// Clients must bring one of these as a bearer token. None at all: everybody may ask.
    pub api_keys: ApiKeys,
    /// Where each request leaves a line, if anywhere.
    pub access_log: Option<AccessLog>,
    /// Bounds and defaults.
    pub settings: Settings,
}

impl ServeInfo {
    /// A model of this name, open to everybody who can reach the port, with default settings.
    pub fn new(model: impl Into<String>) -> Self {
        ServeInfo {
            model: model.into(),
            created: 0,
            owned_by: "altiplano".into(),
            api_keys: ApiKeys::default(),
            access_log: None,
            settings: Settings::default(),
        }
    }
}

/// Bounds and defaults of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Largest body of a request, in bytes; larger ones are refused with 413.
    pub max_body_bytes: usize,
    /// Most answers to one request: prompts times `n` or `best_of`.
    pub max_choices: usize,
    /// Most texts of one request for embeddings.
    pub max_embeddings: usize,
    /// Temperature where the request gives none; Meta's default for chat.
    pub temperature: f32,
    /// Top-p where the request gives none; Meta's default for chat.
    pub top_p: f32,
    /// Web origins, such as `https://chat.example`, whose pages may call the API from a browser. `*`: all. None: only
    /// the server's own page may.
    pub allowed_origins: Vec<String>,
    /// Folders from whose subfolders clients may load adapters, at `/v1/load_lora_adapter`. None: they may not.
    pub adapter_folders: Vec<PathBuf>,
    /// Responses that are remembered for `previous_response_id`, the newest; 0: none.
    pub max_stored_responses: usize,
    /// Bytes of text that they may take together.
    pub max_stored_bytes: usize,
    /// Whether `/metrics` can be read without a key where there are keys.
    pub open_metrics: bool,
    /// Connections that are served at once; the next waits, unanswered, until one ends.
    pub max_connections: usize,
    /// Seconds that a client may take to send its request's header, from the end of the request before: also the longest
    /// that an idle connection is kept.
    pub header_timeout_seconds: u64,
    /// Seconds that a client may take to send its request's body.
    pub body_timeout_seconds: u64,
    /// Seconds that a client may let its answer lie, when the system holds no more of it for the connection.
    pub write_timeout_seconds: u64,
    /// Seconds that running answers get to finish once the server is told to stop; then they are cancelled.
    pub shutdown_grace_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_body_bytes: 8 << 20,
            max_choices: 128,
            max_embeddings: 256,
            temperature: 0.6,
            top_p: 0.9,
            allowed_origins: Vec::new(),
            adapter_folders: Vec::new(),
            max_stored_responses: 1000,
            max_stored_bytes: 64 << 20,
            open_metrics: false,
            max_connections: 512,
            header_timeout_seconds: 30,
            body_timeout_seconds: 60,
            write_timeout_seconds: 60,
            shutdown_grace_seconds: 30,
        }
    }
}

impl Settings {
    /// All faults at once, or nothing.
    pub fn validate(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        let counts = [
            ("max_body_bytes", self.max_body_bytes as u64),
            ("max_choices", self.max_choices as u64),
            ("max_embeddings", self.max_embeddings as u64),
            ("max_connections", self.max_connections as u64),
            ("header_timeout_seconds", self.header_timeout_seconds),
            ("body_timeout_seconds", self.body_timeout_seconds),
            ("write_timeout_seconds", self.write_timeout_seconds),
        ];
        for (name, _) in counts.iter().filter(|(_, value)| *value == 0) {
            faults.push(format!("`{name}` is 0 and must be at least 1"));
        }
        if !(0.0..=2.0).contains(&self.temperature) {
            faults.push(format!("`temperature` is {} and must be from 0 to 2", self.temperature));
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            faults.push(format!("`top_p` is {} and must be from 0 to 1", self.top_p));
        }
        for origin in self.allowed_origins.iter().filter(|origin| *origin != "*") {
            let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' '])) {
                faults.push(format!(
                    "`allowed_origins` holds `{origin}`, which is not like `https://chat.example`"
                ));
            }
        }
        for folder in self.adapter_folders.iter().filter(|folder| !folder.is_dir()) {
            faults.push(format!("`adapter_folders` holds `{}`, which is no folder", folder.display()));
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Settings { faults }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_named_at_once() {
        let settings = Settings {
            max_choices: 0,
            temperature: f32::NAN,
            allowed_origins: vec!["*".into(), "https://a.example".into(), "b.example/x".into()],
            ..Settings::default()
        };
        let Err(Error::Settings { faults }) = settings.validate() else { panic!("accepted faults") };
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[2].contains("b.example/x"), "{faults:?}");
        assert!(Settings::default().validate().is_ok());
    }

    #[test]
    fn settings_survive_the_round_trip_and_refuse_unknown_keys() {
        let json = serde_json::to_string(&Settings::default()).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&json).unwrap(), Settings::default());
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
        assert!(serde_json::from_str::<Settings>(r#"{"max_bodybytes": 1}"#).is_err());
    }
}
