//! Products in 8-bit integers: every instruction set against a plain loop, bit by bit, and that against sums in f64 over
//! the values that the blocks stand for.

use half::f16;
use kernels::gemm::{Accumulate, ViewMut};
use kernels::int8::{Activations, Matrix, Unpackable, product};
use kernels::isa;
use kernels::quant::Encoding;

use crate::compare::{Random, bits};

const ENCODINGS: [Encoding; 10] = [
    Encoding::Q8_0,
    Encoding::Q5_1,
    Encoding::Q5_0,
    Encoding::Q4_1,
    Encoding::Q4_0,
    Encoding::Q6K,
    Encoding::Q5K,
    Encoding::Q4K,
    Encoding::Q3K,
    Encoding::Q2K,
];

#[derive(Debug)]
struct Case {
    encoding: Encoding,
    rows: usize,
    cols: usize,
    tokens: usize,
    /// Beside each row of the result.
    gap: usize,
    accumulate: Accumulate,
    /// Any bytes with sound scales, or what values become.
    extremes: bool,
    threads: usize,
    seed: u64,
}

struct Operands {
    encoded: Vec<u8>,
    row_bytes: usize,
    x: Vec<f32>,
    before: Vec<f32>,
}

/// Blocks of random values; where nothing makes them of values, random ones that stand for values as large.
fn blocks(encoding: Encoding, random: &mut Random, values: usize) -> Vec<u8> {
    let mut bytes = vec![0; encoding.bytes(values).unwrap()];
    if encoding.is_written() {
        encoding.encode(&random.values(values), &mut bytes);
    } else {
        bytes.iter_mut().for_each(|byte| *byte = random.bits() as u8);
        put_scales(encoding, &mut bytes, || random.choose(&[0.01, -0.03, 0.02]));
    }
    bytes
}

/// Writes the f16 of every block.
fn put_scales(encoding: Encoding, bytes: &mut [u8], mut scale: impl FnMut() -> f32) {
    let places: &[usize] = match encoding {
        Encoding::Q5_1 | Encoding::Q4_1 | Encoding::Q5K | Encoding::Q4K => &[0, 2],
        Encoding::Q6K => &[208],
        Encoding::Q3K => &[108],
        Encoding::Q2K => &[80, 82],
        _ => &[0],
    };
    for block in bytes.chunks_exact_mut(encoding.block_bytes()) {
        for &at in places {
            block[at..at + 2].copy_from_slice(&f16::from_f32(scale()).to_le_bytes());
        }
    }
}

impl Case {
    fn operands(&self) -> Operands {
        let Self { encoding, rows, cols, tokens, gap, .. } = *self;
        let mut random = Random::new(self.seed);
        let row_bytes = encoding.bytes(cols).unwrap();
        let mut encoded = vec![0; rows * row_bytes];
        if self.extremes {
            for byte in &mut encoded {
                let any = random.bits() as u8;
                *byte = random.choose(&[0, 0xff, 0x80, 0x7f, any]);
            }
            put_scales(encoding, &mut encoded, || random.choose(&[1.0, -0.5, 0.001, 3e-7]));
        } else {
            encoded = blocks(encoding, &mut random, rows * cols);
        }
        let mut x = random.values(tokens * cols);
        if self.extremes {
            x.iter_mut().for_each(|x| *x = random.choose(&[1.0, -1.0, *x, 1e-20, 0.0]));
        }
        Operands { encoded, row_bytes, x, before: random.values(tokens * (rows + gap)) }
    }

    fn run(&self, Operands { encoded, row_bytes, x, before }: &Operands) -> Vec<f32> {
        let Self { encoding, rows, cols, tokens, gap, accumulate, .. } = *self;
        let matrix =
            Matrix::new(encoding, rows, cols, |row| &encoded[row * row_bytes..][..*row_bytes]).unwrap();
        let mut activations = Activations::new();
        activations.round(x, cols, [&matrix]);
        let mut y = before.clone();
        product(&mut ViewMut::new(&mut y, tokens, rows, rows + gap), &activations, &matrix, accumulate);
        y
    }
}

