//! Files that were cut, changed or made to do harm: each ends in an error that names the place, or reads as a model.

use std::path::Path;

use kernels::quant::Encoding;
use ledger::progress::Silent;
use model::formats::hf::{SaveOptions, config_json, safetensors_file};
use model::formats::{self, Storage, gguf, hf, meta};
use model::{Config, Weights};
use proptest::prelude::*;

use crate::formats::made;
use crate::golden;

fn said(fault: &formats::Fault) -> String {
    format!("{}: {}", fault.what, fault.reason)
}

/// A GGUF header with these keys and tensors, then zeros.
struct Made {
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    counts: Option<(u64, u64)>,
}

impl Made {
    fn new() -> Self {
        Self { keys: Vec::new(), tensors: Vec::new(), counts: None }
    }

    fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.push([text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat());
        self
    }

    fn tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let lengths: Vec<u8> = shape.iter().flat_map(|length| length.to_le_bytes()).collect();
        let count = (shape.len() as u32).to_le_bytes();
        self.tensors
            .push([&text(name)[..], &count, &lengths, &kind.to_le_bytes(), &offset.to_le_bytes()].concat());
        self
    }

    fn counts(mut self, tensors: u64, keys: u64) -> Self {
        self.counts = Some((tensors, keys));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let (tensors, keys) = self.counts.unwrap_or((self.tensors.len() as u64, self.keys.len() as u64));
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(keys.to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32) + 64, 0);
        bytes
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

