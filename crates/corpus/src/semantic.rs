//! Documents that mean the same (Abbas et al. 2023, "SemDeDup"): texts are embedded, the embeddings clustered by spherical
//! k-means, and within a cluster every document goes that is too similar to one before it. Which comes first is the
//! caller's choice; the paper's is the one that is farthest from the cluster's centre.
//!
//! This knows no model: an [`Embedder`] is given. What it makes is [kept](store) by the text, so that no text is
//! embedded twice; the [clusters](kmeans) and the [comparison](pairs) are cheap beside it and are made anew.

mod kmeans;
mod pairs;
pub(crate) mod prune;
pub(crate) mod store;

/// Who makes vectors of texts.
pub trait Embedder: std::fmt::Debug + Sync {
    /// What tells its vectors from those of others: the model by its contents, and everything else that decides on them.
    ///
    /// # Errors
    /// A model that cannot be read.
    fn identity(&self) -> Result<String, EmbeddingFault>;

    /// Texts that are best given at once.
    fn batch(&self) -> usize;

    /// A vector for each text, all of one width and of any length but 0. A text may be read in part.
    ///
    /// # Errors
    /// What went wrong, with the text where it is the text's fault.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbeddingFault>;
}

/// Why texts could not be embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingFault {
    /// Which of the texts is to blame, where one is.
    pub text: Option<usize>,
    /// What went wrong.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A vector brought to length 1.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn normalised(vector: &[f32], width: Option<usize>) -> Result<Vec<f32>, String> {
    if vector.is_empty() || width.is_some_and(|width| width != vector.len()) {
        let wanted = width.map_or("some".to_string(), |width| width.to_string());
        return Err(format!("its vector has {} numbers where {wanted} are expected", vector.len()));
    }
    if let Some(at) = vector.iter().position(|value| !value.is_finite()) {
        return Err(format!("number {} of its vector is {}", at + 1, vector[at]));
    }
    let length = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    if length == 0.0 {
        return Err("its vector is all zeros and has no direction".to_string());
    }
    Ok(vector.iter().map(|&value| (f64::from(value) / length) as f32).collect())
}

#[cfg(test)]
mod tests;
