//! The settings of semantic deduplication.

use serde::{Deserialize, Serialize};

/// Semantic duplicates: documents whose embeddings nearly point the same way (Abbas et al. 2023, "SemDeDup: Data-efficient
/// learning at web-scale through semantic deduplication"; Tirumala et al. 2023, "D4"). Not asked of code and data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Semantic {
    /// Whether semantic duplicates are removed.
    pub enabled: bool,
    /// Who embeds: a run, a model's folder, a GGUF file or the name of a model that was pulled; with `endpoint`, what the
    /// model is called there (none where it has only one).
    pub model: Option<String>,
    /// The address of a server of OpenAI's API that embeds, such as `http://localhost:8080/v1`.
    pub endpoint: Option<String>,
    /// A file with the key of the endpoint.
    pub api_key_file: Option<String>,
    /// What of a Llama's final hidden states is the embedding; an endpoint has its own way.
    pub pooling: Pooling,
    /// Tokens of a document that are read, from its beginning. An endpoint is sent four characters for each.
    pub max_tokens: u64,
    /// Clusters within which documents are compared; by default the square root of the number of documents.
    pub clusters: Option<u64>,
    /// Most rounds of k-means.
    pub iterations: u64,
    /// Least cosine similarity of two documents that count as the same: the paper's 1 - ε. How similar texts are that only
    /// have the language in common depends on the model.
    pub min_similarity: f64,
    /// Which of several documents that count as the same stays.
    pub keep: KeepSimilar,
}

impl Default for Semantic {
    fn default() -> Self {
        Semantic {
            enabled: false,
            model: None,
            endpoint: None,
            api_key_file: None,
            pooling: Pooling::Mean,
            max_tokens: 512,
            clusters: None,
            iterations: 20,
            min_similarity: 0.95,
            keep: KeepSimilar::Farthest,
        }
    }
}

/// What of the final hidden states of a text is its embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// That of the last token, as the paper has it for text.
    Last,
}

/// Which of several documents of nearly the same embedding stays. Of equal ones it is the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepSimilar {
    /// The one farthest from its cluster's centre, as the paper has it.
    Farthest,
    /// The one nearest to its cluster's centre.
    Nearest,
    /// The one with the most bytes of text.
    Longest,
    /// The first.
    First,
}

impl Semantic {
    /// What is wrong, a sentence each.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !(0.0..=1.0).contains(&self.min_similarity) {
            faults.push(format!("semantic.min_similarity = {} is not between 0 and 1", self.min_similarity));
        }
        let mut range = |name: &str, value: u64, most: u64| {
            if !(1..=most).contains(&value) {
                faults.push(format!("semantic.{name} = {value} is not between 1 and {most}"));
            }
        };
        range("max_tokens", self.max_tokens, 1 << 20);
        range("iterations", self.iterations, 1000);
        range("clusters", self.clusters.unwrap_or(1), 1 << 20);
        if self.enabled && self.model.is_none() && self.endpoint.is_none() {
            faults.push("semantic.enabled needs a semantic.model or a semantic.endpoint".to_string());
        }
        if self.api_key_file.is_some() && self.endpoint.is_none() {
            faults.push("semantic.api_key_file is for a semantic.endpoint, which is not named".to_string());
        }
        faults
    }
}
