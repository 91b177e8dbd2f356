//! Every format against the values that it was made from. Products and gathered rows are tested in
//! `tests/it/quant.rs`.

use super::*;
use crate::cross_entropy::{Gradients, Input, LmHead, Scratch, cross_entropy};
use crate::gemm::{Accumulate, Precision};
use crate::isa;
use crate::reduce::testing::Values as Random;

const FORMATS: [Format; 5] =
    [Format::F32, Format::Bf16, Format::Int8, Format::Nf4 { double: false }, Format::Nf4 { double: true }];

/// Weights as large as those of a layer, with a block of zeros and one of a single large value.
fn weights(rows: usize, cols: usize) -> Vec<f32> {
    let mut values = Random::new((rows * cols) as u64).take(rows * cols);
    values.iter_mut().for_each(|value| *value *= 0.05);
    values.iter_mut().take(BLOCK).for_each(|value| *value = 0.0);
    if let Some(value) = values.get_mut(BLOCK) {
        *value = 3.0;
    }
    values
}

fn dequantised(matrix: &Matrix) -> Vec<f32> {
    let mut values = vec![f32::NAN; matrix.rows() * matrix.cols()];
    matrix.dequantise(0, &mut values);
    values
}

/// The largest error that a format may make, as a share of the block's largest absolute value.
fn bound(format: Format) -> f32 {
    match format {
        Format::F32 => 0.0,
        Format::Bf16 => 1.0 / 256.0,
        Format::Int8 => 0.5 / 127.0 * 1.0001,
        // Half of the widest gap between codes, that between -1 and -0.696.
        Format::Nf4 { double: false } => 0.1520,
        // The scale itself is off by half a step of the map's coarsest part, of the largest difference from the mean.
        Format::Nf4 { double: true } => 0.1520 + 0.01,
    }
}

#[test]
fn values_come_back_within_the_formats_bound_in_the_bytes_that_it_names() {
    for (rows, cols) in [(1, 1), (3, 5), (7, 64), (33, 70), (130, 257)] {
        let values = weights(rows, cols);
        let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        for format in FORMATS {
            let matrix = Matrix::new(format, rows, cols, &values);
            let back = dequantised(&matrix);
            for (block, (back, values)) in back.chunks(BLOCK).zip(values.chunks(BLOCK)).enumerate() {
                let absmax = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                let scale_error = if format == (Format::Nf4 { double: true }) { 0.01 * largest } else { 0.0 };
                let most = bound(format) * absmax + scale_error;
                for (back, value) in back.iter().zip(values) {
                    assert!((back - value).abs() <= most, "{format:?}, block {block}: {value} as {back}");
                }
            }
            let bits = match format {
                Format::F32 => 32.0,
                Format::Bf16 => 16.0,
                Format::Int8 => 8.5,
                Format::Nf4 { double: false } => 4.5,
                Format::Nf4 { double: true } => 4.127,
            };
            if rows * cols > 10_000 {
                let found = 8.0 * matrix.bytes() as f64 / (rows * cols) as f64;
                assert!((found - bits).abs() < 0.02, "{format:?}: {found} bits");
            }
        }
    }
}

#[test]
fn any_part_is_the_same_at_every_level_and_on_any_number_of_threads() {
    let (rows, cols) = (19, 150);
    let values = weights(rows, cols);
    for format in FORMATS {
        let matrix = isa::with(isa::Isa::Portable, 1, || Matrix::new(format, rows, cols, &values));
        let expected = isa::with(isa::Isa::Portable, 1, || dequantised(&matrix));
        for level in isa::available() {
            isa::with(level, 3, || {
                let again = Matrix::new(format, rows, cols, &values);
                assert_eq!(dequantised(&again), expected, "{format:?} at {level:?}");
                for start in [0, 1, 63, 64, 65, 127, 1000] {
                    for len in [0, 1, 2, 63, 64, 129, 700] {
                        let mut part = vec![f32::NAN; len];
                        matrix.dequantise(start, &mut part);
                        assert_eq!(
                            part,
                            expected[start..start + len],
                            "{format:?} at {level:?}: {start}, {len}"
                        );
                    }
                }
            });
        }
    }
}

/// Blocks do not know of each other, so the rows beyond the first strip are those of a matrix of them alone.
#[test]
fn strips_that_arrive_one_after_another_make_one_matrix() {
    let (rows, cols) = (STRIP / 1024 + 3, 1024);
    let values = weights(rows, cols);
    for format in [Format::Bf16, Format::Int8, Format::Nf4 { double: false }] {
        let back = dequantised(&Matrix::new(format, rows, cols, &values));
        let tail = dequantised(&Matrix::new(format, 3, cols, &values[STRIP..]));
        assert_eq!(back[STRIP..], tail, "{format:?}");
    }
}

