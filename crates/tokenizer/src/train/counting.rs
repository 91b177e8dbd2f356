//! Counting the pieces of a stream of texts of any length in bounded memory. The caller pushes texts; threads cut them
//! into pieces and count these in tables of their own; when the tables are full, or after so much text, all of them
//! become sorted runs in a work folder. Sums do not depend on where the texts were cut, so neither threads, memory nor
//! a kill in between change what comes out.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ledger::digest::Digest;
use rustc_hash::FxHashMap;

use super::run::{self, Merge, Run, Stream};
use super::table::{Budget, Full, Sorted, Table};
use super::work::{Begun, Group, LeftOut, Position, Work, open_all};
use crate::error::Error;
use crate::split::{pieces, stretches};

/// Text that a thread is given at once, where the memory allows it.
const BATCH_BYTES: u64 = 1 << 20;
/// Most groups, lest made-up names of languages use up all memory.
const MAX_GROUPS: usize = 4096;

/// Tells the language of a text.
pub type Detect = fn(&str) -> Option<&'static str>;

/// How counting goes about its work; nothing of this changes what is counted.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of memory that may be used in all; three quarters of it are the tables'.
    pub memory: u64,
    /// Threads that count, beside the caller's.
    pub threads: usize,
    /// Bytes of text after which everything counted is put on the disk.
    pub checkpoint_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            memory: 4_000_000_000,
            threads: rayon::current_num_threads(),
            checkpoint_bytes: 4_000_000_000,
        }
    }
}

/// The language of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language<'a> {
    /// It has none, as source code has.
    None,
    /// As the text's source has it.
    Known(&'a str),
    /// To be detected.
    Unknown,
}

/// Counting at work.
pub struct Counting {
    options: Options,
    /// Where languages are told apart: what detects them.
    detect: Option<Detect>,
    work: Option<Work>,
    groups: Groups,
    /// Up to here everything was pushed.
    position: Position,
    left_out: LeftOut,
    batch: Batch,
    since_checkpoint: u64,
    round: Option<Round>,
    /// Without a work folder: what the threads hold at the end.
    tables: Vec<(u16, Sorted)>,
}

/// What was counted.
pub struct Counts {
    work: Option<Work>,
    tables: Vec<(u16, Sorted)>,
    groups: Vec<Group>,
    left_out: LeftOut,
}

impl Counting {
    /// Counts within memory alone, as much as it takes. Texts are not told apart by language.
    pub fn in_memory() -> Counting {
        Counting::new(
            Options { memory: u64::MAX, checkpoint_bytes: u64::MAX, ..Options::default() },
            None,
            None,
        )
    }

    /// Counts into the folder `work`, and goes on at [`Counting::position`] if something was counted there before. What
    /// was counted is kept where `fingerprint` is the same: it must differ wherever the texts, their order or their
    /// sources' numbers do. Languages are told apart, and detected where unknown, if `detect` is given.
    ///
    /// Errors when the folder cannot be used, or another process uses it.
    pub fn open(
        work: &Path,
        fingerprint: &Digest,
        options: Options,
        detect: Option<Detect>,
    ) -> Result<(Counting, Begun), Error> {
        // The version of the pieces, which differ wherever the scanner does.
        let fingerprint = (fingerprint.as_str(), crate::split::PATTERN, detect.is_some(), "pieces 1");
        let (work, begun) = Work::open(work, &Digest::of_value(&fingerprint)?)?;
        Ok((Counting::new(options, detect, Some(work)), begun))
    }

    fn new(options: Options, detect: Option<Detect>, work: Option<Work>) -> Counting {
        let options = Options { threads: options.threads.max(1), ..options };
        let journal = work.as_ref().map(|work| &work.journal);
        Counting {
            options,
            detect,
            groups: Groups::new(journal.map(|journal| journal.groups.clone()).unwrap_or_default()),
            position: journal.map(|journal| journal.position).unwrap_or_default(),
            left_out: journal.map(|journal| journal.left_out.clone()).unwrap_or_default(),
            batch: Batch::default(),
            since_checkpoint: 0,
            round: None,
            tables: Vec::new(),
            work,
        }
    }

    /// Where the next text is to come from.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether all texts were counted before.
    pub fn is_complete(&self) -> bool {
        self.work.as_ref().is_some_and(|work| work.journal.complete)
    }

