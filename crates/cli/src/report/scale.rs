//! Axes and figures as text: round tick values, thousands separated, bytes and durations in a person's units.
//! Nothing here knows SVG.

/// A linear or logarithmic map from data to pixels.
#[derive(Clone, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// Maps `low..high` in the data onto `from..to` in pixels.
    pub fn linear(low: f64, high: f64, from: f64, to: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to, logarithmic: false }
    }

    /// As [`Scale::linear`] with equal ratios at equal distances; `low` must be above zero.
    pub fn logarithmic(low: f64, high: f64, from: f64, to: f64) -> Self {
        let low = low.max(f64::MIN_POSITIVE);
        let high = if high > low { high } else { low * 2.0 };
        Self { low, high, from, to, logarithmic: true }
    }

    /// The pixel of a value; values outside the domain land outside the range.
    pub fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share * (self.to - self.from)
    }

    /// About `wanted` round values inside the domain (powers of two when logarithmic, as vocabulary sizes are).
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        if self.logarithmic {
            let mut ticks = Vec::new();
            let mut value = 2f64.powi(self.low.log2().ceil() as i32);
            while value <= self.high * 1.0001 {
                ticks.push(value);
                value *= 2.0;
            }
            let every = ticks.len().div_ceil(wanted.max(1)).max(1);
            return ticks.into_iter().rev().step_by(every).collect();
        }
        let step = round_step((self.high - self.low) / wanted.max(1) as f64);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

impl Scale {
    /// At most about `wanted` powers of ten inside a logarithmic domain; with 2 and 5 times them, or more, where few are inside.
    pub fn decades(&self, wanted: usize) -> Vec<f64> {
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let inside = |factors: &[f64]| -> Vec<f64> {
            let all =
                (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
            all.filter(|tick| (self.low * 0.9999..=self.high * 1.0001).contains(tick)).collect()
        };
        let finest = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        for factors in [&finest[..], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]] {
            let ticks = inside(factors);
            if ticks.len() <= wanted + 1 || factors.len() == 1 {
                let every = ticks.len().div_ceil(wanted.max(1) + 1).max(1);
                return ticks.into_iter().step_by(every).collect();
            }
        }
        Vec::new()
    }
}

/// About `wanted` round values from at most `low` to at least `high`, so that a curve does not touch the frame.
pub fn round_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    if !(low.is_finite() && high.is_finite()) {
        return vec![0.0, 1.0];
    }
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let step = round_step(span / wanted.max(1) as f64);
    let first = (low / step).floor() as i64;
    let last = ((high / step).ceil() as i64).max(first + 1);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// The ticks of one axis in one notation: powers of ten only where no tick is large enough to do without.
pub fn tick_texts(ticks: &[f64], format: fn(f64) -> String) -> Vec<String> {
    let all_small = ticks.iter().all(|tick| tick.abs() < 1e-3);
    let text = |&tick: &f64| {
        if all_small || tick == 0.0 || tick.abs() >= 1e-3 {
            return format(tick);
        }
        let text = format!("{tick:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    ticks.iter().map(text).collect()
}

/// The nearest of 1, 2, 2.5, 5 times a power of ten that is not below `raw`.
fn round_step(raw: f64) -> f64 {
    if !(raw.is_finite() && raw > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(raw.log10().floor());
    let share = raw / power;
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|f| share <= f * 1.000_001).unwrap_or(10.0);
    factor * power
}

/// A whole number with its thousands separated: `1,234,567`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A large number in three figures: `6.63M`, `1.2K`, `12`.
pub fn short(value: f64) -> String {
    let magnitude = value.abs();
    for (limit, suffix) in [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")] {
        if magnitude >= limit {
            return format!("{}{suffix}", figures(value / limit));
        }
    }
    figures(value)
}

/// Three significant figures without trailing zeros; very small values as powers of ten.
pub fn figures(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        return "0".to_owned();
    }
    if magnitude < 1e-3 {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let decimals = (2 - magnitude.log10().floor() as i32).clamp(0, 5) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Bytes in decimal units: `12.4 MB`.
pub fn bytes(value: u64) -> String {
    let value = value as f64;
    for (limit, unit) in [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")] {
        if value >= limit {
            return format!("{} {unit}", figures(value / limit));
        }
    }
    format!("{value:.0} B")
}

/// A time span as a person says it: `0.4 s`, `52 s`, `7 min 05 s`, `2 h 10 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    if seconds < 10.0 {
        format!("{:.1} s", seconds.max(0.0))
    } else if whole < 60 {
        format!("{whole} s")
    } else if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    }
}

/// A share as a percentage with one decimal below ten: `97%`, `4.2%`, `<0.1%`.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value == 0.0 || (9.95..=100.0).contains(&value) {
        format!("{value:.0}%")
    } else if value > 0.0 && value < 0.05 {
        "<0.1%".to_owned()
    } else {
        format!("{value:.1}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_a_person_writes_them() {
        let cases: &[(String, &str)] = &[
            (count(0), "0"),
            (count(999), "999"),
            (count(1_234_567), "1,234,567"),
            (short(6_630_000.0), "6.63M"),
            (short(999.0), "999"),
            (short(4096.0), "4.1K"),
            (figures(0.0003), "3e-4"),
            (figures(2.5), "2.5"),
            (figures(120.0), "120"),
            (bytes(12_400_000), "12.4 MB"),
            (bytes(12), "12 B"),
            (duration(0.42), "0.4 s"),
            (duration(425.0), "7 min 05 s"),
            (duration(7800.0), "2 h 10 min"),
            (percent(0.042), "4.2%"),
            (percent(0.0001), "<0.1%"),
            (percent(0.0997), "10%"),
            (percent(0.973), "97%"),
        ];
        for (got, wanted) in cases {
            assert_eq!(got, wanted);
        }
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale::linear(0.0, 873.0, 0.0, 100.0);
        assert_eq!(scale.ticks(5), [0.0, 200.0, 400.0, 600.0, 800.0]);
        let scale = Scale::logarithmic(300.0, 4096.0, 0.0, 100.0);
        assert_eq!(scale.ticks(8), [4096.0, 2048.0, 1024.0, 512.0]);
        assert!((scale.at(4096.0) - 100.0).abs() < 1e-9);
        let decades = |low, high| Scale::logarithmic(low, high, 0.0, 100.0).decades(6);
        assert_eq!(decades(90.0, 2e5), [100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5]);
        assert_eq!(decades(1e-3, 1e9), [1e-3, 1e-1, 1e1, 1e3, 1e5, 1e7, 1e9]);
        assert_eq!(decades(3.0, 8.0), [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        assert_eq!(round_ticks(1.93, 8.4, 4), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(round_ticks(3.0, 3.0, 4), [3.0, 4.0]);
        assert_eq!(round_ticks(f64::INFINITY, f64::NEG_INFINITY, 4), [0.0, 1.0]);
    }

    #[test]
    fn one_axis_has_one_notation() {
        let texts = |ticks: &[f64]| tick_texts(ticks, figures).join(" ");
        assert_eq!(texts(&[0.0, 0.0005, 0.001, 0.0015]), "0 0.0005 0.001 0.0015");
        assert_eq!(texts(&[0.0, 0.00005, 0.0001, 0.00015]), "0 5e-5 1e-4 1.5e-4");
        assert_eq!(texts(&[2.0, 4.0]), "2 4");
    }
}
