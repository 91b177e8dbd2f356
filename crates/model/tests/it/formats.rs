//! Every format against the golden Hugging Face folders: as other programs wrote it, and as we write it.

use std::path::{Path, PathBuf};

use kernels::quant::{Encoding, Format};
use ledger::progress::Silent;
use model::formats::gguf::{self, Value};
use model::formats::hf::SaveOptions;
use model::formats::{self, Checkpoint, Storage, hf, meta};
use model::{Config, Formats, Weights, weights::tensors};

use crate::golden;

const EXACT: Formats = Formats { linear: Format::F32, embedding: Format::F32 };

/// What `tests/golden/model_formats.py` made.
pub fn made(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name)
}

fn golden(case: &str) -> Weights {
    hf::load(&golden::folder(case)).unwrap()
}

/// The same tensors bit by bit, read whole and as a frozen model, which asks for parts.
fn check_same(found: &Checkpoint, expected: &Weights) {
    let weights = found.weights().unwrap();
    for tensor in tensors(&expected.config) {
        let (found, expected) = (&weights.data[tensor.range.clone()], &expected.data[tensor.range.clone()]);
        assert!(found == expected, "{}", tensor.name);
    }
    assert_eq!(found.frozen(EXACT).unwrap().dequantised().unwrap().data, weights.data);
}

#[test]
fn metas_shards_are_put_together() {
    let expected = golden("gqa");
    for name in ["meta_two", "meta_llama2", "meta_four"] {
        let found = formats::open(&made(name)).unwrap();
        assert_eq!(found.config(), &Config { max_seq_len: 8192, ..expected.config.clone() }, "{name}");
        assert_eq!(found.files().count(), if name == "meta_four" { 4 } else { 2 });
        check_same(&found, &expected);
    }
    let (found, expected) = (formats::open(&made("meta_tied")).unwrap(), golden("tied_scaled"));
    assert!(found.config().tied_embeddings);
    let mut rounded = expected.clone();
    rounded.data.iter_mut().for_each(|value| *value = half::bf16::from_f32(*value).to_f32());
    check_same(&found, &rounded);
}

#[test]
fn llama_cpps_files_are_read() {
    let (found, expected) = (formats::open(&made("gqa.gguf")).unwrap(), golden("gqa"));
    assert_eq!(found.config(), &expected.config);
    check_same(&found, &expected);

    let (found, mut expected) = (formats::open(&made("tied_scaled.gguf")).unwrap(), golden("tied_scaled"));
    assert_eq!(found.config(), &expected.config, "the four numbers of rope scaling come from the factors");
    for tensor in tensors(&expected.config).into_iter().filter(|tensor| tensor.shape.len() == 2) {
        let values = &mut expected.data[tensor.range];
        values.iter_mut().for_each(|value| *value = half::f16::from_f32(*value).to_f32());
    }
    check_same(&found, &expected);
}

#[test]
fn keys_of_every_type_are_read_and_written_again() {
    use gguf::Array;
    let found = gguf::open(&made("gqa.gguf")).unwrap();
    let metadata = found.metadata().to_vec();
    let get = |key: &str| metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    for (key, value) in [
        ("general.name", Value::text("gqa")),
        ("test.u8", Value::U8(8)),
        ("test.i8", Value::I8(-8)),
        ("test.u16", Value::U16(1600)),
        ("test.i16", Value::I16(-1600)),
        ("llama.block_count", Value::U32(2)),
        ("test.i32", Value::I32(-320_000)),
        ("test.u64", Value::U64(1 << 63)),
        ("test.i64", Value::I64(-(1 << 62))),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("test.f64", Value::F64(0.1)),
        ("test.bool", Value::Bool(true)),
        ("test.texts", Value::Array(Array::String(vec!["Ġa".into(), String::new(), "ł".into()]))),
        ("test.floats", Value::Array(Array::F32(vec![0.5, -1.5]))),
        ("test.bools", Value::Array(Array::Bool(vec![true, false, true]))),
        ("test.lists", Value::Array(Array::Array(vec![Array::I32(vec![1, 2]), Array::I32(vec![3])]))),
    ] {
        assert_eq!(get(key), Some(value), "{key}");
    }
    let tests: Vec<_> = metadata.into_iter().filter(|(key, _)| key.starts_with("test.")).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    gguf::write(&path, &golden("gqa"), None, &tests, &Silent).unwrap();
    let found = gguf::open(&path).unwrap();
    let again = found.metadata();
    assert_eq!(again[again.len() - tests.len()..], tests);
}

