//! What a folder of curated documents holds, as figures and samples for a person: counts by language and host, how lengths
//! and scores are distributed, duplicates, and what was removed. It reads a corpus of any size in a stream, and draws
//! nothing.
//!
//! - [`Distribution`] counts values in bins.
//! - `tables` cuts the Parquet files into row groups, `tally` counts them, `hosts` counts hosts.
//! - `clusters`, `removals` and `lines` read the JSON lines beside them.
//!
//! Row groups are read by as many threads as rayon's current pool has, and taken in their order: the figures do not depend
//! on the number of threads, or on the memory.

mod clusters;
mod distribution;
mod hosts;
mod lines;
mod removals;
mod tables;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use ledger::progress::{Progress, Unit as Units};
use rayon::prelude::*;

use crate::curate::pipeline;
use crate::documents::Split;
use crate::funnel::{Count, Funnel, SkippedInput};
use crate::read::Flow;
use crate::{Error, Made, url};
pub use clusters::{Cluster, Clusters};
pub use distribution::{Bin, Distribution};
pub use removals::{Reason, RemovedBy};
use tables::{Place, Unit};
use tally::{Tally, Totals, Wanted};

/// How a survey is made. Only what is shown depends on it, no figure does.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Documents to show: so many of those kept, and of those removed for each reason.
    pub samples: usize,
    /// Which: documents are ordered by a hash of their identity with this seed.
    pub seed: u64,
    /// Most bytes of a document's text that are shown.
    pub excerpt_bytes: usize,
    /// Hosts, clusters and reasons for skipping that are named.
    pub top: usize,
    /// Bytes of memory for counting hosts; beyond, they are counted on the disk.
    pub memory: u64,
    /// A folder for that, which exists.
    pub work: &'a Path,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// When the curation ended, by its account's file.
    pub ended: Option<SystemTime>,
    /// The account of the curation, where it can be read.
    pub funnel: Option<Funnel>,
    /// From what it was made, where that was written.
    pub made: Option<Made>,
    /// Files of documents, and their size on the disk.
    pub files: u64,
    /// See `files`.
    pub file_bytes: u64,
    /// Documents to train on.
    pub train: Count,
    /// Documents that are held out.
    pub held_out: Count,
    /// Characters of all texts.
    pub characters: u64,
    /// Tokens, where a tokenizer has counted them.
    pub tokens: Tokens,
    /// Documents by language.
    pub languages: BTreeMap<String, Count>,
    /// Documents without one: code and data.
    pub no_language: Count,
    /// The hosts that documents come from.
    pub hosts: Hosts,
    /// Bytes of a document's text.
    pub bytes: Distribution,
    /// Characters of a document's text.
    pub length: Distribution,
    /// Columns of numbers by name, such as `lang_score`.
    pub columns: BTreeMap<String, Distribution>,
    /// Clusters of duplicates, where they are recorded.
    pub clusters: Option<Clusters>,
    /// Some of the documents.
    pub kept: Vec<Excerpt>,
    /// What is known of the removed ones, where that was written, by the name of the step.
    pub removed: Option<Vec<RemovedBy>>,
    /// Why inputs were skipped: with how many, and an example. Figures in the reasons are taken for alike.
    pub skipped: Vec<(SkippedInput, u64)>,
    /// What of the folder could not be read.
    pub faults: Faults,
}

/// Tokens of the documents of which a tokenizer has counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Those documents.
    pub documents: u64,
    /// Their tokens.
    pub tokens: u64,
}

/// The hosts that documents come from; `www.` is left off.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hosts {
    /// Different ones.
    pub distinct: u64,
    /// Documents without a web address.
    pub without: Count,
    /// Those with the most documents.
    pub by_documents: Vec<(String, Count)>,
    /// Those with the most text.
    pub by_bytes: Vec<(String, Count)>,
}

