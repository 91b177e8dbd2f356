//! How fast the matrix product runs on the shapes of training and serving, beside the machine's peak.
//!
//! `cargo run --release -p kernels --example gemm_bench -- [threads] [seconds] [part of a label]` prints one line a
//! shape and, last, one line of JSON. Shapes take turns and each reports its best and its median round, since a
//! single round says little on a machine that others use too.

#![allow(clippy::print_stdout)] // A program for people, not part of the library.

use kernels::buffer::Buffer;
use kernels::gemm::{
    Accumulate::Overwrite, Packed, Precision, View, ViewMut, gemm, gemm_packed, gemm_serial,
    measured_peak_gflops,
};
use kernels::isa;
use std::time::{Duration, Instant};

/// Which way the operands lie.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// x W^T: forward, W stored as [out, in].
    Forward,
    /// dy W: the gradient of the input.
    Input,
    /// dy^T x: the gradient of the weights.
    Weights,
    /// x W^T with W packed before.
    Packed,
    /// Forward in the calling thread.
    Serial,
    /// dy W in the calling thread.
    SerialInput,
}
use Kind::{Forward, Input, Serial, SerialInput, Weights};

/// Kind, rows of C, columns of C, depth.
const SHAPES: &[(Kind, usize, usize, usize)] = &[
    (Forward, 2048, 2048, 2048),
    (Forward, 2048, 384, 256),
    (Forward, 2048, 256, 256),
    (Forward, 2048, 1536, 256),
    (Forward, 2048, 256, 768),
    (Forward, 256, 4096, 256),
    (Input, 2048, 256, 384),
    (Input, 2048, 256, 1536),
    (Input, 2048, 768, 256),
    (Input, 256, 256, 4096),
    (Weights, 256, 256, 2048),
    (Weights, 384, 256, 2048),
    (Weights, 1536, 256, 2048),
    (Weights, 256, 768, 2048),
    (Weights, 4096, 256, 256),
    (Forward, 1024, 768, 768),
    (Forward, 1024, 1280, 768),
    (Forward, 1024, 4096, 768),
    (Forward, 1024, 768, 2048),
    (Forward, 256, 32768, 768),
    (Input, 1024, 768, 4096),
    (Input, 1024, 2048, 768),
    (Weights, 4096, 768, 1024),
    (Weights, 768, 2048, 1024),
    (Weights, 32768, 768, 256),
    (Forward, 2048, 8192, 2048),
    (Input, 2048, 2048, 8192),
    (Weights, 8192, 2048, 2048),
    (Forward, 2048, 2048, 8192),
    (Kind::Packed, 1, 1536, 256),
    (Kind::Packed, 1, 768, 768),
    (Kind::Packed, 1, 4096, 768),
    (Kind::Packed, 1, 32768, 768),
    (Kind::Packed, 8, 4096, 768),
    (Kind::Packed, 16, 4096, 768),
    (Kind::Packed, 512, 4096, 768),
    (Serial, 64, 64, 32),
    (Serial, 64, 64, 64),
    (Serial, 64, 256, 64),
    (Serial, 64, 512, 64),
    (Serial, 64, 512, 128),
    (SerialInput, 64, 32, 256),
    (SerialInput, 64, 64, 256),
    (SerialInput, 64, 128, 512),
];

struct Bench {
    kind: Kind,
    precision: Precision,
    shape: [usize; 3],
    a: Buffer,
    b: Buffer,
    c: Buffer,
    packed: Option<Packed>,
    gflops: Vec<f64>,
}

impl Bench {
    fn new(kind: Kind, precision: Precision, shape: [usize; 3]) -> Self {
        let [m, n, k] = shape;
        let values = |count: usize| {
            let mut values = Buffer::zeros(count);
            values.iter_mut().enumerate().for_each(|(i, value)| *value = (i % 251) as f32 / 251.0 - 0.5);
            values
        };
        let b = values(k * n);
        let packed =
            (kind == Kind::Packed).then(|| Packed::new(precision, View::new(&b, n, k, k).transposed()));
        Self {
            kind,
            precision,
            shape,
            a: values(m * k),
            b,
            c: Buffer::zeros(m * n),
            packed,
            gflops: Vec::new(),
        }
    }

