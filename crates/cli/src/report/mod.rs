//! The report: one self-contained page about a run, drawn from its records.
//! No script, no font and no picture comes from elsewhere; light and dark follow the reader's system.

mod dots;
pub mod facts;
pub mod funnel;
pub mod histogram;
mod line;
mod lineage;
pub mod page;
pub mod scale;
pub mod shell;

use std::path::Path;

use ledger::atomic;
use ledger::run::Run;

use crate::args;
use crate::errors::Error;
use crate::progress::Shown;

/// Writes the report of `run` to `path`, and gives its size in bytes.
pub fn write(run: &Run, path: &Path) -> Result<u64, Error> {
    let html = facts::gather(run)?.render();
    atomic::write(path, html.as_bytes())?;
    Ok(html.len() as u64)
}

/// `alti report`.
pub fn report(args: &args::Report, shown: &Shown) -> Result<(), Error> {
    let run = Run::open_read_only(&args.run)?;
    let path = args.to.clone().unwrap_or_else(|| run.report());
    let size = write(&run, &path)?;
    shown.line(&format!("{} ({})", path.display(), scale::bytes(size)));
    Ok(())
}
