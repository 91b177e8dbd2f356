//! A Llama's configuration: the numbers that fix its shapes, and Meta's published ones by name.
//!
//! Field names are ours; `hf` translates to and from `config.json`.

use crate::Error;

/// Llama 3.1's stretching of the rotary frequencies (`rope_type = "llama3"`).
#[derive(Clone, Debug, PartialEq)]
pub struct RopeScaling {
    /// Long wavelengths are stretched by this factor.
    pub factor: f32,
    /// Wavelengths above `original_max_seq_len / low_freq_factor` are stretched whole.
    pub low_freq_factor: f32,
    /// Wavelengths below `original_max_seq_len / high_freq_factor` are left alone.
    pub high_freq_factor: f32,
    /// The context length that the model was first trained at.
    pub original_max_seq_len: usize,
}

/// The shape of a Llama.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream, `D`.
    pub dim: usize,
    /// Number of transformer blocks.
    pub layers: usize,
    /// Query heads, `H`.
    pub heads: usize,
    /// Key and value heads, `K`; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head, `C`; even.
    pub head_dim: usize,
    /// Width of the feed-forward, `F`.
    pub ffn_dim: usize,
    /// Tokens that the model knows, `V`.
    pub vocab_size: usize,
    /// RMSNorm's epsilon.
    pub norm_eps: f32,
    /// Base of the rotary frequencies; 500,000 in Llama 3.
    pub rope_theta: f32,
    /// Llama 3.1's frequency scaling, where used.
    pub rope_scaling: Option<RopeScaling>,
    /// The output layer shares the embedding's weights (Llama 3.2 1B and 3B).
    pub tied_embeddings: bool,
    /// Longest sequence that the model is meant for.
    pub max_seq_len: usize,
}

impl Config {
    /// Meta's published configurations: `8b`, `70b`, `405b` (3.1), `1b`, `3b` (3.2), to the parameter.
    ///
    /// Source: `params.json` and `config.json` of the released models.
    pub fn preset(name: &str) -> Option<Self> {
        let scaled = |factor| {
            Some(RopeScaling {
                factor,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_seq_len: 8192,
            })
        };
        let base = Self {
            dim: 4096,
            layers: 32,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            ffn_dim: 14_336,
            vocab_size: 128_256,
            norm_eps: 1e-5,
            rope_theta: 500_000.0,
            rope_scaling: None,
            tied_embeddings: false,
            max_seq_len: 8192,
        };
        Some(match name {
            "8b" => base,
            "70b" => Self { dim: 8192, layers: 80, heads: 64, ffn_dim: 28_672, ..base },
            "405b" => Self {
                dim: 16_384,
                layers: 126,
                heads: 128,
                ffn_dim: 53_248,
                rope_scaling: scaled(8.0),
                max_seq_len: 131_072,
                ..base
            },
            "1b" => Self {
                dim: 2048,
                layers: 16,
                head_dim: 64,
                ffn_dim: 8192,
                rope_scaling: scaled(32.0),
                tied_embeddings: true,
                max_seq_len: 131_072,
                ..base
            },
            "3b" => Self {
                dim: 3072,
                layers: 28,
                heads: 24,
                ffn_dim: 8192,
                rope_scaling: scaled(32.0),
                tied_embeddings: true,
                max_seq_len: 131_072,
                ..base
            },
            _ => return None,
        })
    }

