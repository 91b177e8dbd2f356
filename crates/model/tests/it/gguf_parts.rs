//! A model of every encoding, whole and in parts, as llama.cpp's Python package writes it (`tests/golden/gguf_parts.py`),
//! and what happens where parts are missing, mixed up, cut or changed.

use std::path::{Path, PathBuf};

use kernels::gemm::Precision;
use kernels::quant::Encoding;
use ledger::progress::Silent;
use model::formats::{self, Checkpoint, gguf};
use model::infer::Llama;
use model::weights::tensors;
use proptest::prelude::*;

use crate::formats::made;

const PARTS: [&str; 3] = ["part-00001-of-00003.gguf", "part-00002-of-00003.gguf", "part-00003-of-00003.gguf"];

fn source(name: &str) -> PathBuf {
    made("gguf_parts").join(name)
}

/// A folder with copies of the parts.
fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in PARTS {
        std::fs::copy(source(part), dir.path().join(part)).unwrap();
    }
    dir
}

fn weights(checkpoint: &Checkpoint) -> Vec<f32> {
    checkpoint.weights().unwrap().data.to_vec()
}

#[test]
fn every_encoding_means_what_llama_cpp_reads_in_it() {
    let found = formats::open(&source("whole.gguf")).unwrap();
    let bytes = std::fs::read(source("values.f32")).unwrap();
    let mut values = bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four));
    let (config, weights) = (found.config().clone(), found.weights().unwrap());
    for stored in found.stored() {
        let expected: Vec<f32> = values.by_ref().take(stored.values()).collect();
        let canonical = |name: &str| match name {
            "token_embd.weight" => "model.embed_tokens.weight".to_owned(),
            "output_norm.weight" => "model.norm.weight".to_owned(),
            "output.weight" => "lm_head.weight".to_owned(),
            within => {
                let part = within.trim_start_matches("blk.0.").trim_end_matches(".weight");
                let own = match part {
                    "attn_norm" => "input_layernorm",
                    "ffn_norm" => "post_attention_layernorm",
                    "attn_output" => "self_attn.o_proj",
                    "attn_q" => "self_attn.q_proj",
                    "attn_k" => "self_attn.k_proj",
                    "attn_v" => "self_attn.v_proj",
                    "ffn_gate" => "mlp.gate_proj",
                    "ffn_up" => "mlp.up_proj",
                    _ => "mlp.down_proj",
                };
                format!("model.layers.0.{own}.weight")
            }
        };
        let name = canonical(&stored.name);
        let tensor = tensors(&config).into_iter().find(|tensor| tensor.name == name).unwrap();
        let found = &weights.data[tensor.range];
        if name.contains("q_proj") || name.contains("k_proj") {
            // Rows that turn together lie together in the file, and half a head apart here.
            for (row, found) in found.chunks(config.dim).enumerate() {
                let (head, within) = (row / config.head_dim, row % config.head_dim);
                let half = config.head_dim / 2;
                let stored = head * config.head_dim + 2 * (within % half) + within / half;
                assert!(found == &expected[stored * config.dim..][..config.dim], "{name}, row {row}");
            }
        } else {
            assert!(found == expected, "{name}");
        }
    }
    assert_eq!(values.next(), None);
    let mut encodings: Vec<Encoding> = found.stored().iter().map(|stored| stored.encoding).collect();
    encodings.sort_unstable();
    encodings.dedup();
    assert_eq!(encodings.len(), 10, "{encodings:?}");
}

#[test]
fn any_part_leads_to_the_whole() {
    let whole = formats::open(&source("whole.gguf")).unwrap();
    let dir = copied();
    for path in PARTS.map(|part| dir.path().join(part)).into_iter().chain([dir.path().to_owned()]) {
        let found = formats::open(&path).unwrap();
        assert_eq!((found.config(), found.about()), (whole.config(), whole.about()));
        assert_eq!(found.files().count(), 3);
        assert!(weights(&found) == weights(&whole), "{}", path.display());
        // What is copied block by block is one file again.
        let out = dir.path().join("joined");
        gguf::write(&out, &found, None, &[], &Silent).unwrap();
        let joined = formats::open(&out).unwrap();
        assert!(weights(&joined) == weights(&whole));
        let sizes = |checkpoint: &Checkpoint| -> usize {
            checkpoint.stored().iter().map(|stored| stored.bytes.len()).sum()
        };
        assert_eq!(sizes(&joined), sizes(&whole));
        std::fs::remove_file(out).unwrap();
    }
    // The last part leads to the keys of the first.
    let keys = |name: &str| formats::open(&dir.path().join(name)).unwrap().metadata().clone();
    assert_eq!(keys(PARTS[2]), keys(PARTS[0]));
    assert!(keys(PARTS[2]).iter().any(|(key, _)| key == "llama.block_count"));
}

