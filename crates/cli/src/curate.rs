//! `alti curate`: sources to documents, and the funnel as a table. How documents are read, filtered and compared is the
//! corpus'; the stage of `alti raise` runs the same.

use std::path::Path;

use corpus::{Funnel, FunnelStep, Options, Source};
use ledger::seed::Seed;

use crate::args::{Curate, CurateWhat};
use crate::errors::Error;
use crate::interrupt;
use crate::progress::Shown;
use crate::recipe::Given;
use crate::report::scale::{bytes, count, percent};
use crate::resumable::{beside, check_memory, interrupted, on_threads};
use crate::{curate_classifier, curate_cluster, curate_judge, curate_report, embedder, program};
use ledger::progress::Progress;

/// `alti curate`.
pub fn curate(args: &Curate, shown: &Shown) -> Result<(), Error> {
    let out = match (&args.what, &args.out) {
        (Some(CurateWhat::Judge(args)), _) => return curate_judge::judge(args, shown),
        (Some(CurateWhat::Classifier(verb)), _) => return curate_classifier::classifier(verb, shown),
        (Some(CurateWhat::Report(args)), _) => return curate_report::report(args, shown),
        (Some(CurateWhat::Scheduler(args)), _) => return curate_cluster::scheduler(args, shown),
        (Some(CurateWhat::Executor(args)), _) => return curate_cluster::executor(args, shown),
        (Some(CurateWhat::Sql(args)), _) => return curate_cluster::sql(args),
        (None, Some(out)) => out,
        (None, None) => {
            return Err(Error::Usage {
                message: "--out is missing".to_owned(),
                hint: "name the folder to write".to_owned(),
            });
        }
    };
    let recipe = Given::load(args.recipe.as_deref(), &args.set)?.recipe()?;
    let seed = Seed(args.seed.unwrap_or(recipe.seed));
    check_memory(args.memory)?;
    let beside = beside(out, "work")?;
    let work = args.work.as_ref().unwrap_or(&beside);
    let sources: Vec<Source> =
        args.sources.iter().map(|text| Ok(Source::parse(text)?)).collect::<Result<_, Error>>()?;
    let elsewhere = curate_cluster::elsewhere(&args.on, shown)?;
    interrupt::listen("putting on the disk what was made; once more to stop at once");
    let embedder = embedder::of(&recipe, shown)?;
    let options = Options {
        memory: args.memory,
        work: Some(work),
        keep_work: !args.discard_work,
        checkpoint_bytes: args.checkpoint,
        stop: Some(interrupt::flag()),
        embedder: embedder.as_deref(),
        elsewhere: elsewhere.as_deref(),
    };
    let run = || corpus::curate_with(&recipe.curate, &sources, &[], out, seed, shown, &options);
    let curated = on_threads(args.threads, run)?;
    let funnel = curated.map_err(|error| match error {
        corpus::Error::Stopped => interrupted(),
        other => other.into(),
    })?;
    if args.json {
        let json = serde_json::to_string_pretty(&funnel)
            .map_err(|error| Error::io("write", Path::new("standard output"))(error.into()))?;
        return print(&json);
    }
    print(&table(&funnel))?;
    let out = out.display();
    shown.line(&format!("{out}: {}", kept_line(&funnel)));
    shown.note(&format!(
        "{} curate report {out} shows what was kept and what was removed, as a page",
        program()
    ));
    if !args.discard_work {
        let held: u64 = std::fs::read_dir(work)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum();
        shown.note(&format!(
            "{} in {} let a changed rule run without reading again; remove it when none will change",
            bytes(held),
            work.display()
        ));
    }
    Ok(())
}

fn print(text: &str) -> Result<(), Error> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}").map_err(Error::io("write", Path::new("standard output")))
}

/// What was kept of how much, in one line.
pub fn kept_line(funnel: &Funnel) -> String {
    let (read, text) = funnel.steps.first().map_or((0, 0), |step| (step.documents_in, step.bytes_in));
    let left = funnel.train.bytes + funnel.held_out.bytes;
    format!(
        "{} of {} documents kept, {} of text ({})",
        count(funnel.train.documents + funnel.held_out.documents),
        count(read),
        bytes(left),
        percent(left as f64 / text.max(1) as f64)
    )
}

/// Reasons of a step that are shown.
const REASONS: usize = 3;

/// A row a step: what is left, and what removed most.
fn table(funnel: &Funnel) -> String {
    let row = |step: &FunnelStep| {
        let mut reasons: Vec<(&String, &u64)> = step.removed.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let mut what: Vec<String> = reasons
            .iter()
            .take(REASONS)
            .map(|(reason, documents)| format!("{} {}", reason.replace('_', " "), count(**documents)))
            .collect();
        if reasons.len() > REASONS {
            let rest = reasons[REASONS..].iter().map(|(_, documents)| **documents).sum();
            what.push(format!("others {}", count(rest)));
        }
        what.extend(
            step.edits
                .iter()
                .map(|(edit, times)| format!("{} replaced {}", edit.replace('_', " "), count(*times))),
        );
        [
            step.name.replace('_', " "),
            count(step.documents_out),
            percent(step.documents_out as f64 / step.documents_in.max(1) as f64),
            bytes(step.bytes_out),
            what.join(", "),
        ]
    };
    let heading = ["step", "documents", "kept", "text", "removed most"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(heading).chain(funnel.steps.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (name, documents, kept, text) = (width(0), width(1), width(2), width(3));
    let lines = rows.iter().map(|[step, count, share, size, what]| {
        format!("{step:<name$}  {count:>documents$}  {share:>kept$}  {size:>text$}  {what}")
            .trim_end()
            .to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_table_shows_what_removed_most() {
        let removed = [("a_b", 5), ("c", 7), ("d", 1), ("e", 2), ("f", 3)];
        let mut step = FunnelStep::new("gopher_quality");
        (step.documents_in, step.documents_out, step.bytes_out) = (1_018, 1_000, 2_000_000);
        step.removed = removed.map(|(reason, documents)| (reason.to_owned(), documents)).into();
        step.edits = BTreeMap::from([("emails".to_owned(), 4)]);
        let funnel = Funnel { steps: vec![step], ..Funnel::default() };
        let table = table(&funnel);
        let rows: Vec<&str> = table.lines().collect();
        assert!(rows[0].starts_with("step            documents"), "{table}");
        assert!(rows[1].ends_with("c 7, a b 5, f 3, others 3, emails replaced 4"), "{table}");
        assert!(rows[1].starts_with("gopher quality      1,000"), "{table}");
    }
}
