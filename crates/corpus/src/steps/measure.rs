//! A rule's measurement of one document against its threshold, and the margin by which it passes: the source of
//! both the funnel's reasons and the column `quality`.
//!
//! `quality` is the least margin over all rules that bound a fraction: 0 when the document only just passed one
//! of them, 1 when it is as far from every threshold as a document can be. Rules that bound counts or lengths
//! say nothing about it. A document to which no such rule applies has no quality.

use super::Verdict;

/// A measured value and its bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    /// The rule's name, which is the reason in the funnel.
    pub rule: &'static str,
    /// What was measured.
    pub value: f64,
    /// The bound it has to keep.
    pub bound: Bound,
}

/// A bound on a measured value; equality passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// A fraction of the document, at most this.
    FractionAtMost(f64),
    /// A fraction of the document, at least this.
    FractionAtLeast(f64),
    /// A count or length, at most this.
    AtMost(f64),
    /// A count or length, at least this.
    AtLeast(f64),
}

impl Measure {
    /// Whether the document keeps the bound.
    pub fn passes(&self) -> bool {
        match self.bound {
            Bound::FractionAtMost(limit) | Bound::AtMost(limit) => self.value <= limit,
            Bound::FractionAtLeast(limit) | Bound::AtLeast(limit) => self.value >= limit,
        }
    }

    /// The bound's number.
    pub fn limit(&self) -> f64 {
        match self.bound {
            Bound::FractionAtMost(limit)
            | Bound::AtMost(limit)
            | Bound::FractionAtLeast(limit)
            | Bound::AtLeast(limit) => limit,
        }
    }

    /// How far from its bound a passing fraction lies, 0 to 1; nothing for counts and lengths.
    pub fn margin(&self) -> Option<f64> {
        let margin = match self.bound {
            Bound::FractionAtMost(limit) if limit > 0.0 => 1.0 - self.value / limit,
            Bound::FractionAtLeast(limit) if limit < 1.0 => (self.value - limit) / (1.0 - limit),
            Bound::FractionAtMost(_) | Bound::FractionAtLeast(_) => 1.0,
            Bound::AtMost(_) | Bound::AtLeast(_) => return None,
        };
        Some(margin.clamp(0.0, 1.0))
    }
}

/// Removes for the first rule that fails, else keeps with the least margin. Measures after a failing one are not
/// computed when the iterator is lazy.
pub(super) fn verdict(measures: impl IntoIterator<Item = Measure>) -> Verdict {
    let mut least: Option<f64> = None;
    for measure in measures {
        if !measure.passes() {
            return Verdict::RemoveMeasured(measure);
        }
        if let Some(margin) = measure.margin() {
            least = Some(least.map_or(margin, |least| least.min(margin)));
        }
    }
    least.map_or(Verdict::Keep, Verdict::KeepAtMost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_run_from_the_threshold_to_the_best_value() {
        let check = |value: f64, bound: Bound, passes: bool, margin: Option<f64>| {
            let measure = Measure { rule: "rule", value, bound };
            assert_eq!(measure.passes(), passes, "{measure:?}");
            assert_eq!(measure.margin(), margin, "{measure:?}");
        };
        check(0.0, Bound::FractionAtMost(0.5), true, Some(1.0));
        check(0.25, Bound::FractionAtMost(0.5), true, Some(0.5));
        check(0.5, Bound::FractionAtMost(0.5), true, Some(0.0));
        check(0.75, Bound::FractionAtMost(0.5), false, Some(0.0));
        check(0.75, Bound::FractionAtLeast(0.5), true, Some(0.5));
        check(0.7, Bound::FractionAtLeast(0.8), false, Some(0.0));
        check(49.0, Bound::AtLeast(50.0), false, None);
        check(50.0, Bound::AtLeast(50.0), true, None);
    }
}