    /// Counts a text of the source of this number, after which the stream is at `position`.
    ///
    /// Errors when runs cannot be written; nothing can be pushed after that.
    pub fn push(
        &mut self,
        text: &str,
        source: u16,
        language: Language<'_>,
        position: Position,
    ) -> Result<(), Error> {
        let group = match (self.detect, language) {
            (None, _) | (_, Language::None) => Some(self.groups.named(source, None)?),
            (_, Language::Known(name)) => Some(self.groups.named(source, Some(name))?),
            (_, Language::Unknown) => None,
        };
        self.batch.text.push_str(text);
        self.batch.parts.push(Part { end: self.batch.text.len(), source, group });
        self.position = position;
        self.since_checkpoint += text.len() as u64;
        let batch_bytes = self.options.memory / (32 * self.options.threads as u64);
        if self.batch.text.len() as u64 >= batch_bytes.clamp(1, BATCH_BYTES) {
            self.send()?;
        }
        let full = self.round.as_ref().is_some_and(|round| round.shared.ends.load(Ordering::Relaxed));
        if full || self.since_checkpoint >= self.options.checkpoint_bytes {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Passes over something that is no text, or cannot be read: its place and why.
    pub fn leave_out(&mut self, place: &str, reason: &str) {
        self.left_out.count += 1;
        self.left_out.first.get_or_insert_with(|| format!("{place}: {reason}"));
    }

    /// The stream is at `position` without another text.
    pub fn pass_to(&mut self, position: Position) {
        self.position = position;
    }

    fn send(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        if batch.parts.is_empty() {
            return Ok(());
        }
        if self.round.is_none() {
            self.round = Some(self.begin()?);
        }
        let sent = self.round.as_ref().and_then(|round| Some(round.sender.as_ref()?.send(batch)));
        // All threads have ended, of themselves: why, they say when they are joined.
        if matches!(sent, Some(Err(_))) { self.end_round() } else { Ok(()) }
    }

    fn begin(&mut self) -> Result<Round, Error> {
        let threads = self.options.threads;
        let (sender, receiver) = sync_channel(threads + 1);
        let shared = Arc::new(Shared {
            batches: Mutex::new(receiver),
            groups: Arc::clone(&self.groups.known),
            detect: self.detect,
            ends: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            spill: match &mut self.work {
                None => None,
                Some(work) => {
                    // Names beyond those that the journal knows: the runs become known when it is written.
                    let first = work.name();
                    Some(Spill { folder: work.folder().to_owned(), stem: first, next: AtomicU64::new(0) })
                }
            },
        });
        let limit = match &self.work {
            None => usize::MAX,
            Some(_) => (self.options.memory / 4 * 3 / threads as u64) as usize,
        };
        let threads = (0..threads).map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let counted = Worker::new(&shared, limit).run();
                if counted.is_err() {
                    shared.ends.store(true, Ordering::Relaxed);
                }
                counted
            })
        });
        Ok(Round { sender: Some(sender), threads: threads.collect(), shared: Arc::clone(&shared) })
    }

    /// Waits for the threads, and takes what they have.
    fn end_round(&mut self) -> Result<(), Error> {
        let Some(mut round) = self.round.take() else { return Ok(()) };
        round.sender = None;
        // All are waited for before any error ends this: none goes on in the dark.
        let ended: Vec<_> = round.threads.drain(..).map(JoinHandle::join).collect();
        for counted in ended {
            let counted = counted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            self.groups.add(&counted.totals);
            self.tables.extend(counted.tables);
            if let Some(work) = &mut self.work {
                work.journal.runs.extend(counted.runs);
            }
        }
        Ok(())
    }

    /// Puts everything that was pushed on the disk, where there is a work folder.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.send()?;
        self.since_checkpoint = 0;
        if self.work.is_none() {
            return Ok(());
        }
        self.end_round()?;
        self.commit(false)
    }

    fn commit(&mut self, complete: bool) -> Result<(), Error> {
        let Some(work) = &mut self.work else { return Ok(()) };
        work.journal.position = self.position;
        work.journal.complete = complete;
        work.journal.groups = self.groups.list();
        work.journal.left_out = self.left_out.clone();
        work.commit()
    }

    /// Ends the stream: there are no more texts.
    pub fn finish(mut self) -> Result<Counts, Error> {
        if !self.is_complete() {
            self.send()?;
            self.end_round()?;
            self.commit(true)?;
        }
        let Counting { work, groups, tables, left_out, .. } = self;
        Ok(Counts { work, tables, groups: groups.list(), left_out })
    }
}