#[test]
fn hostile_gguf_headers_are_refused_at_their_place() {
    let string = |length: u64| length.to_le_bytes();
    let nested: Vec<u8> =
        (0..9).flat_map(|_| [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat()).collect();
    for (bytes, byte, part) in [
        (b"".to_vec(), 0, "magic: 4 bytes are meant, and the file ends after 0"),
        (b"GGML\x03\0\0\0".to_vec(), 0, "\"GGML\" is not \"GGUF\""),
        (b"GGUF\x01\0\0\0".to_vec(), 4, "1; versions 2 and 3"),
        (b"GGUF\0\0\0\x03".to_vec(), 4, "big-endian"),
        (Made::new().counts(u64::MAX, 0).bytes(), 32, "0 dimensions"),
        (Made::new().counts(0, u64::MAX).bytes(), 37, "there twice"),
        (Made::new().key("a", 8, &string(u64::MAX)).bytes(), 45, "a: 18446744073709551615 bytes are meant"),
        (Made::new().key("a", 8, &[&string(1)[..], b"\xff"].concat()).bytes(), 45, "no UTF-8"),
        (Made::new().key("a", 7, &[2]).bytes(), 37, "neither true nor false"),
        (Made::new().key("a", 13, &[]).bytes(), 33, "type is 13"),
        (
            Made::new().key("a", 9, &[&4u32.to_le_bytes()[..], &string(1 << 62)].concat()).bytes(),
            49,
            "bytes are meant",
        ),
        (
            Made::new().key("a", 9, &[&8u32.to_le_bytes()[..], &string(1 << 62)].concat()).bytes(),
            121,
            "bytes are meant",
        ),
        (Made::new().key("a", 9, &nested).bytes(), 73, "more than 4 deep"),
        (Made::new().key("a", 0, &[1]).key("a", 0, &[1]).bytes(), 38, "there twice"),
        (Made::new().key("general.alignment", 4, &[3, 0, 0, 0]).bytes(), 0, "no power of two"),
        (Made::new().tensor("w", &[4], 0, 8).bytes(), 24, "no multiple of 32"),
        (Made::new().tensor("w", &[4], 0, 64).bytes(), 24, "tensor w: has 16 bytes from byte 64"),
        (Made::new().tensor("w", &[4], 0, u64::MAX - 31).bytes(), 24, "tensor w: has 16 bytes"),
        (Made::new().tensor("w", &[1 << 40, 1 << 40], 0, 0).bytes(), 37, "is no number of F32"),
        (Made::new().tensor("w", &[1 << 62], 0, 0).bytes(), 37, "is no number of F32"),
        (Made::new().tensor("w", &[31, 32], 8, 0).bytes(), 37, "[32, 31] is no number of Q8_0"),
        (Made::new().tensor("w", &[1, 1, 1, 1, 1], 0, 0).bytes(), 33, "5 dimensions"),
        (Made::new().tensor("w", &[], 0, 0).bytes(), 33, "0 dimensions"),
        (Made::new().tensor("w", &[256], 23, 0).bytes(), 45, "its type is IQ4_XS"),
        (Made::new().tensor("w", &[256], 19, 0).bytes(), 45, "its type is IQ1_S"),
        (Made::new().tensor("w", &[128], 13, 0).bytes(), 37, "is no number of Q5_K"),
        (Made::new().tensor("w", &[4], 77, 0).bytes(), 45, "its type is number 77"),
        (
            Made::new().tensor("w", &[4], 0, 0).tensor("w", &[4], 0, 32).bytes(),
            57,
            "tensor w: is there twice",
        ),
        (
            Made::new().tensor("a", &[9], 0, 0).tensor("b", &[4], 0, 32).bytes(),
            57,
            "tensor b: its bytes overlap those of a",
        ),
    ] {
        let fault = gguf::parse(&bytes).unwrap_err();
        assert!(said(&fault).contains(part) && fault.byte == byte, "{byte} {part:?}: {fault:?}");
    }
}

#[test]
fn a_gguf_file_cut_anywhere_in_its_header_ends_in_an_error() {
    let whole = std::fs::read(made("gqa.gguf")).unwrap();
    let data =
        gguf::parse(&whole).unwrap().tensors.iter().map(|tensor| tensor.stored.bytes.start).min().unwrap();
    for end in (0..data).step_by(7).chain([data, whole.len() - 33]) {
        let fault = gguf::parse(&whole[..end]).unwrap_err();
        assert!(fault.byte <= end as u64, "{end}: {fault:?}");
    }
}

#[test]
fn other_architectures_in_gguf_are_refused_by_name() {
    let whole = std::fs::read(made("gqa.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    let replace = |from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let mut bytes = whole.clone();
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        std::fs::write(&path, bytes).unwrap();
        let error = formats::open(&path).unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    };
    for (from, to, part) in [
        (
            &b"\x05\0\0\0\0\0\0\0llama"[..],
            &b"\x05\0\0\0\0\0\0\0qwen2"[..],
            "is \"qwen2\", a model that is no Llama: its queries, keys and values have biases",
        ),
        (b"llama.vocab_size", b"llama.expert_use", "llama.expert_use is set"),
        (b"blk.1.ffn_up.weight", b"blk.1.ffn_up.bias--", "blk.1.ffn_up.weight is missing (and 0 more)"),
        (
            b"llama.block_count\x04\0\0\0\x02",
            b"llama.block_count\x04\0\0\0\x01",
            "tensor blk.1.attn_k.weight: belongs to no Llama",
        ),
        (
            b"llama.block_count\x04\0\0\0\x02\0\0\0",
            b"llama.block_count\x04\0\0\0\0\0\0\x0f",
            "251658240 layers, and the files hold 21",
        ),
        (
            b"llama.embedding_length\x04\0\0\0\x20",
            b"llama.embedding_length\x04\0\0\0\x40",
            "rope.dimension_count is 8",
        ),
        (
            b"llama.feed_forward_length\x04\0\0\0\x30",
            b"llama.feed_forward_length\x04\0\0\0\x40",
            "where the configuration means [64, 32]",
        ),
        (b"llama.context_length", b"llama.context_longer", "llama.context_longer is set"),
    ] {
        let said = replace(from, to);
        assert!(said.contains(part), "{part:?}: {said}");
    }
}

#[test]
fn hostile_safetensors_are_refused_at_their_place() {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let two = |first: &str, second: &str| {
        format!(
            "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{first}}},\
             \"b\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{second}}}}}"
        )
    };
    let sound = two("[0,8]", "[8,16]");
    assert_eq!(safetensors_file::parse(&file(&sound, 16)).unwrap().len(), 2);
    let mut beyond = file(&sound, 16);
    beyond[..8].copy_from_slice(&1000u64.to_le_bytes());
    let mut enormous = file(&sound, 16);
    enormous[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for (bytes, byte, part) in [
        (vec![1, 2, 3], 3, "ends before the header's length"),
        (beyond, 0, "it would be 1000 bytes long"),
        (enormous, 0, "18446744073709551615 bytes long"),
        (file("{\"a\": nonsense}", 0), 15, "header"),
        (file(&sound, 15), 8 + sound.len() as u64 + 15, "the tensors end at byte"),
        (file(&sound, 17), 8 + sound.len() as u64 + 17, "the tensors end at byte"),
        (file(&two("[0,8]", "[4,12]"), 12), 8, "tensor b: its bytes overlap"),
        (file(&two("[0,8]", "[16,24]"), 24), 8, "tensor b: its bytes overlap"),
        (file(&two("[8,0]", "[8,16]"), 16), 8, "overlap"),
        (file(&two("[0,8]", "[8,20]"), 20), 8, "do not make as many bytes"),
        (file(&sound.replace("[2]", "[4294967296,4294967296,4294967296]"), 16), 8, "beyond all memory"),
        (file(&sound.replace("F32", "I32"), 16), 8 + sound.len() as u64, "tensor a: type I32"),
        (file(&sound.replace("\"b\"", "\"a\""), 16), 8, "tensor a: its bytes overlap"),
    ] {
        let fault = safetensors_file::parse(&bytes).unwrap_err();
        assert!(said(&fault).contains(part) && fault.byte == byte, "{byte} {part:?}: {fault:?}");
    }
}

#[test]
fn a_pth_that_calls_is_refused_and_calls_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(made("meta_two/params.json"), dir.path().join("params.json")).unwrap();
    let path = dir.path().join("consolidated.00.pth");
    let mark = dir.path().join("called");
    let command = format!("touch {}", mark.display());
    let pickle = [
        b"\x80\x02cposix\nsystem\nX".as_slice(),
        &(command.len() as u32).to_le_bytes(),
        command.as_bytes(),
        b"\x85R.",
    ]
    .concat();
    let archive = |entries: &[(&str, &[u8])]| {
        use std::io::Write;
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, bytes) in entries {
            archive.start_file(*name, options).unwrap();
            archive.write_all(bytes).unwrap();
        }
        std::fs::write(&path, archive.finish().unwrap().into_inner()).unwrap();
        let error = meta::open(dir.path()).unwrap_err();
        assert!(error.hint().is_some());
        error.to_string()
    };
    let said = archive(&[("x/data.pkl", &pickle)]);
    assert!(said.contains("posix.system: the pickle asks for it") && said.contains("byte "), "{said}");
    assert!(!mark.exists());
    assert!(archive(&[("x/version", b"3")]).contains("holds no data.pkl"));
    let said = archive(&[("x/data.pkl", b"\x80\x02}."), ("x/byteorder", b"big")]);
    assert!(said.contains("not \"little\""), "{said}");
    let said = archive(&[("x/data.pkl", b"\x80\x02}.")]);
    assert!(said.contains("2 layers, and the files hold 0 tensors"), "{said}");
}

#[test]
fn a_pth_cut_anywhere_ends_in_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["params.json", "consolidated.00.pth", "consolidated.01.pth"] {
        std::fs::copy(made("meta_two").join(file), dir.path().join(file)).unwrap();
    }
    let path = dir.path().join("consolidated.01.pth");
    let whole = std::fs::read(&path).unwrap();
    for end in (1..whole.len()).step_by(613).chain([whole.len() - 1]) {
        std::fs::write(&path, &whole[..end]).unwrap();
        let error = formats::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("consolidated.01.pth"), "{end}: {error}");
    }
}

