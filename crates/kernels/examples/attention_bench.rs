//! Attention over packed documents: one sequence of 8,192 tokens as one document, and as 16 of 512 under the mask.
//!
//! `cargo run --release -p kernels --example attention_bench -- [threads] [rounds]` prints both rates of the forward
//! and of the backward in bf16, and one line of JSON last. What the mask hides is never computed, so short documents
//! take a fraction of the time.

#![allow(clippy::print_stdout)] // A program for people, not part of the library.

use kernels::attention::{Saved, Shape, backward, forward};
use kernels::buffer::Buffer;
use kernels::gemm::Precision;
use std::time::Instant;

const TOKENS: usize = 8192;
const DOCUMENTS: [usize; 2] = [1, 16];
/// Llama 3.2 1B's.
const SHAPE: Shape = Shape { heads: 32, kv_heads: 8, head_dim: 64 };

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(2);
    let rounds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(3);
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads for a pool")
        .install(|| run(rounds));
}

fn run(rounds: usize) {
    let width = SHAPE.width();
    let out_width = SHAPE.heads * SHAPE.head_dim;
    let values = |count: usize| {
        let mut values = Buffer::zeros(count);
        values.iter_mut().enumerate().for_each(|(i, value)| *value = (i * 7 % 251) as f32 / 251.0 - 0.5);
        values
    };
    let (qkv, dout) = (values(TOKENS * width), values(TOKENS * out_width));
    let (mut out, mut dqkv) = (values(TOKENS * out_width), values(TOKENS * width));
    let mut log_sums = values(TOKENS * SHAPE.heads);
    // Seconds of the forward and of the backward, for each number of documents, round by round.
    let mut seconds: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..=rounds {
        for (documents, seconds) in DOCUMENTS.into_iter().zip(&mut seconds) {
            let length = TOKENS / documents;
            let starts: Vec<u32> = (0..TOKENS).map(|token| (token / length * length) as u32).collect();
            let began = Instant::now();
            forward(&mut out, &mut log_sums, &qkv, &starts, TOKENS, SHAPE, Precision::Bf16);
            seconds[0].push(began.elapsed().as_secs_f64());
            let saved =
                Saved { qkv: &qkv, out: &out, log_sums: &log_sums, dout: &dout, document_starts: &starts };
            let began = Instant::now();
            backward(&mut dqkv, saved, TOKENS, SHAPE, Precision::Bf16);
            seconds[1].push(began.elapsed().as_secs_f64());
        }
    }
    let rate = |seconds: &[f64]| {
        // The first round finds its memory untouched.
        let mut sorted = seconds[1..].to_vec();
        sorted.sort_by(f64::total_cmp);
        TOKENS as f64 / sorted[sorted.len() / 2]
    };
    let mut figures = Vec::new();
    for (way, name) in ["forward", "backward"].into_iter().enumerate() {
        let [one, many] = [rate(&seconds[0][way]), rate(&seconds[1][way])];
        println!(
            "{name:8}  {one:9.0} tokens/s as one document, {many:9.0} as {}: {:.1} times",
            DOCUMENTS[1],
            many / one
        );
        figures
            .push(format!("\"{name}\":{{\"one\":{one:.0},\"many\":{many:.0},\"ratio\":{:.2}}}", many / one));
    }
    println!("{{\"tokens\":{TOKENS},\"documents\":{},{}}}", DOCUMENTS[1], figures.join(","));
}
