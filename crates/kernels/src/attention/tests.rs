use super::*;
use crate::gemm::Precision;
use crate::isa;
use crate::reduce::testing::{Values, check_gradient};

struct Case {
    shape: Shape,
    seq_len: usize,
    starts: Vec<u32>,
    qkv: Vec<f32>,
}

/// Two sequences whose documents begin at `borders`; the second one is a single document.
fn case(heads: usize, kv_heads: usize, head_dim: usize, seq_len: usize, borders: &[usize]) -> Case {
    let shape = Shape { heads, kv_heads, head_dim };
    let start = |i: usize| borders.iter().copied().filter(|&b| b <= i).max().unwrap_or(0) as u32;
    let starts = (0..seq_len).map(start).chain((0..seq_len).map(|_| 0)).collect();
    let qkv = Values::new(seq_len as u64).take(2 * seq_len * shape.width());
    Case { shape, seq_len, starts, qkv }
}

fn cases() -> Vec<Case> {
    vec![
        case(1, 1, 2, 1, &[]),
        case(2, 1, 4, 5, &[1, 2, 3]),
        case(4, 2, 32, 67, &[3, 40]),
        case(3, 3, 6, 130, &[64, 65, 129]),
        case(8, 1, 16, 37, &[20]),
        case(2, 1, 64, 600, &[5]),
        case(2, 2, 128, 33, &[]),
    ]
}

fn run(case: &Case, qkv: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let tokens = 2 * case.seq_len;
    let mut out = vec![f32::NAN; tokens * case.shape.heads * case.shape.head_dim];
    let mut log_sums = vec![f32::NAN; tokens * case.shape.heads];
    forward(&mut out, &mut log_sums, qkv, &case.starts, case.seq_len, case.shape, Precision::F32);
    (out, log_sums)
}

/// The plain version: every score, one after the other, in f64.
fn plain(case: &Case, qkv: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let Shape { heads, kv_heads, head_dim } = case.shape;
    let (width, tokens) = (case.shape.width(), 2 * case.seq_len);
    let mut out = vec![0.0; tokens * heads * head_dim];
    let mut log_sums = vec![0.0; tokens * heads];
    for token in 0..tokens {
        let base = token / case.seq_len * case.seq_len;
        for head in 0..heads {
            let kv_head = head / (heads / kv_heads);
            let value =
                |token: usize, column: usize, c: usize| f64::from(qkv[token * width + column * head_dim + c]);
            let keys = base + case.starts[token] as usize..token + 1;
            let scores: Vec<f64> = keys
                .clone()
                .map(|key| {
                    let products =
                        (0..head_dim).map(|c| value(token, head, c) * value(key, heads + kv_head, c));
                    products.sum::<f64>() / (head_dim as f64).sqrt()
                })
                .collect();
            let sum: f64 = scores.iter().map(|score| score.exp()).sum();
            log_sums[token * heads + head] = sum.ln();
            for (key, score) in keys.zip(scores) {
                for c in 0..head_dim {
                    out[(token * heads + head) * head_dim + c] +=
                        score.exp() / sum * value(key, heads + kv_heads + kv_head, c);
                }
            }
        }
    }
    (out, log_sums)
}

#[test]
fn forward_agrees_with_the_plain_version() {
    for case in cases() {
        let (exact, exact_log_sums) = plain(&case, &case.qkv);
        for level in isa::available() {
            let (out, log_sums) = isa::with(level, 2, || run(&case, &case.qkv));
            for (value, exact) in out.iter().zip(&exact).chain(log_sums.iter().zip(&exact_log_sums)) {
                assert!((f64::from(*value) - exact).abs() < 3e-6, "{:?} {level:?}", case.shape);
            }
        }
    }
}

fn gradient(case: &Case, dout: &[f32]) -> Vec<f32> {
    let (out, log_sums) = run(case, &case.qkv);
    let mut dqkv = vec![f32::NAN; case.qkv.len()];
    let saved = Saved { qkv: &case.qkv, out: &out, log_sums: &log_sums, dout, document_starts: &case.starts };
    backward(&mut dqkv, saved, case.seq_len, case.shape, Precision::F32);
    dqkv
}

#[test]
fn gradients_agree_with_finite_differences_of_the_plain_version() {
    for case in cases().into_iter().filter(|case| case.seq_len < 200) {
        let dout = Values::new(99).take(2 * case.seq_len * case.shape.heads * case.shape.head_dim);
        check_gradient("qkv", &case.qkv, &gradient(&case, &dout), |qkv| {
            plain(&case, qkv).0.iter().zip(&dout).map(|(a, &b)| a * f64::from(b)).sum()
        });
    }
}

#[test]
fn several_blocks_of_keys_give_the_gradient_of_one_block() {
    // At 600 keys the second block begins; a sequence cut at the same places into shorter ones must not differ.
    let long = case(2, 1, 8, 1100, &[]);
    let dout = Values::new(5).take(2 * 1100 * 16);
    let dqkv = gradient(&long, &dout);
    let (width, place) = (long.shape.width(), 3);
    for token in [0, 511, 512, 700, 1099] {
        let mut qkv = long.qkv.clone();
        let mut at = |offset: f32| {
            qkv[token * width + place] = long.qkv[token * width + place] + offset;
            plain(&long, &qkv).0.iter().zip(&dout).map(|(a, &b)| a * f64::from(b)).sum::<f64>()
        };
        let numeric = (at(1e-3) - at(-1e-3)) / 2e-3;
        assert!((numeric - f64::from(dqkv[token * width + place])).abs() < 1e-3);
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let case = case(4, 2, 32, 300, &[100]);
    let dout = Values::new(7).take(2 * 300 * 128);
    let bits = |threads| {
        isa::with(isa::detected(), threads, || {
            let all = [run(&case, &case.qkv).0, gradient(&case, &dout)].concat();
            all.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        })
    };
    let one = bits(1);
    assert!([2, 3, 8].into_iter().all(|threads| bits(threads) == one));
}

#[test]
fn cached_queries_give_the_same_bits_however_the_prompt_is_cut() {
    let case = case(4, 2, 16, 700, &[]);
    let (width, kv_width, out_width) = (case.shape.width(), 32, 64);
    let columns = |from: usize| -> Vec<f32> {
        (0..700).flat_map(|t| case.qkv[t * width + from..t * width + from + kv_width].to_vec()).collect()
    };
    let (keys, values) = (columns(64), columns(96));
    let (expected, _) = run(&case, &case.qkv);
    for cuts in [vec![700], vec![1; 700], vec![13, 500, 100, 87]] {
        let mut out = vec![f32::NAN; 700 * out_width];
        let mut first = 0;
        for count in cuts {
            let sequence = CachedQueries {
                queries: &case.qkv[first * width..],
                stride: width,
                keys: &keys,
                values: &values,
                first,
                out: &mut out[first * out_width..(first + count) * out_width],
            };
            forward_cached(&mut [sequence], case.shape, Precision::F32);
            first += count;
        }
        assert!(out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
