//! How a model is to be stored: one encoding for all of its matrices, or a mixture that has a name.

use kernels::quant::Encoding;

use super::names;
use crate::{Config, TensorSpec};

/// How a model's values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Four bytes a value, exact.
    #[default]
    F32,
    /// Two bytes, rounded to nearest even, from 6e-8 to 65,504.
    F16,
    /// Two bytes, rounded to nearest even, with the range of f32.
    Bf16,
    /// 8.5 bits.
    Q8_0,
    /// 6.56 bits.
    Q6K,
    /// llama.cpp's mixture of Q5_K and Q6_K, about 5.7 bits.
    Q5KM,
    /// 6 bits, and an output layer in Q6_K, as in llama.cpp; so the next three.
    Q5_1,
    /// 5.5 bits.
    Q5_0,
    /// llama.cpp's mixture of Q4_K and Q6_K, about 4.85 bits.
    Q4KM,
    /// 5 bits.
    Q4_1,
    /// 4.5 bits.
    Q4_0,
}

impl Storage {
    /// All of them, the exact first.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q6K,
        Self::Q5KM,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4KM,
        Self::Q4_1,
        Self::Q4_0,
    ];

    /// As it is written on the command line: `bf16`, `q4_k_m`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q6K => "q6_k",
            Self::Q5KM => "q5_k_m",
            Self::Q5_1 => "q5_1",
            Self::Q5_0 => "q5_0",
            Self::Q4KM => "q4_k_m",
            Self::Q4_1 => "q4_1",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The storage of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|storage| storage.name() == name)
    }

    /// The encoding of all matrices, if it is a plain one.
    pub fn plain(self) -> Option<Encoding> {
        match self {
            Self::F32 => Some(Encoding::F32),
            Self::F16 => Some(Encoding::F16),
            Self::Bf16 => Some(Encoding::Bf16),
            _ => None,
        }
    }

    /// How GGUF stores a tensor of a model: norms in F32, matrices as llama.cpp's quantiser chooses for each
    /// (`llama_tensor_get_type`). Where rows are no whole number of blocks of 256, blocks of 32 take their place: Q8_0 that
    /// of Q6_K, Q5_1 that of Q5_K, Q5_0 that of Q4_K; where they are none of these either, F16.
    pub fn encoding(self, spec: &TensorSpec, config: &Config) -> Encoding {
        let [_, cols] = spec.shape[..] else { return Encoding::F32 };
        let (layer, part) = names::parts(&spec.name);
        let is_output = part == "lm_head" || (config.tied_embeddings && part == "model.embed_tokens");
        let wanted = match self {
            Self::F32 => Encoding::F32,
            Self::F16 => Encoding::F16,
            Self::Bf16 => Encoding::Bf16,
            Self::Q8_0 => Encoding::Q8_0,
            _ if is_output && !cols.is_multiple_of(Encoding::Q6K.block_values()) => Encoding::Q8_0,
            _ if is_output => Encoding::Q6K,
            Self::Q6K => Encoding::Q6K,
            Self::Q5_1 => Encoding::Q5_1,
            Self::Q5_0 => Encoding::Q5_0,
            Self::Q4_1 => Encoding::Q4_1,
            Self::Q4_0 => Encoding::Q4_0,
            Self::Q5KM | Self::Q4KM => {
                let more = layer.is_some_and(|layer| wants_more_bits(layer, config.layers));
                match part {
                    "self_attn.v_proj" | "mlp.down_proj" if more => Encoding::Q6K,
                    "self_attn.v_proj" if is_shared_by_eight(config) => Encoding::Q5K,
                    _ if self == Self::Q5KM => Encoding::Q5K,
                    _ => Encoding::Q4K,
                }
            }
        };
        let in_its_place = match wanted {
            Encoding::Q6K => Encoding::Q8_0,
            Encoding::Q5K => Encoding::Q5_1,
            Encoding::Q4K => Encoding::Q5_0,
            plain => plain,
        };
        let fits = |encoding: &Encoding| cols.is_multiple_of(encoding.block_values());
        [wanted, in_its_place].into_iter().find(fits).unwrap_or(Encoding::F16)
    }
}