/// A document, cut to be shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Excerpt {
    /// Its identity.
    pub id: String,
    /// The beginning of its text.
    pub text: String,
    /// Bytes of the whole text.
    pub bytes: u64,
    /// Where it can be read online.
    pub url: Option<String>,
    /// Which input it came from.
    pub source: String,
    /// Its date as the input gave it.
    pub date: Option<String>,
    /// Its language.
    pub lang: Option<String>,
    /// Its columns of numbers.
    pub numbers: BTreeMap<String, f64>,
    /// Whether it is held out.
    pub held_out: bool,
}

/// Places that could not be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub listed: Vec<Fault>,
}

/// A place that could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The file, and where in it.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

impl Faults {
    /// Faults that are listed.
    const MOST: usize = 100;

    fn add(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.count += 1;
        if self.listed.len() < Self::MOST {
            self.listed.push(Fault { place: place.into(), reason: reason.into() });
        }
    }
}

impl Survey {
    /// Documents and text of all splits.
    pub fn documents(&self) -> Count {
        let mut both = self.train;
        both.merge(self.held_out);
        both
    }
}

/// Reads the folder that [`crate::curate`] wrote. What is damaged or missing is listed in [`Survey::faults`] and left out
/// of the figures: a row group of a Parquet file, a line of the other files.
///
/// # Errors
/// [`Error::NotCurated`] when the folder holds neither an account nor documents, [`Error::Io`] when it or a file cannot be
/// read or the work folder not be written.
pub fn survey(folder: &Path, options: &Options, progress: &dyn Progress) -> Result<Survey, Error> {
    let files = parquet_files(folder)?;
    let account = folder.join("funnel.json");
    if files.is_empty() && !account.is_file() {
        return Err(Error::NotCurated { path: folder.to_path_buf() });
    }
    let mut survey = Survey { files: files.len() as u64, ..Survey::default() };
    survey.read_account(&account);
    survey.read_made(&folder.join("curation.json"));
    survey.read_clusters(folder, options, progress)?;
    let before = survey.faults.count;
    survey.read_documents(folder, &files, options, progress)?;
    if survey.faults.count == before {
        survey.compare();
    }
    survey.read_removed(folder, options, progress)?;
    survey.read_skipped(folder, options, progress)?;
    Ok(survey)
}

fn parquet_files(folder: &Path) -> Result<Vec<(Split, String)>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let name = entry.map_err(Error::io("list", folder))?.file_name().to_string_lossy().into_owned();
        for (order, split) in [Split::Train, Split::HeldOut].into_iter().enumerate() {
            if name.starts_with(&format!("{}-", split.file_stem())) && name.ends_with(".parquet") {
                files.push((order, split, name.clone()));
            }
        }
    }
    files.sort_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)));
    Ok(files.into_iter().map(|(_, split, name)| (split, name)).collect())
}

impl Survey {
    fn read_account(&mut self, path: &Path) {
        match read_json(path) {
            Ok(funnel) => self.funnel = funnel,
            Err(reason) => self.faults.add("funnel.json", reason),
        }
        if self.funnel.is_none() && !path.exists() {
            self.faults.add("funnel.json", "is missing: what each step removed is not known");
        }
        self.ended = path.metadata().and_then(|data| data.modified()).ok();
    }

    /// Folders of earlier versions have none.
    fn read_made(&mut self, path: &Path) {
        match read_json(path) {
            Ok(made) => self.made = made,
            Err(reason) => self.faults.add("curation.json", reason),
        }
    }

    fn read_clusters(
        &mut self,
        folder: &Path,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let name = "clusters.jsonl";
        let path = folder.join(name);
        let Some(bytes) = self.size(&path, name) else { return Ok(()) };
        let task = progress.begin("reading clusters", Some(bytes), Units::Bytes);
        let threads = rayon::current_num_threads();
        self.clusters =
            Some(clusters::read(&path, name, options.top, threads, task.as_ref(), &mut self.faults)?);
        Ok(())
    }

    /// The size of a file that should be there.
    fn size(&mut self, path: &Path, name: &str) -> Option<u64> {
        let size = path.metadata().map(|data| data.len());
        if let Err(error) = &size {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            self.faults.add(
                name,
                if missing { "is missing".to_string() } else { format!("cannot be read: {error}") },
            );
        }
        size.ok()
    }

