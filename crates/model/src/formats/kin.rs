//! Families of models that resemble Llama, and what they compute otherwise: so that a refusal says what is missing.

/// What the family of this name (`model_type`, or `general.architecture` in GGUF) computes otherwise than Llama.
pub(super) fn difference(name: &str) -> Option<&'static str> {
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>().to_lowercase();
    // The longest beginning decides: `qwen3moe` before `qwen3`.
    let fitting = FAMILIES.iter().filter(|(beginning, _)| plain.starts_with(beginning));
    fitting.max_by_key(|(beginning, _)| beginning.len()).map(|(_, what)| *what)
}

/// Beginnings of names, without hyphens and underscores.
const FAMILIES: [(&str, &str); 30] = [
    ("llama4", "it has experts, and layers whose attention is cut into chunks or has no rotary embedding"),
    ("mllama", "it has cross-attention to pictures"),
    ("mixtral", "it has experts"),
    ("mistral3", "it has a part for pictures, and scales queries by their position"),
    ("mistral4", "it has experts and latent attention"),
    ("qwen2", "its queries, keys and values have biases"),
    ("qwen2moe", "it has experts, and biases of queries, keys and values"),
    ("qwen3", "it normalises the queries and keys of each head"),
    ("qwen3moe", "it has experts, and normalises the queries and keys of each head"),
    ("qwen3next", "most of its layers have linear attention"),
    ("gemma", "its embeddings are scaled, its norms add one to their weights, its activation is GELU"),
    ("gemma2", "it has norms after each half of a block, caps its logits, and its activation is GELU"),
    (
        "gemma3",
        "it has norms after each half of a block, normalises queries and keys, and its activation is GELU",
    ),
    ("phi", "its norms are LayerNorm, and attention and feed-forward run side by side"),
    (
        "phi3",
        "its queries, keys and values are one tensor, gate and up another, and its rope scaling has two lists",
    ),
    ("deepseek", "it has latent attention and experts"),
    ("olmo", "its norms have no weights"),
    ("olmo2", "its norms come after attention and feed-forward, and it normalises queries and keys"),
    ("granite", "it multiplies embeddings, residuals, attention and logits by factors of its own"),
    ("minicpm", "it multiplies embeddings, residuals and logits by factors of its own"),
    ("commandr", "its norms are LayerNorm, and attention and feed-forward run side by side"),
    ("cohere", "its norms are LayerNorm, and attention and feed-forward run side by side"),
    ("smollm3", "some of its layers have no rotary embedding"),
    ("gptoss", "it has experts, biases, and sinks of attention"),
    ("gpt2", "its norms are LayerNorm, and its positions are learnt"),
    ("gptneox", "its norms are LayerNorm, and attention and feed-forward run side by side"),
    ("falcon", "its norms are LayerNorm, and attention and feed-forward run side by side"),
    ("stablelm", "its norms are LayerNorm, and its heads are turned in part"),
    ("starcoder2", "its norms are LayerNorm, it has biases, and its feed-forward has no gate"),
    ("mamba", "it has no attention"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_beginning_decides() {
        for (name, part) in [
            ("qwen2", "biases"),
            ("qwen3_moe", "experts"),
            ("qwen3moe", "experts"),
            ("gemma2", "caps its logits"),
            ("gemma3_text", "normalises queries"),
            ("command-r", "side by side"),
            ("gpt-oss", "sinks"),
            ("deepseek2", "latent"),
        ] {
            assert!(
                difference(name).is_some_and(|said| said.contains(part)),
                "{name}: {:?}",
                difference(name)
            );
        }
        assert_eq!(difference("llama"), None);
        assert_eq!(difference("nothing"), None);
    }
}