impl Counts {
    /// The groups of texts.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// What was left out.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Removes the work folder, once nobody needs it any more.
    pub fn remove(self) -> Result<(), Error> {
        self.work.map_or(Ok(()), Work::remove)
    }

    /// An upper bound of how many different pieces there are, and of their bytes.
    pub(super) fn at_most(&self) -> (u64, u64) {
        let runs = self.work.iter().flat_map(|work| &work.journal.runs);
        let runs = runs.map(|run| (run.pieces, run.piece_bytes));
        let tables = self.tables.iter().map(|(_, sorted)| (sorted.len() as u64, sorted.bytes()));
        runs.chain(tables).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// All pieces in ascending order, each once.
    pub(super) fn merge(&self) -> Result<Merge<'_>, Error> {
        let mut streams: Vec<Stream> =
            self.tables.iter().map(|(group, sorted)| Stream::memory(*group, sorted)).collect();
        if let Some(work) = &self.work {
            streams.extend(open_all(work.folder(), &work.journal.runs)?);
        }
        Merge::new(streams)
    }
}

/// Texts for a thread, one after another.
#[derive(Default)]
struct Batch {
    text: String,
    parts: Vec<Part>,
}

struct Part {
    end: usize,
    source: u16,
    /// None where the language is yet to be detected.
    group: Option<u16>,
}

/// Threads between two checkpoints. Dropped, it ends them without their having written what they hold.
struct Round {
    /// None once there is nothing more to count.
    sender: Option<SyncSender<Batch>>,
    threads: Vec<JoinHandle<Result<Counted, Error>>>,
    shared: Arc<Shared>,
}

impl Drop for Round {
    fn drop(&mut self) {
        self.shared.is_abandoned.store(true, Ordering::Relaxed);
        self.sender = None;
        for thread in self.threads.drain(..) {
            // What it has is of no use any more, and neither is its failure.
            let _ = thread.join();
        }
    }
}

struct Shared {
    batches: Mutex<Receiver<Batch>>,
    groups: Arc<Mutex<KnownGroups>>,
    detect: Option<Detect>,
    /// Set when a thread had to write its table, or failed: the round should end soon.
    ends: AtomicBool,
    /// Set when nobody wants what was counted.
    is_abandoned: AtomicBool,
    spill: Option<Spill>,
}

/// Where the runs of a round go.
struct Spill {
    folder: std::path::PathBuf,
    stem: String,
    next: AtomicU64,
}

/// What a thread brings back.
struct Counted {
    runs: Vec<Run>,
    tables: Vec<(u16, Sorted)>,
    totals: Vec<(u64, u64)>,
}

