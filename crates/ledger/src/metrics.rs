//! The numbers of a run over its steps: `metrics.jsonl`, which is the record, and TensorBoard event files
//! made from it. Not averages nor pictures of them: each line is what was measured at one step.
//!
//! A line is `{"stage": "pretrain", "step": 3, "time": 1713456000.25, "loss": 3.25, ...}`, `time` in seconds
//! since 1970. What JSON cannot hold is written as the text `NaN`, `Infinity` or `-Infinity`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::tensorboard::{self, EventFile};
use crate::{Error, atomic, clock, lines};

const FILE: &str = "metrics.jsonl";
const EVENTS: &str = "tensorboard";
const RESERVED: [&str; 3] = ["stage", "step", "time"];

/// What was measured at one step of one stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The stage, such as `pretrain`.
    pub stage: String,
    /// The step, counted within the stage.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// The values by name.
    pub values: BTreeMap<String, f64>,
}

/// The metrics of a folder, open for appending. Each line is handed to the system as it is logged, so a
/// killed program loses none; [`Metrics::sync`] guards against a killed machine.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    events: EventFile,
}

impl Metrics {
    /// Opens `dir/metrics.jsonl`, which is created where it does not exist. A torn last line is dropped, and
    /// so are, for a run that resumes there, the lines of all stages from step `keep_below_step` on; `None`
    /// keeps all. The event file in `dir/tensorboard/` is made anew from the lines that stay.
    pub fn open(dir: &Path, keep_below_step: Option<u64>) -> Result<Self, Error> {
        Self::open_keeping(dir, |point| keep_below_step.is_none_or(|step| point.step < step))
    }

    /// [`Metrics::open`] for a folder that several stages share: only lines of this stage are dropped.
    pub fn open_stage(dir: &Path, stage: &str, keep_below_step: u64) -> Result<Self, Error> {
        Self::open_keeping(dir, |point| point.stage != stage || point.step < keep_below_step)
    }

    fn open_keeping(dir: &Path, keep: impl Fn(&Point) -> bool) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let mut points = read(dir)?;
        let before = points.len();
        points.retain(keep);
        if points.len() < before {
            let mut text = Vec::new();
            for point in &points {
                let line = line(&point.stage, point.step, point.time, values_of(point))?;
                serde_json::to_writer(&mut text, &line)
                    .map_err(|source| Error::Encode { what: "a metric", source })?;
                text.push(b'\n');
            }
            atomic::write(&path, &text)?;
        }
        let file = lines::open(&path)?;
        let events = rewrite_events(&dir.join(EVENTS), &points)?;
        Ok(Self { path, file, events })
    }

    /// Appends values measured now, at `step` of `stage`. Errors on an empty name or one of `stage`, `step`,
    /// `time`.
    pub fn log(&mut self, stage: &str, step: u64, values: &[(&str, f64)]) -> Result<(), Error> {
        let time = clock::unix_seconds();
        let line = line(stage, step, time, values.iter().copied())?;
        lines::append(&mut self.file, &self.path, &line)?;
        let tags: Vec<_> = values.iter().map(|&(name, value)| (format!("{stage}/{name}"), value)).collect();
        self.events.scalars(time, step, tags.iter().map(|(tag, value)| (tag.as_str(), *value)))
    }

    /// Puts what was logged on the disk, as before a checkpoint that must not be newer than its metrics.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }
}

/// All points of `dir/metrics.jsonl` in the order in which they were logged, without a torn last line; none
/// where it does not exist. Any other malformed line is an error that names it.
pub fn read(dir: &Path) -> Result<Vec<Point>, Error> {
    lines::read(&dir.join(FILE), parse)
}

fn line(
    stage: &str,
    step: u64,
    time: f64,
    values: impl IntoIterator<Item = (impl AsRef<str>, f64)>,
) -> Result<Map<String, Value>, Error> {
    let mut line = Map::new();
    line.insert("stage".to_owned(), stage.into());
    line.insert("step".to_owned(), step.into());
    line.insert("time".to_owned(), time.into());
    for (name, value) in values {
        let name = name.as_ref();
        if name.is_empty() || RESERVED.contains(&name) {
            let reason = "it is empty, or names a column that each line has";
            return Err(Error::Name { kind: "metric", name: name.to_owned(), reason });
        }
        line.insert(name.to_owned(), number_to_json(value));
    }
    Ok(line)
}

fn values_of(point: &Point) -> impl Iterator<Item = (&String, f64)> {
    point.values.iter().map(|(name, &value)| (name, value))
}

