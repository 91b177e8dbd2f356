//! One vector for a prompt: its final hidden states, pooled as they come and brought to length 1.

/// How the final hidden states of a prompt's tokens, after the final norm, become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooling {
    /// Their mean.
    #[default]
    Mean,
    /// That of the last token, the only one that has seen all others.
    Last,
}

/// The vector of a prompt that is being read.
pub(crate) struct Pooled {
    pooling: Pooling,
    /// In f64 and token by token, so that it does not depend on how the prompt is cut.
    sum: Vec<f64>,
}

impl Pooled {
    pub(crate) fn new(pooling: Pooling) -> Self {
        Pooled { pooling, sum: Vec::new() }
    }

    /// Takes the next tokens' states, rows of `width`.
    pub(crate) fn add(&mut self, states: &[f32], width: usize) {
        self.sum.resize(width, 0.0);
        for state in states.chunks_exact(width) {
            if self.pooling == Pooling::Last {
                self.sum.fill(0.0);
            }
            self.sum.iter_mut().zip(state).for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }

    /// The vector of length 1; `None` where it has no direction.
    pub(crate) fn finish(&self) -> Option<Vec<f32>> {
        let length = self.sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        let sound = length.is_finite() && length > 0.0;
        sound.then(|| self.sum.iter().map(|value| (value / length) as f32).collect())
    }
}
