//! Attention, forward and backward, against every score in turn in f64; over pages, against the forward's own bits.

use kernels::attention::{KvStorage, PagedQueries, Pages, Saved, Shape, backward, forward, forward_paged};
use kernels::gemm::Precision;
use kernels::isa;

use crate::compare::{Random, along, assert_close, assert_gradient, at_every_level, bits, widen};

#[derive(Debug)]
struct Case {
    shape: Shape,
    rows: usize,
    seq_len: usize,
    /// Where documents begin, in all rows but the last, which is one document.
    borders: Vec<usize>,
    precision: Precision,
    threads: usize,
    seed: u64,
}

struct Plain {
    out: Vec<f64>,
    log_sums: Vec<f64>,
    dqkv: Vec<f64>,
}

impl Case {
    fn tokens(&self) -> usize {
        self.rows * self.seq_len
    }

    fn starts(&self) -> Vec<u32> {
        let borders =
            |row: usize| if row + 1 < self.rows || self.rows == 1 { &self.borders[..] } else { &[] };
        let start = |row, token| {
            borders(row).iter().filter(|&&border| border <= token).max().map_or(0, |&b| b as u32)
        };
        (0..self.rows).flat_map(|row| (0..self.seq_len).map(move |token| start(row, token))).collect()
    }

    /// Queries, keys and values, and the gradient of the output.
    fn values(&self) -> (Vec<f32>, Vec<f32>) {
        let mut random = Random::new(self.seed);
        let outputs = self.tokens() * self.shape.heads * self.shape.head_dim;
        (random.values(self.tokens() * self.shape.width()), random.values(outputs))
    }

    fn run(&self, qkv: &[f32], dout: &[f32], starts: &[u32]) -> Vec<Vec<f32>> {
        let mut out = vec![f32::NAN; dout.len()];
        let mut log_sums = vec![f32::NAN; self.tokens() * self.shape.heads];
        forward(&mut out, &mut log_sums, qkv, starts, self.seq_len, self.shape, self.precision);
        let mut dqkv = vec![f32::NAN; qkv.len()];
        let saved = Saved { qkv, out: &out, log_sums: &log_sums, dout, document_starts: starts };
        backward(&mut dqkv, saved, self.seq_len, self.shape, self.precision);
        vec![out, log_sums, dqkv]
    }

    /// Every score, one after the other.
    fn plain(&self, qkv: &[f64], dout: &[f32], starts: &[u32]) -> Plain {
        let Shape { heads, kv_heads, head_dim } = self.shape;
        let (width, scale) = (self.shape.width(), 1.0 / (head_dim as f64).sqrt());
        let mut out = vec![0.0; dout.len()];
        let mut log_sums = vec![0.0; self.tokens() * heads];
        let mut dqkv = vec![0.0; qkv.len()];
        for (token, &start) in starts.iter().enumerate() {
            let keys = token / self.seq_len * self.seq_len + start as usize..token + 1;
            for head in 0..heads {
                let kv_head = heads + head / self.shape.group();
                let query = token * width + head * head_dim;
                let key = |key: usize| key * width + kv_head * head_dim;
                let value = |key: usize| key * width + (kv_head + kv_heads) * head_dim;
                let place = (token * heads + head) * head_dim;
                let dout = &dout[place..place + head_dim];
                let scores: Vec<f64> = keys
                    .clone()
                    .map(|k| (0..head_dim).map(|c| qkv[query + c] * qkv[key(k) + c]).sum::<f64>() * scale)
                    .collect();
                let sum: f64 = scores.iter().map(|score| score.exp()).sum();
                log_sums[token * heads + head] = sum.ln();
                let weights: Vec<f64> = scores.iter().map(|score| score.exp() / sum).collect();
                let dweights: Vec<f64> = keys
                    .clone()
                    .map(|k| (0..head_dim).map(|c| f64::from(dout[c]) * qkv[value(k) + c]).sum())
                    .collect();
                let mean: f64 = weights.iter().zip(&dweights).map(|(weight, dweight)| weight * dweight).sum();
                for ((k, weight), dweight) in keys.clone().zip(weights).zip(dweights) {
                    let dscore = weight * (dweight - mean) * scale;
                    for c in 0..head_dim {
                        out[place + c] += weight * qkv[value(k) + c];
                        dqkv[value(k) + c] += weight * f64::from(dout[c]);
                        dqkv[query + c] += dscore * qkv[key(k) + c];
                        dqkv[key(k) + c] += dscore * qkv[query + c];
                    }
                }
            }
        }
        Plain { out, log_sums, dqkv }
    }
}

