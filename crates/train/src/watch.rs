//! Watches losses and gradient norms for the moment in which training goes wrong.

use serde::{Deserialize, Serialize};

/// Norms that count as usual: the median of at most so many.
const WINDOW: usize = 64;
/// Before so many steps nothing is usual yet: the first gradients of a fresh model differ widely.
const PATIENCE: usize = 16;

/// The last losses and gradient norms. Part of every checkpoint, so that a resumed run judges as the first would have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watch {
    losses: Vec<f64>,
    norms: Vec<f64>,
}

impl Watch {
    /// Says what is wrong with this step, if anything is.
    pub(crate) fn judge(&self, loss: f64, norm: f64, limit: f64) -> Option<String> {
        if !loss.is_finite() {
            return Some(format!("the loss is {loss}{}", self.before(&self.losses)));
        }
        if !norm.is_finite() {
            return Some(format!("the gradient norm is {norm}{}", self.before(&self.norms)));
        }
        let usual = median(&self.norms);
        if limit > 0.0 && usual > 0.0 && self.norms.len() >= PATIENCE && norm > limit * usual {
            return Some(format!(
                "the gradient norm is {norm:.4}, {:.0} times the usual {usual:.4}",
                norm / usual
            ));
        }
        None
    }

    /// Remembers a step that went well.
    pub(crate) fn remember(&mut self, loss: f64, norm: f64) {
        for (values, value) in [(&mut self.losses, loss), (&mut self.norms, norm)] {
            if values.len() == WINDOW {
                values.remove(0);
            }
            values.push(value);
        }
    }

    /// Mean of the last losses: steadier than the last one.
    pub(crate) fn loss(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len().max(1) as f64
    }

    fn before(&self, values: &[f64]) -> String {
        values.last().map_or_else(String::new, |last| format!(", and was {last:.4} one step before"))
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spikes_and_numbers_that_are_none_are_seen() {
        let mut watch = Watch::default();
        for step in 0..100 {
            assert_eq!(watch.judge(5.0, 1.0 + f64::from(step % 3), 10.0), None);
            watch.remember(5.0, 1.0 + f64::from(step % 3));
        }
        assert_eq!(watch.norms.len(), WINDOW);
        assert_eq!(watch.judge(5.0, 19.0, 10.0), None);
        assert!(watch.judge(5.0, 21.0, 10.0).unwrap().contains("times the usual 2.0000"));
        assert_eq!(watch.judge(5.0, 21.0, 0.0), None);
        assert!(watch.judge(f64::NAN, 1.0, 0.0).unwrap().contains("was 5.0000"));
        assert!(watch.judge(5.0, f64::INFINITY, 0.0).unwrap().contains("inf"));
        assert_eq!(watch.loss(), 5.0);
    }

    #[test]
    fn nothing_is_usual_at_the_beginning() {
        let mut watch = Watch::default();
        watch.remember(9.0, 0.001);
        assert_eq!(watch.judge(9.0, 50.0, 10.0), None);
        assert!(Watch::default().judge(f64::NAN, 1.0, 10.0).unwrap().ends_with("NaN"));
    }
}
