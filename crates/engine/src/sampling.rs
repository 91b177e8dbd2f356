//! From scores to a token: penalties, temperature, top-k, min-p, top-p and the draw. One sampler a sequence, no state
//! shared between sequences.
//!
//! Legend: `logits` are the model's scores, `[vocab_size]`; `weight` is a probability up to a common factor.

use std::collections::{BTreeMap, HashMap};

use kernels::scores;
use ledger::seed::{Rng, Seed};

use crate::constraint::Guide;
use crate::{Alternative, Error};

/// How a token is chosen from the model's scores. The steps are taken in the order of the fields, from the penalties to
/// `top_p`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Scores of tokens that occur in the prompt or the answer are divided by this where positive, multiplied where
    /// negative (CTRL, Keskar et al. 2019, section 4.1). 1 leaves them.
    pub repetition_penalty: f32,
    /// Taken from the score of each token that occurs in the answer (OpenAI's API reference).
    pub presence_penalty: f32,
    /// Taken from the score of a token once for each time it occurs in the answer (OpenAI's API reference).
    pub frequency_penalty: f32,
    /// Added to the scores of these tokens.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Scores are divided by this before they become probabilities; 0 means always the likeliest token.
    pub temperature: f32,
    /// Only the `top_k` likeliest tokens may be drawn.
    pub top_k: Option<usize>,
    /// Only tokens at least this fraction as likely as the likeliest may be drawn.
    pub min_p: f32,
    /// Only the likeliest tokens that make up this probability may be drawn; the one that crosses it is among them
    /// (`sample_top_p` of Meta's `generation.py`).
    pub top_p: f32,
    /// Which random numbers are drawn. The same request with the same seed gives the same answer.
    pub seed: Option<u64>,
    /// Which of the seed's streams: gives several answers to one request.
    pub stream: u64,
}

impl Default for Sampling {
    /// Meta's defaults: temperature 0.6, top-p 0.9, nothing else.
    fn default() -> Self {
        Sampling {
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            temperature: 0.6,
            top_k: None,
            min_p: 0.0,
            top_p: 0.9,
            seed: None,
            stream: 0,
        }
    }
}

impl Sampling {
    /// Always the likeliest token; the first of equals.
    pub fn greedy() -> Self {
        Sampling { temperature: 0.0, top_p: 1.0, ..Sampling::default() }
    }

    /// Every value out of range, each with what it may be.
    pub(crate) fn faults(&self, vocab_size: usize) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |name: &str, value: f32, fine: bool, range: &str| {
            if !fine {
                faults.push(format!("`{name}` is {value} and must be {range}"));
            }
        };
        let finite = f32::is_finite;
        check(
            "temperature",
            self.temperature,
            finite(self.temperature) && self.temperature >= 0.0,
            "0 or more",
        );
        check("top_p", self.top_p, (0.0..=1.0).contains(&self.top_p), "from 0 to 1");
        check("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "from 0 to 1");
        let repetition = self.repetition_penalty;
        check("repetition_penalty", repetition, finite(repetition) && repetition > 0.0, "more than 0");
        check("presence_penalty", self.presence_penalty, finite(self.presence_penalty), "a finite number");
        check("frequency_penalty", self.frequency_penalty, finite(self.frequency_penalty), "a finite number");
        if self.top_k == Some(0) {
            faults.push("`top_k` is 0 and must be at least 1, or absent".into());
        }
        for (&token, bias) in &self.logit_bias {
            if token as usize >= vocab_size {
                faults.push(format!(
                    "`logit_bias` names token {token}, and the vocabulary ends at {}",
                    vocab_size - 1
                ));
            } else if bias.is_nan() || *bias == f32::INFINITY {
                faults.push(format!("`logit_bias` of token {token} is {bias} and must be a finite number"));
            }
        }
        faults
    }
}

/// A chosen token.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) id: u32,
    pub(crate) logprob: Option<f32>,
    pub(crate) alternatives: Vec<Alternative>,
    /// With it the answer is complete, and nothing may follow.
    pub(crate) complete: bool,
}

