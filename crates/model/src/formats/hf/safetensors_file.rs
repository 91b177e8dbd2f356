//! A safetensors file's header, read with the crate of the format's makers and written tensor by tensor.

use kernels::quant::Encoding;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde_json::{Map, json};

use crate::formats::{Fault, Stored};

/// Bytes before the header: its length.
const LENGTH: usize = 8;

/// The tensors of a file, all of whose bytes are given, in the order in which they lie; `file` is 0 for all.
///
/// # Errors
/// A header that is cut short, too long or no JSON, tensors that overlap, leave gaps, end beyond the file or have a
/// type that is no plain float.
pub fn parse(bytes: &[u8]) -> Result<Vec<Stored>, Fault> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| fault(bytes, &error))?;
    let data = LENGTH + header;
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let range = data + info.data_offsets.0..data + info.data_offsets.1;
        let encoding = match info.dtype {
            Dtype::F32 => Encoding::F32,
            Dtype::BF16 => Encoding::Bf16,
            Dtype::F16 => Encoding::F16,
            other => {
                let reason = format!("type {other:?}; F32, BF16 and F16 are read");
                return Err(Fault::new(range.start, format!("tensor {name}"), reason));
            }
        };
        tensors.push(Stored { name, shape: info.shape.clone(), encoding, file: 0, bytes: range });
    }
    Ok(tensors)
}

/// The crate's errors with the place in the file that they mean.
fn fault(bytes: &[u8], error: &SafeTensorError) -> Fault {
    let said = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    match error {
        SafeTensorError::HeaderTooSmall => {
            Fault::new(bytes.len(), "header", "the file ends before the header's length does")
        }
        SafeTensorError::HeaderTooLarge => {
            Fault::new(0, "header", format!("it would be {said} bytes long; 100,000,000 are the most"))
        }
        SafeTensorError::InvalidHeaderLength => {
            let reason = format!("it would be {said} bytes long, and the file has {} in all", bytes.len());
            Fault::new(0, "header", reason)
        }
        SafeTensorError::InvalidHeaderDeserialization(error) => {
            // A header is one line as a rule, so the column is the place.
            let place = if error.line() == 1 { error.column().saturating_sub(1) } else { 0 };
            Fault::new(LENGTH + place, "header", error.to_string())
        }
        SafeTensorError::InvalidOffset(name) => {
            let reason = "its bytes overlap another's, leave a gap or end before they begin";
            Fault::new(LENGTH, format!("tensor {name}"), reason)
        }
        SafeTensorError::MetadataIncompleteBuffer => {
            let end = end_of_data(bytes);
            let reason = format!("the tensors end at byte {end}, the file at {}", bytes.len());
            Fault::new(bytes.len(), "data", reason)
        }
        SafeTensorError::TensorInvalidInfo => {
            Fault::new(LENGTH, "header", "a tensor's shape and type do not make as many bytes as it has")
        }
        SafeTensorError::ValidationOverflow => {
            Fault::new(LENGTH, "header", "a tensor's shape is beyond all memory")
        }
        other => Fault::new(LENGTH, "header", other.to_string()),
    }
}

/// Where the tensors of a sound header would end.
fn end_of_data(bytes: &[u8]) -> usize {
    let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length) as usize);
    let header = bytes.get(LENGTH..LENGTH.saturating_add(length)).unwrap_or_default();
    let metadata = serde_json::from_slice::<Metadata>(header).ok();
    let ends = metadata.iter().flat_map(|all| all.tensors().into_values().map(|info| info.data_offsets.1));
    ends.max().unwrap_or(0).saturating_add(LENGTH + length)
}

/// The beginning of a file, up to the first value: tensors of one encoding by name, shape and number of bytes.
pub(super) fn header<'a>(
    encoding: Encoding,
    tensors: impl Iterator<Item = (&'a String, &'a Vec<usize>, usize)>,
) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for (name, shape, bytes) in tensors {
        let start = end;
        end += bytes;
        let entry = json!({"dtype": encoding.name(), "shape": shape, "data_offsets": [start, end]});
        entries.insert(name.clone(), entry);
    }
    let mut text = serde_json::Value::Object(entries).to_string();
    // Values begin at a multiple of eight bytes, as the format's makers write them.
    text.push_str(&" ".repeat(text.len().next_multiple_of(LENGTH) - text.len()));
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend_from_slice(text.as_bytes());
    header
}
