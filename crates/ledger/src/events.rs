//! What happened in a run and when: `events.jsonl`, one JSON object a line with `time`, `kind` and the
//! event's own fields. Not a log for debugging: starts, checkpoints, faults, rewinds, stops.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, clock, lines};

const FILE: &str = "events.jsonl";

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// RFC 3339, UTC.
    pub time: String,
    /// Such as `start`, `checkpoint`, `fault`, `rewind` or `stop`.
    pub kind: String,
    /// The other fields, an object.
    pub fields: Value,
}

/// Appends an event, now, to `dir/events.jsonl`. `fields` is an object, or null for none, and has neither
/// `time` nor `kind`. Threads and processes may append at once.
pub fn append(dir: &Path, kind: &str, fields: Value) -> Result<(), Error> {
    let mut line = Map::new();
    line.insert("time".to_owned(), clock::now().into());
    line.insert("kind".to_owned(), kind.into());
    match fields {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                if line.contains_key(&name) {
                    return Err(Error::Name {
                        kind: "field of an event",
                        name,
                        reason: "it is set by the record itself",
                    });
                }
                line.insert(name, value);
            }
        }
        other => {
            let reason = "the fields of an event are a JSON object";
            return Err(Error::Name { kind: "field of an event", name: other.to_string(), reason });
        }
    }
    let path = dir.join(FILE);
    let mut file = lines::open_shared(&path)?;
    lines::append(&mut file, &path, &line)
}

/// All events of `dir/events.jsonl`, in the order in which they were appended; none where it does not exist.
pub fn read(dir: &Path) -> Result<Vec<Event>, Error> {
    lines::read(&dir.join(FILE), |line| {
        let mut fields: Map<String, Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let mut take = |name: &str| match fields.shift_remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(format!("an event has a text named {name}")),
        };
        Ok(Event { time: take("time")?, kind: take("kind")?, fields: Value::Object(fields) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_read_as_they_were_appended() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
        append(folder.path(), "start", Value::Null).unwrap();
        append(folder.path(), "checkpoint", json!({"step": 3, "path": "a\nb"})).unwrap();
        let events = read(folder.path()).unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!((events[0].kind.as_str(), &events[0].fields), ("start", &json!({})));
        assert_eq!(
            (events[1].kind.as_str(), &events[1].fields),
            ("checkpoint", &json!({"step": 3, "path": "a\nb"}))
        );
        assert!(events[1].time >= events[0].time);
        assert!(append(folder.path(), "start", json!({"time": 1})).is_err());
        assert!(append(folder.path(), "start", json!([1])).is_err());
        assert_eq!(read(folder.path()).unwrap().len(), 2);
    }

    #[test]
    fn threads_do_not_tear_each_others_lines() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let folder = &folder;
                scope.spawn(move || {
                    for index in 0..25 {
                        append(folder.path(), "start", json!({"thread": thread, "index": index})).unwrap();
                    }
                });
            }
        });
        let events = read(folder.path()).unwrap();
        assert_eq!(events.len(), 100);
        for thread in 0..4 {
            let of_thread = events.iter().filter(|event| event.fields["thread"] == thread);
            assert!(of_thread.map(|event| event.fields["index"].as_u64().unwrap()).eq(0..25));
        }
    }
}
