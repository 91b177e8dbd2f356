//! Random tokens in documents of a training run's lengths.

use ledger::seed::Seed;
use model::Batch;

use crate::Batches;
use crate::packed::Documents;

/// Random tokens that are drawn; documents begin at different ones of them and go round.
const DRAWN: usize = 1 << 16;

/// Documents of given lengths and random tokens, each token equally likely.
pub struct RandomDocuments {
    sizes: Vec<u32>,
    tokens: Vec<u32>,
}

impl RandomDocuments {
    /// Middle length, in tokens, of what the default run trained on where this was counted: 6,933 source files and
    /// READMEs of crates under a vocabulary of 4,096, 24.9M tokens together.
    pub(super) const MEDIAN: f64 = 1_150.0;
    /// Standard deviation of the logarithm of their lengths.
    const DEVIATION: f64 = 1.6;

    /// Documents of these lengths.
    pub fn of_sizes(sizes: impl IntoIterator<Item = u32>, vocab_size: usize, seed: Seed) -> Self {
        let mut rng = seed.stream("bench.tokens", 0);
        let tokens = (0..DRAWN).map(|_| rng.below(vocab_size as u64) as u32).collect();
        Self { sizes: sizes.into_iter().collect(), tokens }
    }

    /// Documents of at least `tokens` tokens together, their lengths as those of the default run are spread:
    /// log-normally.
    pub fn like_the_default_run(tokens: u64, vocab_size: usize, seed: Seed) -> Self {
        let mut rng = seed.stream("bench.lengths", 0);
        let mut together = 0;
        let lengths = std::iter::from_fn(move || {
            let length =
                (Self::MEDIAN * (Self::DEVIATION * f64::from(rng.normal())).exp()).clamp(8.0, 1e6) as u32;
            let wanted = together < tokens;
            together += u64::from(length);
            wanted.then_some(length)
        });
        Self::of_sizes(lengths, vocab_size, seed)
    }
}

impl Documents for RandomDocuments {
    fn len(&self) -> usize {
        self.sizes.len()
    }

    fn size(&self, document: usize) -> usize {
        self.sizes[document] as usize
    }

    fn read(&self, document: usize, offset: usize, tokens: &mut [u32]) {
        // A prime apart, so that neighbours do not look alike.
        let drawn = self.tokens.iter().cycle().skip((document * 7_919 + offset) % DRAWN);
        tokens.iter_mut().zip(drawn).for_each(|(token, drawn)| *token = *drawn);
    }
}

/// Batches of random tokens with two documents a row, the second from three eighths of the row on: those of
/// `bench/train`.
pub struct TwoDocuments {
    tokens: Vec<u32>,
}

impl TwoDocuments {
    /// Tokens of this vocabulary.
    pub fn new(vocab_size: usize, seed: Seed) -> Self {
        Self { tokens: RandomDocuments::of_sizes([], vocab_size, seed).tokens }
    }

    /// Where the second document of a row begins.
    pub fn second(seq_len: usize) -> usize {
        seq_len * 3 / 8
    }
}

impl Batches for TwoDocuments {
    fn fill(&self, step: u64, micro: u32, batch: &mut Batch) {
        let from = (step * 7_919 + u64::from(micro) * 104_729) as usize % DRAWN;
        let mut tokens = self.tokens.iter().cycle().skip(from).copied();
        let mut next = tokens.next().unwrap_or_default();
        for (input, target) in batch.inputs.iter_mut().zip(&mut batch.targets) {
            *input = next;
            next = tokens.next().unwrap_or_default();
            *target = next;
        }
        let second = Self::second(batch.seq_len);
        for starts in batch.document_starts.chunks_exact_mut(batch.seq_len) {
            starts[..second].fill(0);
            starts[second..].fill(second as u32);
        }
        batch.loss_weights.fill(1.0);
    }
}
