//! Models of a few lines that stand where a Llama would: what they score next is a plain function of the tokens before.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use engine::{Error, Forward, KvCache, Outputs, Segment};
use tokenizer::Tokenizer;

pub use crate::words::tokenizer;

/// Scores from a hash of all tokens so far, or from a script.
pub struct Toy {
    pub vocab_size: usize,
    pub context: usize,
    pub page_tokens: usize,
    /// Time that each call takes.
    pub pause: Duration,
    /// After a sequence of this length, this token is all but certain.
    pub script: BTreeMap<usize, u32>,
    /// The scores depend on the last token alone, so that answers repeat themselves.
    pub forgets: bool,
    /// From this length on the scores are NaN.
    pub breaks_at: Option<usize>,
    /// At this length the call fails.
    pub fails_at: Option<usize>,
    /// At this length the call panics.
    pub panics_at: Option<usize>,
    /// Tokens of each segment of each call, and the length of its sequence before.
    pub calls: Mutex<Vec<Vec<(usize, usize)>>>,
}

/// For each place of each page the hash of all tokens up to it, and the sequence's length there.
pub struct ToyPages {
    places: Vec<(u64, usize)>,
}

impl Toy {
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Toy {
            vocab_size: tokenizer.vocab_size(),
            context: 256,
            page_tokens: 16,
            pause: Duration::ZERO,
            script: BTreeMap::new(),
            forgets: false,
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

    fn scores(&self, hash: u64, length: usize, logits: &mut [f32]) {
        let mut state = hash;
        for score in logits.iter_mut() {
            state = mix(state);
            *score = (state >> 40) as f32 / (1u64 << 24) as f32 * 4.0;
        }
        if let Some(&token) = self.script.get(&length) {
            logits[token as usize] = 50.0;
        }
        if self.breaks_at.is_some_and(|at| length >= at) {
            logits.fill(f32::NAN);
        }
    }
}

impl Forward for Toy {
    type Pages = ToyPages;
    type Scratch = (Vec<f32>, Vec<f32>);

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn context(&self) -> usize {
        self.context
    }

    fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    fn pages(&self, count: usize, _: KvCache) -> ToyPages {
        ToyPages { places: vec![(0, usize::MAX); count * self.page_tokens] }
    }

    fn scratch(&self) -> Self::Scratch {
        Default::default()
    }

    fn forward<'s>(
        &self,
        pages: &mut ToyPages,
        segments: &[Segment],
        (logits, hidden): &'s mut Self::Scratch,
    ) -> Result<Outputs<'s>, Error> {
        std::thread::sleep(self.pause);
        if segments.iter().any(|segment| Some(segment.first) == self.fails_at) {
            return Err(Error::Model { reason: "asked to fail".into() });
        }
        let call = segments.iter().map(|segment| (segment.tokens.len(), segment.first)).collect();
        self.calls.lock().unwrap().push(call);
        logits.clear();
        hidden.clear();
        for segment in segments {
            assert!(!segment.tokens.is_empty());
            let place = |position: usize| {
                let page = segment.pages[position / self.page_tokens] as usize;
                page * self.page_tokens + position % self.page_tokens
            };
            let (mut hash, mut length) =
                segment.first.checked_sub(1).map_or((1, 0), |last| pages.places[place(last)]);
            assert_eq!(length, segment.first, "the pages are not the sequence's");
            let (scored, shown) = segment.wanted.rows(segment.tokens.len());
            for (index, &token) in segment.tokens.iter().enumerate() {
                hash = mix(hash ^ u64::from(token));
                length += 1;
                pages.places[place(length - 1)] = (hash, length);
                let left = segment.tokens.len() - index;
                if left <= scored {
                    logits.resize(logits.len() + self.vocab_size, 0.0);
                    let start = logits.len() - self.vocab_size;
                    let seen = if self.forgets { mix(u64::from(token)) } else { hash };
                    self.scores(seen, length, &mut logits[start..]);
                }
                if left <= shown {
                    hidden.extend([(hash >> 40) as f32, length as f32]);
                }
            }
            assert_ne!(Some(length), self.panics_at, "asked to panic");
        }
        Ok(Outputs { logits, hidden })
    }
}

/// SplitMix64's step.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
