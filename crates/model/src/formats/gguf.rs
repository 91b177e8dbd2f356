//! GGUF files, versions 2 and 3, of the architecture `llama`: the format of llama.cpp and all that is built on it.
//!
//! The header is read into plain tables ([`header`]); what a Llama's keys mean is in [`llama`], how a model in several files
//! is put together in [`parts`]. The vocabulary travels as
//! metadata, which this crate passes on and does not read.

pub mod header;
pub mod llama;
pub mod parts;
mod value;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use kernels::quant::Encoding;
use ledger::atomic::AtomicFile;
use ledger::progress::{Progress, Unit};

use super::checkpoint::{Found, RowOrder};
use super::map::Mapped;
use super::storage::Storage;
use super::stream::{Memory, Outgoing, Tensors};
use super::{Checkpoint, Format, Stored, names};
use crate::Error;
use crate::weights::tensors;

pub use header::{Header, TensorInfo, parse};
pub use value::{Array, Value};

/// How a file begins.
pub const MAGIC: &[u8; 4] = b"GGUF";

/// Tensors and data begin at multiples of this, which is also what a file means that does not say.
const ALIGNMENT: usize = 32;

/// Opens a file, or all parts of the one that `path` is a part of: headers are read and checked, values are not touched.
///
/// # Errors
/// A header that is cut short or contradicts itself, another architecture, a part that is missing or belongs to another
/// file, and tensors that are missing, of another shape or of a type that is not read. The error names the key or the
/// tensor, and the byte.
pub fn open(path: &Path) -> Result<Checkpoint, Error> {
    let (files, mut headers): (Vec<Mapped>, Vec<Header>) =
        parts::all(path)?.into_iter().map(|part| (part.file, part.header)).unzip();
    parts::check(&headers).map_err(|(part, fault)| fault.of(&files[part].path, 0))?;
    let stored: Vec<Stored> = headers
        .iter_mut()
        .enumerate()
        .flat_map(|(file, header)| {
            let tensors = std::mem::take(&mut header.tensors);
            tensors.into_iter().map(move |tensor| Stored { file, ..tensor.stored })
        })
        .collect();
    // The first part has the model's keys.
    let path = files[0].path.clone();
    let (config, about) = llama::read(&path, &headers[0], &stored, &files)?;
    let metadata = Arc::new(headers.swap_remove(0).metadata);
    let order = RowOrder::Pairs(config.head_dim);
    let found = Found { path, format: Format::Gguf, config, about, files, stored, metadata };
    found.whole_tensors(order, |name| name == llama::ROPE_FACTORS)
}

/// Writes a whole file, tensor by tensor, or none. `metadata` follows the model's own keys: a name, the vocabulary.
/// Without a `storage`, every tensor keeps the encoding that it has.
///
/// # Errors
/// Values that cannot be read or that the encoding cannot hold, and a failure of the disk.
pub fn write(
    path: &Path,
    model: &dyn Tensors,
    storage: Option<Storage>,
    metadata: &[(String, Value)],
    progress: &dyn Progress,
) -> Result<(), Error> {
    let config = model.config();
    let specs = tensors(config);
    let outgoing: Vec<Outgoing> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            let encoding = match storage {
                Some(storage) => storage.encoding(spec, config),
                // llama.cpp multiplies by norms in F32 alone.
                None if spec.shape.len() == 1 => Encoding::F32,
                None => model.encoding(index),
            };
            let rotated = names::is_rotated(&spec.name);
            let order = if rotated { RowOrder::Pairs(config.head_dim) } else { RowOrder::Halves };
            Outgoing { spec, index, encoding, order }
        })
        .collect();
    let factors = llama::rope_factors(config);
    let mut listed: Vec<(String, Vec<usize>, Encoding, usize)> = Vec::new();
    if let Some(factors) = &factors {
        listed.push((llama::ROPE_FACTORS.into(), vec![factors.len()], Encoding::F32, 4 * factors.len()));
    }
    listed.extend(outgoing.iter().map(|tensor| {
        let name = names::name(&tensor.spec.name, Format::Gguf);
        (name, tensor.spec.shape.clone(), tensor.encoding, tensor.bytes())
    }));
    let own = llama::metadata(config, mostly(&outgoing));
    let start = header::write(own.iter().chain(metadata), &listed);

    let total: usize = listed.iter().map(|tensor| tensor.3).sum();
    let task = progress.begin("write", Some(total as u64), Unit::Bytes);
    let failed = |source| ledger::Error::Io { operation: "write", path: path.to_owned(), source };
    let mut file = BufWriter::new(AtomicFile::create(path)?);
    file.write_all(&start).map_err(failed)?;
    if let Some(factors) = &factors {
        file.write_all(bytemuck::cast_slice(factors)).map_err(failed)?;
        file.write_all(header::padding(4 * factors.len())).map_err(failed)?;
    }
    let mut memory = Memory::default();
    for tensor in &outgoing {
        tensor.write(model, &mut memory, &mut file, path, &*task)?;
        file.write_all(header::padding(tensor.bytes())).map_err(failed)?;
    }
    file.into_inner().map_err(|error| failed(error.into_error()))?.commit()?;
    Ok(())
}

/// The encoding of most values.
fn mostly(outgoing: &[Outgoing]) -> Encoding {
    let values = |encoding: Encoding| -> usize {
        let those = outgoing.iter().filter(|tensor| tensor.encoding == encoding);
        those.map(|tensor| tensor.spec.range.len()).sum()
    };
    Encoding::ALL.into_iter().max_by_key(|encoding| values(*encoding)).unwrap_or(Encoding::F32)
}
