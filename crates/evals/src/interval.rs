//! Confidence intervals of proportions.

use serde::{Deserialize, Serialize};

/// The 97.5% point of the standard normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// An interval inside [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The 95% score interval of a proportion (Wilson 1927, "Probable inference, the law of succession, and statistical
/// inference"): sensible for few items and for none or all right, where the normal interval has no width.
/// Without items it is [0, 1].
pub fn wilson(right: usize, items: usize) -> Interval {
    if items == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let (n, p, z2) = (items as f64, right as f64 / items as f64, Z_95 * Z_95);
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z_95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    // None and all right have an end of exactly 0 or 1, which the difference of rounded terms misses.
    Interval {
        low: if right == 0 { 0.0 } else { (middle - half).max(0.0) },
        high: if right == items { 1.0 } else { (middle + half).min(1.0) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference values: SciPy 1.17.1, `binomtest(right, items).proportion_ci(0.95, "wilson")`.
    #[test]
    fn intervals_agree_with_scipy() {
        for (right, items, low, high) in [
            (0, 10, 0.0, 0.277_532_8),
            (10, 10, 0.722_467_2, 1.0),
            (5, 10, 0.236_593_1, 0.763_406_9),
            (1, 48, 0.003_687_1, 0.108_992_2),
            (81, 100, 0.722_211_5, 0.874_852_5),
            (0, 0, 0.0, 1.0),
        ] {
            let found = wilson(right, items);
            assert!(
                (found.low - low).abs() < 1e-6 && (found.high - high).abs() < 1e-6,
                "{right}/{items}: {found:?}"
            );
        }
        for items in 1..200 {
            assert_eq!((wilson(0, items).low, wilson(items, items).high), (0.0, 1.0), "{items}");
        }
    }
}