/// Chooses the tokens of one sequence.
pub(crate) struct Sampler {
    settings: Sampling,
    rng: Rng,
    logprobs: Option<usize>,
    /// Times that each token occurs in the answer; 0 for one that occurs in the prompt alone. Empty without penalties.
    seen: HashMap<u32, u32>,
    penalised: bool,
    /// Keeps the answer to its constraint.
    guide: Option<Guide>,
    /// Room for the tokens that may be drawn and their weights.
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// `default_seed` serves a request that brings no seed of its own.
    pub(crate) fn new(
        settings: Sampling,
        logprobs: Option<usize>,
        prompt: &[u32],
        default_seed: u64,
    ) -> Self {
        let seed = Seed(settings.seed.unwrap_or(default_seed));
        let rng = seed.stream("engine.sampling", settings.stream);
        let repetition = settings.repetition_penalty != 1.0;
        let penalised = repetition || settings.presence_penalty != 0.0 || settings.frequency_penalty != 0.0;
        let seen = if repetition { prompt.iter().map(|&token| (token, 0)).collect() } else { HashMap::new() };
        Sampler { settings, rng, logprobs, seen, penalised, guide: None, candidates: Vec::new() }
    }

    /// With a guide, only tokens that it allows are chosen.
    pub(crate) fn guided(self, guide: Option<Guide>) -> Self {
        Sampler { guide, ..self }
    }

    /// The tokens that follow whatever the scores are, because the constraint leaves no choice.
    pub(crate) fn forced(&mut self) -> Vec<u32> {
        self.guide.as_mut().map(Guide::forced).unwrap_or_default()
    }

    /// How many of these tokens could follow, one after the other, as far as the constraint goes.
    pub(crate) fn allowed(&mut self, tokens: &[u32]) -> usize {
        self.guide.as_mut().map_or(tokens.len(), |guide| guide.allowed(tokens))
    }

    /// Chooses the next token. `logits` is `[vocab_size]` and is overwritten.
    ///
    /// Fails where the scores are not numbers, and where the constraint has become too costly.
    pub(crate) fn choose(&mut self, logits: &mut [f32]) -> Result<Choice, Fault> {
        // Before the scores are changed: log-probabilities are the model's own.
        let best = scores::best(logits).ok_or(Fault::NotFinite)?;
        let normaliser = self.logprobs.map(|_| scores::log_sum_exp(logits, logits[best]));
        let alternatives = match (self.logprobs, normaliser) {
            (Some(count), Some(normaliser)) => likeliest(logits, count, normaliser),
            _ => Vec::new(),
        };
        let replaced = self.adjust(logits);
        let forced = match &mut self.guide {
            Some(guide) => guide.mask(logits).map_err(Fault::Constraint)?,
            None => false,
        };
        let untouched = replaced.is_empty() && self.guide.is_none();
        let id = match (self.settings.temperature == 0.0, untouched) {
            (true, true) => best as u32,
            (true, false) => argmax(logits),
            (false, _) => self.draw(logits),
        };
        if let Some(guide) = &mut self.guide {
            guide.take(id).map_err(Fault::Constraint)?;
        }
        if self.penalised {
            *self.seen.entry(id).or_insert(0) += 1;
        }
        let known = replaced.iter().find(|(token, _)| *token == id).map(|(_, score)| *score);
        // What a constraint forces though the model rules it out has the model's score all the same.
        let own = known.unwrap_or(if forced { f32::NEG_INFINITY } else { logits[id as usize] });
        let logprob = normaliser.map(|normaliser| (f64::from(own) - normaliser) as f32);
        Ok(Choice { id, logprob, alternatives, complete: self.guide.as_ref().is_some_and(Guide::complete) })
    }

    /// Gives what the scores were that it changed.
    fn adjust(&self, logits: &mut [f32]) -> Vec<(u32, f32)> {
        let touched = self.seen.keys().chain(self.settings.logit_bias.keys());
        let before = touched.map(|&token| (token, logits[token as usize])).collect();
        let Sampling { repetition_penalty, presence_penalty, frequency_penalty, .. } = self.settings;
        for (&token, &times) in &self.seen {
            let score = &mut logits[token as usize];
            *score = if *score > 0.0 { *score / repetition_penalty } else { *score * repetition_penalty };
            if times > 0 {
                *score -= presence_penalty + frequency_penalty * times as f32;
            }
        }
        for (&token, &bias) in &self.settings.logit_bias {
            logits[token as usize] += bias;
        }
        before
    }

