//! How good scores are, held against the truth: precision, recall and F1 at thresholds, the area under the ROC curve,
//! calibration. It knows numbers only.

use serde::{Deserialize, Serialize};

/// The thresholds of the table.
const THRESHOLDS: [f64; 11] = [0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99];
/// Bins of the calibration, of equal width.
const BINS: usize = 10;

/// What a score is worth as a classifier of one label against the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Texts that have the label.
    pub positives: u64,
    /// Texts that have another.
    pub negatives: u64,
    /// The probability that a text with the label has a higher score than one without, ties counted half (the area under
    /// the ROC curve); none without both.
    pub auc: Option<f64>,
    /// Where F1 is greatest.
    pub best: AtThreshold,
    /// At fixed thresholds, ascending.
    pub thresholds: Vec<AtThreshold>,
    /// How often texts of like scores have the label.
    pub calibration: Vec<Bin>,
    /// The mean distance between score and share in [`Measured::calibration`], weighed by texts (Guo et al. 2017).
    pub calibration_error: f64,
    /// The mean of the squared distances between score and truth (Brier 1950).
    pub brier: f64,
}

/// What becomes of texts of which those from a score on are taken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtThreshold {
    /// The least score taken.
    pub threshold: f64,
    /// Share of the taken that have the label; 1 when nothing is taken.
    pub precision: f64,
    /// Share of those with the label that are taken; 1 when there are none.
    pub recall: f64,
    /// The harmonic mean of the two.
    pub f1: f64,
    /// Share of all texts that are taken.
    pub kept: f64,
}

/// Texts with scores of one range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// The range's lower end.
    pub from: f64,
    /// Its upper end.
    pub to: f64,
    /// Texts in it.
    pub texts: u64,
    /// Their mean score.
    pub score: f64,
    /// The share of them that have the label.
    pub share: f64,
}

/// Measures scores from 0 to 1, each with whether the text has the label.
pub fn measure(scores: &[(f64, bool)]) -> Measured {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = sorted.len();
    let positives = sorted.iter().filter(|(_, label)| *label).count();
    // Labelled texts before each place: what is cut away by a threshold there.
    let mut before = Vec::with_capacity(total + 1);
    before.push(0);
    for (_, label) in &sorted {
        before.push(before[before.len() - 1] + usize::from(*label));
    }
    let at = |threshold: f64| {
        let cut = sorted.partition_point(|(score, _)| *score < threshold);
        at_cut(threshold, total - cut, positives - before[cut], positives, total)
    };
    let mut best = at(0.5);
    let mut cut = 0;
    while cut < total {
        let threshold = sorted[cut].0;
        let found = at_cut(threshold, total - cut, positives - before[cut], positives, total);
        if found.f1 > best.f1 {
            best = found;
        }
        cut += sorted[cut..].partition_point(|(score, _)| *score <= threshold).max(1);
    }
    let calibration = calibration(&sorted);
    let distance = |bin: &Bin| bin.texts as f64 * (bin.score - bin.share).abs();
    Measured {
        positives: positives as u64,
        negatives: (total - positives) as u64,
        auc: auc(&sorted, positives),
        best,
        thresholds: THRESHOLDS.iter().map(|&threshold| at(threshold)).collect(),
        calibration_error: calibration.iter().map(distance).sum::<f64>() / total.max(1) as f64,
        brier: sorted.iter().map(|(score, label)| (score - f64::from(u8::from(*label))).powi(2)).sum::<f64>()
            / total.max(1) as f64,
        calibration,
    }
}

fn at_cut(threshold: f64, taken: usize, right: usize, positives: usize, total: usize) -> AtThreshold {
    let share = |part: usize, of: usize| if of == 0 { 1.0 } else { part as f64 / of as f64 };
    let (precision, recall) = (share(right, taken), share(right, positives));
    let f1 = if right == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
    AtThreshold { threshold, precision, recall, f1, kept: taken as f64 / total.max(1) as f64 }
}