/// Written and read again: what came out, for a model in memory or on the disk.
fn through(
    model: &dyn formats::Tensors,
    format: formats::Format,
    storage: Storage,
) -> (tempfile::TempDir, Checkpoint) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    match format {
        formats::Format::HuggingFace => {
            let options = SaveOptions { storage, shard_bytes: 9000, ..SaveOptions::new(1, vec![2]) };
            hf::write(dir.path(), model, &options, &Silent).unwrap();
        }
        formats::Format::Meta => meta::write(dir.path(), model, storage, &Silent).unwrap(),
        formats::Format::Gguf => gguf::write(&path, model, Some(storage), &[], &Silent).unwrap(),
    }
    let found = formats::open(dir.path()).unwrap();
    assert_eq!(found.format(), format);
    (dir, found)
}

#[test]
fn every_format_leads_to_every_other_and_back() {
    use formats::Format::{Gguf, HuggingFace, Meta};
    let tied = {
        // A tied model that params.json can describe: no scaling, heads that make up the width.
        let mut config = golden("sharded_bf16").config;
        config.rope_scaling = None;
        assert!(config.tied_embeddings);
        golden("sharded_bf16")
    };
    for (expected, all) in
        [(golden("gqa"), true), (tied, true), (golden("odd"), false), (golden("tied_scaled"), false)]
    {
        let formats: &[_] = if all { &[HuggingFace, Meta, Gguf] } else { &[HuggingFace, Gguf] };
        for &first in formats {
            let (_kept, once) = through(&expected, first, Storage::F32);
            check_same(&once, &expected);
            for &second in formats {
                let (_kept, twice) = through(&once, second, Storage::F32);
                check_same(&twice, &expected);
                // Meta's files do not say how long a text may be.
                if first != Meta && second != Meta {
                    assert_eq!(twice.config(), &expected.config);
                }
            }
        }
    }
}

#[test]
fn plain_storages_round_every_value_once() {
    use formats::Format::{Gguf, HuggingFace, Meta};
    let expected = golden("gqa");
    for format in [HuggingFace, Meta, Gguf] {
        for storage in [Storage::F16, Storage::Bf16] {
            let (_kept, found) = through(&expected, format, storage);
            let mut rounded = expected.clone();
            for tensor in tensors(&expected.config) {
                // GGUF keeps norms in F32.
                if format == Gguf && tensor.shape.len() == 1 {
                    continue;
                }
                let round = |value: f32| match storage {
                    Storage::F16 => half::f16::from_f32(value).to_f32(),
                    _ => half::bf16::from_f32(value).to_f32(),
                };
                rounded.data[tensor.range].iter_mut().for_each(|value| *value = round(*value));
            }
            check_same(&found, &rounded);
        }
    }
}

/// A model whose rows are whole blocks of every kind.
fn blocky() -> Weights {
    let config = Config {
        dim: 256,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        ffn_dim: 512,
        vocab_size: 96,
        rope_scaling: Config::preset("1b").unwrap().rope_scaling,
        ..Config::preset("8b").unwrap()
    };
    Weights::init(&config, &mut ledger::seed::Seed(1).stream("weights", 0)).unwrap()
}