#[test]
fn parts_that_do_not_make_a_model_are_named() {
    let said = |path: &Path| {
        let error = formats::open(path).unwrap_err();
        format!("{error}; hint: {}", error.hint().unwrap())
    };
    let dir = copied();
    let path = |part: usize| dir.path().join(PARTS[part]);
    let check = |open: usize, parts: &[&str]| {
        let said = said(&path(open));
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
    };
    std::fs::remove_file(path(1)).unwrap();
    check(0, &["part-00002-of-00003.gguf: is missing: 1 of the 3 parts", "into one folder"]);
    check(2, &["part-00002-of-00003.gguf: is missing"]);
    std::fs::copy(path(2), path(1)).unwrap();
    check(0, &["part-00002-of-00003.gguf, byte 0: split.no: is 2, and the file's name means 1"]);
    std::fs::copy(source("whole.gguf"), path(1)).unwrap();
    check(0, &["part-00002-of-00003.gguf, byte 0: split.no: is missing"]);
    // The tensors of another part under the number of this one.
    let mut bytes = std::fs::read(path(2)).unwrap();
    let key = b"split.no\x02\0\0\0";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len();
    bytes[at] = 1;
    std::fs::write(path(1), bytes).unwrap();
    check(0, &["part-00003-of-00003.gguf, byte", "is in part 2 as well"]);

    let other = tempfile::tempdir().unwrap();
    let lone = other.path().join("model.gguf");
    std::fs::copy(source(PARTS[1]), &lone).unwrap();
    let said = said(&lone);
    assert!(said.contains("one of 3 parts") && said.contains("NAME-00001-of-00003.gguf"), "{said}");
}

#[test]
fn a_part_that_is_cut_is_named_with_its_byte() {
    let dir = copied();
    for part in PARTS {
        let path = dir.path().join(part);
        let whole = std::fs::read(&path).unwrap();
        for end in (4..whole.len() - 32).step_by(397) {
            std::fs::write(&path, &whole[..end]).unwrap();
            for open in PARTS {
                let error = formats::open(&dir.path().join(open)).unwrap_err().to_string();
                assert!(error.contains(part) && error.contains("byte "), "{part}, {end}: {error}");
            }
        }
        std::fs::write(&path, whole).unwrap();
    }
}

/// NaN in the scale of a block of every encoding: the part, the tensor, the value and the block's byte.
#[test]
fn scales_that_are_not_finite_are_named_with_their_byte() {
    let dir = copied();
    let whole = formats::open(&dir.path().join(PARTS[0])).unwrap();
    let stored: Vec<_> =
        whole.stored().iter().filter(|one| one.encoding.block_values() > 1).cloned().collect();
    let files: Vec<PathBuf> = whole.files().map(Path::to_owned).collect();
    drop(whole);
    assert_eq!(stored.len(), 8);
    for tensor in stored {
        let scale = match tensor.encoding {
            Encoding::Q2K => 80,
            Encoding::Q3K => 108,
            Encoding::Q6K => 208,
            _ => 0,
        };
        let (file, block) = (&files[tensor.file], tensor.bytes.start + tensor.encoding.block_bytes());
        let sound = std::fs::read(file).unwrap();
        for bits in [0x7c00u16, 0x7e00, 0xfc00] {
            let mut bytes = sound.clone();
            bytes[block + scale..][..2].copy_from_slice(&bits.to_le_bytes());
            std::fs::write(file, bytes).unwrap();
            let error = formats::open(&files[0]).unwrap().weights().unwrap_err().to_string();
            let name = file.file_name().unwrap().to_str().unwrap();
            let wanted = format!("{name}, byte {block}: tensor {}: value ", tensor.name);
            assert!(error.contains(&wanted), "{wanted}: {error}");
            // The same for a model that is served from its blocks, which nobody turns into values.
            let checkpoint = formats::open(&files[0]).unwrap();
            let served = Llama::open(&checkpoint, Precision::F32, 64).err().map(|error| error.to_string());
            assert!(served.as_ref().is_some_and(|error| error.contains(&wanted)), "{wanted}: {served:?}");
        }
        std::fs::write(file, sound).unwrap();
    }
}

