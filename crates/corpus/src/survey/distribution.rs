//! How the values of a column are distributed, in memory that does not grow with their number: counts in equal bins and
//! in bins of equal ratio. What is kept depends on the values alone, not on their order or on how they were parted, but
//! for the sum, whose rounding follows the order.

use std::collections::BTreeMap;

/// Most bins of equal width that are kept.
const MOST_BINS: i64 = 512;
/// So many bins can always be reached: what lies on both sides of zero never becomes one.
const LEAST_BINS: usize = 8;
/// No bin is narrower than two to this power.
const LEAST_EXPONENT: i32 = -60;
/// A value is at most so many powers of two above the width of its bin, so that its index is exact.
const PRECISION: i32 = 40;

/// Bins of equal ratio in an octave.
const PER_OCTAVE: i32 = 16;
/// `2^(k / 16)` for k from 1 to 15, written out so that the bins are the same on every machine.
const RATIOS: [f64; 15] = [
    1.0442737824274138,
    1.0905077326652577,
    1.1387886347566916,
    1.189207115002721,
    1.241857812073484,
    1.2968395546510096,
    1.3542555469368927,
    std::f64::consts::SQRT_2,
    1.4768261459394993,
    1.5422108254079407,
    1.6104903319492543,
    1.681792830507429,
    1.7562521603732995,
    1.8340080864093424,
    1.9152065613971474,
];

/// Values of a column, counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// Finite values.
    pub count: u64,
    /// Documents without a value.
    pub missing: u64,
    /// Values that are infinite or not numbers; they are in no other figure.
    pub not_finite: u64,
    /// The least and the greatest, where there is any.
    pub extent: Option<(f64, f64)>,
    sum: f64,
    linear: Linear,
    ratios: Ratios,
}

/// Values from `low` up to `high`, which only the last bin contains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Values between them.
    pub count: u64,
}

impl Distribution {
    /// Counts a value.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            self.not_finite += 1;
            return;
        }
        self.count += 1;
        self.sum += value;
        self.extent =
            Some(self.extent.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
        self.linear.add(value);
        self.ratios.add(value);
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Distribution) {
        self.count += other.count;
        self.missing += other.missing;
        self.not_finite += other.not_finite;
        self.sum += other.sum;
        self.extent = match (self.extent, other.extent) {
            (Some(own), Some(others)) => Some((own.0.min(others.0), own.1.max(others.1))),
            (own, others) => own.or(others),
        };
        self.linear.merge(&other.linear);
        self.ratios.merge(&other.ratios);
    }

    /// The sum of the values.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The mean, where there is a value.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// A value below which a share of the values lies, 0 to 1: within the narrower of the two bins that hold it, so
    /// within 4.5% of it or a 250th of the range.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let (least, greatest) = self.extent?;
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count);
        let linear = within(self.linear.bins(), 0, rank)?;
        let ratio = within(self.ratios.bins(1), self.ratios.others, rank);
        let (bin, inside) =
            ratio.filter(|(bin, _)| bin.high - bin.low < linear.0.high - linear.0.low).unwrap_or(linear);
        Some((bin.low + (bin.high - bin.low) * inside).clamp(least, greatest))
    }

    /// Whether bins of equal ratio show it better: all values above zero, and most of them crowded at its lower end.
    pub fn is_skewed(&self) -> bool {
        match (self.extent, self.quantile(0.5)) {
            (Some((least, greatest)), Some(median)) => least > 0.0 && greatest / median > 20.0,
            _ => false,
        }
    }

    /// At most `most` bins, which is at least 8, of equal width, a power of two, without gaps. The last one holds the greatest value too, as
    /// NumPy's histogram has it.
    pub fn equal_bins(&self, most: usize) -> Vec<Bin> {
        let Some((_, greatest)) = self.extent else { return Vec::new() };
        let mut linear = self.linear.clone();
        // A score of exactly 1 belongs beside 0.99, not into a bin of its own.
        if linear.counts.len() > 1 && linear.low(linear.counts.len() - 1) == greatest {
            let last = linear.counts.pop().unwrap_or(0);
            if let Some(before) = linear.counts.last_mut() {
                *before += last;
            }
        }
        while linear.counts.len() > most.max(LEAST_BINS) {
            linear.coarsen();
        }
        linear.bins().collect()
    }

    /// Bins of equal ratio, `per_octave` (a divisor of 16) to a doubling, without gaps; zero and what is below are in none.
    pub fn ratio_bins(&self, per_octave: u32) -> Vec<Bin> {
        let every = (PER_OCTAVE / per_octave.clamp(1, 16) as i32).max(1);
        let mut bins: Vec<Bin> = Vec::new();
        for bin in self.ratios.bins(every) {
            while let Some(last) = bins.last().filter(|last| last.high < bin.low) {
                let low = last.high;
                let index = ratio_index(low).div_euclid(every) + 1;
                bins.push(Bin { low, high: ratio_edge(index * every), count: 0 });
            }
            bins.push(bin);
        }
        bins
    }
}

