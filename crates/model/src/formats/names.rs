//! What the formats call a tensor. The canonical names are Hugging Face's.

use super::Format;

/// Hugging Face's name, Meta's and GGUF's, without the layer and without `.weight`.
const ENDS: [[&str; 3]; 3] = [
    ["model.embed_tokens", "tok_embeddings", "token_embd"],
    ["model.norm", "norm", "output_norm"],
    ["lm_head", "output", "output"],
];

const BLOCK: [[&str; 3]; 9] = [
    ["input_layernorm", "attention_norm", "attn_norm"],
    ["self_attn.q_proj", "attention.wq", "attn_q"],
    ["self_attn.k_proj", "attention.wk", "attn_k"],
    ["self_attn.v_proj", "attention.wv", "attn_v"],
    ["self_attn.o_proj", "attention.wo", "attn_output"],
    ["post_attention_layernorm", "ffn_norm", "ffn_norm"],
    ["mlp.gate_proj", "feed_forward.w1", "ffn_gate"],
    ["mlp.up_proj", "feed_forward.w3", "ffn_up"],
    ["mlp.down_proj", "feed_forward.w2", "ffn_down"],
];

/// The layer of a canonical tensor, and its name within the layer (or the whole name) without `.weight`.
pub(super) fn parts(canonical: &str) -> (Option<usize>, &str) {
    let name = canonical.strip_suffix(".weight").unwrap_or(canonical);
    let within = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    match within.and_then(|(layer, part)| Some((layer.parse().ok()?, part))) {
        Some((layer, part)) => (Some(layer), part),
        None => (None, name),
    }
}

/// What `format` calls the tensor with this canonical name.
pub(super) fn name(canonical: &str, format: Format) -> String {
    let (layer, part) = parts(canonical);
    let column = match format {
        Format::HuggingFace => return canonical.to_owned(),
        Format::Meta => 1,
        Format::Gguf => 2,
    };
    let known = ENDS.iter().chain(&BLOCK).find(|names| names[0] == part);
    let own = known.map_or(part, |names| names[column]);
    match (layer, format) {
        (None, _) => format!("{own}.weight"),
        (Some(layer), Format::Gguf) => format!("blk.{layer}.{own}.weight"),
        (Some(layer), _) => format!("layers.{layer}.{own}.weight"),
    }
}

/// Whether the rows of the tensor are turned by the rotary embedding: queries and keys.
pub(super) fn is_rotated(canonical: &str) -> bool {
    matches!(parts(canonical).1, "self_attn.q_proj" | "self_attn.k_proj")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tensor_has_a_name_of_its_own_in_every_format() {
        let config = crate::Config { layers: 12, ..crate::Config::preset("8b").unwrap() };
        for format in [Format::HuggingFace, Format::Meta, Format::Gguf] {
            let names: std::collections::BTreeSet<String> =
                crate::weights::tensors(&config).iter().map(|tensor| name(&tensor.name, format)).collect();
            assert_eq!(names.len(), 9 * 12 + 3);
        }
        let canonical = "model.layers.11.mlp.down_proj.weight";
        assert_eq!(name(canonical, Format::Meta), "layers.11.feed_forward.w2.weight");
        assert_eq!(name(canonical, Format::Gguf), "blk.11.ffn_down.weight");
        assert_eq!(name("lm_head.weight", Format::Gguf), "output.weight");
        assert_eq!(parts(canonical), (Some(11), "mlp.down_proj"));
        assert!(is_rotated("model.layers.0.self_attn.k_proj.weight"));
        assert!(!is_rotated("model.layers.0.self_attn.v_proj.weight"));
    }
}
