//! The same bits on any number of threads and from pass to pass, at shapes that cut every sum into several parts. Why
//! they are the same, sum by sum, stands in `docs/decisions/kernels-determinism.md`.

use kernels::gemm::{Accumulate, Precision};
use ledger::seed::Seed;
use model::backward::loss_and_gradients;
use model::recompute::Recompute;
use model::{
    Adapted, AdapterSettings, Adapters, Batch, Config, Formats, Frozen, Parameters, Weights, Workspace,
};

struct Case {
    config: Config,
    rows: usize,
    seq_len: usize,
    /// Where documents begin, in every row but the first.
    borders: &'static [usize],
}

fn cases() -> [Case; 3] {
    let config =
        Config { dim: 64, layers: 2, head_dim: 16, max_seq_len: 2048, ..Config::preset("1b").unwrap() };
    [
        // Tokens, and the feed-forward's width, are several of a product's blocks of K; a chunk of the output layer ends
        // within the tokens, some of which do not count.
        Case {
            config: Config { heads: 4, kv_heads: 2, ffn_dim: 1100, vocab_size: 1003, ..config.clone() },
            rows: 2,
            seq_len: 701,
            borders: &[1, 64, 65, 300, 699],
        },
        // Nothing is a multiple of anything.
        Case {
            config: Config {
                dim: 66,
                heads: 3,
                kv_heads: 1,
                head_dim: 22,
                ffn_dim: 75,
                vocab_size: 97,
                ..config.clone()
            },
            rows: 5,
            seq_len: 129,
            borders: &[17, 128],
        },
        // Attention in several blocks of keys.
        Case {
            config: Config { heads: 2, kv_heads: 1, ffn_dim: 33, vocab_size: 300, ..config },
            rows: 1,
            seq_len: 1500,
            borders: &[],
        },
    ]
}

impl Case {
    fn batch(&self, seed: u64) -> Batch {
        let mut rng = Seed(seed).stream("batch", 0);
        let mut batch = Batch::new(self.rows, self.seq_len);
        for place in 0..batch.tokens() {
            batch.inputs[place] = rng.below(self.config.vocab_size as u64) as u32;
            batch.targets[place] = rng.below(self.config.vocab_size as u64) as u32;
            batch.loss_weights[place] = if rng.below(5) == 0 { 0.0 } else { 0.5 + rng.uniform() as f32 };
            let (row, token) = (place / self.seq_len, place % self.seq_len);
            let start = self.borders.iter().filter(|&&border| row > 0 && border <= token).max();
            batch.document_starts[place] = start.map_or(0, |&start| start as u32);
        }
        batch
    }

    /// Bits of the sums of losses and of the gradients of two micro-batches, the `passes`-th time they are asked for.
    fn bits(
        &self,
        parameters: &impl Parameters,
        [precision, kept]: [Precision; 2],
        threads: usize,
        passes: usize,
    ) -> (Vec<u64>, Vec<u32>) {
        let mut workspace =
            Workspace::keeping(&self.config, self.rows, self.seq_len, &Recompute::default(), kept);
        let mut gradients = vec![f32::NAN; parameters.layout().len];
        let (batches, mut sums) = ([self.batch(1), self.batch(2)], Vec::new());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            for _ in 0..passes {
                sums.clear();
                let mut accumulate = Accumulate::Overwrite;
                for batch in &batches {
                    let both = &mut gradients;
                    let one =
                        loss_and_gradients(parameters, batch, &mut workspace, both, accumulate, precision);
                    let one = one.unwrap();
                    sums.extend([one.weighted.to_bits(), one.weight.to_bits()]);
                    accumulate = Accumulate::Add;
                }
            }
            sums.push(kernels::reduce::sum_of_squares(&gradients).to_bits());
        });
        (sums, gradients.iter().map(|gradient| gradient.to_bits()).collect())
    }

    fn check(&self, parameters: &impl Parameters) {
        for precision in [[Precision::F32; 2], [Precision::Bf16, Precision::F32], [Precision::Bf16; 2]] {
            let one = self.bits(parameters, precision, 1, 1);
            for threads in [1, 2, 3, 8] {
                let again = self.bits(parameters, precision, threads, 2);
                let tokens = self.rows * self.seq_len;
                assert!(
                    one.0 == again.0,
                    "{tokens} tokens, {precision:?}, {threads} threads: losses or norm"
                );
                assert!(one.1 == again.1, "{tokens} tokens, {precision:?}, {threads} threads: gradients");
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_on_earlier_passes() {
    for case in cases() {
        case.check(&Weights::init(&case.config, &mut Seed(3).stream("weights", 0)).unwrap());
    }
}

#[test]
fn nor_do_those_of_adapters_over_a_quantised_model() {
    for case in cases() {
        let weights = Weights::init(&case.config, &mut Seed(3).stream("weights", 0)).unwrap();
        let base = Frozen::new(&weights, Formats::QLORA).unwrap();
        let settings = AdapterSettings { dropout: 0.1, ..AdapterSettings::default() };
        let mut rng = Seed(4).stream("adapters", 0);
        let mut adapters = Adapters::init(&case.config, &settings, &mut rng).unwrap();
        adapters.data.iter_mut().for_each(|value| *value += 0.01 * rng.normal());
        case.check(&Adapted::new(&base, &adapters).dropping(Seed(9), 5));
    }
}
