//! The matrix product: every instruction set against sums in f64, and the promises about bits.

use kernels::gemm::{
    Accumulate::{self, Add, Overwrite},
    Packed,
    Precision::{self, Bf16, F32},
    View, ViewMut, gemm, gemm_packed, gemm_serial, measured_peak_gflops,
};
use kernels::isa;
use kernels::kept::{Values, bf16, nearest, widened};
use std::time::Duration;

use crate::compare::{Random, Sum, assert_sums, bits, rounded};

/// A product to be tried: C (m x n) at a stride of n + `gap`, operands as they lie or transposed, with gaps too.
#[derive(Clone, Copy, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    transposed: [bool; 2],
    gap: usize,
    accumulate: Accumulate,
    seed: u64,
}

/// A matrix with its own memory, and gaps between its rows.
struct Matrix {
    data: Vec<f32>,
    rows: usize,
    cols: usize,
    stride: usize,
    transposed: bool,
}

impl Matrix {
    fn random(rows: usize, cols: usize, transposed: bool, gap: usize, seed: u64) -> Self {
        let (outer, inner) = if transposed { (cols, rows) } else { (rows, cols) };
        let stride = inner + gap;
        let mut random = Random::new(seed).values(outer * inner).into_iter();
        let mut next = || random.next().unwrap_or(f32::NAN);
        let data = (0..outer * stride).map(|i| if i % stride < inner { next() } else { f32::NAN }).collect();
        Self { data, rows, cols, stride, transposed }
    }

    fn view(&self) -> View<'_> {
        if self.transposed {
            View::new(&self.data, self.cols, self.rows, self.stride).transposed()
        } else {
            View::new(&self.data, self.rows, self.cols, self.stride)
        }
    }

    /// The values rounded, as f32 and as bf16.
    fn kept(&self) -> (Self, Vec<bf16>) {
        let kept: Vec<bf16> = self.data.iter().map(|&value| nearest(value)).collect();
        let data = kept.iter().map(|&value| widened(value)).collect();
        (Self { data, ..*self }, kept)
    }

    fn view_of<'a>(&self, kept: &'a [bf16]) -> View<'a> {
        let kept = Values::Bf16(kept);
        if self.transposed {
            View::of(kept, self.cols, self.rows, self.stride).transposed()
        } else {
            View::of(kept, self.rows, self.cols, self.stride)
        }
    }

    fn at(&self, row: usize, col: usize) -> f32 {
        let (outer, inner) = if self.transposed { (col, row) } else { (row, col) };
        self.data[outer * self.stride + inner]
    }
}

const GAP: f32 = -77.0;

impl Case {
    fn operands(&self) -> (Matrix, Matrix) {
        let a = Matrix::random(self.m, self.k, self.transposed[0], self.gap, self.seed.wrapping_mul(31));
        let b = Matrix::random(self.k, self.n, self.transposed[1], self.gap, self.seed.wrapping_mul(37) + 5);
        (a, b)
    }

    fn before(&self) -> Vec<f32> {
        let stride = self.n + self.gap;
        let value = |i: usize| if i % stride < self.n { (i % 13) as f32 - 6.0 } else { GAP };
        (0..self.m * stride).map(value).collect()
    }

    fn product(&self, multiply: impl FnOnce(ViewMut, View, View)) -> Vec<f32> {
        let (a, b) = self.operands();
        let mut c = self.before();
        multiply(ViewMut::new(&mut c, self.m, self.n, self.n + self.gap), a.view(), b.view());
        c
    }

    fn serial(&self, precision: Precision) -> Vec<f32> {
        self.product(|c, a, b| gemm_serial(precision, c, a, b, self.accumulate))
    }

    fn parallel(&self, precision: Precision) -> Vec<f32> {
        self.product(|c, a, b| gemm(precision, c, a, b, self.accumulate))
    }

    fn packed(&self, precision: Precision) -> Vec<f32> {
        self.product(|c, a, b| gemm_packed(c, a, &Packed::new(precision, b), self.accumulate))
    }

    /// The product of operands that are kept in bf16, both or one, and of the same values in f32.
    fn kept(&self, precision: Precision) -> [Vec<f32>; 4] {
        let (a, b) = self.operands();
        let ((a, kept_a), (b, kept_b)) = (a.kept(), b.kept());
        [(false, false), (true, true), (true, false), (false, true)].map(|(left, right)| {
            self.product(|c, _, _| {
                let left = if left { a.view_of(&kept_a) } else { a.view() };
                let right = if right { b.view_of(&kept_b) } else { b.view() };
                gemm(precision, c, left, right, self.accumulate);
            })
        })
    }

