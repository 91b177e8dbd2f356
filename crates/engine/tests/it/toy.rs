//! Models of a few lines that stand where a Llama would: what they score next is a plain function of the tokens before.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use engine::{Error, Forward, Segment};
use ledger::progress::Silent;
use tokenizer::Tokenizer;

/// Scores from a hash of all tokens so far, or from a script.
pub struct Toy {
    pub vocab_size: usize,
    pub context: usize,
    /// Time that each call takes.
    pub pause: Duration,
    /// After a sequence of this length, this token is all but certain.
    pub script: BTreeMap<usize, u32>,
    /// From this length on the scores are NaN.
    pub breaks_at: Option<usize>,
    /// At this length the call fails.
    pub fails_at: Option<usize>,
    /// At this length the call panics.
    pub panics_at: Option<usize>,
    /// Tokens of each segment of each call, and the length of its sequence before.
    pub calls: Mutex<Vec<Vec<(usize, usize)>>>,
}

/// A rolling hash and a length.
pub struct ToyCache {
    hash: u64,
    length: usize,
    capacity: usize,
}

impl Toy {
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Toy {
            vocab_size: tokenizer.vocab_size(),
            context: 256,
            pause: Duration::ZERO,
            script: BTreeMap::new(),
            breaks_at: None,
            fails_at: None,
            panics_at: None,
            calls: Mutex::new(Vec::new()),
        }
    }

    /// A model that answers a prompt of `prompt` tokens with `answer`.
    pub fn scripted(tokenizer: &Tokenizer, prompt: usize, answer: &[u32]) -> Self {
        let script = answer.iter().enumerate().map(|(index, &token)| (prompt + index, token)).collect();
        Toy { script, ..Toy::new(tokenizer) }
    }

    fn scores(&self, cache: &ToyCache, logits: &mut [f32]) {
        let mut state = cache.hash;
        for score in logits.iter_mut() {
            state = mix(state);
            *score = (state >> 40) as f32 / (1u64 << 24) as f32 * 4.0;
        }
        if let Some(&token) = self.script.get(&cache.length) {
            logits[token as usize] = 50.0;
        }
        if self.breaks_at.is_some_and(|length| cache.length >= length) {
            logits.fill(f32::NAN);
        }
    }
}

impl Forward for Toy {
    type Cache = ToyCache;
    type Scratch = ();

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        self.context
    }

    fn cache(&self, capacity: usize) -> ToyCache {
        ToyCache { hash: 1, length: 0, capacity }
    }

    fn scratch(&self) {}

    fn forward(
        &self,
        segments: &mut [Segment<'_, ToyCache>],
        _: &mut (),
        logits: &mut Vec<f32>,
    ) -> Result<(), Error> {
        std::thread::sleep(self.pause);
        if segments.iter().any(|segment| Some(segment.cache.length) == self.fails_at) {
            return Err(Error::Model { reason: "asked to fail".into() });
        }
        let call = segments.iter().map(|segment| (segment.tokens.len(), segment.cache.length)).collect();
        self.calls.lock().unwrap().push(call);
        logits.resize(segments.len() * self.vocab_size, 0.0);
        for (segment, logits) in segments.iter_mut().zip(logits.chunks_exact_mut(self.vocab_size)) {
            assert!(!segment.tokens.is_empty());
            for &token in segment.tokens {
                segment.cache.hash = mix(segment.cache.hash ^ u64::from(token));
                segment.cache.length += 1;
            }
            assert!(segment.cache.length <= segment.cache.capacity, "the cache overflowed");
            assert_ne!(Some(segment.cache.length), self.panics_at, "asked to panic");
            self.scores(segment.cache, logits);
        }
        Ok(())
    }
}

/// SplitMix64's step.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Bytes, a few words and the special tokens.
pub fn tokenizer() -> Tokenizer {
    let texts = ["the quick brown fox jumps over the lazy dog; the dog sleeps on. café, naïve"];
    let settings = tokenizer::train::Settings { vocab_size: 544, ..Default::default() };
    tokenizer::train::train(texts.iter().cycle().take(20), &settings, &Silent).unwrap()
}