fn parse(line: &str) -> Result<Point, String> {
    let mut fields: Map<String, Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let mut take = |name: &str| fields.shift_remove(name).ok_or_else(|| format!("a metric has a {name}"));
    let stage = match take("stage")? {
        Value::String(stage) => stage,
        other => return Err(format!("stage is {other}, not a text")),
    };
    let step = take("step")?.as_u64().ok_or("step is not a count")?;
    let time = number_from_json("time", &take("time")?)?;
    let values = fields
        .into_iter()
        .map(|(name, value)| number_from_json(&name, &value).map(|number| (name, number)))
        .collect::<Result<_, _>>()?;
    Ok(Point { stage, step, time, values })
}

fn number_to_json(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(
        || {
            let text = if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            text.into()
        },
        Value::Number,
    )
}

fn number_from_json(name: &str, value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
    .ok_or_else(|| format!("{name} is {value}, not a number"))
}

/// Begins an event file with all `points` and removes the earlier ones, which say the same or what was
/// dropped.
fn rewrite_events(dir: &Path, points: &[Point]) -> Result<EventFile, Error> {
    let mut events = EventFile::create(dir)?;
    let mut records = Vec::new();
    for point in points {
        let tags: Vec<_> =
            values_of(point).map(|(name, value)| (format!("{}/{name}", point.stage), value)).collect();
        let values = tags.iter().map(|(tag, value)| (tag.as_str(), *value));
        tensorboard::push_scalars(&mut records, point.time, point.step, values);
    }
    events.append(&records)?;
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let is_events =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events.out.tfevents."));
        if is_events && path != events.path() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", &path)(error));
                }
                _ => {}
            }
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(dir: &Path) -> Vec<(String, u64)> {
        read(dir).unwrap().into_iter().map(|point| (point.stage, point.step)).collect()
    }

    fn event_files(dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(dir.join(EVENTS)).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn values_come_back_as_they_were_logged() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), []);
        let mut metrics = Metrics::open(folder.path(), None).unwrap();
        let values = [0.1, -0.0, 1e300, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3.0];
        for (step, value) in values.into_iter().enumerate() {
            metrics.log("pretrain", step as u64, &[("loss", value), ("learning rate", 1.0)]).unwrap();
        }
        metrics.sync().unwrap();
        for (point, value) in read(folder.path()).unwrap().iter().zip(values) {
            assert_eq!(point.values["loss"].to_bits(), value.to_bits());
            assert_eq!(point.values["learning rate"], 1.0);
            assert!(point.time > 1.7e9);
        }
        for name in ["", "stage", "step", "time"] {
            assert!(metrics.log("pretrain", 9, &[(name, 1.0)]).is_err());
        }
    }

    #[test]
    fn resuming_drops_what_comes_again_and_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let mut metrics = Metrics::open(dir, None).unwrap();
        for (stage, step) in [("pretrain", 0), ("pretrain", 1), ("pretrain", 2), ("sft", 0), ("sft", 1)] {
            metrics.log(stage, step, &[("loss", 1.0)]).unwrap();
        }
        drop(metrics);
        let torn = fs::read_to_string(dir.join(FILE)).unwrap() + "{\"stage\":\"sft\",\"st";
        fs::write(dir.join(FILE), torn).unwrap();
        assert_eq!(steps(dir).len(), 5);

        let own = |stage: &str, step| (stage.to_owned(), step);
        Metrics::open_stage(dir, "sft", 1).unwrap().log("sft", 7, &[("loss", 1.0)]).unwrap();
        let expected =
            [own("pretrain", 0), own("pretrain", 1), own("pretrain", 2), own("sft", 0), own("sft", 7)];
        assert_eq!(steps(dir), expected);
        Metrics::open(dir, Some(1)).unwrap().log("pretrain", 1, &[("loss", 1.0)]).unwrap();
        assert_eq!(steps(dir), [own("pretrain", 0), own("sft", 0), own("pretrain", 1)]);
        assert_eq!(event_files(dir).len(), 1);
    }

    #[test]
    fn the_event_file_made_anew_equals_the_one_that_grew() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), None).unwrap();
        for step in 0..5 {
            metrics.log("pretrain", step, &[("a", step as f64), ("b", 0.5)]).unwrap();
        }
        let grown = fs::read(&event_files(folder.path())[0]).unwrap();
        drop(metrics);
        let _reopened = Metrics::open(folder.path(), None).unwrap();
        let anew = fs::read(&event_files(folder.path())[0]).unwrap();
        // The two leading records hold the time of creation.
        let leading = 2 * 16 + (9 + 2 + 13) + (9 + 2 + 2);
        assert_eq!(grown[leading..], anew[leading..]);
        assert_eq!(grown.len(), anew.len());
    }
}
