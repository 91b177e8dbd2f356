//! What an answer must be: JSON, JSON of a schema, text of a regular expression or of a grammar. `llguidance` compiles it
//! and says after each token which may follow; here are the vocabulary that it works on, the bounds that keep a hostile
//! constraint from holding up the engine, and the step from its word to the scores.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use tokenizer::Tokenizer;

use crate::Error;

pub(crate) mod bounds;

/// Compiled constraints that are kept, for the next request that brings the same.
const KEPT: usize = 16;
/// The compiler is recursive: a chain of 10,000 references, longer than [`bounds::MAX_BYTES`] can hold, overflowed 64 MiB
/// and stayed within this. Pages that are not touched cost nothing.
const COMPILER_STACK: usize = 256 << 20;
/// Where JSON may have white space: one space, or a new line and its indentation. Without a bound a model that is
/// uncertain writes white space until its tokens are spent.
const WHITE_SPACE: &str = r"[ ]|\n[ \t]{0,64}";

/// What an answer must be, from its first token to its last. The tokens that end an answer may come where it is complete,
/// and nowhere else.
///
/// An answer that is cut off, by `max_tokens` or by a stop text, is the beginning of one that keeps to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema allows (drafts 4 to 2020-12; properties in the schema's order). What cannot be kept to is
    /// refused by its keyword.
    JsonSchema(Value),
    /// Text that this expression matches from beginning to end; the syntax is the crate `regex`'s.
    Regex(String),
    /// Text of this context-free grammar, in llguidance's dialect of Lark; it begins with the rule `start`.
    Lark(String),
}

impl Constraint {
    /// The directive that stands for JSON of a schema within a grammar in Lark: `rule: %json {…}`.
    pub fn inline(schema: &Value) -> String {
        format!("%json {}", spaced(schema))
    }

    fn grammar(&self) -> TopLevelGrammar {
        match self {
            Constraint::JsonObject => TopLevelGrammar::from_json_schema(spaced(&json!({ "type": "object" }))),
            Constraint::JsonSchema(schema) => TopLevelGrammar::from_json_schema(spaced(schema)),
            Constraint::Regex(expression) => TopLevelGrammar::from_regex(expression),
            Constraint::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        }
    }
}

/// The schema with [`WHITE_SPACE`] for its white space, unless it brings a rule of its own.
fn spaced(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(object) = &mut schema {
        let options = object.entry("x-guidance").or_insert_with(|| json!({}));
        if let Value::Object(options) = options {
            options.entry("whitespace_pattern").or_insert_with(|| WHITE_SPACE.into());
        }
    }
    schema
}

/// The constraints of one engine: the vocabulary as llguidance wants it, made when the first request needs it, and what
/// was compiled last.
pub(crate) struct Grammars {
    tokenizer: Tokenizer,
    factory: OnceLock<Result<ParserFactory, Error>>,
    /// The latest first.
    compiled: Mutex<VecDeque<(Constraint, Matcher)>>,
    /// One is compiled at a time, so that hostile ones together cost no more than one core.
    compiling: Mutex<()>,
}

impl Grammars {
    pub(crate) fn new(tokenizer: Tokenizer) -> Self {
        Grammars {
            tokenizer,
            factory: OnceLock::new(),
            compiled: Mutex::new(VecDeque::new()),
            compiling: Mutex::new(()),
        }
    }

    /// Takes tokens from the beginning of an answer; `stop_tokens` are those that end it besides the tokenizer's own,
    /// and with `ignore_end` the latter are left out where anything else may follow.
    pub(crate) fn guide(
        &self,
        constraint: &Constraint,
        stop_tokens: &[u32],
        ignore_end: bool,
    ) -> Result<Guide, Error> {
        let matcher = match self.kept(constraint) {
            Some(matcher) => matcher,
            None => {
                let _turn = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
                // Another request may have brought the same meanwhile.
                match self.kept(constraint) {
                    Some(matcher) => matcher,
                    None => self.compile(constraint)?,
                }
            }
        };
        let own = self.tokenizer.stop_tokens();
        Ok(Guide {
            matcher,
            ends: own.to_vec(),
            other_ends: stop_tokens.iter().copied().filter(|token| !own.contains(token)).collect(),
            ignore_end,
        })
    }

    /// A copy with caches of its own: what one answer costs in lexer states is not counted against the next.
    fn kept(&self, constraint: &Constraint) -> Option<Matcher> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let place = compiled.iter().position(|(kept, _)| kept == constraint)?;
        let entry = compiled.remove(place)?;
        let matcher = entry.1.deep_clone();
        compiled.push_front(entry);
        Some(matcher)
    }

    fn compile(&self, constraint: &Constraint) -> Result<Matcher, Error> {
        bounds::check(constraint)?;
        let factory = self.factory.get_or_init(|| factory(&self.tokenizer)).as_ref().map_err(Error::clone)?;
        let work = || {
            let mut matcher = Matcher::new(factory.create_parser(constraint.grammar()));
            // Some faults show only when the first token is asked for: better now than in the midst of a batch.
            let probe = matcher.deep_clone().compute_mask_or_eos();
            match (matcher.get_error(), probe) {
                (Some(error), _) => Err(refused(&error)),
                (None, Err(error)) => Err(refused(&error.to_string())),
                (None, Ok(mask)) if mask.is_zero() => Err(refused("no answer keeps to it")),
                (None, Ok(_)) => {
                    matcher.invalidate_bias_cache();
                    Ok(matcher)
                }
            }
        };
        let thread = std::thread::Builder::new().name("grammar".into()).stack_size(COMPILER_STACK);
        let matcher = std::thread::scope(|scope| {
            let handle = thread.spawn_scoped(scope, work).map_err(|error| refused(&error.to_string()))?;
            handle.join().unwrap_or_else(|_| Err(refused("the compiler failed on it")))
        })?;
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.truncate(KEPT - 1);
        compiled.push_front((constraint.clone(), matcher.deep_clone()));
        Ok(matcher)
    }
}

