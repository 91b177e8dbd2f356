//! The options of `alti tokenizer train`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

/// Train a tokenizer on documents of any size.
#[derive(Debug, Args)]
#[command(
    long_about = "Train a tokenizer on documents of any size: byte-level BPE over the pieces of Llama 3's split pattern.\n\n\
        First the pieces are counted, in tables that keep to the memory and are written to a work folder when they are \
        full, or after so much text. Killed at any moment and run again, the same command goes on from there; where files or \
        settings have changed, it says so and begins anew. Then the most frequent pairs are merged, of equal ones that with \
        the smaller numbers first. The same documents give the same tokenizer, whatever the threads, the memory and the \
        interruptions; only where the different pieces themselves exceed the memory, the rarest are left out, which is said.\n\n\
        Documents are read as `alti raise` reads them, but neither filtered nor deduplicated: text, code and pages (their main \
        text), JSONL (fields text, lang), Parquet, WARC, packed with gzip or zstd too. What cannot be read is left out, and \
        counted.",
    after_long_help = "Examples:\n  \
        alti tokenizer train notes/*.md --vocab-size 8192 --out my-tokenizer\n  \
        alti tokenizer train corpus --vocab-size 128256 --memory 16GB --out my-tokenizer\n  \
        alti tokenizer train web.jsonl.zst code --weight code=2 --vocab-size 128256 --out my-tokenizer\n  \
        alti tokenizer train 'wiki/*.parquet' --language-exponent 0.3 --vocab-size 128256 --out my-tokenizer"
)]
pub struct TrainTokenizer {
    /// A folder, a file, an address (s3://bucket/prefix) or a glob to read; `registry` means the crates that cargo downloaded to this machine.
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<String>,
    /// Size of the vocabulary, the 256 special tokens included: Llama 3's has 128256.
    #[arg(long, alias = "vocab", default_value_t = 4096, value_name = "N")]
    pub vocab_size: usize,
    /// The folder to write.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Memory to keep to, such as 512MB or 16GB.
    #[arg(long, value_name = "SIZE", default_value = "4GB", value_parser = size)]
    pub memory: u64,
    /// How often each document of a source counts, as SOURCE=W, such as code=2 or web/*.jsonl=0.5; may be repeated.
    #[arg(long = "weight", value_name = "SOURCE=W", value_parser = weight)]
    pub weights: Vec<(String, f64)>,
    /// Raise the languages' shares of the text to this power, from 1 (as they are) to 0 (all alike): 0.3 lifts rare ones. The
    /// language is the document's own field, else detected.
    #[arg(long, value_name = "E")]
    pub language_exponent: Option<f64>,
    /// Merge no pair that occurs less often.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub minimum_pair_count: u64,
    /// Threads that count. [default: all processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// The folder for counts, which is removed at the end. [default: OUT.work]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Text after which what was counted is put on the disk: the most that a kill can cost.
    #[arg(long, value_name = "SIZE", default_value = "4GB", value_parser = size)]
    pub checkpoint: u64,
}

/// Bytes: a number, and `kB`, `MB`, `GB` or `TB` for powers of a thousand, or `KiB`, `MiB`, `GiB` or `TiB` for powers of 1,024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let fault = || format!("{text:?} is not a size, such as 512MB or 4GB");
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| fault())?;
    let factor = match text[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024f64.powi(2),
        "gib" => 1024f64.powi(3),
        "tib" => 1024f64.powi(4),
        _ => return Err(fault()),
    };
    // Whole numbers are exact in f64 up to 2^53.
    let bytes = (number * factor).round();
    if (1.0..=9e15).contains(&bytes) { Ok(bytes as u64) } else { Err(fault()) }
}

fn weight(text: &str) -> Result<(String, f64), String> {
    // A path may hold the sign too.
    let parts = text.rsplit_once('=').filter(|(source, _)| !source.is_empty());
    let (source, weight) = parts.ok_or("write a source and its weight, such as code=2")?;
    let weight = weight.parse().map_err(|_| format!("{weight:?} is not a number"))?;
    Ok((source.to_owned(), weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(size(text).ok(), expected, "{text}");
        check("4GB", Some(4_000_000_000));
        check("1.5 MiB", Some(1_572_864));
        check("300", Some(300));
        check("64 kb", Some(64_000));
        for wrong in ["", "GB", "-1GB", "4XB", "0", "99999999TB", "1.2.3MB", "4GBs"] {
            check(wrong, None);
        }
    }

    #[test]
    fn weights_name_a_source() {
        assert_eq!(weight("a=b/*.jsonl=0.5"), Ok(("a=b/*.jsonl".into(), 0.5)));
        assert!(weight("code").is_err() && weight("=2").is_err() && weight("code=two").is_err());
    }
}
