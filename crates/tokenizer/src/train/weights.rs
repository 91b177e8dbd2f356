//! How much each group of texts counts: by its source, and by its language. Weights are numbers of 1/65,536, so that
//! weighted counts are whole and their sums exact.

use serde::{Deserialize, Serialize};

use super::work::Group;
use crate::error::Error;

/// What one text counts where anything is weighed.
const ONE: u64 = 1 << 16;
/// The largest weight of a source, and the inverse of the smallest.
const MAX_WEIGHT: f64 = 65_536.0;
/// No sum of weighted bytes is larger, so that all counts fit in 62 bits.
const MAX_TOTAL: u128 = 1 << 61;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// How often each text of a source counts, by the source's number; once where there is none.
    pub sources: Vec<f64>,
    /// Languages get the shares of text that they would have if each share were raised to this power: 1 leaves them as
    /// they are, 0 makes all alike, 0.3 raises the rare ones as in XLM-R (Conneau et al. 2020). Texts without a language
    /// keep their weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language_exponent: Option<f64>,
}

impl Weights {
    /// Whether every text counts once.
    fn is_plain(&self) -> bool {
        self.language_exponent.is_none() && self.sources.iter().all(|&weight| weight == 1.0)
    }

    /// Checks all values.
    pub fn validate(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        for &weight in &self.sources {
            if !(1.0 / MAX_WEIGHT..=MAX_WEIGHT).contains(&weight) {
                faults.push(format!("the weight {weight} is not from 1/65536 to 65536"));
            }
        }
        if let Some(exponent) = self.language_exponent
            && !(0.0..=1.0).contains(&exponent)
        {
            faults.push(format!(
                "the exponent of the languages' shares is {exponent}, which is not from 0 to 1"
            ));
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Settings { faults }) }
    }

    /// The weight of each group.
    pub(super) fn of(&self, groups: &[Group]) -> Result<Weighed, Error> {
        self.validate()?;
        if self.is_plain() {
            return Ok(Weighed { one: 1, by_group: vec![1; groups.len()] });
        }
        let of_source = |group: &Group| self.sources.get(usize::from(group.source)).copied().unwrap_or(1.0);
        // Languages in the order of their names, so that sums do not depend on which was seen first.
        let mut languages: std::collections::BTreeMap<&str, f64> = Default::default();
        for group in groups {
            if let Some(language) = &group.language {
                *languages.entry(language).or_default() += of_source(group) * group.bytes as f64;
            }
        }
        languages.retain(|_, bytes| *bytes > 0.0);
        let total: f64 = languages.values().sum();
        let exponent = self.language_exponent.unwrap_or(1.0);
        let raised: f64 = languages.values().map(|bytes| (bytes / total).powf(exponent)).sum();
        let factor = |group: &Group| {
            let bytes = group.language.as_deref().and_then(|language| languages.get(language));
            bytes.map_or(1.0, |bytes| (bytes / total).powf(exponent) / raised / (bytes / total))
        };
        let by_group: Vec<u64> = groups
            .iter()
            .map(|group| (of_source(group) * factor(group) * ONE as f64).round().max(1.0) as u64)
            .collect();
        let bytes = groups.iter().zip(&by_group);
        let total: u128 = bytes.map(|(group, &weight)| u128::from(group.bytes) * u128::from(weight)).sum();
        if total > MAX_TOTAL {
            let total = total / u128::from(ONE);
            let fault =
                format!("the weights make {total} bytes of the texts, which is more than can be counted");
            return Err(Error::Settings { faults: vec![fault] });
        }
        Ok(Weighed { one: ONE, by_group })
    }
}

/// Weights as whole numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Weighed {
    /// What counts once.
    pub one: u64,
    pub by_group: Vec<u64>,
}

impl Weighed {
    /// The sum of counts by group. Saturates, which only a damaged file can bring about.
    pub fn sum(&self, counts: &[(u16, u64)]) -> u64 {
        let sum: u128 = counts
            .iter()
            .map(|&(group, count)| {
                let weight = self.by_group.get(usize::from(group)).copied().unwrap_or(self.one);
                u128::from(count) * u128::from(weight)
            })
            .sum();
        sum.min(1 << 61) as u64
    }

    /// The weight of a group, as a person would say it.
    pub fn weight(&self, group: usize) -> f64 {
        self.by_group[group] as f64 / self.one as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(source: u16, language: &str, bytes: u64) -> Group {
        let language = (!language.is_empty()).then(|| language.to_owned());
        Group { source, language, texts: 1, bytes }
    }

    #[test]
    fn languages_get_the_shares_asked_for() {
        let groups = [
            group(0, "en", 900),
            group(0, "de", 50),
            group(1, "de", 40),
            group(0, "sw", 10),
            group(0, "", 77),
        ];
        let check = |exponent: f64, shares: [f64; 3]| {
            let weights = Weights { sources: vec![], language_exponent: Some(exponent) };
            let weighed = weights.of(&groups).unwrap();
            let of = |index: usize| weighed.weight(index) * groups[index].bytes as f64 / 1000.0;
            let found = [of(0), of(1) + of(2), of(3)];
            for (found, wanted) in found.iter().zip(shares) {
                assert!((found - wanted).abs() < 1e-3, "{exponent}: {found} is not {wanted}");
            }
            assert_eq!((weighed.by_group[1], weighed.by_group[4]), (weighed.by_group[2], ONE));
        };
        check(1.0, [0.9, 0.09, 0.01]);
        check(0.0, [1.0 / 3.0; 3]);
        let raised = [0.9f64.powf(0.3), 0.09f64.powf(0.3), 0.01f64.powf(0.3)];
        check(0.3, raised.map(|one| one / raised.iter().sum::<f64>()));
    }

    #[test]
    fn sources_count_as_often_as_asked() {
        let groups = [group(0, "", 10), group(1, "", 10), group(2, "", 10)];
        let weighed = Weights { sources: vec![2.5, 0.25], language_exponent: None }.of(&groups).unwrap();
        assert_eq!(weighed.by_group, [ONE * 5 / 2, ONE / 4, ONE]);
        assert_eq!(weighed.sum(&[(0, 2), (1, 4), (2, 1)]), ONE * 7);
        let plain = Weights { sources: vec![1.0, 1.0], language_exponent: None }.of(&groups).unwrap();
        assert_eq!((plain.one, plain.sum(&[(0, 2), (2, 5)])), (1, 7));
    }

    #[test]
    fn impossible_weights_are_refused_at_once() {
        let weights = Weights { sources: vec![0.0, f64::NAN, 1e6, 1.0], language_exponent: Some(1.5) };
        match weights.validate() {
            Err(Error::Settings { faults }) => assert_eq!(faults.len(), 4, "{faults:?}"),
            other => panic!("{other:?}"),
        }
        let weights = Weights { sources: vec![65_536.0], language_exponent: None };
        let error = weights.of(&[group(0, "", 1 << 40)]).unwrap_err();
        assert!(error.to_string().contains("more than can be counted"), "{error}");
    }
}
