//! Blocks against those of llama.cpp's Python package (`tests/golden/gguf_blocks.py`), and quantised values against
//! what a format can hold.

use super::*;
use crate::isa;
use crate::reduce::testing::Values as Random;

/// The bytes and the values of one golden format.
fn golden(encoding: Encoding) -> (&'static [u8], Vec<f32>) {
    let (blocks, values): (&[u8], &[u8]) = match encoding {
        Encoding::Q8_0 => (include_bytes!("../golden/q8_0.bin"), include_bytes!("../golden/q8_0.f32")),
        Encoding::Q4_0 => (include_bytes!("../golden/q4_0.bin"), include_bytes!("../golden/q4_0.f32")),
        Encoding::Q4K => (include_bytes!("../golden/q4_k.bin"), include_bytes!("../golden/q4_k.f32")),
        Encoding::Q6K => (include_bytes!("../golden/q6_k.bin"), include_bytes!("../golden/q6_k.f32")),
        Encoding::Q5K => (include_bytes!("../golden/q5_k.bin"), include_bytes!("../golden/q5_k.f32")),
        Encoding::Q5_1 => (include_bytes!("../golden/q5_1.bin"), include_bytes!("../golden/q5_1.f32")),
        Encoding::Q5_0 => (include_bytes!("../golden/q5_0.bin"), include_bytes!("../golden/q5_0.f32")),
        Encoding::Q4_1 => (include_bytes!("../golden/q4_1.bin"), include_bytes!("../golden/q4_1.f32")),
        Encoding::Q3K => (include_bytes!("../golden/q3_k.bin"), include_bytes!("../golden/q3_k.f32")),
        Encoding::Q2K => (include_bytes!("../golden/q2_k.bin"), include_bytes!("../golden/q2_k.f32")),
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => unreachable!("plain values have no blocks"),
    };
    (blocks, floats(values))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn encoded(encoding: Encoding, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xAA; encoding.bytes(values.len()).unwrap()];
    encoding.encode(values, &mut bytes);
    bytes
}

fn decoded(encoding: Encoding, bytes: &[u8], start: usize, len: usize) -> Vec<f32> {
    let mut values = vec![f32::NAN; len];
    encoding.decode(bytes, start, &mut values);
    values
}

/// What is quantised here.
fn written() -> impl Iterator<Item = Encoding> {
    Encoding::ALL.into_iter().filter(|encoding| encoding.is_written())
}

#[test]
fn blocks_mean_what_llama_cpp_reads_in_them() {
    for isa in isa::available() {
        isa::with(isa, 1, || {
            for encoding in Encoding::ALL.into_iter().filter(|encoding| encoding.block_values() > 1) {
                let (bytes, expected) = golden(encoding);
                assert_eq!(decoded(encoding, bytes, 0, 512), expected, "{}, {isa:?}", encoding.name());
            }
        });
    }
}

#[test]
fn simple_blocks_are_llama_cpps_to_the_byte() {
    let values = floats(include_bytes!("../golden/values.f32"));
    for isa in isa::available() {
        isa::with(isa, 1, || {
            for encoding in [Encoding::Q8_0, Encoding::Q5_1, Encoding::Q5_0, Encoding::Q4_1, Encoding::Q4_0] {
                assert!(encoded(encoding, &values) == golden(encoding).0, "{}, {isa:?}", encoding.name());
            }
        });
    }
}

#[test]
fn bytes_do_not_depend_on_the_processor_or_on_threads() {
    let values = Random::new(5).take(40 * 1024);
    for encoding in written() {
        let one = isa::with(isa::Isa::Portable, 1, || encoded(encoding, &values));
        for isa in isa::available() {
            assert!(isa::with(isa, 3, || encoded(encoding, &values)) == one, "{}, {isa:?}", encoding.name());
        }
    }
}

/// The error as a share of the values, both as sums of squares.
fn noise(encoding: Encoding, values: &[f32]) -> f64 {
    let back = decoded(encoding, &encoded(encoding, values), 0, values.len());
    let square = |value: f32| f64::from(value) * f64::from(value);
    let noise: f64 = values.iter().zip(&back).map(|(value, back)| square(value - back)).sum();
    (noise / values.iter().map(|value| square(*value)).sum::<f64>()).sqrt()
}

