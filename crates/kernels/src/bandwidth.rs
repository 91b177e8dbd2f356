//! How fast memory is read and written: what the roofline of operations that compute little refers to (Williams, Waterman
//! and Patterson, "Roofline", 2009).

use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::isa;

/// f32 values that a task reads: large enough for the processor's prefetching, and many tasks for each thread.
const BLOCK: usize = 1 << 18;
/// Bytes of the buffer: at least and at most.
const BOUNDS: [usize; 2] = [256 << 20, 512 << 20];

/// What memory was measured at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Bytes a second that are read where nothing is written.
    pub read: f64,
    /// Bytes a second that are read and written, together, where each value is replaced. What is written goes back to
    /// memory while a processor waits for what it reads, so this is the faster one.
    pub update: f64,
    /// Bytes of the buffer that a pass goes through.
    pub buffer: usize,
    /// Bytes of the last cache, where the system says. Where the buffer is not several times as large, some of what was
    /// read may have come from there.
    pub last_cache: Option<usize>,
}

/// Goes through a buffer from end to end on all threads of the current pool, reading it and then replacing every value,
/// each again and again for about half of `budget` and at least three times; the fastest pass counts. The buffer is four
/// times the last cache, but between 256 and 512 MiB.
pub fn measured_bandwidth(budget: Duration) -> Bandwidth {
    let last_cache = last_cache();
    let buffer = last_cache.map_or(BOUNDS[0], |bytes| bytes.saturating_mul(4)).clamp(BOUNDS[0], BOUNDS[1]);
    let mut values = Buffer::zeros(buffer / size_of::<f32>());
    // Written first: untouched memory is one page of zeros, which a cache holds.
    values.par_chunks_mut(BLOCK).for_each(|block| block.fill(1.0));
    let read = fastest(budget / 2, || {
        let total = values.par_chunks(BLOCK).map(|block| f64::from(sum(block))).sum::<f64>();
        assert!(total == values.len() as f64, "a buffer of ones adds up to its length");
    });
    let update = fastest(budget / 2, || values.par_chunks_mut(BLOCK).for_each(turn));
    assert!(values.iter().step_by(BLOCK / 3).all(|&value| value.abs() == 1.0), "ones only turn their sign");
    let buffer = size_of_val(&values[..]);
    Bandwidth { read: buffer as f64 / read, update: 2.0 * buffer as f64 / update, buffer, last_cache }
}

/// Seconds of the fastest pass.
fn fastest(budget: Duration, mut pass: impl FnMut()) -> f64 {
    let (began, mut best) = (Instant::now(), f64::INFINITY);
    for index in 0.. {
        if index >= 3 && began.elapsed() >= budget {
            break;
        }
        let start = Instant::now();
        pass();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
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

    fn turn<FMA>(block: &mut [f32]) {
        for value in block.iter_mut() {
            *value = -*value;
        }
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
    fn memory_is_as_fast_as_memory_can_be() {
        let found = measured_bandwidth(Duration::ZERO);
        assert!((BOUNDS[0]..=BOUNDS[1]).contains(&found.buffer));
        // A machine that is busy elsewhere still reads 100 MB a second, and none reads 100 TB.
        assert!([found.read, found.update].iter().all(|rate| (1e8..1e14).contains(rate)), "{found:?}");
    }

    #[test]
    fn every_value_is_read() {
        for isa in isa::available() {
            assert_eq!(isa::with(isa, 1, || sum(&[1.0; BLOCK])), BLOCK as f32, "{isa:?}");
        }
    }
}