#[test]
fn quantised_files_are_near_and_keep_their_blocks_when_copied() {
    let weights = blocky();
    for (storage, bound) in [
        (Storage::Q8_0, 0.006),
        (Storage::Q6K, 0.019),
        (Storage::Q5KM, 0.038),
        (Storage::Q5_1, 0.041),
        (Storage::Q5_0, 0.046),
        (Storage::Q4KM, 0.075),
        (Storage::Q4_1, 0.084),
        (Storage::Q4_0, 0.092),
    ] {
        let (kept, found) = through(&weights, formats::Format::Gguf, storage);
        assert_eq!(found.config(), &weights.config);
        let read = found.weights().unwrap();
        for tensor in tensors(&weights.config) {
            let (a, b) = (&weights.data[tensor.range.clone()], &read.data[tensor.range.clone()]);
            let square =
                |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>();
            let noise = square(&mut a.iter().zip(b).map(|(a, b)| a - b)) / square(&mut a.iter().copied());
            assert!(noise.sqrt() < bound, "{storage:?} {}: {}", tensor.name, noise.sqrt());
        }
        let chosen: std::collections::BTreeSet<Encoding> =
            found.stored().iter().map(|stored| stored.encoding).collect();
        assert!(chosen.contains(&Encoding::F32) && chosen.len() >= 2, "{chosen:?}");
        // Without a storage the blocks are copied as they are.
        let again = kept.path().join("again.gguf");
        gguf::write(&again, &found, None, &[], &Silent).unwrap();
        assert!(
            std::fs::read(&again).unwrap() == std::fs::read(kept.path().join("x.gguf")).unwrap(),
            "{storage:?}"
        );
    }
}

#[test]
fn what_a_format_cannot_say_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let check = |error: model::Error, part: &str| {
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.hint().is_some());
    };
    check(meta::write(dir.path(), &golden("odd"), Storage::F32, &Silent).unwrap_err(), "head's width");
    check(
        meta::write(dir.path(), &golden("tied_scaled"), Storage::F32, &Silent).unwrap_err(),
        "how Meta scales",
    );
    check(
        meta::write(dir.path(), &golden("gqa"), Storage::Q8_0, &Silent).unwrap_err(),
        "q8_0 is a format of GGUF",
    );
    let options = SaveOptions { storage: Storage::Q4KM, ..SaveOptions::new(1, vec![2]) };
    check(
        hf::write(dir.path(), &golden("gqa"), &options, &Silent).unwrap_err(),
        "q4_k_m is a format of GGUF",
    );
    let mut large = golden("gqa");
    large.data[70] = 1e6;
    for storage in [Storage::F16, Storage::Q8_0] {
        let error = gguf::write(&dir.path().join("x.gguf"), &large, Some(storage), &[], &Silent).unwrap_err();
        check(error, "model.embed_tokens.weight: value 70 is 1000000");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing half written stays");
}

#[test]
fn a_path_that_is_no_model_says_what_is_looked_for() {
    let check = |path: &Path, part: &str, hint: &str| {
        let error = formats::open(path).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    };
    let dir = tempfile::tempdir().unwrap();
    check(dir.path(), "holds no model", "GGUF file");
    check(&dir.path().join("absent"), "absent", "");
    check(&golden::folder("gqa").join("model.safetensors"), "is no GGUF file", "name its folder");
    std::fs::copy(made("gqa.gguf"), dir.path().join("a.gguf")).unwrap();
    assert_eq!(formats::open(dir.path()).unwrap().format(), formats::Format::Gguf);
    std::fs::copy(made("gqa.gguf"), dir.path().join("b.gguf")).unwrap();
    check(dir.path(), "holds 2 GGUF files", "a.gguf");
    std::fs::copy(made("meta_two/params.json"), dir.path().join("params.json")).unwrap();
    check(dir.path(), "holds no consolidated.NN.pth", "");
    std::fs::copy(made("meta_two/consolidated.01.pth"), dir.path().join("consolidated.01.pth")).unwrap();
    check(dir.path(), "shard before", "");
    std::fs::copy(made("legacy.pth"), dir.path().join("consolidated.00.pth")).unwrap();
    check(dir.path(), "before version 1.6", "torch.save");
}