struct Worker<'a> {
    shared: &'a Shared,
    budget: Budget,
    /// By group.
    tables: Vec<Table>,
    runs: Vec<Run>,
    totals: Vec<(u64, u64)>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, limit: usize) -> Worker<'a> {
        let budget = Budget { limit, used: 0 };
        Worker { shared, budget, tables: Vec::new(), runs: Vec::new(), totals: Vec::new() }
    }

    fn run(mut self) -> Result<Counted, Error> {
        loop {
            let batch = self.shared.batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(batch) = batch else { break };
            if self.shared.is_abandoned.load(Ordering::Relaxed) {
                return Ok(Counted { runs: Vec::new(), tables: Vec::new(), totals: Vec::new() });
            }
            self.count(&batch)?;
        }
        let mut tables = Vec::new();
        match &self.shared.spill {
            Some(_) if self.shared.is_abandoned.load(Ordering::Relaxed) => {}
            Some(_) => self.spill()?,
            None => tables = self.take_sorted(),
        }
        Ok(Counted { runs: self.runs, tables, totals: self.totals })
    }

    fn count(&mut self, batch: &Batch) -> Result<(), Error> {
        let mut start = 0;
        for part in &batch.parts {
            let text = &batch.text[start..part.end];
            let group = part.group.unwrap_or_else(|| {
                let language = self.shared.detect.and_then(|detect| detect(text));
                let mut groups = self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner);
                groups.detected(part.source, language)
            });
            let group = usize::from(group);
            if self.tables.len() <= group {
                self.tables.resize_with(group + 1, Table::default);
                self.totals.resize(group + 1, (0, 0));
            }
            self.totals[group].0 += 1;
            self.totals[group].1 += text.len() as u64;
            let mut at = start;
            for stretch in stretches(text).flatten() {
                for piece in pieces(stretch) {
                    let place = (batch.text.as_bytes(), at, piece.len());
                    at += piece.len();
                    if let Err(Full) = self.tables[group].add(place, 1, &mut self.budget) {
                        self.spill()?;
                        self.shared.ends.store(true, Ordering::Relaxed);
                        self.tables.resize_with(group + 1, Table::default);
                        // Into an empty table anything can be counted.
                        let _ = self.tables[group].add(place, 1, &mut self.budget);
                    }
                }
            }
            start = part.end;
        }
        Ok(())
    }

    fn take_sorted(&mut self) -> Vec<(u16, Sorted)> {
        self.budget.used = 0;
        let tables = std::mem::take(&mut self.tables).into_iter().enumerate();
        let sorted = tables.map(|(group, table)| (group as u16, table.into_sorted()));
        sorted.filter(|(_, sorted)| sorted.len() > 0).collect()
    }

    /// Writes all tables as one run, and empties them.
    fn spill(&mut self) -> Result<(), Error> {
        let Some(spill) = &self.shared.spill else { return Ok(()) };
        let sorted = self.take_sorted();
        if sorted.is_empty() {
            return Ok(());
        }
        let number = spill.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}.counts", spill.stem.trim_end_matches(".counts"));
        let streams: Vec<_> = sorted.iter().map(|(group, sorted)| Stream::memory(*group, sorted)).collect();
        self.runs.push(run::write(streams, &spill.folder, name, 0)?);
        Ok(())
    }
}

/// The groups and their numbers, in the order in which they were first seen, and what is in them.
struct Groups {
    known: Arc<Mutex<KnownGroups>>,
    /// Texts and bytes of each, as of the last end of a round.
    totals: Vec<(u64, u64)>,
    /// The group of the last text: most follow others of their kind.
    last: Option<(u16, Option<String>, u16)>,
}

#[derive(Default)]
struct KnownGroups {
    names: Vec<(u16, Option<String>)>,
    numbers: FxHashMap<(u16, Option<String>), u16>,
}

impl KnownGroups {
    fn number(&mut self, key: (u16, Option<String>)) -> u16 {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = self.names.len() as u16;
        self.names.push(key.clone());
        self.numbers.insert(key, number);
        number
    }

    /// Detected languages are few.
    fn detected(&mut self, source: u16, language: Option<&str>) -> u16 {
        self.number((source, language.map(str::to_owned)))
    }
}

impl Groups {
    fn new(groups: Vec<Group>) -> Groups {
        let mut known = KnownGroups::default();
        let mut totals = Vec::new();
        for group in groups {
            known.number((group.source, group.language));
            totals.push((group.texts, group.bytes));
        }
        Groups { known: Arc::new(Mutex::new(known)), totals, last: None }
    }

    /// The number of a group whose language is known.
    fn named(&mut self, source: u16, language: Option<&str>) -> Result<u16, Error> {
        if let Some((of, known, number)) = &self.last
            && *of == source
            && known.as_deref() == language
        {
            return Ok(*number);
        }
        let mut groups = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let language = language.map(str::to_owned);
        let number = groups.number((source, language.clone()));
        if groups.names.len() > MAX_GROUPS {
            let fault = format!(
                "the texts are of more than {MAX_GROUPS} languages and sources, which are weighed each"
            );
            return Err(Error::Settings { faults: vec![fault] });
        }
        drop(groups);
        self.last = Some((source, language, number));
        Ok(number)
    }

    fn add(&mut self, totals: &[(u64, u64)]) {
        self.totals.resize(self.totals.len().max(totals.len()), (0, 0));
        for (total, more) in self.totals.iter_mut().zip(totals) {
            *total = (total.0 + more.0, total.1 + more.1);
        }
    }

    fn list(&self) -> Vec<Group> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let totals = self.totals.iter().copied().chain(std::iter::repeat((0, 0)));
        let groups = known.names.iter().zip(totals);
        groups
            .map(|((source, language), (texts, bytes))| Group {
                source: *source,
                language: language.clone(),
                texts,
                bytes,
            })
            .collect()
    }
}