fn check(case: &Case) {
    let (starts, (qkv, dout)) = (case.starts(), case.values());
    let wide = widen(&qkv);
    let plain = case.plain(&wide, &dout, &starts);
    if case.tokens() * case.seq_len * case.shape.width() < 200_000 {
        assert_gradient(case, "qkv", &mut Random::new(case.seed), &wide, &plain.dqkv, |qkv| {
            along(&case.plain(qkv, &dout, &starts).out, &dout)
        });
    }
    // In bf16, queries, keys, values, weights and their gradients are rounded to 8 bits before each product.
    let (forward, backward) = if case.precision == Precision::F32 { (1e-6, 4e-6) } else { (1e-2, 1e-2) };
    at_every_level(
        case,
        case.threads,
        || case.run(&qkv, &dout, &starts),
        |level, found| {
            assert_close(&(level, case), "out", &found[0], &plain.out, forward);
            assert_close(&(level, case), "log_sums", &found[1], &plain.log_sums, forward);
            assert_close(&(level, case), "dqkv", &found[2], &plain.dqkv, backward);
        },
    );
    if case.rows == 1 {
        check_paged(case, &qkv);
    }
}

/// Keys and values as they are after they were kept.
fn kept(case: &Case, qkv: &[f32], storage: KvStorage) -> Vec<f32> {
    let Shape { heads, head_dim, .. } = case.shape;
    let mut kept = qkv.to_vec();
    for row in kept.chunks_exact_mut(case.shape.width()) {
        for head in row[heads * head_dim..].chunks_exact_mut(head_dim) {
            match storage {
                KvStorage::F32 => {}
                KvStorage::Bf16 => {
                    head.iter_mut().for_each(|value| *value = half::bf16::from_f32(*value).to_f32());
                }
                KvStorage::Q8 => {
                    let largest = head.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                    let code =
                        |value: f32| (value * (127.0 / largest)).round_ties_even().clamp(-127.0, 127.0);
                    head.iter_mut().for_each(|value| *value = code(*value) * (largest / 127.0));
                }
            }
        }
    }
    kept
}