    /// Draws by probability among the tokens that top-k, min-p and top-p leave. One random number a token, whatever the
    /// settings.
    fn draw(&mut self, logits: &[f32]) -> u32 {
        let Sampling { temperature, top_k, min_p, top_p, .. } = self.settings;
        let uniform = self.rng.uniform();
        let best = logits[argmax(logits) as usize];
        let weight = |score: f32| ((score - best) / temperature).exp();

        let candidates = &mut self.candidates;
        candidates.clear();
        // Below 1e-30 of the likeliest, 128,000 tokens together weigh less than an f32 can tell from nothing.
        let least = min_p.max(1e-30);
        let scores = logits.iter().enumerate();
        candidates.extend(
            scores.map(|(id, &score)| (id as u32, weight(score))).filter(|(_, weight)| *weight >= least),
        );
        if let Some(count) = top_k
            && count < candidates.len()
        {
            candidates.select_nth_unstable_by(count, likelier_first);
            candidates.truncate(count);
        }
        if top_p < 1.0 {
            keep_nucleus(candidates, f64::from(top_p));
        } else if top_k.is_some() {
            candidates.sort_unstable_by(likelier_first);
        }

        let total: f64 = candidates.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mut left = uniform * total;
        for &(id, weight) in candidates.iter() {
            left -= f64::from(weight);
            if left < 0.0 {
                return id;
            }
        }
        // Only rounding leads here; the last candidate is the one whose share was missed.
        candidates.last().map_or_else(|| argmax(logits), |&(id, _)| id)
    }
}

/// Why no token could be chosen.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The scores were not numbers.
    NotFinite,
    /// What the constraint says.
    Constraint(Error),
}

impl Fault {
    /// The error for a sequence of `tokens` tokens.
    pub(crate) fn after(self, tokens: usize) -> Error {
        match self {
            Fault::NotFinite => Error::NotFinite { tokens },
            Fault::Constraint(error) => error,
        }
    }
}

/// Keeps, of `candidates` and likeliest first, each whose predecessors make up at most `top_p` of the whole: Meta drops
/// where `cumsum - p > top_p`.
fn keep_nucleus(candidates: &mut Vec<(u32, f32)>, top_p: f64) {
    let total: f64 = candidates.iter().map(|(_, weight)| f64::from(*weight)).sum();
    // All tokens below this share together make up less than 1 - top_p, so those above it cross top_p by themselves:
    // only the latter, a few hundred of 128,000 as a rule, need sorting. Half, to be clear of rounding.
    let least = (0.5 * (1.0 - top_p) * total / candidates.len() as f64) as f32;
    candidates.retain(|(_, weight)| *weight >= least);
    candidates.sort_unstable_by(likelier_first);
    let mut before = 0.0;
    let kept = candidates.iter().take_while(|(_, weight)| {
        let keep = before <= top_p * total;
        before += f64::from(*weight);
        keep
    });
    let kept = kept.count();
    candidates.truncate(kept);
}

/// Likelier first; of equals the one with the lower number, so that the order is one.
fn likelier_first(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The first of the greatest; the scores hold no NaN.
fn argmax(logits: &[f32]) -> u32 {
    let plain =
        || (0..logits.len()).fold(0, |best, next| if logits[next] > logits[best] { next } else { best });
    // Bias and penalties may have ruled out all tokens, or made a score infinite.
    scores::best(logits).unwrap_or_else(plain) as u32
}

/// How a model scores the tokens of a prompt.
#[derive(Debug)]
pub(crate) struct Score {
    pub(crate) logprob: f32,
    pub(crate) alternatives: Vec<Alternative>,
}

/// The log-probability of `token` under `logits`, and those of the `count` likeliest.
pub(crate) fn score(logits: &[f32], token: u32, count: usize) -> Result<Score, Fault> {
    let best = scores::best(logits).ok_or(Fault::NotFinite)?;
    let normaliser = scores::log_sum_exp(logits, logits[best]);
    let logprob = (f64::from(logits[token as usize]) - normaliser) as f32;
    Ok(Score { logprob, alternatives: likeliest(logits, count, normaliser) })
}

fn likeliest(logits: &[f32], count: usize, log_normaliser: f64) -> Vec<Alternative> {
    if count == 0 {
        return Vec::new();
    }
    let mut scores: Vec<(u32, f32)> =
        logits.iter().enumerate().map(|(id, &score)| (id as u32, score)).collect();
    if count < scores.len() {
        scores.select_nth_unstable_by(count, likelier_first);
        scores.truncate(count);
    }
    scores.sort_unstable_by(likelier_first);
    scores
        .into_iter()
        .map(|(id, score)| Alternative { id, logprob: (f64::from(score) - log_normaliser) as f32 })
        .collect()
}

#[cfg(test)]
mod tests;