    /// The exact values of C at its stride; gaps must stay as they are.
    fn sums(&self, precision: Precision) -> Vec<Sum> {
        let (a, b) = self.operands();
        let before = self.before();
        let stride = self.n + self.gap;
        let at = |place: usize| {
            let (row, col) = (place / stride, place % stride);
            if col >= self.n {
                return Sum { exact: f64::from(GAP), error: 0.0 };
            }
            let term = |k| rounded(precision, a.at(row, k)) * rounded(precision, b.at(k, col));
            let before = if self.accumulate == Add { f64::from(before[place]) } else { 0.0 };
            std::iter::once(before).chain((0..self.k).map(term)).collect()
        };
        (0..before.len()).map(at).collect()
    }
}

/// One case on every instruction set of this processor: right, and the same bits on each way to ask for it.
fn check(case: Case) {
    for precision in [F32, Bf16] {
        let sums = case.sums(precision);
        for isa in isa::available() {
            let serial = isa::with(isa, 1, || case.serial(precision));
            let stride = (case.n + case.gap).max(1);
            assert_sums(&(isa, precision, case), "C", &serial, &sums, stride);
            let (parallel, packed) = isa::with(isa, 3, || (case.parallel(precision), case.packed(precision)));
            assert_eq!(bits(&serial), bits(&parallel), "{isa:?} {precision:?} {case:?}: parallel");
            assert_eq!(bits(&serial), bits(&packed), "{isa:?} {precision:?} {case:?}: packed");
            let [plain, kept @ ..] = isa::with(isa, 3, || case.kept(precision));
            for kept in kept {
                assert_eq!(bits(&plain), bits(&kept), "{isa:?} {precision:?} {case:?}: kept in bf16");
            }
        }
    }
}

pub fn random(seed: u64) {
    let mut random = Random::new(seed);
    let (m, n, k) = (random.size(300), random.size(700), random.size(1500));
    // As deep as the plain version takes a tenth of a second.
    let k = if random.once_in(40) { 0 } else { k.min(6_000_000 / (m * n) + 1) };
    let transposed = [random.once_in(2), random.once_in(2)];
    let gap = random.choose(&[0, 0, 1, 7, 16, 1100]);
    let accumulate = random.choose(&[Overwrite, Add]);
    check(Case { m, n, k, transposed, gap, accumulate, seed });
}

fn case(m: usize, n: usize, k: usize) -> Case {
    Case { m, n, k, transposed: [false, true], gap: 0, accumulate: Overwrite, seed: 7 }
}