    fn label(&self) -> String {
        let kind = match self.kind {
            Forward => "x W^T",
            Input => "dy W",
            Weights => "dy^T x",
            Kind::Packed => "packed",
            Serial => "serial x W^T",
            SerialInput => "serial dy W",
        };
        let [m, n, k] = self.shape;
        format!("{:?} {kind} {m}x{n}x{k}", self.precision)
    }

    /// Repeats the product for about a millisecond or more, and notes the rate.
    fn round(&mut self) {
        let [m, n, k] = self.shape;
        let operations = 2 * m * n * k;
        let repeats = (100_000_000 / operations).clamp(1, 2000);
        self.multiply();
        let start = Instant::now();
        for _ in 0..repeats {
            self.multiply();
        }
        let seconds = start.elapsed().as_secs_f64();
        self.gflops.push((operations * repeats) as f64 / seconds / 1e9);
    }

    fn multiply(&mut self) {
        let [m, n, k] = self.shape;
        let c = ViewMut::new(&mut self.c, m, n, n);
        let a = View::new(&self.a, m, k, k);
        let a_columns = View::new(&self.a, k, m, m).transposed();
        let b = View::new(&self.b, k, n, n);
        let b_columns = View::new(&self.b, n, k, k).transposed();
        match self.kind {
            Forward => gemm(self.precision, c, a, b_columns, Overwrite),
            Input => gemm(self.precision, c, a, b, Overwrite),
            Weights => gemm(self.precision, c, a_columns, b, Overwrite),
            Kind::Packed => gemm_packed(c, a, self.packed.as_ref().expect("packed in new"), Overwrite),
            Serial => gemm_serial(self.precision, c, a, b_columns, Overwrite),
            SerialInput => gemm_serial(self.precision, c, a, b, Overwrite),
        }
    }
}

fn best(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10.0);
    let filter = arguments.next().unwrap_or_default();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads for a pool")
        .install(|| run(threads, Duration::from_secs_f64(seconds), &filter));
}

fn run(threads: usize, budget: Duration, filter: &str) {
    let mut benches: Vec<Bench> = [Precision::F32, Precision::Bf16]
        .into_iter()
        .flat_map(|precision| {
            SHAPES.iter().map(move |&(kind, m, n, k)| Bench::new(kind, precision, [m, n, k]))
        })
        .filter(|bench| bench.label().contains(filter))
        .collect();
    let mut peaks = Vec::new();
    let start = Instant::now();
    while start.elapsed() < budget || peaks.len() < 3 {
        peaks.push(measured_peak_gflops(Precision::F32, Duration::from_millis(2)));
        for bench in &mut benches {
            bench.round();
        }
    }
    let peak = best(&peaks);
    println!(
        "{:?}, {threads} threads, peak {peak:.1} GFLOP/s (median {:.1})",
        isa::current(),
        median(&peaks)
    );
    let mut json = Vec::new();
    for bench in &benches {
        let (best, median) = (best(&bench.gflops), median(&bench.gflops));
        println!(
            "{:40} {best:8.1} GFLOP/s {:5.1} %   median {median:8.1}",
            bench.label(),
            100.0 * best / peak
        );
        json.push(format!("{{\"shape\":\"{}\",\"best\":{best:.1},\"median\":{median:.1}}}", bench.label()));
    }
    println!(
        "{{\"isa\":\"{:?}\",\"threads\":{threads},\"peak_gflops\":{peak:.1},\"shapes\":[{}]}}",
        isa::current(),
        json.join(",")
    );
}