fn check_output_layer(tokens: usize, dim: usize, vocab_size: usize, formats: &[Format]) {
    let mut random = Random::new(11);
    let hidden = random.take(tokens * dim);
    let targets: Vec<u32> = (0..tokens).map(|_| (random.bits() % vocab_size as u64) as u32).collect();
    let weights_of: Vec<f32> = (0..tokens).map(|token| (token % 3) as f32 / 2.0).collect();
    for &format in formats {
        let matrix = Matrix::new(format, vocab_size, dim, &weights(vocab_size, dim));
        let whole = dequantised(&matrix);
        let run = |lm_head: LmHead, gradient: &mut [f32]| {
            let (targets, weights) = (&targets[..], &weights_of[..]);
            let input = Input { hidden: &hidden, lm_head, targets, weights, dim, z_loss: 1e-3 };
            let mut dhidden = vec![f32::NAN; tokens * dim];
            let accumulate = Accumulate::Overwrite;
            let gradients = Gradients { hidden: &mut dhidden, lm_head: gradient, accumulate };
            let mut losses = vec![f32::NAN; tokens];
            let mut scratch = Scratch::new(tokens, dim, vocab_size).cut_alike();
            cross_entropy(&mut losses, input, Some(gradients), &mut scratch, Precision::F32);
            (losses, dhidden)
        };
        let (expected, expected_gradient) = run(LmHead::Plain(&whole), &mut vec![0.0; vocab_size * dim]);
        let (losses, gradient) = run(LmHead::Frozen(&matrix), &mut []);
        assert_eq!(losses, expected, "{format:?}");
        let largest = expected_gradient.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        for (gradient, expected) in gradient.iter().zip(&expected_gradient) {
            assert!((gradient - expected).abs() <= 1e-5 * largest, "{format:?}: {gradient}, not {expected}");
        }
    }
}

#[test]
fn the_output_layer_gives_the_losses_and_gradients_of_the_dequantised_matrix() {
    check_output_layer(40, 6, 70, &FORMATS);
    // The vocabulary is cut, and each of its parts is more than one strip.
    check_output_layer(240, 64, 70_000, &[Format::Int8]);
}

/// `tests/golden/adapters.py` makes the files, from the same values.
#[test]
fn codes_and_scales_are_those_of_bitsandbytes() {
    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
    macro_rules! golden {
        ($file:literal) => {
            &include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nf4/", $file))[..]
        };
    }
    let mut values = Random::new(17).take(300 * BLOCK);
    for (index, value) in values.iter_mut().enumerate() {
        *value = (f64::from(*value) * (1 + index / BLOCK) as f64 / 1024.0) as f32;
    }
    let plain = Matrix::new(Format::Nf4 { double: false }, 300, BLOCK, &values);
    let Values::Nf4 { codes, scales: Scales::Plain(absmax) } = &plain.values else { panic!("{plain:?}") };
    assert!(codes == golden!("codes.u8"));
    assert!(*absmax == floats(golden!("absmax.f32")));

    let double = Matrix::new(Format::Nf4 { double: true }, 300, BLOCK, &values);
    let Values::Nf4 { codes, scales: Scales::Double { codes: places, absmax, mean } } = &double.values else {
        panic!("{double:?}")
    };
    assert!(codes == golden!("codes.u8"));
    // Their mean is summed in f32, in an order of its own.
    let near = |ours: f32, theirs: f32| (ours - theirs).abs() <= 1e-6 * theirs.abs();
    assert!(near(*mean, floats(golden!("double_mean.f32"))[0]));
    assert!(
        absmax.iter().zip(floats(golden!("double_absmax.f32"))).all(|(ours, theirs)| near(*ours, theirs))
    );
    // Between two places of the map they take the other one in 2 of 300 cases, being off by as much.
    let scales = floats(golden!("absmax.f32"));
    for (index, (&ours, &theirs)) in places.iter().zip(golden!("double_codes.u8")).enumerate() {
        let scaled = (scales[index] - mean) / absmax[index / 256];
        let error = |place: u8| (double::MAP[usize::from(place)] - scaled).abs();
        assert!(
            error(ours) <= error(theirs) && error(theirs) - error(ours) < 2e-5,
            "{index}: {ours}, {theirs}"
        );
    }
    assert!(double::MAP.iter().zip(floats(golden!("map.f32"))).all(|(ours, theirs)| near(*ours, theirs)));
}