#[test]
fn shards_that_do_not_fit_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, file: &str, to: &str| {
        std::fs::copy(made(from).join(file), dir.path().join(to)).unwrap();
    };
    copy("meta_two", "params.json", "params.json");
    copy("meta_two", "consolidated.00.pth", "consolidated.00.pth");
    let said = || formats::open(dir.path()).unwrap_err().to_string();
    let alone = said();
    assert!(alone.contains("where the parameters mean") && alone.contains("consolidated.00.pth"), "{alone}");
    copy("meta_four", "consolidated.01.pth", "consolidated.01.pth");
    assert!(said().contains("shard"), "{}", said());
    copy("meta_two", "consolidated.01.pth", "consolidated.01.pth");
    assert!(formats::open(dir.path()).is_ok());
    copy("meta_two", "consolidated.01.pth", "consolidated.02.pth");
    assert!(said().contains("tensor "), "{}", said());
}

/// Every format, every encoding: the tensor as the file calls it, the value, and the byte of it or of its block.
#[test]
fn values_that_are_not_finite_are_named_with_their_byte() {
    let dir = tempfile::tempdir().unwrap();
    let check = |path: &Path, tensor: &str, at: usize, bytes: &[u8], part: &str| {
        let found = formats::open(path).unwrap();
        let stored = found.stored().iter().find(|stored| stored.name == tensor).unwrap().clone();
        let file = found.files().nth(stored.file).unwrap().to_owned();
        drop(found);
        let whole = std::fs::read(&file).unwrap();
        let mut changed = whole.clone();
        let place = stored.bytes.start + at;
        changed[place..place + bytes.len()].copy_from_slice(bytes);
        std::fs::write(&file, changed).unwrap();
        let found = formats::open(path).unwrap();
        let error = found.weights().unwrap_err().to_string();
        let block = stored.bytes.start + at / stored.encoding.block_bytes() * stored.encoding.block_bytes();
        for part in [part, &format!("tensor {tensor}: value"), &format!("byte {block}:")] {
            assert!(error.contains(part), "{part}: {error}");
        }
        // A copy that touches no value finds it as well.
        let error = gguf::write(&dir.path().join("out"), &found, None, &[], &Silent).unwrap_err().to_string();
        assert!(error.contains(tensor), "{error}");
        drop(found);
        std::fs::write(&file, whole).unwrap();
    };
    let weights = golden::Golden::read("gqa").weights;
    let hf_folder = dir.path().join("hf");
    std::fs::create_dir(&hf_folder).unwrap();
    let options = SaveOptions { storage: Storage::Bf16, ..SaveOptions::new(1, vec![2]) };
    hf::write(&hf_folder, &weights, &options, &Silent).unwrap();
    check(&hf_folder, "model.layers.1.mlp.up_proj.weight", 22, &[0x80, 0x7f], "value 11 is inf");
    check(&hf_folder, "model.norm.weight", 4, &[0xc0, 0x7f], "value 2 is NaN");

    let nan = f32::NAN.to_le_bytes();
    let file = dir.path().join("x.gguf");
    std::fs::copy(made("gqa.gguf"), &file).unwrap();
    check(&file, "blk.0.attn_q.weight", 4 * 200, &nan, "value 200 is NaN");
    gguf::write(&file, &weights, Some(Storage::Q8_0), &[], &Silent).unwrap();
    assert_eq!(formats::open(&file).unwrap().stored()[0].encoding, Encoding::Q8_0);
    // The scale of the fourth block, in f16.
    check(&file, "token_embd.weight", 3 * 34, &[0x00, 0x7c], "value 96 is");

    let folder = dir.path().join("meta");
    std::fs::create_dir(&folder).unwrap();
    for file in ["params.json", "consolidated.00.pth", "consolidated.01.pth"] {
        std::fs::copy(made("meta_two").join(file), folder.join(file)).unwrap();
    }
    check(&folder, "layers.0.attention.wo.weight", 4 * 17, &nan, "value 17 is NaN");
}

