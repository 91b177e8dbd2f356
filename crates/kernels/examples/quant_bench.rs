//! How fast products with quantised matrices run: one row beside what memory gives, and many rows.
//!
//! `cargo run --release -p kernels --example quant_bench -- [threads] [seconds] [parts of encodings' names] [rows,rows]`
//! takes, for each encoding, the matrices of a Llama of 1B and of 3B parameters in the order in which a token meets them.
//! Copies of a layer follow one another until they fill a gigabyte, so that one row reads memory and no cache. The name F32 stands
//! for matrices in floats, as blocks that no product takes are served. Last comes one line of JSON.

#![allow(clippy::print_stdout)] // A program for people, not part of the library.

use std::time::{Duration, Instant};

use kernels::awake::awake;
use kernels::bandwidth::measured_bandwidth;
use kernels::gemm::{Accumulate, Packed, Precision, View, ViewMut, gemm_packed};
use kernels::int8::{Activations, Arena, Matrix, product};
use kernels::isa;
use kernels::quant::Encoding;

const ENCODINGS: [Encoding; 11] = [
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
    Encoding::F32,
];
/// Rows and columns: q, k and v together, the attention's output, gate, up and down.
const MODELS: [(&str, &[(usize, usize)]); 2] = [
    ("1B", &[(3072, 2048), (2048, 2048), (8192, 2048), (8192, 2048), (2048, 8192)]),
    ("3B", &[(5120, 3072), (3072, 3072), (8192, 3072), (8192, 3072), (3072, 8192)]),
];
/// The output layers.
const HEADS: [(&str, usize, usize); 2] = [("1B head", 128_256, 2048), ("3B head", 128_256, 3072)];
const BYTES: usize = 1 << 30;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let filter = arguments.next().unwrap_or_default();
    let rows = arguments.next().unwrap_or_else(|| "1,4,8,16,32,512,2048".to_owned());
    let rows: Vec<usize> = rows.split(',').filter_map(|text| text.parse().ok()).collect();
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads for a pool")
        .install(|| run(threads, Duration::from_secs_f64(seconds), &filter, &rows));
}

fn run(threads: usize, budget: Duration, filter: &str, counts: &[usize]) {
    let memory = measured_bandwidth(Duration::from_millis(600)).read / 1e9;
    println!("{:?}, {threads} threads, memory reads {memory:.1} GB/s", isa::current());
    let mut json = Vec::new();
    // Floats take much memory: they are measured where they are asked for.
    let wanted = |encoding: &Encoding| match filter {
        "" => *encoding != Encoding::F32,
        _ => filter.split(',').any(|part| encoding.name().contains(part)),
    };
    for encoding in ENCODINGS.into_iter().filter(wanted) {
        for (name, layer) in MODELS {
            measure(name, encoding, layer, memory, budget, counts, &mut json);
        }
        for (name, rows, cols) in HEADS {
            measure(name, encoding, &[(rows, cols)], memory, budget, &counts[..1], &mut json);
        }
    }
    println!(
        "{{\"isa\":\"{:?}\",\"threads\":{threads},\"read\":{memory:.1},\"products\":[{}]}}",
        isa::current(),
        json.join(",")
    );
}

/// A matrix in the file's blocks, or in floats.
enum Weights {
    Blocks(Matrix),
    Floats(Packed),
}

impl Weights {
    fn rows(&self) -> usize {
        match self {
            Self::Blocks(matrix) => matrix.rows(),
            Self::Floats(packed) => packed.cols(),
        }
    }