    fn read_documents(
        &mut self,
        folder: &Path,
        files: &[(Split, String)],
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        for (_, name) in files {
            self.file_bytes += folder.join(name).metadata().map_or(0, |data| data.len());
        }
        let (units, unopened) = tables::units(folder, files);
        unopened.into_iter().for_each(|fault| self.faults.add(fault.place, fault.reason));
        if files.is_empty() {
            self.faults.add("train-00000.parquet", "is missing: there are no documents");
        }
        let largest = self.clusters.iter().flat_map(|clusters| &clusters.largest);
        let ids: BTreeSet<String> = largest.map(|cluster| cluster.id.clone()).collect();
        let wanted = Wanted { samples: options.samples, seed: options.seed, ids };
        let mut totals = Totals::new(&wanted);
        let mut hosts = hosts::Whole::new(options.work, options.memory);
        {
            let bytes = units.iter().map(|unit| unit.bytes).sum();
            let task = progress.begin("reading documents", Some(bytes), Units::Bytes);
            let feed = |feed: &mut pipeline::Feed<u32>| {
                for number in 0..units.len() as u32 {
                    if feed.send(number) == Flow::Break(()) {
                        break;
                    }
                }
            };
            let work = |number: u32| (number, Tally::of(&units[number as usize], &wanted));
            let threads = rayon::current_num_threads();
            pipeline::ordered(threads, threads * 2, feed, work, |(number, tally)| {
                let unit = &units[number as usize];
                task.advance(unit.bytes);
                match tally {
                    Ok(tally) => hosts.take(number, totals.take(number, unit, tally))?,
                    Err(fault) => self.faults.add(fault.place, fault.reason),
                }
                Ok(())
            })?;
        }
        let ranked = hosts.rank(options.top)?;
        let samples = totals.samples();
        let found = std::mem::take(&mut totals.found);
        let named = || ranked.by_documents.iter().chain(&ranked.by_bytes).map(|(_, place)| *place);
        let places: BTreeSet<Place> =
            samples.iter().copied().chain(found.values().copied()).chain(named()).collect();
        let excerpts = pick(&units, &places, options.excerpt_bytes);

        self.kept = samples.iter().filter_map(|place| excerpts.get(place).cloned()).collect();
        for cluster in self.clusters.iter_mut().flat_map(|clusters| &mut clusters.largest) {
            cluster.document = found.get(&cluster.id).and_then(|place| excerpts.get(place).cloned());
        }
        let name = |(count, place): &(Count, Place)| {
            let host = url::host(excerpts.get(place)?.url.as_deref()?)?;
            Some((host, *count))
        };
        self.hosts = Hosts {
            distinct: ranked.distinct,
            without: ranked.without,
            by_documents: ranked.by_documents.iter().filter_map(name).collect(),
            by_bytes: ranked.by_bytes.iter().filter_map(name).collect(),
        };
        (self.train, self.held_out) = (totals.train, totals.held_out);
        let counted = totals.counted;
        (self.characters, self.tokens) = (counted.characters, counted.tokens);
        (self.languages, self.no_language) = (counted.languages, counted.no_language);
        (self.bytes, self.length, self.columns) = (counted.bytes, counted.length, counted.columns);
        Ok(())
    }

    fn read_removed(
        &mut self,
        folder: &Path,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let Some(files) = removals::files(&folder.join("removed"))? else {
            let removed = |funnel: &Funnel| funnel.steps.iter().any(|step| !step.removed.is_empty());
            if self.funnel.as_ref().is_some_and(removed) {
                self.faults
                    .add("removed/", "is missing: of what was removed only a few beginnings are known");
            }
            return Ok(());
        };
        let bytes = files.iter().map(|file| file.bytes).sum();
        let task = progress.begin("reading removed documents", Some(bytes), Units::Bytes);
        let Options { samples: most, seed, excerpt_bytes, .. } = *options;
        let sampling = removals::Sampling { most, seed, excerpt_bytes };
        let threads = rayon::current_num_threads();
        let mut removed = Vec::new();
        for removals::StepFile { step, path, .. } in files {
            removed.push(removals::read(step, &path, &sampling, threads, task.as_ref(), &mut self.faults)?);
        }
        self.removed = Some(removed);
        Ok(())
    }