/// The bin that holds the value of this rank (from 1), and where in it, 0 to 1; `before` values lie below all bins.
fn within(bins: impl Iterator<Item = Bin>, mut before: u64, rank: u64) -> Option<(Bin, f64)> {
    for bin in bins {
        if rank <= before {
            return None;
        }
        if rank <= before + bin.count {
            return Some((bin, ((rank - before) as f64 - 0.5) / bin.count as f64));
        }
        before += bin.count;
    }
    None
}

/// Counts in bins of one width, which doubles whenever there would be too many bins. Edges are multiples of the width, so
/// two bins become one exactly.
#[derive(Debug, Clone, PartialEq)]
struct Linear {
    exponent: i32,
    first: i64,
    counts: Vec<u64>,
}

impl Default for Linear {
    fn default() -> Self {
        Linear { exponent: LEAST_EXPONENT, first: 0, counts: Vec::new() }
    }
}

impl Linear {
    fn add(&mut self, value: f64) {
        let least = (exponent_of(value) - PRECISION).max(LEAST_EXPONENT);
        self.coarsen_to(least);
        let index = |exponent: i32| {
            let share = value / power_of_two(exponent);
            // What is so small that the division makes zero of it is below zero still.
            if share == 0.0 && value < 0.0 { -1 } else { share.floor() as i64 }
        };
        self.cover(index(self.exponent), index(self.exponent));
        let at = index(self.exponent) - self.first;
        self.counts[at as usize] += 1;
    }

    fn merge(&mut self, other: &Linear) {
        if other.counts.is_empty() {
            return;
        }
        let mut other = other.clone();
        let exponent = self.exponent.max(other.exponent);
        self.coarsen_to(exponent);
        other.coarsen_to(exponent);
        self.cover(other.first, other.first + other.counts.len() as i64 - 1);
        other.coarsen_to(self.exponent);
        let at = (other.first - self.first) as usize;
        self.counts[at..].iter_mut().zip(&other.counts).for_each(|(own, more)| *own += more);
    }

    /// Makes room for the bins from `low` to `high`, numbered as they are before; wider ones where there would be too many.
    fn cover(&mut self, mut low: i64, mut high: i64) {
        if self.counts.is_empty() {
            self.first = low;
        }
        loop {
            let last = self.first + self.counts.len() as i64 - 1;
            let (from, to) = (self.first.min(low), last.max(high));
            if to - from < MOST_BINS {
                let more = vec![0; (self.first - from) as usize];
                self.counts.splice(0..0, more);
                self.counts.resize((to - from + 1) as usize, 0);
                self.first = from;
                return;
            }
            self.coarsen();
            (low, high) = (low.div_euclid(2), high.div_euclid(2));
        }
    }

