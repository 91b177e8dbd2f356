//! What is asked of a row of logits before a token is chosen: the greatest, and the log of the softmax's denominator.

use crate::isa;
use crate::math::{exp, sum_lanes};

/// Values of one sum in f32.
const BLOCK: usize = 1 << 12;
const LANES: usize = 32;

/// The place of the greatest score, of equals the first. `None` where a score is NaN or infinity, or none is finite;
/// negative infinity is a score like another.
pub fn best(logits: &[f32]) -> Option<usize> {
    let (largest, sound) = survey(logits);
    (sound && largest.is_finite()).then(|| first(logits, largest)).flatten()
}

/// `ln sum e^logit`, within 2e-6 of the sum: f32 lanes within a block of 4,096 scores, f64 over the blocks, in order.
/// `best` is the greatest score.
pub fn log_sum_exp(logits: &[f32], best: f32) -> f64 {
    let sum: f64 = logits.chunks(BLOCK).map(|block| f64::from(exponentials(block, best))).sum();
    f64::from(best) + sum.ln()
}

isa::dispatch! {
    /// The greatest of the numbers, and whether there is neither NaN nor infinity.
    fn survey<FMA>(logits: &[f32]) -> (f32, bool) {
        let mut largest = [f32::NEG_INFINITY; LANES];
        let mut unsound = [0u32; LANES];
        let (blocks, rest) = logits.as_chunks::<LANES>();
        let mut last = [f32::NEG_INFINITY; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for block in blocks.iter().chain(&[last]) {
            for lane in 0..LANES {
                let score = block[lane];
                largest[lane] = if score > largest[lane] { score } else { largest[lane] };
                // Not "at least infinity": NaN is to be found too.
                unsound[lane] |= u32::from(!matches!(score.partial_cmp(&f32::INFINITY), Some(std::cmp::Ordering::Less)));
            }
        }
        let greatest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        (greatest, unsound.iter().all(|lane| *lane == 0))
    }

    /// The first place of a value.
    fn first<FMA>(logits: &[f32], value: f32) -> Option<usize> {
        let block = logits.chunks(LANES).position(|block| {
            let mut found = 0;
            for score in block {
                found |= u32::from(*score == value);
            }
            found != 0
        })?;
        let place = logits[block * LANES..].iter().position(|score| *score == value)?;
        Some(block * LANES + place)
    }

    fn exponentials<FMA>(logits: &[f32], best: f32) -> f32 {
        // What a row lacks of whole lanes is filled with zeros, which weigh nothing where `f` of zeros is 0: so the rest
        // is summed by itself.
        let whole = logits.len() - logits.len() % LANES;
        let sum = sum_lanes([&logits[..whole]], |[score]| exp::<FMA>(score - best));
        logits[whole..].iter().fold(sum, |sum, score| sum + exp::<FMA>(score - best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reduce::testing::Values;

    #[test]
    fn the_first_of_the_greatest_is_found_at_every_level_and_faults_are_noticed() {
        for level in isa::available() {
            isa::with(level, 1, || {
                for length in [1usize, 2, 31, 32, 33, 64, 1000, 4097, 9001] {
                    let mut logits = Values::new(length as u64).take(length);
                    let plain = |logits: &[f32]| {
                        (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap()
                    };
                    assert_eq!(best(&logits), Some(plain(&logits)));
                    let exact: f64 = logits.iter().map(|&score| f64::from(score).exp()).sum::<f64>().ln();
                    let found = log_sum_exp(&logits, logits[plain(&logits)]);
                    assert!((found - exact).abs() < 2e-6, "{found} is not {exact} at {level:?}");
                    for place in [0, length / 2, length - 1] {
                        logits[place] = 3.0;
                        logits[length - 1] = 3.0;
                        assert_eq!(best(&logits), Some(place.min(plain(&logits))));
                        for fault in [f32::NAN, f32::INFINITY] {
                            let kept = std::mem::replace(&mut logits[place], fault);
                            assert_eq!(best(&logits), None, "{fault} at {place} of {length}, {level:?}");
                            logits[place] = kept;
                        }
                        logits[place] = f32::NEG_INFINITY;
                        let finite = logits.iter().any(|score| score.is_finite());
                        assert_eq!(best(&logits).is_some(), finite, "{length}");
                    }
                }
            });
        }
        assert_eq!(best(&[]), None);
    }
}
