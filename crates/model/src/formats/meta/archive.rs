//! A `.pth` file: a zip archive of `data.pkl` and one entry for each storage of values, none of them compressed.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::pickle;
use crate::Error;
use crate::formats::{Fault, Stored};

/// The pickle of the largest released model has a hundred kilobytes.
const LARGEST_PICKLE: u64 = 16 << 20;

/// The tensors of a file, all of whose bytes are given; `file` is 0 for all.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Stored>, Error> {
    if !bytes.starts_with(b"PK") {
        return Err(not_an_archive(path, bytes));
    }
    let damaged = |what: &str, error: &dyn std::fmt::Display| {
        Fault::new(bytes.len(), what, error.to_string()).of(path, 0)
    };
    let mut archive =
        ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged("the archive's directory", &error))?;
    let mut entries: BTreeMap<String, Range<usize>> = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive
            .by_index_raw(index)
            .map_err(|error| damaged(&format!("archive entry {index}"), &error))?;
        let name =
            entry.name().map_err(|error| damaged(&format!("archive entry {index}"), &error))?.into_owned();
        let start = entry.data_start().and_then(|start| usize::try_from(start).ok());
        let end = start.zip(usize::try_from(entry.compressed_size()).ok());
        let end = end.and_then(|(start, size)| start.checked_add(size)).filter(|end| *end <= bytes.len());
        let (Some(start), Some(end)) = (start, end) else {
            let reason =
                format!("{} bytes from byte {start:?} on are beyond the file", entry.compressed_size());
            return Err(Fault::new(start.unwrap_or(0), name, reason).of(path, 0));
        };
        if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
            let reason = "is compressed or encrypted, and torch.save does neither";
            return Err(Fault::new(start, name, reason).of(path, 0));
        }
        if entries.insert(name.clone(), start..end).is_some() {
            return Err(Fault::new(start, name, "is there twice").of(path, 0));
        }
    }
    let (name, place) = entries
        .iter()
        .find(|(name, _)| *name == "data.pkl" || name.ends_with("/data.pkl"))
        .ok_or_else(|| damaged("the archive", &"holds no data.pkl"))?;
    let folder = name.strip_suffix("data.pkl").unwrap_or_default();
    if place.len() as u64 > LARGEST_PICKLE {
        let reason = format!("has {} bytes; {LARGEST_PICKLE} are more than any model needs", place.len());
        return Err(Fault::new(place.start, name, reason).of(path, 0));
    }
    if let Some(order) = entries.get(&format!("{folder}byteorder"))
        && &bytes[order.clone()] != b"little"
    {
        let reason = "is not \"little\": values of other machines are not read";
        return Err(Fault::new(order.start, format!("{folder}byteorder"), reason).of(path, 0));
    }
    let tensors = pickle::parse(&bytes[place.clone()]).map_err(|fault| fault.of(path, place.start))?;
    tensors.iter().map(|tensor| store(tensor, folder, &entries).map_err(|fault| fault.of(path, 0))).collect()
}

/// Finds a tensor's values among the entries.
fn store(
    tensor: &pickle::Tensor,
    folder: &str,
    entries: &BTreeMap<String, Range<usize>>,
) -> Result<Stored, Fault> {
    let entry = format!("{folder}data/{}", tensor.storage);
    let what = format!("tensor {}", tensor.name);
    let Some(place) = entries.get(&entry) else {
        return Err(Fault::new(0, what, format!("its values should be in {entry}, which is not there")));
    };
    let width = tensor.encoding.block_bytes();
    let values = tensor.shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length));
    let end = values.and_then(|values| values.checked_add(tensor.offset)?.checked_mul(width));
    match end {
        Some(end) if end <= place.len() => {
            let bytes = place.start + tensor.offset * width..place.start + end;
            let (name, shape, encoding) = (tensor.name.clone(), tensor.shape.clone(), tensor.encoding);
            Ok(Stored { name, shape, encoding, file: 0, bytes })
        }
        _ => {
            let Range { start, end } = place.clone();
            let reason = format!(
                "shape {:?} from value {} on is more than the {} bytes of {entry}",
                tensor.shape,
                tensor.offset,
                end - start
            );
            Err(Fault::new(start, what, reason))
        }
    }
}

/// torch's format before 1.6 begins with a pickled number of its own; other pickles begin with their protocol.
fn not_an_archive(path: &Path, bytes: &[u8]) -> Error {
    const LEGACY: &[u8] =
        &[0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let mut start = Vec::new();
    // Reading from memory does not fail.
    let _ = bytes.take(14).read_to_end(&mut start);
    let (what, hint) = if start == LEGACY || start.first() == Some(&0x80) {
        (
            "is a pickle without an archive, torch's format before version 1.6",
            "save it again: torch.save(torch.load(path, map_location=\"cpu\", weights_only=True), path)",
        )
    } else {
        (
            "is no zip archive, as torch.save writes them",
            "download it again; a page of HTML is a common mistake",
        )
    };
    Error::Unsupported { path: path.to_owned(), what: what.into(), hint: hint.into() }
}