    fn cols(&self) -> usize {
        match self {
            Self::Blocks(matrix) => matrix.cols(),
            Self::Floats(packed) => packed.rows(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Blocks(matrix) => matrix.bytes(),
            Self::Floats(packed) => packed.bytes(),
        }
    }
}

fn measure(
    name: &str,
    encoding: Encoding,
    layer: &[(usize, usize)],
    memory: f64,
    budget: Duration,
    counts: &[usize],
    json: &mut Vec<String>,
) {
    let (largest, widest) =
        layer.iter().fold((0, 0), |(rows, cols), shape| (rows.max(shape.0), cols.max(shape.1)));
    let row_bytes = encoding.bytes(widest).expect("whole blocks");
    let mut state = 1u64;
    let mut bytes: Vec<u8> = (0..4096 * row_bytes / 16)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    // Scales that are finite: the upper byte of each f16 is small.
    let scales: &[usize] = match encoding {
        Encoding::F32 => &[3],
        Encoding::Q5_1 | Encoding::Q4_1 | Encoding::Q5K | Encoding::Q4K => &[1, 3],
        Encoding::Q6K => &[209],
        Encoding::Q3K => &[109],
        Encoding::Q2K => &[81, 83],
        _ => &[1],
    };
    for block in bytes.chunks_exact_mut(encoding.block_bytes()) {
        scales.iter().for_each(|&at| block[at] = 0x10);
    }
    let rows_there = |cols: usize| bytes.len() / encoding.bytes(cols).expect("whole blocks");
    let layer_bytes: usize =
        layer.iter().map(|(rows, cols)| rows * encoding.bytes(*cols).expect("whole blocks")).sum();
    let copies = if counts.contains(&1) { BYTES.div_ceil(layer_bytes) } else { 1 };
    let clock = Instant::now();
    let mut arena = Arena::new();
    let matrices: Vec<Weights> = (0..copies)
        .flat_map(|_| layer)
        .map(|&(rows, cols)| {
            let bytes_of = encoding.bytes(cols).expect("whole blocks");
            let there = rows_there(cols);
            if encoding == Encoding::F32 {
                let mut values = vec![0.0; rows * cols];
                for (row, values) in values.chunks_exact_mut(cols).enumerate() {
                    encoding.decode(&bytes[row % there * bytes_of..][..bytes_of], 0, values);
                }
                let view = View::new(&values, rows, cols, cols).transposed();
                return Weights::Floats(Packed::new(Precision::F32, view));
            }
            let matrix = Matrix::new_in(&mut arena, encoding, rows, cols, |row| {
                &bytes[row % there * bytes_of..][..bytes_of]
            });
            Weights::Blocks(matrix.expect("blocks"))
        })
        .collect();
    let packed: usize = matrices.iter().map(Weights::bytes).sum();
    let rate = packed as f64 / clock.elapsed().as_secs_f64() / 1e9;
    println!("{} {name}: packed at {rate:.2} GB/s", encoding.name());
    for &count in counts {
        // Many rows read the weights from whatever cache they like.
        let used = if count <= 32 { &matrices[..] } else { &matrices[..layer.len()] };
        let bytes: usize = used.iter().map(Weights::bytes).sum();
        let values: usize = used.iter().map(|matrix| matrix.rows() * matrix.cols()).sum();
        let x: Vec<f32> = (0..count * widest).map(|place| (place % 251) as f32 / 251.0 - 0.5).collect();
        let mut y = vec![0.0; count * largest];
        let mut activations = Activations::new();
        let mut rounding = 0.0;
        let mut pass = || {
            awake(|| {
                for weights in used {
                    let (rows, cols) = (weights.rows(), weights.cols());
                    let x = &x[..count * cols];
                    let mut y = ViewMut::new(&mut y, count, rows, rows);
                    match weights {
                        Weights::Blocks(matrix) => {
                            let start = Instant::now();
                            activations.round(x, cols, [matrix]);
                            rounding += start.elapsed().as_secs_f64();
                            product(&mut y, &activations, matrix, Accumulate::Overwrite);
                        }
                        Weights::Floats(packed) => {
                            gemm_packed(y, View::new(x, count, cols, cols), packed, Accumulate::Overwrite);
                        }
                    }
                }
            })
        };
        pass();
        let (began, mut times) = (Instant::now(), Vec::new());
        while began.elapsed() < budget || times.len() < 3 {
            let start = Instant::now();
            pass();
            times.push(start.elapsed().as_secs_f64());
        }
        let share = 100.0 * rounding / times.iter().sum::<f64>();
        times.sort_by(f64::total_cmp);
        let (best, median) = (times[0], times[times.len() / 2]);
        let read = |seconds: f64| bytes as f64 / seconds / 1e9;
        let operations = |seconds: f64| 2.0 * (values * count) as f64 / seconds / 1e9;
        println!(
            "  {count:5} rows  {:7.1} GB/s {:5.1} % (median {:7.1})   {:8.0} GOP/s (median {:8.0})  rounding {share:.0} %",
            read(best),
            100.0 * read(best) / memory,
            read(median),
            operations(best),
            operations(median),
        );
        json.push(format!(
            "{{\"encoding\":\"{}\",\"model\":\"{name}\",\"rows\":{count},\"gbs\":{:.1},\"median_gbs\":{:.1},\"gops\":{:.0},\"median_gops\":{:.0}}}",
            encoding.name(),
            read(best),
            read(median),
            operations(best),
            operations(median)
        ));
    }
}
