//! How fast memory is read: what the roofline of operations that compute little refers to (Williams, Waterman and
//! Patterson, "Roofline", 2009).

use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::isa;

/// f32 values that a task reads: large enough for the processor's prefetching, and many tasks for each thread.
const BLOCK: usize = 1 << 18;
/// Bytes of the buffer: at least and at most.
const BOUNDS: [usize; 2] = [256 << 20, 512 << 20];

/// What reading memory was measured at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Bytes a second, of the fastest pass.
    pub bytes_per_second: f64,
    /// Bytes that a pass read.
    pub buffer: usize,
    /// Bytes of the last cache, where the system says. Where the buffer is not several times as large, some of what was
    /// read may have come from there.
    pub last_cache: Option<usize>,
}

/// Reads a buffer once from end to end on all threads of the current pool, again and again for about `budget` and at
/// least three times. The buffer is four times the last cache, but between 256 and 512 MiB.
pub fn measured_read_bandwidth(budget: Duration) -> Bandwidth {
    let last_cache = last_cache();
    let buffer = last_cache.map_or(BOUNDS[0], |bytes| bytes.saturating_mul(4)).clamp(BOUNDS[0], BOUNDS[1]);
    let mut values = Buffer::zeros(buffer / size_of::<f32>());
    // Written first: untouched memory is one page of zeros, which a cache holds.
    values.par_chunks_mut(BLOCK).for_each(|block| block.fill(1.0));
    let (began, mut best) = (Instant::now(), f64::INFINITY);
    for pass in 0.. {
        if pass >= 3 && began.elapsed() >= budget {
            break;
        }
        let start = Instant::now();
        let blocks = values.par_chunks(BLOCK).map(|block| f64::from(sum(block))).sum::<f64>();
        best = best.min(start.elapsed().as_secs_f64());
        assert!(blocks == values.len() as f64, "a block of ones adds up to its length");
    }
    Bandwidth { bytes_per_second: buffer as f64 / best, buffer, last_cache }
}

isa::dispatch! {
    /// Eight vectors of partial sums: fewer would wait for each other's additions instead of for memory.
    fn sum<FMA>(block: &[f32]) -> f32 {
        let mut lanes = [0.0f32; 128];
        for values in block.chunks_exact(128) {
            for (lane, value) in lanes.iter_mut().zip(values) {
                *lane += value;
            }
        }
        lanes.iter().sum()
    }
}

/// The size of the largest cache that the first processor reaches, as Linux lists it.
fn last_cache() -> Option<usize> {
    let caches = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").ok()?.flatten();
    caches.filter_map(|cache| bytes(std::fs::read_to_string(cache.path().join("size")).ok()?.trim())).max()
}

/// `48K`, `2048K`, `480M`.
fn bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_s_size_is_understood() {
        for (text, wanted) in
            [("48K", Some(48 << 10)), ("480M", Some(480 << 20)), ("7", Some(7)), ("", None), ("4X", None)]
        {
            assert_eq!(bytes(text), wanted, "{text}");
        }
    }

    #[test]
    fn memory_is_read_as_fast_as_memory_can_be() {
        let found = measured_read_bandwidth(Duration::ZERO);
        assert!((BOUNDS[0]..=BOUNDS[1]).contains(&found.buffer));
        // A machine that is busy elsewhere still reads 100 MB a second, and none reads 100 TB.
        assert!((1e8..1e14).contains(&found.bytes_per_second), "{found:?}");
    }

    #[test]
    fn every_value_is_read() {
        for isa in isa::available() {
            assert_eq!(isa::with(isa, 1, || sum(&[1.0; BLOCK])), BLOCK as f32, "{isa:?}");
        }
    }
}
