//! Meta's folders: `params.json` and `consolidated.NN.pth`, one file or a shard for each rank of a model-parallel group.
//!
//! A `.pth` is a zip archive of a pickle and raw values. The pickle is interpreted by a machine that knows what tensors
//! need and nothing else ([`pickle`]); the values are read where they lie.

mod archive;
pub mod params_json;
pub mod pickle;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoint, Found, Piece, RowOrder, Tensor, rows_and_cols};
use super::map::Mapped;
use super::{About, Format, Metadata, Stored, names};
use crate::hf::read_json;
use crate::{Config, Error, TensorSpec};
pub use write::write;

/// Opens a folder: its tables are read and checked, its values are not touched.
///
/// # Errors
/// Files that are missing, cut short or of another kind, pickles that ask for more than tensors, tensors that are missing
/// or whose shards do not make up their shape. The error names the file, the tensor or the global, and the byte.
pub fn open(dir: &Path) -> Result<Checkpoint, Error> {
    let path = dir.join("params.json");
    let json = read_json(&path)?;
    let (mut files, mut stored) = (Vec::new(), Vec::new());
    for path in shards(dir)? {
        let file = Mapped::open(&path)?;
        let tensors = archive::read(&path, &file.bytes)?;
        let number = files.len();
        stored.extend(tensors.into_iter().map(|tensor| Stored { file: number, ..tensor }));
        files.push(file);
    }
    // The output layer is cut by rows in every release, and Llama 2's params.json leaves the vocabulary open.
    let outputs = || stored.iter().filter(|tensor| tensor.name == "output.weight");
    let vocabulary: usize = outputs().map(|tensor| tensor.shape.first().copied().unwrap_or(0)).sum();
    let config = params_json::read(&path, &json, (vocabulary > 0).then_some(vocabulary))?;
    let about = About::default();
    let (path, format) = (dir.to_owned(), Format::Meta);
    let mut found = Found { path, format, config, about, files, stored, metadata: Metadata::default() };
    found.config.tied_embeddings = is_tied(&found);
    found.config.validate()?;
    let tensors = assemble(&found)?;
    let Found { path, format, config, about, files, stored, metadata } = found;
    Ok(Checkpoint { path, format, config, about, files, stored, metadata, tensors })
}

