//! A request that runs: its tokens, how far they are read, and what is shown of its answer. When it is read, and in whose
//! company, the scheduler decides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokenizer::{StreamDecoder, Tokenizer};

use crate::adapters::Loaded;
use crate::constraint::Guide;
use crate::embedding::{Pooled, Pooling};
use crate::emit::Emitter;
use crate::engine::Counters;
use crate::pages::{Pages, Table};
use crate::prompt::PromptScores;
use crate::sampling::{Choice, Fault, Sampler};
use crate::speculation::{Follower, Pace};
use crate::{Error, Event, FinishReason, Request, Sink, StopCause, Timing, Token, Usage};

/// A request on its way to the scheduler.
pub(crate) struct Submission {
    pub(crate) request: Request,
    /// Keeps the answer to the request's constraint.
    pub(crate) guide: Option<Guide>,
    /// What the request named, held from then on.
    pub(crate) adapter: Option<Arc<Loaded>>,
    pub(crate) sink: Box<dyn Sink>,
    /// For a request that brings no seed.
    pub(crate) seed: u64,
    pub(crate) submitted: Instant,
}

/// A request that runs.
pub(crate) struct Sequence {
    pub(crate) request: Request,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) adapter: Option<Arc<Loaded>>,
    pub(crate) table: Table,
    /// Prompt and answer so far.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_tokens: usize,
    /// Tokens whose keys and values are in its pages.
    pub(crate) read: usize,
    /// Those of the prompt that were there already.
    pub(crate) cached: usize,
    /// Most tokens to generate.
    pub(crate) most: usize,
    /// Where the prompt's scores are asked for and not yet shown.
    pub(crate) prompt: Option<PromptScores>,
    /// Where a vector of the prompt is asked for.
    pub(crate) pooled: Option<Pooled>,
    pub(crate) sampler: Sampler,
    pub(crate) decoder: StreamDecoder,
    pub(crate) emitter: Emitter,
    /// Tokens that may follow, to be read in the next step: guesses, or what the constraint forces.
    pub(crate) draft: Vec<u32>,
    /// They are forced, which is no guess.
    pub(crate) forced: bool,
    pub(crate) pace: Pace,
    /// What the draft model holds of it.
    pub(crate) follower: Option<Follower>,
    drafted: usize,
    accepted: usize,
    pub(crate) done: bool,
    pub(crate) submitted: Instant,
    pub(crate) started: Option<Instant>,
    pub(crate) first_token: Option<Instant>,
}

impl Sequence {
    pub(crate) fn new(submission: Submission, tokenizer: &Tokenizer, table: Table, most: usize) -> Self {
        let Submission { mut request, guide, adapter, sink, seed, submitted } = submission;
        let tokens = std::mem::take(&mut request.prompt);
        let sampler = Sampler::new(request.sampling.clone(), request.logprobs, &tokens, seed).guided(guide);
        let prompt = request.prompt_logprobs.map(|count| PromptScores::new(&tokens, count, tokenizer));
        Sequence {
            prompt,
            pooled: request.embedding.map(Pooled::new),
            prompt_tokens: tokens.len(),
            emitter: Emitter::new(&request.stop),
            decoder: StreamDecoder::new(tokenizer),
            request,
            sink,
            adapter,
            table,
            tokens,
            read: 0,
            cached: 0,
            most,
            sampler,
            draft: Vec::new(),
            forced: false,
            pace: Pace::default(),
            follower: None,
            drafted: 0,
            accepted: 0,
            done: false,
            submitted,
            started: None,
            first_token: None,
        }
    }

    /// The prompt has been read: each step gives a token.
    pub(crate) fn answering(&self) -> bool {
        self.tokens.len() > self.prompt_tokens
    }

    /// Tokens that may be read behind its last one, of those that are set aside for it; the last one that is generated is
    /// never read.
    pub(crate) fn room(&self) -> usize {
        (self.prompt_tokens + self.most).saturating_sub(self.tokens.len() + 1)
    }

    /// Lays up to `most` tokens that its constraint forces behind its last one, so that one step reads and takes them all.
    pub(crate) fn force(&mut self, most: usize) {
        self.draft = if most > 0 { self.sampler.forced() } else { Vec::new() };
        self.draft.truncate(most);
        self.forced = !self.draft.is_empty();
    }

    /// Does not read again what known pages hold.
    pub(crate) fn skip_known(&mut self, pages: &Pages, counters: &Counters) {
        let known = pages.known_tokens(&self.table).saturating_sub(self.read);
        self.read += known;
        self.cached += known;
        counters.cached_tokens.fetch_add(known as u64, Ordering::Relaxed);
    }

