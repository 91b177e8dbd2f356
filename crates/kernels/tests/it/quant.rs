//! Products with quantised matrices, against sums in f64 over the values that they stand for.

use kernels::gemm::{Accumulate, Precision, View, ViewMut, gemm};
use kernels::kept::Values;
use kernels::quant::{Format, Matrix, embedding, forward, input_gradient};

use crate::compare::{Random, Sum, assert_sums, at_every_level, bits, rounded};

const FORMATS: [Format; 5] =
    [Format::F32, Format::Bf16, Format::Int8, Format::Nf4 { double: false }, Format::Nf4 { double: true }];

#[derive(Debug)]
struct Case {
    format: Format,
    rows: usize,
    cols: usize,
    tokens: usize,
    precision: Precision,
    accumulate: Accumulate,
    threads: usize,
    seed: u64,
}

fn check(case: &Case) {
    let Case { rows, cols, tokens, precision, accumulate, .. } = *case;
    let mut random = Random::new(case.seed);
    let (x, dy) = (random.values(tokens * cols), random.values(tokens * rows));
    let mut values = random.values(rows * cols);
    values.iter_mut().for_each(|value| *value *= 0.05);
    let matrix = Matrix::new(case.format, rows, cols, &values);
    let mut whole = vec![f32::NAN; rows * cols];
    matrix.dequantise(0, &mut whole);
    let names: Vec<u32> = (0..tokens).map(|_| random.below(rows) as u32).collect();
    let (start, end) = (random.below(rows * cols), random.below(rows * cols + 1));
    let part = start.min(end)..end.max(start);
    let run = || {
        let (mut y, mut dx) = (vec![0.5; tokens * rows], vec![0.5; tokens * cols]);
        forward(&mut y, &x, &matrix, precision, accumulate);
        input_gradient(&mut dx, Values::F32(&dy), &matrix, precision, accumulate);
        let (mut gathered, mut some) = (vec![f32::NAN; tokens * cols], vec![f32::NAN; part.len()]);
        embedding(&mut gathered, &matrix, &names);
        matrix.dequantise(part.start, &mut some);
        let mut with_whole = vec![0.5; tokens * rows];
        let (c, weights) =
            (ViewMut::new(&mut with_whole, tokens, rows, rows), View::new(&whole, rows, cols, cols));
        gemm(precision, c, View::new(&x, tokens, cols, cols), weights.transposed(), accumulate);
        vec![y, dx, gathered, some, with_whole]
    };
    let round =
        |values: &[f32]| -> Vec<f64> { values.iter().map(|&value| rounded(precision, value)).collect() };
    let (exact_x, exact_dy, wide) = (round(&x), round(&dy), round(&whole));
    let before = if accumulate == Accumulate::Add { 0.5 } else { 0.0 };
    let sums = |width: usize, depth: usize, term: &dyn Fn(usize, usize, usize) -> f64| -> Vec<Sum> {
        let at = |place: usize| {
            let terms = (0..depth).map(|k| term(place / width, place % width, k));
            std::iter::once(before).chain(terms).collect()
        };
        (0..tokens * width).map(at).collect()
    };
    let products = sums(rows, cols, &|token, row, col| exact_x[token * cols + col] * wide[row * cols + col]);
    let gradients =
        sums(cols, rows, &|token, col, row| exact_dy[token * rows + row] * wide[row * cols + col]);
    at_every_level(case, case.threads, run, |level, found| {
        let case = (level, case);
        assert_sums(&case, "y", &found[0], &products, rows);
        assert!(bits(&found[0]) == bits(&found[4]), "{case:?}: other bits than with the dequantised matrix");
        assert_sums(&case, "dx", &found[1], &gradients, cols);
        for (gathered, &name) in found[2].chunks_exact(cols).zip(&names) {
            assert_eq!(gathered, &whole[name as usize * cols..][..cols], "{case:?}: row {name}");
        }
        assert_eq!(found[3], whole[part.clone()], "{case:?}: values {part:?}");
    });
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let (rows, cols) = (random.size(300), random.size(400));
    let case = Case {
        format: random.choose(&FORMATS),
        rows,
        cols,
        tokens: random.size(40),
        precision: random.precision(),
        accumulate: random.choose(&[Accumulate::Add, Accumulate::Overwrite]),
        threads: random.choose(&[2, 3, 8]),
        seed,
    };
    check(&case);
}

#[test]
fn shapes_around_every_edge() {
    for format in FORMATS {
        for precision in [Precision::F32, Precision::Bf16] {
            let case = |rows, cols, tokens, accumulate| {
                check(&Case { format, rows, cols, tokens, precision, accumulate, threads: 3, seed: 7 });
            };
            for (rows, cols, tokens) in [(1, 1, 1), (5, 70, 3), (66, 33, 9)] {
                case(rows, cols, tokens, Accumulate::Add);
                case(rows, cols, tokens, Accumulate::Overwrite);
            }
        }
    }
    // More than one strip of 2²² values.
    for format in [Format::Int8, Format::Nf4 { double: true }] {
        let (precision, accumulate) = (Precision::F32, Accumulate::Overwrite);
        check(&Case {
            format,
            rows: 1024 + 70,
            cols: 4096,
            tokens: 2,
            precision,
            accumulate,
            threads: 3,
            seed: 7,
        });
    }
}
