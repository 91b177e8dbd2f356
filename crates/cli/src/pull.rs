//! `alti pull`: a model from the hub, into the shared cache or a folder of its own.

use std::time::Instant;

use hub::{Cache, Destination, Pulled, Repository, Request};

use crate::args::Pull;
use crate::errors::Error;
use crate::progress::Shown;
use crate::report::scale::{bytes, count, duration};

/// Names of files that were left and are shown.
const NAMED: usize = 4;

/// `alti pull`.
pub fn pull(args: &Pull, shown: &Shown) -> Result<(), Error> {
    let begun = Instant::now();
    let repository: Repository = args.name.parse()?;
    let to = match &args.to {
        Some(folder) => Destination::Folder(folder.clone()),
        None => Destination::Cache(Cache::shared()?),
    };
    let request = Request {
        revision: args.revision.as_deref().map_or_else(|| Ok(hub::Revision::default()), str::parse)?,
        include: args.include.clone(),
        to,
        endpoint: args.endpoint.clone(),
        token: token(args)?,
        parallel: args.parallel.get(),
        ..Request::new(repository.clone(), Cache::at(""))
    };
    let pulled = hub::pull(&request, shown)?;
    for line in said(args, &request, &pulled, begun.elapsed().as_secs_f64()) {
        shown.line(&line);
    }
    anstream::println!("{}", pulled.folder.display());
    Ok(())
}

/// The token of a file, of the environment, or the one that was stored for the hub itself.
fn token(args: &Pull) -> Result<Option<String>, Error> {
    if let Some(path) = &args.token_file {
        return Ok(Some(hub::token_of(path)?));
    }
    if let Some(token) = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
        return Ok(Some(token.trim().to_owned()));
    }
    // What was stored for the hub was not stored for its mirrors.
    let stored = hub::cache::home().map(|home| home.join("token"));
    let own = args.endpoint.trim_end_matches('/') == hub::ENDPOINT;
    Ok(stored.filter(|path| own && path.is_file()).and_then(|path| hub::token_of(&path).ok()))
}

/// What came, what was left, and what can be done with it.
fn said(args: &Pull, request: &Request, pulled: &Pulled, seconds: f64) -> Vec<String> {
    let files = |n: usize| format!("{} {}", count(n as u64), if n == 1 { "file" } else { "files" });
    let fetched = match pulled.fetched {
        0 => "all of it was there".to_owned(),
        fetched => format!("{} fetched in {}", bytes(fetched), duration(seconds)),
    };
    let mut lines = vec![format!(
        "{} at {}: {} of {}, {fetched}",
        request.repository,
        &pulled.commit[..7],
        files(pulled.files),
        bytes(pulled.bytes)
    )];
    if !pulled.left.is_empty() {
        let size: u64 = pulled.left.iter().filter_map(|(_, size)| *size).sum();
        let names: Vec<&str> = pulled.left.iter().take(NAMED).map(|(name, _)| name.as_str()).collect();
        let more = if pulled.left.len() > NAMED { ", …" } else { "" };
        lines.push(format!(
            "  left  {} of {}: {}{more} (--include takes them)",
            files(pulled.left.len()),
            bytes(size),
            names.join(", ")
        ));
    }
    let name = match (&args.to, &args.revision) {
        (Some(folder), _) => folder.display().to_string(),
        (None, Some(revision)) => format!("{}@{revision}", request.repository),
        (None, None) => request.repository.to_string(),
    };
    lines.push(format!("  next  {} chat {name}", crate::program()));
    lines
}
