//! The header of a GGUF file: metadata, and the table of tensors with their places.
//!
//! Follows the specification in ggml's `docs/gguf.md`. Nothing is allocated for a number that the file only claims: a list
//! grows as its values are found.

use std::collections::BTreeSet;

use kernels::quant::Encoding;

use super::value::{Array, Value, write_text};
use super::{ALIGNMENT, MAGIC};
use crate::formats::{Fault, Stored};

/// Lists of lists of lists are as deep as any writer goes, and deeper than any reader has to.
const DEEPEST: usize = 4;
/// Dimensions of a tensor; ggml has no more.
const DIMENSIONS: u32 = 4;

/// What helps against a type that is not read.
const OTHER_TYPE: &str = "fetch or make the model in another quantisation: Q4_K_M, Q5_K_M, Q6_K or Q8_0 come nearest to all others";

/// A file's header, checked against the file's length.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Keys and values in the file's order.
    pub metadata: Vec<(String, Value)>,
    /// Tensors in the file's order.
    pub tensors: Vec<TensorInfo>,
}

/// A tensor and where the table speaks of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name, shape (rows first), encoding and place.
    pub stored: Stored,
    /// Where its entry begins.
    pub entry: usize,
}

impl Header {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

/// Reads the header of a file, all of whose bytes are given.
///
/// # Errors
/// A file of another kind or version, one that is cut short, numbers that contradict each other or the file's length,
/// types that are not read, and names that are there twice.
pub fn parse(bytes: &[u8]) -> Result<Header, Fault> {
    let mut cursor = Cursor { bytes, at: 0 };
    let magic: [u8; 4] = cursor.array("magic")?;
    if &magic != MAGIC {
        return Err(Fault::new(
            0,
            "magic",
            format!("{:?} is not \"GGUF\"", magic.escape_ascii().to_string()),
        ));
    }
    let version = cursor.u32("version")?;
    match version {
        2 | 3 => {}
        0x0200_0000 | 0x0300_0000 => {
            return Err(Fault::new(4, "version", "the file is big-endian; little-endian files are read"));
        }
        other => return Err(Fault::new(4, "version", format!("{other}; versions 2 and 3 are read"))),
    }
    let tensors = cursor.u64("number of tensors")?;
    let keys = cursor.u64("number of keys")?;

    let mut metadata: Vec<(String, Value)> = Vec::new();
    let mut seen = BTreeSet::new();
    for index in 0..keys {
        let start = cursor.at;
        let key = cursor.text(&format!("key {index} of {keys}"))?;
        if !seen.insert(key.clone()) {
            return Err(Fault::new(start, key, "the key is there twice"));
        }
        let value = cursor.value(&key)?;
        metadata.push((key, value));
    }
    let alignment = match metadata.iter().find(|(key, _)| key == "general.alignment") {
        None => ALIGNMENT,
        Some((key, value)) => match value.as_u64().and_then(|value| usize::try_from(value).ok()) {
            Some(value) if value.is_power_of_two() && value <= 1 << 24 => value,
            _ => return Err(Fault::new(0, key, format!("{value:?} is no power of two"))),
        },
    };

    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    for index in 0..tensors {
        let entry = cursor.tensor(&format!("tensor {index} of {tensors}"))?;
        if !seen.insert(entry.name.clone()) {
            return Err(Fault::new(entry.start, format!("tensor {}", entry.name), "is there twice"));
        }
        entries.push(entry);
    }
    let data = cursor.at.next_multiple_of(alignment);
    let tensors: Vec<TensorInfo> = entries
        .into_iter()
        .map(|entry| entry.place(data, alignment, bytes.len()))
        .collect::<Result<_, _>>()?;
    let mut by_place: Vec<&TensorInfo> = tensors.iter().collect();
    by_place.sort_by_key(|tensor| tensor.stored.bytes.start);
    for pair in by_place.windows(2) {
        if pair[1].stored.bytes.start < pair[0].stored.bytes.end {
            let reason = format!("its bytes overlap those of {}", pair[0].stored.name);
            return Err(Fault::new(pair[1].entry, format!("tensor {}", pair[1].stored.name), reason));
        }
    }
    Ok(Header { version, metadata, tensors })
}

/// A tensor's entry before its place is known to be in the file.
struct Entry {
    start: usize,
    name: String,
    shape: Vec<usize>,
    encoding: Encoding,
    size: usize,
    offset: u64,
}

impl Entry {
    fn place(self, data: usize, alignment: usize, length: usize) -> Result<TensorInfo, Fault> {
        let Self { start: entry, name, shape, encoding, size, offset } = self;
        let fault = |reason| Err(Fault::new(entry, format!("tensor {name}"), reason));
        if !offset.is_multiple_of(alignment as u64) {
            return fault(format!("begins at {offset} of the data, which is no multiple of {alignment}"));
        }
        let start = usize::try_from(offset).ok().and_then(|offset| data.checked_add(offset));
        let end = start.and_then(|start| start.checked_add(size));
        match (start, end) {
            (Some(start), Some(end)) if end <= length => {
                let stored = Stored { name, shape, encoding, file: 0, bytes: start..end };
                Ok(TensorInfo { stored, entry })
            }
            _ => fault(format!(
                "has {size} bytes from byte {offset} of the data on, which begins at {data}, and the file ends at {length}"
            )),
        }
    }
}

/// A place in the file, and what is read from there on.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u64, what: &str) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
            Some(taken) => {
                self.at += taken.len();
                Ok(taken)
            }
            None => {
                let reason = format!("{length} bytes are meant, and the file ends after {}", rest.len());
                Err(Fault::new(self.at, what, reason))
            }
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let taken = self.take(N as u64, what)?;
        Ok(std::array::from_fn(|at| taken[at]))
    }

    fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn bool(&mut self, what: &str) -> Result<bool, Fault> {
        match self.array(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Fault::new(self.at - 1, what, format!("{other} is neither true nor false"))),
        }
    }

    fn text(&mut self, what: &str) -> Result<String, Fault> {
        let length = self.u64(what)?;
        let start = self.at;
        let bytes = self.take(length, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(Fault::new(start + error.valid_up_to(), what, "is no UTF-8")),
        }
    }

    fn value(&mut self, key: &str) -> Result<Value, Fault> {
        let start = self.at;
        Ok(match self.u32(key)? {
            0 => Value::U8(u8::from_le_bytes(self.array(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(key)?)),
            4 => Value::U32(self.u32(key)?),
            5 => Value::I32(i32::from_le_bytes(self.array(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            7 => Value::Bool(self.bool(key)?),
            8 => Value::String(self.text(key)?),
            9 => Value::Array(self.list(key, 1)?),
            10 => Value::U64(self.u64(key)?),
            11 => Value::I64(i64::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            other => return Err(Fault::new(start, key, format!("its type is {other}; 0 to 12 are known"))),
        })
    }

    fn list(&mut self, key: &str, depth: usize) -> Result<Array, Fault> {
        let start = self.at;
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        Ok(match kind {
            0 => Array::U8(self.take(count, key)?.to_vec()),
            1 => Array::I8(self.take(count, key)?.iter().map(|byte| byte.cast_signed()).collect()),
            2 => Array::U16(self.numbers(count, key, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(count, key, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(count, key, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(count, key, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(count, key, f32::from_le_bytes)?),
            7 => Array::Bool((0..count).map(|_| self.bool(key)).collect::<Result<_, _>>()?),
            8 => Array::String((0..count).map(|_| self.text(key)).collect::<Result<_, _>>()?),
            9 if depth < DEEPEST => {
                Array::Array((0..count).map(|_| self.list(key, depth + 1)).collect::<Result<_, _>>()?)
            }
            9 => return Err(Fault::new(start, key, format!("lists lie in lists more than {DEEPEST} deep"))),
            10 => Array::U64(self.numbers(count, key, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(count, key, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(count, key, f64::from_le_bytes)?),
            other => {
                return Err(Fault::new(
                    start,
                    key,
                    format!("its values' type is {other}; 0 to 12 are known"),
                ));
            }
        })
    }

    fn numbers<T, const N: usize>(
        &mut self,
        count: u64,
        key: &str,
        number: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Fault> {
        let bytes = self.take(count.saturating_mul(N as u64), key)?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect())
    }

    fn tensor(&mut self, which: &str) -> Result<Entry, Fault> {
        let start = self.at;
        let name = self.text(which)?;
        let what = format!("tensor {name}");
        let dimensions = self.u32(&what)?;
        if dimensions == 0 || dimensions > DIMENSIONS {
            let reason = format!("has {dimensions} dimensions; 1 to {DIMENSIONS} are possible");
            return Err(Fault::new(self.at - 4, what, reason));
        }
        let place = self.at;
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let length = self.u64(&what)?;
            shape.push(usize::try_from(length).unwrap_or(usize::MAX));
        }
        // The innermost dimension comes first in the file, and last in ours.
        shape.reverse();
        let values = shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length));
        let kind = self.u32(&what)?;
        let Some(encoding) = encoding(kind) else {
            let known = Encoding::ALL.map(Encoding::name).join(", ");
            let reason = format!("its type is {}; {known} are read", type_name(kind));
            return Err(Fault::new(self.at - 4, what, reason).with_remedy(OTHER_TYPE));
        };
        let row = shape.last().copied().unwrap_or(1);
        let size = values.and_then(|values| encoding.bytes(values));
        let size = size.filter(|_| row.is_multiple_of(encoding.block_values()));
        let Some(size) = size else {
            let reason =
                format!("shape {shape:?} is no number of {} that a file could hold", encoding.name());
            return Err(Fault::new(place, what, reason));
        };
        let offset = self.u64(&what)?;
        Ok(Entry { start, name, shape, encoding, size, offset })
    }
}

/// The encoding of ggml's type number.
fn encoding(kind: u32) -> Option<Encoding> {
    Encoding::ALL.into_iter().find(|encoding| number(*encoding) == kind)
}

/// ggml's number for an encoding.
fn number(encoding: Encoding) -> u32 {
    match encoding {
        Encoding::F32 => 0,
        Encoding::F16 => 1,
        Encoding::Q4_0 => 2,
        Encoding::Q4_1 => 3,
        Encoding::Q5_0 => 6,
        Encoding::Q5_1 => 7,
        Encoding::Q8_0 => 8,
        Encoding::Q2K => 10,
        Encoding::Q3K => 11,
        Encoding::Q4K => 12,
        Encoding::Q5K => 13,
        Encoding::Q6K => 14,
        Encoding::Bf16 => 30,
    }
}

/// What ggml calls a type, so that a person can look for another file.
fn type_name(kind: u32) -> String {
    let known = match kind {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("number {kind}"),
    };
    known.into()
}

/// Everything before the first tensor's bytes, in version 3: names, shapes (rows first), encodings and sizes in bytes of
/// the tensors, which follow in this order, each with its [`padding`].
pub(super) fn write<'a>(
    metadata: impl Iterator<Item = &'a (String, Value)> + Clone,
    tensors: &[(String, Vec<usize>, Encoding, usize)],
) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&3u32.to_le_bytes());
    out.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    out.extend_from_slice(&(metadata.clone().count() as u64).to_le_bytes());
    for (key, value) in metadata {
        write_text(key, &mut out);
        value.write(&mut out);
    }
    let mut offset = 0usize;
    for (name, shape, encoding, bytes) in tensors {
        write_text(name, &mut out);
        out.extend_from_slice(&(shape.len() as u32).to_le_bytes());
        for length in shape.iter().rev() {
            out.extend_from_slice(&(*length as u64).to_le_bytes());
        }
        out.extend_from_slice(&number(*encoding).to_le_bytes());
        out.extend_from_slice(&(offset as u64).to_le_bytes());
        offset += bytes.next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

/// What follows so many bytes of a tensor.
pub(super) fn padding(bytes: usize) -> &'static [u8] {
    &[0; ALIGNMENT][..bytes.next_multiple_of(ALIGNMENT) - bytes]
}