/// The first line says what and where; the lines after it repeat the grammar, or are a backtrace.
fn refused(reason: &str) -> Error {
    let line = reason.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason was given");
    let line = line.trim().trim_end_matches("<non-verbose/>").trim();
    if line == "NoExtensionBias" {
        return refused("no answer keeps to it");
    }
    let mut shown: String = line.chars().take(300).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    Error::Constraint { reason: shown }
}

fn factory(tokenizer: &Tokenizer) -> Result<ParserFactory, Error> {
    let environment: TokEnv = Arc::new(Environment::new(tokenizer));
    let mut factory = ParserFactory::new_simple(&environment).map_err(|error| refused(&error.to_string()))?;
    factory.quiet();
    let limits = factory.limits_mut();
    limits.verbose_errors = false;
    // Each property that may be left out adds items to a row: 2,000, the default, is 500 of them.
    limits.max_items_in_row = 20_000;
    Ok(factory)
}

/// The vocabulary by bytes, as llguidance asks for it.
struct Environment {
    tokenizer: Tokenizer,
    trie: TokTrie,
}

impl Environment {
    fn new(tokenizer: &Tokenizer) -> Self {
        // A special token is its name behind a byte that no text has, so no text of a grammar is taken for it.
        let word = |id: u32| {
            let bytes = tokenizer.token_bytes(id).unwrap_or_default();
            let marker: &[u8] = if tokenizer.is_special(id) { &[TokTrie::SPECIAL_TOKEN_MARKER] } else { &[] };
            [marker, bytes].concat()
        };
        let words: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32).map(word).collect();
        let info = TokRxInfo::new(words.len() as u32, tokenizer.eot());
        let trie = TokTrie::from(&info, &words).with_eos_tokens(tokenizer.stop_tokens());
        Environment { tokenizer: tokenizer.clone(), trie }
    }
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// Text that a grammar forces is written with the tokens that the model would have been shown.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.tokenizer.encode(text))
    }
}

/// Keeps one answer to its constraint.
pub(crate) struct Guide {
    matcher: Matcher,
    /// The tokenizer's tokens that end an answer.
    ends: Vec<u32>,
    /// The request's.
    other_ends: Vec<u32>,
    ignore_end: bool,
}

impl Guide {
    /// Sets the scores of all tokens that may not come next to minus infinity; at least one stays finite. Whether those
    /// that may were given new scores, because all of theirs were minus infinity.
    pub(crate) fn mask(&mut self, logits: &mut [f32]) -> Result<bool, Error> {
        let mut allowed = self.matcher.compute_mask_or_eos().map_err(|error| refused(&error.to_string()))?;
        self.settle_ends(&mut allowed);
        if allowed.is_zero() {
            return Err(refused("nothing may follow and the answer is not complete"));
        }
        let allowed = |token: usize| allowed.is_allowed(token as u32);
        let mut any = false;
        for (token, score) in logits.iter_mut().enumerate() {
            if !allowed(token) {
                *score = f32::NEG_INFINITY;
            }
            any |= score.is_finite();
        }
        if !any {
            // The model, or a bias, rules out all that the constraint allows: the constraint has the last word.
            let scores = logits.iter_mut().enumerate().filter(|(token, _)| allowed(*token));
            scores.for_each(|(_, score)| *score = 0.0);
        }
        Ok(!any)
    }

    fn settle_ends(&self, allowed: &mut SimpleVob) {
        if !self.ends.iter().any(|&token| allowed.is_allowed(token)) {
            return;
        }
        self.other_ends.iter().for_each(|&token| allowed.allow_token(token));
        if self.ignore_end {
            let ends = allowed.clone();
            self.ends.iter().for_each(|&token| allowed.disallow_token(token));
            if allowed.is_zero() {
                *allowed = ends;
            }
        }
    }

    /// Goes on past `token`, one that the mask allowed.
    pub(crate) fn take(&mut self, token: u32) -> Result<(), Error> {
        if self.other_ends.contains(&token) {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|error| refused(&error.to_string()))
    }

    /// The tokens that follow whatever the model says, because the constraint leaves one text; it stays where it is. Where
    /// there are any, [`Guide::mask`] leaves the first alone, and so on.
    pub(crate) fn forced(&mut self) -> Vec<u32> {
        if self.complete() { Vec::new() } else { self.matcher.compute_ff_tokens() }
    }

    /// How many of these tokens may follow, one after the other; it stays where it is.
    pub(crate) fn allowed(&mut self, tokens: &[u32]) -> usize {
        // A fault shows when a token is chosen, which is the same with and without this question.
        self.matcher.validate_tokens(tokens).unwrap_or(0)
    }

    /// Whether the answer is complete and nothing may follow.
    pub(crate) fn complete(&self) -> bool {
        self.matcher.is_stopped()
    }
}

#[cfg(test)]
mod tests;
