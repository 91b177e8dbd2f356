//! The stage `curate`: sources to documents, a funnel of what was removed and why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use align::tasks::evaluation_texts;
use corpus::{Options, Source};
use globset::GlobBuilder;
use ledger::digest::Digest;
use serde_json::json;

use super::{Context, Made, Need, Stage};
use crate::curate::kept_line;
use crate::embedder;
use crate::errors::Error;
use crate::interrupt;
use crate::resumable::beside;

pub struct Curate;

fn sources(context: &Context) -> Result<Vec<Source>, Error> {
    context.recipe.sources.iter().map(|text| Ok(Source::parse(text)?)).collect()
}

impl Stage for Curate {
    fn need(&self, context: &Context) -> Result<Need, Error> {
        let mut inputs = BTreeMap::new();
        for source in sources(context)? {
            let digest = match &source {
                Source::Registry => context.packages_digest()?,
                Source::Path(path) => digest_files(path)?,
                Source::Store(address) => corpus::digest_listing(address, &context.recipe.curate)?,
            };
            // Not as it was given: an address may be signed for somebody.
            inputs.insert(source.to_string(), digest);
        }
        for list in context.recipe.curate.files() {
            inputs.insert(list.to_owned(), digest_files(list)?);
        }
        if let Some(embedder) = embedder::of(context.recipe, context.shown)? {
            inputs.insert("embedding model".to_owned(), embedder::digest(embedder.as_ref())?);
        }
        let evaluation = evaluation_texts(&context.evaluation_items()?);
        inputs.insert("evaluation questions".to_owned(), Digest::of_value(&evaluation)?);
        Ok(Need { inputs, settings: Digest::of_value(&(&context.recipe.curate, context.seed.0))? })
    }

    fn work(&self, context: &Context, _need: &Need) -> Result<Made, Error> {
        let evaluation = evaluation_texts(&context.evaluation_items()?);
        let out = context.run.documents();
        let sources = sources(context)?;
        let work = beside(&out, "work")?;
        let embedder = embedder::of(context.recipe, context.shown)?;
        let options = Options {
            work: Some(&work),
            stop: Some(interrupt::flag()),
            embedder: embedder.as_deref(),
            ..Options::default()
        };
        let (settings, seed) = (&context.recipe.curate, context.seed);
        let curated =
            corpus::curate_with(settings, &sources, &evaluation, &out, seed, context.shown, &options);
        let funnel = curated.map_err(|error| match error {
            corpus::Error::Stopped => context.interrupted(),
            other => other.into(),
        })?;
        let kept = funnel.train.documents + funnel.held_out.documents;
        let left = funnel.train.bytes + funnel.held_out.bytes;
        let line = kept_line(&funnel);
        Ok(Made {
            outputs: vec!["documents"],
            summary: json!({"documents": kept, "bytes": left, "funnel": funnel}),
            line,
        })
    }

    fn forget(&self, context: &Context) -> Result<(), Error> {
        super::pretrain::forget(&beside(&context.run.documents(), "work")?)
    }
}

/// What a folder, a file or a glob holds. What cannot be read counts as absent: the curation names it.
fn digest_files(given: &str) -> Result<Digest, Error> {
    let path = Path::new(given);
    if path.exists() {
        return Ok(Digest::of_path(path)?);
    }
    let glob = GlobBuilder::new(given).literal_separator(true).build().map(|glob| glob.compile_matcher());
    let mut files = BTreeMap::new();
    if let Ok(glob) = glob {
        // Only folders below the part without wildcards can hold a match.
        let fixed: PathBuf = path.components().take_while(|part| !is_pattern(part.as_os_str())).collect();
        let root = if fixed.as_os_str().is_empty() { PathBuf::from(".") } else { fixed.clone() };
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let found = entry.path();
                let named = found.strip_prefix(".").unwrap_or(&found).to_owned();
                if found.is_dir() {
                    folders.push(found);
                } else if glob.is_match(&named) {
                    files.insert(named, Digest::of_file(&found).ok());
                }
            }
        }
    }
    Ok(Digest::of_value(&files)?)
}

fn is_pattern(part: &std::ffi::OsStr) -> bool {
    part.to_string_lossy().contains(['*', '?', '[', '{'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_counts_by_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("a/1.txt", "one");
        put("a/2.md", "two");
        put("a/b/3.txt", "three");
        let root = dir.path().display().to_string();
        let digests = || {
            ["", "/a/1.txt", "/a/*.txt", "/**/*.txt"]
                .map(|end| digest_files(&format!("{root}{end}")).unwrap())
        };
        let before = digests();
        put("a/2.md", "zwei");
        let after = digests();
        assert_eq!([0, 1, 2, 3].map(|i| before[i] == after[i]), [false, true, true, true]);
        put("a/b/3.txt", "drei");
        assert_eq!([0, 1, 2, 3].map(|i| after[i] == digests()[i]), [false, true, true, false]);
    }
}
