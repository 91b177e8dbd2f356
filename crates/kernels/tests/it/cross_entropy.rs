//! The output layer with its losses, against all logits in f64.

use kernels::cross_entropy::{Gradients, Input, LmHead, Scratch, cross_entropy};
use kernels::gemm::{Accumulate, Precision};

use crate::compare::{Random, along, assert_close, assert_gradient, at_every_level, widen};

#[derive(Debug)]
struct Case {
    tokens: usize,
    dim: usize,
    vocab_size: usize,
    /// One token in so many counts.
    counts: usize,
    /// Logits that are held at once, where they are fewer than usual.
    held: Option<usize>,
    /// Logits that are made at once where they are held in bf16.
    piece: Option<usize>,
    z_loss: f32,
    precision: Precision,
    accumulate: Accumulate,
    threads: usize,
    seed: u64,
}

#[derive(Default)]
struct Plain {
    losses: Vec<f64>,
    dhidden: Vec<f64>,
    dlm_head: Vec<f64>,
}

impl Case {
    fn plain(&self, hidden: &[f64], lm_head: &[f64], targets: &[u32], weights: &[f32]) -> Plain {
        let (dim, z_loss) = (self.dim, f64::from(self.z_loss));
        let mut plain = Plain {
            losses: vec![0.0; self.tokens],
            dhidden: vec![0.0; hidden.len()],
            dlm_head: vec![0.0; lm_head.len()],
        };
        for (token, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            let (target, hidden) = (targets[token] as usize, &hidden[token * dim..][..dim]);
            let logits: Vec<f64> = lm_head
                .chunks_exact(dim)
                .map(|row| row.iter().zip(hidden).map(|(row, hidden)| row * hidden).sum())
                .collect();
            let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
            plain.losses[token] = log_sum - logits[target] + z_loss * log_sum * log_sum;
            for (v, logit) in logits.iter().enumerate() {
                let softmax = (logit - log_sum).exp() * (1.0 + 2.0 * z_loss * log_sum);
                let dlogit = f64::from(weight) * (softmax - if v == target { 1.0 } else { 0.0 });
                for d in 0..dim {
                    plain.dhidden[token * dim + d] += dlogit * lm_head[v * dim + d];
                    plain.dlm_head[v * dim + d] += dlogit * hidden[d];
                }
            }
        }
        plain
    }
}

