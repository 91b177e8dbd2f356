//! Speculative decoding: a few tokens of each answer are guessed, read in one pass, and kept as far as the sequence's own
//! sampler chooses the same (Leviathan et al. 2023, with the draw of the target itself as the judge). So no guess changes an
//! answer, its log-probabilities or its random numbers; it only saves passes over the weights.
//!
//! Guesses come from the sequence's own tokens (prompt look-up, Saxena 2023) or from a smaller model.

use std::sync::Arc;

use crate::pages::{Pages, Table};
use crate::sequence::Sequence;
use crate::{Error, Forward, Segment, Settings, Wanted};

/// Rows of a step, guesses and the tokens they follow, up to which a guess costs next to nothing beside the reading of the
/// weights. Shared among the sequences that answer, so that large batches guess less and the largest nothing.
const ROWS: usize = 32;
/// Fewest tokens at the end of a sequence that must have occurred before.
const SHORTEST_MATCH: usize = 2;
/// More than so many say no more.
const LONGEST_MATCH: usize = 16;
/// Steps without a guess before a sequence whose guesses were poor tries one again.
const REST: u32 = 16;

/// How many tokens to guess for one sequence, from how its guesses fared: recent ones count most.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Guesses that were right, each counted less with every step since.
    right: f32,
    /// Guesses of which it is known whether they were right: those after the first wrong one are not.
    judged: f32,
    rested: u32,
}

impl Default for Pace {
    /// Hopeful: as if 7 of 10 had been right, but soon to be persuaded.
    fn default() -> Self {
        Pace { right: 1.4, judged: 2.0, rested: 0 }
    }
}

impl Pace {
    /// Tokens to guess, at most `most`, so that most tokens are to be expected for the time, where each guess lengthens a
    /// step by the part `cost`.
    fn count(&mut self, most: usize, cost: f32) -> usize {
        let rate = self.right / self.judged;
        // The n-th guess is right with a probability of rate to the power of n, and the sampler adds a token of its own.
        let (mut worth, mut best) = (0, 1.0);
        let (mut tokens, mut chance) = (1.0, 1.0);
        for count in 1..=most {
            chance *= rate;
            tokens += chance;
            let speed = tokens / (1.0 + cost * count as f32);
            if speed > best {
                (worth, best) = (count, speed);
            }
        }
        if worth == 0 && self.rested < REST {
            self.rested += 1;
            return 0;
        }
        self.rested = 0;
        worth.max(1)
    }

    /// The first `right` of `guessed` tokens were right.
    pub(crate) fn judge(&mut self, guessed: usize, right: usize) {
        const MEMORY: f32 = 0.8;
        self.right = MEMORY * self.right + right as f32;
        self.judged = MEMORY * self.judged + (right + usize::from(right < guessed)) as f32;
    }
}

/// What followed the last tokens where they occurred before: the longest such place, of equals the latest. It is continued
/// with itself, so that a loop shorter than `count` is guessed as one.
fn look_up(tokens: &[u32], count: usize) -> Vec<u32> {
    let length = |end: usize| {
        let before = tokens[..end].iter().rev().zip(tokens.iter().rev());
        before.take(LONGEST_MATCH).take_while(|(a, b)| a == b).count()
    };
    let (mut best, mut place) = (SHORTEST_MATCH - 1, None);
    for end in (SHORTEST_MATCH..tokens.len()).rev() {
        let found = length(end);
        if found > best {
            (best, place) = (found, Some(end));
            if found == LONGEST_MATCH {
                break;
            }
        }
    }
    let Some(place) = place else { return Vec::new() };
    let period = tokens.len() - place;
    (0..count).map(|next| tokens[place + next % period]).collect()
}

/// What a draft model knows of one sequence.
#[derive(Debug)]
pub(crate) struct Follower {
    table: Table,
    /// Tokens of the sequence that its pages hold.
    read: usize,
    /// Tokens that they may come to hold.
    room: usize,
}