/// Normally distributed values, as trained matrices nearly have them. The bounds are a few in a hundred above what was
/// found (Q8_0 0.53%, Q6_K 1.75%, Q4_K 7.1%, Q4_0 8.4%): a search that gets worse fails.
#[test]
fn quantised_values_stay_near() {
    let uniform = Random::new(9).take(12 * (1 << 16));
    let normal: Vec<f32> = uniform.chunks(12).map(|twelve| 0.02 * twelve.iter().sum::<f32>()).collect();
    for (encoding, bound) in [
        (Encoding::F16, 3e-4),
        (Encoding::Bf16, 2e-3),
        (Encoding::Q8_0, 0.0058),
        (Encoding::Q6K, 0.0185),
        (Encoding::Q5K, 0.0365),
        (Encoding::Q5_1, 0.0395),
        (Encoding::Q5_0, 0.0430),
        (Encoding::Q4K, 0.075),
        (Encoding::Q4_1, 0.081),
        (Encoding::Q4_0, 0.089),
    ] {
        let noise = noise(encoding, &normal);
        assert!(noise < bound && noise > bound * 0.5, "{}: {noise}", encoding.name());
    }
    assert_eq!(noise(Encoding::F32, &normal), 0.0);
}

#[test]
fn what_a_block_can_say_exactly_it_says_exactly() {
    // Codes times a power of two, with both ends of each part's range present.
    for (encoding, low, high) in [
        (Encoding::Q8_0, -127, 127),
        (Encoding::Q6K, -32, 31),
        (Encoding::Q5K, 0, 31),
        (Encoding::Q5_1, -3, 28),
        (Encoding::Q5_0, -16, 15),
        (Encoding::Q4K, 0, 15),
        (Encoding::Q4_1, -3, 12),
        (Encoding::Q4_0, -8, 7),
    ] {
        let mut values: Vec<f32> =
            (0..512).map(|at| (low + (at * 7 + at / 32) % (high - low + 1)) as f32 / 64.0).collect();
        for part in values.chunks_mut(16) {
            part[3] = low as f32 / 64.0;
            part[11] = high as f32 / 64.0;
        }
        let bytes = encoded(encoding, &values);
        let back = decoded(encoding, &bytes, 0, 512);
        let worst = values.iter().zip(&back).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
        // A scale of scales in f16 is off by a part in two thousand.
        assert!(
            worst <= 1e-3 * f32::from(i16::try_from(high.max(-low)).unwrap()).min(32.0) / 64.0,
            "{}: {worst}",
            encoding.name()
        );
        if encoding.block_values() == 32 {
            assert_eq!(encoded(encoding, &back), bytes, "{}", encoding.name());
        }
    }
}

#[test]
fn zeros_and_extremes_stay_finite() {
    for encoding in written() {
        for value in [0.0, 1e-38, 1e-45, -1e-30, 6e4, -6e4] {
            for values in [vec![value; 256], {
                let mut one = vec![0.0; 256];
                one[77] = value;
                one
            }] {
                let back = decoded(encoding, &encoded(encoding, &values), 0, 256);
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.13 * value.abs().max(1e-5);
                assert!(values.iter().zip(&back).all(near), "{} {value}: {back:?}", encoding.name());
            }
        }
    }
}

#[test]
fn any_range_of_values_can_be_read() {
    for encoding in Encoding::ALL {
        let values = Random::new(3).take(1024);
        let bytes =
            if encoding.is_written() { encoded(encoding, &values) } else { golden(encoding).0.repeat(2) };
        let whole = decoded(encoding, &bytes, 0, 1024);
        for (start, len) in [(0, 1), (1, 30), (5, 300), (255, 2), (256, 256), (300, 724), (1023, 1), (512, 0)]
        {
            assert_eq!(
                decoded(encoding, &bytes, start, len),
                whole[start..start + len],
                "{}",
                encoding.name()
            );
        }
    }
    assert_eq!(Encoding::Q4K.bytes(255), None);
    assert_eq!(Encoding::F32.bytes(usize::MAX), None);
}

/// Of each format one value, or block, that is not finite among others that are.
#[test]
fn what_is_not_finite_is_seen_in_the_scales() {
    for encoding in Encoding::ALL {
        let bytes = vec![0; encoding.bytes(512).unwrap()];
        assert!(encoding.is_finite(&bytes), "{encoding:?}");
        let place = match encoding {
            Encoding::F32 => 3,
            Encoding::Q6K | Encoding::Q3K | Encoding::Q2K => encoding.block_bytes() - 1,
            _ => 1,
        };
        for bad in [0x7f, 0xff] {
            let mut bytes = bytes.clone();
            let at = bytes.len() - encoding.block_bytes() + place;
            (bytes[at - 1], bytes[at]) = (0xc0, bad);
            assert!(!encoding.is_finite(&bytes), "{encoding:?}");
            let mut values = vec![0.0; 512];
            encoding.decode(&bytes, 0, &mut values);
            assert!(!values.iter().all(|value| value.is_finite()), "{encoding:?}");
        }
    }
}
