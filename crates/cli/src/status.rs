//! `alti status`: a table of a run's stages, read without disturbing a run that is at work.

use ledger::run::Run;
use ledger::{events, metrics};
use owo_colors::OwoColorize;

use crate::args::Status;
use crate::errors::Error;
use crate::raise::STAGES;
use crate::report::scale::{count, duration, figures};

/// One line of the table.
#[derive(Debug, PartialEq)]
struct Row {
    stage: &'static str,
    state: &'static str,
    time: String,
    made: String,
}

/// `alti status`.
pub fn status(args: &Status) -> Result<(), Error> {
    let run = Run::open_read_only(&args.run)?;
    if args.json {
        let text = serde_json::to_string_pretty(run.manifest())
            .map_err(|source| ledger::Error::Encode { what: "a manifest", source })?;
        anstream::println!("{text}");
        return Ok(());
    }
    let manifest = run.manifest();
    anstream::println!(
        "{}  seed {}, begun {}",
        args.run.display().bold(),
        manifest.seed,
        manifest.created.get(..16).unwrap_or(&manifest.created).replace('T', " ")
    );
    let rows = rows(&run)?;
    let width = |column: fn(&Row) -> usize| rows.iter().map(column).max().unwrap_or(0);
    let (wide_stage, wide_state) = (width(|r| r.stage.len()), width(|r| r.state.len()));
    let wide_time = width(|r| r.time.chars().count());
    for row in &rows {
        let state = format!("{:wide_state$}", row.state);
        let state = match row.state {
            "done" => state.green().to_string(),
            "running" => state.cyan().to_string(),
            "stopped" => state.yellow().to_string(),
            "failed" => state.red().to_string(),
            _ => state.dimmed().to_string(),
        };
        anstream::println!("  {:wide_stage$}  {state}  {:>wide_time$}  {}", row.stage, row.time, row.made);
    }
    let total: f64 = manifest.stages.values().map(|stage| stage.record.seconds).sum();
    anstream::println!("  {}", format!("{} of work in all", duration(total)).dimmed());
    if run.report().is_file() {
        anstream::println!("  report: {}", run.report().display());
    }
    Ok(())
}

fn rows(run: &Run) -> Result<Vec<Row>, Error> {
    let events = events::read(run.root())?;
    let mut rows = Vec::new();
    for stage in STAGES {
        let last = events
            .iter()
            .rev()
            .find(|e| {
                e.fields["stage"] == stage
                    && matches!(e.kind.as_str(), "start" | "resume" | "stage" | "stop" | "fault")
            })
            .map(|e| e.kind.as_str());
        let row = match (run.stage(stage), last) {
            // A stage that was begun again is no longer done, whatever its record says.
            (Some(record), None | Some("stage")) => Row {
                stage,
                state: "done",
                time: duration(record.seconds),
                made: record.summary["line"].as_str().unwrap_or_default().to_owned(),
            },
            (_, None) => Row { stage, state: "–", time: String::new(), made: String::new() },
            (_, Some(kind)) => Row {
                stage,
                state: match kind {
                    "fault" => "failed",
                    "start" | "resume" if is_at_work(run) => "running",
                    _ => "stopped",
                },
                time: String::new(),
                made: how_far(run, stage)?,
            },
        };
        rows.push(row);
    }
    Ok(rows)
}

/// Whether a process holds the run's lock. Asked with a shared lock, which is given back at once.
fn is_at_work(run: &Run) -> bool {
    std::fs::File::open(run.root().join(".lock"))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// The last thing that a training stage measured.
fn how_far(run: &Run, stage: &str) -> Result<String, Error> {
    let points = metrics::read(run.root())?;
    let last = points.iter().rev().find(|point| point.stage == stage);
    Ok(last.map_or(String::new(), |point| {
        let loss =
            point.values.get("loss").map(|loss| format!(", loss {}", figures(*loss))).unwrap_or_default();
        format!("at step {}{loss}", count(point.step))
    }))
}