/// What a part's table says beyond what the part holds, or otherwise than the configuration in another part means.
#[test]
fn tables_that_lie_are_named_with_their_byte() {
    let dir = copied();
    let path = dir.path().join(PARTS[1]);
    let sound = std::fs::read(&path).unwrap();
    let entry = |name: &str| {
        let found = gguf::parse(&sound).unwrap().tensors;
        let tensor = found.iter().find(|tensor| tensor.stored.name == name).unwrap();
        (tensor.entry, tensor.entry + 8 + name.len(), tensor.stored.bytes.start)
    };
    let (gate, dimensions, begin) = entry("blk.0.ffn_gate.weight");
    let (shape, kind, offset) = (dimensions + 4, dimensions + 20, dimensions + 24);
    for (at, bytes, byte, part) in [
        // The number of tensors and of keys: nothing is asked of the memory for a number alone.
        (8, &u64::MAX.to_le_bytes()[..], None, "tensor"),
        (16, &u64::MAX.to_le_bytes(), None, "key"),
        (gate, &u64::MAX.to_le_bytes(), Some(gate + 8), "bytes are meant, and the file ends"),
        (dimensions, &9u32.to_le_bytes(), Some(dimensions), "tensor blk.0.ffn_gate.weight: has 9 dimensions"),
        (shape, &(1u64 << 62).to_le_bytes(), Some(shape), "tensor blk.0.ffn_gate.weight: shape"),
        (shape, &33u64.to_le_bytes(), Some(shape), "is no number of Q4_1"),
        (shape + 8, &(1u64 << 40).to_le_bytes(), Some(gate), "and the file ends at"),
        (
            shape + 8,
            &31u64.to_le_bytes(),
            Some(begin),
            "shape [31, 256], where the configuration means [32, 256]",
        ),
        (
            shape,
            &128u64.to_le_bytes(),
            Some(begin),
            "shape [32, 128], where the configuration means [32, 256]",
        ),
        (kind, &22u32.to_le_bytes(), Some(kind), "tensor blk.0.ffn_gate.weight: its type is IQ2_S"),
        (kind, &39u32.to_le_bytes(), Some(kind), "tensor blk.0.ffn_gate.weight: its type is MXFP4"),
        // More bytes a block: into the next tensor.
        (kind, &8u32.to_le_bytes(), None, "its bytes overlap those of blk.0.ffn_gate.weight"),
        (offset, &7u64.to_le_bytes(), Some(gate), "no multiple of 32"),
        (offset, &(u64::MAX - 31).to_le_bytes(), Some(gate), "tensor blk.0.ffn_gate.weight: has"),
    ] {
        let mut changed = sound.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        std::fs::write(&path, changed).unwrap();
        let error = formats::open(&dir.path().join(PARTS[0])).unwrap_err();
        let said = error.to_string();
        let place = byte.map_or("byte ".to_owned(), |byte| format!("byte {byte}:"));
        assert!(
            said.contains(part) && said.contains(PARTS[1]) && said.contains(&place),
            "{part} {place}: {said}"
        );
        assert!(error.hint().is_some());
    }
    std::fs::write(&path, []).unwrap();
    let said = formats::open(&dir.path().join(PARTS[0])).unwrap_err().to_string();
    assert!(said.contains(PARTS[1]), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn changed_parts_end_in_an_error_or_read(
        which in 0usize..3,
        changes in proptest::collection::vec((0usize..2000, any::<u8>()), 1..6),
    ) {
        let dir = copied();
        let path = dir.path().join(PARTS[which]);
        let mut bytes = std::fs::read(&path).unwrap();
        for (place, byte) in changes {
            let place = place % bytes.len();
            bytes[place] = byte;
        }
        std::fs::write(&path, bytes).unwrap();
        match formats::open(&dir.path().join(PARTS[0])).and_then(|found| found.weights().map(drop)) {
            Ok(()) => {}
            Err(error) => prop_assert!(error.hint().is_some(), "{}", error),
        }
    }
}