#[test]
fn shapes_around_every_edge() {
    for (m, n, k) in [(0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (1, 300, 600), (300, 1, 2), (15, 33, 255)] {
        check(case(m, n, k));
        check(Case { accumulate: Add, transposed: [true, false], gap: 3, ..case(m, n, k) });
    }
    check(case(150, 170, 1300)); // K in several chunks.
    check(Case { accumulate: Add, ..case(300, 310, 260) }); // Both operands in several parts.
    check(Case { transposed: [true, false], ..case(700, 40, 520) }); // The right operand resident.
    check(Case { transposed: [true, false], gap: 1100, ..case(90, 200, 70) }); // Strips packed together.
}

#[test]
fn a_row_does_not_know_its_neighbours() {
    let whole = case(131, 130, 777);
    let (a, b) = whole.operands();
    for isa in isa::available() {
        for precision in [F32, Bf16] {
            let all = isa::with(isa, 2, || whole.parallel(precision));
            for (first, count) in [(0, 1), (7, 1), (130, 1), (3, 4), (50, 16), (64, 67)] {
                let rows = &a.data[first * a.stride..];
                let mut part = vec![0.0; count * whole.n];
                let mut part_packed = part.clone();
                isa::with(isa, 1, || {
                    let rows = View::new(rows, count, whole.k, a.stride);
                    let c = ViewMut::new(&mut part, count, whole.n, whole.n);
                    gemm_serial(precision, c, rows, b.view(), Overwrite);
                    let c = ViewMut::new(&mut part_packed, count, whole.n, whole.n);
                    gemm_packed(c, rows, &Packed::new(precision, b.view()), Overwrite);
                });
                let expected = bits(&all[first * whole.n..][..count * whole.n]);
                assert_eq!(bits(&part), expected, "{isa:?} {precision:?}: {count} rows from {first}");
                assert_eq!(
                    bits(&part_packed),
                    expected,
                    "{isa:?} {precision:?}: {count} rows from {first}, packed"
                );
            }
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    for shape in [case(250, 300, 700), case(5, 900, 300), case(400, 20, 300)] {
        for precision in [F32, Bf16] {
            let expected = shape.serial(precision);
            for threads in [1, 2, 3, 8] {
                let found = isa::with(isa::detected(), threads, || {
                    [shape.parallel(precision), shape.packed(precision)]
                });
                for found in found {
                    assert_eq!(bits(&found), bits(&expected), "{shape:?} on {threads} threads");
                }
            }
        }
    }
}

#[test]
fn products_inside_parallel_work_do_not_disturb_each_other() {
    use rayon::prelude::*;
    let expected = case(100, 110, 300).serial(F32);
    let all: Vec<_> = (0..24).into_par_iter().map(|_| case(100, 110, 300).parallel(F32)).collect();
    for found in all {
        assert_eq!(bits(&found), bits(&expected));
    }
}

#[test]
fn nan_and_infinity_stay_in_their_rows_and_columns() {
    let (m, n, k) = (20, 40, 30);
    for isa in isa::available() {
        for precision in [F32, Bf16] {
            let (mut a, mut b) = (vec![1.0f32; m * k], vec![1.0f32; k * n]);
            a[3 * k + 5] = f32::NAN;
            a[7 * k + 2] = f32::INFINITY;
            b[29 * n + 39] = f32::NEG_INFINITY;
            let mut c = vec![0.0; m * n];
            isa::with(isa, 1, || {
                let c = ViewMut::new(&mut c, m, n, n);
                gemm(precision, c, View::new(&a, m, k, k), View::new(&b, k, n, n), Overwrite);
            });
            for (i, value) in c.into_iter().enumerate() {
                let right = match (i / n, i % n) {
                    (3, _) | (7, 39) => value.is_nan(),
                    (7, _) => value == f32::INFINITY,
                    (_, 39) => value == f32::NEG_INFINITY,
                    _ => value == k as f32,
                };
                assert!(right, "{isa:?} {precision:?}: {value} at {}, {}", i / n, i % n);
            }
        }
    }
}

#[test]
fn overwriting_does_not_read() {
    for isa in isa::available() {
        let mut c = vec![f32::NAN; 9];
        isa::with(isa, 1, || {
            gemm(
                F32,
                ViewMut::new(&mut c, 3, 3, 3),
                View::new(&[], 3, 0, 0),
                View::new(&[], 0, 3, 3),
                Overwrite,
            );
        });
        assert_eq!(c, [0.0; 9]);
        c.fill(f32::NAN);
        let ones = [1.0f32; 9];
        let ones = View::new(&ones, 3, 3, 3);
        isa::with(isa, 1, || gemm(F32, ViewMut::new(&mut c, 3, 3, 3), ones, ones, Overwrite));
        assert_eq!(c, [3.0; 9]);
    }
}

#[test]
fn packed_bf16_takes_half_the_memory() {
    let b = vec![1.0; 64 * 64];
    let bytes = |precision| Packed::new(precision, View::new(&b, 64, 64, 64)).bytes();
    assert_eq!((bytes(F32), bytes(Bf16)), (64 * 64 * 4, 64 * 64 * 2));
}

#[test]
#[should_panic(expected = "the product of 2 x 3 and 2 x 3 is not 2 x 3")]
fn shapes_must_fit() {
    let data = [0.0; 6];
    let view = View::new(&data, 2, 3, 3);
    gemm(F32, ViewMut::new(&mut [0.0; 6], 2, 3, 3), view, view, Overwrite);
}

#[test]
#[should_panic(expected = "does not fit in 6 values")]
fn views_must_lie_in_their_data() {
    View::new(&[0.0; 6], 2, 3, 4);
}

#[test]
fn the_peak_is_measured_at_every_level() {
    for isa in isa::available() {
        let peak = isa::with(isa, 1, || measured_peak_gflops(F32, Duration::from_millis(1)));
        assert!(peak.is_finite() && peak > 0.01, "{isa:?}: {peak}");
    }
}