/// Where guesses come from.
pub(crate) enum Drafter<F: Forward> {
    Off,
    LookUp,
    Model(Box<DraftModel<F>>),
}

/// A smaller model with pages of its own, which reads what the sequences have come to, and guesses for all at once.
pub(crate) struct DraftModel<F: Forward> {
    model: Arc<F>,
    pages: Pages,
    memory: F::Pages,
    scratch: F::Scratch,
    /// Tokens that it reads in a call, as of prompts.
    chunk: usize,
    /// The tokenizer's vocabulary.
    vocab_size: usize,
}

impl<F: Forward> DraftModel<F> {
    pub(crate) fn new(model: Arc<F>, settings: &Settings, vocab_size: usize) -> Self {
        let pages = Pages::within(settings.max_cache_tokens, model.page_tokens());
        let memory = model.pages(pages.count(), settings.kv_cache);
        let scratch = model.scratch();
        DraftModel { model, pages, memory, scratch, chunk: settings.prefill_chunk, vocab_size }
    }

    /// Makes room to follow a sequence that may come to `most` tokens; `None` where there is none, and it is not guessed for.
    fn follow(&mut self, prompt: &[u32], most: usize) -> Option<Follower> {
        let room = most.min(self.model.context());
        let table = self.pages.admit(None, &prompt[..prompt.len().min(room)], room)?;
        let read = self.pages.known_tokens(&table);
        Some(Follower { table, read, room })
    }

    /// Guesses up to the given number of tokens for each sequence; it first reads what it lacks, and guesses only for those
    /// of which it then lacks nothing.
    fn draft(&mut self, drafted: &mut [(&mut Sequence, usize)]) -> Result<(), Error> {
        let mut budget = self.chunk;
        // How much each reads in this round: at first what it lacks, then its own last guess.
        let mut counts = Vec::with_capacity(drafted.len());
        for (sequence, count) in drafted.iter_mut() {
            let Some(follower) = &mut sequence.follower else {
                counts.push(0);
                continue;
            };
            let unread = sequence.tokens.len().min(follower.room).saturating_sub(follower.read);
            let reads = unread.min(budget.max(1));
            budget = budget.saturating_sub(reads);
            let lacks = follower.read + reads < sequence.tokens.len();
            *count = if lacks { 0 } else { (*count).min(follower.room - sequence.tokens.len() + 1) };
            counts.push(reads);
        }
        let mut round = 0;
        while counts.iter().any(|&count| count > 0) {
            let mut segments = Vec::new();
            for ((sequence, count), &reads) in
                drafted.iter_mut().zip(&counts).filter(|(_, reads)| **reads > 0)
            {
                let Sequence { follower: Some(follower), tokens, draft, .. } = &mut **sequence else {
                    continue;
                };
                self.pages.make_room(&mut follower.table, follower.read + reads);
                let tokens = if round == 0 { &tokens[follower.read..][..reads] } else { &draft[round - 1..] };
                let wanted = Wanted::Logits(usize::from(*count > 0));
                segments.push(Segment {
                    tokens,
                    first: follower.read,
                    pages: &follower.table.pages,
                    adapter: None,
                    wanted,
                });
            }
            let outputs = self.model.forward(&mut self.memory, &segments, &mut self.scratch)?;
            let mut rows = outputs.logits.chunks_exact(self.model.vocab_size());
            for ((sequence, count), reads) in
                drafted.iter_mut().zip(&mut counts).filter(|(_, reads)| **reads > 0)
            {
                let Sequence { follower: Some(follower), tokens, draft, .. } = &mut **sequence else {
                    continue;
                };
                follower.read += *reads;
                if round == 0 {
                    self.pages.learn(&mut follower.table, &tokens[..follower.read]);
                }
                // Scores that are not numbers guess nothing; the model itself has the word.
                let best = if *count > 0 { rows.next() } else { None };
                let best = best.and_then(|row| kernels::scores::best(&row[..self.vocab_size]));
                draft.extend(best.map(|token| token as u32));
                *reads = usize::from(best.is_some() && round + 1 < *count);
            }
            round += 1;
        }
        Ok(())
    }
}

