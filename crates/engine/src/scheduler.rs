//! The thread that owns the pages: which sequences run, what each step reads, and what becomes of the scores.
//!
//! A step reads one token of each sequence that is answering, and up to `prefill_chunk` tokens of prompts, oldest first.
//! Requests start in the order of their arrival: one that needs much room is waited for, not passed. A prompt that begins
//! as an older one that is still being read waits for the pages that they have in common.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::slice::ChunksExactMut;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use rayon::prelude::*;
use tokenizer::Tokenizer;

use crate::engine::Counters;
use crate::pages::Pages;
use crate::sampling::{Choice, Fault};
use crate::sequence::{Sequence, Submission, reads_all};
use crate::speculation::Drafter;
use crate::{Event, FinishReason, Forward, Segment, Settings, Timing, Usage, Wanted};

pub(crate) enum Command {
    Submit(Box<Submission>),
    /// No request can name the adapter of this number any more.
    Forget(u64),
    Finish,
    Abort,
}

pub(crate) struct Scheduler<F: Forward> {
    model: Arc<F>,
    tokenizer: Tokenizer,
    settings: Settings,
    context: usize,
    commands: Receiver<Command>,
    counters: Arc<Counters>,
    waiting: VecDeque<Box<Submission>>,
    running: Vec<Sequence>,
    /// No more requests will come.
    closing: bool,
    pages: Pages,
    memory: F::Pages,
    scratch: F::Scratch,
    drafter: Drafter<F>,
}

impl<F: Forward> Scheduler<F> {
    pub(crate) fn new(
        model: Arc<F>,
        tokenizer: Tokenizer,
        settings: Settings,
        (context, pages): (usize, Pages),
        drafter: Drafter<F>,
        commands: Receiver<Command>,
        counters: Arc<Counters>,
    ) -> Self {
        let scratch = model.scratch();
        let memory = model.pages(pages.count(), settings.kv_cache);
        Scheduler {
            model,
            tokenizer,
            settings,
            context,
            commands,
            counters,
            waiting: VecDeque::new(),
            running: Vec::new(),
            closing: false,
            pages,
            memory,
            scratch,
            drafter,
        }
    }

    /// Works until it is told to end, or until no handle is left.
    pub(crate) fn run(mut self) {
        while self.take_commands() {
            self.drop_abandoned();
            self.admit();
            // In rayon's pool, so that the many short operations of a step need not wake it one by one.
            rayon::scope(|_| self.step());
        }
    }

    /// Takes what has come; waits for something when there is nothing to do. False: all is done.
    fn take_commands(&mut self) -> bool {
        loop {
            let idle = self.running.is_empty() && self.waiting.is_empty();
            let command = if idle && !self.closing {
                self.commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.commands.try_recv()
            };
            match command {
                Ok(Command::Submit(submission)) => self.waiting.push_back(submission),
                Ok(Command::Forget(adapter)) => {
                    self.pages.forget(adapter);
                    self.publish();
                }
                Ok(Command::Finish) => self.closing = true,
                Ok(Command::Abort) => {
                    self.cancel_all();
                    self.closing = true;
                }
                Err(TryRecvError::Empty) => return !(idle && self.closing),
                Err(TryRecvError::Disconnected) => {
                    self.closing = true;
                    return !idle;
                }
            }
        }
    }

    fn cancel_all(&mut self) {
        for sequence in &mut self.running {
            sequence.finish(FinishReason::Cancelled, None);
        }
        self.retire(|sequence| sequence.done);
        for mut submission in std::mem::take(&mut self.waiting) {
            let usage = Usage { prompt_tokens: submission.request.prompt.len(), ..Usage::default() };
            let timing = Timing { queued: submission.submitted.elapsed(), ..Timing::default() };
            submission.sink.send(Event::Done {
                reason: FinishReason::Cancelled,
                stopped_by: None,
                usage,
                timing,
            });
            count_end(&self.counters, None);
        }
    }

    /// Forgets requests that nobody waits for any more.
    fn drop_abandoned(&mut self) {
        let counters = &self.counters;
        self.waiting.retain(|submission| {
            let keep = !submission.sink.is_closed();
            if !keep {
                count_end(counters, None);
            }
            keep
        });
        self.retire(|sequence| sequence.sink.is_closed());
    }

    /// Takes sequences that have ended out of the batch.
    fn retire(&mut self, ended: impl Fn(&Sequence) -> bool) {
        for sequence in self.running.extract_if(.., |sequence| ended(sequence)) {
            count_end(&self.counters, Some(&sequence));
            self.pages.release(sequence.table);
            self.drafter.release(sequence.follower);
            if let Some(adapter) = sequence.adapter.filter(|adapter| adapter.is_unloaded()) {
                self.pages.forget(adapter.number);
            }
        }
        self.publish();
    }

