//! The safetensors format for f32 tensors, streamed straight between the file and the flat vectors.
//!
//! Not a general reader: only what checkpoints hold. The format: a little-endian u64 with the header's length, the
//! header in JSON, the values (<https://github.com/huggingface/safetensors>).

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use model::TensorSpec;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fault;
use crate::Error;

/// Longest header that is read; 405B's has about 200 kB.
const LONGEST_HEADER: u64 = 64 << 20;

/// Writes tensors in the order given: a name, a place and shape in the flat vector, and the vector.
pub(super) fn write<'a>(
    path: &Path,
    tensors: impl Iterator<Item = (String, &'a TensorSpec, &'a [f32])> + Clone,
) -> Result<(), Error> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for (name, tensor, _) in tensors.clone() {
        let begin = end;
        end += 4 * tensor.range.len();
        header.insert(name, json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Values begin at a multiple of eight, as the format asks for.
    header.resize(header.len().next_multiple_of(8), b' ');

    let fail = |error| fault(path, &error);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(fail)?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(fail)?;
    file.write_all(&header).map_err(fail)?;
    for (_, tensor, values) in tensors {
        file.write_all(bytemuck::cast_slice(&values[tensor.range.clone()])).map_err(fail)?;
    }
    file.flush().map_err(fail)
}

/// A file of f32 tensors, read tensor by tensor.
pub(super) struct Reader {
    path: PathBuf,
    file: File,
    header: Map<String, Value>,
    /// Place in the file at which the values begin.
    values: u64,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |error| fault(path, &error);
        let broken = |reason: String| Error::Checkpoint { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(fail)?;
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(fail)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER {
            return Err(broken(format!("its header claims {length} bytes")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(fail)?;
        let header =
            serde_json::from_slice(&header).map_err(|error| broken(format!("its header: {error}")))?;
        Ok(Self { path: path.to_owned(), file, header, values: 8 + length })
    }

    /// Reads a tensor, which must have this shape, into `values`.
    pub(super) fn read(&mut self, name: &str, shape: &[usize], values: &mut [f32]) -> Result<(), Error> {
        let broken = |reason: String| Error::Checkpoint {
            path: self.path.clone(),
            reason: format!("{name}: {reason}"),
        };
        let entry = self.header.get(name).ok_or_else(|| broken("it is absent".to_owned()))?;
        let entry = Entry::deserialize(entry).map_err(|error| broken(error.to_string()))?;
        let (begin, end) = entry.data_offsets;
        if entry.dtype != "F32"
            || entry.shape != shape
            || end.checked_sub(begin) != Some(4 * values.len() as u64)
        {
            return Err(broken(format!("it is {} {:?}, not F32 {shape:?}", entry.dtype, entry.shape)));
        }
        self.file
            .seek(SeekFrom::Start(self.values + begin))
            .and_then(|_| self.file.read_exact(bytemuck::cast_slice_mut(values)))
            .map_err(|error| broken(error.to_string()))
    }
}