impl<F: Forward> Drafter<F> {
    /// A sequence begins.
    pub(crate) fn follow(&mut self, sequence: &mut Sequence) {
        if let Drafter::Model(drafter) = self
            && sequence.most > 1
        {
            sequence.follower = drafter.follow(&sequence.tokens, sequence.tokens.len() + sequence.most - 1);
        }
    }

    /// A sequence has ended.
    pub(crate) fn release(&mut self, follower: Option<Follower>) {
        if let (Drafter::Model(drafter), Some(follower)) = (self, follower) {
            drafter.pages.release(follower.table);
        }
    }

    /// Guesses for the sequences that answer, at most `most` tokens each, and never past what is set aside for one.
    pub(crate) fn draft(&mut self, running: &mut [Sequence], most: usize) -> Result<(), Error> {
        let answering = running.iter().filter(|sequence| sequence.answering()).count().max(1);
        let most = most.min((ROWS / answering).saturating_sub(1));
        // Of a step: a row more, measured at 0.11 (Q8_0, 15 guesses) to 0.25 (Q4_K_M, 8); and a pass of a smaller model.
        let cost = match self {
            Drafter::Off => return Ok(()),
            Drafter::LookUp => 0.25,
            Drafter::Model(_) => 0.45,
        };
        let mut drafted = Vec::new();
        for sequence in running.iter_mut().filter(|sequence| sequence.answering() && most > 0) {
            // What is forced needs no guess.
            let room = if sequence.forced { 0 } else { sequence.room() };
            let count = if room > 0 { sequence.pace.count(most.min(room), cost) } else { 0 };
            if count > 0 {
                drafted.push((sequence, count));
            }
        }
        match self {
            Drafter::Model(drafter) if !drafted.is_empty() => drafter.draft(&mut drafted)?,
            Drafter::LookUp => {
                for (sequence, count) in &mut drafted {
                    sequence.draft = look_up(&sequence.tokens, *count);
                }
            }
            _ => {}
        }
        for (sequence, _) in drafted {
            // What the constraint forbids would be read in vain.
            let allowed = sequence.sampler.allowed(&sequence.draft);
            sequence.draft.truncate(allowed);
        }
        Ok(())
    }
}

impl Follower {
    /// The sequence has been read up to `read`; what the pages hold beyond is of guesses that were wrong.
    pub(crate) fn keep(&mut self, read: usize) {
        self.read = self.read.min(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_longest_match_is_guessed_and_loops_are_continued() {
        let check = |tokens: &[u32], count, wanted: &[u32]| {
            assert_eq!(look_up(tokens, count), wanted, "{tokens:?}");
        };
        check(&[], 3, &[]);
        check(&[1, 2, 3, 2], 3, &[]);
        check(&[1, 2, 3, 4, 1, 2], 2, &[3, 4]);
        check(&[1, 2, 3, 4, 1, 2], 9, &[3, 4, 1, 2, 3, 4, 1, 2, 3]);
        check(&[9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2], 1, &[3]);
        check(&[9, 1, 2, 3, 9, 1, 2, 4, 9, 1, 2], 1, &[4]);
        check(&[7, 7, 7], 3, &[7, 7, 7]);
    }

    #[test]
    fn poor_guesses_end_and_are_tried_again_and_good_ones_grow() {
        let mut pace = Pace::default();
        let mut guessed = 0;
        let mut steps = Vec::new();
        for step in 0..100 {
            let count = pace.count(15, 0.25);
            if count > 0 {
                pace.judge(count, 0);
                guessed += count;
                steps.push(step);
            }
        }
        assert!(guessed < 20, "{guessed}");
        assert!(
            steps.windows(2).any(|pair| pair[1] - pair[0] > 1) && *steps.last().unwrap() > 70,
            "{steps:?}"
        );
        let mut tried = 0;
        while pace.count(15, 0.25) < 15 {
            pace.judge(1, 1);
            tried += 1;
            assert!(tried < 60);
        }
    }
}