    fn publish(&self) {
        self.counters.running.store(self.running.len(), Ordering::Relaxed);
        self.counters.cache_tokens.store(self.pages.reserved_tokens(), Ordering::Relaxed);
        self.counters.kept_tokens.store(self.pages.kept_tokens(), Ordering::Relaxed);
    }

    /// Starts waiting requests while there is room.
    fn admit(&mut self) {
        while self.running.len() < self.settings.max_sequences {
            let Some(next) = self.waiting.front() else { break };
            let prompt = &next.request.prompt;
            let most = next.request.max_tokens.unwrap_or(usize::MAX).min(self.context - prompt.len());
            let most = if next.request.embedding.is_some() { 0 } else { most };
            // The last token that is generated is never read.
            let known = if reads_all(&next.request) { &[] } else { &prompt[..] };
            let adapter = next.adapter.as_ref().map(|adapter| adapter.number);
            let Some(table) = self.pages.admit(adapter, known, prompt.len() + most.max(1) - 1) else { break };
            let Some(submission) = self.waiting.pop_front() else { break };
            let mut sequence = Sequence::new(*submission, &self.tokenizer, table, most);
            sequence.skip_known(&self.pages, &self.counters);
            self.drafter.follow(&mut sequence);
            self.running.push(sequence);
        }
        self.publish();
    }

    /// One call of the model, and what follows from it.
    fn step(&mut self) {
        // What a constraint forces is read at once, as a prompt is: a pass for each token would change nothing.
        let mut rows = self.scored_rows();
        for sequence in self.running.iter_mut().filter(|sequence| sequence.answering()) {
            sequence.force(rows.min(sequence.room()));
            rows -= sequence.draft.len();
        }
        // What cannot be guessed is answered without: a draft model that fails is no reason to fail.
        if self.drafter.draft(&mut self.running, self.settings.max_draft_tokens).is_err() {
            let guesses = self.running.iter_mut().filter(|sequence| !sequence.forced);
            guesses.for_each(|sequence| sequence.draft.clear());
        }
        let stepped = self.plan();
        if stepped.is_empty() {
            return;
        }
        let inputs: Vec<Cow<[u32]>> = stepped.iter().map(|stepped| stepped.input(&self.running)).collect();
        let segments: Vec<Segment> = (stepped.iter().zip(&inputs))
            .map(|(&Stepped { index, wanted, .. }, tokens)| {
                let Sequence { read, table, adapter, .. } = &self.running[index];
                let adapter = adapter.as_ref().map(|adapter| &adapter.adapter);
                Segment { tokens, first: *read, pages: &table.pages, wanted, adapter }
            })
            .collect();
        match self.model.forward(&mut self.memory, &segments, &mut self.scratch) {
            Err(error) => {
                stepped.iter().for_each(|stepped| self.running[stepped.index].fail(error.clone()));
            }
            Ok(outputs) => {
                let (vocab_size, known) = (self.model.vocab_size(), self.tokenizer.vocab_size());
                let shown: usize = stepped.iter().map(|stepped| stepped.rows().1).sum();
                let width = outputs.hidden.len().checked_div(shown).unwrap_or(0);
                let (mut logits, mut hidden) = (outputs.logits, &*outputs.hidden);
                let mut due = Vec::new();
                for stepped in &stepped {
                    let &Stepped { index, count, last, .. } = stepped;
                    let (rows, shown) = stepped.rows();
                    let sequence = &mut self.running[index];
                    if !sequence.answering() {
                        self.counters.prompt_tokens.fetch_add(count as u64, Ordering::Relaxed);
                    }
                    // Of guesses it is not known yet whether they stay.
                    sequence.read += count - sequence.draft.len();
                    self.pages.learn(&mut sequence.table, &sequence.tokens[..sequence.read]);
                    let own;
                    (own, logits) = logits.split_at_mut(rows * vocab_size);
                    sequence.score_prompt(own, count, (vocab_size, known));
                    let states;
                    (states, hidden) = hidden.split_at(shown * width);
                    if let Some(pooled) = &mut sequence.pooled {
                        pooled.add(states, width);
                    }
                    if last && !sequence.done && sequence.begin() {
                        // A model may score more tokens than there are, for the sake of its shapes.
                        let first = (rows - 1 - sequence.draft.len()) * vocab_size;
                        due.push((index, own[first..].chunks_exact_mut(vocab_size)));
                    }
                }
                for (index, choices) in choose(&mut self.running, due, known) {
                    let sequence = &mut self.running[index];
                    sequence.take(&self.tokenizer, choices, &self.counters);
                    self.pages.learn(&mut sequence.table, &sequence.tokens[..sequence.read]);
                }
            }
        }
        self.retire(|sequence| sequence.done);
    }

    /// Rows of scores that a step may hold beside one for each sequence.
    fn scored_rows(&self) -> usize {
        (SCORED_BYTES / size_of::<f32>() / self.model.vocab_size()).max(1)
    }