/// The shards in order of their ranks.
fn shards(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| Error::file(dir, error))? {
        let path = entry.map_err(|error| Error::file(dir, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let rank = name.strip_prefix("consolidated.").and_then(|rest| rest.strip_suffix(".pth"));
        if let Some(rank) = rank.and_then(|rank| rank.parse::<usize>().ok()) {
            found.push((rank, path));
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(Error::file(dir, "holds no consolidated.NN.pth"));
    }
    for (index, (rank, path)) in found.iter().enumerate() {
        if index != *rank {
            return Err(Error::file(dir, format!("the shard before {} is missing", path.display())));
        }
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The stored tensors of one name, one for each shard.
fn of_name<'a>(found: &'a Found, name: &'a str) -> impl Iterator<Item = (usize, &'a Stored)> {
    found.stored.iter().enumerate().filter(move |(_, stored)| stored.name == name)
}

/// Whether the output layer is the embedding: absent, or the same values once more, as Meta's 1B and 3B have it.
fn is_tied(found: &Found) -> bool {
    let bytes = |stored: &Stored| &found.files[stored.file].bytes[stored.bytes.clone()];
    let pairs: Vec<_> =
        of_name(found, "output.weight").zip(of_name(found, "tok_embeddings.weight")).collect();
    pairs.iter().all(|((_, output), (_, embedding))| {
        output.encoding == embedding.encoding
            && output.shape == embedding.shape
            && ((output.file, &output.bytes) == (embedding.file, &embedding.bytes)
                || bytes(output) == bytes(embedding))
    })
}

/// How a tensor is cut over the ranks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Every rank has all of it: norms.
    Not,
    /// Each rank has some of the rows: what makes heads and the feed-forward's inner values, and the output layer.
    Rows,
    /// Each rank has some of the columns: what reads heads and inner values.
    Cols,
}

fn assemble(found: &Found) -> Result<Vec<Tensor>, Error> {
    let ranks = found.files.len();
    let mut all = Vec::new();
    let mut known = BTreeSet::new();
    let mut missing = Vec::new();
    let mut by_name: BTreeMap<&str, Vec<(usize, &Stored)>> = BTreeMap::new();
    for (index, stored) in found.stored.iter().enumerate() {
        by_name.entry(&stored.name).or_default().push((index, stored));
    }
    for spec in found.specs()? {
        let name = names::name(&spec.name, Format::Meta);
        let shards = by_name.get(name.as_str()).map_or(&[][..], Vec::as_slice);
        known.insert(name.clone());
        if shards.len() != ranks {
            missing.push((name, ranks - shards.len().min(ranks)));
            continue;
        }
        let pieces = pieces(found, &spec, shards)?;
        let rotated = names::is_rotated(&spec.name);
        let order = if rotated { RowOrder::Pairs(found.config.head_dim) } else { RowOrder::Halves };
        all.push(Tensor { spec, order, pieces });
    }
    if let Some((name, shards)) = missing.first() {
        let more = missing.len() - 1;
        let reason = format!("tensor {name} is missing in {shards} of {ranks} shards (and {more} more)");
        return Err(Error::file(&found.path, reason));
    }
    // Llama 2's files hold the rotary frequencies as well.
    let is_spare = |name: &str| name.ends_with("rope.freqs") || name == "output.weight";
    match found.stored.iter().find(|stored| !known.contains(&stored.name) && !is_spare(&stored.name)) {
        None => Ok(all),
        Some(stored) => Err(found.fault(
            stored,
            "belongs to no Llama of these parameters; leaving it out would change what the model computes",
        )),
    }
}

/// Where the shards of a tensor lie in it.
fn pieces(found: &Found, spec: &TensorSpec, shards: &[(usize, &Stored)]) -> Result<Vec<Piece>, Error> {
    let config = &found.config;
    let (rows, cols) = rows_and_cols(&spec.shape);
    let cut = cut(spec, shards, cols);
    // More ranks than key and value heads: neighbours hold the same head, and the first of each speaks for them.
    let is_shared = ["self_attn.k_proj", "self_attn.v_proj"].contains(&names::parts(&spec.name).1);
    let every = if is_shared && shards.len() > config.kv_heads { shards.len() / config.kv_heads } else { 1 };
    let (mut row, mut col) = (0, 0);
    let mut pieces = Vec::new();
    for &(index, stored) in shards.iter().step_by(every) {
        let dimensions_agree = stored.shape.len() == spec.shape.len();
        let (its_rows, its_cols) = rows_and_cols(&stored.shape);
        let place = match cut {
            Cut::Not => (0..its_rows, 0..its_cols),
            Cut::Rows => (row..row + its_rows, 0..its_cols),
            Cut::Cols => (0..its_rows, col..col + its_cols),
        };
        if !dimensions_agree || place.0.end > rows || place.1.end > cols {
            let (found_shape, meant) = (&stored.shape, &spec.shape);
            let reason = format!("shape {found_shape:?} does not fit the {meant:?} that the parameters mean");
            return Err(found.fault(stored, reason));
        }
        (row, col) = (place.0.end, place.1.end);
        if cut != Cut::Not || pieces.is_empty() {
            pieces.push(Piece { stored: index, rows: place.0, cols: place.1 });
        }
    }
    if (row, col) == (rows, cols) {
        return Ok(pieces);
    }
    let meant = &spec.shape;
    let reason = format!("all shards together make {row} rows of {col}, where the parameters mean {meant:?}");
    Err(found.fault(shards[0].1, reason))
}

fn cut(spec: &TensorSpec, shards: &[(usize, &Stored)], cols: usize) -> Cut {
    match names::parts(&spec.name).1 {
        _ if spec.shape.len() == 1 => Cut::Not,
        "self_attn.o_proj" | "mlp.down_proj" => Cut::Cols,
        // Llama 3 cuts the embedding by rows, Llama 2 by columns.
        "model.embed_tokens" if shards[0].1.shape.last() != Some(&cols) => Cut::Cols,
        _ => Cut::Rows,
    }
}

/// What `params.json` cannot say about a model.
///
/// # Errors
/// Heads of a width of their own, and a rope scaling that is not Meta's.
fn check_expressible(path: &Path, config: &Config) -> Result<(), Error> {
    let refuse = |what: String| {
        let hint = "write a Hugging Face folder or GGUF (--to hf, --to gguf), which can say it".into();
        Err(Error::Unsupported { path: path.to_owned(), what, hint })
    };
    if config.head_dim * config.heads != config.dim {
        return refuse(format!(
            "params.json has no key for a head's width: {} heads of {} are not {} wide",
            config.heads, config.head_dim, config.dim
        ));
    }
    match &config.rope_scaling {
        Some(scaling) if *scaling != params_json::scaling_of(config) => refuse(format!(
            "params.json says only whether rope is scaled, and {scaling:?} is not how Meta scales it"
        )),
        _ => Ok(()),
    }
}