    fn coarsen_to(&mut self, exponent: i32) {
        while self.exponent < exponent {
            self.coarsen();
        }
    }

    fn coarsen(&mut self) {
        self.exponent += 1;
        let first = self.first.div_euclid(2);
        let mut counts = Vec::with_capacity(self.counts.len() / 2 + 1);
        for (at, count) in self.counts.iter().enumerate() {
            let to = ((self.first + at as i64).div_euclid(2) - first) as usize;
            counts.resize(to + 1, 0);
            counts[to] += count;
        }
        (self.first, self.counts) = (first, counts);
    }

    fn low(&self, at: usize) -> f64 {
        (self.first + at as i64) as f64 * power_of_two(self.exponent)
    }

    fn bins(&self) -> impl Iterator<Item = Bin> + '_ {
        let bin = |(at, &count)| Bin { low: self.low(at), high: self.low(at + 1), count };
        self.counts.iter().enumerate().map(bin)
    }
}

/// Counts in bins of equal ratio; only those that hold something.
#[derive(Debug, Clone, Default, PartialEq)]
struct Ratios {
    /// Values that are zero or below.
    others: u64,
    bins: BTreeMap<i32, u64>,
}

impl Ratios {
    fn add(&mut self, value: f64) {
        if value > 0.0 {
            *self.bins.entry(ratio_index(value)).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    fn merge(&mut self, other: &Ratios) {
        self.others += other.others;
        for (index, count) in &other.bins {
            *self.bins.entry(*index).or_default() += count;
        }
    }

    /// `every` neighbours taken together.
    fn bins(&self, every: i32) -> impl Iterator<Item = Bin> + '_ {
        let mut rest = self.bins.iter().peekable();
        std::iter::from_fn(move || {
            let (index, count) = rest.next()?;
            let group = index.div_euclid(every);
            let mut count = *count;
            while let Some((_, more)) = rest.next_if(|(index, _)| index.div_euclid(every) == group) {
                count += more;
            }
            Some(Bin { low: ratio_edge(group * every), high: ratio_edge((group + 1) * every), count })
        })
    }
}

/// The bin of equal ratio that holds a value above zero.
fn ratio_index(value: f64) -> i32 {
    let exponent = exponent_of(value);
    let mantissa = value / power_of_two(exponent);
    exponent * PER_OCTAVE + RATIOS.partition_point(|edge| *edge <= mantissa) as i32
}

fn ratio_edge(index: i32) -> f64 {
    let within = index.rem_euclid(PER_OCTAVE) as usize;
    power_of_two(index.div_euclid(PER_OCTAVE)) * if within == 0 { 1.0 } else { RATIOS[within - 1] }
}

/// The power of two that a value other than zero reaches; that of the least normal number for what is smaller.
fn exponent_of(value: f64) -> i32 {
    ((value.to_bits() >> 52 & 0x7ff) as i32).max(1) - 1023
}

/// Two to a power of at least -1022, exactly; infinity where it is too large.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent.clamp(-1022, 1024) + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Distribution {
        let mut distribution = Distribution::default();
        values.iter().for_each(|value| distribution.add(*value));
        distribution
    }

    #[test]
    fn scores_fall_into_round_bins() {
        let scores: Vec<f64> = (0..=1000).map(|i| f64::from(i) / 1000.0).collect();
        let distribution = of(&scores);
        let bins = distribution.equal_bins(16);
        let edges: Vec<f64> = bins.iter().map(|bin| bin.low).collect();
        assert_eq!(edges, (0..16).map(|i| f64::from(i) / 16.0).collect::<Vec<_>>());
        assert_eq!(bins[15].high, 1.0);
        for bin in &bins {
            let last = bin.high == 1.0;
            let wanted = scores.iter().filter(|s| **s >= bin.low && (**s < bin.high || last)).count();
            assert_eq!(bin.count, wanted as u64, "{bin:?}");
        }
        assert_eq!((distribution.count, distribution.extent), (1001, Some((0.0, 1.0))));
        assert!(!distribution.is_skewed());
    }

    #[test]
    fn lengths_fall_into_bins_of_equal_ratio() {
        let lengths: Vec<f64> = (0..16).map(|i| f64::from(1 << i)).collect();
        let distribution = of(&lengths);
        let bins = distribution.ratio_bins(1);
        assert_eq!(bins.len(), 16);
        assert!(bins.iter().zip(&lengths).all(|(bin, length)| bin.count == 1 && bin.low == *length));
        assert!(distribution.is_skewed());
        let gaps = of(&[1.0, 16.0]).ratio_bins(2);
        assert!(gaps.windows(2).all(|pair| pair[0].high == pair[1].low), "{gaps:?}");
        assert_eq!((gaps.len(), gaps[0].count, gaps[8].count), (9, 1, 1));
        for value in [1e-310, 1e-300, 0.3, 1.0, 1.5, 7e300, f64::MAX] {
            let index = ratio_index(value);
            assert!(ratio_edge(index + 1) > value, "{value}");
            assert!(ratio_edge(index) <= value || value < f64::MIN_POSITIVE, "{value}");
        }
    }

    #[test]
    fn what_is_no_number_is_counted_apart() {
        let distribution = of(&[f64::NAN, f64::INFINITY, 2.0, f64::NEG_INFINITY]);
        assert_eq!((distribution.count, distribution.not_finite, distribution.mean()), (1, 3, Some(2.0)));
        assert_eq!(distribution.quantile(0.5), Some(2.0));
        assert_eq!(of(&[]).quantile(0.5), None);
        assert!(of(&[]).equal_bins(8).is_empty() && of(&[]).ratio_bins(4).is_empty());
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            0.0..1.0f64,
            -1e3..1e6f64,
            (0u32..5000).prop_map(f64::from),
            Just(0.0),
            Just(1.0),
            any::<f64>().prop_filter("finite", |value| value.is_finite()),
        ];
        proptest::collection::vec(value, 1..200)
    }

    proptest! {
        #[test]
        fn neither_order_nor_parts_matter(values in values(), cut in 0usize..200) {
            let whole = of(&values);
            let (one, two) = values.split_at(cut.min(values.len()));
            for parts in [[one, two], [two, one]] {
                let mut merged = of(parts[0]);
                merged.merge(&of(parts[1]));
                prop_assert_eq!(&merged.linear, &whole.linear);
                prop_assert_eq!(&merged.ratios, &whole.ratios);
                prop_assert_eq!((merged.count, merged.extent), (whole.count, whole.extent));
            }
        }

        #[test]
        fn bins_hold_all_values_where_they_belong(values in values()) {
            let distribution = of(&values);
            for most in [512, 64, 1, 11] {
                let bins = distribution.equal_bins(most);
                prop_assert!(bins.len() <= most.max(LEAST_BINS));
                prop_assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), values.len() as u64);
                for (at, bin) in bins.iter().enumerate() {
                    let last = at + 1 == bins.len();
                    let inside = values.iter().filter(|v| **v >= bin.low && (**v < bin.high || last && **v <= bin.high));
                    prop_assert_eq!(bin.count, inside.count() as u64);
                }
            }
        }

        #[test]
        fn quantiles_are_near(mut values in proptest::collection::vec(prop_oneof![0.0..1.0f64, 1.0..1e5f64], 1..300), share in 0.0..1.0f64) {
            let distribution = of(&values);
            values.sort_by(f64::total_cmp);
            let rank = ((share * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let (exact, found) = (values[rank - 1], distribution.quantile(share).unwrap());
            let range = values[values.len() - 1] - values[0];
            prop_assert!((found - exact).abs() <= (0.045 * exact).max(range / 250.0), "{} for {}", found, exact);
        }
    }
}
