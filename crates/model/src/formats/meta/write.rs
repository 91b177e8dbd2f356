//! Writing `params.json` and one `consolidated.00.pth`, which `torch.load(..., weights_only=True)` reads.

use std::io::{BufWriter, Write};
use std::path::Path;

use kernels::quant::Encoding;
use ledger::atomic::AtomicFile;
use ledger::progress::{Progress, Unit};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::{check_expressible, params_json};
use crate::Error;
use crate::formats::checkpoint::RowOrder;
use crate::formats::hf::{not_plain, write_json};
use crate::formats::stream::{Memory, Outgoing, Tensors};
use crate::formats::{Format, Storage, names};
use crate::weights::tensors;

/// torch maps values where they begin at such a multiple.
const ALIGNMENT: u16 = 64;

/// Writes both files into `dir`, which exists, `params.json` last. A tied output layer is the embedding's storage once
/// more, as Meta's own code expects its key.
///
/// # Errors
/// A storage in blocks, a model that `params.json` cannot describe, values that cannot be read, a failure of the disk.
pub fn write(
    dir: &Path,
    model: &dyn Tensors,
    storage: Storage,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let encoding = storage.plain().ok_or_else(|| not_plain(dir, storage))?;
    let config = model.config();
    check_expressible(dir, config)?;
    let specs = tensors(config);
    let outgoing: Vec<Outgoing> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            let rotated = names::is_rotated(&spec.name);
            let order = if rotated { RowOrder::Pairs(config.head_dim) } else { RowOrder::Halves };
            Outgoing { spec, index, encoding, order }
        })
        .collect();
    let mut entries: Vec<(String, usize, &[usize])> = outgoing
        .iter()
        .map(|tensor| {
            (names::name(&tensor.spec.name, Format::Meta), tensor.index, tensor.spec.shape.as_slice())
        })
        .collect();
    if config.tied_embeddings {
        entries.push((names::name("lm_head.weight", Format::Meta), 0, specs[0].shape.as_slice()));
    }

    let path = dir.join("consolidated.00.pth");
    let failed = |source| ledger::Error::Io { operation: "write", path: path.clone(), source };
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
    let mut archive = ZipWriter::new(BufWriter::new(AtomicFile::create(&path)?));
    let begin = |archive: &mut ZipWriter<_>, name: &str, bytes: usize| {
        let options = options.large_file(bytes as u64 > u64::from(u32::MAX) / 2);
        archive.start_file(format!("consolidated.00/{name}"), options).map_err(|error| failed(error.into()))
    };
    let pickle = pickle(encoding, &entries);
    begin(&mut archive, "data.pkl", pickle.len())?;
    archive.write_all(&pickle).map_err(failed)?;
    begin(&mut archive, "byteorder", 6)?;
    archive.write_all(b"little").map_err(failed)?;
    let total: usize = outgoing.iter().map(Outgoing::bytes).sum();
    let task = progress.begin("write", Some(total as u64), Unit::Bytes);
    let mut memory = Memory::default();
    for tensor in &outgoing {
        begin(&mut archive, &format!("data/{}", tensor.index), tensor.bytes())?;
        tensor.write(model, &mut memory, &mut archive, &path, &*task)?;
    }
    begin(&mut archive, "version", 2)?;
    archive.write_all(b"3\n").map_err(failed)?;
    let file = archive.finish().map_err(|error| failed(error.into()))?;
    file.into_inner().map_err(|error| failed(error.into_error()))?.commit()?;
    write_json(&dir.join("params.json"), &params_json::write(config))
}

/// The pickle of an ordered dictionary of tensors: names, storages and shapes. Protocol 2, as `torch.save` has it.
pub(super) fn pickle(encoding: Encoding, entries: &[(String, usize, &[usize])]) -> Vec<u8> {
    let storage = match encoding {
        Encoding::F16 => "HalfStorage",
        Encoding::Bf16 => "BFloat16Storage",
        _ => "FloatStorage",
    };
    let mut out = vec![0x80, 2];
    // Slots of the memo: what every entry repeats.
    let ordered_dict = |out: &mut Vec<u8>| out.extend_from_slice(b"ccollections\nOrderedDict\n");
    ordered_dict(&mut out);
    out.extend_from_slice(b")Rq\x00(");
    for (name, index, shape) in entries {
        text(&mut out, name);
        out.extend_from_slice(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend_from_slice(format!("ctorch\n{storage}\n").as_bytes());
        text(&mut out, &index.to_string());
        text(&mut out, "cpu");
        whole(&mut out, shape.iter().product());
        out.extend_from_slice(b"tQ");
        whole(&mut out, 0);
        out.push(b'(');
        shape.iter().for_each(|length| whole(&mut out, *length));
        out.extend_from_slice(b"t(");
        (0..shape.len()).for_each(|at| whole(&mut out, shape[at + 1..].iter().product()));
        // Not trained, and without hooks.
        out.extend_from_slice(b"t\x89");
        ordered_dict(&mut out);
        out.extend_from_slice(b")RtR");
    }
    out.extend_from_slice(b"u.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn whole(out: &mut Vec<u8>, value: usize) {
    match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend_from_slice(&value.to_le_bytes());
        }
        Err(_) => {
            // No size reaches the highest bit, which is the sign.
            out.extend_from_slice(&[0x8a, 8]);
            out.extend_from_slice(&(value as u64).to_le_bytes());
        }
    }
}
