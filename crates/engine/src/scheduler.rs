//! The thread that owns the caches: which sequences run, what each step reads, and what becomes of the scores.
//!
//! A step reads one token of each sequence that is answering, and up to `prefill_chunk` tokens of prompts, oldest first.
//! Requests start in the order of their arrival: one that needs much room is waited for, not passed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use tokenizer::{StreamDecoder, Tokenizer};

use crate::emit::Emitter;
use crate::engine::Counters;
use crate::sampling::Sampler;
use crate::{
    Error, Event, FinishReason, Forward, Request, Segment, Settings, Sink, StopCause, Timing, Token, Usage,
};

/// A request on its way to the scheduler.
pub(crate) struct Submission {
    pub(crate) request: Request,
    pub(crate) sink: Box<dyn Sink>,
    /// For a request that brings no seed.
    pub(crate) seed: u64,
    pub(crate) submitted: Instant,
}

pub(crate) enum Command {
    Submit(Box<Submission>),
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
    running: Vec<Sequence<F::Cache>>,
    /// No more requests will come.
    closing: bool,
    scratch: F::Scratch,
    logits: Vec<f32>,
}

impl<F: Forward> Scheduler<F> {
    pub(crate) fn new(
        model: Arc<F>,
        tokenizer: Tokenizer,
        settings: Settings,
        context: usize,
        commands: Receiver<Command>,
        counters: Arc<Counters>,
    ) -> Self {
        let scratch = model.scratch();
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
            scratch,
            logits: Vec::new(),
        }
    }

    /// Works until it is told to end, or until no handle is left.
    pub(crate) fn run(mut self) {
        while self.take_commands() {
            self.drop_abandoned();
            self.admit();
            self.step();
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
        for mut sequence in std::mem::take(&mut self.running) {
            sequence.finish(FinishReason::Cancelled, None);
            count_end(&self.counters, Some(&sequence));
        }
        for mut submission in std::mem::take(&mut self.waiting) {
            let usage = Usage { prompt_tokens: submission.request.prompt.len(), completion_tokens: 0 };
            let timing = Timing { queued: submission.submitted.elapsed(), ..Timing::default() };
            submission.sink.send(Event::Done {
                reason: FinishReason::Cancelled,
                stopped_by: None,
                usage,
                timing,
            });
            count_end::<F::Cache>(&self.counters, None);
        }
        self.counters.running.store(0, Ordering::Relaxed);
    }

    /// Forgets requests that nobody waits for any more.
    fn drop_abandoned(&mut self) {
        let counters = &self.counters;
        self.waiting.retain(|submission| {
            let keep = !submission.sink.is_closed();
            if !keep {
                count_end::<F::Cache>(counters, None);
            }
            keep
        });
        self.running.retain(|sequence| {
            let keep = !sequence.sink.is_closed();
            if !keep {
                count_end(counters, Some(sequence));
            }
            keep
        });
    }

    /// Starts waiting requests while there is room.
    fn admit(&mut self) {
        while self.running.len() < self.settings.max_sequences {
            let Some(next) = self.waiting.front() else { break };
            let prompt = next.request.prompt.len();
            let most = next.request.max_tokens.unwrap_or(usize::MAX).min(self.context - prompt);
            let reserved = prompt + most;
            let in_use: usize = self.running.iter().map(|sequence| sequence.reserved).sum();
            if in_use + reserved > self.settings.max_cache_tokens {
                break;
            }
            let Some(submission) = self.waiting.pop_front() else { break };
            // The last token that is generated is never read.
            let cache = self.model.cache(reserved - 1);
            self.running.push(Sequence::new(*submission, &self.tokenizer, cache, most));
            self.counters.cache_tokens.fetch_add(reserved, Ordering::Relaxed);
        }
        self.counters.running.store(self.running.len(), Ordering::Relaxed);
    }

    /// One call of the model, and what follows from it.
    fn step(&mut self) {
        let mut budget = self.settings.prefill_chunk;
        let mut stepped = Vec::with_capacity(self.running.len());
        let mut segments = Vec::with_capacity(self.running.len());
        for (index, sequence) in self.running.iter_mut().enumerate() {
            let unread = sequence.tokens.len() - sequence.read;
            let count = if sequence.answering() { 1 } else { unread.min(budget) };
            if count == 0 {
                continue;
            }
            if !sequence.answering() {
                budget -= count;
                sequence.started.get_or_insert_with(Instant::now);
            }
            segments.push(Segment {
                tokens: &sequence.tokens[sequence.read..sequence.read + count],
                cache: &mut sequence.cache,
            });
            stepped.push((index, count));
        }
        if segments.is_empty() {
            return;
        }
        let forward = self.model.forward(&mut segments, &mut self.scratch, &mut self.logits);
        drop(segments);
        if let Err(error) = forward {
            stepped.iter().for_each(|&(index, _)| self.running[index].fail(error.clone()));
        } else {
            self.take_scores(&stepped);
        }
        let counters = &self.counters;
        self.running.retain(|sequence| {
            if sequence.done {
                count_end(counters, Some(sequence));
            }
            !sequence.done
        });
        self.counters.running.store(self.running.len(), Ordering::Relaxed);
    }

    /// Goes on with each sequence whose tokens have all been read; `stepped` holds places in the batch and tokens read.
    fn take_scores(&mut self, stepped: &[(usize, usize)]) {
        let vocab_size = self.model.vocab_size();
        for (&(index, count), logits) in stepped.iter().zip(self.logits.chunks_exact_mut(vocab_size)) {
            let sequence = &mut self.running[index];
            if !sequence.answering() {
                self.counters.prompt_tokens.fetch_add(count as u64, Ordering::Relaxed);
            }
            sequence.read += count;
            if sequence.read == sequence.tokens.len() {
                // A model may score more tokens than there are, for the sake of its shapes.
                sequence.next(&self.tokenizer, &mut logits[..self.tokenizer.vocab_size()]);
                self.counters.completion_tokens.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A request has ended; `sequence` is what it was, if it ever ran.
fn count_end<Cache>(counters: &Counters, sequence: Option<&Sequence<Cache>>) {
    counters.finished.fetch_add(1, Ordering::Relaxed);
    counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    if let Some(sequence) = sequence {
        counters.cache_tokens.fetch_sub(sequence.reserved, Ordering::Relaxed);
        let seconds = sequence.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        let mean = f64::from_bits(counters.mean_seconds.load(Ordering::Relaxed));
        // One in eight: recent enough to follow a change of load, calm enough to be told to a client.
        let mean = if mean == 0.0 { seconds } else { mean + (seconds - mean) / 8.0 };
        counters.mean_seconds.store(mean.to_bits(), Ordering::Relaxed);
    }
}

/// A request that runs.
struct Sequence<Cache> {
    request: Request,
    sink: Box<dyn Sink>,
    cache: Cache,
    /// Prompt and answer so far.
    tokens: Vec<u32>,
    prompt_tokens: usize,
    /// Tokens that are in the cache.
    read: usize,
    /// Most tokens to generate.
    most: usize,
    /// Tokens of cache that are set aside for it.
    reserved: usize,
    sampler: Sampler,
    decoder: StreamDecoder,
    emitter: Emitter,
    done: bool,
    submitted: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
}

impl<Cache> Sequence<Cache> {
    fn new(submission: Submission, tokenizer: &Tokenizer, cache: Cache, most: usize) -> Self {
        let Submission { mut request, sink, seed, submitted } = submission;
        let tokens = std::mem::take(&mut request.prompt);
        let sampler = Sampler::new(request.sampling.clone(), request.logprobs, &tokens, seed);
        Sequence {
            prompt_tokens: tokens.len(),
            reserved: tokens.len() + most,
            emitter: Emitter::new(&request.stop),
            decoder: StreamDecoder::new(tokenizer),
            request,
            sink,
            cache,
            tokens,
            read: 0,
            most,
            sampler,
            done: false,
            submitted,
            started: None,
            first_token: None,
        }
    }

    /// The prompt has been read: each step gives a token.
    fn answering(&self) -> bool {
        self.tokens.len() > self.prompt_tokens
    }

    /// Chooses the next token and shows what may be shown.
    fn next(&mut self, tokenizer: &Tokenizer, logits: &mut [f32]) {
        let Ok(choice) = self.sampler.choose(logits) else {
            return self.fail(Error::NotFinite { tokens: self.tokens.len() });
        };
        let id = choice.id;
        self.tokens.push(id);
        self.first_token.get_or_insert_with(Instant::now);
        let ends = !self.request.ignore_end && tokenizer.stop_tokens().contains(&id);
        if ends || self.request.stop_tokens.contains(&id) {
            return self.finish(FinishReason::Stop, Some(StopCause::Token(id)));
        }
        let text = if tokenizer.is_special(id) { String::new() } else { self.decoder.push(id) };
        let token = Token { id, text, logprob: choice.logprob, alternatives: choice.alternatives };
        let (shown, stop) = self.emitter.push(token);
        for token in shown {
            self.sink.send(Event::Token(token));
        }
        if let Some(stop) = stop {
            // What the decoder still holds came after the stop text.
            self.decoder.finish();
            self.finish(FinishReason::Stop, Some(StopCause::Text(stop)));
        } else if self.tokens.len() - self.prompt_tokens == self.most {
            self.finish(FinishReason::Length, None);
        }
    }

    fn fail(&mut self, error: Error) {
        self.sink.send(Event::Failed(error));
        self.done = true;
    }

    fn finish(&mut self, reason: FinishReason, stopped_by: Option<StopCause>) {
        let rest = self.decoder.finish();
        for token in self.emitter.finish(&rest) {
            self.sink.send(Event::Token(token));
        }
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.tokens.len() - self.prompt_tokens,
        };
        let timing = self.timing(Instant::now());
        self.sink.send(Event::Done { reason, stopped_by, usage, timing });
        self.done = true;
    }

    fn timing(&self, now: Instant) -> Timing {
        let Some(started) = self.started else {
            return Timing { queued: now - self.submitted, ..Timing::default() };
        };
        let first_token = self.first_token.unwrap_or(now);
        let decode = if self.first_token.is_some() { now - first_token } else { Duration::ZERO };
        Timing { queued: started - self.submitted, prefill: first_token - started, decode }
    }
}