fn check(case: &Case) {
    let Case { encoding, rows, cols, tokens, gap, accumulate, .. } = *case;
    let operands = case.operands();
    let plain = isa::with(isa::Isa::Portable, 1, || case.run(&operands));
    for level in isa::available() {
        for threads in [1, case.threads] {
            let found = isa::with(level, threads, || case.run(&operands));
            for (place, (found, plain)) in found.iter().zip(&plain).enumerate() {
                let (token, row) = (place / (rows + gap), place % (rows + gap));
                assert!(
                    found.to_bits() == plain.to_bits(),
                    "{case:?} at {level:?} on {threads} threads: y[{token}, {row}] is {found}, not {plain}"
                );
            }
        }
    }
    // Rows alone, and another cut, have the same bits.
    let mut random = Random::new(case.seed + 1);
    for count in [1, random.size(tokens)] {
        let first = random.below(tokens - count.min(tokens) + 1);
        let part = Operands {
            x: operands.x[first * cols..(first + count) * cols].to_vec(),
            before: operands.before[first * (rows + gap)..(first + count) * (rows + gap)].to_vec(),
            encoded: operands.encoded.clone(),
            ..operands
        };
        let found = Case { tokens: count, ..*case }.run(&part);
        let wanted = &plain[first * (rows + gap)..(first + count) * (rows + gap)];
        assert!(bits(&found) == bits(wanted), "{case:?}: rows {first} to {} alone", first + count);
    }

    let mut values = vec![f32::NAN; rows * cols];
    encoding.decode(&operands.encoded, 0, &mut values);
    let block = encoding.block_values();
    for token in 0..tokens {
        let x = &operands.x[token * cols..][..cols];
        // The largest value of a block is 127 steps; a code is off by at most half a step.
        let off: Vec<f64> = x
            .chunks(block)
            .flat_map(|x| {
                let largest = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                vec![f64::from(largest) / 127.0 * 0.501; block]
            })
            .collect();
        for row in 0..rows {
            let (mut exact, mut error) = (0.0, 1e-6);
            for ((x, off), w) in x.iter().zip(off.iter()).zip(&values[row * cols..][..cols]) {
                exact += f64::from(*x) * f64::from(*w);
                error += (off + 1e-5 * f64::from(x.abs())) * f64::from(w.abs());
            }
            let place = token * (rows + gap) + row;
            if accumulate == Accumulate::Add {
                exact += f64::from(operands.before[place]);
            }
            // Minima are taken away from larger sums.
            let slack = if encoding == Encoding::Q4K { 1e-4 * cols as f64 } else { 1e-5 * exact.abs() };
            let distance = (f64::from(plain[place]) - exact).abs();
            assert!(
                distance <= error + slack,
                "{case:?}: y[{token}, {row}] is {}, not {exact}",
                plain[place]
            );
        }
        let after = token * (rows + gap) + rows..(token + 1) * (rows + gap);
        assert_eq!(plain[after.clone()], operands.before[after], "{case:?}: beside the result");
    }
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let encoding = random.choose(&ENCODINGS);
    let block = encoding.block_values();
    let (rows, cols) = (random.size(150), random.size(2400 / block) * block);
    // As long as the plain version takes tenths of a second.
    let tokens = random.size((6_000_000 / (rows * cols)).clamp(1, 200));
    check(&Case {
        encoding,
        rows,
        cols,
        tokens,
        gap: random.choose(&[0, 5]),
        accumulate: random.choose(&[Accumulate::Add, Accumulate::Overwrite]),
        extremes: random.once_in(3),
        threads: random.choose(&[2, 3, 8]),
        seed,
    });
}