fn check(case: &Case) {
    let Case { tokens, dim, vocab_size, z_loss, precision, accumulate, .. } = *case;
    let mut random = Random::new(case.seed);
    let (hidden, lm_head) = (random.values(tokens * dim), random.values(vocab_size * dim));
    let weights: Vec<f32> = (0..tokens)
        .map(|_| if random.once_in(case.counts) { 0.5 + random.below(100) as f32 / 100.0 } else { 0.0 })
        .collect();
    let targets: Vec<u32> = weights
        .iter()
        // What a token that does not count has as its target is not read.
        .map(|&weight| if weight == 0.0 { u32::MAX } else { random.below(vocab_size) as u32 })
        .collect();
    let before = random.values(vocab_size * dim);
    let (wide, wide_lm_head) = (widen(&hidden), widen(&lm_head));
    let mut plain = case.plain(&wide, &wide_lm_head, &targets, &weights);
    if tokens * dim * vocab_size < 100_000 {
        let loss = |plain: Plain| along(&plain.losses, &weights);
        assert_gradient(case, "hidden", &mut random, &wide, &plain.dhidden, |hidden| {
            loss(case.plain(hidden, &wide_lm_head, &targets, &weights))
        });
        assert_gradient(case, "lm_head", &mut random, &wide_lm_head, &plain.dlm_head, |lm_head| {
            loss(case.plain(&wide, lm_head, &targets, &weights))
        });
    }
    if accumulate == Accumulate::Add {
        plain.dlm_head.iter_mut().zip(&before).for_each(|(sum, &before)| *sum += f64::from(before));
    }
    let run = || {
        let mut scratch = match (case.held, case.piece) {
            (None, None) => Scratch::new(tokens, dim, vocab_size),
            (None, Some(_)) => Scratch::rounding(tokens, dim, vocab_size),
            (Some(logits), None) => Scratch::holding(logits, tokens, dim, vocab_size),
            (Some(logits), Some(piece)) => Scratch::rounding_pieces(logits, piece, tokens, dim, vocab_size),
        };
        let input = Input {
            hidden: &hidden,
            lm_head: LmHead::Plain(&lm_head),
            targets: &targets,
            weights: &weights,
            dim,
            z_loss,
        };
        let (mut losses, mut alone) = (vec![f32::NAN; tokens], vec![f32::NAN; tokens]);
        let mut dhidden = vec![f32::NAN; tokens * dim];
        let mut dlm_head = match accumulate {
            Accumulate::Add => before.clone(),
            Accumulate::Overwrite => vec![f32::NAN; vocab_size * dim],
        };
        let gradients = Gradients { hidden: &mut dhidden, lm_head: &mut dlm_head, accumulate };
        cross_entropy(&mut losses, input, Some(gradients), &mut scratch, precision);
        cross_entropy(&mut alone, input, None, &mut scratch, precision);
        vec![losses, alone, dhidden, dlm_head]
    };
    // In bf16, hidden states, the matrix and the logits' gradients are rounded to 8 bits before each product.
    let (loss_error, mut error) = if precision == Precision::F32 { (2e-6, 5e-6) } else { (1e-2, 3e-2) };
    // The logits' gradients alone, twice.
    if case.piece.is_some() && precision == Precision::F32 {
        error = 1e-2;
    }
    at_every_level(case, case.threads, run, |level, found| {
        assert_close(&(level, case), "losses", &found[0], &plain.losses, loss_error);
        assert!(found[0] == found[1], "{case:?} at {level:?}: other losses without gradients");
        assert_close(&(level, case), "dhidden", &found[2], &plain.dhidden, error);
        assert_close(&(level, case), "dlm_head", &found[3], &plain.dlm_head, error);
    });
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    // Some beyond a chunk of 512 tokens.
    let tokens = if random.once_in(4) { 500 + random.below(800) } else { random.size(300) };
    let dim = random.size(100);
    let vocab_size = random.size((2e7 / (tokens * dim) as f64).clamp(2.0, 5000.0) as usize);
    let held = if random.once_in(2) { None } else { Some(1 + random.below(tokens * vocab_size)) };
    let case = Case {
        tokens,
        dim,
        vocab_size,
        counts: random.choose(&[1, 1, 2, 10]),
        held,
        piece: if random.once_in(2) { None } else { Some(1 + random.below(tokens * vocab_size)) },
        z_loss: random.choose(&[0.0, 1e-4, 0.1]),
        precision: random.precision(),
        accumulate: random.choose(&[Accumulate::Add, Accumulate::Overwrite]),
        threads: random.choose(&[2, 3, 8]),
        seed,
    };
    check(&case);
}

#[test]
fn shapes_around_every_edge() {
    for ([tokens, dim, vocab_size, counts], held, z_loss) in [
        ([1, 3, 5, 1], None, 0.0),
        ([7, 4, 33, 1], None, 0.1),
        ([40, 5, 64, 2], None, 0.0),
        ([600, 2, 9, 3], None, 0.0),
        // No token counts.
        ([3, 2, 9, 1_000_000], None, 0.1),
        // The vocabulary in parts, the last one short.
        ([7, 4, 150, 1], Some(7 * 64), 0.0),
        ([40, 5, 129, 2], Some(40 * 64), 0.1),
    ] {
        for precision in [Precision::F32, Precision::Bf16] {
            let piece = Some(tokens * 64);
            for (accumulate, piece) in
                [(Accumulate::Add, None), (Accumulate::Overwrite, None), (Accumulate::Add, piece)]
            {
                let (threads, seed) = (3, 1);
                check(&Case {
                    tokens,
                    dim,
                    vocab_size,
                    counts,
                    held,
                    piece,
                    z_loss,
                    precision,
                    accumulate,
                    threads,
                    seed,
                });
            }
        }
    }
}
