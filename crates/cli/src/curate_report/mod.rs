//! `alti curate report`: one page about a folder of curated documents. What the folder holds is `corpus::survey`'s to find;
//! the pictures are those of a run's report.

mod page;
mod samples;
mod tables;
mod text;

use std::path::{Path, PathBuf};

use corpus::survey::{Options, survey};
use ledger::atomic::{self, AtomicDir};
use ledger::progress::Progress;
use ledger::run::Run;

use crate::args::CurateReport;
use crate::errors::Error;
use crate::progress::Shown;
use crate::report::scale::{bytes, count};
use crate::resumable::{beside, check_memory, on_threads};
use page::Page;

/// Most bytes of a text that are shown.
const EXCERPT_BYTES: usize = 2000;
/// Hosts, clusters and reasons that are named.
const TOP: usize = 20;

/// Writes the page.
pub fn report(args: &CurateReport, shown: &Shown) -> Result<(), Error> {
    check_memory(args.memory)?;
    let folder = documents(&args.folder);
    let out = &args.out;
    if out.is_dir() {
        return Err(Error::Usage {
            message: format!("--out {} is a folder", out.display()),
            hint: "name a file, such as report.html".to_owned(),
        });
    }
    // What hosts need beyond the memory; it goes when it is dropped.
    let work = AtomicDir::create(&beside(out, "work")?)?;
    let options = Options {
        samples: args.samples,
        seed: args.seed,
        excerpt_bytes: EXCERPT_BYTES,
        top: TOP,
        memory: args.memory,
        work: work.path(),
    };
    let found = on_threads(args.threads, || survey(&folder, &options, shown))??;
    for fault in found.faults.listed.iter().take(3) {
        shown.warn(&format!("{} {}", fault.place, fault.reason));
    }
    if found.faults.count > 3 {
        shown.warn(&format!("and {} more, which the page lists", count(found.faults.count - 3)));
    }
    let html = Page::new(&folder, &found, run_of(&folder).as_ref(), args).render();
    atomic::write(out, html.as_bytes())?;
    let documents = found.documents();
    shown.line(&format!(
        "{} ({}): {} documents, {} of text",
        out.display(),
        bytes(html.len() as u64),
        count(documents.documents),
        bytes(documents.bytes)
    ));
    Ok(())
}

/// The folder of documents: that of a run where a run is named.
fn documents(given: &Path) -> PathBuf {
    let within = given.join("documents");
    let is_run = !given.join("funnel.json").exists() && within.join("funnel.json").exists();
    if is_run { within } else { given.to_owned() }
}

/// The run whose documents these are.
fn run_of(folder: &Path) -> Option<Run> {
    let whole = folder.canonicalize().ok()?;
    let root = whole.parent()?;
    let run = Run::open_read_only(root).ok()?;
    (run.documents().canonicalize().ok()? == whole && run.stage("curate").is_some()).then_some(run)
}