    fn read_skipped(
        &mut self,
        folder: &Path,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let name = "skipped.jsonl";
        let path = folder.join(name);
        let Some(bytes) = self.size(&path, name) else { return Ok(()) };
        let task = progress.begin("reading skipped inputs", Some(bytes), Units::Bytes);
        let mut reasons: BTreeMap<String, (SkippedInput, u64)> = BTreeMap::new();
        let faults = &mut self.faults;
        let threads = rayon::current_num_threads();
        lines::each(
            &path,
            threads,
            task.as_ref(),
            |input: SkippedInput| input,
            |line| {
                match line {
                    Ok(input) => {
                        let alike = without_figures(&input.reason);
                        if reasons.len() < 1000 || reasons.contains_key(&alike) {
                            reasons.entry(alike).or_insert((input, 0)).1 += 1;
                        }
                    }
                    Err((number, reason)) => faults.add(format!("{name}: line {number}"), reason),
                }
                Ok(())
            },
        )?;
        self.skipped = reasons.into_values().collect();
        self.skipped.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        self.skipped.truncate(options.top);
        Ok(())
    }

    /// Whether the account says the same as the documents, all of which could be read.
    fn compare(&mut self) {
        let Some(funnel) = &self.funnel else { return };
        let counted = (funnel.train, funnel.held_out);
        if counted != (self.train, self.held_out) {
            let documents = counted.0.documents + counted.1.documents;
            let found = self.documents().documents;
            let reason =
                format!("counts {documents} documents, where the files hold {found} of them or other texts");
            self.faults.add("funnel.json", reason);
        }
    }
}

/// A file of JSON; nothing where there is none.
fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map(Some).map_err(|error| format!("is not as expected: {error}"))
        }
    }
}

/// These rows, cut to be shown; what can no longer be read is left out.
fn pick(units: &[Unit], places: &BTreeSet<Place>, most: usize) -> BTreeMap<Place, Excerpt> {
    let mut by_unit: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for place in places {
        by_unit.entry(place.unit).or_default().insert(place.row);
    }
    let picked: Vec<Vec<(Place, Excerpt)>> = by_unit
        .into_par_iter()
        .map(|(number, rows)| {
            let mut picked = Vec::new();
            let unit = &units[number as usize];
            // It was read before; a fault now means that somebody is changing the folder.
            let _ = unit.pick(&rows, |columns, index, row| {
                picked.push((Place { unit: number, row }, excerpt(unit, columns, index, most)));
            });
            picked
        })
        .collect();
    picked.into_iter().flatten().collect()
}

fn excerpt(unit: &Unit, columns: &tables::Columns, index: usize, most: usize) -> Excerpt {
    let text = columns.text(index);
    let numbers = columns.numbers.iter();
    Excerpt {
        id: columns.id(index).unwrap_or_default().to_string(),
        text: text[..text.floor_char_boundary(most)].to_string(),
        bytes: text.len() as u64,
        url: columns.url(index).map(str::to_string),
        source: columns.source(index).unwrap_or_default().to_string(),
        date: columns.date(index).map(str::to_string),
        lang: columns.lang(index).map(str::to_string),
        numbers: numbers.filter_map(|(name, values)| Some((name.clone(), values[index]?))).collect(),
        held_out: unit.split == Split::HeldOut,
    }
}

/// A reason in which each figure is a `#`, by which reasons are counted together.
fn without_figures(reason: &str) -> String {
    let mut alike = String::with_capacity(reason.len());
    for character in reason.chars() {
        let figure = character.is_ascii_digit();
        if !(figure && alike.ends_with('#')) {
            alike.push(if figure { '#' } else { character });
        }
    }
    alike
}