#[test]
fn shapes_around_every_edge() {
    for encoding in ENCODINGS {
        for accumulate in [Accumulate::Add, Accumulate::Overwrite] {
            for (rows, blocks, tokens) in
                [(1, 1, 1), (16, 2, 2), (17, 3, 3), (40, 5, 4), (33, 4, 5), (70, 1, 37), (130, 9, 16)]
            {
                for extremes in [false, true] {
                    let cols = blocks * encoding.block_values();
                    check(&Case {
                        encoding,
                        rows,
                        cols,
                        tokens,
                        gap: 3,
                        accumulate,
                        extremes,
                        threads: 3,
                        seed: 7,
                    });
                }
            }
        }
    }
    // K is cut, and rows are more than meet the panels at a time.
    for encoding in ENCODINGS {
        let accumulate = Accumulate::Overwrite;
        check(&Case {
            encoding,
            rows: 20,
            cols: 4352,
            tokens: 230,
            gap: 0,
            accumulate,
            extremes: true,
            threads: 2,
            seed: 3,
        });
    }
}

#[test]
fn rows_come_back_as_the_file_has_them_in_whatever_order() {
    for encoding in ENCODINGS {
        let (rows, cols) = (37, 2 * encoding.block_values());
        let row_bytes = encoding.bytes(cols).unwrap();
        let encoded = blocks(encoding, &mut Random::new(5), rows * cols);
        let mut values = vec![0.0; rows * cols];
        encoding.decode(&encoded, 0, &mut values);
        let reversed = |row: usize| &encoded[(rows - 1 - row) * row_bytes..][..row_bytes];
        let matrix = Matrix::new(encoding, rows, cols, reversed).unwrap();
        assert_eq!((matrix.rows(), matrix.cols(), matrix.encoding()), (rows, cols, encoding));
        let tokens: Vec<u32> = vec![0, 36, 5, 5, 16, 15];
        let mut x = vec![f32::NAN; tokens.len() * cols];
        matrix.embedding(&mut x, &tokens);
        for (x, token) in x.chunks_exact(cols).zip(tokens) {
            assert_eq!(x, &values[(rows - 1 - token as usize) * cols..][..cols], "{encoding:?}, row {token}");
        }
        let share = matrix.bytes() as f64 / (48 * row_bytes) as f64;
        assert!((0.999..1.04).contains(&share), "{encoding:?}: {share} of the file's bytes");
    }
}

#[test]
fn values_that_are_not_finite_make_their_own_row_nan() {
    for encoding in ENCODINGS {
        let (rows, cols) = (18, 2 * encoding.block_values());
        let encoded = blocks(encoding, &mut Random::new(5), rows * cols);
        let row_bytes = encoded.len() / rows;
        let matrix =
            Matrix::new(encoding, rows, cols, |row| &encoded[row * row_bytes..][..row_bytes]).unwrap();
        for level in isa::available() {
            for tokens in [1, 3, 40] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut x = Random::new(6).values(tokens * cols);
                    x[cols - 3] = bad;
                    let mut y = vec![0.0; tokens * rows];
                    isa::with(level, 2, || {
                        let mut activations = Activations::new();
                        activations.round(&x, cols, [&matrix]);
                        let mut y = ViewMut::new(&mut y, tokens, rows, rows);
                        product(&mut y, &activations, &matrix, Accumulate::Overwrite);
                    });
                    let (first, others) = y.split_at(rows);
                    assert!(
                        first.iter().all(|y| y.is_nan()),
                        "{encoding:?} at {level:?}: {bad} gave {first:?}"
                    );
                    assert!(others.iter().all(|y| y.is_finite()), "{encoding:?} at {level:?}");
                }
            }
        }
    }
}

#[test]
fn what_has_no_blocks_is_refused() {
    let refused = |encoding, cols| Matrix::new(encoding, 1, cols, |_| &[][..]).unwrap_err();
    assert_eq!(refused(Encoding::F16, 32), Unpackable::Encoding(Encoding::F16));
    let error = refused(Encoding::Q4K, 288);
    assert_eq!(error, Unpackable::Columns { cols: 288, block: 256, encoding: Encoding::Q4K });
    assert_eq!(error.to_string(), "rows of 288 values are no whole blocks of 256 values of Q4_K");
    assert!(Matrix::takes(Encoding::Q6K, 512) && !Matrix::takes(Encoding::Q6K, 128));
}
