//! Sources of a mixture: documents to token shards, once for each state of the documents and the tokenizer.

use std::path::{Path, PathBuf};

use corpus::PackSummary;
use corpus::indexed::Dataset;
use ledger::digest::Digest;
use serde::{Deserialize, Serialize};
use tokenizer::Tokenizer;

use crate::errors::Error;
use crate::progress::Shown;

/// A source whose tokens are on the disk.
pub struct Packed {
    pub name: String,
    /// The folder with `train.bin` and `heldout.bin`.
    pub folder: PathBuf,
    pub train: Dataset,
    pub held_out: Dataset,
    /// What it was made from.
    pub inputs: Digest,
}

/// What lies beside a source's shards.
#[derive(Serialize, Deserialize)]
struct Made {
    inputs: Digest,
    packed: PackSummary,
}

/// Packs each source into `folder`, or keeps what lies there of the same documents and tokenizer.
///
/// # Errors
/// Names given twice; sources that cannot be read or have no tokens.
pub fn pack_all(
    sources: &[(String, PathBuf)],
    tokenizer: (&Tokenizer, &Digest),
    folder: &Path,
    shown: &Shown,
) -> Result<Vec<Packed>, Error> {
    let twice = sources
        .iter()
        .enumerate()
        .find(|(index, (name, _))| sources[..*index].iter().any(|(one, _)| one == name));
    if let Some((_, (name, _))) = twice {
        return Err(Error::Usage {
            message: format!("two sources have the name {name}"),
            hint: "give each source a name of its own".to_owned(),
        });
    }
    sources.iter().map(|(name, path)| pack_one(name, path, tokenizer, folder, shown)).collect()
}

fn pack_one(
    name: &str,
    path: &Path,
    (tokenizer, of_tokenizer): (&Tokenizer, &Digest),
    folder: &Path,
    shown: &Shown,
) -> Result<Packed, Error> {
    let inside = path.join("documents");
    let documents = if inside.is_dir() { inside } else { path.to_owned() };
    let inputs = Digest::of_value(&(Digest::of_path(&documents)?, of_tokenizer))?;
    let (out, record) = (folder.join(name), folder.join(format!("{name}.json")));
    let made: Option<Made> =
        std::fs::read(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let open = |split: &str| Dataset::open(&out.join(split));
    let kept =
        made.is_some_and(|made| made.inputs == inputs) && open("train").is_ok() && open("heldout").is_ok();
    if !kept {
        // The record is of the shards that are about to go.
        match std::fs::remove_file(&record) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &record)(error));
            }
            _ => {}
        }
        let packed = corpus::pack(&documents, tokenizer, &out, shown)?;
        let bytes = serde_json::to_vec_pretty(&Made { inputs: inputs.clone(), packed })
            .map_err(|error| Error::io("write", &record)(error.into()))?;
        ledger::atomic::write(&record, &bytes)?;
    }
    let (train, held_out) = (open("train")?, open("heldout")?);
    if train.total_tokens() == 0 {
        return Err(Error::Usage {
            message: format!("the source {name} has no tokens to train on"),
            hint: format!("look into {}; leave the source out if it is empty", documents.display()),
        });
    }
    Ok(Packed { name: name.to_owned(), folder: out, train, held_out, inputs })
}

/// The share of each source in the tokens of all.
pub fn natural(sources: &[Packed]) -> Vec<f64> {
    let total: u64 = sources.iter().map(|source| source.train.total_tokens()).sum();
    sources.iter().map(|source| source.train.total_tokens() as f64 / total as f64).collect()
}

/// Weights by name in the order of the sources, with the sum 1; sources that are not named weigh nothing.
///
/// # Errors
/// A name that is no source's, or weights that sum to nothing.
pub fn shares(sources: &[Packed], weights: &[(String, f64)], option: &str) -> Result<Vec<f64>, Error> {
    let names = || sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    let known = |name: &str| sources.iter().any(|source| source.name == name);
    if let Some((name, _)) = weights.iter().find(|(name, _)| !known(name)) {
        return Err(Error::Usage {
            message: format!("{option} names {name:?}, which is not one of the sources"),
            hint: format!("the sources are {}", names()),
        });
    }
    let of =
        |name: &str| weights.iter().filter(|(one, _)| one == name).map(|(_, weight)| weight).sum::<f64>();
    let found: Vec<f64> = sources.iter().map(|source| of(&source.name)).collect();
    let sum: f64 = found.iter().sum();
    if !(sum > 0.0 && sum.is_finite()) {
        return Err(Error::Usage {
            message: format!("the weights of {option} sum to {sum}"),
            hint: format!("give a weight above 0 to one of {}", names()),
        });
    }
    Ok(found.into_iter().map(|weight| weight / sum).collect())
}