/// A small sound file of each kind, to be changed.
fn seeds() -> Vec<Vec<u8>> {
    let config = Config {
        dim: 8,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        ffn_dim: 12,
        vocab_size: 5,
        rope_scaling: Config::preset("405b").unwrap().rope_scaling,
        ..Config::preset("8b").unwrap()
    };
    let weights = Weights::init(&config, &mut ledger::seed::Seed(1).stream("weights", 0)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    gguf::write(&path, &weights, Some(Storage::F16), &[], &Silent).unwrap();
    hf::save(dir.path(), &weights, &SaveOptions::new(1, vec![2])).unwrap();
    meta::write(dir.path(), &weights, Storage::F32, &Silent).unwrap();
    ["x.gguf", "model.safetensors", "consolidated.00.pth", "config.json", "params.json"]
        .map(|file| std::fs::read(dir.path().join(file)).unwrap())
        .to_vec()
}

/// What each parser makes of any bytes: a result, never a panic.
fn parse_all(bytes: &[u8], dir: &Path) {
    let _ = gguf::parse(bytes);
    let _ = safetensors_file::parse(bytes);
    let _ = meta::pickle::parse(bytes);
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = config_json::read(dir, &value);
        let _ = meta::params_json::read(dir, &value, Some(5));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changed_files_end_in_an_error_or_read(
        which in 0usize..5,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        use std::sync::OnceLock;
        static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        let seeds = SEEDS.get_or_init(seeds);
        let mut bytes = seeds[which].clone();
        for (place, byte) in &changes {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let dir = tempfile::tempdir().unwrap();
        parse_all(&bytes, dir.path());
        let names = ["x.gguf", "model.safetensors", "consolidated.00.pth", "config.json", "params.json"];
        let needs: &[usize] = match which {
            0 => &[0],
            1 | 3 => &[1, 3],
            _ => &[2, 4],
        };
        for &file in needs {
            std::fs::write(dir.path().join(names[file]), if file == which { &bytes } else { &seeds[file] }).unwrap();
        }
        match formats::open(dir.path()).and_then(|found| found.weights().map(drop)) {
            Ok(()) => {}
            Err(error) => prop_assert!(error.hint().is_some(), "{}", error),
        }
    }

    #[test]
    fn any_bytes_end_in_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        parse_all(&bytes, Path::new("x"));
        parse_all(&[b"GGUF\x03\0\0\0", &bytes[..]].concat(), Path::new("x"));
        parse_all(&[b"\x80\x02", &bytes[..]].concat(), Path::new("x"));
    }
}