    /// Whether the next page of the prompt is one that an older sequence is reading.
    pub(crate) fn waits_for(&self, older: &Sequence, page: usize) -> bool {
        let end = self.read + page;
        let adapter = |sequence: &Sequence| sequence.adapter.as_ref().map(|adapter| adapter.number);
        self.read.is_multiple_of(page)
            && adapter(self) == adapter(older)
            && end < self.prompt_tokens
            && end <= older.prompt_tokens
            && older.read < end
            && older.tokens[..end] == self.tokens[..end]
    }

    /// Scores the prompt's tokens that follow the `count` tokens read last; `logits` has a row for each of these if the
    /// scores are wanted, `vocab_size` apart, of which the tokenizer's tokens count.
    pub(crate) fn score_prompt(&mut self, logits: &[f32], count: usize, vocab_size: (usize, usize)) {
        if let Some(prompt) = &mut self.prompt
            && let Err(tokens) = prompt.score(self.read - count, logits, vocab_size)
        {
            self.fail(Error::NotFinite { tokens });
        }
    }

    /// The prompt has been read: shows its scores or its vector. False where nothing is to follow.
    pub(crate) fn begin(&mut self) -> bool {
        if let Some(pooled) = &self.pooled {
            let Some(values) = pooled.finish() else {
                self.fail(Error::NotFinite { tokens: self.tokens.len() });
                return false;
            };
            self.sink.send(Event::Embedding(values));
            self.finish(FinishReason::Length, None);
            return false;
        }
        if let Some(prompt) = self.prompt.take() {
            self.sink.send(Event::Prompt(prompt.tokens));
        }
        if self.most == 0 {
            self.finish(FinishReason::Length, None);
        }
        self.most > 0
    }

    /// Takes the tokens chosen after its last one and after each guess that was right, up to the one that ends it.
    pub(crate) fn take(
        &mut self,
        tokenizer: &Tokenizer,
        choices: Vec<Result<Choice, Fault>>,
        counters: &Counters,
    ) {
        let draft = std::mem::take(&mut self.draft);
        let guessed = if self.forced { 0 } else { draft.len() };
        let mut kept = 0;
        self.drafted += guessed;
        counters.drafted_tokens.fetch_add(guessed as u64, Ordering::Relaxed);
        for (index, choice) in choices.into_iter().enumerate() {
            // Counted before they are shown: whoever has seen an answer finds it in the counters.
            if let Ok(Choice { id, .. }) = &choice {
                let right = draft.get(index) == Some(id);
                kept += usize::from(right);
                let accepted = right && guessed > 0;
                self.accepted += usize::from(accepted);
                counters.accepted_tokens.fetch_add(u64::from(accepted), Ordering::Relaxed);
                counters.completion_tokens.fetch_add(1, Ordering::Relaxed);
            }
            self.next(tokenizer, choice);
            if self.done {
                break;
            }
        }
        self.read += kept;
        if guessed > 0 {
            self.pace.judge(guessed, kept);
        }
        if let Some(follower) = &mut self.follower {
            follower.keep(self.read);
        }
    }

    /// Takes the next token and shows what may be shown.
    fn next(&mut self, tokenizer: &Tokenizer, choice: Result<Choice, Fault>) {
        let choice = match choice {
            Ok(choice) => choice,
            Err(fault) => return self.fail(fault.after(self.tokens.len())),
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
        } else if choice.complete {
            self.finish(FinishReason::Stop, Some(StopCause::Constraint));
        } else if self.tokens.len() - self.prompt_tokens == self.most {
            self.finish(FinishReason::Length, None);
        }
    }

    pub(crate) fn fail(&mut self, error: Error) {
        self.sink.send(Event::Failed(error));
        self.done = true;
    }

    pub(crate) fn finish(&mut self, reason: FinishReason, stopped_by: Option<StopCause>) {
        let rest = self.decoder.finish();
        for token in self.emitter.finish(&rest) {
            self.sink.send(Event::Token(token));
        }
        let usage = Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached,
            completion_tokens: self.tokens.len() - self.prompt_tokens,
            accepted_tokens: self.accepted,
            rejected_tokens: self.drafted - self.accepted,
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

/// Whether every token of the prompt has to be read, whatever is kept of it: each is scored, or part of a mean.
pub(crate) fn reads_all(request: &Request) -> bool {
    request.prompt_logprobs.is_some() || request.embedding == Some(Pooling::Mean)
}
