//! What only a look inside can test: the pair layout where the processor cannot multiply pairs, and the crumbs of
//! rounding. The products themselves are tested in `tests/it/gemm.rs`.

use super::kernel::{Format, Kernel, Strip};
use super::product::{Product, Right};
use super::{Accumulate, View, ViewMut, portable};
use crate::isa::{self, Isa};
use half::bf16;

fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn product(kernel: &'static Kernel, a: View, b: View) -> Vec<f32> {
    let mut c = vec![f32::NAN; a.rows() * b.cols()];
    let view = ViewMut::new(&mut c, a.rows(), b.cols(), b.cols());
    Product::new(kernel, view, a, Right::Unpacked(b), Accumulate::Overwrite).run(1);
    c
}

/// Every kernel multiplies as the portable one of the same rounding does, whichever way its operands lie.
#[test]
fn kernels_agree_with_the_portable_one() {
    #[cfg(target_arch = "x86_64")]
    let kernels: &[(Isa, &Kernel, &Kernel)] = {
        use super::{amx, avx2, avx512};
        &[
            (Isa::Avx2, &avx2::F32, &portable::F32),
            (Isa::Avx2, &avx2::ROUNDED, &portable::ROUNDED),
            (Isa::Avx2, &avx2::WIDENING, &portable::ROUNDED),
            (Isa::Avx512, &avx512::F32, &portable::F32),
            (Isa::Avx512, &avx512::ROUNDED, &portable::ROUNDED),
            (Isa::Avx512, &avx512::WIDENING, &portable::ROUNDED),
            (Isa::Avx512, &avx512::EMULATED_PAIRS, &portable::ROUNDED),
            (Isa::Avx512Bf16, &avx512::PAIRS, &portable::ROUNDED),
            (Isa::Amx, &amx::TILES, &portable::ROUNDED),
        ]
    };
    #[cfg(not(target_arch = "x86_64"))]
    let kernels: &[(Isa, &Kernel, &Kernel)] = &[];
    for &(isa, kernel, plain) in
        [(Isa::Portable, &portable::WIDENING, &portable::ROUNDED)].iter().chain(kernels)
    {
        if isa > isa::detected() {
            continue;
        }
        for (m, n, k) in
            [(1, 1, 1), (29, 33, 17), (15, 70, 257), (90, 45, 23), (5, 16, 513), (14, 32, 256), (28, 31, 40)]
        {
            let (a, b) = (values(m * k, 1), values(k * n, 2));
            let a = [View::new(&a, m, k, k), View::new(&a, k, m, m).transposed()];
            let b = [View::new(&b, k, n, n), View::new(&b, n, k, k).transposed()];
            for (a, b) in [(a[0], b[0]), (a[0], b[1]), (a[1], b[0]), (a[1], b[1])] {
                let (found, expected) = (product(kernel, a, b), product(plain, a, b));
                for (found, expected) in found.iter().zip(&expected) {
                    let error = (found - expected).abs();
                    assert!(error <= 1e-6 * k as f32, "{isa:?} {m}x{n}x{k}: {found}, not {expected}");
                }
            }
        }
    }
}

/// Packing rounds as the crate `half` does: ties, the step to infinity, infinities and NaN.
#[test]
fn packing_rounds_to_the_nearest_bf16() {
    let mut source: Vec<f32> =
        [0, 0x8000, 0x8001, 0x1_8000, 0x7fff, 0xffff].map(|low| f32::from_bits(0x3f80_0000 + low)).to_vec();
    source.extend([0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN]);
    source.extend([f32::from_bits(0x7f80_0001), f32::from_bits(0xffff_ffff), 1e-40, f32::MIN_POSITIVE]);
    source.extend(values(60, 3));
    let mut packs: Vec<(Isa, super::kernel::PackFunction)> = vec![(Isa::Portable, portable::F32.packer)];
    #[cfg(target_arch = "x86_64")]
    packs.extend([(Isa::Avx2, super::avx2::F32.packer), (Isa::Avx512, super::avx512::F32.packer)]);
    for (isa, pack) in packs {
        if isa > isa::detected() {
            continue;
        }
        for format in [Format::F32, Format::Rounded, Format::Pairs] {
            for contiguous_depth in [true, false] {
                // All values along K in one lane, then one value in each of many lanes.
                let (lanes, depth) = if contiguous_depth { (1, source.len()) } else { (source.len(), 1) };
                let strip = Strip {
                    data: source.as_ptr(),
                    element: super::view::Element::F32,
                    lane_stride: 1,
                    depth_stride: if contiguous_depth { 1 } else { lanes },
                    lanes,
                    padded_lanes: lanes,
                    depth,
                };
                let mut target = vec![0u32; format.words(depth) * lanes];
                // SAFETY: the strip is `source`, and `target` holds all of its words.
                unsafe { pack(target.as_mut_ptr(), lanes, &strip, format) }
                for (index, value) in source.iter().enumerate() {
                    let rounded = u32::from(bf16::from_f32(*value).to_bits());
                    let (found, expected) = match format {
                        Format::F32 => (target[index], value.to_bits()),
                        Format::Rounded => (target[index], rounded << 16),
                        Format::Pairs if contiguous_depth => {
                            (target[index / 2] >> (16 * (index % 2)) & 0xffff, rounded)
                        }
                        _ => (target[index], rounded),
                    };
                    assert_eq!(found, expected, "{isa:?} {format:?}: {value:?}");
                }
            }
        }
    }
}