    /// Which sequences the next call reads, and how much of them; there is room in their pages.
    fn plan(&mut self) -> Vec<Stepped> {
        let mut budget = self.settings.prefill_chunk;
        let mut rows_left = self.scored_rows();
        let mut stepped = Vec::with_capacity(self.running.len());
        for index in 0..self.running.len() {
            let (older, rest) = self.running.split_at_mut(index);
            let sequence = &mut rest[0];
            let answering = sequence.answering();
            let scored = sequence.prompt.is_some() && !answering && sequence.pooled.is_none();
            if !answering && !reads_all(&sequence.request) {
                let Sequence { table, tokens, prompt_tokens, .. } = sequence;
                self.pages.adopt(table, &tokens[..*prompt_tokens]);
                sequence.skip_known(&self.pages, &self.counters);
                let page = self.model.page_tokens();
                if older.iter().any(|older| sequence.waits_for(older, page)) {
                    continue;
                }
            }
            let unread = sequence.tokens.len() - sequence.read;
            let bound = if scored { budget.min(rows_left) } else { budget };
            let count = if answering { 1 + sequence.draft.len() } else { unread.min(bound) };
            if count == 0 {
                continue;
            }
            if !answering {
                budget -= count;
                sequence.started.get_or_insert_with(Instant::now);
            }
            self.pages.make_room(&mut sequence.table, sequence.read + count);
            let last = answering || count == unread;
            rows_left -= if scored { count } else { 0 };
            let wanted = match (&sequence.pooled, scored) {
                (Some(_), _) => Wanted::Hidden,
                (None, true) => Wanted::Logits(count),
                (None, false) => Wanted::Logits(if last { 1 + sequence.draft.len() } else { 0 }),
            };
            stepped.push(Stepped { index, count, wanted, last });
        }
        stepped
    }
}

/// A sequence's part in a step.
struct Stepped {
    /// Its place in the batch.
    index: usize,
    /// Tokens that are read.
    count: usize,
    wanted: Wanted,
    /// They are its last: the next token can be chosen.
    last: bool,
}

impl Stepped {
    /// The tokens that are read; guesses follow the sequence's own last one.
    fn input<'a>(&self, running: &'a [Sequence]) -> Cow<'a, [u32]> {
        let Sequence { tokens, read, draft, .. } = &running[self.index];
        if draft.is_empty() {
            return Cow::Borrowed(&tokens[*read..*read + self.count]);
        }
        Cow::Owned([&tokens[*read..], draft].concat())
    }

    /// Rows of logits and of hidden states.
    fn rows(&self) -> (usize, usize) {
        self.wanted.rows(self.count)
    }
}

/// Chooses for each sequence that is due, in rising order, the token that follows its last one, from the first of its rows
/// of scores, and as long as that is the guess, the one that follows this. All choose at once: each has its own random
/// numbers.
fn choose(
    running: &mut [Sequence],
    due: Vec<(usize, ChunksExactMut<f32>)>,
    vocab_size: usize,
) -> Vec<(usize, Vec<Result<Choice, Fault>>)> {
    let mut due = due.into_iter().peekable();
    let mut choosing = Vec::with_capacity(due.len());
    for (index, sequence) in running.iter_mut().enumerate() {
        if let Some((_, rows)) = due.next_if(|(next, _)| *next == index) {
            choosing.push((index, &mut sequence.sampler, rows, &sequence.draft));
        }
    }
    let each = choosing.into_par_iter().map(|(index, sampler, rows, draft)| {
        let mut choices = Vec::with_capacity(1);
        for (place, row) in rows.enumerate() {
            // A model may score more tokens than there are, for the sake of its shapes.
            let choice = sampler.choose(&mut row[..vocab_size]);
            let goes_on =
                matches!(&choice, Ok(choice) if !choice.complete && draft.get(place) == Some(&choice.id));
            choices.push(choice);
            if !goes_on {
                break;
            }
        }
        (index, choices)
    });
    each.collect()
}

/// Most scores of prompts that a step may hold, of all sequences together; and most of forced tokens.
const SCORED_BYTES: usize = 64 << 20;

/// A request has ended; `sequence` is what it was, if it ever ran.
fn count_end(counters: &Counters, sequence: Option<&Sequence>) {
    counters.finished.fetch_add(1, Ordering::Relaxed);
    counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    if let Some(sequence) = sequence {
        let seconds = sequence.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        let mean = f64::from_bits(counters.mean_seconds.load(Ordering::Relaxed));
        // One in eight: recent enough to follow a change of load, calm enough to be told to a client.
        let mean = if mean == 0.0 { seconds } else { mean + (seconds - mean) / 8.0 };
        counters.mean_seconds.store(mean.to_bits(), Ordering::Relaxed);
    }
}
