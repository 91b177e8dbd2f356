//! How much look-up guesses right where answers are texts that people wrote, whatever model would have written them: a model
//! of no weights answers each prompt with the answer that the file has, so the guesses and the passes are those of any model
//! that says the same. What a pass costs is not measured here.
//!
//! `cargo run --release -p engine --example lookup -- TOKENIZER STREAMS,… FILE…` where a file is plain text, of which
//! stretches of 256 tokens are prompts and the next 128 answers, or `FILE.jsonl:PROMPT:ANSWER`, whose lines have these members.

#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Engine, Error, Forward, KvCache, Outputs, Request, Segment, Settings, Speculative};
use tokenizer::Tokenizer;

const PROMPT: usize = 256;
const ANSWER: usize = 128;
/// Answers of a file.
const MOST: usize = 128;
const PAGE: usize = 64;
/// Longest prompt of a pair, so that all fit.
const CONTEXT: usize = 4096;

/// Says what comes next in a text that it knows from its beginning to there.
struct Replay {
    vocab_size: usize,
    /// By the hash of all tokens before.
    next: Mutex<HashMap<u64, u32>>,
    /// Rows and sequences of passes that write, and how many passes there were.
    passes: Mutex<(usize, usize, usize)>,
}

impl Forward for Replay {
    /// The hash of the tokens up to each place.
    type Pages = Vec<u64>;
    type Scratch = Vec<f32>;

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        CONTEXT
    }

    fn page_tokens(&self) -> usize {
        PAGE
    }

    fn pages(&self, count: usize, _: KvCache) -> Vec<u64> {
        vec![0; count * PAGE]
    }

    fn scratch(&self) -> Vec<f32> {
        Vec::new()
    }

    fn forward<'s>(
        &self,
        pages: &mut Vec<u64>,
        segments: &[Segment],
        logits: &'s mut Vec<f32>,
    ) -> Result<Outputs<'s>, Error> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        logits.clear();
        let (mut rows, mut sequences) = (0, 0);
        for segment in segments {
            let place = |position: usize| segment.pages[position / PAGE] as usize * PAGE + position % PAGE;
            let mut hash = segment.first.checked_sub(1).map_or(0, |last| pages[place(last)]);
            let (scored, _) = segment.wanted.rows(segment.tokens.len());
            if scored > 0 && scored == segment.tokens.len() {
                (rows, sequences) = (rows + scored, sequences + 1);
            }
            for (index, &token) in segment.tokens.iter().enumerate() {
                hash = mixed(hash, token);
                pages[place(segment.first + index)] = hash;
                if segment.tokens.len() - index <= scored {
                    let start = logits.len();
                    logits.resize(start + self.vocab_size, 0.0);
                    logits[start + next.get(&hash).map_or(0, |&token| token as usize)] = 1.0;
                }
            }
        }
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        *passes = (passes.0 + rows, passes.1 + sequences, passes.2 + usize::from(sequences > 0));
        Ok(Outputs { logits, hidden: &mut [] })
    }
}

/// FNV-1a over a token's bytes.
fn mixed(hash: u64, token: u32) -> u64 {
    let start = hash ^ 0xcbf2_9ce4_8422_2325;
    token
        .to_le_bytes()
        .iter()
        .fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// A prompt and its answer, in tokens.
type Pair = (Vec<u32>, Vec<u32>);

/// The pairs of a file.
fn pairs(tokenizer: &Tokenizer, given: &str) -> Result<Vec<Pair>, Box<dyn std::error::Error>> {
    let bos = tokenizer.bos();
    let mut parts = given.rsplitn(3, ':');
    let mut found = Vec::new();
    if let (Some(answer), Some(prompt), Some(path)) = (parts.next(), parts.next(), parts.next()) {
        for line in std::fs::read_to_string(path)?.lines() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let text =
                |name: &str| line[name].as_str().map(|text| tokenizer.encode(text)).unwrap_or_default();
            let (prompt, mut answer) = ([vec![bos], text(prompt)].concat(), text(answer));
            answer.truncate(ANSWER);
            if answer.len() >= 16 && prompt.len() + answer.len() < CONTEXT {
                found.push((prompt, answer));
            }
        }
    } else {
        let tokens = tokenizer.encode(&std::fs::read_to_string(given)?);
        for stretch in tokens.chunks_exact(PROMPT + ANSWER) {
            let (prompt, answer) = stretch.split_at(PROMPT);
            found.push(([&[bos], prompt].concat(), answer.to_vec()));
        }
    }
    // From all over the file.
    let step = found.len().div_ceil(MOST).max(1);
    Ok(found.into_iter().step_by(step).collect())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, streams, files @ ..] = arguments.as_slice() else {
        return Err("lookup TOKENIZER STREAMS,… FILE…".into());
    };
    let tokenizer = Tokenizer::load(Path::new(path))?;
    println!("{:<28} streams  tokens a pass  rows a pass  guesses  right", "text");
    for file in files {
        let pairs = pairs(&tokenizer, file)?;
        let model = Arc::new(Replay {
            vocab_size: tokenizer.vocab_size(),
            next: Mutex::default(),
            passes: Mutex::default(),
        });
        if let Ok(mut next) = model.next.lock() {
            for (prompt, answer) in &pairs {
                let mut hash = prompt.iter().fold(0, |hash, &token| mixed(hash, token));
                for &token in answer {
                    next.insert(hash, token);
                    hash = mixed(hash, token);
                }
            }
        }
        for streams in streams.split(',') {
            let max_sequences = streams.parse()?;
            let settings =
                Settings { max_sequences, speculative: Speculative::Lookup, ..Settings::default() };
            let engine = Engine::start(Arc::clone(&model), tokenizer.clone(), settings)?;
            if let Ok(mut passes) = model.passes.lock() {
                *passes = (0, 0, 0);
            }
            let request = |(prompt, answer): &Pair| Request {
                ignore_end: true,
                ..Request::greedy(prompt.clone(), answer.len())
            };
            let answers = engine.complete_all(pairs.iter().map(request).collect());
            let mut tokens = 0;
            for (answer, (_, wanted)) in answers.into_iter().zip(&pairs) {
                let answer = answer?;
                assert_eq!(&answer.token_ids(), wanted, "look-up has changed an answer");
                // The first comes with the prompt.
                tokens += wanted.len() - 1;
            }
            let stats = engine.stats();
            let (rows, sequences, passes) = model.passes.lock().map(|passes| *passes).unwrap_or_default();
            let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
            println!(
                "{:<28} {streams:>7} {:>14.2} {:>12.1} {:>8} {:>5.0}%",
                name.chars().take(28).collect::<String>(),
                tokens as f64 / sequences.max(1) as f64,
                rows as f64 / passes.max(1) as f64,
                stats.drafted_tokens,
                100.0 * stats.accepted_tokens as f64 / stats.drafted_tokens.max(1) as f64,
            );
        }
    }
    Ok(())
}