/// Mann and Whitney's U of the sorted scores, as a share of all pairs.
fn auc(sorted: &[(f64, bool)], positives: usize) -> Option<f64> {
    let negatives = sorted.len() - positives;
    if positives == 0 || negatives == 0 {
        return None;
    }
    let (mut below, mut wins, mut at) = (0usize, 0.0, 0);
    while at < sorted.len() {
        let tied = sorted[at..].partition_point(|(score, _)| *score <= sorted[at].0).max(1);
        let labelled = sorted[at..at + tied].iter().filter(|(_, label)| *label).count();
        let others = tied - labelled;
        wins += labelled as f64 * (below as f64 + others as f64 / 2.0);
        below += others;
        at += tied;
    }
    Some(wins / (positives as f64 * negatives as f64))
}

fn calibration(sorted: &[(f64, bool)]) -> Vec<Bin> {
    (0..BINS)
        .map(|bin| {
            let (from, to) = (bin as f64 / BINS as f64, (bin + 1) as f64 / BINS as f64);
            let end = if bin + 1 == BINS { f64::INFINITY } else { to };
            let start = if bin == 0 { f64::NEG_INFINITY } else { from };
            let inside = &sorted[sorted.partition_point(|(score, _)| *score < start)
                ..sorted.partition_point(|(score, _)| *score < end)];
            let mean = |sum: f64| if inside.is_empty() { 0.0 } else { sum / inside.len() as f64 };
            Bin {
                from,
                to,
                texts: inside.len() as u64,
                score: mean(inside.iter().map(|(score, _)| score).sum()),
                share: mean(inside.iter().filter(|(_, label)| *label).count() as f64),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_table_is_as_counted_by_hand() {
        let scores = [(0.9, true), (0.8, false), (0.6, true), (0.4, true), (0.2, false), (0.2, false)];
        let found = measure(&scores);
        assert_eq!((found.positives, found.negatives), (3, 3));
        // Of the nine pairs only those of 0.8 with 0.6 and 0.4 are in the wrong order.
        assert_eq!(found.auc, Some(7.0 / 9.0));
        let half = found.thresholds.iter().find(|at| at.threshold == 0.5).unwrap();
        assert_eq!((half.precision, half.recall, half.kept), (2.0 / 3.0, 2.0 / 3.0, 0.5));
        assert_eq!((found.best.threshold, found.best.recall, found.best.precision), (0.4, 1.0, 0.75));
        assert_eq!(found.calibration.iter().map(|bin| bin.texts).sum::<u64>(), 6);
        assert!((found.brier - (0.01 + 0.64 + 0.16 + 0.36 + 0.04 + 0.04) / 6.0).abs() < 1e-12);
    }

    #[test]
    fn scores_without_one_of_the_two_have_no_auc() {
        for label in [true, false] {
            let found = measure(&[(0.5, label), (0.7, label)]);
            assert!(found.auc.is_none() && found.best.f1.is_finite(), "{found:?}");
        }
        let nothing = measure(&[]);
        assert!(nothing.auc.is_none() && nothing.calibration_error == 0.0 && nothing.brier == 0.0);
    }

    proptest! {
        #[test]
        fn figures_agree_with_their_definitions(
            scores in prop::collection::vec((0..=20u8, any::<bool>()), 1..60),
        ) {
            let scores: Vec<(f64, bool)> =
                scores.into_iter().map(|(score, label)| (f64::from(score) / 20.0, label)).collect();
            let found = measure(&scores);
            let of = |wanted: bool| scores.iter().filter(move |(_, label)| *label == wanted);
            let (mut wins, mut pairs) = (0.0, 0.0);
            for (positive, _) in of(true) {
                for (negative, _) in of(false) {
                    pairs += 1.0;
                    wins += if positive > negative { 1.0 } else if positive == negative { 0.5 } else { 0.0 };
                }
            }
            match found.auc {
                Some(auc) => prop_assert!((auc - wins / pairs).abs() < 1e-9),
                None => prop_assert_eq!(pairs, 0.0),
            }
            for at in &found.thresholds {
                let taken = scores.iter().filter(|(score, _)| *score >= at.threshold).count();
                let right = of(true).filter(|(score, _)| *score >= at.threshold).count();
                prop_assert!(taken == 0 || (at.precision - right as f64 / taken as f64).abs() < 1e-12);
                prop_assert!(at.f1 <= found.best.f1 + 1e-12);
            }
            prop_assert_eq!(found.calibration.iter().map(|bin| bin.texts).sum::<u64>(), scores.len() as u64);
        }
    }
}
