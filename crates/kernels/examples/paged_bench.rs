//! Attention over kept keys and values, by the size of pages and what they are stored as: one layer of Llama 3.2 1B's
//! shape, medians of interleaved runs.
//!
//! `cargo run --release -p kernels --example paged_bench -- [ROUNDS]`

#![allow(clippy::print_stdout)]

use std::time::Instant;

use kernels::attention::{KvStorage, PagedQueries, Pages, Shape, forward_paged};
use kernels::gemm::Precision;

const SHAPE: Shape = Shape { heads: 32, kv_heads: 8, head_dim: 64 };

/// Sequences, tokens that each has kept, and new tokens of each.
const LOADS: [(usize, usize, usize); 4] = [(1, 4096, 1), (8, 512, 1), (32, 256, 1), (1, 1792, 256)];

/// Values in `[-1, 1)` that look random.
fn values(length: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}

fn main() {
    let rounds = std::env::args().nth(1).map_or(15, |rounds| rounds.parse().expect("a number of rounds"));
    let forms = [
        (Precision::Bf16, KvStorage::Bf16),
        (Precision::Bf16, KvStorage::F32),
        (Precision::Bf16, KvStorage::Q8),
        (Precision::F32, KvStorage::F32),
        (Precision::F32, KvStorage::Bf16),
        (Precision::F32, KvStorage::Q8),
    ];
    println!("microseconds a layer: pages of 32, 64 and 128 tokens");
    for (sequences, kept, new) in LOADS {
        println!("{sequences} x {kept} kept and {new} new");
        for (precision, storage) in forms {
            let mut cases: Vec<_> = [32, 64, 128]
                .into_iter()
                .map(|tokens| {
                    let each = (kept + new).div_ceil(tokens);
                    // Pages in turn, as sequences that grow together take them.
                    let tables: Vec<Vec<u32>> = (0..sequences)
                        .map(|sequence| (0..each).map(|page| (page * sequences + sequence) as u32).collect())
                        .collect();
                    let pages = Pages::new(SHAPE, 1, precision, storage, tokens, each * sequences);
                    (pages, tables, Vec::new())
                })
                .collect();
            let qkv = values((kept + new) * SHAPE.width());
            let mut out = vec![0.0; sequences * (kept + new) * SHAPE.heads * SHAPE.head_dim];
            let mut run = |pages: &mut Pages, tables: &[Vec<u32>], first: usize, count: usize| {
                let mut batch: Vec<_> = tables
                    .iter()
                    .zip(out.chunks_exact_mut(count * SHAPE.heads * SHAPE.head_dim))
                    .map(|(pages, out)| PagedQueries {
                        qkv: &qkv[first * SHAPE.width()..(first + count) * SHAPE.width()],
                        pages,
                        first,
                        out,
                    })
                    .collect();
                let begin = Instant::now();
                forward_paged(pages, 0, &mut batch);
                begin.elapsed().as_secs_f64() * 1e6
            };
            for (pages, tables, _) in &mut cases {
                run(pages, tables, 0, kept);
            }
            for _ in 0..rounds {
                for (pages, tables, times) in &mut cases {
                    times.push(run(pages, tables, kept, new));
                }
            }
            let medians = cases.iter_mut().map(|(_, _, times)| {
                times.sort_by(f64::total_cmp);
                format!("{:9.0}", times[times.len() / 2])
            });
            println!("  {precision:?} over {storage:?}: {}", medians.collect::<String>());
        }
    }
}