    /// Width of queries, keys and values together: `(H + 2K) * C`.
    pub fn qkv_dim(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Width of all query heads together: `H * C`.
    pub fn attention_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Query heads that share one key/value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Number of trainable parameters.
    pub fn parameters(&self) -> u64 {
        let layer = self.matrix_parameters_per_layer() + 2 * self.dim as u64;
        let embeddings = (self.vocab_size * self.dim) as u64 * if self.tied_embeddings { 1 } else { 2 };
        embeddings + self.layers as u64 * layer + self.dim as u64
    }

    /// Floating-point operations of one training step for each token: six for every weight of a matrix product
    /// (two forward, four backward) and the causal attention at `seq_len`, counted at half of the square.
    pub fn training_flops_per_token(&self, seq_len: usize) -> f64 {
        let matrices =
            self.layers as u64 * self.matrix_parameters_per_layer() + (self.vocab_size * self.dim) as u64;
        6.0 * matrices as f64 + 6.0 * (self.layers * self.attention_dim() * seq_len) as f64
    }

    fn matrix_parameters_per_layer(&self) -> u64 {
        (self.dim * self.qkv_dim() + self.attention_dim() * self.dim + 3 * self.dim * self.ffn_dim) as u64
    }

    /// The number of parameters for sizes of which nothing is known yet, whose products need not fit in an integer.
    fn approximate_parameters(&self) -> f64 {
        let [dim, layers, heads, kv_heads, head_dim, ffn_dim, vocab_size] =
            [self.dim, self.layers, self.heads, self.kv_heads, self.head_dim, self.ffn_dim, self.vocab_size]
                .map(|size| size as f64);
        layers * dim * (2.0 * (heads + kv_heads) * head_dim + 3.0 * ffn_dim) + 2.0 * vocab_size * dim
    }

    /// Checks every number and names all faults at once.
    pub fn validate(&self) -> Result<(), Error> {
        let mut faults = Vec::new();
        for (name, value) in [
            ("dim", self.dim),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("ffn_dim", self.ffn_dim),
            ("vocab_size", self.vocab_size),
            ("max_seq_len", self.max_seq_len),
        ] {
            if value == 0 {
                faults.push(format!("{name} is 0"));
            } else if value > 1 << 28 {
                faults.push(format!("{name} is {value}, beyond any Llama"));
            }
        }
        if self.approximate_parameters() > 1e15 {
            faults.push("the sizes together make more parameters than any Llama has".into());
        }
        if self.kv_heads > 0 && !self.heads.is_multiple_of(self.kv_heads) {
            faults.push(format!("heads ({}) is not a multiple of kv_heads ({})", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            faults.push(format!("head_dim ({}) is odd; the rotary embedding turns pairs", self.head_dim));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            faults.push(format!("norm_eps is {}", self.norm_eps));
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            faults.push(format!("rope_theta is {}", self.rope_theta));
        }
        if let Some(scaling) = &self.rope_scaling {
            let sound = scaling.factor >= 1.0
                && scaling.low_freq_factor > 0.0
                && scaling.high_freq_factor > scaling.low_freq_factor
                && scaling.original_max_seq_len > 0;
            if !sound {
                faults.push(format!("rope_scaling is {scaling:?}"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Config(faults)) }
    }

    /// The rotary frequencies, one for each of the `C / 2` pairs, in radians a position.
    ///
    /// Follows `precompute_freqs_cis` and `apply_scaling` of the reference model.
    pub fn rope_frequencies(&self) -> Vec<f32> {
        (0..self.head_dim / 2)
            .map(|pair| {
                let exponent = (2 * pair) as f32 / self.head_dim as f32;
                let frequency = 1.0 / self.rope_theta.powf(exponent);
                match &self.rope_scaling {
                    None => frequency,
                    Some(scaling) => scaling.apply(frequency),
                }
            })
            .collect()
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f32) -> f32 {
        let wavelength = 2.0 * std::f32::consts::PI / frequency;
        let original = self.original_max_seq_len as f32;
        if wavelength > original / self.low_freq_factor {
            return frequency / self.factor;
        }
        if wavelength < original / self.high_freq_factor {
            return frequency;
        }
        let smooth =
            (original / wavelength - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
        (1.0 - smooth) * frequency / self.factor + smooth * frequency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_the_published_number_of_parameters() {
        for (name, parameters) in [
            ("8b", 8_030_261_248),
            ("70b", 70_553_706_496),
            ("405b", 405_853_388_800),
            ("1b", 1_235_814_400),
            ("3b", 3_212_749_824),
        ] {
            let config = Config::preset(name).unwrap();
            config.validate().unwrap();
            assert_eq!(config.parameters(), parameters, "{name}");
        }
        assert_eq!(Config::preset("9b"), None);
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let config = Config { dim: 0, kv_heads: 3, head_dim: 7, ..Config::preset("8b").unwrap() };
        let message = config.validate().unwrap_err().to_string();
        for part in ["dim is 0", "multiple of kv_heads (3)", "head_dim (7) is odd"] {
            assert!(message.contains(part), "{message}");
        }
        let huge =
            Config { dim: 1 << 28, heads: 1 << 28, head_dim: 1 << 28, ..Config::preset("8b").unwrap() };
        assert!(huge.validate().unwrap_err().to_string().contains("more parameters"));
    }

    #[test]
    fn scaling_leaves_short_waves_and_stretches_long_ones() {
        let plain = Config::preset("8b").unwrap();
        let scaled = Config { rope_scaling: Config::preset("405b").unwrap().rope_scaling, ..plain.clone() };
        let (before, after) = (plain.rope_frequencies(), scaled.rope_frequencies());
        assert_eq!(before[0], after[0]);
        assert_eq!(before[63] / 8.0, after[63]);
        assert!(after.windows(2).all(|pair| pair[0] >= pair[1]));
    }
}
