//! What the timed steps have in common: options, tokens and values that follow from their names, and the memory's peak.

use model::{Batch, Config, TensorSpec};
use train::bench::TwoDocuments;
use train::settings::Precision;

/// Why an example ended early.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The value of `--precision`.
pub fn precision(word: &str) -> Result<Precision, Failure> {
    Ok(match word {
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        _ => return Err(format!("--precision is f32 or bf16, not {word}").into()),
    })
}

/// The value of `--tokens`: rows, and tokens in a row.
pub fn rows_and_length(value: &str) -> Result<(usize, usize), Failure> {
    let (rows, seq_len) = value.split_once('x').ok_or("--tokens is ROWSxLENGTH")?;
    Ok((rows.parse()?, seq_len.parse()?))
}

/// What a result calls a precision.
pub fn dtype(precision: kernels::gemm::Precision) -> &'static str {
    match precision {
        kernels::gemm::Precision::F32 => "f32",
        kernels::gemm::Precision::Bf16 => "bf16",
    }
}

/// Fills a batch that every step trains on: two documents a row, the second from three eighths on.
pub fn fill_batch(batch: &mut Batch, config: &Config) {
    let seq_len = batch.seq_len;
    let boundary = TwoDocuments::second(seq_len);
    let tokens: Vec<u32> = (0..batch.rows * (seq_len + 1))
        .map(|i| (hashed("tokens", i as u64) % config.vocab_size as u64) as u32)
        .collect();
    for (row, tokens) in tokens.chunks(seq_len + 1).enumerate() {
        let here = row * seq_len..(row + 1) * seq_len;
        batch.inputs[here.clone()].copy_from_slice(&tokens[..seq_len]);
        batch.targets[here.clone()].copy_from_slice(&tokens[1..]);
        batch.document_starts[here][boundary..].fill(boundary as u32);
    }
}

/// A tensor's values from place `start` within it on: norms are 1, matrices uniform with standard deviation 0.02.
pub fn fill(values: &mut [f32], tensor: &TensorSpec, start: usize) {
    if tensor.shape.len() == 1 {
        values.fill(1.0);
        return;
    }
    let span = 0.02 * 3f64.sqrt();
    for (index, value) in values.iter_mut().enumerate() {
        let unit = (hashed(&tensor.name, (start + index) as u64) >> 40) as f32 / (1u64 << 24) as f32;
        *value = (unit * 2.0 - 1.0) * span as f32;
    }
}

/// SplitMix64's finaliser over FNV-1a of the name and the index: a number that both programs can make.
fn hashed(name: &str, index: u64) -> u64 {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The most memory that the process held at once; 0 where the system does not say.
pub fn peak_rss_mib() -> u64 {
    ledger::machine::peak_memory().unwrap_or(0) >> 20
}