/// A document whose prompt arrives in parts, and a second one that shares its first pages, give the bits of the forward
/// over all of what is kept, whatever the pages' size and order.
fn check_paged(case: &Case, qkv: &[f32]) {
    let (width, out_width) = (case.shape.width(), case.shape.heads * case.shape.head_dim);
    let seq_len = case.seq_len;
    let mut random = Random::new(case.seed + 1);
    let mut cuts = Vec::new();
    while cuts.iter().sum::<usize>() < seq_len {
        cuts.push(random.size(seq_len).min(seq_len - cuts.iter().sum::<usize>()));
    }
    let whole = |qkv: &[f32]| {
        let (mut out, mut log_sums) = (vec![0.0; seq_len * out_width], vec![0.0; seq_len * case.shape.heads]);
        forward(&mut out, &mut log_sums, qkv, &vec![0; seq_len], seq_len, case.shape, case.precision);
        out
    };
    for storage in [KvStorage::F32, KvStorage::Bf16, KvStorage::Q8] {
        let tokens = random.choose(&[32, 64, 128]);
        let count = seq_len.div_ceil(tokens);
        // Two layers, of which the second is used; pages in a mixed order, with the other sequence's between them.
        let mut order: Vec<u32> = (0..2 * count as u32).collect();
        (1..order.len()).for_each(|index| order.swap(index, random.below(index + 1)));
        let (first, second) = order.split_at(count);
        let shared = random.below(seq_len / tokens + 1);
        let second: Vec<u32> = first[..shared].iter().chain(&second[shared..]).copied().collect();
        let mut other = qkv.to_vec();
        other[shared * tokens * width..].iter_mut().for_each(|value| *value *= -0.5);
        let context = (case, storage, tokens, shared, &cuts);
        for level in isa::available() {
            isa::with(level, case.threads, || {
                let expected = [qkv, &other[..]].map(|qkv| whole(&kept(case, qkv, storage)));
                let mut pages = Pages::new(case.shape, 2, case.precision, storage, tokens, 2 * count);
                assert_eq!((pages.held_bytes(), pages.count()), (0, 2 * count));
                let mut out = [(); 2].map(|()| vec![f32::NAN; seq_len * out_width]);
                let [out_first, out_second] = &mut out;
                let mut done = 0;
                let mut lagging = shared * tokens;
                for &cut in &cuts {
                    let end = done + cut;
                    let mut sequences = vec![PagedQueries {
                        qkv: &qkv[done * width..end * width],
                        pages: first,
                        first: done,
                        out: &mut out_first[done * out_width..end * out_width],
                    }];
                    // The second begins behind what it shares, once that has been read.
                    if end > lagging && lagging <= done {
                        let out = &mut out_second[lagging * out_width..end * out_width];
                        let qkv = &other[lagging * width..end * width];
                        sequences.push(PagedQueries { qkv, pages: &second, first: lagging, out });
                        lagging = end;
                    }
                    forward_paged(&mut pages, 1, &mut sequences);
                    done = end;
                }
                assert!(bits(out_first) == bits(&expected[0]), "{context:?} at {level:?}");
                let from = shared * tokens * out_width;
                if lagging == seq_len {
                    assert!(
                        bits(&out_second[from..]) == bits(&expected[1][from..]),
                        "{context:?} at {level:?}, the second"
                    );
                }
                assert!(pages.held_bytes() <= 2 * count * pages.page_bytes());
            });
        }
    }
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let kv_heads = random.choose(&[1, 1, 2, 3]);
    let heads = kv_heads * random.choose(&[1, 2, 3, 4, 8]);
    let head_dim = if random.once_in(2) { random.choose(&[32, 64, 128]) } else { random.size(140) };
    let rows = random.choose(&[1, 2, 3]);
    // As long as the plain version takes tenths of a second.
    let most = (4e7 / (rows * heads * head_dim) as f64).sqrt() as usize;
    let seq_len = random.size(most.clamp(2, 1200));
    let documents = random.choose(&[0, 1, 3, seq_len]);
    let borders = (0..documents).map(|_| random.below(seq_len)).collect();
    let (precision, threads) = (random.precision(), random.choose(&[2, 3, 8]));
    check(&Case {
        shape: Shape { heads, kv_heads, head_dim },
        rows,
        seq_len,
        borders,
        precision,
        threads,
        seed,
    });
}

#[test]
fn shapes_around_every_edge() {
    for (heads, kv_heads, head_dim, seq_len, borders) in [
        (1, 1, 2, 1, &[][..]),
        (2, 1, 4, 5, &[1, 2, 3]),
        (4, 2, 32, 67, &[3, 40]),
        (3, 3, 6, 130, &[64, 65, 129]),
        (8, 1, 16, 37, &[20]),
        (2, 2, 128, 33, &[]),
        // Several blocks of keys.
        (2, 1, 64, 600, &[5]),
        (2, 1, 8, 1100, &[]),
    ] {
        for precision in [Precision::F32, Precision::Bf16] {
            for rows in [1, 2] {
                let (shape, borders) = (Shape { heads, kv_heads, head_dim }, borders.to_vec());
                check(&Case { shape, rows, seq_len, borders, precision, threads: 3, seed: 1 });
            }
        }
    }
}