/// The first and the last eighth of the layers, and every third between them.
fn wants_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// A model as deep as the 70B, whose values serve eight heads each, so that more bits cost little there.
fn is_shared_by_eight(config: &Config) -> bool {
    config.layers == 80 && config.group() == 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::tensors;

    /// Encodings of a model's tensors by their part.
    fn chosen(storage: Storage, config: &Config, part: &str) -> Vec<Encoding> {
        let of = tensors(config).into_iter().filter(|spec| names::parts(&spec.name).1 == part);
        of.map(|spec| storage.encoding(&spec, config)).collect()
    }

    #[test]
    fn the_mixture_is_llama_cpps() {
        let config = Config::preset("8b").unwrap();
        let down = chosen(Storage::Q4KM, &config, "mlp.down_proj");
        let more: Vec<usize> = (0..32).filter(|&layer| down[layer] == Encoding::Q6K).collect();
        assert_eq!(more, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!(chosen(Storage::Q4KM, &config, "self_attn.v_proj"), down);
        assert_eq!(chosen(Storage::Q4KM, &config, "lm_head"), [Encoding::Q6K]);
        assert_eq!(chosen(Storage::Q4KM, &config, "model.embed_tokens"), [Encoding::Q4K]);
        assert_eq!(chosen(Storage::Q4_0, &config, "lm_head"), [Encoding::Q6K]);
        assert_eq!(chosen(Storage::Q8_0, &config, "lm_head"), [Encoding::Q8_0]);
        assert!(chosen(Storage::Q4_0, &config, "input_layernorm").iter().all(|&e| e == Encoding::F32));
        let five: Vec<Encoding> = chosen(Storage::Q5KM, &config, "mlp.down_proj");
        assert!(five.iter().zip(&down).all(|(five, four)| match four {
            Encoding::Q6K => *five == Encoding::Q6K,
            _ => *five == Encoding::Q5K,
        }));
        assert_eq!(chosen(Storage::Q5KM, &config, "model.embed_tokens"), [Encoding::Q5K]);
        for (storage, encoding) in [
            (Storage::Q5_1, Encoding::Q5_1),
            (Storage::Q5_0, Encoding::Q5_0),
            (Storage::Q4_1, Encoding::Q4_1),
        ] {
            assert!(chosen(storage, &config, "mlp.up_proj").iter().all(|&one| one == encoding));
            assert_eq!(chosen(storage, &config, "lm_head"), [Encoding::Q6K]);
        }
        // Values that serve eight heads each get one bit more than the rest, or two.
        let large = Config::preset("70b").unwrap();
        let values = chosen(Storage::Q4KM, &large, "self_attn.v_proj");
        assert!(values.iter().all(|one| matches!(one, Encoding::Q5K | Encoding::Q6K)));
        assert_eq!(chosen(Storage::Q4KM, &large, "self_attn.k_proj")[40], Encoding::Q4K);
        let tied = Config::preset("1b").unwrap();
        assert_eq!(chosen(Storage::Q4KM, &tied, "model.embed_tokens"), [Encoding::Q6K]);
    }

    #[test]
    fn rows_that_are_no_whole_blocks_take_the_next_format() {
        let narrow = Config { dim: 64, ffn_dim: 72, ..Config::preset("8b").unwrap() };
        assert_eq!(chosen(Storage::Q4KM, &narrow, "mlp.gate_proj")[0], Encoding::Q5_0);
        assert_eq!(chosen(Storage::Q5KM, &narrow, "mlp.gate_proj")[0], Encoding::Q5_1);
        assert_eq!(chosen(Storage::Q6K, &narrow, "mlp.gate_proj")[0], Encoding::Q8_0);
        assert_eq!(chosen(Storage::Q4KM, &narrow, "mlp.down_proj")[0], Encoding::F16);
        assert_eq!(chosen(Storage::Q4_0, &narrow, "lm_head"), [Encoding::Q8_0]);
        assert_eq!(chosen(Storage::F32, &narrow, "mlp.down_proj")[0], Encoding::F32);
    }

    #[test]
    fn names_lead_back() {
        for storage in Storage::ALL {
            assert_eq!(Storage::by_name(storage.name()), Some(storage));
        }
        assert_eq!(Storage::by_name("q3_k"), None);
    }
}
