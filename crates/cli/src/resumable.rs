//! What the commands share that can be killed and run again: where they write, what lies beside it, and what they say.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::errors::Error;
use crate::report::scale::bytes;

/// Less does not hold what is read and worked on at once.
const LEAST_MEMORY: u64 = 256_000_000;

/// The folder `OUT.SUFFIX`, beside the one that is written.
///
/// # Errors
/// What cannot be written as a folder, such as `..`.
pub fn beside(out: &Path, suffix: &str) -> Result<PathBuf, Error> {
    let mut name = out.file_name().map(ToOwned::to_owned).ok_or_else(|| Error::Usage {
        message: format!("{} cannot be written as a folder", out.display()),
        hint: "name a folder, which need not exist".to_owned(),
    })?;
    name.push(".");
    name.push(suffix);
    Ok(out.with_file_name(name))
}

/// Refuses a `--memory` that is too little.
///
/// # Errors
/// That.
pub fn check_memory(memory: u64) -> Result<(), Error> {
    if memory >= LEAST_MEMORY {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("--memory is {}, which is too little", bytes(memory)),
        hint: format!("give at least {}", bytes(LEAST_MEMORY)),
    })
}

/// Runs `work` on so many threads; on as many as there are processors without a number.
///
/// # Errors
/// Threads that cannot be started.
pub fn on_threads<T: Send>(
    threads: Option<NonZeroUsize>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Error> {
    let Some(threads) = threads else { return Ok(work()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build();
    let pool = pool.map_err(|error| Error::Usage {
        message: format!("{threads} threads cannot be started: {error}"),
        hint: "give --threads a smaller number".to_owned(),
    })?;
    Ok(pool.install(work))
}

/// Somebody asked for the end, and the work so far is kept.
pub fn interrupted() -> Error {
    Error::Interrupted { hint: "run the same command again; it goes on from here".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_lies_beside_the_documents() {
        assert_eq!(beside(Path::new("a/docs"), "work").unwrap(), Path::new("a/docs.work"));
        assert!(beside(Path::new(".."), "work").is_err());
    }
}
